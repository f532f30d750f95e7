import * as tf from "../../tf.js";
import { defineOperation } from "../operation.js";

/**
 * Applies an operation to each segment of sequences with that segment's own values.
 *
 * @param lengths tokens in each segment.
 * @param sequences [batch, sequence, features] each.
 * @param values [batch or 1, segments, features] each; the operation gets [batch or 1, 1, features].
 */
export function mapSegments(
  lengths: readonly number[],
  sequences: readonly tf.Tensor[],
  values: readonly tf.Tensor[],
  operation: (sequences: tf.Tensor[], values: tf.Tensor[]) => tf.Tensor,
): tf.Tensor {
  if (lengths.length === 1) return operation([...sequences], [...values]);
  let start = 0;
  const parts = lengths.map((length, i) => {
    const part = operation(
      sequences.map((x) => tf.slice(x, [0, start, 0], [-1, length, -1])),
      values.map((v) => tf.slice(v, [0, i, 0], [-1, 1, -1])),
    );
    start += length;
    return part;
  });
  return tf.concat(parts, 1);
}

interface SumAttributes {
  readonly lengths: readonly number[];
  /** 1 if the samples' sums are added up, else the number of samples. */
  readonly batch: number;
}

const sums = defineOperation<{ x: tf.Tensor }, SumAttributes>({
  name: "FirstframeSegmentSums",
  native: { inputs: ["x"], outputs: ["sums"], attributes: { lengths: "list(int)", batch: "int" } },
  forward({ x }, { lengths, batch }) {
    const axes = batch === 1 ? [0, 1] : [1];
    let start = 0;
    const parts = lengths.map((length) => {
      const part = lengths.length === 1 ? x : tf.slice(x, [0, start, 0], [-1, length, -1]);
      start += length;
      return tf.reshape(tf.sum(part, axes), [batch, 1, x.shape[2]!]);
    });
    return tf.concat(parts, 1);
  },
});

const dots = defineOperation<{ x: tf.Tensor; y: tf.Tensor }, SumAttributes>({
  name: "FirstframeSegmentDots",
  native: { inputs: ["x", "y"], outputs: ["sums"], attributes: { lengths: "list(int)", batch: "int" } },
  forward: ({ x, y }, attributes) => sums({ x: tf.mul(x, y) }, attributes)[0]!,
});

/**
 * The sums over each segment, as [batch or 1, segments, features], which are the gradients of the values.
 *
 * @param x [batch, sequence, features]
 * @param batch 1, or x's own.
 */
export function sumSegments(x: tf.Tensor, lengths: readonly number[], batch: number): tf.Tensor {
  return sums({ x }, { lengths, batch })[0]!;
}

/** Like {@link sumSegments}, for x * y. */
export function dotSegments(
  x: tf.Tensor,
  y: tf.Tensor,
  lengths: readonly number[],
  batch: number,
): tf.Tensor {
  return dots({ x, y }, { lengths, batch })[0]!;
}
