import * as tf from "../../tf.js";
import { normalize, normalizeGradient } from "../normalize.js";
import { defineOperation } from "../operation.js";
import { dotSegments, mapSegments, sumSegments } from "../segments/segments.js";

export interface LayerNormAttributes {
  eps: number;
  /** Tokens in each segment of the sequence; they add up to its length. */
  lengths: readonly number[];
}

const inputGradient = defineOperation<{ x: tf.Tensor; scale: tf.Tensor; dy: tf.Tensor }, LayerNormAttributes>(
  {
    name: "FirstframeLayerNormGrad",
    native: {
      inputs: ["x", "scale", "dy"],
      outputs: ["dx"],
      attributes: { eps: "float", lengths: "list(int)" },
    },
    forward({ x, scale, dy }, { eps, lengths }) {
      const dNormal = mapSegments(lengths, [dy], [scale], ([dy], [scale]) => tf.mul(dy!, scale!));
      return normalizeGradient(x, dNormal, eps);
    },
  },
);

const operation = defineOperation<{ x: tf.Tensor; scale: tf.Tensor; shift: tf.Tensor }, LayerNormAttributes>({
  name: "FirstframeLayerNorm",
  native: {
    inputs: ["x", "scale", "shift"],
    outputs: ["y"],
    attributes: { eps: "float", lengths: "list(int)" },
  },
  forward: ({ x, scale, shift }, { eps, lengths }) =>
    mapSegments(lengths, [normalize(x, eps).normal], [scale, shift], ([normal], [scale, shift]) =>
      tf.add(tf.mul(normal!, scale!), shift!),
    ),
  save: { inputs: ["x", "scale"] },
  gradient: ([dy], [x, scale], attributes) => ({
    x: () => inputGradient({ x: x!, scale: scale!, dy: dy! }, attributes)[0]!,
    scale: () => dotSegments(dy!, normalize(x!, attributes.eps).normal, attributes.lengths, scale!.shape[0]!),
    shift: () => sumSegments(dy!, attributes.lengths, scale!.shape[0]!),
  }),
});

/**
 * Layer norm over the last axis (Ba et al. 2016, arXiv 1607.06450), then `* scale + shift`, which may differ from sample to
 * sample and from one segment of the sequence to the next.
 *
 * @param x [batch, sequence, features]
 * @param scale [batch or 1, segments, features]
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
