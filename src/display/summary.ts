import { InputError } from "../engine/errors.js";
import type { Tensor } from "../engine/tf.js";
import { htmlTable } from "./html-table.js";
import { escapeXml, jupyterDisplay, type MimeBundle, showAs } from "./mime.js";
import { isTensor } from "./pixels.js";

/** What {@link summary} says about a tensor. */
export interface TensorStatistics {
  readonly shape: readonly number[];
  readonly dtype: string;
  /** Of the finite values; NaN if there are none. */
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  /** Population standard deviation, of the finite values. */
  readonly std: number;
  /** How many values are NaN or infinite. */
  readonly notFinite: number;
  /** Counts of the finite values in equal bins from `min` to `max`. */
  readonly histogram: readonly number[];
}

const BINS = 16;
const BLOCKS = "▁▂▃▄▅▆▇█";

/** The facts of a tensor in a line or two: shape, dtype, values and how they are spread. */
export class TensorSummary {
  readonly #statistics: TensorStatistics;

  constructor(
    tensor: Tensor,
    readonly name: string,
  ) {
    if (!isTensor(tensor)) throw new InputError("summary: expected a tensor");
    const { shape, dtype } = tensor;
    if (dtype === "string" || dtype === "complex64") {
      throw new InputError(`summary: expected a tensor of numbers, found dtype ${dtype}`);
    }
    // Read at once, so that console.log has them as well.
    this.#statistics = { shape, dtype, ...statistics(tensor.dataSync()) };
  }

  statistics(): Promise<TensorStatistics> {
    return Promise.resolve(this.#statistics);
  }

  [jupyterDisplay](): MimeBundle {
    const { head, facts, bars } = this.#parts();
    const cells = [
      `<b>${escapeXml(head)}</b>`,
      ...facts.map(([name, value]) => `${name} <b>${value}</b>`),
      `<code>${bars}</code>`,
    ];
    return { "text/html": htmlTable([cells.map((html) => ({ html }))]), "text/plain": this.#text() };
  }

  static {
    showAs<TensorSummary>(TensorSummary, { line: (summary) => summary.#text() });
  }

  #text(): string {
    const { head, facts, bars } = this.#parts();
    return `${head}  ${facts.map(([name, value]) => `${name} ${value}`).join("  ")}  ${bars}`;
  }

  #parts() {
    const { shape, dtype, min, max, mean, std, notFinite, histogram } = this.#statistics;
    const facts = [
      ["min", number(min)],
      ["max", number(max)],
      ["mean", number(mean)],
      ["std", number(std)],
      ...(notFinite > 0 ? [["not finite", String(notFinite)]] : []),
    ] as const;
    return { head: `${this.name} [${shape.join(", ")}] ${dtype}`, facts, bars: sparkline(histogram) };
  }
}

/**
 * Shape, dtype, minimum, maximum, mean, standard deviation and a small histogram of a tensor.
 *
 * @example summary(latents, "latents")
 * @param tensor read at once, so it may be disposed afterwards
 * @throws InputError for anything but a tensor of numbers
 */
export function summary(tensor: Tensor, name = "Tensor"): TensorSummary {
  return new TensorSummary(tensor, name);
}

function statistics(values: ArrayLike<number>) {
  let [min, max, sum, count] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) continue;
    if (value < min) min = value;
    if (value > max) max = value;
    sum += value;
    count++;
  }
  const mean = sum / count;
  let squares = 0;
  const histogram = new Array<number>(BINS).fill(0);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) continue;
    squares += (value - mean) ** 2;
    const bin = max > min ? Math.floor(((value - min) / (max - min)) * BINS) : 0;
    histogram[Math.min(bin, BINS - 1)]! += 1;
  }
  if (count === 0) [min, max] = [Number.NaN, Number.NaN];
  return { min, max, mean, std: Math.sqrt(squares / count), notFinite: values.length - count, histogram };
}

function sparkline(histogram: readonly number[]): string {
  const most = Math.max(...histogram, 1);
  return histogram.map((count) => BLOCKS[Math.ceil((count / most) * (BLOCKS.length - 1))]).join("");
}

function number(value: number): string {
  return Number.isNaN(value) ? "NaN" : String(Number(value.toPrecision(4)));
}
