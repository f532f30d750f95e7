/** SIGKILL and full disks at the worst moments: what was saved is whole, and the run goes on from it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { watch } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { listCheckpoints } from "../../../src/train/checkpoint.js";
import { safeOpen } from "../../../src/weights/safetensors.js";
import { type Ended, main, train, writeLoraTask } from "./command.js";

let folder = "";
let whole: Buffer;
const STEPS = 9;
const common = () => ["--config", join(folder, "lora.yaml"), "--train_steps", String(STEPS)];
const weights = (run: string) =>
  readFile(join(folder, run, `checkpoint-${STEPS}`, "pytorch_lora_weights.safetensors"));

before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-killed-"));
  await writeLoraTask(folder);
  const { code, stderr } = await train([...common(), "--output_dir", join(folder, "whole")]);
  assert.equal(code, 0, stderr);
  whole = await weights("whole");
});
after(() => rm(folder, { recursive: true, force: true }));

/** Kills the process when a file or folder appears in `place` whose name fits. */
async function killWhen(args: string[], place: string, name: RegExp): Promise<Ended> {
  await mkdir(place, { recursive: true });
  const watcher = watch(place);
  try {
    return await train(args, undefined, {
      started: (kill) =>
        watcher.on("change", (_, file) => {
          if (name.test(String(file))) kill("SIGKILL");
        }),
    });
  } finally {
    watcher.close();
  }
}

test("killed while it writes a checkpoint, the run goes on from the one before", async () => {
  const outputDir = join(folder, "checkpoint");
  const args = [...common(), "--output_dir", outputDir, "--report_to", "none"];
  args.push("--checkpointing_steps", "2", "--checkpointing_limit", "2", "--resume", "latest");
  let unfinished = 0;
  for (const step of [2, 4, 6]) {
    const killed = await killWhen(args, outputDir, new RegExp(`^\\.checkpoint-${step}\\.tmp$`));
    assert.equal(killed.signal, "SIGKILL", killed.stderr);
    unfinished += (await readdir(outputDir)).filter((name) => name.endsWith(".tmp")).length;
    for (const { path } of await listCheckpoints(outputDir)) {
      assert.deepEqual(
        (await readdir(path)).sort(),
        ["optimizer.safetensors", "pytorch_lora_weights.safetensors", "trainer_state.json"],
        "what has its final name is whole",
      );
    }
  }
  assert.ok(unfinished > 0, "no kill hit a checkpoint that was being written");
  const last = await train(args);
  assert.equal(last.code, 0, last.stderr);
  assert.ok((await weights("checkpoint")).equals(whole));
  assert.deepEqual((await readdir(outputDir)).sort(), [`checkpoint-${STEPS - 1}`, `checkpoint-${STEPS}`]);
});

