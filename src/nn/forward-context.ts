import type { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";

/** What a forward pass hands through all layers. */
export interface ForwardContext {
  /** Multiplies what LoRA adapters add. */
  readonly loraScale: number;
  /** Present if dropout is on: the masks are drawn from it. */
  readonly dropout?: RandomGenerator;
  /** Called with the output of every named module. */
  readonly hook?: (module: string, output: tf.Tensor) => void;
}

/** Dropout (Srivastava et al. 2014) with probability `rate`; does nothing unless the pass has a generator for it. */
export function dropout<T extends tf.Tensor>(x: T, rate: number, { dropout }: ForwardContext): T {
  if (rate === 0 || !dropout) return x;
  const mask = new Float32Array(x.size);
  const kept = 1 / (1 - rate);
  for (let i = 0; i < mask.length; i++) mask[i] = dropout.uniform() < rate ? 0 : kept;
  return tf.tidy(() => tf.mul(x, tf.tensor(mask, x.shape)) as T);
}
