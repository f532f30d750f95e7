import { mkdir, open, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { writeAtomically } from "../files/atomic.js";
import type { Clip } from "../video/clip.js";
import { encodeGif, encodePng } from "../video/write.js";
import { SummaryWriter } from "./tensorboard.js";
import type { StepReport } from "./trainer.js";

/** Where a run's numbers and samples go. */
export interface Tracker {
  /** Called before the first step. @param step steps already taken, if the run is resumed. */
  start(config: Readonly<Record<string, unknown>>, step: number): Promise<void>;
  /** Numbers of one step, by names such as "loss", "grad_norm" and "validation/psnr". */
  log(values: Readonly<Record<string, number>>, step: number): Promise<void>;
  /** A generated clip. */
  sample?(name: string, clip: Clip, step: number): Promise<void>;
  finish(): Promise<void>;
}

/**
 * What is logged for a step: "loss", "grad_norm", "lr", "epoch", "step_seconds", and the mean loss of its samples in each part
 * of the diffusion, under names such as "loss_t/0-249".
 *
 * @param options.bins parts that the diffusion's timesteps are divided into. Default 4.
 */
export function stepValues(
  { loss, gradNorm, learningRate, epoch, seconds, timesteps, sampleLosses }: StepReport,
  { numTrainTimesteps, bins = 4 }: { readonly numTrainTimesteps: number; readonly bins?: number },
): Record<string, number> {
  const values: Record<string, number> = {
    loss,
    grad_norm: gradNorm,
    lr: learningRate,
    epoch,
    step_seconds: seconds,
  };
  for (let bin = 0; bin < bins; bin++) {
    const inside = sampleLosses.filter(
      (_, i) => Math.floor((timesteps[i]! * bins) / numTrainTimesteps) === bin,
    );
    if (inside.length === 0) continue;
    const [from, to] = [(bin * numTrainTimesteps) / bins, ((bin + 1) * numTrainTimesteps) / bins - 1];
    values[`loss_t/${from}-${to}`] = inside.reduce((sum, value) => sum + value, 0) / inside.length;
  }
  return values;
}

/** One JSON object per line: `{"step": 1, "time": 1700000000.0, "loss": 0.5, ...}`. */
export class JsonlTracker implements Tracker {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Removes steps that a killed run logged after the checkpoint it is resumed from. */
  async start(_config: Readonly<Record<string, unknown>>, step: number): Promise<void> {
    await mkdir(dirname(this.path), { recursive: true });
    const text = await readFile(this.path, "utf8").catch(() => "");
    const kept = text.split("\n").filter((line) => {
      try {
        return (JSON.parse(line) as { step: number }).step <= step;
      } catch {
        return false; // blank, or cut off when the process died
      }
    });
    await writeAtomically(this.path, (handle) => handle.writeFile(kept.map((line) => `${line}\n`).join("")));
  }

  async log(values: Readonly<Record<string, number>>, step: number): Promise<void> {
    const line = JSON.stringify({ step, time: Date.now() / 1000, ...values });
    const handle = await open(this.path, "a");
    try {
      await handle.appendFile(`${line}\n`);
    } finally {
      await handle.close();
    }
  }

  async finish(): Promise<void> {}
}

/** TensorBoard's event files; samples as moving pictures. */
export class TensorBoardTracker implements Tracker {
  readonly #logDir: string;
  #writer: SummaryWriter | undefined;

  constructor(logDir: string) {
    this.#logDir = logDir;
  }

  async start(config: Readonly<Record<string, unknown>>, step: number): Promise<void> {
    this.#writer = await SummaryWriter.create(this.#logDir, step > 0 ? { purgeStep: step + 1 } : {});
    const rows = Object.entries(config).map(([key, value]) => `| ${key} | ${JSON.stringify(value)} |`);
    await this.#writer.addText("config", ["| option | value |", "| --- | --- |", ...rows].join("\n"), step);
  }

  async log(values: Readonly<Record<string, number>>, step: number): Promise<void> {
    await this.#writer?.addScalars(values, step);
  }

  async sample(name: string, clip: Clip, step: number): Promise<void> {
    const encoded = clip.numFrames > 1 ? await encodeGif(clip) : await encodePng(clip);
    await this.#writer?.addImage(name, encoded, clip, step);
  }

  async finish(): Promise<void> {
    await this.#writer?.close();
    this.#writer = undefined;
  }
}

/** The recipe's `report_to`, and JSONL. */
export const REPORT_TO = ["tensorboard", "jsonl", "all", "none"] as const;

/** Trackers that write into a run's folder: `logs/NAME` for TensorBoard, `logs/metrics.jsonl`. */
export function makeTrackers(
  reportTo: (typeof REPORT_TO)[number],
  outputDir: string,
  name: string,
): Tracker[] {
  const trackers: Tracker[] = [];
  if (reportTo === "tensorboard" || reportTo === "all") {
    trackers.push(new TensorBoardTracker(join(outputDir, "logs", name)));
  }
  if (reportTo === "jsonl" || reportTo === "all") {
    trackers.push(new JsonlTracker(join(outputDir, "logs", "metrics.jsonl")));
  }
  return trackers;
}
