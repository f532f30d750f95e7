import { InputError } from "../engine/errors.js";
import type { Tensor } from "../engine/tf.js";
import { spread } from "../video/strip.js";
import { isTensor } from "./pixels.js";
import { LABEL_SIZE, labelWidth, Picture, type PlacedPicture, type PlacedText } from "./sheet.js";

export interface ChannelsOptions {
  /** Which channels; the first 16 unless given. */
  readonly channels?: readonly number[];
  /** Which (latent) frames; default: up to 6, spread over all of them. */
  readonly frames?: readonly number[];
  /** The values at the two ends of the scale; default: the smallest and the largest value shown. */
  readonly range?: readonly [number, number];
  /** Labels below the columns; default: `frame 0` and so on. */
  readonly labels?: readonly string[];
  readonly title?: string;
  /** Pixels of one map on the page. */
  readonly width?: number;
}

/** Matplotlib's viridis at ten even steps (Smith and van der Walt, 2015). */
const VIRIDIS = [
  [68, 1, 84],
  [72, 40, 120],
  [62, 73, 137],
  [49, 104, 142],
  [38, 130, 142],
  [31, 158, 137],
  [53, 183, 121],
  [110, 206, 88],
  [181, 222, 43],
  [253, 231, 37],
] as const;

const GAP = 4;
const LINE = LABEL_SIZE + 6;
const MAP_WIDTH = 72;
const BAR_WIDTH = 14;

/**
 * A heat map for each channel of a latent (or of any feature map), all on one colour scale: a row per channel, a column per
 * frame; without frames the channels fill a grid.
 *
 * @example channels(latents, { frames: [0, 10, 20], channels: [0, 1, 2, 3] })
 * @param tensor [1, C, F, H, W], [C, F, H, W] or [C, H, W]; read at once, so it may be disposed afterwards
 * @throws InputError for other shapes, for channels or frames that the tensor does not have, and if there are not as many
 *   labels as frames
 */
export function channels(tensor: Tensor, options: ChannelsOptions = {}): Picture {
  if (!isTensor(tensor)) throw new InputError("channels: expected a tensor");
  const shape = tensor.shape.length === 5 && tensor.shape[0] === 1 ? tensor.shape.slice(1) : tensor.shape;
  const [count, frameCount, height, width] =
    shape.length === 3 ? [shape[0]!, 1, shape[1]!, shape[2]!] : shape;
  if (shape.length < 3 || shape.length > 4 || !count || !frameCount || !height || !width) {
    throw new InputError(
      `channels: expected [1, C, F, H, W], [C, F, H, W] or [C, H, W], found [${tensor.shape.join(", ")}]`,
    );
  }
  const rows = inside(options.channels ?? spread(Math.min(count, 16), 16), count, "channels");
  const columns = inside(options.frames ?? spread(frameCount, 6), frameCount, "frames");
  const { labels } = options;
  if (labels && labels.length !== columns.length) {
    throw new InputError(`channels: expected ${columns.length} labels, found ${labels.length}`);
  }
  const plane = height * width;
  const maps = tensor
    .data()
    .then((values) =>
      rows.map((channel) =>
        columns.map((frame) =>
          (values as Float32Array).slice(
            (channel * frameCount + frame) * plane,
            (channel * frameCount + frame + 1) * plane,
          ),
        ),
      ),
    );
  maps.catch(() => {}); // reported where the picture is shown
  const scale = maps.then((all) => options.range ?? extent(all.flat()));
  scale.catch(() => {});
  return drawn({ rows, columns, width, height, maps, scale, options });
}

interface Maps {
  readonly rows: readonly number[];
  readonly columns: readonly number[];
  readonly width: number;
  readonly height: number;
  readonly maps: Promise<Float32Array[][]>;
  readonly scale: Promise<readonly [number, number]>;
  readonly options: ChannelsOptions;
}

