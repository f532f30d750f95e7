/** Folders and adapters go to diffusers, transformers and PEFT and back, and give the same output there. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { CogVideoXDDIMScheduler } from "../../../src/diffusion/ddim.js";
import { CogVideoXDPMScheduler } from "../../../src/diffusion/dpm.js";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { CogVideoXPipeline } from "../../../src/diffusion/text-to-video.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { T5EncoderModel } from "../../../src/models/text/t5-encoder.js";
import { T5Tokenizer } from "../../../src/models/text/tokenizer.js";
import { trainingRotaryTables } from "../../../src/models/transformer/rotary-positions.js";
import {
  CogVideoXTransformer3DModel,
  type CogVideoXTransformer3DModelConfig,
  type PerSample,
} from "../../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import type { Model } from "../../../src/nn/module.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { LORA_TARGET_MODULES } from "../../../src/train/arguments.js";
import { loadFile, saveFile } from "../../../src/weights/safetensors.js";
import { TINY_SCHEDULER } from "../diffusion/tiny.js";
import { missingPython, runPython } from "./python.js";

const skip = missingPython("torch", "diffusers", "transformers", "peft") ?? false;
if (skip) console.log(`skipped: ${skip}`);

const settings = {
  prompts: [
    "a red ball moves left.",
    "two STARS drift over the dark ground, slowly; then the camera pans right and up",
  ],
  negative: "blue",
  max_length: 16,
  steps: 3,
  num_frames: 9,
  height: 32,
  width: 48,
  lora_scale: 0.5,
};

/** What the notebooks use. */
const SMALL = fileURLToPath(new URL("../../../../notebooks/models/procedural", import.meta.url));
const { caption } = proceduralClip({ seed: 7, numFrames: 1, height: 8, width: 12 });

const TRANSFORMER = {
  num_attention_heads: 2,
  attention_head_dim: 16,
  in_channels: 8,
  out_channels: 4,
  time_embed_dim: 16,
  ofs_embed_dim: 16,
  text_embed_dim: 12,
  num_layers: 2,
  sample_width: 12,
  sample_height: 8,
  sample_frames: 9,
  patch_size_t: 2,
  max_text_seq_length: settings.max_length,
  use_rotary_positional_embeddings: true,
  patch_bias: false,
} as const;

/** Configurations that no published model has, and the latents' size for each: [F, C, H, W]. */
const VARIANTS: Record<
  string,
  [changes: Partial<CogVideoXTransformer3DModelConfig>, size: [number, number, number, number]]
> = {
  plain_norms: [
    {
      activation_fn: "gelu",
      attention_bias: false,
      norm_elementwise_affine: false,
      norm_eps: 1e-3,
      flip_sin_to_cos: false,
      freq_shift: 1,
      timestep_activation_fn: "gelu",
    },
    [4, 8, 4, 6],
  ],
  large_patches: [
    {
      activation_fn: "geglu",
      timestep_activation_fn: "mish",
      patch_size: 4,
      patch_size_t: 3,
      ofs_embed_dim: null,
    },
    [6, 8, 8, 4],
  ],
  fixed_positions: [
    {
      activation_fn: "swiglu",
      timestep_activation_fn: "relu",
      patch_size_t: null,
      patch_bias: true,
      use_rotary_positional_embeddings: false,
      spatial_interpolation_scale: 1.5,
      temporal_interpolation_scale: 2,
    },
    [3, 8, 4, 6],
  ],
  wide: [
    {
      activation_fn: "geglu-approximate",
      num_attention_heads: 3,
      attention_head_dim: 32,
      out_channels: 5,
      time_embed_dim: 20,
      ofs_embed_dim: 20,
    },
    [2, 8, 2, 2],
  ],
  stored_positions: [
    {
      activation_fn: "linear-silu",
      patch_size_t: null,
      ofs_embed_dim: null,
      sample_frames: 13,
      sample_height: 4,
      sample_width: 6,
      temporal_compression_ratio: 4,
      use_learned_positional_embeddings: true,
    },
    [4, 8, 4, 6],
  ],
};

