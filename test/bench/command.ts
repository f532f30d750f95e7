/** The command itself, for benchmarks of several processes. */
import { execFile } from "node:child_process";
import { availableParallelism, cpus, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

/** Runs `firstframe` with one thread a process; what it printed. */
export async function firstframe(...args: string[]): Promise<string> {
  const env = { ...process.env, OMP_NUM_THREADS: "1" };
  const { stdout } = await promisify(execFile)(process.execPath, [main, ...args], {
    env,
    maxBuffer: 2 ** 26,
  });
  return stdout;
}

/** What it runs on, and how busy that is. */
export const machine = (): string =>
  `${cpus()[0]!.model}, ${availableParallelism()} cores, load ${loadavg()[0]!.toFixed(1)}`;
