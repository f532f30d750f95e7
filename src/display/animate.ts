import { InputError } from "../engine/errors.js";
import { PAGE_WIDTH, webpForPage } from "../video/animated.js";
import { frames } from "./frames.js";
import { escapeXml, jupyterDisplay, type MimeBundle, showAs } from "./mime.js";
import { type Frames, type PictureSource, type RangeOption, readFrames } from "./pixels.js";

export interface AnimateOptions extends RangeOption {
  /** Frames per second; the clip's own, or 8 for a tensor. */
  readonly fps?: number;
  /** Width on the page in pixels; default: the clip's own, up to 360. */
  readonly width?: number;
  /** The largest file in bytes; quality and size are reduced until it fits. */
  readonly maxBytes?: number;
  /** Alternative text. */
  readonly title?: string;
}

/** A clip that plays by itself in a notebook: animated WebP; a strip of its frames in PDFs. */
export class Animation {
  readonly #read: Frames;
  readonly #options: AnimateOptions;
  readonly #still: ReturnType<typeof frames>;

  constructor(source: PictureSource, options: AnimateOptions = {}) {
    for (const name of ["fps", "width", "maxBytes"] as const) {
      const value = options[name];
      if (value !== undefined && !(value > 0)) {
        throw new InputError(`animate: expected ${name} > 0, found ${value}`);
      }
    }
    this.#read = readFrames(source, "animate", options);
    this.#options = options;
    this.#still = frames(source, { range: options.range });
  }

  /**
   * The animation as a WebP file's bytes.
   *
   * @throws InputError if even the smallest version is above `maxBytes`
   */
  async toWebp(): Promise<Uint8Array> {
    const { count, width, height, fps } = this.#read;
    const images = await this.#read.images;
    const data = new Uint8Array(count * height * width * 3);
    for (const [i, rgb] of images.entries()) data.set(rgb, i * height * width * 3);
    const clip = { data, width, height, numFrames: count, fps: this.#options.fps ?? fps };
    return webpForPage(clip, { width: this.#width, maxBytes: this.#options.maxBytes });
  }

  async [jupyterDisplay](): Promise<MimeBundle> {
    const webp = Buffer.from(await this.toWebp()).toString("base64");
    const text = this.#description;
    const still = await this.#still.toPng();
    return {
      "text/html": `<img src="data:image/webp;base64,${webp}" width="${this.#width}" alt="${escapeXml(text)}">`,
      "image/png": still.toString("base64"),
      "text/plain": text,
    };
  }

  get #description(): string {
    const { count, width, height, fps } = this.#read;
    return `${this.#options.title ?? "Clip"}: ${count} frames of ${width}x${height}, ${this.#options.fps ?? fps} fps`;
  }

  get #width(): number {
    return Math.round(this.#options.width ?? Math.min(PAGE_WIDTH, this.#read.width));
  }

  static {
    showAs<Animation>(Animation, { line: (animation) => animation.#description });
  }
}

/**
 * Plays a clip or a video tensor in the notebook.
 *
 * @example animate(clip, { fps: 8 })
 * @param source a clip, or a tensor [1, C, F, H, W] or [C, F, H, W]
 * @throws InputError for other shapes and for options that are not positive
 */
export function animate(source: PictureSource, options: AnimateOptions = {}): Animation {
  return new Animation(source, options);
}
