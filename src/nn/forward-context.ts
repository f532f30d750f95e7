import type { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";

/** What a forward pass carries through all layers. */
export interface ForwardContext {
  /** Factor on what LoRA adapters add. */
  readonly loraScale: number;
  /** Present where dropout is on: the masks are drawn from it. */
  readonly dropout?: RandomGenerator;
  /** Sees the output of every named module. */
  readonly hook?: (module: string, output: tf.Tensor) => void;
}

/** Dropout (Srivastava et al. 2014) with probability `rate`: nothing unless the pass has a generator for it. */
export function dropout<T extends tf.Tensor>(x: T, rate: number, { dropout }: ForwardContext): T {
  if (rate === 0 || !dropout) return x;
  const mask = new Float32Array(x.size);
  const kept = 1 / (1 - rate);
  for (let i = 0; i < mask.length; i++) mask[i] = dropout.uniform() < rate ? 0 : kept;
  return tf.tidy(() => tf.mul(x, tf.tensor(mask, x.shape)) as T);
}
