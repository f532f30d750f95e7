/**
 * Weights that are held as bfloat16: half of float32's memory, in the order that products take them. For TensorFlow.js they are
 * int32 tensors, two numbers in each.
 */
import { fromBfloat16, toBfloat16 } from "../../rounding.js";
import * as tf from "../../tf.js";
import { defineOperation, hasOwnKernels } from "../operation.js";

/** A linear layer's weight that is held as bfloat16. */
export type HeldWeight = {
  readonly held: tf.Tensor;
  /** Features in. */
  readonly depth: number;
  /** Features out. */
  readonly columns: number;
};

/** Whether the running engine can hold weights as bfloat16. */
export const canHold = hasOwnKernels;

type Shape = { readonly depth: number; readonly columns: number };
type Turned = Shape & { readonly transposeB: boolean };

/** Columns of a panel, and rows of one of its steps, which is two tiles of 16 columns. */
const PANEL = 32;
const TILE = 16;

/** How many numbers a held weight takes, with the zeros that fill the last panel and step. */
const panelsOf = ({ depth, columns }: Shape) => {
  const size = Math.ceil(depth / PANEL) * PANEL * PANEL;
  return { panels: Math.ceil(columns / PANEL), size };
};

/** Where a weight's number lies: tiles hold two rows' numbers in turn. */
function placeOf(row: number, column: number, size: number): number {
  const [step, inStep] = [Math.floor(row / PANEL), row % PANEL];
  const [tile, inTile] = [Math.floor((column % PANEL) / TILE), column % TILE];
  const line = Math.floor(inStep / 2);
  const start = Math.floor(column / PANEL) * size + (2 * step + tile) * PANEL * TILE;
  return start + line * PANEL + 2 * inTile + (inStep % 2);
}

const bitsOf = (tensor: tf.Tensor): Uint16Array =>
  new Uint16Array((tensor.dataSync() as Int32Array).slice().buffer);
const integers = (halves: Uint16Array, shape: number[]): tf.Tensor =>
  tf.tensor(new Int32Array(halves.buffer), shape, "int32");

/** Calls `visit` with each number's place among `count` matrices, and where it is held. */
function eachPlace(
  count: number,
  { depth, columns, transposeB }: Turned,
  visit: (place: number, heldAt: number) => void,
): void {
  const { panels, size } = panelsOf({ depth, columns });
  for (let i = 0; i < count; i++) {
    for (let n = 0; n < columns; n++) {
      for (let k = 0; k < depth; k++) {
        const inMatrix = transposeB ? n * depth + k : k * columns + n;
        visit(i * depth * columns + inMatrix, i * panels * size + placeOf(k, n, size));
      }
    }
  }
}

/** Which of a tensor's three axes counts matrices, their rows and their columns. */
type Axes = { readonly lengths: readonly [count: number, rows: number, columns: number] };

function held(weight: tf.Tensor, { lengths }: Axes): tf.Tensor {
  const matrices = tf.transpose(weight, [...lengths]);
  const [count, depth, columns] = matrices.shape as [number, number, number];
  const { panels, size } = panelsOf({ depth, columns });
  const halves = toBfloat16(matrices.dataSync() as Float32Array);
  const all = new Uint16Array(count * panels * size);
  eachPlace(count, { depth, columns, transposeB: false }, (place, heldAt) => {
    all[heldAt] = halves[place]!;
  });
  return integers(all, [count, panels, size / 2]);
}

function released(from: tf.Tensor, shape: Turned): tf.Tensor {
  const [all, count] = [bitsOf(from), from.shape[0]!];
  const { depth, columns, transposeB } = shape;
  const halves = new Uint16Array(count * columns * depth);
  eachPlace(count, shape, (place, heldAt) => {
    halves[place] = all[heldAt]!;
  });
  return tf.tensor(fromBfloat16(halves), [count, ...(transposeB ? [columns, depth] : [depth, columns])]);
}

function product(
  { a, held }: { a: tf.Tensor; held: tf.Tensor },
  { transposeB, ...shape }: Turned,
): tf.Tensor {
  const rows = tf.reshape(a, [-1, a.shape.at(-1)!]) as tf.Tensor2D;
  const weight = tf.squeeze(released(held, { ...shape, transposeB: true }), [0]) as tf.Tensor2D;
  const y = tf.matMul(rows, weight, false, !transposeB);
  return tf.reshape(y, [...a.shape.slice(0, -1), y.shape[1]!]);
}

const hold = defineOperation<{ weight: tf.Tensor }, Axes>({
  name: "FirstframeHold",
  native: {
    inputs: ["weight"],
    outputs: ["held"],
    integers: ["held"],
    attributes: { lengths: "list(int)" },
  },
  forward: ({ weight }, attributes) => held(weight, attributes),
});

const release = defineOperation<{ held: tf.Tensor }, Turned>({
  name: "FirstframeRelease",
  native: {
    inputs: ["held"],
    outputs: ["weight"],
    integers: ["held"],
    attributes: { depth: "int", columns: "int", transposeB: "bool" },
  },
  forward: ({ held }, shape) => released(held, shape),
});

