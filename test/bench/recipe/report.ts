/** Everything that was found, in one file: what was said, each clip's values, and how sure the differences are. */
import { readFile } from "node:fs/promises";
import { writeFileAtomic } from "../../../src/files/atomic.js";
import { readClip } from "../../../src/video/read.js";
import { filmStrip } from "../../../src/video/strip.js";
import { writeClip } from "../../../src/video/write.js";
import {
  ARM_NAMES,
  ARMS,
  type ArmName,
  EXPERIMENTS,
  type ExperimentName,
  experimentsOf,
  MEASURES,
  RECIPE,
} from "./arms.js";
import { type Interval, pairedBootstrap, type Values, verdict } from "./bootstrap.js";
import { LOSS_WINDOW, type Runner, type RunResult, type Settings } from "./runner.js";

/** An arm's difference from the recipe, in the measure's unit. */
export interface Effect extends Interval {
  readonly arm: string;
  /** What the arm is called in charts. */
  readonly name: string;
  /** Of a single seed the interval says nothing about other seeds. */
  readonly seeds: number;
  readonly verdict: ReturnType<typeof verdict>;
}

export interface MeasureSummary {
  readonly label: string;
  readonly better?: "higher" | "lower";
  /** Means over seeds and clips, by arm. */
  readonly means: Readonly<Record<string, number>>;
  /** Against the recipe, of the seeds that both have. */
  readonly effects: readonly Effect[];
}

export interface ExperimentSummary {
  readonly question: string;
  readonly claims: readonly string[];
  /** What those claims lead one to expect, by arm; written before the arm was trained. */
  readonly predictions: Readonly<Record<string, string>>;
  readonly measures: Readonly<Record<string, MeasureSummary>>;
  /** Steps until the mean training loss of ten steps first falls below a value: by value and arm, one a seed; null if it never did. */
  readonly stepsToLoss: Readonly<Record<string, Readonly<Record<string, readonly (number | null)[]>>>>;
}

export interface RecipeReport {
  readonly command: string;
  readonly settings: Settings;
  readonly arms: Readonly<Record<string, string>>;
  readonly experiments: Readonly<Record<string, ExperimentSummary>>;
  readonly yardsticks: Readonly<Record<string, Readonly<Record<string, Values>>>>;
  /** The strip of rolls beside this file: a row for each name, a picture every fourth frame. */
  readonly strip: { readonly file: string; readonly rows: readonly string[]; readonly columns: number };
  readonly runs: readonly RunResult[];
}

/** Training losses whose steps are told. */
const LOSSES = [0.3, 0.2, 0.15, 0.1];

export async function readResults(runner: Runner, seeds: readonly number[]): Promise<RunResult[]> {
  const results: RunResult[] = [];
  for (const arm of ARM_NAMES) {
    for (const seed of seeds) {
      const result = await runner.result(arm, seed);
      if (result !== undefined) results.push(result);
    }
  }
  return results;
}

/** Makes the summary of some runs. */
export function summarize(runs: readonly RunResult[]): Record<string, ExperimentSummary> {
  const of = (arm: ArmName) => runs.filter((run) => run.arm === arm).sort((a, b) => a.seed - b.seed);
  const base = of(RECIPE);
  const summary: Record<string, ExperimentSummary> = {};
  for (const [name, experiment] of Object.entries(EXPERIMENTS)) {
    const arms = ARM_NAMES.filter((arm) => experimentsOf(arm).includes(name as ExperimentName));
    const measures: Record<string, MeasureSummary> = {};
    for (const measure of experiment.measures) {
      const { label, better } = MEASURES[measure]!;
      const means: Record<string, number> = {};
      const effects: Effect[] = [];
      for (const arm of arms) {
        const values = of(arm).flatMap((run) => run.values[measure] ?? []);
        const known = values.filter((value) => value !== null);
        if (known.length === 0) continue;
        means[arm] = rounded(known.reduce((sum, value) => sum + value, 0) / known.length);
        if (arm === RECIPE) continue;
        const pairs = of(arm).flatMap((run) => {
          const other = base.find(({ seed }) => seed === run.seed);
          const [a, b] = [run.values[measure], other?.values[measure]];
          return a && b ? [[a, b] as const] : [];
        });
        const interval = pairedBootstrap(
          pairs.map(([a]) => a),
          pairs.map(([, b]) => b),
        );
        if (interval === undefined) continue;
        const { mean, low, high } = interval;
        effects.push({
          ...{ arm, name: ARMS[arm].label, seeds: pairs.length, verdict: verdict(interval) },
          ...{ mean: rounded(mean), low: rounded(low), high: rounded(high) },
        });
      }
      measures[measure] = { label, ...(better === undefined ? {} : { better }), means, effects };
    }
    const stepsToLoss = Object.fromEntries(
      LOSSES.map((loss) => [
        String(loss),
        Object.fromEntries(arms.map((arm) => [arm, of(arm).map((run) => stepsTo(run, loss))])),
      ]),
    );
    const { question, claims, predictions } = experiment;
    summary[name] = { question, claims, predictions, measures, stepsToLoss };
  }
  return summary;
}

