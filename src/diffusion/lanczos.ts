import type { Size } from "../video/clip.js";

/** Fixed-point bits of the weights. */
const PRECISION = 22;
/** Lobes of the filter to either side. */
const LOBES = 3;

interface Taps {
  /** First source position of each target position. */
  readonly start: Int32Array;
  /** Weights from there on. */
  readonly weights: Int32Array[];
}

/**
 * Resizes interleaved RGB bytes with a three-lobed Lanczos filter, widened for shrinking, to the same bytes as
 * Pillow's `Image.resize(..., LANCZOS)`, which is how diffusers' pipelines resize images.
 *
 * @param pixels `height * width * 3` bytes
 */
export function resizeLanczos(pixels: Uint8Array, from: Size, to: Size): Uint8Array {
  const wide =
    from.width === to.width
      ? pixels
      : resample(pixels, taps(from.width, to.width), {
          lines: from.height,
          lineStride: [from.width * 3, to.width * 3],
          step: 3,
          run: 3,
        });
  if (from.height === to.height) return wide === pixels ? pixels.slice() : wide;
  const stride = to.width * 3;
  return resample(wide, taps(from.height, to.height), {
    lines: 1,
    lineStride: [0, 0],
    step: stride,
    run: stride,
  });
}

function taps(source: number, target: number): Taps {
  const scale = source / target;
  const widening = Math.max(scale, 1);
  const support = LOBES * widening;
  const start = new Int32Array(target);
  const weights = Array.from({ length: target }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), source);
    const values = Array.from({ length: end - first }, (_, x) =>
      lanczos((x + first - centre + 0.5) / widening),
    );
    const total = values.reduce((sum, value) => sum + value, 0);
    start[i] = first;
    return Int32Array.from(values, (value) => {
      const fixed = (value / total) * 2 ** PRECISION;
      return Math.trunc(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    });
  });
  return { start, weights };
}

function lanczos(x: number): number {
  return x >= -LOBES && x < LOBES ? sinc(x) * sinc(x / LOBES) : 0;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** Filters along one axis: `step` bytes from one position to the next, `run` neighbouring bytes at each position. */
function resample(
  pixels: Uint8Array,
  { start, weights }: Taps,
  axis: { lines: number; lineStride: [from: number, to: number]; step: number; run: number },
): Uint8Array {
  const { lines, lineStride, step, run } = axis;
  const out = new Uint8Array(lines * weights.length * run);
  for (let line = 0; line < lines; line++) {
    for (const [i, kernel] of weights.entries()) {
      const from = line * lineStride[0] + start[i]! * step;
      const to = line * lineStride[1] + i * step;
      for (let c = 0; c < run; c++) {
        let sum = 2 ** (PRECISION - 1);
        for (let k = 0, at = from + c; k < kernel.length; k++, at += step) sum += pixels[at]! * kernel[k]!;
        out[to + c] = Math.min(Math.max(Math.floor(sum / 2 ** PRECISION), 0), 255);
      }
    }
  }
  return out;
}
