import sharp from "sharp";
import { Clip } from "../video/clip.js";
import { encodeWebp } from "../video/write.js";
import { frames } from "./frames.js";
import { escapeXml, jupyterDisplay, type MimeBundle } from "./mime.js";
import { type Frames, type PictureSource, type RangeOption, readFrames } from "./pixels.js";

export interface AnimateOptions extends RangeOption {
  /** Frames per second; the clip's own, or 8 for a tensor. */
  readonly fps?: number;
  /** Pixels on the page; the clip's own up to 360 unless given. */
  readonly width?: number;
  /** The largest file in bytes; quality and size go down until it fits. */
  readonly maxBytes?: number;
  /** Alternative text. */
  readonly title?: string;
}

const PAGE_WIDTH = 360;
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

/** A clip that plays by itself in a notebook: animated WebP; a strip of its frames in PDFs. */
export class Animation {
  readonly #read: Frames;
  readonly #options: AnimateOptions;
  readonly #still: ReturnType<typeof frames>;

  constructor(source: PictureSource, options: AnimateOptions = {}) {
    for (const name of ["fps", "width", "maxBytes"] as const) {
      const value = options[name];
      if (value !== undefined && !(value > 0)) {
        throw new RangeError(`animate: expected ${name} > 0, found ${value}`);
      }
    }
    this.#read = readFrames(source, "animate", options);
    this.#options = options;
    this.#still = frames(source, { range: options.range });
  }

  /**
   * The animation as a WebP file's bytes.
   *
   * @throws RangeError if even the smallest version is above `maxBytes`
   */
  async toWebp(): Promise<Uint8Array> {
    const { width, height, fps } = this.#read;
    const largest = this.#options.maxBytes ?? MAX_BYTES;
    const images = await this.#read.images;
    let bytes: Uint8Array | undefined;
    let sized: Clip | undefined;
    for (const { quality, scale } of STEPS) {
      // Small clips are stored as they are and enlarged by the page.
      const to = Math.max(1, Math.round(Math.min(width, this.#width) * scale));
      const size = { width: to, height: Math.max(1, Math.round((height * to) / width)) };
      if (sized?.width !== to) {
        const frames = await Promise.all(images.map((rgb) => resized(rgb, { width, height }, size)));
        sized = Clip.fromFrames(frames, { ...size, fps: this.#options.fps ?? fps });
      }
      bytes = await encodeWebp(sized, { quality });
      if (bytes.length <= largest) return bytes;
    }
    throw new RangeError(
      `animate: expected at most ${largest} bytes, the smallest version has ${bytes!.length}; show fewer frames`,
    );
  }

  async [jupyterDisplay](): Promise<MimeBundle> {
    const { count, width, height, fps } = this.#read;
    const webp = Buffer.from(await this.toWebp()).toString("base64");
    const text = `${this.#options.title ?? "Clip"}: ${count} frames of ${width}x${height}, ${this.#options.fps ?? fps} fps`;
    const still = await this.#still.toPng();
    return {
      "text/html": `<img src="data:image/webp;base64,${webp}" width="${this.#width}" alt="${escapeXml(text)}">`,
      "image/png": still.toString("base64"),
      "text/plain": text,
    };
  }

  get #width(): number {
    return Math.round(this.#options.width ?? Math.min(PAGE_WIDTH, this.#read.width));
  }
}

interface Size {
  readonly width: number;
  readonly height: number;
}

async function resized(rgb: Uint8Array, from: Size, to: Size): Promise<Uint8Array> {
  if (from.width === to.width && from.height === to.height) return rgb;
  const picture = sharp(rgb, { raw: { ...from, channels: 3 } });
  return picture.resize(to.width, to.height, { fit: "fill" }).raw().toBuffer();
}

/**
 * Plays a clip or a video tensor in the notebook.
 *
 * @example animate(clip, { fps: 8 })
 * @param source a clip, or a tensor [1, C, F, H, W] or [C, F, H, W]
 * @throws RangeError for other shapes and for options that are not positive
 */
export function animate(source: PictureSource, options: AnimateOptions = {}): Animation {
  return new Animation(source, options);
}