function stepsTo({ losses }: RunResult, loss: number): number | null {
  const window = losses.findIndex((mean) => mean < loss);
  return window < 0 ? null : (window + 1) * LOSS_WINDOW;
}

const rounded = (value: number): number => Number(value.toPrecision(4));

/** Writes what there is; a run stands on one line. */
export async function writeReport(
  runner: Runner,
  runs: readonly RunResult[],
  file: string,
): Promise<RecipeReport> {
  const strip = await writeStrips(runner, runs, file.replace(/\.json$/, ".png"));
  const report: RecipeReport = {
    command: "npm run recipe",
    settings: runner.settings,
    arms: Object.fromEntries(ARM_NAMES.map((arm) => [arm, ARMS[arm].label])),
    experiments: summarize(runs),
    yardsticks: await runner.yardsticks(),
    strip,
    runs,
  };
  const { runs: _, yardsticks, ...rest } = report;
  const lines = (list: readonly unknown[]) => list.map((each) => `  ${JSON.stringify(each)}`).join(",\n");
  const text = `${JSON.stringify(rest, null, 1).slice(0, -2)},
 "yardsticks": ${JSON.stringify(yardsticks)},
 "runs": [
${lines(runs)}
 ]
}
`;
  await writeFileAtomic(file, text);
  return report;
}

/** The strips of the first seed of each arm that has one, below the truth's. */
async function writeStrips(
  runner: Runner,
  runs: readonly RunResult[],
  file: string,
): Promise<RecipeReport["strip"]> {
  const rows: { name: string; path: string }[] = [{ name: "truth", path: await runner.trueStrip() }];
  for (const arm of ARM_NAMES) {
    const run = runs.find((each) => each.arm === arm);
    if (run && experimentsOf(arm).includes("E1"))
      rows.push({ name: ARMS[arm].label, path: runner.stripOf(arm, run.seed) });
  }
  const pictures = await Promise.all(rows.map(({ path }) => readClip(path)));
  await writeClip(file, filmStrip(pictures, 1));
  const [first] = pictures;
  const columns = Math.round(first!.width / runner.settings.clips.width);
  return { file: file.split("/").at(-1)!, rows: rows.map(({ name }) => name), columns };
}

/** Reads a report again. */
export async function readReport(file: string): Promise<RecipeReport> {
  return JSON.parse(await readFile(file, "utf8")) as RecipeReport;
}

/** The summary as Markdown. */
export function printTables({ experiments }: RecipeReport, print: (line: string) => void): void {
  for (const [name, { question, measures, stepsToLoss }] of Object.entries(experiments)) {
    print(`\n## ${name}. ${question}\n`);
    print("| measure | arm | seeds | mean | difference from the recipe, 95 % | |");
    print("| --- | --- | --- | --- | --- | --- |");
    for (const { label, means, effects } of Object.values(measures)) {
      if (means[RECIPE] !== undefined) print(`| ${label} | the recipe | | ${means[RECIPE]} | | |`);
      for (const { arm, name: shown, seeds, mean, low, high, verdict: says } of effects) {
        print(`| | ${shown} | ${seeds} | ${means[arm]} | ${mean} (${low} to ${high}) | ${says} |`);
      }
    }
    for (const [loss, arms] of Object.entries(stepsToLoss)) {
      const told = Object.entries(arms).map(
        ([arm, steps]) => `${arm} ${steps.map((s) => s ?? "-").join(" ")}`,
      );
      print(`\nSteps to a loss of ${loss}, one a seed: ${told.join("; ")}`);
    }
  }
}
