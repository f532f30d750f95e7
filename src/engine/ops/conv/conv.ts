/**
 * Convolutions over video features. Everywhere here a tensor is [frames * batch, height, width, channels] with the
 * frame index slowest, so that a shift in time is a slice of whole rows, and each frame is an image for a 2D convolution.
 */
import "../wasm-conv2d-gradient.js";
import * as tf from "../../tf.js";
import { defineOperation } from "../operation.js";
import { resizeNearest } from "../windows.js";

type Size4D = [number, number, number, number];

/** A 2D convolution with a bias; "same" pads with zeros on all sides. */
export function conv2d(
  x: tf.Tensor4D,
  kernel: tf.Tensor4D,
  bias: tf.Tensor1D,
  { stride = 1, pad = "same" }: { stride?: number; pad?: "same" | "valid" } = {},
): tf.Tensor4D {
  return tf.fused.conv2d({ x, filter: kernel, strides: stride, pad, bias }) as tf.Tensor4D;
}

/**
 * A 3x3 convolution of stride 2 on maps padded with zeros at the bottom and on the right, as diffusers' downsamplers pad.
 * For even sizes that is what "same" means.
 */
export function downsample2d(x: tf.Tensor4D, kernel: tf.Tensor4D, bias: tf.Tensor1D): tf.Tensor4D {
  const [, height, width] = x.shape;
  if (height % 2 === 0 && width % 2 === 0) return conv2d(x, kernel, bias, { stride: 2 });
  return tf.tidy(() => {
    const padded = tf.pad(x, [
      [0, 0],
      [0, 1],
      [0, 1],
      [0, 0],
    ]);
    return conv2d(padded, kernel, bias, { stride: 2, pad: "valid" });
  });
}

/** Doubles height and width by nearest neighbour, then convolves. */
export function upsample2d(x: tf.Tensor4D, kernel: tf.Tensor4D, bias: tf.Tensor1D): tf.Tensor4D {
  return tf.tidy(() => conv2d(resizeNearest(x, 2 * x.shape[1], 2 * x.shape[2]), kernel, bias));
}

export interface CausalConvOptions {
  readonly batch: number;
  /** The (time - 1) frames before `x`; if there are none, its first frame is repeated instead. */
  readonly history?: tf.Tensor4D;
}

/**
 * A causal 3D convolution: the output at a frame sees that frame and the ones before it.
 *
 * @param x [frames * batch, height, width, in]
 * @param kernel [time, height, width, in, out]
 * @returns [frames * batch, height, width, out]
 */
export function causalConv3d(
  x: tf.Tensor4D,
  kernel: tf.Tensor5D,
  bias: tf.Tensor1D,
  { batch, history }: CausalConvOptions,
): tf.Tensor4D {
  const past = kernel.shape[0] - 1;
  return tf.tidy(() => {
    // A single frame sees itself at every time, so this is one convolution with the sum of the kernels.
    if (!history && x.shape[0] === batch) return conv2d(x, tf.sum(kernel, 0), bias);
    const padded = history
      ? tf.concat([history, x])
      : (repeatFirst({ x }, { batch, times: past })[0] as tf.Tensor4D);
    return convolveShifted({ padded, kernel, bias }, { batch })[0] as tf.Tensor4D;
  });
}

/** The history that {@link causalConv3d} needs for the frames after `x`: the last `count` frames. */
export function historyAfter(
  x: tf.Tensor4D,
  count: number,
  { batch, history }: CausalConvOptions,
): tf.Tensor4D {
  const frames = x.shape[0] / batch;
  return tf.tidy(() => {
    if (frames >= count) return tf.slice(x, [(frames - count) * batch], [count * batch]);
    const before = history ?? tf.concat(Array.from({ length: count }, () => tf.slice(x, [0], [batch])));
    return tf.concat([tf.slice(before, [frames * batch], [(count - frames) * batch]), x]);
  });
}

/** `times` copies of the first frame in front. */
const repeatFirst = defineOperation<{ x: tf.Tensor4D }, { batch: number; times: number }>({
  name: "FirstframeRepeatFirst",
  forward: ({ x }, { batch, times }) => {
    const first = tf.slice(x, [0], [batch]);
    return tf.concat([...Array.from({ length: times }, () => first), x]);
  },
  gradient: ([dy], _saved, { batch, times }) => ({
    x: () =>
      tf.tidy(() => {
        const [, ...rest] = dy!.shape;
        const copies = tf.reshape(tf.slice(dy!, [0], [(times + 1) * batch]), [times + 1, batch, ...rest]);
        return tf.concat([tf.sum(copies, 0), tf.slice(dy!, [(times + 1) * batch])]);
      }),
  }),
});

/**
 * Up to this many numbers, the frames that each output frame sees are put side by side as channels, for one convolution
 * instead of one per time: fewer and larger operations. On TensorFlow's CPU, forward and gradients together then take half
 * the time on maps of 16x16 and below, and three quarters to nine tenths on larger ones with few channels (measured).
 */
const SIDE_BY_SIDE_SIZE = 2 ** 22;

/**
 * The sum of 2D convolutions over shifted frames: output frame t is made from input frames t .. t + time - 1. On
 * TensorFlow's CPU this is as fast as its 3D convolution and several times faster in the gradients; WebAssembly's 3D
 * convolution is many times slower.
 */
