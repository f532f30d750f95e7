import { sharp } from "../video/sharp.js";
import { escapeXml, jupyterDisplay, type MimeBundle, showAs } from "./mime.js";
import { GlyphSheet, Typeface } from "./text.js";

/** A picture at its place on a sheet, in pixels. */
export interface PlacedPicture {
  /** RGB bytes. */
  readonly rgb: Promise<Uint8Array>;
  readonly width: number;
  readonly height: number;
  readonly at: {
    readonly left: number;
    readonly top: number;
    readonly width: number;
    readonly height: number;
  };
  /** Draws pixels as squares (latents, heat maps) instead of smoothly. */
  readonly pixelated?: boolean;
  /** A frame of this colour around it. */
  readonly border?: string;
}

export interface PlacedText {
  readonly text: string;
  readonly x: number;
  /** The baseline. */
  readonly y: number;
  readonly size: number;
  readonly anchor?: "start" | "middle" | "end";
  readonly bold?: boolean;
  readonly color?: string;
}

export interface Sheet {
  readonly width: number;
  readonly height: number;
  readonly pictures: readonly PlacedPicture[];
  readonly texts: readonly PlacedText[];
  /** Labels that depend on the pictures' values. */
  readonly late?: Promise<readonly PlacedText[]>;
}

/** A PNG above this size is stored with 256 colours, a third of its bytes. */
const LARGE_PNG = 64_000;

export const LABEL_SIZE = 12;

/** Equally far from white and from the black of dark themes (a contrast of 4.4 to both), since the background is the page's. */
const LABEL_COLOR = "#797979";

/** Draws pictures and labels on a transparent background, as PNG bytes, which are the same on every machine. */
export async function drawSheet(sheet: Sheet): Promise<Buffer> {
  const layers = await Promise.all(
    sheet.pictures.map(async ({ rgb, width, height, at, pixelated }) => {
      const kernel = pixelated ? "nearest" : "lanczos3";
      const input = await sharp(await rgb, { raw: { width, height, channels: 3 } })
        .resize(at.width, at.height, { fit: "fill", kernel })
        .raw()
        .toBuffer();
      const raw = { width: at.width, height: at.height, channels: 3 as const };
      return { input, raw, left: at.left, top: at.top };
    }),
  );
  const { width, height } = sheet;
  const picture = sharp({ create: { width, height, channels: 4, background: "#ffffff00" } }).composite([
    ...layers,
    { input: Buffer.from(overlay(sheet, [...sheet.texts, ...((await sheet.late) ?? [])])), left: 0, top: 0 },
  ]);
  // sharp composites before it encodes, but a pipeline encodes once: keep the pixels.
  const { data, info } = await picture.raw().toBuffer({ resolveWithObject: true });
  const again = () =>
    sharp(data, { raw: { width: info.width, height: info.height, channels: info.channels } });
  const exact = await again().png({ compressionLevel: 9, adaptiveFiltering: true }).toBuffer();
  if (exact.length <= LARGE_PNG) return exact;
  const small = await again().png({ palette: true, colours: 256, dither: 0.8, effort: 7 }).toBuffer();
  return small.length < exact.length ? small : exact;
}

function overlay({ width, height, pictures }: Sheet, texts: readonly PlacedText[]): string {
  const glyphs = new GlyphSheet();
  const borders = pictures.map(({ at, border }) =>
    border
      ? `<rect x="${at.left - 1}" y="${at.top - 1}" width="${at.width + 2}" height="${at.height + 2}" fill="none" stroke="${escapeXml(border)}" stroke-width="2"/>`
      : "",
  );
  const labels = texts.map(({ text, x, y, size, anchor, bold, color }) => {
    const shaped = Typeface.of({ family: "sans", bold: bold ?? false, italic: false }).shape(text);
    const length = (shaped.advance / shaped.typeface.unitsPerEm) * size;
    const start = anchor === "middle" ? x - length / 2 : anchor === "end" ? x - length : x;
    return `<g fill="${escapeXml(color ?? LABEL_COLOR)}">${glyphs.draw(shaped, { x: start, y, size })}</g>`;
  });
  const body = `${borders.join("")}${labels.join("")}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${glyphs.defs}${body}</svg>`;
}

/** Width of a label in pixels. */
export function labelWidth(text: string, size = LABEL_SIZE, bold = false): number {
  const shaped = Typeface.of({ family: "sans", bold, italic: false }).shape(text);
  return Math.ceil((shaped.advance / shaped.typeface.unitsPerEm) * size);
}

/** A picture for a notebook, drawn when it is shown. */
export class Picture {
  #png: Promise<Buffer> | undefined;

  constructor(
    readonly sheet: Sheet,
    readonly description: string,
  ) {}

  /** The picture as a PNG file's bytes. */
  toPng(): Promise<Buffer> {
    this.#png ??= drawSheet(this.sheet);
    return this.#png;
  }

  async [jupyterDisplay](): Promise<MimeBundle> {
    return { "image/png": (await this.toPng()).toString("base64"), "text/plain": this.description };
  }

  static {
    showAs<Picture>(Picture, { line: ({ description }) => description });
  }
}
