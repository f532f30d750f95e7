import { InputError } from "../engine/errors.js";
import { tfjs } from "../engine/lazy-core.js";
import { type MimeBundle, showAs } from "../engine/shown.js";
import type * as tf from "../engine/tf.js";
import { resizeRgb } from "./resize.js";

export interface Size {
  readonly height: number;
  readonly width: number;
}

/** RGB frames of one size at a steady rate. */
export class Clip {
  /** Interleaved RGB bytes, frame after frame: `numFrames * height * width * 3`. */
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  /** Frames per second. */
  readonly fps: number;
  readonly numFrames: number;

  /** @throws InputError if the bytes are not a whole number of frames, or there is no frame. */
  constructor(options: { data: Uint8Array; width: number; height: number; fps: number }) {
    const { data, width, height, fps } = options;
    for (const [name, value] of Object.entries({ width, height })) {
      if (!Number.isInteger(value) || value < 1) {
        throw new InputError(`Clip: expected ${name} to be a positive integer, found ${value}`);
      }
    }
    if (!(fps > 0 && Number.isFinite(fps))) throw new InputError(`Clip: expected fps > 0, found ${fps}`);
    const numFrames = data.length / (width * height * 3);
    if (!Number.isInteger(numFrames) || numFrames < 1) {
      throw new InputError(
        `Clip: expected a multiple of ${width} x ${height} x 3 = ${width * height * 3} bytes, found ${data.length}`,
      );
    }
    this.data = data;
    this.width = width;
    this.height = height;
    this.fps = fps;
    this.numFrames = numFrames;
  }

  /** A clip of frames that are each `height * width * 3` bytes. */
  static fromFrames(frames: readonly Uint8Array[], options: Size & { fps: number }): Clip {
    const bytes = options.height * options.width * 3;
    const data = new Uint8Array(frames.length * bytes);
    frames.forEach((frame, i) => {
      if (frame.length !== bytes) {
        throw new InputError(`Clip: expected frame ${i} to have ${bytes} bytes, found ${frame.length}`);
      }
      data.set(frame, i * bytes);
    });
    const { height, width, fps } = options;
    return new Clip({ data, height, width, fps });
  }

  /**
   * The inverse of {@link toTensor}: values outside [-1, 1] are clamped, then rounded to bytes.
   *
   * @param video [1, 3, F, H, W] or [3, F, H, W] in [-1, 1]
   */
  static fromTensor(video: tf.Tensor, options: { fps: number }): Clip {
    const shape = video.rank === 5 && video.shape[0] === 1 ? video.shape.slice(1) : video.shape;
    const [channels, frames, height, width] = shape as [number, number, number, number];
    if (shape.length !== 4 || channels !== 3) {
      throw new InputError(
        `Clip.fromTensor: expected [1, 3, F, H, W] or [3, F, H, W], found [${video.shape}]`,
      );
    }
    const values = video.dataSync();
    const plane = frames * height * width;
    const data = new Uint8Array(plane * 3);
    for (let c = 0; c < 3; c++) {
      for (let i = 0; i < plane; i++) {
        const unit = Math.min(Math.max(values[c * plane + i]! / 2 + 0.5, 0), 1);
        data[3 * i + c] = Math.round(unit * 255);
      }
    }
    return new Clip({ data, width, height, fps: options.fps });
  }

  /** Length in seconds. */
  get duration(): number {
    return this.numFrames / this.fps;
  }

  /** The bytes of frame `index` (a view, not a copy); negative indices count from the end. */
  frame(index: number): Uint8Array {
    const at = index < 0 ? index + this.numFrames : index;
    if (!Number.isInteger(at) || at < 0 || at >= this.numFrames) {
      throw new InputError(`Clip.frame: expected an index below ${this.numFrames}, found ${index}`);
    }
    const bytes = this.width * this.height * 3;
    return this.data.subarray(at * bytes, (at + 1) * bytes);
  }

  /** The bytes of every frame (views), in order. */
  frames(): Uint8Array[] {
    return Array.from({ length: this.numFrames }, (_, i) => this.frame(i));
  }

  /** Frames `start` up to but not including `end`, as `Array.prototype.slice` counts them. */
  slice(start = 0, end = this.numFrames): Clip {
    return this.select(Array.from({ length: this.numFrames }, (_, i) => i).slice(start, end));
  }

  /** The frames with these indices, in this order; an index may occur more than once. */
  select(indices: readonly number[]): Clip {
    return Clip.fromFrames(
      indices.map((i) => this.frame(i)),
      this,
    );
  }

  /** Every frame resized as `resizeRgb` does; the aspect ratio is not kept. */
  resize(size: Size): Clip {
    if (size.width === this.width && size.height === this.height) return this;
    const frames = Array.from({ length: this.numFrames }, (_, i) => resizeRgb(this.frame(i), this, size));
    return Clip.fromFrames(frames, { height: size.height, width: size.width, fps: this.fps });
  }

  /** The part of every frame that starts at row `top` and column `left`. */
  crop(area: Size & { top: number; left: number }): Clip {
    const { top, left, height, width } = area;
    if (top < 0 || left < 0 || top + height > this.height || left + width > this.width) {
      throw new InputError(
        `Clip.crop: expected an area inside ${this.width}x${this.height}, found ${width}x${height} at ${left},${top}`,
      );
    }
    const data = new Uint8Array(this.numFrames * height * width * 3);
    for (let f = 0, to = 0; f < this.numFrames; f++) {
      for (let y = 0; y < height; y++, to += width * 3) {
        const from = ((f * this.height + top + y) * this.width + left) * 3;
        data.set(this.data.subarray(from, from + width * 3), to);
      }
    }
    return new Clip({ data, width, height, fps: this.fps });
  }

  /** [1, 3, F, H, W] float32 in [-1, 1]: `byte / 255 * 2 - 1`. */
  toTensor(): tf.Tensor5D {
    const plane = this.numFrames * this.height * this.width;
    const values = new Float32Array(plane * 3);
    for (let c = 0; c < 3; c++) {
      for (let i = 0; i < plane; i++) values[c * plane + i] = (this.data[3 * i + c]! / 255) * 2 - 1;
    }
    return tfjs().tensor5d(values, [1, 3, this.numFrames, this.height, this.width], "float32");
  }

  static {
    const facts = ({ numFrames, width, height, fps, duration }: Clip) =>
      `${numFrames} ${numFrames === 1 ? "frame" : "frames"}, ${width} x ${height}, ${short(fps)} fps, ${short(duration)} s`;
    showAs<Clip>(Clip, {
      line: (clip) => `Clip(${facts(clip)})`,
      bundle: (clip) => movingPicture(clip, facts(clip)),
    });
  }
}

const short = (value: number): string => String(Number(value.toFixed(2)));

/** The playing clip with a caption, or its first frame where animation is not supported. */
async function movingPicture(clip: Clip, caption: string): Promise<MimeBundle> {
  const { PAGE_WIDTH, encodeStill, webpForPage } = await import("./animated.js");
  const webp = Buffer.from(await webpForPage(clip)).toString("base64");
  const width = Math.min(PAGE_WIDTH, clip.width);
  const picture = `<img src="data:image/webp;base64,${webp}" width="${width}" alt="Clip: ${caption}">`;
  return {
    "text/html": `<div>${picture}<div>${caption}</div></div>`,
    "image/png": Buffer.from(await encodeStill(clip)).toString("base64"),
  };
}
