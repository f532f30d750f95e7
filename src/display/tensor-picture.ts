import { showTensorsWith } from "../engine/tensor-show.js";
import type { Tensor } from "../engine/tf.js";
import { escapeXml, jupyterDisplay, type MimeBundle } from "./mime.js";
import type { ClipLike } from "./pixels.js";

/** A picture's sides, in pixels: anything smaller is a kernel or a patch, anything larger is too much for front ends. */
const SIDES = [8, 4096] as const;
/** The most values: a picture that nobody asked for must not keep the cell waiting. */
const MOST_VALUES = 2 ** 22;

/** Where the pixels of a picture are in a tensor. */
interface Layout {
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  /** The index of a colour of a pixel; pixels are counted frame by frame. */
  readonly at: (pixel: number, color: number) => number;
}

/**
 * What notebooks show for a tensor that can only be a picture: its numbers, as for any tensor, and the picture below them.
 *
 * People who know PyTorch expect the numbers, so these come first, and text (`text/plain`, PDFs, terminals) has nothing
 * else. A tensor is a picture by its shape, [3, H, W], [1, 3, H, W], [H, W, 3] or as a clip [1, 3, F, H, W], with sides of 8 to 4096
 * pixels, and by its values: not all the same, and all of them in [0, 1], or in [-1, 1] with some below 0. The caption says
 * which. For anything else there are `image`, `frames` and `animate`, which are told what it is.
 */
export function pictureOf(tensor: Tensor, text: string): Promise<MimeBundle | undefined> | undefined {
  const layout = tensor.dtype === "float32" && !tensor.isDisposed ? layoutOf(tensor.shape) : undefined;
  if (!layout || tensor.size > MOST_VALUES) return undefined;
  return tensor.data().then(async (values) => {
    const range = rangeOf(values);
    if (!range) return undefined;
    const clip = bytesOf(values, layout, range);
    // Loaded here because most programs show no picture.
    const picture =
      layout.frames > 1
        ? (await import("./animate.js")).animate(clip)
        : (await import("./frames.js")).image(clip);
    const shown = await picture[jupyterDisplay]();
    const html =
      (shown["text/html"] as string | undefined) ??
      `<img src="data:image/png;base64,${shown["image/png"]}" alt="${escapeXml(String(shown["text/plain"]))}">`;
    const caption = `${range[0]} is black, 1 is white`;
    return { "text/html": `<div><pre>${escapeXml(text)}</pre>${html}<div>${caption}</div></div>` };
  });
}

/** Where a tensor of this shape has its pixels; undefined if it need not be a picture. */
function layoutOf(shape: readonly number[]): Layout | undefined {
  const [first, second] = shape;
  const rank = shape.length;
  const colorsLast = rank === 3 && shape[2] === 3;
  const colorsFirst = rank === 3 ? first === 3 : (rank === 4 || rank === 5) && first === 1 && second === 3;
  if (colorsLast === colorsFirst) return undefined;
  const [height, width] = (colorsLast ? shape : shape.slice(-2)) as [number, number];
  if ([height, width].some((side) => side < SIDES[0] || side > SIDES[1])) return undefined;
  const frames = rank === 5 ? shape[2]! : 1;
  if (frames === 0) return undefined;
  const plane = frames * height * width;
  const at = colorsLast
    ? (pixel: number, color: number) => 3 * pixel + color
    : (pixel: number, color: number) => color * plane + pixel;
  return { frames, height, width, at };
}

/** The values of black and white; undefined if the values can't be a picture's. */
function rangeOf(values: ArrayLike<number>): readonly [number, number] | undefined {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!(value >= -1 && value <= 1)) return undefined;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return least < most ? [least < 0 ? -1 : 0, 1] : undefined;
}

function bytesOf(
  values: ArrayLike<number>,
  layout: Layout,
  [low, high]: readonly [number, number],
): ClipLike {
  const { frames, height, width, at } = layout;
  const pixels = frames * height * width;
  const data = new Uint8Array(3 * pixels);
  for (let pixel = 0; pixel < pixels; pixel++) {
    for (let color = 0; color < 3; color++) {
      data[3 * pixel + color] = Math.round(((values[at(pixel, color)]! - low) / (high - low)) * 255);
    }
  }
  return { data, width, height };
}

showTensorsWith(pictureOf);
