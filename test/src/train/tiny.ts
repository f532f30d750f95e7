/** A VAE, a transformer and a schedule of CogVideoX-1.5's kind that train in seconds. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CogVideoXDPMScheduler } from "../../../src/diffusion/dpm.js";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import type * as tf from "../../../src/engine/tf.js";
import { T5EncoderModel } from "../../../src/models/text/t5-encoder.js";
import { T5Tokenizer } from "../../../src/models/text/tokenizer.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { MemoryData } from "../../../src/train/data.js";
import type { TrainingModels } from "../../../src/train/trainer.js";
import { writeClip } from "../../../src/video/write.js";

const TEXT = { tokens: 4, features: 12 } as const;

export function tinyModels(seed = 0): TrainingModels & { dispose(): void } {
  const vae = AutoencoderKLCogVideoX.fromConfig(
    {
      block_out_channels: [8, 8, 16, 16],
      latent_channels: 4,
      layers_per_block: 1,
      norm_num_groups: 4,
      sample_height: 32,
      sample_width: 48,
    },
    new RandomGenerator(seed),
  );
  const transformer = CogVideoXTransformer3DModel.fromConfig(
    {
      num_attention_heads: 2,
      attention_head_dim: 16,
      in_channels: 8,
      out_channels: 4,
      time_embed_dim: 16,
      ofs_embed_dim: 16,
      text_embed_dim: TEXT.features,
      num_layers: 2,
      sample_width: 6,
      sample_height: 4,
      sample_frames: 9,
      patch_size: 2,
      patch_size_t: 2,
      max_text_seq_length: TEXT.tokens,
      use_rotary_positional_embeddings: true,
      patch_bias: false,
    },
    new RandomGenerator(seed + 1),
  );
  const scheduler = new CogVideoXDPMScheduler({
    prediction_type: "v_prediction",
    rescale_betas_zero_snr: true,
    snr_shift_scale: 1,
    timestep_spacing: "trailing",
  });
  const dispose = () => {
    vae.dispose();
    transformer.dispose();
  };
  return { vae, transformer, scheduler, dispose };
}

/** Words of the captions that procedural clips have. */
const WORDS = [
  "a an red orange yellow green blue purple pink white striped dotted checkered ball square triangle star hexagon",
  "drifts bounces turns in place right left up down and spinning clockwise counterclockwise cloudy wavy tiled sand sea",
  "meadow dusk slate background the camera holds still pans",
]
  .join(" ")
  .split(" ");

/** A folder as diffusers keeps a pipeline, with a text encoder that knows the captions' words. */
export async function writeTinyPipeline(folder: string): Promise<void> {
  const models = tinyModels();
  const tokenizer = T5Tokenizer.fromVocabulary([
    ["\u2581", -10],
    ...[...new Set(WORDS)].map((word): [string, number] => [`\u2581${word}`, -5]),
    ...[..."abcdefghijklmnopqrstuvwxyz.,;"].map((letter): [string, number] => [letter, -9]),
  ]);
  const textEncoder = T5EncoderModel.fromConfig(
    {
      vocab_size: tokenizer.vocabSize,
      d_model: TEXT.features,
      d_ff: 24,
      d_kv: 6,
      num_heads: 2,
      num_layers: 1,
    },
    new RandomGenerator(5),
  );
  const scheduler = models.scheduler as CogVideoXDPMScheduler;
  const pipeline = new CogVideoXImageToVideoPipeline({ ...models, scheduler, tokenizer, textEncoder });
  await pipeline.savePretrained(folder);
  textEncoder.dispose();
  models.dispose();
}

/** A data set in the recipe's layout: clips with their captions. */
export async function writeDataset(folder: string, count: number): Promise<void> {
  await mkdir(join(folder, "videos"), { recursive: true });
  const captions: string[] = [];
  const paths: string[] = [];
  for (let seed = 0; seed < count; seed++) {
    const { clip, caption } = proceduralClip({ seed, numFrames: 9, height: 32, width: 48 });
    await writeClip(join(folder, "videos", `${seed}.webp`), clip, { lossless: true });
    captions.push(caption);
    paths.push(`videos/${seed}.webp`);
  }
  await writeFile(join(folder, "prompts.txt"), `${captions.join("\n")}\n`);
  await writeFile(join(folder, "videos.txt"), `${paths.join("\n")}\n`);
}

/** An embedding that differs from caption to caption, in place of a text encoder's. */
export function captionEmbedding(caption: string): tf.Tensor2D {
  const seed = [...caption].reduce((sum, c) => (Math.imul(sum, 31) + c.charCodeAt(0)) | 0, 7);
  return new RandomGenerator(seed).randn<tf.Rank.R2>([TEXT.tokens, TEXT.features]) as tf.Tensor2D;
}

export function tinyData(vae: AutoencoderKLCogVideoX, count = 4): Promise<MemoryData> {
  const clips = Array.from({ length: count }, (_, seed) =>
    proceduralClip({ seed, numFrames: 9, height: 32, width: 48 }),
  );
  return MemoryData.fromClips(clips, {
    vae,
    encodePrompt: captionEmbedding,
    generator: new RandomGenerator(9),
  });
}
