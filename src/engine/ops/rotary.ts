import * as tf from "../tf.js";
import { defineOperation } from "./operation.js";

/** Exchanges the two features of each pair (2i, 2i + 1). */
function swapPairs(x: tf.Tensor): tf.Tensor {
  return tf.reshape(tf.reverse(tf.reshape(x, [x.size / 2, 2]), 1), x.shape);
}

type RotaryInputs = { x: tf.Tensor; cos: tf.Tensor; sin: tf.Tensor };

const inputGradient = defineOperation<{ dy: tf.Tensor; cos: tf.Tensor; sin: tf.Tensor }, object>({
  name: "FirstframeRotaryGrad",
  forward: ({ dy, cos, sin }) => tf.add(tf.mul(dy, cos), swapPairs(tf.mul(dy, sin))),
});

const operation = defineOperation<RotaryInputs, object>({
  name: "FirstframeRotary",
  forward: ({ x, cos, sin }) => tf.add(tf.mul(x, cos), tf.mul(swapPairs(x), sin)),
  save: { inputs: ["cos", "sin"] },
  gradient: ([dy], [cos, sin]) => {
    const constant = (): never => {
      throw new Error("rotary tables are constants: they have no gradient");
    };
    return {
      x: () => inputGradient({ dy: dy!, cos: cos!, sin: sin! }, {})[0]!,
      cos: constant,
      sin: constant,
    };
  },
});

/** Rotary tables as {@link applyRotary} takes them: for the whole sequence, the rotation's sign in the sines. */
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
 * @throws RangeError if the tables are not [videoTokens, features] both.
 */
export function signedRotaryTables(
  { cos, sin }: { cos: tf.Tensor2D; sin: tf.Tensor2D },
  { textTokens, videoTokens, features }: { textTokens: number; videoTokens: number; features: number },
): SignedRotaryTables {
  for (const [name, table] of Object.entries({ cos, sin })) {
    if (table.shape[0] !== videoTokens || table.shape[1] !== features) {
      throw new RangeError(
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

/**
 * Rotary position embedding (Su et al. 2021, arXiv 2104.09864) of interleaved pairs: each pair (2i, 2i + 1) turns by
 * its token's angle.
 *
 * @param x [batch, heads, sequence, features]
 */
export function applyRotary(x: tf.Tensor4D, { cos, sin }: SignedRotaryTables): tf.Tensor4D {
  return operation({ x, cos, sin }, {})[0] as tf.Tensor4D;
}
