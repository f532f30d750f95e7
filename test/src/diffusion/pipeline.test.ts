import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { CogVideoXDPMScheduler } from "../../../src/diffusion/dpm.js";
import {
  CogVideoXImageToVideoPipeline,
  type ImageToVideoOptions,
} from "../../../src/diffusion/image-to-video.js";
import { CogVideoXPipeline } from "../../../src/diffusion/text-to-video.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { Clip } from "../../../src/video/clip.js";
import { TINY_TRANSFORMER, tinyPipeline } from "./tiny.js";

let pipe: CogVideoXImageToVideoPipeline;
let folder: string;
let image: Clip;
let tensors: number;

before(async () => {
  await useEngine();
  pipe = tinyPipeline();
  folder = await mkdtemp(join(tmpdir(), "firstframe-pipeline-"));
  image = proceduralClip({ seed: 3, numFrames: 9, height: 40, width: 40 }).clip.slice(0, 1);
});
beforeEach(() => {
  tensors = tf.memory().numTensors;
});
after(() => rm(folder, { recursive: true }));

/** Nothing may be left behind, whatever happened. */
const noLeak = () => assert.equal(tf.memory().numTensors, tensors, "tensors left behind");

const size = { height: 32, width: 48, numFrames: 9, numInferenceSteps: 2 };
const options = () => ({
  image,
  prompt: "a red ball moves left",
  generator: new RandomGenerator(1),
  ...size,
});

async function pixels(changes: Partial<ImageToVideoOptions<"pt">> = {}): Promise<number[]> {
  const { frames } = await pipe.generate({ ...options(), ...changes, outputType: "pt" });
  assert.deepEqual(frames.shape.slice(1), [9, 3, 32, 48]);
  const values = [...frames.dataSync()];
  frames.dispose();
  noLeak();
  return values;
}

test("the same seed gives the same frames; seed, prompt, image and guidance matter", async () => {
  const first = await pixels();
  assert.ok(first.every((v) => v >= 0 && v <= 1));
  assert.deepEqual(await pixels(), first);
  const other = proceduralClip({ seed: 4, numFrames: 9, height: 40, width: 40 }).clip;
  const changes: Partial<ImageToVideoOptions<"pt">>[] = [
    { generator: new RandomGenerator(2) },
    { prompt: "a ball moves right" },
    { negativePrompt: "red" },
    { image: other },
    { guidanceScale: 1 },
    { useDynamicCfg: true },
  ];
  for (const change of changes) {
    assert.notDeepEqual(await pixels(change), first, JSON.stringify(Object.keys(change)));
  }
});

test("frames come as clips, tensors and latents", async () => {
  const values = await pixels();
  const { frames: clips } = await pipe.generate({ ...options(), fps: 12 });
  assert.equal(clips.length, 1);
  const clip = clips[0]!;
  assert.ok(clip instanceof Clip);
  assert.deepEqual([clip.numFrames, clip.height, clip.width, clip.fps], [9, 32, 48, 12]);
  const pt = (f: number, c: number, y: number, x: number) => values[((f * 3 + c) * 32 + y) * 48 + x]!;
  for (const [f, y, x, c] of [
    [0, 0, 0, 0],
    [3, 31, 7, 1],
    [8, 5, 47, 2],
  ] as const) {
    assert.ok(Math.abs(clip.frame(f)[(y * 48 + x) * 3 + c]! - pt(f, c, y, x) * 255) <= 0.5);
  }
  const { frames: np } = await pipe.generate({ ...options(), outputType: "np" });
  assert.deepEqual(np.shape, [1, 9, 32, 48, 3]);
  const { frames: latent } = await pipe.generate({ ...options(), outputType: "latent" });
  assert.deepEqual(latent.shape, [1, 4, 4, 4, 6], "the padding frame is still there");
  const defaults = await pipe.generate(options());
  assert.equal(defaults.frames[0]!.fps, 16);
  tf.dispose([np, latent]);
  noLeak();
});

