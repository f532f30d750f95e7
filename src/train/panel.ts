import { randomUUID } from "node:crypto";
import { figure, type Trace } from "../display/figure.js";
import { jupyterDisplay, type MimeBundle } from "../display/mime.js";
import type { Clip } from "../video/clip.js";
import { encodeWebp } from "../video/write.js";
import { formatBytes, formatDuration, memoryInUse } from "./plan.js";
import type { Tracker } from "./trackers.js";
import type { StepReport } from "./trainer.js";

/** The kernel's global `display`; absent outside of notebooks. */
type Display = (value: unknown, options: { displayId: string; update: boolean }) => unknown;

const INTERVAL_MS = 1000;
const BINS = 10;
/** Steps that the smooth line is a mean over. */
const WINDOW = 16;

/**
 * What a notebook shows of a training while it runs, in one place: loss, loss by diffusion step, gradient norm, learning
 * rate, the latest sample, the time that is left and the memory in use. While it moves only the interactive figure is
 * sent; the last one comes with its picture and says nothing of time, so that running it again changes nothing.
 *
 * ```ts
 * const panel = new TrainingPanel({ totalSteps: trainer.totalSteps });
 * for await (const report of trainer.steps()) panel.add(report);
 * await panel.finish();
 * ```
 */
export class TrainingPanel implements Pick<Tracker, "sample" | "finish"> {
  readonly #display = (globalThis as { display?: Display }).display;
  readonly #figureId = randomUUID();
  readonly #sampleId = randomUUID();
  readonly #numTrainTimesteps: number;
  readonly #totalSteps: number | undefined;
  readonly #steps: number[] = [];
  readonly #losses: number[] = [];
  readonly #norms: number[] = [];
  readonly #rates: number[] = [];
  readonly #bins = Array.from({ length: BINS }, () => ({ sum: 0, count: 0 }));
  #secondsTaken = 0;
  #shown = Number.NEGATIVE_INFINITY;
  #figureIsThere = false;
  #sampleIsThere = false;

  /**
   * @param options.numTrainTimesteps of the schedule; default 1000.
   * @param options.totalSteps of the run, to tell the time that is left.
   */
  constructor({
    numTrainTimesteps = 1000,
    totalSteps,
  }: {
    numTrainTimesteps?: number;
    totalSteps?: number;
  } = {}) {
    this.#numTrainTimesteps = numTrainTimesteps;
    this.#totalSteps = totalSteps;
  }

  /** Takes a step in; draws at most once a second. */
  add({ step, loss, gradNorm, learningRate, timesteps, sampleLosses, seconds }: StepReport): void {
    this.#secondsTaken += seconds;
    this.#steps.push(step);
    this.#losses.push(loss);
    this.#norms.push(gradNorm);
    this.#rates.push(learningRate);
    timesteps.forEach((timestep, i) => {
      const bin = this.#bins[Math.min(BINS - 1, Math.floor((timestep * BINS) / this.#numTrainTimesteps))]!;
      bin.sum += sampleLosses[i]!;
      bin.count++;
    });
    if (performance.now() - this.#shown < INTERVAL_MS) return;
    this.#shown = performance.now();
    const bundle: MimeBundle = {
      "application/vnd.plotly.v1+json": {
        data: this.traces(),
        layout: { ...this.layout(), title: { text: this.#progress(step) } },
      },
      "text/plain": `${this.#progress(step)}; loss ${loss.toFixed(4)}`,
    };
    this.#show({ [jupyterDisplay]: () => bundle });
  }

  /** Shows a generated clip below the figure, in the place of the one before. */
  async sample(name: string, clip: Clip, step: number): Promise<void> {
    if (!this.#display) return;
    const webp = Buffer.from(await encodeWebp(clip)).toString("base64");
    const text = `${name} at step ${step}: ${clip.numFrames} frames of ${clip.width}x${clip.height}`;
    const bundle: MimeBundle = {
      "text/html": `<img src="data:image/webp;base64,${webp}" width="${clip.width}" alt="${text}">`,
      "text/plain": text,
    };
    this.#display(
      { [jupyterDisplay]: () => bundle },
      { displayId: this.#sampleId, update: this.#sampleIsThere },
    );
    this.#sampleIsThere = true;
  }

  /** Shows the figure as it stays in the notebook. */
  async finish(): Promise<void> {
    if (this.#steps.length > 0) this.#show(figure(this.traces(), this.layout()));
  }

  /** The figure's traces as they are now. */
  traces(): Trace[] {
    const running = this.#losses.map((_, i) => {
      const part = this.#losses.slice(Math.max(0, i - WINDOW + 1), i + 1);
      return part.reduce((sum, value) => sum + value, 0) / part.length;
    });
    const width = this.#numTrainTimesteps / BINS;
    const seen = this.#bins
      .map((bin, i) => ({ ...bin, middle: (i + 0.5) * width }))
      .filter(({ count }) => count > 0);
    const line = (y: readonly number[], name: string, axis: string, extra: Trace = {}): Trace => ({
      type: "scatter",
      mode: "lines",
      x: [...this.#steps],
      y: [...y],
      name,
      xaxis: `x${axis}`,
      yaxis: `y${axis}`,
      ...extra,
    });
    return [
      line(this.#losses, "loss", "", { mode: "markers", marker: { size: 4, opacity: 0.4 } }),
      line(running, `mean of ${WINDOW}`, ""),
      {
        type: "bar",
        x: seen.map(({ middle }) => middle),
        y: seen.map(({ sum, count }) => sum / count),
        width: 0.9 * width,
        name: "loss by timestep",
        xaxis: "x2",
        yaxis: "y2",
      },
      line(this.#norms, "gradient norm", "3"),
      line(this.#rates, "learning rate", "4"),
    ];
  }

  layout(): Record<string, unknown> {
    const axis = (text: string, anchor: string) => ({ title: { text }, anchor });
    return {
      grid: { rows: 2, columns: 2, pattern: "independent", xgap: 0.18, ygap: 0.28 },
      height: 520,
      showlegend: false,
      xaxis: axis("step", "y"),
      yaxis: axis("loss", "x"),
      xaxis2: axis("timestep", "y2"),
      yaxis2: axis("mean loss", "x2"),
      xaxis3: axis("step", "y3"),
      yaxis3: axis("gradient norm", "x3"),
      xaxis4: axis("step", "y4"),
      yaxis4: axis("learning rate", "x4"),
    };
  }

  /** "step 120 of 400, 0.5 s a step, 2 min left, 812 MB". */
  #progress(step: number): string {
    const perStep = this.#secondsTaken / this.#steps.length;
    const parts = [`${Number(perStep.toPrecision(2))} s a step`];
    if (this.#totalSteps !== undefined)
      parts.push(`${formatDuration(perStep * (this.#totalSteps - step))} left`);
    parts.push(formatBytes(memoryInUse().process));
    return `step ${step}${this.#totalSteps === undefined ? "" : ` of ${this.#totalSteps}`}, ${parts.join(", ")}`;
  }

  #show(value: unknown): void {
    this.#display?.(value, { displayId: this.#figureId, update: this.#figureIsThere });
    this.#figureIsThere = true;
  }
}
