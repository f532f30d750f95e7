/** In what precision products are computed. Operations, backends and trainers import this; it imports nothing. */

/**
 * float32, or bfloat16: the factors of matrix products and of attention are rounded to bfloat16 where the engine has
 * instructions for it, and their sums are float32, as in PyTorch's autocast. Weights, norms, softmax, losses and optimizers are
 * float32 in both.
 */
export const PRECISIONS = ["float32", "bfloat16"] as const;

export type Precision = (typeof PRECISIONS)[number];

let current: Precision = "float32";

/** Sets the precision that products are computed in from now on. */
export function usePrecision(precision: Precision): void {
  current = precision;
}

/** The precision that products are computed in now. */
export const currentPrecision = (): Precision => current;

/**
 * Runs a function in a precision. The gradients of what it computes have the same, whenever they are taken.
 *
 * @param run synchronous: what is awaited would run after the precision has changed back.
 */
export function withPrecision<T>(precision: Precision, run: () => T): T {
  const before = current;
  current = precision;
  try {
    return run();
  } finally {
    current = before;
  }
}
