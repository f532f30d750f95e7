import * as tf from "../tf.js";

/** (x - mean) / sqrt(variance + eps) over the last axis, and 1 / sqrt(variance + eps). */
export function normalize(x: tf.Tensor, eps: number): { normal: tf.Tensor; rstd: tf.Tensor } {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const rstd = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), eps));
  return { normal: tf.mul(centred, rstd), rstd };
}

/** The gradient of {@link normalize} with respect to x. */
export function normalizeGradient(x: tf.Tensor, dNormal: tf.Tensor, eps: number): tf.Tensor {
  const { normal, rstd } = normalize(x, eps);
  const along = tf.mean(tf.mul(dNormal, normal), -1, true);
  return tf.mul(tf.sub(tf.sub(dNormal, tf.mean(dNormal, -1, true)), tf.mul(normal, along)), rstd);
}
