/**
 * tfjs-backend-wasm adds up long rows one number at a time in float32: for 65,536 squares the fifth digit is wrong. Here
 * long sums are computed in two stages, whose rounding errors grow with the square root of the length instead.
 */
import * as tf from "../tf.js";

/** Rows up to this length are summed directly. */
const SHORT = 64;

interface Attributes {
  readonly axis: number | number[];
  readonly keepDims: boolean;
}

/** Sums the last axis of [rows, length]. */
function sumRows(x: tf.Tensor2D): tf.Tensor1D {
  const [rows, length] = x.shape;
  if (length <= SHORT) return tf.sum(x, 1);
  const piece = Math.min(SHORT, Math.ceil(Math.sqrt(length)));
  const pieces = Math.floor(length / piece);
  const rest = length - pieces * piece;
  const main = rest === 0 ? x : tf.slice(x, [0, 0], [rows, pieces * piece]);
  const partial = tf.sum(tf.reshape(main, [rows * pieces, piece]), 1);
  const sum = sumRows(tf.reshape(partial, [rows, pieces]));
  return rest === 0 ? sum : tf.add(sum, tf.sum(tf.slice(x, [0, pieces * piece], [rows, rest]), 1));
}

function sumInStages(x: tf.Tensor, axes: number[], keepDims: boolean): tf.Tensor {
  const kept = x.shape.map((_, i) => i).filter((axis) => !axes.includes(axis));
  const shape = keepDims
    ? x.shape.map((n, i) => (axes.includes(i) ? 1 : n))
    : kept.map((axis) => x.shape[axis]!);
  const order = [...kept, ...axes];
  const last = order.every((axis, i) => axis === i) ? x : tf.transpose(x, order);
  const length = axes.reduce((product, axis) => product * x.shape[axis]!, 1);
  return tf.reshape(sumRows(tf.reshape(last, [-1, length])), shape);
}

/** Puts the two stages before the backend's own kernels of sum and mean. */
export function registerWasmSums(): void {
  for (const kernelName of [tf.Sum, tf.Mean]) {
    const { kernelFunc: own, ...rest } = tf.getKernel(kernelName, "wasm");
    tf.unregisterKernel(kernelName, "wasm");
    tf.registerKernel({
      ...rest,
      kernelFunc: (call) => {
        const x = call.inputs.x as tf.Tensor;
        const { axis, keepDims } = call.attrs as unknown as Attributes;
        const axes = tf.util.parseAxisParam(axis, x.shape);
        const length = axes.reduce((product, i) => product * x.shape[i]!, 1);
        if (x.dtype !== "float32" || length <= SHORT) return own(call);
        return tf.tidy(() => {
          const sum = sumInStages(x, axes, keepDims);
          return kernelName === tf.Sum ? sum : tf.div(sum, length);
        });
      },
    });
  }
}
