import * as tf from "../../tf.js";
import { type Affine, affineGradient, applyAffine, checkFeatures } from "../linear/linear.js";
import { defineOperation } from "../operation.js";

type Inputs = { y: tf.Tensor; x: tf.Tensor; a: tf.Tensor; b: tf.Tensor };
type Scale = { readonly scale: number };

const rowsOf = (x: tf.Tensor): tf.Tensor2D => tf.reshape(x, [-1, x.shape.at(-1)!]);

/** scale * x a^T, [rows, rank]. */
const lowOf = (x: tf.Tensor, a: tf.Tensor, scale: number) =>
  tf.mul(tf.matMul(rowsOf(x), a as tf.Tensor2D, false, true), scale) as tf.Tensor2D;

/** Gradients of x, a and b; that of x is added to `onto`, its gradient from elsewhere. */
const gradient = defineOperation<
  { dy: tf.Tensor; x: tf.Tensor; low: tf.Tensor; a: tf.Tensor; b: tf.Tensor; onto: tf.Tensor },
  Scale
>({
  name: "FirstframeLowRankGrad",
  native: {
    inputs: ["dy", "x", "low", "a", "b", "onto"],
    outputs: ["dx", "da", "db"],
    attributes: { scale: "float" },
    products: true,
  },
  forward({ dy, x, low, a, b, onto }, { scale }) {
    const rows = rowsOf(dy);
    const dLow = tf.mul(tf.matMul(rows, b as tf.Tensor2D), scale) as tf.Tensor2D;
    return [
      tf.add(onto, tf.reshape(tf.matMul(dLow, a as tf.Tensor2D), x.shape)),
      tf.matMul(dLow, rowsOf(x), true),
      tf.matMul(rows, low as tf.Tensor2D, true),
    ];
  },
});

const operation = defineOperation<Inputs, Scale>({
  name: "FirstframeLowRank",
  native: {
    inputs: ["y", "x", "a", "b"],
    outputs: ["sum", "low"],
    attributes: { scale: "float" },
    products: true,
  },
  forward({ y, x, a, b }, { scale }) {
    const low = lowOf(x, a, scale);
    return [tf.add(y, tf.reshape(tf.matMul(low, b as tf.Tensor2D, false, true), y.shape)), low];
  },
  save: { inputs: ["x", "a", "b"], outputs: [false, true] },
  gradient([dy], [x, a, b, low], attributes) {
    const [dx, da, db] = tf.tidy(() =>
      gradient({ dy: dy!, x: x!, low: low!, a: a!, b: b!, onto: tf.zerosLike(x!) }, attributes),
    ) as [tf.Tensor, tf.Tensor, tf.Tensor];
    return { y: () => tf.clone(dy!), x: () => dx, a: () => da, b: () => db };
  },
});

// The layer is passed in the attributes, so its weight must outlive the tape: a variable, not an intermediate tensor.
const adapted = defineOperation<Omit<Inputs, "y">, Scale & Affine>({
  name: "FirstframeAdaptedLinear",
  forward: ({ x, a, b }, { scale, ...layer }) => operation({ y: applyAffine(x, layer), x, a, b }, { scale }),
  save: { inputs: ["x", "a", "b"], outputs: [false, true] },
  gradient([dy], [x, a, b, low], { scale, ...layer }) {
    const [dx, da, db] = tf.tidy(() =>
      gradient({ dy: dy!, x: x!, low: low!, a: a!, b: b!, onto: affineGradient(dy!, layer) }, { scale }),
    ) as [tf.Tensor, tf.Tensor, tf.Tensor];
    return { x: () => dx, a: () => da, b: () => db };
  },
});

/**
 * y + scale * (x a^T) b^T: a linear layer's output with a low-rank update of its weight (Hu et al. 2021, arXiv
 * 2106.09685), whose full matrix is never computed.
 *
 * @param y [..., out]
 * @param x [..., in], with y's other axes
 * @param a [rank, in]
 * @param b [out, rank]
 */
export function addLowRank<T extends tf.Tensor>(
  y: T,
  x: tf.Tensor,
  a: tf.Tensor2D,
  b: tf.Tensor2D,
  scale: number,
): T {
  return tf.tidy(() => operation({ y, x, a, b }, { scale })[0] as T);
}

/**
 * A frozen linear layer with a low-rank update: {@link addLowRank} of its output, in one operation for the gradient.
 *
 * @param x [..., in]
 * @param layer its weight is a variable
 * @param a [rank, in]
 * @param b [out, rank]
 * @returns [..., out]
 * @throws InputError if x has another number of features than the weight.
 */
export function adaptedLinear<T extends tf.Tensor>(
  x: T,
  layer: Affine,
  a: tf.Tensor2D,
  b: tf.Tensor2D,
  scale: number,
): T {
  checkFeatures(x, layer);
  return tf.tidy(() => adapted({ x, a, b }, { ...layer, scale })[0] as T);
}
