import { currentPrecision, withPrecision } from "../precision.js";
import * as tf from "../tf.js";
import { gradients } from "./tape.js";

export interface CheckpointOptions {
  /** Tensors that `f` uses but that need no gradient. */
  readonly constants?: readonly tf.Tensor[];
  /** Variables in `f` that need a gradient. */
  readonly variables?: readonly tf.Variable[];
}

/**
 * Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): runs `f` without recording what it computes, and runs
 * it again when its gradient is needed.
 *
 * @param f gets the inputs, then the constants, and must use no other tensors except variables; it must return the same
 *   each time.
 * @param inputs tensors that need a gradient.
 */
export function checkpoint<T extends tf.Tensor>(
  f: (...tensors: tf.Tensor[]) => T,
  inputs: readonly tf.Tensor[],
  { constants = [], variables = [] }: CheckpointOptions = {},
): T {
  const precision = currentPrecision();
  const operation = tf.customGrad((...given) => {
    (given.at(-1) as tf.GradSaveFunc)([...inputs, ...constants]);
    return {
      value: f(...inputs, ...constants) as tf.Tensor,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) =>
        tf.tidy(() => {
          const xs = [...saved.slice(0, inputs.length), ...variables];
          const again = () => f(...saved);
          const { grads } = gradients(() => withPrecision(precision, again), xs, { dy });
          // A variable without influence on the result, such as an adapter that is off, has no gradient.
          return grads.map((gradient, i) => gradient ?? tf.zerosLike(xs[i]!));
        }),
    };
  });
  return operation(...inputs, ...variables) as T;
}
