/**
 * Group norm (Wu and He 2018, arXiv 1803.08494) over video features [frames * batch, height, width, channels], with the
 * activation that follows it.
 *
 * The frames may belong to several calls of a model, one after another; each call has its own statistics.
 */

import { InputError } from "../../errors.js";
import * as tf from "../../tf.js";
import { defineOperation } from "../operation.js";
import { meanPixel, resizeNearest, sumWindows } from "../windows.js";

export interface GroupNormOptions {
  readonly groups: number;
  readonly eps: number;
  readonly batch: number;
  /** Frames in each call; they add up to the tensor's. */
  readonly calls: readonly number[];
  /** SiLU (x sigmoid(x)) of the result. Default: none. */
  readonly silu?: boolean;
}

type GradientOptions = Pick<Required<GroupNormOptions>, "groups" | "batch" | "calls" | "silu">;
type Inputs = { x: tf.Tensor4D; scale: tf.Tensor4D; shift: tf.Tensor4D };

/**
 * Normalises, scales and shifts.
 *
 * @param scale what the normalised features are multiplied by: [C]; or a smaller map [frames * batch, h, w, C], which is
 *   resized by nearest neighbour, so that scale and shift may come from a latent (spatial norm).
 * @param shift as scale.
 */
export function groupNorm(
  x: tf.Tensor4D,
  scale: tf.Tensor1D | tf.Tensor4D,
  shift: tf.Tensor1D | tf.Tensor4D,
  { groups, eps, batch, calls, silu = false }: GroupNormOptions,
): tf.Tensor4D {
  const [rows, , , channels] = x.shape;
  const frames = calls.reduce((sum, n) => sum + n, 0);
  if (frames * batch !== rows)
    throw new InputError(`group norm: ${rows} rows, but ${batch} samples of ${calls.join(" + ")} frames`);
  return tf.tidy(() => {
    const asMap = (values: tf.Tensor1D | tf.Tensor4D): tf.Tensor4D =>
      values.rank === 1 ? tf.reshape(values, [1, 1, 1, channels]) : (values as tf.Tensor4D);
    const inputs = { x, scale: asMap(scale), shift: asMap(shift) };
    return operation(inputs, { groups, eps, batch, calls, silu })[0] as tf.Tensor4D;
  });
}

type Statistics = { mean: tf.Tensor4D; rstd: tf.Tensor4D };

/** With a = rstd * scale and b = shift - mean * a the norm is x * a + b, where all but x are small. */
const operation = defineOperation<Inputs, Required<GroupNormOptions>>({
  name: "FirstframeGroupNorm",
  native: {
    inputs: ["x", "scale", "shift"],
    outputs: ["y", "mean", "rstd"],
    attributes: { groups: "int", eps: "float", batch: "int", calls: "list(int)", silu: "bool" },
  },
  forward: ({ x, scale, shift }, options) => {
    const { mean, rstd } = statistics(x, options);
    const { a, b } = coefficients(x, scale, shift, mean, rstd);
    const z = tf.tidy(() => tf.add(tf.mul(x, a), b));
    return [options.silu ? tf.mul(z, tf.sigmoid(z)) : z, mean, rstd];
  },
  save: { inputs: ["x", "scale", "shift"], outputs: [false, true, true] },
  gradient: ([dy], saved, { groups, batch, calls, silu }) => {
    const [x, scale, shift, mean, rstd] = saved as Tensors<5>;
    const [dx, dScale, dShift] = gradient(
      { x, scale, shift, mean, rstd, dy: dy as tf.Tensor4D },
      { groups, batch, calls, silu },
    );
    return { x: () => dx!, scale: () => dScale!, shift: () => dShift! };
  },
});

/** The gradient needs the big tensors only for two sums, of dz and of dz * x; the rest is small again. */
const gradient = defineOperation<Inputs & Statistics & { dy: tf.Tensor4D }, GradientOptions>({
  name: "FirstframeGroupNormGrad",
  native: {
    inputs: ["x", "scale", "shift", "mean", "rstd", "dy"],
    outputs: ["dx", "dscale", "dshift"],
    attributes: { groups: "int", batch: "int", calls: "list(int)", silu: "bool" },
  },
  forward: ({ x, scale, shift, mean, rstd, dy }, options) => {
    const [, height, width] = x.shape;
    const dz = options.silu ? siluGradient(dy, x, coefficients(x, scale, shift, mean, rstd)) : dy;
    // Sums over what each number of the scale reaches: [frames * batch, h, w, C].
    const [, h, w] = scale.shape;
    const sumDz = sumWindows(dz, h, w);
    const sumDzX = tf.tidy(() => sumWindows(tf.mul<tf.Tensor4D>(dz, x), h, w));
    const sumDzNormal: tf.Tensor4D = tf.mul(rstd, tf.sub(sumDzX, tf.mul(mean, sumDz)));
    const m1 = overGroups(tf.sum(tf.mul(sumDz, scale), [1, 2], true), height * width, options);
    const m2 = overGroups(tf.sum(tf.mul(sumDzNormal, scale), [1, 2], true), height * width, options);
    const a = resizeNearest(tf.mul<tf.Tensor4D>(rstd, scale), height, width);
    const c1 = tf.neg(tf.mul(tf.square(rstd), m2));
    const c0 = tf.neg(tf.add(tf.mul(rstd, m1), tf.mul(c1, mean)));
    const dx = tf.add(tf.add(tf.mul(dz, a), tf.mul(x, c1)), c0);
    return [dx, sumTo(sumDzNormal, scale.shape), sumTo(sumDz, shift.shape)];
  },
});