test("a batch with a generator for each sample is the samples one by one", async () => {
  const prompts = ["a red ball moves left", "a ball"];
  const apart: number[] = [];
  for (const [i, prompt] of prompts.entries()) {
    apart.push(...(await pixels({ prompt, generator: new RandomGenerator(10 + i) })));
  }
  const together = await pixels({
    prompt: prompts,
    generator: [new RandomGenerator(10), new RandomGenerator(11)],
  });
  assert.equal(together.length, apart.length);
  const worst = Math.max(...together.map((value, i) => Math.abs(value - apart[i]!)));
  assert.ok(worst < 1e-4, `differs by ${worst}`);
});

test("embeddings stand in for prompts", async () => {
  const { promptEmbeds, negativePromptEmbeds } = pipe.encodePrompt({ prompt: "a red ball moves left" });
  const given = await pipe.generate({
    ...options(),
    prompt: undefined,
    promptEmbeds,
    negativePromptEmbeds: negativePromptEmbeds!,
    outputType: "pt",
  });
  const expected = await pipe.generate({ ...options(), outputType: "pt" });
  assert.deepEqual(given.frames.dataSync(), expected.frames.dataSync());
  tf.dispose([given.frames, expected.frames, promptEmbeds, negativePromptEmbeds!]);
  noLeak();
});

test("a callback sees every step, may change the latents and end the run", async () => {
  const seen: [number, number, number][] = [];
  const end = await pipe.generate({
    ...options(),
    numInferenceSteps: 4,
    outputType: "latent",
    callbackOnStepEnd(pipeline, step, timestep, { latents }) {
      assert.equal(pipeline, pipe);
      assert.equal(pipeline.currentTimestep, timestep);
      seen.push([step, timestep, pipeline.numTimesteps]);
      if (step === 2) {
        pipeline.interrupt = true;
        return { latents: tf.onesLike(latents) };
      }
    },
  });
  assert.deepEqual(seen, [
    [0, 999, 4],
    [1, 749, 4],
    [2, 499, 4],
  ]);
  assert.ok(end.frames.dataSync().every((value) => value === 1));
  end.frames.dispose();
  await assert.rejects(
    pipe.generate({
      ...options(),
      callbackOnStepEnd: () => {
        throw new Error("stop here");
      },
    }),
    /stop here/,
  );
  assert.equal(pipe.currentTimestep, null);
  noLeak();
});

test("large videos are decoded in groups, to the same pixels", async () => {
  const latents = new RandomGenerator(1).randn<tf.Rank.R5>([1, 5, 4, 2, 2]);
  const whole = await pipe.decodeLatents(latents);
  let groups = 0;
  const decodeStream = pipe.vae.decodeStream.bind(pipe.vae);
  pipe.vae.decodeStream = async function* (...given) {
    for await (const piece of decodeStream(...given)) {
      groups++;
      yield piece;
    }
  };
  pipe.streamPixels = 1000;
  const streamed = await pipe.decodeLatents(latents);
  pipe.streamPixels = 2 ** 22;
  pipe.vae.decodeStream = decodeStream;
  assert.equal(groups, 2);
  const sample = tf.tidy(() => {
    const scaled = tf.div(tf.transpose(latents, [0, 2, 1, 3, 4]), pipe.vae.config.scaling_factor);
    return pipe.vae.decode(scaled as tf.Tensor5D).sample;
  });
  assert.deepEqual(whole.shape, [1, 3, 17, 16, 16]);
  assert.deepEqual(streamed.shape, whole.shape);
  for (const video of [whole, streamed]) {
    const worst = tf.tidy(() => tf.max(tf.abs(tf.sub(video, sample))).dataSync()[0]!);
    assert.ok(worst < 1e-5, `differs by ${worst}`);
  }
  tf.dispose([latents, whole, streamed, sample]);
  noLeak();
});