const matMul = defineOperation<{ a: tf.Tensor; held: tf.Tensor }, Turned>({
  name: "FirstframeHeldMatMul",
  native: {
    inputs: ["a", "held"],
    outputs: ["y"],
    integers: ["held"],
    attributes: { depth: "int", columns: "int", transposeB: "bool" },
  },
  forward: product,
});

const matMulBias = defineOperation<{ a: tf.Tensor; held: tf.Tensor; bias: tf.Tensor }, Turned>({
  name: "FirstframeHeldMatMulBias",
  native: {
    inputs: ["a", "held", "bias"],
    outputs: ["y"],
    integers: ["held"],
    attributes: { depth: "int", columns: "int", transposeB: "bool" },
  },
  forward: ({ bias, ...factors }, attributes) => tf.add(product(factors, attributes), bias),
});

const halved = (shape: readonly number[], by: number) => shape.with(-1, shape.at(-1)! / by);

const round = defineOperation<{ x: tf.Tensor }, object>({
  name: "FirstframeRound",
  native: { inputs: ["x"], outputs: ["rounded"], integers: ["rounded"] },
  forward: ({ x }) => integers(toBfloat16(x.dataSync() as Float32Array), halved(x.shape, 2)),
});

const widen = defineOperation<{ rounded: tf.Tensor }, object>({
  name: "FirstframeWiden",
  native: { inputs: ["rounded"], outputs: ["x"], integers: ["rounded"] },
  forward: ({ rounded }) => tf.tensor(fromBfloat16(bitsOf(rounded)), halved(rounded.shape, 1 / 2)),
});

/** @param weight [out, in]; the caller keeps it. */
export function holdWeight(weight: tf.Tensor2D): HeldWeight {
  const [columns, depth] = weight.shape;
  const [held] = tf.tidy(() => hold({ weight: tf.expandDims(weight, 0) }, { lengths: [0, 2, 1] }));
  return { held: held!, depth, columns };
}

/** The weight as float32, [out, in]. */
export const releaseWeight = ({ held, ...shape }: HeldWeight): tf.Tensor2D =>
  tf.tidy(() => tf.squeeze(release({ held }, { ...shape, transposeB: true })[0]!, [0]));

/** A convolution's kernel that is held as bfloat16: a matrix for each tap. */
export type HeldKernel = HeldWeight & {
  /** Of the kernel in time, height and width. */
  readonly size: readonly [number, number, number];
};

/** @param kernel [time, height, width, in, out]; the caller keeps it. */
export function holdKernel(kernel: tf.Tensor5D): HeldKernel {
  const [time, height, width, depth, columns] = kernel.shape;
  const weight = tf.reshape(kernel, [time * height * width, depth, columns]);
  const [held] = hold({ weight }, { lengths: [0, 1, 2] });
  weight.dispose();
  return { held: held!, depth, columns, size: [time, height, width] };
}

/** The same of a file's kernel, [out, in, (time,) height, width]. */
export function holdFileKernel(values: Float32Array, shape: readonly number[]): HeldKernel {
  const [columns, depth, ...rest] = shape as [number, number, ...number[]];
  const size = [...(rest.length < 3 ? [1] : []), ...rest] as [number, number, number];
  const weight = tf.tensor3d(values, [columns, depth, size[0] * size[1] * size[2]]);
  const [held] = hold({ weight }, { lengths: [2, 1, 0] });
  weight.dispose();
  return { held: held!, depth, columns, size };
}

/** The kernel as float32, [time, height, width, in, out]. */
export const releaseKernel = ({ held, depth, columns, size }: HeldKernel): tf.Tensor5D =>
  tf.tidy(() =>
    tf.reshape(release({ held }, { depth, columns, transposeB: false })[0]!, [...size, depth, columns]),
  );

/**
 * x times the weight, plus the bias. The factors are bfloat16 where the processor has instructions for those; elsewhere x stays
 * float32. Sums are float32.
 *
 * @param x [..., in]; [..., out] if `transposed`
 * @returns [..., out]; [..., in] if `transposed`
 */
export function heldProduct(
  x: tf.Tensor,
  { held, depth, columns }: HeldWeight,
  bias: tf.Tensor | null | undefined,
  transposed: boolean,
): tf.Tensor {
  const attributes = { depth, columns, transposeB: transposed };
  return bias ? matMulBias({ a: x, held, bias }, attributes)[0]! : matMul({ a: x, held }, attributes)[0]!;
}

/** Each number rounded to bfloat16. @param x its last axis is even. @returns its last axis is half as long. */
export const roundToBfloat16 = (x: tf.Tensor): tf.Tensor => round({ x }, {})[0]!;

/** The numbers that {@link roundToBfloat16} rounded, as float32. */
export const widenBfloat16 = (rounded: tf.Tensor): tf.Tensor => widen({ rounded }, {})[0]!;
