import { multiHeadAttention } from "../../../src/engine/ops/attention/attention.js";
import * as tf from "../../../src/engine/tf.js";

/** Attention of tensors [batch, heads, tokens, features], whose heads are packed side by side on the way. */
export function attend(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  options: { maxScores?: number } = {},
): tf.Tensor {
  const [batch, heads, tokens] = query.shape as [number, number, number, number];
  const packed = (x: tf.Tensor) =>
    tf.reshape<tf.Rank.R3>(tf.transpose(x, [0, 2, 1, 3]), [batch, x.shape[2]!, -1]);
  return tf.tidy(() => {
    const y = multiHeadAttention(packed(query), packed(key), packed(value), heads, options);
    return tf.transpose(tf.reshape(y, [batch, tokens, heads, -1]), [0, 2, 1, 3]);
  });
}
