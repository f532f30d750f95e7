/** `firstframe sample` and `firstframe encode` on a small pipeline. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { encodeCommand } from "../../../src/cli/encode.js";
import { sampleCommand } from "../../../src/cli/sample.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { InputError } from "../../../src/index.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { PromptCache } from "../../../src/train/latent-cache.js";
import { T5PromptEncoder } from "../../../src/train/prompt-encoder.js";
import { readClip } from "../../../src/video/read.js";
import { writeClip } from "../../../src/video/write.js";
import { safeOpen, saveFile } from "../../../src/weights/safetensors.js";
import { TINY_TRANSFORMER, tinyPipeline } from "../diffusion/tiny.js";
import { projectRoot } from "./project.js";

let folder: string;
let model: string;
let image: string;
let clip: string;
const at = (name: string) => join(folder, name);

before(async () => {
  await useEngine("cpu");
  process.env.FIRSTFRAME_ENGINE = "cpu";
  folder = await mkdtemp(join(tmpdir(), "firstframe-sample-"));
  [model, image, clip] = [at("model"), at("image.png"), at("clip.mp4")];
  const pipe = tinyPipeline();
  await pipe.savePretrained(model);
  pipe.transformer.addAdapter(
    { r: 2, loraAlpha: 2, targetModules: ["to_q"], initLoraWeights: false },
    { generator: new RandomGenerator(1) },
  );
  await pipe.saveLoraWeights(at("lora"));
  pipe.dispose();
  const { clip: made } = proceduralClip({ seed: 1, numFrames: 9, height: 32, width: 46 });
  await writeClip(image, made.slice(0, 1));
  await writeClip(clip, made);
});
after(() => rm(folder, { recursive: true }));

const sample = (...argv: string[]) => sampleCommand(["--model", model, ...argv]);
const quick = ["--num-inference-steps", "1"];

test("sample makes the video that its flags ask for", async () => {
  const out = at("out.webp");
  const argv = [
    "sample",
    "--model",
    model,
    "--image",
    image,
    "--prompt",
    "a red ball",
    "--out",
    out,
    ...quick,
  ];
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(projectRoot, "dist/src/cli/main.js"), ...argv],
    {
      encoding: "utf8",
    },
  );
  assert.equal(status, 0, stderr);
  assert.match(stderr, /^engine: cpu on /m);
  assert.match(stdout, /out\.webp: 9 frames 48x32 in /);
  const video = await readClip(out);
  assert.deepEqual([video.numFrames, video.height, video.width], [9, 32, 48]);
});

test("prompt embeddings and a LoRA come from files", async () => {
  const embeds = at("embeds.safetensors");
  const generator = new RandomGenerator(1);
  const tensors = {
    prompt_embeds: generator.randn([1, 8, 12]),
    negative_prompt_embeds: generator.randn([1, 8, 12]),
  };
  await saveFile(tensors, embeds);
  tf.dispose(tensors);
  const before = tf.memory().numTensors;
  const flags = ["--image", image, "--prompt-embeds", embeds, "--height", "16", "--width", "16", ...quick];
  await sample(...flags, "--out", at("plain"));
  await sample(
    ...flags,
    "--out",
    at("lora-out"),
    "--lora",
    at("lora"),
    "--lora-scale",
    "3",
    "--scheduler",
    "dpm",
  );
  assert.equal(tf.memory().numTensors, before);
  const [plain, changed] = await Promise.all([readClip(at("plain")), readClip(at("lora-out"))]);
  assert.deepEqual([plain.numFrames, plain.height, plain.width], [9, 16, 16]);
  assert.notDeepEqual(plain.data, changed.data);
});

test("several LoRAs add up, each with its factor", async () => {
  const flags = ["--image", image, "--prompt", "a red ball", "--height", "16", "--width", "16", ...quick];
  const made = async (name: string, ...more: string[]) => {
    await sample(...flags, "--out", at(name), ...more);
    return (await readClip(at(name))).data;
  };
  const lora = at("lora");
  const plain = await made("none");
  const three = await made("three", "--lora", lora, "--lora-scale", "30");
  const sum = await made("sum", "--lora", lora, lora, "--lora-scale", "10", "20");
  const each = await made("each", "--lora", lora, "--lora", lora, "--lora-scale", "15");
  const off = await made("off", "--lora", lora, lora, "--lora-scale", "1", "-1");
  const apart = (a: Uint8Array, b: Uint8Array) => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));
  assert.ok(apart(plain, three) > 2);
  for (const [one, other] of [
    [three, sum],
    [three, each],
    [plain, off],
  ] as const)
    assert.ok(apart(one, other) <= 1);
});

test("what sample can't do is refused in one line, and nothing is written", async () => {
  const out = at("never.mp4");
  const refused = async (argv: string[], message: RegExp) => {
    await assert.rejects(sample(...argv, "--out", out), (error: Error) => {
      assert.ok(error instanceof InputError, error.stack);
      assert.match(error.message, message);
      return true;
    });
    assert.ok(!existsSync(out));
  };
  const good = ["--image", image, "--prompt", "a"];
  await refused(["--prompt", "a"], /--image FILE is missing/);
  await refused(["--image", image], /expected one of --prompt TEXT and --prompt-embeds FILE, found neither/);
  await refused(["--image", at("no.png"), "--prompt", "a"], /no\.png/);
  await refused([...good, "--num-frames", "10"], /frames: expected 8 N \+ 1 \(such as 9 or 17\), found 10/);
  await refused([...good, "--height", "40"], /height: expected a multiple of 16/);
  await refused([...good, "--lora", at("nothing")], /nothing: no such file or folder/);
  await saveFile({ other: { dtype: "F32", shape: [1], data: new Float32Array(1) } }, at("other.safetensors"));
  await saveFile(
    { prompt_embedding: { dtype: "F32", shape: [8, 5], data: new Float32Array(40) } },
    at("narrow.safetensors"),
  );
  const byFile = ["--image", image, "--prompt-embeds"];
  await refused(
    [...byFile, at("other.safetensors")],
    /other\.safetensors: expected prompt_embeds or prompt_embedding, found other/,
  );
  await refused(
    [...byFile, at("narrow.safetensors")],
    /narrow\.safetensors: expected 12 features \(the model's text_embed_dim\), found 5/,
  );
  await refused([...good, "--height", "128"], /--height: this model's positions reach to 64 pixels/);
  await mkdir(at("full"));
  await writeFile(at("full/a"), "");
  await assert.rejects(sample(...good, "--out", at("full")), /full is a folder with files in it/);
  await refused([...good, "--lora-scale", "2"], /--lora-scale: there is no --lora/);
  const loras = ["--lora", at("lora"), at("lora")];
  await refused(
    [...good, ...loras, "--lora-scale", "1", "2", "3"],
    /--lora-scale: expected one for all LoRAs or 2 \(one each\), found 3/,
  );
  await refused([...good, ...loras, "--lora_alpha", "8"], /says alpha 2 for .*to_q, loraAlpha is 8/);
  await assert.rejects(
    sample(...good, "--out", at("x.avi")),
    /--out: expected a .mp4, .webp or .gif file or a folder/,
  );
  await assert.rejects(sampleCommand(good), /--model MODEL is missing/);
  await assert.rejects(sampleCommand([...good, "--model", folder]), /model_index.json: no such file/);
});

test("encode writes each clip's latents, and fills a data set's cache once", async () => {
  const out = at("latents");
  assert.equal(await encodeCommand(["--model", model, clip, "--out", out, "--no-tiling"]), 0);
  const file = await safeOpen(join(out, "clip.safetensors"));
  assert.deepEqual(file.info("latents").shape, [4, 3, 4, 5]);
  await file.close();

  const data = at("data");
  await mkdir(join(data, "videos"), { recursive: true });
  for (const name of ["a.mp4", "b.mp4"]) await copyFile(clip, join(data, "videos", name));
  await writeFile(join(data, "prompts.txt"), "a red ball\na ball moves left\n");
  await writeFile(join(data, "videos.txt"), "videos/a.mp4\nvideos/b.mp4\n");
  const argv = ["--model", model, "--data-root", data, "--train-resolution", "9x32x48", "--no-tiling"];
  const before = tf.memory().numTensors;
  assert.equal(await encodeCommand([...argv, "--shard", "1/2"]), 0);
  const latents = join(data, "cache/video_latent/cogvideox1.5-i2v/9x32x48");
  assert.equal((await readdir(latents)).length, 1);
  const prompts = join(data, "cache/prompt_embeddings");
  assert.equal((await readdir(prompts)).length, 1);
  assert.equal(await encodeCommand([...argv, "--shard", "2/2"]), 0);
  // Both clips are the same bytes, so they share their latents; the prompts differ.
  assert.deepEqual([(await readdir(latents)).length, (await readdir(prompts)).length], [1, 2]);
  assert.equal(await encodeCommand(argv), 0);
  assert.equal(tf.memory().numTensors, before);
  const stored = join(prompts, (await readdir(prompts))[0]!);
  const prompt = await safeOpen(stored);
  assert.deepEqual(prompt.info("prompt_embedding").shape, [8, 12]);
  const text = prompt.metadata().get("prompt")!;
  await prompt.close();

  // What the cache has of a prompt samples as the prompt does.
  const frames = [];
  for (const [name, flags] of [
    ["by-text", ["--prompt", text]],
    ["by-cache", ["--prompt-embeds", stored]],
  ] as const) {
    await sample("--image", image, ...flags, "--out", at(name), ...quick);
    frames.push((await readClip(at(name))).data);
  }
  assert.deepEqual(frames[0], frames[1]);
  assert.equal(tf.memory().numTensors, before);
});

test("what nobody foresaw is no input error: it is shown as a fault of the program, with where it was", () => {
  const argv = [
    "sample",
    "--model",
    model,
    "--image",
    image,
    "--prompt",
    "a ball",
    "--out",
    at("never.webp"),
  ];
  const huge = [...argv, "--num-frames", "8000000000001", ...quick];
  const main = join(projectRoot, "dist/src/cli/main.js");
  const { status, stderr } = spawnSync(process.execPath, [main, ...huge], { encoding: "utf8" });
  assert.equal(status, 1, stderr);
  assert.match(stderr, /^RangeError: .*\n +at /m);
  assert.match(stderr, /^firstframe: this is a fault of firstframe's own; please report it/m);
  assert.ok(!existsSync(at("never.webp")));
});

test("what encode can't do is refused in one line", async () => {
  const refused = (argv: string[], message: RegExp) =>
    assert.rejects(encodeCommand(argv), (error: Error) => {
      assert.ok(error instanceof InputError, error.stack);
      assert.match(error.message, message);
      return true;
    });
  await refused([clip], /--model MODEL is missing/);
  await refused(["--model", model], /expected CLIP... or --data_root DIR, found neither/);
  await refused(["--model", model, clip, "--data-root", folder], /found both/);
  await refused(["--model", model, clip, clip], /two clips would be written to clip.safetensors/);
  await refused(
    ["--model", model, "--data-root", folder],
    /--train_resolution FRAMESxHEIGHTxWIDTH is missing/,
  );
  const flags = ["--model", model, "--data-root", folder, "--train-resolution", "9x32x48"];
  await refused(
    flags,
    /found neither prompts.txt, metadata.jsonl, metadata.csv nor metadata.json, nor clips with captions/,
  );
  await refused(
    [...flags, "--shard", "3/2"],
    /--shard: expected I\/N with I from 1 to N, such as 2\/8, found 3\/2/,
  );
});

test("offloading changes no pixel, and only one kind of it can be asked for", async () => {
  const flags = ["--image", image, "--prompt", "a red ball", "--height", "16", "--width", "16", ...quick];
  const made = async (name: string, ...more: string[]) => {
    await sample(...flags, "--out", at(name), ...more);
    return (await readClip(at(name))).data;
  };
  const before = tf.memory().numTensors;
  const plain = await made("resident", "--lora", at("lora"), "--lora-scale", "9");
  for (const flag of ["--enable-model-cpu-offload", "--enable_sequential_cpu_offload"]) {
    assert.deepEqual(await made(flag.slice(2), flag, "--lora", at("lora"), "--lora-scale", "9"), plain, flag);
  }
  assert.equal(tf.memory().numTensors, before);
  await assert.rejects(
    sample(...flags, "--enable-model-cpu-offload", "--enable-sequential-cpu-offload", "--out", at("both")),
    /--enable-model-cpu-offload, --enable-sequential-cpu-offload: expected one of the two, found both/,
  );
  await assert.rejects(
    sample(...flags, "--quantization", "int8", "--out", at("int8")),
    /int8 needs the tensorflow engine/,
  );
  await assert.rejects(
    sample(...flags, "--quantization", "int4", "--out", at("int4")),
    /--quantization: expected int8, found "int4"/,
  );
});

test("--cache_dir: a prompt's embeddings are kept where training keeps them, and T5 is read for new ones alone", async (t) => {
  const cache = at("cache");
  const heard: string[] = [];
  t.mock.method(console, "error", (line: string) => heard.push(line));
  const flags = ["--image", image, "--height", "16", "--width", "16", ...quick, "--cache_dir", cache];
  const made = async (name: string, prompt: string, ...more: string[]) => {
    heard.length = 0;
    await sample(...flags, "--prompt", prompt, "--out", at(name), ...more);
    const said = heard.filter((line) => line.startsWith("prompt: ")).map((line) => line.split(" ")[1]);
    return { said, data: (await readClip(at(name))).data };
  };
  const first = await made("cached-first", "a ball moves");
  assert.deepEqual(first.said, ["into", "into"]);
  const second = await made("cached-second", "a ball moves", "--enable-sequential-cpu-offload");
  assert.deepEqual(second.said, ["from", "from"]);
  assert.deepEqual(second.data, first.data);
  await sample(...flags.slice(0, -2), "--prompt", "a ball moves", "--out", at("uncached"));
  assert.deepEqual((await readClip(at("uncached"))).data, first.data);
  assert.deepEqual((await made("cached-other", "a ball moves left")).said, ["into", "from"]);
  assert.deepEqual((await made("cached-short", "a ball moves", "--max-sequence-length", "4")).said, [
    "into",
    "into",
  ]);
  const { max_text_seq_length: length } = TINY_TRANSFORMER;
  const promptEncoder = await T5PromptEncoder.open(model, length, join(cache, "content"));
  assert.ok(await new PromptCache({ cacheDir: cache, promptEncoder }).has("a ball moves", true));
  const blocked = at("a-file");
  await writeFile(blocked, "");
  await assert.rejects(
    sample(...flags.slice(0, -1), blocked, "--prompt", "a", "--out", at("blocked")),
    /--cache_dir: expected a folder to write to, found .*a-file/,
  );
});

test("--dry-run says the memory and makes nothing", async (t) => {
  const lines: string[] = [];
  t.mock.method(console, "log", (line: string) => lines.push(line));
  const flags = ["--image", image, "--prompt", "a red ball", "--out", at("never"), "--dry-run"];
  const weights = async (...more: string[]) => {
    lines.length = 0;
    assert.equal(await sample(...flags, ...more), 0);
    assert.match(lines.join(), /^memory: about .* at its peak; by itself: textEncoder .*, engine 300 MB$/);
    return lines[0]!;
  };
  const transformer = (line: string) => /transformer ([\d.]+) kB/.exec(line)![1];
  const pipe = tinyPipeline();
  assert.equal(transformer(await weights()), (pipe.transformer.numParameters() * 0.004).toPrecision(3));
  const [half, quarter] = [await weights("--dtype", "bfloat16"), await weights("--quantization", "int8")];
  assert.ok(Number(transformer(half)) < 0.55 * pipe.transformer.numParameters() * 0.004);
  assert.ok(Number(transformer(quarter)) < 0.5 * pipe.transformer.numParameters() * 0.004);
  const streamed = await weights("--enable-sequential-cpu-offload");
  assert.ok(Number(transformer(streamed)) < 0.8 * pipe.transformer.numParameters() * 0.004);
  assert.equal(existsSync(at("never")), false);
  pipe.dispose();
});
