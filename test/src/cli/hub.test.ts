/** Commands with a model's id on the Hugging Face Hub in place of its folder. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { writeClip } from "../../../src/video/write.js";
import { safeOpen } from "../../../src/weights/safetensors.js";
import { tinyPipeline } from "../diffusion/tiny.js";
import { writeDataset, writeTinyPipeline } from "../train/tiny.js";
import { filesOf, HubServer } from "../weights/hub-server.js";
import { projectRoot } from "./project.js";

let folder: string;
let server: HubServer;
const at = (name: string) => join(folder, name);

before(async () => {
  await useEngine("cpu");
  folder = await mkdtemp(join(tmpdir(), "firstframe-cli-hub-"));
  server = await HubServer.start();
  const pipe = tinyPipeline();
  await pipe.savePretrained(at("model"));
  const lora = { r: 2, loraAlpha: 2, targetModules: ["to_q"], initLoraWeights: false } as const;
  pipe.transformer.addAdapter(lora, { generator: new RandomGenerator(1) });
  await pipe.saveLoraWeights(at("lora"), { weightName: "step-100.safetensors" });
  pipe.dispose();
  await writeTinyPipeline(at("trained"));
  server.add("org/tiny", filesOf(at("model")));
  server.add("org/lora", filesOf(at("lora")));
  server.add("org/trained", filesOf(at("trained")));
  const { clip } = proceduralClip({ seed: 1, numFrames: 9, height: 32, width: 48 });
  await writeClip(at("image.png"), clip.slice(0, 1));
  await writeClip(at("clip.webp"), clip, { lossless: true });
  await writeDataset(at("data"), 2);
});
beforeEach(async () => {
  server.reset();
  await rm(at("hf"), { recursive: true, force: true });
});
after(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

/** The server is in this process, so the command has to run beside it. */
function run(...argv: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [join(projectRoot, "dist/src/cli/main.js"), ...argv], {
      cwd: folder,
      env: { ...process.env, FIRSTFRAME_ENGINE: "cpu", HF_HOME: at("hf"), HF_ENDPOINT: server.url },
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => {
      stdout += String(chunk);
    });
    child.stderr.on("data", (chunk) => {
      stderr += String(chunk);
    });
    child.on("close", (code) => done({ code, stdout, stderr }));
  });
}

test("sample takes ids of a model and of a LoRA", async () => {
  const argv = ["sample", "--model", "org/tiny", "--image", "image.png", "--prompt", "a red ball"];
  const lora = ["--lora", "org/lora", "--lora-weight-name", "step-100.safetensors"];
  const flags = ["--num-inference-steps", "1", "--out", "out.webp", "--revision", "main"];
  const first = await run(...argv, ...lora, ...flags);
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stdout, /^out\.webp: 9 frames 48x32 in /);
  assert.ok(existsSync(at("out.webp")));
  assert.match(first.stderr, /^org\/tiny: 100% .*file=\d+ of \d+\]$/m);

  server.reset();
  const again = await run(...argv, ...lora, ...flags);
  assert.equal(again.code, 0, again.stderr);
  assert.deepEqual(server.requests, []);
});

test("flags that can't be are told before the weights come", async () => {
  const ended = await run("sample", "--model", "org/tiny", "--prompt", "a red ball");
  assert.equal(ended.code, 2);
  assert.match(ended.stderr, /^firstframe: --image FILE is missing: this model starts from an image\n$/);
  assert.deepEqual(server.fetched, ["model_index.json"]);
});

test("a model that is nowhere is one line, exit code 2", async () => {
  for (const argv of [
    ["sample", "--model", "org/none", "--image", "image.png", "--prompt", "x"],
    ["encode", "--model", "org/none", "clip.webp"],
    ["train", "--model_path", "org/none", "--data_root", "data", "--train_resolution", "9x32x48"],
  ]) {
    const { code, stderr } = await run(...argv);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /^firstframe: org\/none: no such folder; .* has no such model, or only for/m);
  }
});

test("encode fetches the VAE for clips, and what a data set's cache takes", async () => {
  const clips = await run("encode", "--model", "org/tiny", "clip.webp", "--out", "latents");
  assert.equal(clips.code, 0, clips.stderr);
  assert.ok(
    server.fetched.every((path) => path.startsWith("vae/")),
    `${server.fetched}`,
  );
  const file = await safeOpen(at("latents/clip.safetensors"));
  assert.ok(file.has("latents"));
  await file.close();

  const argv = [
    "--data-root",
    "data",
    "--train-resolution",
    "9x32x48",
    "--cache-dir",
    "cache",
    "--no-tiling",
  ];
  const data = await run("encode", "--model", "org/trained", ...argv);
  assert.equal(data.code, 0, data.stderr);
  assert.match(data.stdout, /2 of 2 clips are in the cache/);
  assert.deepEqual(
    server.fetched.filter((path) => /^(transformer|scheduler|model_index)/.test(path)),
    ["transformer/config.json"],
  );
});

test("train fetches what it trains on, and says the model's id where it says its options", async () => {
  const argv = ["--model_path", "org/trained", "--data_root", "data", "--train_resolution", "9x32x48"];
  const flags = ["--train_steps", "1", "--rank", "2", "--output_dir", "out", "--report_to", "jsonl"];
  const ended = await run("train", ...argv, ...flags, "--enable_tiling", "false");
  assert.equal(ended.code, 0, ended.stderr);
  assert.ok(!server.fetched.includes("model_index.json"));
  assert.match(ended.stdout, /step 1\/1/);
});
