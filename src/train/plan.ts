import * as tf from "../engine/tf.js";
import type { CogVideoXTransformer3DModelConfig } from "../models/transformer/transformer.js";
import { type CompressionRatios, videoTokens } from "../recipe/geometry.js";
import type { ModelDtype } from "../weights/dtype.js";
import type { Bucket } from "./dataset.js";

/** Bytes that a training takes, by what they are for. */
export interface MemoryEstimate {
  readonly weights: number;
  readonly gradients: number;
  readonly optimizer: number;
  readonly ema: number;
  readonly activations: number;
  readonly total: number;
}

export interface MemoryQuestion extends CompressionRatios {
  readonly config: CogVideoXTransformer3DModelConfig;
  /** Numbers in all models that stay loaded. */
  readonly parameters: number;
  readonly trainable: number;
  /** Numbers that the optimizer remembers. Default: AdamW's, two per weight. */
  readonly optimizerState?: number;
  readonly ema: boolean;
  readonly bucket: Bucket;
  readonly batchSize: number;
  readonly gradientCheckpointing: boolean;
  /** Format of the weights that are not trained. Default float32. */
  readonly frozenDtype?: ModelDtype;
}

/** Numbers that a transformer block keeps for its gradient, per token and channel (Korthikanti et al. 2022, arXiv 2205.05198). */
const KEPT_PER_CHANNEL = 17;
const BYTES = 4;

/** Tokens of one sample: its text's and its video's patches. */
export function countTokens(
  config: CogVideoXTransformer3DModelConfig,
  bucket: Bucket,
  ratios: CompressionRatios,
): number {
  return config.max_text_seq_length + videoTokens(bucket, ratios, config);
}

/** Roughly what a training step takes at its peak; attention is computed in blocks and adds little. */
export function estimateMemory(question: MemoryQuestion): MemoryEstimate {
  const { config, trainable, batchSize, gradientCheckpointing, frozenDtype } = question;
  const tokens = countTokens(config, question.bucket, question);
  const inner = config.num_attention_heads * config.attention_head_dim;
  const stream = tokens * inner * batchSize * BYTES;
  const activations = gradientCheckpointing
    ? stream * (config.num_layers + KEPT_PER_CHANNEL)
    : stream * config.num_layers * KEPT_PER_CHANNEL;
  const parts = {
    weights: trainable * BYTES + (question.parameters - trainable) * (frozenDtype === "bfloat16" ? 2 : BYTES),
    gradients: trainable * BYTES,
    optimizer: (question.optimizerState ?? 2 * trainable) * BYTES,
    ema: question.ema ? trainable * BYTES : 0,
    activations,
  };
  return { ...parts, total: Object.values(parts).reduce((sum, value) => sum + value, 0) };
}

/** "1.2 GB", by powers of 1000. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${Number((bytes / 1000 ** power).toPrecision(3))} ${units[power]}`;
}

/** "5.57 B", "66.1 M". */
export function formatCount(count: number): string {
  const units = ["", " K", " M", " B"];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(count) / 3));
  return `${Number((count / 1000 ** power).toPrecision(3))}${units[power]}`;
}

/** "45 s", "12 min", "3 h 20 min". */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Memory in use: of the process, and of the engine's tensors. */
export function memoryInUse(): { readonly process: number; readonly tensors: number } {
  return { process: process.memoryUsage.rss(), tensors: tf.memory().numBytes };
}
