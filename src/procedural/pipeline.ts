import { join } from "node:path";
import { CogVideoXDDIMScheduler } from "../diffusion/ddim.js";
import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import { RandomGenerator } from "../engine/random.js";
import { T5EncoderModel } from "../models/text/t5-encoder.js";
import { T5Tokenizer } from "../models/text/tokenizer.js";
import { CogVideoXTransformer3DModel } from "../models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import { proceduralClip } from "./clip.js";
import type { WorldName } from "./scene.js";
import { trainTextEncoder } from "./text-training.js";

/** Enough for every caption word to occur. */
const CAPTIONS = 2000;
/** Captions with one to three sprites have up to 46 tokens. */
const MAX_TEXT_LENGTH = 48;

export interface SmallPipelineOptions {
  /** The pipeline's folder. */
  readonly out: string;
  /** Its VAE's folder. Default: `vae` in `out`. */
  readonly vae?: string | undefined;
  readonly seed: number;
  /** The worlds whose caption words the tokenizer knows. */
  readonly worlds: readonly WorldName[];
  /** T5's blocks. */
  readonly textLayers: number;
  /** Optimizer steps in which T5 learns which words belong together; 0 leaves it as drawn. */
  readonly textSteps: number;
  /** The transformer's blocks. */
  readonly layers: number;
  readonly heads: number;
  /** In height and width; in time it is 2, as in CogVideoX-1.5. */
  readonly patchSize: number;
  readonly log: (line: string) => void;
}

/**
 * Makes the rest of a small pipeline around a small VAE, in diffusers' layout, so that everything runs offline.
 *
 * The tokenizer knows the words of the procedural clips' captions. T5 and the transformer, a small version of CogVideoX-1.5's,
 * get random weights from the seed, and T5 may be trained; `train.yaml` in notebooks/models/procedural then trains the
 * transformer. All weights are stored in float16, as the VAE's in `out` already are.
 */
export async function makeSmallPipeline(options: SmallPipelineOptions): Promise<void> {
  const { out, seed, worlds, textSteps, log } = options;
  const generator = new RandomGenerator(seed);
  const tokenizer = captionTokenizer(worlds);
  const vae = await AutoencoderKLCogVideoX.fromPretrained(options.vae ?? join(out, "vae"));
  const textEncoder = T5EncoderModel.fromConfig(
    {
      vocab_size: tokenizer.vocabSize,
      d_model: 64,
      d_kv: 16,
      d_ff: 128,
      num_layers: options.textLayers,
      num_heads: 4,
    },
    generator,
  );
  if (textSteps > 0) {
    const told = trainTextEncoder(textEncoder, tokenizer, {
      generator,
      worlds,
      steps: textSteps,
      maxLength: MAX_TEXT_LENGTH,
      onStep: (step, loss) => {
        if (step % 100 === 0) log(`text encoder, step ${step} of ${textSteps}: loss ${loss.toFixed(3)}`);
      },
    });
    log(`${(100 * told.direction).toFixed(1)} % of the sprites' words tell their sprite's direction`);
  }
  const transformer = CogVideoXTransformer3DModel.fromConfig(
    {
      num_attention_heads: options.heads,
      attention_head_dim: 32,
      patch_size: options.patchSize,
      in_channels: 2 * vae.config.latent_channels,
      out_channels: vae.config.latent_channels,
      time_embed_dim: 64,
      ofs_embed_dim: 64,
      text_embed_dim: 64,
      num_layers: options.layers,
      sample_width: vae.config.sample_width / vae.spatialCompressionRatio,
      sample_height: vae.config.sample_height / vae.spatialCompressionRatio,
      sample_frames: 81,
      patch_size_t: 2,
      max_text_seq_length: MAX_TEXT_LENGTH,
      use_rotary_positional_embeddings: true,
      patch_bias: false,
    },
    generator,
  );
  const scheduler = recipeScheduler();
  const pipeline = new CogVideoXImageToVideoPipeline({ tokenizer, textEncoder, vae, transformer, scheduler });
  await pipeline.savePretrained(out, { dtype: "float16" });
  log(`${out}: ${tokenizer.vocabSize} tokens`);
  pipeline.dispose();
}

/** The schedule that CogVideoX-1.5 is trained with. */
export const recipeScheduler = (): CogVideoXDDIMScheduler =>
  new CogVideoXDDIMScheduler({
    clip_sample: false,
    prediction_type: "v_prediction",
    timestep_spacing: "trailing",
    rescale_betas_zero_snr: true,
    snr_shift_scale: 1,
  });

/** Each caption word is a piece, with its log probability; single letters spell all other words. */
export function captionTokenizer(worlds: readonly WorldName[]): T5Tokenizer {
  const counts = new Map<string, number>();
  let total = 0;
  for (let seed = 0; seed < CAPTIONS; seed++) {
    const world = worlds[seed % worlds.length]!;
    const { caption } = proceduralClip({ seed, numFrames: 1, height: 8, width: 12, world });
    for (const piece of caption.replace(/(^| )/g, "▁").match(/▁\w+|[^\w▁]/g) ?? []) {
      counts.set(piece, (counts.get(piece) ?? 0) + 1);
      total += 1;
    }
  }
  const words = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  const letters = [..."▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:'-"];
  return T5Tokenizer.fromVocabulary([
    ...words.map(([piece, count]): [string, number] => [piece, Math.log(count / total)]),
    ...letters
      .filter((letter) => !counts.has(letter))
      .map((letter, i): [string, number] => [letter, -15 - i / 100]),
  ]);
}