let folder: string;
let ours: CogVideoXImageToVideoPipeline;
let inputs: Record<string, tf.Tensor>;
let outputs: Record<string, tf.Tensor>;

/** Moves biases and norms off their first values, so that each one matters. */
function jitter(model: Model, generator: RandomGenerator): void {
  for (const parameter of model.parameters.values()) {
    if (parameter.shape.length !== 1) continue;
    const values = Float32Array.from(
      parameter.value.dataSync() as Float32Array,
      (v) => v + generator.normal(0, 0.2),
    );
    parameter.set(values);
  }
}

before(async () => {
  if (skip) return;
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-roundtrip-"));
  const generator = new RandomGenerator(5);
  const words =
    "a the red blue ball star moves drift left right up slowly over dark ground camera pans".split(" ");
  const letters = [..."abcdefghijklmnopqrstuvwxyzSTAR.,;"];
  const tokenizer = T5Tokenizer.fromVocabulary([
    ...words.map((word, i): [string, number] => [`▁${word}`, -3 - i / 20]),
    ["▁", -6],
    ...letters.map((letter, i): [string, number] => [letter, -8 - i / 50]),
  ]);
  const textEncoder = T5EncoderModel.fromConfig(
    {
      vocab_size: tokenizer.vocabSize,
      d_model: 12,
      d_kv: 5,
      d_ff: 20,
      num_layers: 2,
      num_heads: 3,
      feed_forward_proj: "gated-gelu",
    },
    generator,
  );
  const vae = AutoencoderKLCogVideoX.fromConfig(
    {
      block_out_channels: [8, 8, 16, 16],
      latent_channels: 4,
      layers_per_block: 1,
      norm_num_groups: 4,
      scaling_factor: 0.7,
      invert_scale_latents: true,
    },
    generator,
  );
  const transformer = CogVideoXTransformer3DModel.fromConfig(TRANSFORMER, generator);
  for (const model of [textEncoder, vae, transformer]) jitter(model, generator);
  const scheduler = new CogVideoXDDIMScheduler(TINY_SCHEDULER);
  ours = new CogVideoXImageToVideoPipeline({ tokenizer, textEncoder, vae, transformer, scheduler });
  const here = join(folder, "ours");
  await ours.savePretrained(join(here, "pipeline"));

  const lora = { r: 4, loraAlpha: 2, targetModules: LORA_TARGET_MODULES, initLoraWeights: false };
  transformer.addAdapter(lora, { generator });
  await ours.saveLoraWeights(join(here, "lora"), { metadata: false });
  await ours.saveLoraWeights(join(here, "lora_with_metadata"));
  await transformer.saveLoraAdapter(join(here, "lora_peft"), { format: "peft" });
  const patterns = { rankPattern: { to_v: 2 }, alphaPattern: { "1.attn1.to_q": 6, "attn1.to_.*": 3 } };
  transformer.addAdapter({ ...lora, ...patterns }, { adapterName: "patterned", generator });
  await ours.saveLoraWeights(join(here, "lora_patterned"), { adapterName: "patterned" });
  transformer.setAdapters([]);

  const latentShape: [number, number, number, number, number] = [1, 4, 4, 4, 6];
  inputs = {
    hidden_states: generator.randn([2, 4, 8, 4, 6]),
    encoder_hidden_states: generator.randn([2, settings.max_length, 12]),
    timesteps: tf.tensor1d([999, 137], "int32"),
    video: tf.clipByValue(generator.randn([1, 3, 9, 32, 48]), -1, 1),
    image: tf.clipByValue(tf.mul(generator.randn([1, 3, 32, 48]), 0.3), 0, 1),
    latents: generator.randn(latentShape),
    image_noise: generator.randn([1, 4, 1, 4, 6]),
    step_noise0: generator.randn(latentShape),
    step_noise1: generator.randn(latentShape),
    step_noise2: generator.randn(latentShape),
  };
  for (const [name, [changes, size]] of Object.entries(VARIANTS)) {
    const variant = CogVideoXTransformer3DModel.fromConfig({ ...TRANSFORMER, ...changes }, generator);
    jitter(variant, generator);
    await variant.savePretrained(join(here, "variants", name));
    variant.dispose();
    inputs[`${name}.hidden_states`] = generator.randn([1, ...size]);
    inputs[`${name}.encoder_hidden_states`] = generator.randn([1, settings.max_length, 12]);
  }
  const small = JSON.parse(await readFile(join(SMALL, "transformer", "config.json"), "utf8")) as {
    in_channels: number;
  };
  inputs["small.hidden_states"] = generator.randn([1, 6, small.in_channels, 8, 12]);
  await saveFile(inputs, join(here, "inputs.safetensors"));
  await writeFile(
    join(here, "settings.json"),
    JSON.stringify({ ...settings, variants: Object.keys(VARIANTS), small: SMALL, caption }),
  );
  runPython("reference.py", folder);
  outputs = await loadFile(join(folder, "theirs", "outputs.safetensors"));
});

