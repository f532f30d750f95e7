/** A whole image-to-video pipeline of CogVideoX-1.5's kind, small enough for tests. */
import { CogVideoXDDIMScheduler } from "../../../src/diffusion/ddim.js";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import { T5EncoderModel } from "../../../src/models/text/t5-encoder.js";
import { T5Tokenizer } from "../../../src/models/text/tokenizer.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";

export const TINY_TRANSFORMER = {
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
  max_text_seq_length: 8,
  use_rotary_positional_embeddings: true,
  patch_bias: false,
} as const;

export const TINY_SCHEDULER = {
  clip_sample: false,
  prediction_type: "v_prediction",
  timestep_spacing: "trailing",
  rescale_betas_zero_snr: true,
  snr_shift_scale: 1,
} as const;

export function tinyTokenizer(): T5Tokenizer {
  const words = ["a", "red", "ball", "moves", "left", "right"];
  return T5Tokenizer.fromVocabulary([
    ...words.map((word, i): [string, number] => [`▁${word}`, -3 - i / 20]),
    ["▁", -6],
    ...[..."abcdefghijklmnopqrstuvwxyz"].map((c, i): [string, number] => [c, -8 - i / 50]),
  ]);
}

export function tinyPipeline(seed = 0): CogVideoXImageToVideoPipeline {
  const generator = new RandomGenerator(seed);
  const tokenizer = tinyTokenizer();
  const textEncoder = T5EncoderModel.fromConfig(
    { vocab_size: tokenizer.vocabSize, d_model: 12, d_kv: 5, d_ff: 20, num_layers: 1, num_heads: 3 },
    generator,
  );
  const vae = AutoencoderKLCogVideoX.fromConfig(
    { block_out_channels: [8, 8, 16, 16], latent_channels: 4, layers_per_block: 1, norm_num_groups: 4 },
    generator,
  );
  const transformer = CogVideoXTransformer3DModel.fromConfig(TINY_TRANSFORMER, generator);
  const scheduler = new CogVideoXDDIMScheduler(TINY_SCHEDULER);
  return new CogVideoXImageToVideoPipeline({ tokenizer, textEncoder, vae, transformer, scheduler });
}
