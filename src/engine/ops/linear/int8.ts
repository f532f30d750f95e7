/**
 * Weights that are held as int8 with one float32 scale for each output (weight-only quantisation, symmetric, per channel): a
 * quarter of float32's memory. For TensorFlow.js they are int32 tensors, four numbers in each.
 */
import { InputError } from "../../errors.js";
import * as tf from "../../tf.js";
import { defineOperation, hasOwnKernels } from "../operation.js";

/** The largest number that a weight is rounded to. */
export const LARGEST = 127;

/** A linear layer's weight that is held as int8: the numbers times the scales. */
export type Int8Weight = {
  readonly held: tf.Tensor;
  /** [out] */
  readonly scale: tf.Tensor;
  /** Features in. */
  readonly depth: number;
  /** Features out. */
  readonly columns: number;
};

/** @throws InputError if the running engine can't hold weights as int8. */
export function assertHoldsInt8(): void {
  if (!hasOwnKernels())
    throw new InputError(
      `quantization: int8 needs the tensorflow engine with its own operations, found ${tf.getBackend()}`,
      { hint: "run `firstframe engine install`" },
    );
}

type Shape = { readonly depth: number; readonly columns: number };
type Turned = Shape & { readonly transposeB: boolean };

const stepOf = (depth: number) => Math.ceil(depth / 4) * 4;

/** To the nearest whole number, ties to even. */
function roundToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

function quantised(weight: tf.Tensor2D): tf.Tensor[] {
  const [columns, depth] = weight.shape;
  const values = weight.dataSync();
  const step = stepOf(depth);
  const bytes = new Int8Array(columns * step);
  const scales = new Float32Array(columns);
  for (let n = 0; n < columns; n++) {
    let largest = 0;
    for (let k = 0; k < depth; k++) largest = Math.max(largest, Math.abs(values[n * depth + k]!));
    const scale = largest > 0 ? Math.fround(largest / LARGEST) : 1;
    scales[n] = scale;
    for (let k = 0; k < depth; k++)
      bytes[n * step + k] = roundToEven(Math.fround(values[n * depth + k]! / scale));
  }
  const held = tf.tensor2d(new Int32Array(bytes.buffer), [columns, step / 4], "int32");
  return [held, tf.tensor1d(scales)];
}

function unpacked(held: tf.Tensor, { depth, columns }: Shape): tf.Tensor2D {
  const bytes = new Int8Array((held.dataSync() as Int32Array).slice().buffer);
  const values = new Float32Array(columns * depth);
  for (let n = 0; n < columns; n++)
    values.set(bytes.subarray(n * stepOf(depth), n * stepOf(depth) + depth), n * depth);
  return tf.tensor2d(values, [columns, depth]);
}

const numbers = defineOperation<{ held: tf.Tensor }, Shape>({
  name: "FirstframeInt8Numbers",
  forward: ({ held }, shape) => unpacked(held, shape),
});

/** The whole numbers as float32, [out, in]. */
const numbersOf = (held: tf.Tensor, { depth, columns }: Shape): tf.Tensor2D =>
  numbers({ held }, { depth, columns })[0] as tf.Tensor2D;

type Held = { held: tf.Tensor; scale: tf.Tensor };

const widened = ({ held, scale }: Held, shape: Shape): tf.Tensor2D =>
  tf.mul(numbersOf(held, shape), tf.reshape(scale, [-1, 1]));

function product({ a, held, scale }: Held & { a: tf.Tensor }, { transposeB, ...shape }: Turned): tf.Tensor {
  const rows = tf.reshape(a, [-1, a.shape.at(-1)!]) as tf.Tensor2D;
  const y = transposeB
    ? tf.matMul(rows, widened({ held, scale }, shape))
    : tf.mul(tf.matMul(rows, numbersOf(held, shape), false, true), scale);
  return tf.reshape(y, [...a.shape.slice(0, -1), y.shape[1]!]);
}

const hold = defineOperation<{ weight: tf.Tensor2D }, object>({
  name: "FirstframeInt8Hold",
  native: { inputs: ["weight"], outputs: ["held", "scale"], integers: ["held"] },
  forward: ({ weight }) => quantised(weight),
});

const release = defineOperation<Held, Shape>({
  name: "FirstframeInt8Release",
  native: {
    inputs: ["held", "scale"],
    outputs: ["weight"],
    integers: ["held"],
    attributes: { depth: "int", columns: "int" },
  },
  forward: (weight, shape) => widened(weight, shape),
});

const attributes = { depth: "int", columns: "int", transposeB: "bool" } as const;

const matMul = defineOperation<Held & { a: tf.Tensor }, Turned>({
  name: "FirstframeInt8MatMul",
  native: {
    inputs: ["a", "held", "scale"],
    outputs: ["y"],
    integers: ["held"],
    attributes,
    products: true,
  },
  forward: product,
});

const matMulBias = defineOperation<Held & { a: tf.Tensor; bias: tf.Tensor }, Turned>({
  name: "FirstframeInt8MatMulBias",
  native: {
    inputs: ["a", "held", "scale", "bias"],
    outputs: ["y"],
    integers: ["held"],
    attributes,
    products: true,
  },
  forward: ({ bias, ...factors }, shape) => tf.add(product(factors, shape), bias),
});

/**
 * A weight as int8: each output's numbers divided by its scale, max|w| / 127, and rounded to the nearest, ties to even.
 *
 * @param weight [out, in]; the caller keeps it.
 */
export function holdInt8(weight: tf.Tensor2D): Int8Weight {
  const [columns, depth] = weight.shape;
  const [held, scale] = hold({ weight }, {});
  return { held: held!, scale: scale!, depth, columns };
}

/** The weight as float32, [out, in]. */
export const releaseInt8 = ({ held, scale, ...shape }: Int8Weight): tf.Tensor2D =>
  release({ held, scale }, shape)[0] as tf.Tensor2D;

/**
 * x times the weight, plus the bias; a few hundred columns are widened at a time. The factors are rounded to bfloat16 if the
 * precision says so, which whole numbers up to 127 lose nothing by; the scales come after the sums.
 *
 * @param x [..., in]; [..., out] if `transposed`
 * @returns [..., out]; [..., in] if `transposed`
 */
export function int8Product(
  x: tf.Tensor,
  { held, scale, ...shape }: Int8Weight,
  bias: tf.Tensor | null | undefined,
  transposed: boolean,
): tf.Tensor {
  const turned = { ...shape, transposeB: transposed };
  const factors = { a: x, held, scale };
  return bias ? matMulBias({ ...factors, bias }, turned)[0]! : matMul(factors, turned)[0]!;
}
