import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import { RandomGenerator } from "../engine/random.js";
import { T5EncoderModel } from "../models/text/t5-encoder.js";
import { CogVideoXTransformer3DModel } from "../models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import type { Parameter } from "../nn/module.js";
import { fromFloat32 } from "../weights/dtype.js";
import { captionTokenizer, recipeScheduler } from "./pipeline.js";
import { WORLD_NAMES } from "./scene.js";

/** Numbers that are drawn; large tensors repeat them, each from another place on. */
const DRAWN = 2 ** 20 + 7;
const STD = 0.02;
/** 1 as bfloat16. */
const ONE = 0x3f80;

export interface RealSizeOptions {
  /** The pipeline's folder. */
  readonly out: string;
  readonly seed: number;
  /** Blocks of the transformer and of T5, of 42 and 24: fewer for a folder that is not 21 GB. */
  readonly layers: number;
  readonly textLayers: number;
  readonly log: (line: string) => void;
}

/**
 * Writes a pipeline of the true size, CogVideoX1.5-5B-I2V with T5-XXL by their published configurations, with weights that mean
 * nothing: to try what memory and time the real one takes. Weights are bfloat16, in shards, about 21 GB in all.
 */
export async function makeRealSizePipeline(options: RealSizeOptions): Promise<void> {
  const { out, seed, layers, textLayers, log } = options;
  const generator = new RandomGenerator(seed);
  const normals = Float32Array.from({ length: DRAWN }, () => generator.normal(0, STD));
  const drawn = fromFloat32("BF16", normals) as Uint16Array;
  const values = async ({ name, shape, size }: Parameter): Promise<Uint16Array> => {
    if (shape.length === 1) return new Uint16Array(size).fill(name.endsWith("bias") ? 0 : ONE);
    const data = new Uint16Array(size);
    let from = generator.integer(0, DRAWN);
    for (let at = 0; at < size; from = 0) {
      const part = drawn.subarray(from, Math.min(DRAWN, from + size - at));
      data.set(part, at);
      at += part.length;
    }
    return data;
  };
  const pipeline = new CogVideoXImageToVideoPipeline({
    tokenizer: captionTokenizer(WORLD_NAMES),
    textEncoder: T5EncoderModel.fromConfig({
      ...{ vocab_size: 32128, d_model: 4096, d_kv: 64, d_ff: 10240, num_layers: textLayers, num_heads: 64 },
      feed_forward_proj: "gated-gelu",
    }),
    vae: AutoencoderKLCogVideoX.fromConfig({
      ...{ block_out_channels: [128, 256, 256, 512], latent_channels: 16, layers_per_block: 3 },
      ...{ scaling_factor: 0.7, invert_scale_latents: true },
    }),
    transformer: CogVideoXTransformer3DModel.fromConfig({
      ...{ num_attention_heads: 48, attention_head_dim: 64, num_layers: layers },
      ...{ in_channels: 32, out_channels: 16, time_embed_dim: 512, ofs_embed_dim: 512, text_embed_dim: 4096 },
      ...{ sample_height: 96, sample_width: 170, sample_frames: 81, patch_size_t: 2, patch_bias: false },
      use_rotary_positional_embeddings: true,
    }),
    scheduler: recipeScheduler(),
  });
  const { textEncoder, transformer, vae } = pipeline;
  for (const model of [textEncoder!, transformer, vae]) {
    log(`${model.constructor.name}: ${(model.numParameters() / 1e9).toFixed(2)} billion weights`);
  }
  await pipeline.savePretrained(out, { dtype: "bfloat16", maxShardSize: "5GB", values });
  log(out);
}