test("DPM needs a generator, and takes it", async () => {
  const { scheduler } = pipe;
  pipe.scheduler = CogVideoXDPMScheduler.fromConfig(scheduler.config);
  assert.notDeepEqual(await pixels(), await pixels({ generator: new RandomGenerator(2) }));
  pipe.scheduler = scheduler;
});

test("a pipeline's folder loads again and gives the same frames; components can be left out or replaced", async () => {
  const saved = join(folder, "saved");
  await pipe.savePretrained(saved);
  const index = JSON.parse(await readFile(join(saved, "model_index.json"), "utf8"));
  assert.equal(index._class_name, "CogVideoXImageToVideoPipeline");
  assert.deepEqual(index.text_encoder, ["transformers", "T5EncoderModel"]);
  const expected = await pixels();
  const loaded = await CogVideoXImageToVideoPipeline.fromPretrained(saved);
  const { frames } = await loaded.generate({ ...options(), outputType: "pt" });
  assert.deepEqual([...frames.dataSync()], expected);
  frames.dispose();
  loaded.dispose();

  const bare = await CogVideoXImageToVideoPipeline.fromPretrained(saved, {
    tokenizer: null,
    textEncoder: null,
    vae: pipe.vae,
  });
  assert.equal(bare.vae, pipe.vae);
  await assert.rejects(
    bare.generate(options()),
    /prompt: this pipeline was loaded without tokenizer or text encoder/,
  );
  bare.transformer.dispose();
  noLeak();
});

test("text-to-video samples without an image", async () => {
  const transformer = CogVideoXTransformer3DModel.fromConfig(
    {
      ...TINY_TRANSFORMER,
      in_channels: 4,
      ofs_embed_dim: null,
      patch_size_t: null,
      use_rotary_positional_embeddings: false,
    },
    new RandomGenerator(1),
  );
  const text = new CogVideoXPipeline({
    ...pipe,
    transformer,
    tokenizer: pipe.tokenizer,
    textEncoder: pipe.textEncoder,
    vae: pipe.vae,
    scheduler: pipe.scheduler,
  });
  const { frames } = await text.generate({ prompt: "a ball", generator: new RandomGenerator(1), ...size });
  assert.deepEqual([frames[0]!.numFrames, frames[0]!.fps], [9, 8]);
  transformer.dispose();
  noLeak();
});

test("a LoRA changes the frames, by its factor; taken off, they are as before", async () => {
  const expected = await pixels();
  pipe.transformer.addAdapter(
    { r: 2, loraAlpha: 2, targetModules: ["to_q", "to_v"], initLoraWeights: false },
    { generator: new RandomGenerator(8) },
  );
  await pipe.saveLoraWeights(join(folder, "lora"));
  pipe.unloadLoraWeights();
  assert.deepEqual(await pixels(), expected);
  await pipe.loadLoraWeights(join(folder, "lora"));
  tensors = tf.memory().numTensors;
  const changed = await pixels();
  assert.notDeepEqual(changed, expected);
  assert.deepEqual(await pixels({ attentionKwargs: { scale: 0 } }), expected);
  pipe.setAdapters("default", 0);
  assert.deepEqual(await pixels(), expected);
  pipe.unloadLoraWeights();
  tensors = tf.memory().numTensors;
});

