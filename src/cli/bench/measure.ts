/**
 * One benchmark in its own process, so that the peak memory is its own:
 * `node measure.js NAME FOLDER REPEAT CHECKPOINTING DTYPE`, which prints one JSON object: figures, or why there are none.
 */

import { readFileSync } from "node:fs";
import { FirstframeError } from "../../engine/errors.js";
import { useEngine } from "../../engine/index.js";
import type { ModelDtype } from "../../weights/dtype.js";
import { benchmarkOf, differenceFromPeer, prepare, readManifest } from "./work.js";

export interface Measured {
  readonly engine: string;
  readonly device: string;
  readonly seconds: number;
  readonly min: number;
  readonly max: number;
  /** The first run, which is not among the others. */
  readonly warmup: number;
  readonly cpu_seconds: number;
  readonly repeat: number;
  readonly peak_rss_mb: number;
  readonly rss_before_mb: number;
  /** From PyTorch's output in float32: the largest one, relative to its largest value. */
  readonly difference?: number;
  /** The same by the Euclidean norm, relative to that of PyTorch's output: what peer_torch.py calls its difference. */
  readonly distance?: number;
}

async function measure(
  name: string,
  folder: string,
  repeat: number,
  checkpoint: boolean,
  dtype: ModelDtype,
): Promise<Measured> {
  const { name: engine, device } = await useEngine();
  const manifest = await readManifest(folder);
  const benchmark = benchmarkOf(manifest, name)!;
  const work = await prepare(folder, manifest, benchmark, checkpoint, dtype);
  const before = memory("VmRSS");
  const start = performance.now();
  const first = await work();
  const warmup = performance.now() - start;
  const times: number[] = [];
  const cpu: number[] = [];
  for (let i = 0; i < repeat; i++) {
    const used = process.cpuUsage();
    const begun = performance.now();
    await work();
    times.push((performance.now() - begun) / 1000);
    const { user, system } = process.cpuUsage(used);
    cpu.push((user + system) / 1e6);
  }
  const peak = memory("VmHWM");
  const apart = await differenceFromPeer(folder, benchmark, first);
  return {
    engine,
    device,
    seconds: round(median(times)),
    min: round(Math.min(...times)),
    max: round(Math.max(...times)),
    warmup: round(warmup / 1000),
    cpu_seconds: round(median(cpu)),
    repeat: times.length,
    peak_rss_mb: peak,
    rss_before_mb: before,
    ...(apart && {
      difference: Number(apart.largest.toPrecision(2)),
      distance: Number(apart.norm.toPrecision(2)),
    }),
  };
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

const round = (seconds: number) => Number(seconds.toFixed(4));

/** Linux records the peak since the program started; elsewhere the largest value so far stands in for it. */
function memory(field: "VmRSS" | "VmHWM"): number {
  try {
    const line = readFileSync("/proc/self/status", "utf8").match(new RegExp(`^${field}:\\s+(\\d+)`, "m"));
    return Math.round(Number(line![1]) / 102.4) / 10;
  } catch {
    return Math.round(process.resourceUsage().maxRSS / 102.4) / 10;
  }
}

const [name, folder, repeats, checkpointing, dtype] = process.argv.slice(2);
try {
  console.log(
    JSON.stringify(
      await measure(name!, folder!, Number(repeats), checkpointing === "true", dtype as ModelDtype),
    ),
  );
} catch (error) {
  if (!(error instanceof FirstframeError)) throw error;
  console.log(JSON.stringify({ fault: error.message }));
}
