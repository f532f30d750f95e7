import { InputError } from "../../errors.js";
import * as tf from "../../tf.js";

/** Swaps the two features of each pair (2i, 2i + 1). */
function swapPairs(x: tf.Tensor): tf.Tensor {
  return tf.reshape(tf.reverse(tf.reshape(x, [x.size / 2, 2]), 1), x.shape);
}

/** Rotates pairs of features; the tables have a shape that x's axes repeat. */
export const applyRotary = (x: tf.Tensor, { cos, sin }: { cos: tf.Tensor; sin: tf.Tensor }): tf.Tensor =>
  tf.add(tf.mul(x, cos), tf.mul(swapPairs(x), sin));

/** The gradient of {@link applyRotary}, which is the inverse rotation. */
export const undoRotary = (dy: tf.Tensor, { cos, sin }: { cos: tf.Tensor; sin: tf.Tensor }): tf.Tensor =>
  tf.add(tf.mul(dy, cos), swapPairs(tf.mul(dy, sin)));

/** Rotary tables for the video tokens; each frequency occurs twice in a row, for the pair (2i, 2i + 1). */
export interface RotaryTables {
  /** [F * H * W, head dimension] */
  cos: tf.Tensor2D;
  /** [F * H * W, head dimension] */
  sin: tf.Tensor2D;
}

/** Rotary tables (Su et al. 2021, arXiv 2104.09864) for the whole sequence, with the rotation's sign in the sines. */
export interface SignedRotaryTables {
  /** [sequence, features] */
  cos: tf.Tensor2D;
  /** [sequence, features]; the first of each pair is negated. */
  sin: tf.Tensor2D;
}

/**
 * Extends rotary tables of the video tokens to the whole sequence, whose first tokens (the text) are not rotated.
 *
 * @param cos [video tokens, features]
 * @param sin as cos
 * @throws InputError if the tables are not [videoTokens, features] both.
 */
export function signedRotaryTables(
  { cos, sin }: { cos: tf.Tensor2D; sin: tf.Tensor2D },
  { textTokens, videoTokens, features }: { textTokens: number; videoTokens: number; features: number },
): SignedRotaryTables {
  for (const [name, table] of Object.entries({ cos, sin })) {
    if (table.shape[0] !== videoTokens || table.shape[1] !== features) {
      throw new InputError(
        `rotary table ${name}: expected [${videoTokens}, ${features}] (video tokens, head dimension), found [${table.shape}]`,
      );
    }
  }
  return tf.tidy(() => {
    const sign = tf.tile(tf.tensor1d([-1, 1]), [features / 2]);
    return {
      cos: tf.concat2d([tf.ones([textTokens, features]), cos], 0),
      sin: tf.concat2d([tf.zeros([textTokens, features]), tf.mul(sin, sign)], 0),
    };
  });
}
