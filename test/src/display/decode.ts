import sharp from "sharp";
import { jupyterDisplay, type MimeBundle } from "../../../src/display/mime.js";

/** RGB pixels of a PNG, as a page shows them. */
export interface Decoded {
  readonly width: number;
  readonly height: number;
  at(x: number, y: number): [number, number, number];
}

export async function decode(png: Uint8Array | string, page = "#ffffff"): Promise<Decoded> {
  const bytes = typeof png === "string" ? Buffer.from(png, "base64") : png;
  const flat = sharp(bytes).flatten({ background: page });
  const { data, info } = await flat.raw().toBuffer({ resolveWithObject: true });
  return {
    width: info.width,
    height: info.height,
    at: (x, y) => {
      const at = (Math.round(y) * info.width + Math.round(x)) * info.channels;
      return [data[at]!, data[at + 1]!, data[at + 2]!];
    },
  };
}

/** What a kernel gets from a value. */
export async function shown(value: {
  [jupyterDisplay](): MimeBundle | Promise<MimeBundle>;
}): Promise<Record<string, string>> {
  return (await value[jupyterDisplay]()) as Record<string, string>;
}

/** The smallest box around the pixels in an area for which `test` holds. */
export function extentOf(
  image: Decoded,
  area: { left: number; top: number; right: number; bottom: number },
  test: (rgb: [number, number, number]) => boolean,
): { left: number; top: number; right: number; bottom: number } | null {
  let [left, top, right, bottom] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, -1, -1];
  for (let y = area.top; y < area.bottom; y++) {
    for (let x = area.left; x < area.right; x++) {
      if (!test(image.at(x, y))) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
  }
  return right < 0 ? null : { left, top, right, bottom };
}

/** Text on white. */
export const isDark = ([red, green, blue]: [number, number, number]) => red + green + blue < 390;

/** The largest difference of two colours in a channel. */
export function distance(a: readonly number[], b: readonly number[]): number {
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));
}
