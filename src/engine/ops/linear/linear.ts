import { InputError } from "../../errors.js";
import * as tf from "../../tf.js";
import { defineOperation } from "../operation.js";
import { sumSegments } from "../segments/segments.js";
import { type HeldWeight, heldProduct } from "./held.js";
import { type Int8Weight, int8Product } from "./int8.js";

export interface LinearOptions {
  /** The weight is [in, out] instead of PyTorch's [out, in]. */
  inOut?: boolean;
  /** Weight and bias need no gradient, so the tape need not keep `x`. */
  frozen?: boolean;
}

type Trained = { x: tf.Tensor; weight: tf.Tensor; bias?: tf.Tensor };
type Frozen = { x: tf.Tensor };

/** A weight of more than two axes counts as [out, all the rest]. */
const matrix = (weight: tf.Tensor): tf.Tensor2D =>
  weight.rank === 2 ? (weight as tf.Tensor2D) : tf.reshape(weight, [weight.shape[0]!, -1]);

type Factors = { a: tf.Tensor; b: tf.Tensor };
type Transposed = { transposeA: boolean; transposeB: boolean };

/** A matrix of all rows, whatever the axes before the last one. */
const rowsOf = (x: tf.Tensor): tf.Tensor2D => tf.reshape(x, [-1, x.shape.at(-1)!]);

function product({ a, b }: Factors, { transposeA, transposeB }: Transposed): tf.Tensor {
  const y = tf.matMul(rowsOf(a), rowsOf(b), transposeA, transposeB);
  return transposeA ? y : tf.reshape(y, [...a.shape.slice(0, -1), y.shape[1]!]);
}

const matMul = defineOperation<Factors, Transposed>({
  name: "FirstframeMatMul",
  native: {
    inputs: ["a", "b"],
    outputs: ["y"],
    attributes: { transposeA: "bool", transposeB: "bool" },
    products: true,
  },
  forward: product,
});

const matMulBias = defineOperation<Factors & { bias: tf.Tensor }, Transposed>({
  name: "FirstframeMatMulBias",
  native: {
    inputs: ["a", "b", "bias"],
    outputs: ["y"],
    attributes: { transposeA: "bool", transposeB: "bool" },
    products: true,
  },
  forward: ({ bias, ...factors }, transposed) => tf.add(product(factors, transposed), bias),
});

const multiply = (x: tf.Tensor, weight: tf.Tensor, transposeB: boolean) =>
  matMul({ a: x, b: matrix(weight) }, { transposeA: false, transposeB })[0]!;

/** A weight as float32, or one that is held as bfloat16 or int8, which is frozen. */
export type Weight = tf.Tensor | HeldWeight | Int8Weight;

const isHeld = (weight: Weight): weight is HeldWeight | Int8Weight => "held" in weight;

const heldWith = (
  x: tf.Tensor,
  weight: HeldWeight | Int8Weight,
  bias: tf.Tensor | null | undefined,
  transposed: boolean,
): tf.Tensor =>
  "scale" in weight ? int8Product(x, weight, bias, transposed) : heldProduct(x, weight, bias, transposed);

/** A linear layer's tensors; a float32 weight is [in, out] if `inOut`. */
export interface Affine {
  readonly weight: Weight;
  readonly bias?: tf.Tensor | null;
  readonly inOut: boolean;
}

/** {@link linear} for use inside an operation, where nothing is differentiated. */
export function applyAffine(x: tf.Tensor, { weight, bias, inOut }: Affine): tf.Tensor {
  if (isHeld(weight)) return heldWith(x, weight, bias, false);
  return bias
    ? matMulBias({ a: x, b: matrix(weight), bias }, { transposeA: false, transposeB: !inOut })[0]!
    : multiply(x, weight, !inOut);
}

/** What {@link applyAffine} passes to the gradient of x. */
export const affineGradient = (dy: tf.Tensor, { weight, inOut }: Affine): tf.Tensor =>
  isHeld(weight) ? heldWith(dy, weight, null, true) : multiply(dy, weight, inOut);

const trained = defineOperation<Trained, { inOut: boolean }>({
  name: "FirstframeLinear",
  forward: ({ x, ...layer }, { inOut }) => applyAffine(x, { ...layer, inOut }),
  save: { inputs: ["x", "weight"] },
  gradient: ([dy], [x, weight], { inOut }) => ({
    x: () => affineGradient(dy!, { weight: weight!, inOut }),
    weight: () => {
      const [left, right] = inOut ? [x!, dy!] : [dy!, x!];
      const [product] = matMul({ a: left, b: right }, { transposeA: true, transposeB: false });
      return tf.reshape(product!, weight!.shape);
    },
    bias: () => {
      const rows = rowsOf(dy!);
      return tf.reshape(sumSegments(tf.expandDims(rows, 0), [rows.shape[0]], 1), [rows.shape[1]]);
    },
  }),
});

// The weight is passed in the attributes, so it must outlive the tape: a variable, not an intermediate tensor.
const frozen = defineOperation<Frozen, Affine>({
  name: "FirstframeFrozenLinear",
  forward: ({ x }, layer) => applyAffine(x, layer),
  gradient: ([dy], _saved, layer) => ({ x: () => affineGradient(dy!, layer) }),
});

/** @throws InputError if x has another number of features than the weight. */
export function checkFeatures(x: tf.Tensor, { weight, inOut }: Affine): void {
  const features = isHeld(weight) ? weight.depth : inOut ? weight.shape[0]! : weight.size / weight.shape[0]!;
  if (x.shape.at(-1) !== features) {
    throw new InputError(`linear: expected ${features} features, found a tensor of shape [${x.shape}]`);
  }
}

/**
 * x times a weight matrix, plus a bias, over the last axis.
 *
 * @param x [..., in]
 * @param weight [out, in], or [out, ...] with as many values in the other axes; a variable if it is frozen. One that is held
 *   as bfloat16 or int8 is always frozen.
 * @returns [..., out]
 * @throws InputError if x has another number of features than the weight.
 */
export function linear<T extends tf.Tensor>(
  x: T,
  weight: Weight,
  bias: tf.Tensor | null,
  { inOut = false, frozen: isFrozen = false }: LinearOptions = {},
): T {
  checkFeatures(x, { weight, inOut });
  const [y] =
    isFrozen || isHeld(weight)
      ? frozen({ x }, { weight, bias, inOut })
      : trained({ x, weight, ...(bias ? { bias } : {}) }, { inOut });
  return y as T;
}