const convolveShifted = defineOperation<
  { padded: tf.Tensor4D; kernel: tf.Tensor5D; bias: tf.Tensor1D },
  { batch: number }
>({
  name: "FirstframeCausalConv3D",
  forward: ({ padded, kernel, bias }, { batch }) => {
    const times = kernel.shape[0];
    const rows = padded.shape[0] - (times - 1) * batch;
    if (fitsSideBySide(padded, rows, times))
      return conv2d(sideBySide(padded, rows, times, batch), mergedKernel(kernel), bias);
    const term = (k: number): tf.Tensor4D =>
      tf.tidy(() => {
        const frames = tf.slice(padded, [k * batch], [rows]);
        return k === times - 1
          ? conv2d(frames, kernelAt(kernel, k), bias)
          : tf.conv2d(frames, kernelAt(kernel, k), 1, "same");
      });
    let sum = term(times - 1);
    for (let k = times - 2; k >= 0; k--) {
      const [before, next] = [sum, term(k)];
      sum = tf.add(before, next);
      tf.dispose([before, next]);
    }
    return sum;
  },
  save: { inputs: ["padded", "kernel"] },
  gradient: ([dy], saved, { batch }) => {
    const [padded, kernel] = saved as [tf.Tensor4D, tf.Tensor5D];
    const [times] = kernel.shape;
    const rows = dy!.shape[0]!;
    const merged = fitsSideBySide(padded, rows, times);
    return {
      padded: () =>
        tf.tidy(() => {
          if (merged) return mergedInputGradient(dy as tf.Tensor4D, kernel, padded.shape, batch);
          let sum: tf.Tensor4D | undefined;
          for (let k = 0; k < times; k++) {
            const before = sum;
            sum = tf.tidy(() => {
              const [, ...size] = padded.shape;
              const frames = tf.conv2dTranspose(
                dy as tf.Tensor4D,
                kernelAt(kernel, k),
                [rows, ...size],
                1,
                "same",
              );
              const placed = tf.pad(frames, [
                [k * batch, (times - 1 - k) * batch],
                [0, 0],
                [0, 0],
                [0, 0],
              ]);
              return before ? tf.add(before, placed) : placed;
            });
            before?.dispose();
          }
          return sum!;
        }),
      kernel: () =>
        tf.tidy(() => {
          const filterShape = kernel.shape.slice(1) as Size4D;
          if (merged) {
            const [height, width, channels, outputs] = filterShape;
            const x = sideBySide(padded, rows, times, batch);
            const wide = kernelGradient(x, dy as tf.Tensor4D, [height, width, times * channels, outputs]);
            return tf.transpose(tf.reshape(wide, [height, width, times, channels, outputs]), [2, 0, 1, 3, 4]);
          }
          const shifts = Array.from({ length: times }, (_, k) =>
            tf.tidy(() => {
              const frames = tf.slice(padded, [k * batch], [rows]);
              return kernelGradient(frames, dy as tf.Tensor4D, filterShape);
            }),
          );
          return tf.stack(shifts);
        }),
      bias: () => tf.sum(dy!, [0, 1, 2]),
    };
  },
});

function fitsSideBySide(padded: tf.Tensor4D, rows: number, times: number): boolean {
  return (padded.size / padded.shape[0]) * rows * times <= SIDE_BY_SIDE_SIZE;
}

/** [rows, height, width, times * channels] */
function sideBySide(padded: tf.Tensor4D, rows: number, times: number, batch: number): tf.Tensor4D {
  const frames = Array.from({ length: times }, (_, k) => tf.slice(padded, [k * batch], [rows]));
  return tf.concat(frames, 3);
}

/** The kernel for frames side by side: [height, width, times * in, out]. */
function mergedKernel(kernel: tf.Tensor5D): tf.Tensor4D {
  const [times, height, width, channels, outputs] = kernel.shape;
  return tf.reshape(tf.transpose(kernel, [1, 2, 0, 3, 4]), [height, width, times * channels, outputs]);
}

function mergedInputGradient(
  dy: tf.Tensor4D,
  kernel: tf.Tensor5D,
  [, height, width, channels]: Size4D,
  batch: number,
): tf.Tensor4D {
  const times = kernel.shape[0];
  const rows = dy.shape[0];
  const shape: Size4D = [rows, height, width, times * channels];
  const wide = tf.conv2dTranspose(dy, mergedKernel(kernel), shape, 1, "same");
  const placed = tf.split(wide, times, 3).map((frames, k) =>
    tf.pad(frames, [
      [k * batch, (times - 1 - k) * batch],
      [0, 0],
      [0, 0],
      [0, 0],
    ]),
  );
  return placed.reduce((sum, frames) => tf.add(sum, frames)) as tf.Tensor4D;
}

/** The 2D kernel of one time. */
function kernelAt(kernel: tf.Tensor5D, time: number): tf.Tensor4D {
  return tf.reshape(tf.slice(kernel, [time], [1]), kernel.shape.slice(1) as Size4D);
}

/** The gradient of a 2D convolution with padding "same" with respect to its kernel. */
function kernelGradient(x: tf.Tensor4D, dy: tf.Tensor4D, filterShape: Size4D): tf.Tensor4D {
  const attributes = { strides: 1, pad: "same", dataFormat: "NHWC", filterShape };
  return tf.engine().runKernel(tf.Conv2DBackpropFilter, { x, dy }, attributes) as tf.Tensor4D;
}