test("what can't be is refused by name, and leaves nothing behind", async () => {
  const refused = async (changes: Partial<ImageToVideoOptions>, message: RegExp) => {
    await assert.rejects(pipe.generate({ ...options(), ...changes }), message);
    noLeak();
  };
  await refused({ height: 40 }, /height: expected a multiple of 16 \(VAE times patch_size\), found 40/);
  await refused({ width: 0 }, /width: expected a multiple of 16/);
  await refused({ numFrames: 0 }, /numFrames: expected a positive integer, found 0/);
  await refused({ prompt: undefined }, /prompt, promptEmbeds: expected one of the two, found neither/);
  await refused({ prompt: [] }, /prompt: expected at least one, found an empty list/);
  await refused(
    { prompt: ["a", "b", "c"], image: [image, image] },
    /image: expected 1 or 3 \(one a prompt\), found 2/,
  );
  await refused({ negativePrompt: ["a", "b"] }, /negativePrompt: expected 1 \(one a prompt\), found 2/);
  await refused(
    { generator: undefined },
    /generator: expected a RandomGenerator, such as new RandomGenerator\(42\), found none/,
  );
  await refused({ numInferenceSteps: 0 }, /numInferenceSteps: expected an integer from 1 to 1000/);
  await refused({ image: [] }, /image: expected at least one picture, found an empty list/);
  await refused(
    { height: 80 },
    /rotary grid: expected at most 4 x 6 patches \(height x width\), found 5 x 3/,
  );
  const latents = tf.zeros<tf.Rank.R5>([1, 3, 4, 4, 6]);
  const embeds = tf.zeros<tf.Rank.R3>([1, 8, 12]);
  tensors += 2;
  await refused({ latents }, /latents: expected \[1,4,4,4,6\] \(B, F, C, h, w\), found \[1,3,4,4,6\]/);
  await refused({ promptEmbeds: embeds }, /prompt, promptEmbeds: expected one of the two, found both/);
  await refused(
    { negativePromptEmbeds: embeds },
    /prompt, negativePromptEmbeds: expected one of the two, found both/,
  );
  tf.dispose([latents, embeds]);
  tensors -= 2;
});

test("a number of frames that the VAE can't give is warned of; a prompt that is too long as well", async () => {
  const warnings: string[] = [];
  const listen = (warning: Error) => warnings.push(warning.message);
  process.on("warning", listen);
  const odd = await pipe.generate({ ...options(), numFrames: 8, outputType: "pt" });
  assert.equal(odd.frames.shape[1], 8);
  odd.frames.dispose();
  await pixels({ prompt: "a red ball moves left a red ball moves right" });
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", listen);
  assert.match(warnings.join("\n"), /numFrames 8 is not 8N \+ 1/);
  assert.match(warnings.join("\n"), /the prompt was cut off at 8 tokens; left out: "ball moves right"/);
});

test("folders with something missing or of another class are refused by file", async () => {
  const saved = join(folder, "broken");
  await pipe.savePretrained(saved);
  const indexPath = join(saved, "model_index.json");
  const index = JSON.parse(await readFile(indexPath, "utf8"));
  const load = () => CogVideoXImageToVideoPipeline.fromPretrained(saved);
  const withIndex = async (changes: object, message: RegExp) => {
    await writeFile(indexPath, JSON.stringify({ ...index, ...changes }));
    await assert.rejects(load(), message);
    await writeFile(indexPath, JSON.stringify(index));
    noLeak();
  };
  await withIndex(
    { _class_name: "StableDiffusionPipeline" },
    /model_index.json: expected CogVideoXImageToVideoPipeline, found StableDiffusionPipeline/,
  );
  await withIndex(
    { vae: ["diffusers", "AutoencoderKL"] },
    /vae must be AutoencoderKLCogVideoX, found AutoencoderKL/,
  );
  await withIndex({ transformer: [null, null] }, /the pipeline can't do without transformer/);
  await withIndex({ scheduler: undefined }, /it has no scheduler/);
  await rm(join(saved, "transformer", "diffusion_pytorch_model.safetensors"));
  await assert.rejects(
    load(),
    /parts of the pipeline are missing: transformer: it has neither .*diffusion_pytorch_model\.safetensors\.index\.json nor/,
  );
  noLeak();
  await pipe.transformer.savePretrained(join(saved, "transformer"));
  await cp(join(saved, "vae", "config.json"), join(saved, "transformer", "config.json"));
  await assert.rejects(
    load(),
    /config.json: expected the configuration of CogVideoXTransformer3DModel, found _class_name "AutoencoderKLCogVideoX"/,
  );
  noLeak();
  await assert.rejects(
    CogVideoXImageToVideoPipeline.fromPretrained(folder),
    /model_index.json: no such file/,
  );
});
