import { InputError } from "../engine/errors.js";
import type { Tensor } from "../engine/tf.js";

/** RGB frames of one size, as `Clip` holds them: `frames * height * width * 3` bytes. */
export interface ClipLike {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly fps?: number;
}

/** What is shown as pictures: a clip, or a tensor of images or video in diffusers' axis order. */
export type PictureSource = ClipLike | Tensor;

export interface RangeOption {
  /**
   * The values of black and white; default: [-1, 1], the VAE's range. Values outside are clamped.
   */
  readonly range?: readonly [number, number];
}

/** Frames to be drawn, described before their values are known. */
export interface Frames {
  readonly count: number;
  readonly width: number;
  readonly height: number;
  readonly fps: number;
  /** RGB bytes of each frame. */
  readonly images: Promise<readonly Uint8Array[]>;
}

/** Values this far outside the range were meant for another one: bytes, or another normalization. */
const FAR_OUTSIDE = 20;

/**
 * Reads frames from a clip or a tensor: [B, C, F, H, W] with B = 1, [C, F, H, W], [C, H, W] or [H, W], where C is 3 (RGB)
 * or 1 (gray). A tensor's values are requested at once, so it may be disposed after the call.
 *
 * @throws InputError if `source` is neither, and for other shapes; `who` names the public function in both
 */
export function readFrames(source: PictureSource, who: string, options: RangeOption = {}): Frames {
  if (isClip(source)) return clipFrames(source, who);
  if (!isTensor(source))
    throw new InputError(`${who}: expected a clip or a tensor, found ${describe(source)}`);
  const [low, high] = options.range ?? [-1, 1];
  if (!(low < high)) throw new InputError(`${who}: expected range [low, high], found [${low}, ${high}]`);
  const { channels, count, height, width } = videoShape(source.shape, who);
  const images = source.data().then((values) => {
    refuseFar(values, low, high, who);
    const plane = height * width;
    return Array.from({ length: count }, (_, frame) => {
      const rgb = new Uint8Array(plane * 3);
      for (let c = 0; c < 3; c++) {
        const from = ((channels === 1 ? 0 : c) * count + frame) * plane;
        for (let i = 0; i < plane; i++) {
          const unit = (values[from + i]! - low) / (high - low);
          rgb[3 * i + c] = Math.round(Math.min(Math.max(unit, 0), 1) * 255);
        }
      }
      return rgb;
    });
  });
  images.catch(() => {}); // reported where the picture is shown
  return { count, width, height, fps: 8, images };
}

function clipFrames(clip: ClipLike, who: string): Frames {
  const { data, width, height } = clip;
  const bytes = width * height * 3;
  if (bytes === 0 || data.length === 0 || data.length % bytes !== 0) {
    throw new InputError(
      `${who}: expected whole frames of ${width} x ${height} x 3 bytes, found ${data.length} bytes`,
    );
  }
  const images = Array.from({ length: data.length / bytes }, (_, i) =>
    data.subarray(i * bytes, (i + 1) * bytes),
  );
  return { count: images.length, width, height, fps: clip.fps ?? 8, images: Promise.resolve(images) };
}

function videoShape(shape: readonly number[], who: string) {
  const expected = `${who}: expected [1, C, F, H, W], [C, F, H, W], [C, H, W] or [H, W] with C = 3 or 1`;
  const inner = shape.length === 5 && shape[0] === 1 ? shape.slice(1) : shape;
  const [channels, count, height, width] =
    inner.length === 4
      ? inner
      : inner.length === 3
        ? [inner[0], 1, inner[1], inner[2]]
        : inner.length === 2
          ? [1, 1, inner[0], inner[1]]
          : [];
  if ((channels !== 3 && channels !== 1) || !count || !height || !width) {
    throw new InputError(`${expected}, found [${shape.join(", ")}]`);
  }
  return { channels, count, height, width };
}

function refuseFar(values: ArrayLike<number>, low: number, high: number, who: string): void {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (Number.isNaN(value)) throw new InputError(`${who}: expected numbers, found NaN at index ${i}`);
    if (value < least) least = value;
    if (value > most) most = value;
  }
  const slack = (high - low) * FAR_OUTSIDE;
  if (least < low - slack || most > high + slack) {
    throw new InputError(`${who}: expected values in [${low}, ${high}], found ${least} to ${most}`, {
      hint: "set range, e.g. { range: [0, 255] }",
    });
  }
}

export function isTensor(value: unknown): value is Tensor {
  const tensor = value as Partial<Tensor> | null;
  return typeof tensor?.data === "function" && Array.isArray(tensor.shape);
}

export function isClip(value: unknown): value is ClipLike {
  const clip = value as Partial<ClipLike> | null;
  return clip?.data instanceof Uint8Array && Number.isInteger(clip.width) && Number.isInteger(clip.height);
}

function describe(value: unknown): string {
  if (value === null || typeof value !== "object") return String(value);
  return `an object with ${Object.keys(value).slice(0, 6).join(", ") || "no keys"}`;
}
