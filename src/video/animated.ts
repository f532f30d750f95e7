/** Animated pictures of frames, as bytes: what notebooks and TensorBoard show. */
import type { Sharp } from "sharp";
import { InputError } from "../engine/errors.js";
import { sharp } from "./sharp.js";

/** The part of a clip that a picture of it needs. */
export interface RgbFrames {
  /** Interleaved RGB bytes, frame after frame. */
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly numFrames: number;
  /** Frames per second. */
  readonly fps: number;
}

export interface WebpOptions {
  /** 1 to 100. Default 80. */
  readonly quality?: number;
  /** Keep every pixel as it is. Default false. */
  readonly lossless?: boolean;
  /** From 0, quick, to 6, small. Default 4. */
  readonly effort?: number;
}

/** Animated WebP: what notebooks show. */
export async function encodeWebp(clip: RgbFrames, options: WebpOptions = {}): Promise<Uint8Array> {
  const { quality = 80, lossless = false, effort = 4 } = options;
  return pages(clip)
    .webp({ quality, lossless, effort, delay: delay(clip), loop: 0 })
    .toBuffer();
}

/** Animated GIF: 256 colours per frame, for readers that support nothing better. */
export async function encodeGif(clip: RgbFrames): Promise<Uint8Array> {
  return pages(clip)
    .gif({ delay: delay(clip, 10), loop: 0, effort: 3 })
    .toBuffer();
}

/** One frame as PNG. */
export async function encodeStill({ data, width, height }: RgbFrames, frame = 0): Promise<Uint8Array> {
  const bytes = width * height * 3;
  return sharp(data.subarray(frame * bytes, (frame + 1) * bytes), { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
}

/** The default maximum width of a clip on a page, in pixels. */
export const PAGE_WIDTH = 360;
const MAX_BYTES = 400_000;
/** WebP qualities and scales to try, best first. */
const STEPS = [
  { quality: 80, scale: 1 },
  { quality: 60, scale: 1 },
  { quality: 40, scale: 1 },
  { quality: 50, scale: 0.7 },
  { quality: 40, scale: 0.5 },
  { quality: 30, scale: 0.35 },
] as const;

/**
 * An animated WebP for a page; quality and size are reduced until it has at most `maxBytes`.
 *
 * @throws InputError if even the smallest version is larger
 */
export async function webpForPage(
  clip: RgbFrames,
  {
    width: shown = PAGE_WIDTH,
    maxBytes = MAX_BYTES,
  }: { readonly width?: number; readonly maxBytes?: number } = {},
): Promise<Uint8Array> {
  let bytes: Uint8Array | undefined;
  let sized: RgbFrames | undefined;
  for (const { quality, scale } of STEPS) {
    // Small clips are stored as they are and enlarged by the page.
    const width = Math.max(1, Math.round(Math.min(clip.width, shown) * scale));
    if (sized?.width !== width) sized = await scaled(clip, width);
    bytes = await encodeWebp(sized, { quality });
    if (bytes.length <= maxBytes) return bytes;
  }
  throw new InputError(
    `animate: expected at most ${maxBytes} bytes, the smallest version has ${bytes!.length}`,
    { hint: "show fewer frames" },
  );
}

async function scaled(clip: RgbFrames, width: number): Promise<RgbFrames> {
  if (clip.width === width) return clip;
  const height = Math.max(1, Math.round((clip.height * width) / clip.width));
  const data = new Uint8Array(clip.numFrames * height * width * 3);
  const frameBytes = clip.height * clip.width * 3;
  for (let i = 0; i < clip.numFrames; i++) {
    const frame = clip.data.subarray(i * frameBytes, (i + 1) * frameBytes);
    const picture = sharp(frame, { raw: { width: clip.width, height: clip.height, channels: 3 } });
    data.set(await picture.resize(width, height, { fit: "fill" }).raw().toBuffer(), i * height * width * 3);
  }
  return { data, width, height, numFrames: clip.numFrames, fps: clip.fps };
}

/** The frames below one another, which is how sharp takes an animation. */
function pages(clip: RgbFrames): Sharp {
  const { width, height, numFrames, data } = clip;
  return sharp(data, {
    raw: { width, height: height * numFrames, channels: 3, pageHeight: height },
    limitInputPixels: false,
  });
}

/** Milliseconds per frame, in whole units of the format, distributed so that the total is the clip's length. */
function delay(clip: RgbFrames, unit = 1): number[] {
  const at = (i: number) => Math.round((i * 1000) / clip.fps / unit) * unit;
  return Array.from({ length: clip.numFrames }, (_, i) => at(i + 1) - at(i));
}
