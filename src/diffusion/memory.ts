import type { T5EncoderModel } from "../models/text/t5-encoder.js";
import type { CogVideoXTransformer3DModel } from "../models/transformer/transformer.js";
import type { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import type { Model, OffloadMode } from "../nn/module.js";
import { videoTokens } from "../recipe/geometry.js";
import type { ModelDtype, Quantization } from "../weights/dtype.js";

export interface SamplingMemoryQuestion {
  /** The models, by their configurations: weights need not be there. Null: prompt embeddings are given. The VAE's tiling counts if it is enabled. */
  readonly textEncoder: T5EncoderModel | null;
  readonly vae: AutoencoderKLCogVideoX;
  readonly transformer: CogVideoXTransformer3DModel;
  readonly dtype: ModelDtype;
  /** Of text encoder and transformer. */
  readonly quantization?: Quantization | null | undefined;
  /** As of `fromPretrained`. Default: all stays in memory. */
  readonly offload?: OffloadMode | undefined;
  /** The text encoder is gone before the rest is read, as in `firstframe sample`. Default false. */
  readonly promptsFirst?: boolean;
  /** Frames, height and width of the video, in pixels. */
  readonly numFrames: number;
  readonly height: number;
  readonly width: number;
  /** Whether there is guidance, which computes two samples. Default true. */
  readonly guidance?: boolean;
}

/** Bytes, by what they are for. */
export interface SamplingMemory {
  /** Weights that are in memory at once, of each part. */
  readonly textEncoder: number;
  readonly vae: number;
  readonly transformer: number;
  /** What the transformer computes with, beside its weights. */
  readonly denoising: number;
  /** The same of the VAE's decoder, and the video that it makes. */
  readonly decoding: number;
  /** The process with its engine, before any weights. */
  readonly engine: number;
  /** The largest sum of what is there at the same time. */
  readonly total: number;
}

/** Measured: Node.js, TensorFlow and this package. */
const ENGINE = 300e6;
/** Numbers that a transformer block computes with, per token and channel: the stream, its norm, and the widest layer before and after GELU. */
const BLOCK_PER_CHANNEL = 12;
/** Copies of a layer's features that the decoder has at once, in its last and largest layers; 8 were seen at 9x256x384. */
const DECODER_COPIES = 9;
/** Frames that the decoder computes together. */
const DECODER_FRAMES = 9;
const BYTES = 4;

/** Roughly what sampling takes at its peak; weights are exact, the rest is by the largest layers. */
export function estimateSamplingMemory(question: SamplingMemoryQuestion): SamplingMemory {
  const { textEncoder, vae, transformer, offload, promptsFirst = false, guidance = true } = question;
  const { dtype, quantization = null, numFrames, height, width } = question;
  const isStreamed = offload === "sequential";
  const weights = {
    textEncoder: textEncoder ? weightBytes(textEncoder, dtype, quantization, isStreamed) : 0,
    vae: weightBytes(vae, dtype, null, false),
    transformer: weightBytes(transformer, dtype, quantization, isStreamed),
  };
  const { config } = transformer;
  const ratios = {
    spatialRatio: vae.spatialCompressionRatio,
    temporalRatio: vae.config.temporal_compression_ratio,
  };
  const tokens = config.max_text_seq_length + videoTokens({ numFrames, height, width }, ratios, config);
  const inner = config.num_attention_heads * config.attention_head_dim;
  const denoising = tokens * inner * (guidance ? 2 : 1) * BLOCK_PER_CHANNEL * BYTES;
  const decoded = vae.useTiling
    ? Math.min(height, vae.tileSampleMinHeight) * Math.min(width, vae.tileSampleMinWidth)
    : height * width;
  const features = Math.min(numFrames, DECODER_FRAMES) * decoded * vae.config.block_out_channels[0]!;
  const video = numFrames * height * width * vae.config.out_channels;
  const decoding = (features * DECODER_COPIES + video) * BYTES;
  const rest = offload === undefined ? weights.vae + weights.transformer : 0;
  const after = offload === undefined && !promptsFirst ? weights.textEncoder : 0;
  const phases = [
    weights.textEncoder + (promptsFirst ? 0 : rest),
    after + Math.max(rest, weights.transformer) + denoising,
    after + Math.max(rest, weights.vae) + decoding,
  ];
  return { ...weights, denoising, decoding, engine: ENGINE, total: ENGINE + Math.max(...phases) };
}

/** What a model's weights take at once: all of them, or the largest block's and those of no block. */
function weightBytes(
  model: Model,
  dtype: ModelDtype,
  quantization: Quantization | null,
  isStreamed: boolean,
): number {
  const blocks = new Map<string, number>();
  let others = 0;
  for (const parameter of model.parameters.values()) {
    const bytes = parameter.bytesAs(dtype, quantization);
    const block = isStreamed ? model.blockOf(parameter.name) : undefined;
    if (block === undefined) others += bytes;
    else blocks.set(block, (blocks.get(block) ?? 0) + bytes);
  }
  return others + Math.max(0, ...blocks.values());
}
