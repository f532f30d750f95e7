import * as tf from "../tf.js";
import { defineOperation } from "./operation.js";
import { mapStretches, sumStretches } from "./stretches.js";

export interface GatedResidualAttributes {
  /** Tokens in each stretch of the sequence; they add up to its length. */
  lengths: readonly number[];
}

const scaled = (lengths: readonly number[], x: tf.Tensor, gate: tf.Tensor) =>
  mapStretches(lengths, [x], [gate], ([x], [gate]) => tf.mul(x!, gate!));

const operation = defineOperation<
  { x: tf.Tensor; branch: tf.Tensor; gate: tf.Tensor },
  GatedResidualAttributes
>({
  name: "FirstframeGatedResidual",
  forward: ({ x, branch, gate }, { lengths }) => tf.add(x, scaled(lengths, branch, gate)),
  save: { inputs: ["branch", "gate"] },
  gradient: ([dy], [branch, gate], { lengths }) => ({
    x: () => tf.clone(dy!),
    branch: () => scaled(lengths, dy!, gate!),
    gate: () => sumStretches(tf.mul(dy!, branch!), lengths, gate!.shape),
  }),
});

/**
 * x + gate * branch, with one gate a sample and stretch of the sequence.
 *
 * @param x [batch, sequence, features]
 * @param branch as x
 * @param gate [batch or 1, stretches, features]
 */
export function gatedResidual(
  x: tf.Tensor3D,
  branch: tf.Tensor3D,
  gate: tf.Tensor3D,
  attributes: GatedResidualAttributes,
): tf.Tensor3D {
  return operation({ x, branch, gate }, attributes)[0] as tf.Tensor3D;
}