test("killed within a step, the run takes the steps since the last checkpoint again", async () => {
  const outputDir = join(folder, "step");
  const args = [...common(), "--output_dir", outputDir, "--report_to", "jsonl", "--resume", "latest"];
  args.push("--checkpointing_steps", "4");
  const log = join(outputDir, "logs", "metrics.jsonl");
  const steps = async () =>
    (await readFile(log, "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => (JSON.parse(line) as { step: number }).step);
  let logged = 0;
  await mkdir(join(outputDir, "logs"), { recursive: true });
  const watcher = watch(join(outputDir, "logs"));
  const killed = await train(args, undefined, {
    started: (kill) =>
      watcher.on("change", async () => {
        logged = Math.max(logged, (await steps().catch(() => [0])).at(-1)!);
        // The next step is under way when this is seen.
        if (logged >= 6) kill("SIGKILL");
      }),
  });
  watcher.close();
  assert.equal(killed.signal, "SIGKILL", killed.stderr);
  assert.deepEqual(
    (await listCheckpoints(outputDir)).map(({ step }) => step),
    logged < 8 ? [4] : [4, 8],
  );
  const resumed = await train(args);
  assert.equal(resumed.code, 0, resumed.stderr);
  assert.match(resumed.stdout, /resumed from .*checkpoint-[48]$/m);
  assert.ok((await weights("step")).equals(whole));
  assert.deepEqual(
    await steps(),
    Array.from({ length: STEPS }, (_, i) => i + 1),
    "each step is logged once",
  );
});

test("killed while it writes to the cache, the run encodes what is missing and nothing else", async () => {
  const cacheDir = join(folder, "cache");
  const latents = join(cacheDir, "video_latent", "cogvideox1.5-i2v", "9x32x48");
  const args = [...common(), "--cache_dir", cacheDir, "--output_dir", join(folder, "cached")];
  args.push("--report_to", "none", "--resume", "latest");
  let [finished, unfinished] = [0, 0];
  for (let attempt = 0; attempt < 2; attempt++) {
    const killed = await killWhen(args, latents, /\.tmp$/);
    assert.equal(killed.signal, "SIGKILL", killed.stderr);
    const names = await readdir(latents);
    unfinished += names.filter((name) => name.endsWith(".tmp")).length;
    const done = names.filter((name) => name.endsWith(".safetensors"));
    assert.ok(done.length >= finished, "nothing is lost");
    finished = done.length;
    for (const name of done) {
      const file = await safeOpen(join(latents, name));
      assert.deepEqual([...file.keys()].sort(), ["encoded_video", "image"]);
      await file.close();
    }
  }
  assert.ok(unfinished > 0, "no kill hit a file that was being written");
  const last = await train(args);
  assert.equal(last.code, 0, last.stderr);
  const encoded = Number(/3 clips in the cache, (\d) of them encoded now/.exec(last.stdout)?.[1]);
  // A clip whose latent is there may still lack its prompt.
  assert.ok(encoded === 3 - finished || encoded === 4 - finished, last.stdout);
  assert.ok((await weights("cached")).equals(whole));
});

test("a kill of the process that was started ends the one that computes", async () => {
  const outputDir = join(folder, "pair");
  const args = ["--config", join(folder, "lora.yaml"), "--train_steps", "100000", "--output_dir", outputDir];
  // Without these the command starts itself again; standard output closes when both are gone.
  const unset = Object.fromEntries(Object.keys(mallocSettings).map((name) => [name, undefined]));
  const killed = await train(
    args,
    (text, kill) => {
      if (/step \d+\//.test(text)) kill("SIGKILL");
    },
    { env: unset },
  );
  assert.equal(killed.signal, "SIGKILL");
});
const mallocSettings = { MALLOC_MMAP_MAX_: "", MALLOC_TRIM_THRESHOLD_: "", MALLOC_TOP_PAD_: "" };

/** A folder of few kilobytes that only its own process sees, where the system lets anyone mount. */
const inSmallDisk = (kilobytes: number, command: string) => [
  "-Urm",
  "sh",
  "-c",
  `mount -t tmpfs -o size=${kilobytes}k tmpfs "$DISK" && ${command}`,
];
const canMount =
  spawnSync("unshare", inSmallDisk(100, "true"), { env: { ...process.env, DISK: tmpdir() } }).status === 0;
const skip = canMount ? false : "no mounts here";

/** Runs the command with `disk` as a small disk, and copies what is on that to `kept`. */
function trainOnSmallDisk(kilobytes: number, args: string[], disk: string, kept: string) {
  const command = `"$NODE" "$MAIN" train "$@"; code=$?; cp -r "$DISK" "$KEPT"; exit $code`;
  const env = { ...process.env, DISK: disk, KEPT: kept, NODE: process.execPath, MAIN: main };
  return spawnSync("unshare", [...inSmallDisk(kilobytes, command), "sh", ...args], { env, encoding: "utf8" });
}
const FULL = /^firstframe: the disk is full \(ENOSPC.*; what was saved before is whole$/m;

test("on a full disk the checkpoints before are whole", { skip }, async () => {
  const [disk, kept] = [join(folder, "disk"), join(folder, "kept")];
  await mkdir(disk);
  const args = ["--config", join(folder, "lora.yaml"), "--report_to", "none"];
  const many = ["--train_steps", "30", "--checkpointing_steps", "1", "--checkpointing_limit", "30"];
  const { status, stderr } = trainOnSmallDisk(100, [...args, ...many, "--output_dir", disk], disk, kept);
  assert.equal(status, 1, stderr);
  assert.match(stderr, FULL);
  const places = await listCheckpoints(kept);
  assert.ok(places.length >= 1 && places.length < 30, `${places.length} checkpoints`);
  assert.deepEqual(
    (await readdir(kept)).sort(),
    places.map(({ step }) => `checkpoint-${step}`).sort(),
    "nothing half written",
  );
  const more = ["--resume", "latest", "--train_steps", String(places.at(-1)!.step + 1)];
  const resumed = await train([...args, ...more, "--output_dir", kept]);
  assert.equal(resumed.code, 0, resumed.stderr);
});

test("on a full disk the cache keeps what it has", { skip }, async () => {
  const [disk, kept] = [join(folder, "cache-disk"), join(folder, "cache-kept")];
  await mkdir(disk);
  const args = [...common(), "--report_to", "none", "--output_dir", join(folder, "refilled")];
  const { status, stderr } = trainOnSmallDisk(40, [...args, "--cache_dir", disk], disk, kept);
  assert.equal(status, 1, stderr);
  assert.match(stderr, FULL);
  const names = await readdir(kept, { recursive: true });
  assert.ok(!names.some((name) => name.endsWith(".tmp")), `nothing half written: ${names.join(", ")}`);
  await cp(kept, join(folder, "bigger"), { recursive: true });
  const again = await train([...args, "--cache_dir", join(folder, "bigger")]);
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stdout, /3 clips in the cache, [12] of them encoded now/);
  assert.ok((await weights("refilled")).equals(whole));
});
