import { execFile } from "node:child_process";
import { cpus, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { mallocEnvironment } from "../engine/environment.js";
import type { ModelDtype } from "../weights/dtype.js";
import { parseCommand } from "./arguments.js";
import type { Measured } from "./bench/measure.js";
import { benchmarkOf, type Manifest, readManifest } from "./bench/work.js";
import { commands } from "./commands.js";
import { CommandFailure, UsageError } from "./errors.js";

/** `firstframe bench`: what `test/bench/peer_torch.py` measures for PyTorch, on the same weights and inputs. */
export async function benchCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("bench", commands.bench, argv);
  if (values.weights === undefined)
    throw new UsageError("--weights DIR is missing: the folder that peer_torch.py wrote");
  const names = benchmarkNames(await readManifest(values.weights), values.only);
  const results: Record<string, Measured> = {};
  for (const name of names) {
    const result = await measureApart(name, values.weights, { ...values, dtype: values.dtype as ModelDtype });
    results[name] = result;
    if (!values.json) console.log(row(name, result));
  }
  if (!values.json) return;
  const env = {
    node: process.version,
    threads: values.threads,
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    load_1min_at_end: Number(loadavg()[0]!.toFixed(2)),
    gradient_checkpointing: values.checkpointing,
    dtype: values.dtype,
  };
  console.log(JSON.stringify({ benchmarks: results, env }, null, 2));
}

/** The benchmarks selected by a comma-separated list of names and patterns. @throws UsageError if it selects none */
export function benchmarkNames(manifest: Manifest, only: string): string[] {
  const known = Object.keys(manifest.benchmarks);
  const names = only.split(",").flatMap((part) => {
    const pattern = part.trim();
    if (benchmarkOf(manifest, pattern)) return [pattern];
    return known.filter((name) => matches(name, pattern));
  });
  if (names.length > 0) return [...new Set(names)];
  throw new UsageError(
    `--only ${only}: expected some of ${known.join(", ")}, or vae_encode_9x64x64 and the like`,
  );
}

/** Runs one benchmark in a new process with the requested number of threads. */
export async function measureApart(
  name: string,
  weights: string,
  options: {
    readonly repeat: number;
    readonly threads: number;
    readonly checkpointing: boolean;
    readonly dtype: ModelDtype;
  },
): Promise<Measured> {
  const script = fileURLToPath(new URL("./bench/measure.js", import.meta.url));
  const threads = String(options.threads);
  const env = {
    ...process.env,
    ...mallocEnvironment(),
    OMP_NUM_THREADS: threads,
    TF_NUM_INTRAOP_THREADS: threads,
    TF_NUM_INTEROP_THREADS: "1",
  };
  const argv = [script, name, weights, String(options.repeat), String(options.checkpointing), options.dtype];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, argv, {
    env,
    maxBuffer: 1 << 26,
  }).catch((error: Error & { stderr?: string }) => {
    throw new CommandFailure(`${name}: its process failed\n${(error.stderr || error.message).trim()}`);
  });
  if (stderr.trim() !== "") console.error(stderr.trim());
  const measured = JSON.parse(stdout) as Measured | { readonly fault: string };
  if ("fault" in measured) throw new CommandFailure(`${name}: ${measured.fault}`);
  return measured;
}

function row(name: string, { seconds, min, max, peak_rss_mb, engine, difference }: Measured): string {
  const spread = `${min.toFixed(3)} to ${max.toFixed(3)}`;
  const apart = difference === undefined ? "" : `  differs from PyTorch by ${difference}`;
  return `${name.padEnd(30)} ${seconds.toFixed(3).padStart(9)} s  (${spread})  ${peak_rss_mb.toFixed(0)} MB  ${engine}${apart}`;
}

function matches(name: string, pattern: string): boolean {
  return new RegExp(
    `^${pattern
      .replaceAll(/[.+^${}()|[\]\\]/g, "\\$&")
      .replaceAll("*", ".*")
      .replaceAll("?", ".")}$`,
  ).test(name);
}
