import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CogVideoXDDIMScheduler } from "../../../src/diffusion/ddim.js";
import { CogVideoXDPMScheduler } from "../../../src/diffusion/dpm.js";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { samplingRotaryTables } from "../../../src/models/transformer/rotary-positions.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import { casesOf, type GoldenCase } from "./case.js";

await useEngine();

/** Hands out given draws, in order. */
class Tape extends RandomGenerator {
  readonly #draws: tf.Tensor[];

  constructor(draws: tf.Tensor[]) {
    super(0);
    this.#draws = draws;
  }

  override randn<R extends tf.Rank>(shape: tf.ShapeMap[R]): tf.Tensor<R> {
    const draw = this.#draws.shift();
    assert.ok(draw, `a draw of [${shape}] beyond the tape`);
    assert.deepEqual(draw.shape, shape);
    return draw.clone() as tf.Tensor<R>;
  }

  assertEmpty(): void {
    assert.equal(this.#draws.length, 0, "draws were left on the tape");
  }
}

/** The stored VAE with another `invert_scale_latents` in its configuration. */
async function loadVae(folder: string, inverted: boolean): Promise<AutoencoderKLCogVideoX> {
  const copy = await mkdtemp(join(tmpdir(), "firstframe-vae-"));
  try {
    await cp(folder, copy, { recursive: true });
    const config = JSON.parse(await readFile(join(copy, "config.json"), "utf8"));
    await writeFile(join(copy, "config.json"), JSON.stringify({ ...config, invert_scale_latents: inverted }));
    return await AutoencoderKLCogVideoX.fromPretrained(copy);
  } finally {
    await rm(copy, { recursive: true });
  }
}

async function loadPipeline(
  golden: GoldenCase,
  transformer: string,
  inverted: boolean,
): Promise<CogVideoXImageToVideoPipeline> {
  const name = golden.components.find((name) => name.startsWith("scheduler_"));
  const Scheduler = name?.includes("_dpm_") ? CogVideoXDPMScheduler : CogVideoXDDIMScheduler;
  return new CogVideoXImageToVideoPipeline({
    tokenizer: null,
    textEncoder: null,
    vae: await loadVae(golden.component("vae"), inverted),
    transformer: await CogVideoXTransformer3DModel.fromPretrained(golden.component(transformer)),
    scheduler: name ? await Scheduler.fromPretrained(golden.component(name)) : new Scheduler(),
  });
}

interface Params {
  batch: number;
  num_frames: number;
  height: number;
  width: number;
  steps: number;
  guidance_scale: number;
  use_dynamic_cfg: boolean;
  invert_scale_latents: boolean;
}

async function run(golden: GoldenCase): Promise<void> {
  const params = golden.params as unknown as Params;
  const transformerName = golden.components.find((name) => name !== "vae" && !name.startsWith("scheduler_"))!;
  const pipe = await loadPipeline(golden, transformerName, params.invert_scale_latents);
  const { transformer, vae } = pipe;

  const image = await golden.tensor<tf.Rank.R4>("image");
  const promptEmbeds = await golden.tensor<tf.Rank.R3>("prompt_embeds");
  const negativePromptEmbeds = await golden.tensor<tf.Rank.R3>("negative_prompt_embeds");
  const latents = await golden.tensor<tf.Rank.R5>("latents");
  const imageDraws = golden.names("noise").filter((name) => name.startsWith("noise_image"));
  // Where a step has two draws, the first is thrown away.
  const stepDraws = new Map<string, string>();
  for (const name of golden
    .names("noise")
    .filter((name) => name.startsWith("noise_step"))
    .sort()) {
    stepDraws.set(name.split(".")[0]!, name);
  }
  const names = [...imageDraws, ...stepDraws.values()];
  const draws = await Promise.all(names.map((name) => golden.tensor(name)));
  const tape = new Tape([...draws]);

  const seen = new Map<string, tf.Tensor>();
  const keep = (name: string, tensor: tf.Tensor) => {
    if (!seen.has(name)) seen.set(name, tf.keep(tensor.clone()));
  };
  const half = transformer.config.in_channels / 2;
  const forward = transformer.forward.bind(transformer);
  transformer.forward = (inputs) => {
    keep("model_input0", inputs.hiddenStates);
    const output = forward(inputs);
    keep("model_output0", output.sample);
    return output;
  };
  const decode = vae.decode.bind(vae);
  vae.decode = (z) => {
    keep("decoder_input", z);
    return decode(z);
  };
  const scales: number[] = [];

  const before = tf.memory().numTensors;
  const { frames } = await pipe.generate({
    image,
    promptEmbeds,
    negativePromptEmbeds: params.guidance_scale > 1 ? negativePromptEmbeds : undefined,
    height: params.height,
    width: params.width,
    numFrames: params.num_frames,
    numInferenceSteps: params.steps,
    guidanceScale: params.guidance_scale,
    useDynamicCfg: params.use_dynamic_cfg,
    generator: tape,
    latents,
    outputType: "pt",
    callbackOnStepEnd(pipeline, step, timestep, tensors) {
      assert.equal(timestep, (golden.measured.timesteps as number[])[step]);
      keep(step === pipeline.numTimesteps - 1 ? "last_latents" : `latents_after${step}`, tensors.latents);
      scales.push(pipeline.guidanceScale);
    },
  });
  assert.equal(tf.memory().numTensors, before + 1 + seen.size, "tensors left behind by the pipeline");
  tape.assertEmpty();

  await golden.compare("frames", frames);
  await golden.compare("guidance_scales", { shape: [scales.length], data: scales });
  const input = seen.get("model_input0")!;
  const imageLatents = tf.slice(input, [0, 0, half, 0, 0], [params.batch, -1, half, -1, -1]);
  await golden.compare("image_latents", imageLatents);
  for (const [name, tensor] of seen) await golden.compare(name, tensor);
  const [, frameCount, , height, width] = latents.shape;
  const tables = samplingRotaryTables(transformer.config, { frames: frameCount, height, width });
  if (tables) {
    await golden.compare("rope_cos", tables.cos);
    await golden.compare("rope_sin", tables.sin);
  }
  tf.dispose([frames, imageLatents, ...seen.values(), { ...tables }, ...draws]);
  tf.dispose([image, promptEmbeds, negativePromptEmbeds, latents]);
  pipe.dispose();
}

async function prepareLatents(golden: GoldenCase): Promise<void> {
  const image = await golden.tensor<tf.Rank.R4>("image");
  const noise = await golden.tensor("noise_image");
  for (const name of golden.names("output")) {
    const [, transformer, scaling, count] = /^(.+)\.(plain|inverted)\.n(\d+)$/.exec(name)!;
    const pipe = await loadPipeline(golden, transformer!, scaling === "inverted");
    const latents = tf.zeros<tf.Rank.R5>(
      golden.tensors[name]!.shape as [number, number, number, number, number],
    );
    const generator = new Tape([noise]);
    const prepared = pipe.prepareLatents({ image, numFrames: Number(count), generator, latents });
    await golden.compare(name, prepared.imageLatents);
    generator.assertEmpty();
    tf.dispose([latents, prepared.latents, prepared.imageLatents]);
    pipe.dispose();
  }
  tf.dispose([image, noise]);
}

for (const golden of await casesOf("pipeline")) {
  test(`${golden.name}: ${golden.title}`, async () => {
    const before = tf.memory().numTensors;
    await (golden.name === "pipeline_prepare_latents" ? prepareLatents : run)(golden);
    golden.assertAllCompared();
    assert.equal(tf.memory().numTensors, before);
  });
}
