import { randomUUID } from "node:crypto";
import type { Tracker } from "../train/trackers.js";
import type { Clip } from "../video/clip.js";
import { animate } from "./animate.js";
import { Figure, type Layout, type Trace } from "./figure.js";
import { jupyterDisplay, type MimeBundle } from "./mime.js";

export interface LivePanelOptions {
  readonly title?: string;
  /** Which numbers get a chart, in this order; the first six that are logged unless given. */
  readonly metrics?: readonly string[];
  /** Metrics on a logarithmic axis; the loss unless given. */
  readonly logarithmic?: readonly string[];
  /** Seconds between two redraws. */
  readonly interval?: number;
}

/** The kernel's global `display`; absent outside of notebooks. */
type Display = (value: unknown, options: { displayId: string; update: boolean }) => unknown;

/** Points of a line; longer runs show every second, fourth, ... step. */
const MOST_POINTS = 512;
const MOST_CHARTS = 6;

/** One metric, thinned out as it grows. */
class Series {
  readonly steps: number[] = [];
  readonly values: number[] = [];
  #stride = 1;
  #seen = 0;
  #last: [step: number, value: number] = [0, 0];

  add(step: number, value: number): void {
    this.#last = [step, value];
    if (this.#seen++ % this.#stride !== 0) return;
    this.steps.push(step);
    this.values.push(value);
    if (this.steps.length < MOST_POINTS) return;
    for (const list of [this.steps, this.values]) {
      const kept = list.filter((_, i) => i % 2 === 0);
      list.splice(0, list.length, ...kept);
    }
    this.#stride *= 2;
  }

  get last(): number {
    return this.#last[1];
  }

  /** The thinned line, which always ends at the newest point. */
  get line(): { x: number[]; y: number[] } {
    const [step, value] = this.#last;
    const whole = this.steps.at(-1) === step;
    return {
      x: whole ? [...this.steps] : [...this.steps, step],
      y: whole ? [...this.values] : [...this.values, value],
    };
  }
}

/**
 * Charts of a running training in the cell's output: a chart for each metric and the newest sample, redrawn every two seconds.
 * Outside of a notebook it shows nothing.
 *
 * @example await runTraining(args, { trackers: [new LivePanel({ title: "LoRA" })] })
 */
export class LivePanel implements Tracker {
  readonly #options: LivePanelOptions;
  readonly #display = (globalThis as { display?: Display }).display;
  readonly #displayId = randomUUID();
  readonly #samples = new Map<string, string>();
  readonly #series = new Map<string, Series>();
  #step = 0;
  #drawn = Number.NEGATIVE_INFINITY;
  #shown = false;

  constructor(options: LivePanelOptions = {}) {
    const { interval = 2 } = options;
    if (!(interval >= 0)) throw new RangeError(`LivePanel: expected interval >= 0, found ${interval}`);
    this.#options = options;
  }

  async start(_config: Readonly<Record<string, unknown>>, step: number): Promise<void> {
    this.#step = step;
  }

  /** Numbers of one step, by their names. */
  async log(values: Readonly<Record<string, number>>, step: number): Promise<void> {
    this.#step = step;
    for (const [name, value] of Object.entries(values)) {
      if (this.#options.metrics && !this.#options.metrics.includes(name)) continue;
      if (typeof value !== "number") continue;
      const series = this.#series.get(name) ?? new Series();
      this.#series.set(name, series);
      series.add(step, value);
    }
    const now = performance.now();
    if (this.#series.size === 0 || now - this.#drawn < (this.#options.interval ?? 2) * 1000) return;
    this.#drawn = now;
    await this.#show(new Sketch(this.figure()));
  }

  /** Shows a generated clip below the charts; a later one of the same name takes its place. */
  async sample(name: string, clip: Clip, step: number): Promise<void> {
    if (!this.#display) return;
    const known = this.#samples.get(name);
    const displayId = known ?? randomUUID();
    this.#samples.set(name, displayId);
    const shown = animate(clip, { title: `${name}, step ${step}` });
    await this.#display(shown, { displayId, update: known !== undefined });
  }

  /** Draws once more, with the picture that stays in the notebook. */
  async finish(): Promise<void> {
    if (this.#series.size > 0) await this.#show(this.figure());
  }

  /** The charts as they are now. */
  figure(): Figure {
    const wanted = this.#options.metrics ?? [...this.#series.keys()];
    const names = wanted.filter((name) => this.#series.has(name)).slice(0, MOST_CHARTS);
    const columns = Math.min(names.length, 2);
    const rows = Math.ceil(names.length / columns);
    const logarithmic = this.#options.logarithmic ?? names.filter((name) => /(^|\/)loss$/.test(name));
    const data: Trace[] = [];
    const layout: Layout = {
      title: { text: this.#title() },
      showlegend: false,
      height: 60 + rows * 240,
      grid: { rows, columns, pattern: "independent", ygap: 0.3 },
    };
    names.forEach((name, i) => {
      const series = this.#series.get(name)!;
      const axis = i === 0 ? "" : String(i + 1);
      data.push({ ...series.line, name, mode: "lines", xaxis: `x${axis}`, yaxis: `y${axis}` });
      layout[`xaxis${axis}`] = i >= names.length - columns ? { title: { text: "step" } } : {};
      // A logarithm needs numbers above zero.
      const log = logarithmic.includes(name) && series.values.every((value) => value > 0);
      layout[`yaxis${axis}`] = {
        title: { text: name },
        ...(log ? { type: "log" } : { rangemode: "tozero", exponentformat: "e" }),
      };
    });
    return new Figure(data, layout);
  }

  #title(): string {
    const newest = [...this.#series]
      .slice(0, 3)
      .map(([name, series]) => `${name} ${Number(series.last.toPrecision(3))}`);
    const title = this.#options.title ? `${this.#options.title}, ` : "";
    return `${title}step ${this.#step}: ${newest.join(", ")}`;
  }

  async #show(value: unknown): Promise<void> {
    if (!this.#display) return;
    const update = this.#shown;
    this.#shown = true;
    await this.#display(value, { displayId: this.#displayId, update });
  }
}

/** A figure that is soon replaced: its data only, since pictures take longer to draw than they are looked at. */
class Sketch {
  constructor(private readonly figure: Figure) {}

  async [jupyterDisplay](): Promise<MimeBundle> {
    const spec = await this.figure.toJSON();
    const { text } = spec.layout.title as { text: string };
    return { "application/vnd.plotly.v1+json": spec, "text/plain": text };
  }
}