after(async () => {
  if (skip) return;
  await rm(folder, { recursive: true, force: true });
});

function close(mine: tf.Tensor, name: string, tolerance = 2e-5): void {
  const reference = outputs[name]!;
  assert.deepEqual(mine.shape, reference.shape, name);
  const [a, b] = [mine.dataSync(), reference.dataSync()];
  const largest = Math.max(...Array.from(b, Math.abs));
  const worst = Math.max(...Array.from(b, (value, i) => Math.abs(value - a[i]!)));
  assert.ok(worst <= tolerance * largest, `${name}: differs by ${worst} of ${largest}`);
}

function forward(
  transformer: CogVideoXTransformer3DModel,
  hiddenStates = inputs.hidden_states as tf.Tensor5D,
  encoderHiddenStates = inputs.encoder_hidden_states as tf.Tensor3D,
  timestep: PerSample = inputs.timesteps as tf.Tensor1D,
): tf.Tensor5D {
  const [, frames, , height, width] = hiddenStates.shape;
  return tf.tidy(() => {
    const imageRotaryEmb = trainingRotaryTables(transformer.config, { frames, height, width });
    return transformer.forward({ hiddenStates, encoderHiddenStates, timestep, ofs: 2, imageRotaryEmb })
      .sample;
  });
}

test("diffusers loads our pipeline and its parts give the same output", { skip }, async () => {
  close(forward(ours.transformer), "sample");
  close(ours.vae.encode(inputs.video as tf.Tensor5D).latentDist.parameters, "moments");
  const { inputIds } = ours.tokenizer!.encode(settings.prompts, { maxLength: settings.max_length });
  assert.deepEqual(inputIds, JSON.parse(await readFile(join(folder, "theirs", "tokens.json"), "utf8")));
  close(ours.textEncoder!.forward({ inputIds }).lastHiddenState, "prompt_embeds");
});

test("diffusers loads the repository's own small pipeline, and it gives the same output", {
  skip,
}, async () => {
  const small = await CogVideoXImageToVideoPipeline.fromPretrained(SMALL);
  const { promptEmbeds } = small.encodePrompt({ prompt: caption, doClassifierFreeGuidance: false });
  close(promptEmbeds, "small.prompt_embeds");
  const hiddenStates = inputs["small.hidden_states"] as tf.Tensor5D;
  close(forward(small.transformer, hiddenStates, promptEmbeds, 437), "small.sample");
  small.dispose();
});

test("configurations that no published model has give the same output", { skip }, async () => {
  for (const name of Object.keys(VARIANTS)) {
    const variant = await CogVideoXTransformer3DModel.fromPretrained(join(folder, "ours/variants", name));
    const text = inputs[`${name}.encoder_hidden_states`] as tf.Tensor3D;
    close(forward(variant, inputs[`${name}.hidden_states`] as tf.Tensor5D, text, 437), `variant.${name}`);
    variant.dispose();
  }
});

