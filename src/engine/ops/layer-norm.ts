import * as tf from "../tf.js";
import { defineOperation } from "./operation.js";
import { mapStretches, sumStretches } from "./stretches.js";

export interface LayerNormAttributes {
  eps: number;
  /** Tokens in each stretch of the sequence; they add up to its length. */
  lengths: readonly number[];
}

/** (x - mean) / sqrt(variance + eps) over the last axis, and 1 / sqrt(variance + eps). */
function normalize(x: tf.Tensor, eps: number): { normal: tf.Tensor; rstd: tf.Tensor } {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const rstd = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), eps));
  return { normal: tf.mul(centred, rstd), rstd };
}

const inputGradient = defineOperation<{ x: tf.Tensor; scale: tf.Tensor; dy: tf.Tensor }, LayerNormAttributes>(
  {
    name: "FirstframeLayerNormGrad",
    forward({ x, scale, dy }, { eps, lengths }) {
      const { normal, rstd } = normalize(x, eps);
      const dn = mapStretches(lengths, [dy], [scale], ([dy], [scale]) => tf.mul(dy!, scale!));
      const along = tf.mean(tf.mul(dn, normal), -1, true);
      return tf.mul(tf.sub(tf.sub(dn, tf.mean(dn, -1, true)), tf.mul(normal, along)), rstd);
    },
  },
);

const operation = defineOperation<{ x: tf.Tensor; scale: tf.Tensor; shift: tf.Tensor }, LayerNormAttributes>({
  name: "FirstframeLayerNorm",
  forward: ({ x, scale, shift }, { eps, lengths }) =>
    mapStretches(lengths, [normalize(x, eps).normal], [scale, shift], ([normal], [scale, shift]) =>
      tf.add(tf.mul(normal!, scale!), shift!),
    ),
  save: { inputs: ["x", "scale"] },
  gradient: ([dy], [x, scale], attributes) => ({
    x: () => inputGradient({ x: x!, scale: scale!, dy: dy! }, attributes)[0]!,
    scale: () =>
      sumStretches(tf.mul(dy!, normalize(x!, attributes.eps).normal), attributes.lengths, scale!.shape),
    shift: () => sumStretches(dy!, attributes.lengths, scale!.shape),
  }),
});

/**
 * Layer norm over the last axis (Ba et al. 2016, arXiv 1607.06450), then `* scale + shift`. Scale and shift may
 * differ from sample to sample and from one stretch of the sequence to the next: that is what modulation by a
 * condition (adaLN; Peebles and Xie 2022, arXiv 2212.09748) comes to, with text and video tokens in one sequence.
 *
 * @param x [batch, sequence, features]
 * @param scale [batch or 1, stretches, features]
 * @param shift as scale
 */
export function layerNorm(
  x: tf.Tensor3D,
  scale: tf.Tensor3D,
  shift: tf.Tensor3D,
  attributes: LayerNormAttributes,
): tf.Tensor3D {
  return operation({ x, scale, shift }, attributes)[0] as tf.Tensor3D;
}
