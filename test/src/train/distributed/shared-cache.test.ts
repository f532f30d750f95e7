/** One cache on shared storage: many writers at once, renames that take long, a writer that is killed within one. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { main, writeLoraTask } from "../command.js";
import { writeDataset } from "../tiny.js";

const CLIPS = 7;
let folder = "";
let shim = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-shared-cache-"));
  await writeLoraTask(folder);
  await writeDataset(join(folder, "seven"), CLIPS);
  shim = join(folder, "slow-rename.so");
  const source = new URL("../../../../../test/src/train/distributed/slow-rename.c", import.meta.url);
  execFileSync("g++", ["-x", "c", "-shared", "-fPIC", "-o", shim, fileURLToPath(source), "-ldl"]);
});
after(() => rm(folder, { recursive: true, force: true }));

/** `firstframe encode` into a cache, with renames that take so long. */
function encode(cache: string, milliseconds?: number) {
  const args = ["--config", join(folder, "lora.yaml"), "--data_root", join(folder, "seven")];
  const slow = milliseconds === undefined ? {} : { LD_PRELOAD: shim, SLOW_RENAME_MS: String(milliseconds) };
  const child = spawn(process.execPath, [main, "encode", ...args, "--cache_dir", join(folder, cache)], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...slow },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk;
  });
  const said = (pattern: RegExp) =>
    new Promise<void>((done, failed) => {
      child.stderr.on("data", () => pattern.test(stderr) && done());
      child.once("close", () => failed(new Error(`ended without ${pattern}: ${stdout}${stderr}`)));
    });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk;
  });
  const ended = once(child, "close").then(() => ({ code: child.exitCode, stdout, stderr }));
  return { child, said, ended };
}

async function names(cache: string): Promise<string[]> {
  const entries = await readdir(join(folder, cache), { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
  return paths.map((path) => path.slice(join(folder, cache).length + 1)).sort();
}
const isTemporary = (name: string) => name.endsWith(".tmp");

test("three writers and slow renames: the cache that one makes alone, whatever a killed one has left", async () => {
  // Hashes of files and prompts are there already, so that the first rename is a latent's.
  assert.equal((await encode("shared", 0).ended).code, 0);
  await rm(join(folder, "shared", "video_latent"), { recursive: true });

  const victim = encode("shared", 3_600_000);
  await victim.said(/renaming to .*video_latent.*safetensors/);
  victim.child.kill("SIGKILL");
  await victim.ended;
  const left = (await names("shared")).filter((name) => isTemporary(name) && name.includes("video_latent"));
  assert.equal(left.length, 1, "a file without its name");

  const writers = [0, 1, 2].map(() => encode("shared", 200));
  for (const { code, stdout, stderr } of await Promise.all(writers.map(({ ended }) => ended)))
    assert.equal(code, 0, stdout + stderr);
  const alone = await encode("alone").ended;
  assert.equal(alone.code, 0, alone.stderr);

  const whole = (await names("shared")).filter((name) => !isTemporary(name));
  assert.deepEqual(whole, await names("alone"), "no lock and nothing else beside the entries");
  for (const name of whole.filter((each) => each.endsWith(".safetensors"))) {
    const [one, other] = await Promise.all(
      ["shared", "alone"].map((cache) => readFile(join(folder, cache, name))),
    );
    assert.ok(one!.equals(other!), name);
  }
  const again = await encode("shared").ended;
  assert.equal(again.stdout.match(/was there/g)!.length, CLIPS);

  // A living writer's file is younger than a day.
  const young = join(folder, "shared", ".young.safetensors.12.0123abcd.tmp");
  await writeFile(young, "");
  const yesterday = new Date(Date.now() - 25 * 3600 * 1000);
  for (const name of left) await utimes(join(folder, "shared", name), yesterday, yesterday);
  assert.equal((await encode("shared").ended).code, 0);
  const rest = (await names("shared")).filter(isTemporary);
  assert.ok(rest.includes(".young.safetensors.12.0123abcd.tmp"));
  assert.ok(!rest.includes(left[0]!), "what a killed writer left is gone after a day");
});
