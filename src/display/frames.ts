import { InputError } from "../engine/errors.js";
import { spread } from "../video/strip.js";
import { type Frames, isTensor, type PictureSource, type RangeOption, readFrames } from "./pixels.js";
import { LABEL_SIZE, labelWidth, Picture, type PlacedPicture, type PlacedText, type Sheet } from "./sheet.js";

export interface FramesOptions extends RangeOption {
  /** Which frames; default: up to 8, spread over the clip. */
  readonly indices?: readonly number[];
  /** Frames per row; default: as many as fit into 900 pixels. */
  readonly columns?: number;
  /** A label below each frame, or a function of the frame's index; default: `frame 0` and so on. */
  readonly labels?: readonly string[] | ((index: number) => string) | false;
  /** A line above the strip. */
  readonly title?: string;
  /** Width of a frame on the page, in pixels. */
  readonly width?: number;
  /** Frames to draw a border around. */
  readonly highlight?: readonly number[];
}

const PAGE_WIDTH = 900;
const GAP = 6;
const LINE = LABEL_SIZE + 8;
const DEFAULT_COUNT = 8;
const HIGHLIGHT = "#d62728";
/** Frames smaller than this are enlarged with square pixels. */
const SMALL = 48;

/**
 * A strip of a clip's frames.
 *
 * @example frames(clip, { indices: [0, 40, 80], labels: (i) => `t = ${i}` })
 * @param source a clip, or a tensor [1, C, F, H, W], [C, F, H, W], [C, H, W] or [H, W]
 * @throws InputError for other shapes, an index that the clip does not have, or if there are not as many labels as frames
 */
export function frames(source: PictureSource, options: FramesOptions = {}): Picture {
  const read = readFrames(source, "frames", options);
  const sheet = strip(read, options);
  return new Picture(sheet, described(`${sheet.pictures.length} of ${read.count} frames`, read, options));
}

/** One picture: a tensor [C, H, W], [1, C, H, W], [H, W], or a clip of one frame. @throws as {@link frames} */
export function image(source: PictureSource, options: RangeOption & { title?: string; width?: number } = {}) {
  const read = readFrames(asImage(source), "image", options);
  if (read.count !== 1) throw new InputError(`image: expected one image, found ${read.count} frames`);
  const width = options.width ?? Math.min(PAGE_WIDTH, enlarged(read));
  const sheet = strip(read, { ...options, labels: false, width });
  return new Picture(sheet, described("Image", read, options));
}

export interface CompareOptions extends Omit<FramesOptions, "columns"> {}

/**
 * Clips under one another, the same frames in the same columns, each row named.
 *
 * @example compare({ original: clip, reconstructed: decoded }, { indices: [0, 8, 16] })
 * @throws InputError if the clips have different numbers of frames, and as {@link frames}
 */
export function compare(rows: Record<string, PictureSource>, options: CompareOptions = {}): Picture {
  const names = Object.keys(rows);
  if (names.length === 0) throw new InputError("compare: expected at least one row, found none");
  const reading = names.map((name) => readFrames(rows[name]!, `compare: ${name}`, options));
  if (new Set(reading.map(({ count }) => count)).size > 1) {
    const found = names.map((name, i) => `${name} ${reading[i]!.count}`).join(", ");
    throw new InputError(`compare: expected clips of the same number of frames, found ${found}`);
  }
  const sheet = comparison(names, reading, options);
  return new Picture(sheet, described(`Frames of ${names.join(", ")}`, reading[0]!, options));
}

function described(what: string, { width, height }: Frames, { title: of }: { title?: string }): string {
  return `${what}, ${width}x${height}${of ? `: ${of}` : ""}`;
}

function strip(read: Frames, options: FramesOptions): Sheet {
  const indices = chosen(read, options.indices, "frames");
  const labels = labelsFor(indices, options.labels);
  const width = options.width ?? columnWidth(indices.length, enlarged(read), labels);
  const height = scaled(read, width);
  const columns = options.columns ?? Math.max(1, Math.floor((PAGE_WIDTH + GAP) / (width + GAP)));
  const top = options.title ? LINE + 4 : 0;
  const rowHeight = height + (labels ? LINE : GAP);

  const pictures: PlacedPicture[] = [];
  const texts: PlacedText[] = title(options.title);
  indices.forEach((index, i) => {
    const left = (i % columns) * (width + GAP) + 2;
    const y = top + Math.floor(i / columns) * rowHeight + 2;
    pictures.push(placed(read, index, { left, top: y, width, height }, options.highlight));
    if (labels) {
      texts.push({
        text: labels[i]!,
        x: left + width / 2,
        y: y + height + 14,
        size: LABEL_SIZE,
        anchor: "middle",
      });
    }
  });
  const used = Math.min(columns, indices.length);
  const rows = Math.ceil(indices.length / columns);
  return {
    width: Math.max(used * (width + GAP) - GAP + 4, options.title ? labelWidth(options.title, 14, true) : 0),
    height: top + rows * rowHeight + 4,
    pictures,
    texts,
  };
}