function drawn({ rows, columns, width, height, maps, scale, options }: Maps): Picture {
  const single = columns.length === 1;
  const across = single ? Math.min(rows.length, 8) : columns.length;
  const labels = options.labels ?? columns.map((frame) => `frame ${frame}`);
  const widest = Math.max(
    ...(single ? rows.map((row) => `channel ${row}`) : labels).map((text) => labelWidth(text)),
  );
  const to = options.width ?? Math.max(MAP_WIDTH, widest);
  const tall = Math.max(1, Math.round((height * to) / width));
  const margin = single ? 0 : Math.max(...rows.map((row) => labelWidth(`channel ${row}`))) + 8;
  const top = options.title ? LINE + 8 : 2;
  const lineHeight = single ? tall + LINE : tall + GAP;

  const pictures: PlacedPicture[] = [];
  const texts: PlacedText[] = options.title
    ? [{ text: options.title, x: 2, y: 16, size: 14, bold: true }]
    : [];
  const place = (row: number, column: number, left: number, y: number) => {
    const rgb = Promise.all([maps, scale]).then(([all, range]) => colored(all[row]![column]!, range));
    rgb.catch(() => {});
    pictures.push({ rgb, width, height, at: { left, top: y, width: to, height: tall }, pixelated: true });
  };
  rows.forEach((channel, row) => {
    if (single) {
      const left = (row % across) * (to + GAP);
      const y = top + Math.floor(row / across) * lineHeight;
      place(row, 0, left, y);
      const label = { text: `channel ${channel}`, x: left + to / 2, y: y + tall + 13 };
      texts.push({ ...label, size: LABEL_SIZE, anchor: "middle" });
      return;
    }
    const y = top + row * lineHeight;
    texts.push({ text: `channel ${channel}`, x: 2, y: y + tall / 2 + 4, size: LABEL_SIZE });
    columns.forEach((_, column) => {
      place(row, column, margin + column * (to + GAP), y);
    });
  });
  const bottom = top + (single ? Math.ceil(rows.length / across) : rows.length) * lineHeight;
  if (!single) {
    labels.forEach((text, column) => {
      const x = margin + column * (to + GAP) + to / 2;
      texts.push({ text, x, y: bottom + 11, size: LABEL_SIZE, anchor: "middle" });
    });
  }
  const barHeight = Math.min(160, bottom - top - GAP);
  const right = margin + across * (to + GAP) + 8;
  pictures.push({
    rgb: Promise.resolve(gradient(barHeight)),
    width: 1,
    height: barHeight,
    at: { left: right, top, width: BAR_WIDTH, height: barHeight },
    pixelated: true,
  });
  const x = right + BAR_WIDTH + 4;
  const ends = scale.then(([low, high]) => [
    { text: short(high), x, y: top + 10, size: LABEL_SIZE },
    { text: short(low), x, y: top + barHeight, size: LABEL_SIZE },
  ]);
  ends.catch(() => {});
  const sheet = { width: x + labelWidth("−0.0e+00"), height: bottom + LINE, pictures, texts, late: ends };
  return new Picture(sheet, `Channels ${rows.join(", ")}${options.title ? `: ${options.title}` : ""}`);
}

function inside(indices: readonly number[], count: number, what: string): readonly number[] {
  if (indices.length === 0) throw new InputError(`channels: expected at least one of ${what}, found none`);
  return indices.map((index) => {
    const at = index < 0 ? index + count : index;
    if (!Number.isInteger(at) || at < 0 || at >= count) {
      throw new InputError(`channels: expected ${what} below ${count}, found ${index}`);
    }
    return at;
  });
}

function extent(maps: readonly Float32Array[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const map of maps) {
    for (const value of map) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low < high ? [low, high] : [low - 1, low + 1];
}

/** NaN is drawn in white. */
function colored(map: Float32Array, [low, high]: readonly [number, number]): Uint8Array {
  const rgb = new Uint8Array(map.length * 3).fill(255);
  map.forEach((value, i) => {
    if (!Number.isNaN(value)) rgb.set(color((value - low) / (high - low)), i * 3);
  });
  return rgb;
}

function gradient(height: number): Uint8Array {
  const rgb = new Uint8Array(height * 3);
  for (let y = 0; y < height; y++) rgb.set(color(1 - y / Math.max(1, height - 1)), y * 3);
  return rgb;
}

function color(unit: number): number[] {
  const at = Math.min(Math.max(unit, 0), 1) * (VIRIDIS.length - 1);
  const below = VIRIDIS[Math.floor(at)]!;
  const above = VIRIDIS[Math.ceil(at)]!;
  return below.map((value, i) => Math.round(value + (above[i]! - value) * (at - Math.floor(at))));
}

function short(value: number): string {
  return String(Number(value.toPrecision(3))).replace("-", "−");
}
