import { type Animation, animate } from "../display/animate.js";
import { Figure, type Layout, type Trace } from "../display/figure.js";
import { LiveOutput } from "../display/live.js";
import { jupyterDisplay, type MimeBundle, showAs } from "../display/mime.js";
import { InputError } from "../engine/errors.js";
import type { Clip } from "../video/clip.js";
import { formatBytes, formatDuration, memoryInUse } from "./plan.js";
import { stepValues, type Tracker } from "./trackers.js";
import type { StepReport } from "./trainer.js";

export interface TrainingPanelOptions {
  /** Shown above the charts. */
  readonly title?: string;
  /** Which numbers get a chart, in this order. Default: the first eight that are logged. */
  readonly metrics?: readonly string[];
  /** Steps of the whole run, to estimate the time left. Default: the run's `train_steps`, if set. */
  readonly totalSteps?: number;
  /** Timesteps of the diffusion. Default 1000. */
  readonly numTrainTimesteps?: number;
  /** Seconds between two redraws. Default 1. */
  readonly interval?: number;
}

/** Lines with fewer points than this mark each one. */
const FEW_POINTS = 16;
/** Points in a line; longer runs show every second, fourth, ... step. */
const MOST_POINTS = 512;
const MOST_CHARTS = 8;
/** Clips shown at a time. */
const MOST_SAMPLES = 4;
/** Steps that the smooth line averages over. */
const WINDOW = 16;
/** Bars in the chart of the loss by timestep. */
const BINS = 10;
const LABELS: Readonly<Record<string, string>> = { grad_norm: "gradient norm", lr: "learning rate" };
/** Logged, but not a measure of the training. */
const NOT_DRAWN = new Set(["epoch", "step_seconds"]);

/**
 * What a notebook shows of a training while it runs, in one place: loss, loss by timestep, gradient norm, learning rate and
 * whatever else is logged, the time left, the memory in use, and the latest samples below. While training runs, only the
 * interactive figure is sent; the last one comes with its picture and does not mention time, so that running it again
 * changes nothing. Outside a notebook it shows nothing.
 *
 * @example
 * const panel = new TrainingPanel({ totalSteps: trainer.totalSteps });
 * for await (const report of trainer.steps()) await panel.add(report);
 * await panel.finish();
 *
 * @example await runTraining(await readArguments({ config: "lora.yaml" }), { trackers: [new TrainingPanel()] });
 */
export class TrainingPanel implements Tracker {
  readonly #options: TrainingPanelOptions;
  readonly #charts = new LiveOutput();
  readonly #samples = new Map<string, LiveOutput>();
  readonly #series = new Map<string, Series>();
  readonly #smooth = new Series();
  readonly #window: number[] = [];
  readonly #byTimestep = new Map<number, { width: number; sum: number; count: number }>();
  #totalSteps: number | undefined;
  #seconds = 0;
  #timedSteps = 0;
  #drawn = Number.NEGATIVE_INFINITY;

  /** @throws InputError for a negative interval */
  constructor(options: TrainingPanelOptions = {}) {
    const { interval = 1, totalSteps } = options;
    if (!(interval >= 0)) throw new InputError(`TrainingPanel: expected interval >= 0, found ${interval}`);
    this.#options = options;
    this.#totalSteps = totalSteps;
  }

  async start(config: Readonly<Record<string, unknown>>): Promise<void> {
    if (typeof config.train_steps === "number") this.#totalSteps ??= config.train_steps;
  }

  /** Adds a step of a {@link Trainer}. */
  async add(report: StepReport): Promise<void> {
    const { numTrainTimesteps = 1000 } = this.#options;
    await this.log(stepValues(report, { numTrainTimesteps, bins: BINS }), report.step);
  }

