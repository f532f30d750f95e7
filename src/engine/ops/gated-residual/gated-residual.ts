import * as tf from "../../tf.js";
import { chunksOf, fromChunks } from "../modulated-norm/modulated-norm.js";
import { defineOperation } from "../operation.js";
import { dotSegments, mapSegments } from "../segments/segments.js";

export interface GatedResidualAttributes {
  /** Tokens in each segment of the sequence; they add up to its length. */
  readonly lengths: readonly number[];
  /** For each segment, which chunk of the modulation is its gate. */
  readonly chunks: readonly number[];
}

const gated = defineOperation<{ x: tf.Tensor; modulation: tf.Tensor }, GatedResidualAttributes>({
  name: "FirstframeGated",
  native: {
    inputs: ["x", "modulation"],
    outputs: ["y"],
    attributes: { lengths: "list(int)", chunks: "list(int)" },
  },
  forward: ({ x, modulation }, { lengths, chunks }) =>
    mapSegments(lengths, [x], [chunksOf(modulation, x.shape[2]!, chunks)], ([x], [gate]) =>
      tf.mul(x!, gate!),
    ),
});

type Inputs = { x: tf.Tensor; branch: tf.Tensor; modulation: tf.Tensor };

const gateGradient = defineOperation<Omit<Inputs, "x"> & { dy: tf.Tensor }, GatedResidualAttributes>({
  name: "FirstframeGateGrad",
  native: {
    inputs: ["branch", "modulation", "dy"],
    outputs: ["dModulation"],
    attributes: { lengths: "list(int)", chunks: "list(int)" },
  },
  forward: ({ branch, modulation, dy }, { lengths, chunks }) =>
    fromChunks([{ chunks, of: dotSegments(dy, branch, lengths, branch.shape[0]!) }], modulation.shape),
});

const operation = defineOperation<Inputs, GatedResidualAttributes>({
  name: "FirstframeGatedResidual",
  native: {
    inputs: ["x", "branch", "modulation"],
    outputs: ["y"],
    attributes: { lengths: "list(int)", chunks: "list(int)" },
  },
  forward: ({ x, branch, modulation }, attributes) =>
    tf.add(x, gated({ x: branch, modulation }, attributes)[0]!),
  save: { inputs: ["branch", "modulation"] },
  gradient: ([dy], [branch, modulation], attributes) => ({
    x: () => tf.clone(dy!),
    branch: () => gated({ x: dy!, modulation: modulation! }, attributes)[0]!,
    modulation: () => gateGradient({ branch: branch!, modulation: modulation!, dy: dy! }, attributes)[0]!,
  }),
});

/**
 * x + gate * branch, with one gate per sample and segment of the sequence.
 *
 * @param x [batch, sequence, features]
 * @param branch as x
 * @param modulation [batch, chunks * features]
 */
export function gatedResidual(
  x: tf.Tensor3D,
  branch: tf.Tensor3D,
  modulation: tf.Tensor2D,
  attributes: GatedResidualAttributes,
): tf.Tensor3D {
  return operation({ x, branch, modulation }, attributes)[0] as tf.Tensor3D;
}