test("the whole pipeline gives diffusers' frames", { skip }, async () => {
  class Tape extends RandomGenerator {
    readonly #draws = ["image_noise", "step_noise0", "step_noise1", "step_noise2"];
    override randn<R extends tf.Rank>(): tf.Tensor<R> {
      return inputs[this.#draws.shift()!]!.clone() as tf.Tensor<R>;
    }
  }
  for (const kind of ["ddim", "dpm"] as const) {
    const Scheduler = kind === "dpm" ? CogVideoXDPMScheduler : CogVideoXDDIMScheduler;
    ours.scheduler = Scheduler.fromConfig(ours.scheduler.config);
    const { frames } = await ours.generate({
      image: inputs.image as tf.Tensor4D,
      prompt: settings.prompts[0]!,
      negativePrompt: settings.negative,
      height: settings.height,
      width: settings.width,
      numFrames: settings.num_frames,
      numInferenceSteps: settings.steps,
      latents: inputs.latents as tf.Tensor5D,
      generator: new Tape(0),
      outputType: "pt",
    });
    close(frames, `frames_${kind}`, 1e-4);
  }
});

test("our LoRA gives the same output in diffusers and in PEFT", { skip }, () => {
  const { transformer } = ours;
  // Files without alpha stand for a scale of 1, which set_adapters then changes: alpha 2 of rank 4.
  transformer.setAdapters("default", 1);
  close(forward(transformer), "sample_lora");
  close(forward(transformer), "sample_lora_metadata");
  close(forward(transformer), "sample_lora_peft");
  transformer.fuseLora();
  close(forward(transformer), "sample_lora_fused");
  transformer.unfuseLora();
  transformer.setAdapters("patterned");
  close(forward(transformer), "sample_lora_patterned");
  transformer.setAdapters(["patterned", "default"], [0.5, -2]);
  close(forward(transformer), "sample_lora_two");
  transformer.setAdapters([]);
  close(forward(transformer), "sample");
});

test("LoRAs that diffusers and PEFT wrote give the same output here", { skip }, async () => {
  for (const [name, options] of [
    ["lora", { loraAlpha: 2 }],
    ["lora_with_metadata", {}],
    ["lora_peft", {}],
  ] as const) {
    const transformer = await CogVideoXTransformer3DModel.fromPretrained(
      join(folder, "ours/pipeline/transformer"),
    );
    const { layers } = await transformer.loadLoraAdapter(join(folder, "theirs", name), options);
    // diffusers knew no alpha when it read the file, and took the rank.
    const scale = name === "lora_with_metadata" ? settings.lora_scale : 1;
    transformer.setAdapters("default", scale);
    assert.equal(layers.size, 2 * LORA_TARGET_MODULES.length);
    close(forward(transformer), "sample_lora");
    transformer.dispose();
  }
});

test("folders that diffusers wrote load here: float32, bfloat16 in shards, the whole pipeline", {
  skip,
}, async () => {
  const theirs = join(folder, "theirs");
  const half = join(theirs, "transformer_bf16");
  assert.ok(
    (await readdir(half)).filter((name) => name.endsWith(".safetensors")).length > 1,
    "several shards",
  );
  const widened = await CogVideoXTransformer3DModel.fromPretrained(half);
  close(forward(widened), "sample_bf16");
  widened.dispose();

  const pipe = await CogVideoXImageToVideoPipeline.fromPretrained(join(theirs, "pipeline"));
  close(forward(pipe.transformer), "sample");
  close(pipe.vae.encode(inputs.video as tf.Tensor5D).latentDist.parameters, "moments");
  const { promptEmbeds, negativePromptEmbeds } = pipe.encodePrompt({ prompt: settings.prompts });
  close(promptEmbeds, "prompt_embeds");
  assert.equal(negativePromptEmbeds!.shape[0], 2);
  assert.deepEqual(pipe.scheduler.config, ours.scheduler.config);
  pipe.dispose();

  // Text-to-video takes a folder of image-to-video's too, as in diffusers.
  const text = await CogVideoXPipeline.fromPretrained(join(theirs, "pipeline"), {
    tokenizer: null,
    textEncoder: null,
  });
  assert.equal(text.textEncoder, null);
  text.dispose();
});