type Tensors<N extends number, T extends tf.Tensor4D[] = []> = T["length"] extends N
  ? T
  : Tensors<N, [...T, tf.Tensor4D]>;

/** Factor and offset of each feature, in their own small size or resized to the features. */
function coefficients(
  x: tf.Tensor4D,
  scale: tf.Tensor4D,
  shift: tf.Tensor4D,
  mean: tf.Tensor4D,
  rstd: tf.Tensor4D,
): { a: tf.Tensor4D; b: tf.Tensor4D } {
  const [, height, width] = x.shape;
  const [a, b] = tf.tidy(() => {
    const a: tf.Tensor4D = tf.mul(rstd, scale);
    const b: tf.Tensor4D = tf.sub(shift, tf.mul(mean, a));
    return scale.shape[1] === 1 && scale.shape[2] === 1
      ? [a, b]
      : [resizeNearest(a, height, width), resizeNearest(b, height, width)];
  });
  return { a: a!, b: b! };
}

/** dy times SiLU's slope at z = x * a + b: s (1 + z (1 - s)) with s = sigmoid(z). */
function siluGradient(
  dy: tf.Tensor4D,
  x: tf.Tensor4D,
  { a, b }: { a: tf.Tensor4D; b: tf.Tensor4D },
): tf.Tensor4D {
  return tf.tidy(() => {
    const z = tf.add(tf.mul(x, a), b);
    const s = tf.sigmoid(z);
    return tf.mul(dy, tf.mul(s, tf.add(tf.mul(z, tf.sub(1, s)), 1)));
  });
}

/**
 * Mean and 1 / standard deviation of each frame's call, sample and group, for every channel:
 * [frames * batch, 1, 1, channels].
 */
function statistics(
  x: tf.Tensor4D,
  options: Required<GroupNormOptions>,
): { mean: tf.Tensor4D; rstd: tf.Tensor4D } {
  const [mean, rstd] = tf.tidy(() => {
    // First the moments of each frame and channel, which leaves little to combine.
    const frameMean = meanPixel(x);
    const frameVariance = tf.tidy(() => meanPixel(tf.squaredDifference<tf.Tensor4D>(x, frameMean)));
    const mean = overGroups(frameMean, 1, options);
    const variance = overGroups(tf.add(frameVariance, tf.squaredDifference(frameMean, mean)), 1, options);
    return [mean, tf.rsqrt(tf.add(variance, options.eps))];
  }) as [tf.Tensor4D, tf.Tensor4D];
  return { mean, rstd };
}

/**
 * For each row, sample and group, the mean over the group's channels and its call's frames, repeated for all of them.
 * @param values [frames * batch, 1, 1, channels]
 * @param pixels how many numbers each value is the sum of.
 */
function overGroups(
  values: tf.Tensor,
  pixels: number,
  { groups, batch, calls }: GradientOptions,
): tf.Tensor4D {
  const [rows, , , channels] = values.shape as Size4D;
  const frames = rows / batch;
  const perGroup = channels / groups;
  return tf.tidy(() => {
    const byGroup = tf.mean(tf.reshape(values, [frames, batch * groups, perGroup]), 2) as tf.Tensor2D;
    const averaged = tf.matMul(callAverages(calls, 1 / pixels), byGroup);
    return tf.reshape(tf.tile(tf.expandDims(averaged, 2), [1, 1, perGroup]), [rows, 1, 1, channels]);
  });
}

/** A matrix [frames, frames] that replaces each frame's value by the average over its call, times a factor. */
function callAverages(calls: readonly number[], factor: number): tf.Tensor2D {
  const frames = calls.reduce((sum, n) => sum + n, 0);
  const matrix = new Float32Array(frames * frames);
  let start = 0;
  for (const n of calls) {
    for (let i = start; i < start + n; i++)
      matrix.fill(factor / n, i * frames + start, i * frames + start + n);
    start += n;
  }
  return tf.tensor2d(matrix, [frames, frames]);
}

/** Sums over the axes along which a tensor of this shape was broadcast. */
function sumTo(values: tf.Tensor4D, shape: readonly number[]): tf.Tensor4D {
  const axes = values.shape.flatMap((size, axis) => (size !== shape[axis] ? [axis] : []));
  return axes.length === 0 ? values.clone() : tf.sum(values, axes, true);
}

type Size4D = [number, number, number, number];
