/** How close one video is to another. Everything is measured on bytes, so that what is measured is what is seen. */
import { InputError } from "../engine/errors.js";
import type { Clip } from "../video/clip.js";

function assertSameSize(name: string, a: Clip, b: Clip): void {
  if (a.width !== b.width || a.height !== b.height || a.numFrames !== b.numFrames) {
    const size = (clip: Clip) => `${clip.numFrames} frames of ${clip.width}x${clip.height}`;
    throw new InputError(`${name}: expected clips of one size, found ${size(a)} and ${size(b)}`);
  }
}

/** Peak signal-to-noise ratio in dB of each frame: 10 log10(255^2 / mean squared difference); infinite if they are equal. */
export function psnrPerFrame(a: Clip, b: Clip): number[] {
  assertSameSize("psnr", a, b);
  return Array.from({ length: a.numFrames }, (_, i) => decibel(meanSquared(a.frame(i), b.frame(i))));
}

/** Peak signal-to-noise ratio in dB over all frames together. */
export function psnr(a: Clip, b: Clip): number {
  assertSameSize("psnr", a, b);
  return decibel(meanSquared(a.data, b.data));
}

const decibel = (error: number): number => 10 * Math.log10(255 ** 2 / error);

function meanSquared(a: Uint8Array, b: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2;
  return sum / a.length;
}

const SSIM_RADIUS = 5;
const SSIM_WINDOW = gaussian(SSIM_RADIUS, 1.5);

function gaussian(radius: number, sigma: number): Float64Array {
  const window = Float64Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-((i - radius) ** 2) / (2 * sigma ** 2)),
  );
  const sum = window.reduce((total, value) => total + value, 0);
  return window.map((value) => value / sum);
}

/**
 * Structural similarity (Wang et al. 2004, IEEE TIP 13(4)): an 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03,
 * on each colour channel, averaged over channels, frames, and the windows that lie inside the picture.
 *
 * @throws InputError for pictures smaller than the window.
 */
export function ssim(a: Clip, b: Clip): number {
  assertSameSize("ssim", a, b);
  const size = SSIM_WINDOW.length;
  if (a.width < size || a.height < size) {
    throw new InputError(`ssim: expected at least ${size}x${size} pixels, found ${a.width}x${a.height}`);
  }
  let sum = 0;
  for (let frame = 0; frame < a.numFrames; frame++) {
    for (let channel = 0; channel < 3; channel++) {
      sum += ssimPlane(plane(a, frame, channel), plane(b, frame, channel), a.width, a.height);
    }
  }
  return sum / (3 * a.numFrames);
}

function plane(clip: Clip, frame: number, channel: number): Float64Array {
  const bytes = clip.frame(frame);
  return Float64Array.from({ length: clip.width * clip.height }, (_, i) => bytes[3 * i + channel]!);
}

function ssimPlane(x: Float64Array, y: Float64Array, width: number, height: number): number {
  const c1 = (0.01 * 255) ** 2;
  const c2 = (0.03 * 255) ** 2;
  const product = (p: Float64Array, q: Float64Array) => p.map((value, i) => value * q[i]!);
  const [mx, my, xx, yy, xy] = [x, y, product(x, x), product(y, y), product(x, y)].map((values) =>
    blur(values, width, height),
  ) as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
  let sum = 0;
  for (let i = 0; i < mx.length; i++) {
    const [ux, uy] = [mx[i]!, my[i]!];
    const vx = xx[i]! - ux * ux;
    const vy = yy[i]! - uy * uy;
    const covariance = xy[i]! - ux * uy;
    sum += ((2 * ux * uy + c1) * (2 * covariance + c2)) / ((ux * ux + uy * uy + c1) * (vx + vy + c2));
  }
  return sum / mx.length;
}

/** Means under the window, wherever it fits. */
function blur(values: Float64Array, width: number, height: number): Float64Array {
  const taps = SSIM_WINDOW.length;
  const columns = width - taps + 1;
  const rows = height - taps + 1;
  const across = new Float64Array(height * columns);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < columns; x++) {
      let sum = 0;
      for (let k = 0; k < taps; k++) sum += SSIM_WINDOW[k]! * values[y * width + x + k]!;
      across[y * columns + x] = sum;
    }
  }
  const out = new Float64Array(rows * columns);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      let sum = 0;
      for (let k = 0; k < taps; k++) sum += SSIM_WINDOW[k]! * across[(y + k) * columns + x]!;
      out[y * columns + x] = sum;
    }
  }
  return out;
}

/**
 * How much neighbouring frames differ: the mean absolute difference, in levels from 0 to 255. Flicker raises it and a frozen
 * video has 0; compare it with the real clip's.
 */
export function frameDifference(clip: Clip): number {
  if (clip.numFrames < 2) return 0;
  const bytes = clip.width * clip.height * 3;
  let sum = 0;
  for (let i = bytes; i < clip.data.length; i++) sum += Math.abs(clip.data[i]! - clip.data[i - bytes]!);
  return sum / (clip.data.length - bytes);
}

/** PSNR of the first frame against the conditioning image. */
export function firstFrameFidelity(clip: Clip, image: Clip): number {
  return psnr(clip.slice(0, 1), image.slice(0, 1));
}