  /** Adds numbers of a step, by name, and redraws if the interval is over. */
  async log(values: Readonly<Record<string, number>>, step: number): Promise<void> {
    for (const [name, value] of Object.entries(values)) {
      if (name.startsWith("loss_t/")) this.#addBin(name, value);
      else if (name === "step_seconds") {
        this.#seconds += value;
        this.#timedSteps++;
      }
      if (name === "loss") this.#addLoss(step, value);
      if (!this.#isChart(name)) continue;
      const series = this.#series.get(name) ?? new Series();
      this.#series.set(name, series);
      series.add(step, value);
    }
    const now = performance.now();
    if (this.#series.size === 0 || now - this.#drawn < (this.#options.interval ?? 1) * 1000) return;
    this.#drawn = now;
    await this.#charts.show(new Sketch(this.#figure(this.#progress(step)), this.#newest()));
  }

  /** Shows a generated clip below the charts, replacing the last one of that name; only the first four names are shown. */
  async sample(name: string, clip: Clip, step: number): Promise<void> {
    const output = this.#samples.get(name) ?? new LiveOutput();
    if (this.#samples.size >= MOST_SAMPLES && !this.#samples.has(name)) return;
    this.#samples.set(name, output);
    const shown: Animation = animate(clip, { title: `${name}, step ${step}` });
    await output.show(shown);
  }

  /** Draws a last time, with the picture that stays in the notebook. */
  async finish(): Promise<void> {
    if (this.#series.size > 0) await this.#charts.show(this.figure());
  }

  static {
    showAs<TrainingPanel>(TrainingPanel, {
      line: (panel) => `TrainingPanel(${[...panel.#series.keys()].join(", ")})`,
      bundle: (panel) => (panel.#series.size > 0 ? panel.figure()[jupyterDisplay]() : undefined),
    });
  }

  /** The charts in their current state. */
  figure(): Figure {
    return this.#figure(this.#options.title);
  }

  #figure(title: string | undefined): Figure {
    const charts = this.#traces();
    const columns = Math.min(charts.length, 2);
    const rows = Math.ceil(charts.length / 2);
    const layout: Layout = {
      ...(title ? { title: { text: title } } : {}),
      grid: { rows, columns, pattern: "independent", xgap: 0.22, ygap: rows > 2 ? 0.38 : 0.28 },
      height: 40 + rows * 240,
      showlegend: false,
    };
    const data = charts.flatMap(({ x, y, traces }, i) => {
      const axis = i === 0 ? "" : String(i + 1);
      layout[`xaxis${axis}`] = { title: { text: x }, anchor: `y${axis}` };
      const fromZero = y === LABELS.lr || y === LABELS.grad_norm;
      layout[`yaxis${axis}`] = {
        title: { text: y },
        anchor: `x${axis}`,
        ...(fromZero ? { rangemode: "tozero", exponentformat: "e" } : {}),
      };
      return traces.map((trace) => ({ ...trace, xaxis: `x${axis}`, yaxis: `y${axis}` }));
    });
    return new Figure(data, layout);
  }

  /** A chart for each metric; the loss also by timestep. */
  #traces(): { x: string; y: string; traces: Trace[] }[] {
    const names = this.#options.metrics ?? [...this.#series.keys()];
    const charts = names.flatMap((name) => {
      const series = this.#series.get(name);
      if (!series) return [];
      const label = LABELS[name] ?? name;
      const mode = series.line.x.length < FEW_POINTS ? "lines+markers" : "lines";
      const line: Trace = { type: "scatter", mode, ...series.line, name: label };
      if (name !== "loss") return [{ x: "step", y: label, traces: [line] }];
      const points: Trace = { ...line, mode: "markers", marker: { size: 4, opacity: 0.4 } };
      const smooth: Trace = { ...line, ...this.#smooth.line, mode: "lines", name: `mean of ${WINDOW}` };
      return [{ x: "step", y: "loss", traces: [points, smooth] }, ...this.#bars()];
    });
    return charts.slice(0, MOST_CHARTS);
  }

  #bars(): { x: string; y: string; traces: Trace[] }[] {
    const bins = [...this.#byTimestep].sort(([a], [b]) => a - b).map(([from, bin]) => ({ from, ...bin }));
    if (bins.length === 0) return [];
    const bars: Trace = {
      type: "bar",
      x: bins.map(({ from, width }) => from + width / 2),
      y: bins.map(({ sum, count }) => sum / count),
      width: bins.map(({ width }) => 0.9 * width),
      name: "loss by timestep",
    };
    return [{ x: "timestep", y: "mean loss", traces: [bars] }];
  }

  #isChart(name: string): boolean {
    const { metrics } = this.#options;
    return metrics ? metrics.includes(name) : !NOT_DRAWN.has(name) && !name.startsWith("loss_t/");
  }

  #addLoss(step: number, value: number): void {
    this.#window.push(value);
    if (this.#window.length > WINDOW) this.#window.shift();
    this.#smooth.add(step, this.#window.reduce((sum, loss) => sum + loss, 0) / this.#window.length);
  }

  /** @param name such as "loss_t/0-249" */
  #addBin(name: string, value: number): void {
    const [, from, to] = /(\d+)-(\d+)$/.exec(name) ?? [];
    if (from === undefined) return;
    const width = Number(to) - Number(from) + 1;
    const bin = this.#byTimestep.get(Number(from)) ?? { width, sum: 0, count: 0 };
    this.#byTimestep.set(Number(from), { width, sum: bin.sum + value, count: bin.count + 1 });
  }

  /** "step 120 of 400, 0.5 s a step, 2 min left, 812 MB". */
  #progress(step: number): string {
    const { title } = this.#options;
    const parts = [`step ${step}${this.#totalSteps === undefined ? "" : ` of ${this.#totalSteps}`}`];
    if (this.#timedSteps > 0) {
      const perStep = this.#seconds / this.#timedSteps;
      parts.push(`${Number(perStep.toPrecision(2))} s a step`);
      if (this.#totalSteps !== undefined)
        parts.push(`${formatDuration(perStep * (this.#totalSteps - step))} left`);
    }
    parts.push(formatBytes(memoryInUse().process));
    return `${title ? `${title}, ` : ""}${parts.join(", ")}`;
  }

  #newest(): string {
    const [first] = this.#series;
    return first ? `${first[0]} ${Number(first[1].last.toPrecision(4))}` : "";
  }
}

/** The values of one name, thinned out as their number grows. */
class Series {
  readonly #steps: number[] = [];
  readonly #values: number[] = [];
  #stride = 1;
  #seen = 0;
  #last: readonly [step: number, value: number] = [0, 0];

  add(step: number, value: number): void {
    this.#last = [step, value];
    if (this.#seen++ % this.#stride !== 0) return;
    this.#steps.push(step);
    this.#values.push(value);
    if (this.#steps.length < MOST_POINTS) return;
    for (const list of [this.#steps, this.#values]) {
      const kept = list.filter((_, i) => i % 2 === 0);
      list.splice(0, list.length, ...kept);
    }
    this.#stride *= 2;
  }

  get last(): number {
    return this.#last[1];
  }

  /** The values kept, always with the newest. */
  get line(): { x: number[]; y: number[] } {
    const [step, value] = this.#last;
    const whole = this.#steps.at(-1) === step;
    return {
      x: whole ? [...this.#steps] : [...this.#steps, step],
      y: whole ? [...this.#values] : [...this.#values, value],
    };
  }
}

/** A figure that is soon replaced: data only, since a picture would take longer to draw than it is shown. */
class Sketch {
  constructor(
    private readonly figure: Figure,
    private readonly newest: string,
  ) {}

  async [jupyterDisplay](): Promise<MimeBundle> {
    const spec = await this.figure.toJSON();
    const { text } = spec.layout.title as { text: string };
    return { "application/vnd.plotly.v1+json": spec, "text/plain": `${text}; ${this.newest}` };
  }
}
