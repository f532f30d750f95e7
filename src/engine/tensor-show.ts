/** Tensors as cells, `console.log` and string templates show them. Loaded by tf.ts, once, for every user of the engine. */

import { inspect } from "node:util";
import * as tf from "./core.js";
import { firstLine } from "./errors.js";
import { type MimeBundle, showAs } from "./shown.js";
import { printedShape, tensorText } from "./tensor-text.js";

/** What a notebook shows of a tensor besides its text. */
export type TensorBundle = (tensor: tf.Tensor, text: string) => Promise<MimeBundle | undefined> | undefined;

let tensorBundle: TensorBundle = () => undefined;

/** Lets notebooks show more of a tensor than its text. The display room says what; the engine knows nothing of it. */
export function showTensorsWith(bundle: TensorBundle): void {
  tensorBundle = bundle;
}

export interface TensorTextOptions {
  /** Turns the tensor, or its ends, into what is to be printed, such as another order of axes. Default: as it is. */
  readonly view?: (tensor: tf.Tensor) => tf.Tensor;
  /** The shape after `view`. */
  readonly shape?: readonly number[];
  readonly requiresGrad?: boolean;
}

/**
 * A tensor as PyTorch prints it. Of a large one, only what is printed is read from the device. A tensor that is disposed
 * or can't be read says so.
 */
export function textOfTensor(tensor: tf.Tensor, options: TensorTextOptions = {}): string {
  const { view, shape = tensor.shape } = options;
  const { requiresGrad = tensor instanceof tf.Variable && tensor.trainable } = options;
  const { dtype } = tensor;
  const without = (why: string) => `tensor(${why}, shape=[${shape.join(", ")}], dtype=${dtype})`;
  if (tensor.isDisposed) return without("disposed");
  try {
    return tensorText({ shape, dtype, values: printedValues(tensor, view) }, requiresGrad);
  } catch (error) {
    return `${without("values on the device: await x.data()")}  # ${firstLine(error)}`;
  }
}

type Values = ArrayLike<number | string>;

function printedValues(tensor: tf.Tensor, view: TensorTextOptions["view"]): Values {
  const { shape } = tensor;
  const wanted = printedShape(shape);
  // The longest axis first, so that less is left for the others to cut.
  const cut = shape.map((_, axis) => axis).filter((axis) => wanted[axis]! < shape[axis]!);
  cut.sort((a, b) => shape[b]! - shape[a]!);
  let values: Values = [];
  try {
    tf.tidy(() => {
      const small = cut.reduce((x, axis) => ends(x, axis, wanted[axis]! / 2), tensor);
      values = (view?.(small) ?? small).dataSync();
    });
  } catch (error) {
    // No engine can slice every dtype and rank.
    if (cut.length === 0 || view) throw error;
    values = endsOfValues(tensor.dataSync(), shape, wanted);
  }
  return values;
}

/** The first and the last `count` along an axis. */
function ends(x: tf.Tensor, axis: number, count: number): tf.Tensor {
  const size = x.shape.map((n, i) => (i === axis ? count : n));
  const from = (start: number) => x.shape.map((_, i) => (i === axis ? start : 0));
  return tf.concat([tf.slice(x, from(0), size), tf.slice(x, from(x.shape[axis]! - count), size)], axis);
}

/** What {@link ends} picks along all axes, from values already in memory; complex ones are pairs. */
function endsOfValues(values: Values, shape: readonly number[], wanted: readonly number[]): Values {
  const parts = values.length / tf.util.sizeFromShape([...shape]);
  const picked = shape.reduce<number[]>(
    (rows, n, axis) =>
      rows.flatMap((row) =>
        Array.from(
          { length: wanted[axis]! },
          (_, i) => row * n + (i < wanted[axis]! / 2 ? i : i + n - wanted[axis]!),
        ),
      ),
    [0],
  );
  return picked.flatMap((at) => Array.from({ length: parts }, (_, part) => values[at * parts + part]!));
}

showAs<tf.Tensor>(tf.Tensor, {
  line: ({ shape, dtype, isDisposed }) =>
    `Tensor [${shape.join(", ")}] ${dtype}${isDisposed ? ", disposed" : ""}`,
  text: (tensor) => textOfTensor(tensor),
  bundle: (tensor, text) => tensorBundle(tensor, text),
});

const { toString: verboseText } = tf.Tensor.prototype;
/** `tensor.print()` prints this too; with `verbose` it stays TensorFlow.js's own. */
tf.Tensor.prototype.toString = function (verbose = false) {
  return verbose ? verboseText.call(this, true) : inspect(this);
};