function comparison(names: readonly string[], read: readonly Frames[], options: CompareOptions): Sheet {
  const indices = chosen(read[0]!, options.indices, "compare");
  const labels = labelsFor(indices, options.labels);
  const margin = Math.max(...names.map((name) => labelWidth(name, LABEL_SIZE, true))) + 10;
  const widest = Math.max(...read.map(enlarged));
  const width = options.width ?? columnWidth(indices.length, widest, labels, PAGE_WIDTH - margin);
  const pictures: PlacedPicture[] = [];
  const texts: PlacedText[] = title(options.title);
  let y = (options.title ? LINE + 4 : 0) + 2;
  names.forEach((name, row) => {
    const height = scaled(read[row]!, width);
    texts.push({ text: name, x: 2, y: y + height / 2 + 4, size: LABEL_SIZE, bold: true });
    indices.forEach((index, i) => {
      const left = margin + i * (width + GAP);
      pictures.push(placed(read[row]!, index, { left, top: y, width, height }, options.highlight));
    });
    y += height + GAP;
  });
  if (labels) {
    labels.forEach((text, i) => {
      const x = margin + i * (width + GAP) + width / 2;
      texts.push({ text, x, y: y + 10, size: LABEL_SIZE, anchor: "middle" });
    });
    y += LINE - GAP;
  }
  return { width: margin + indices.length * (width + GAP) - GAP + 2, height: y + 2, pictures, texts };
}

function title(text: string | undefined): PlacedText[] {
  return text ? [{ text, x: 2, y: 16, size: 14, bold: true }] : [];
}

function placed(
  read: Frames,
  index: number,
  at: PlacedPicture["at"],
  highlight: readonly number[] | undefined,
): PlacedPicture {
  const { width, height } = read;
  return {
    rgb: read.images.then((images) => images[index]!),
    width,
    height,
    at,
    pixelated: Math.min(width, height) < SMALL,
    border: highlight?.includes(index) ? HIGHLIGHT : undefined,
  };
}

function chosen(read: Frames, indices: readonly number[] | undefined, who: string): readonly number[] {
  const { count } = read;
  const list = indices ?? spread(count, DEFAULT_COUNT);
  if (list.length === 0) throw new InputError(`${who}: expected at least one index, found none`);
  return list.map((index) => {
    const at = index < 0 ? index + count : index;
    if (!Number.isInteger(at) || at < 0 || at >= count) {
      throw new InputError(`${who}: expected indices below ${count}, found ${index}`);
    }
    return at;
  });
}

function labelsFor(indices: readonly number[], labels: FramesOptions["labels"]): readonly string[] | null {
  if (labels === false) return null;
  if (labels === undefined) return indices.length === 1 ? null : indices.map((i) => `frame ${i}`);
  if (typeof labels === "function") return indices.map((i) => labels(i));
  if (labels.length !== indices.length) {
    throw new InputError(`frames: expected ${indices.length} labels, found ${labels.length}`);
  }
  return labels;
}

/** A good width for a frame in pixels: small ones are enlarged by a whole factor. */
function enlarged({ width, height }: Frames): number {
  const factor = Math.max(1, Math.ceil(96 / Math.max(width, height)));
  return width * factor;
}

function columnWidth(
  count: number,
  natural: number,
  labels: readonly string[] | null,
  page = PAGE_WIDTH,
): number {
  const room = Math.floor(page / Math.min(count, DEFAULT_COUNT)) - GAP;
  const label = labels ? Math.max(...labels.map((text) => labelWidth(text))) : 0;
  return Math.max(Math.min(natural, room), label, 1);
}

function scaled({ width, height }: Frames, to: number): number {
  return Math.max(1, Math.round((height * to) / width));
}

/** [1, C, H, W] means a batch of one here, not one channel of C frames. */
function asImage(source: PictureSource): PictureSource {
  if (!isTensor(source) || source.rank !== 4 || source.shape[0] !== 1) return source;
  const [, channels, height, width] = source.shape as [number, number, number, number];
  return { shape: [channels, height, width], data: () => source.data() } as unknown as PictureSource;
}
