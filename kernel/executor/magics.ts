/**
 * The parts of cells' magics that run here: shell scripts, npm, timing.
 */
import { spawn } from "node:child_process";
import { StringDecoder } from "node:string_decoder";
import { context, print } from "../ipc/channel.js";
import type { RepeatOptions } from "../ipc/frames.js";
import { displayFunction, newDisplayId } from "./display.js";
import type { Interrupts } from "./interrupt.js";

/** How often a line of progress is redrawn. */
const progressIntervalMs = 200;
/** How long one run of `%timeit` lasts at least if it chooses the number of loops itself. */
const runLengthNs = 200e6;

/** Runs a shell script and shows its output as the cell's. Interrupts reach it as in a terminal. */
export async function bash(script: string): Promise<void> {
  const id = context();
  const { code, signal } = await spawnProgram("bash", ["-c", script], (stream, text) =>
    print(stream, text, id),
  );
  if (signal !== null) throw new Error(`the script was ended by ${signal}`);
  if (code !== 0) throw new Error(`the script ended with exit code ${code}`);
}

/** Installs packages in the notebook's folder. */
export async function install(packages: readonly string[]): Promise<void> {
  const displayId = newDisplayId();
  const what = `npm install ${packages.join(" ")}`;
  const start = performance.now();
  const seconds = () => ((performance.now() - start) / 1000).toFixed(1);
  let fetched = 0;
  let drawn = Number.NEGATIVE_INFINITY;
  const said: string[] = [];
  const draw = (text: string, update: boolean) => displayFunction.text(text, { displayId, update });
  await draw(`${what} ...`, false);
  const lines = new LineReader((line) => {
    if (/^npm http /.test(line)) {
      if (/ (fetch|cache) /.test(line)) fetched += 1;
    } else if (line.trim() !== "" && !/^npm warn .*user config/i.test(line)) {
      said.push(line);
    }
    if (performance.now() - drawn < progressIntervalMs) return;
    drawn = performance.now();
    void draw(`${what}: ${fetched} fetched, ${seconds()} s ...`, true);
  });
  const flags = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=http", "--color=false"];
  const { code } = await spawnProgram("npm", ["install", ...flags, ...packages], (_, text) =>
    lines.push(text),
  );
  lines.end();
  await draw(`${what}: ${code === 0 ? "done" : "failed"} in ${seconds()} s`, true);
  print(code === 0 ? "stdout" : "stderr", `${said.join("\n")}\n`);
  if (code !== 0) throw new Error(`${what} ended with exit code ${code}`);
}

function spawnProgram(
  program: string,
  parameters: readonly string[],
  output: (stream: "stdout" | "stderr", text: string) => void,
): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, {
      cwd: process.cwd(),
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of ["stdout", "stderr"] as const) {
      const decoder = new StringDecoder("utf8");
      child[stream].on("data", (chunk: Buffer) => output(stream, decoder.write(chunk)));
    }
    child.once("error", (error) => reject(new Error(`can't start ${program}: ${error.message}`)));
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
}

class LineReader {
  private rest = "";

  constructor(private readonly handle: (line: string) => void) {}

  push(text: string): void {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop()!;
    for (const line of lines) this.handle(line);
  }

  end(): void {
    if (this.rest !== "") this.handle(this.rest);
  }
}

/** Measures a function as `%timeit` does, and prints mean and standard deviation of the time it takes. */
export async function timeIt(
  call: () => unknown,
  { number, runs }: RepeatOptions,
  interrupts: Interrupts,
): Promise<void> {
  const loop = async (times: number): Promise<number> => {
    const start = process.hrtime.bigint();
    for (let i = 0; i < times; i++) {
      if (interrupts.state[0] !== 0) interrupts.check();
      const result = call();
      if (result instanceof Promise) await interrupts.guard(result);
    }
    return Number(process.hrtime.bigint() - start);
  };
  const loops = number > 0 ? number : await enough(loop);
  const times: number[] = [];
  for (let i = 0; i < runs; i++) times.push((await loop(loops)) / loops);
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
  const deviation = Math.sqrt(times.reduce((sum, time) => sum + (time - mean) ** 2, 0) / times.length);
  const count = `${loops.toLocaleString("en-US")} loop${loops === 1 ? "" : "s"} each`;
  print(
    "stdout",
    `${duration(mean)} ± ${duration(deviation)} per loop (mean ± std. dev. of ${runs} run${runs === 1 ? "" : "s"}, ${count})\n`,
  );
}

/** The first of 1, 10, 100, ... loops that take long enough to be measured. */
async function enough(loop: (times: number) => Promise<number>): Promise<number> {
  for (let times = 1; ; times *= 10) {
    if ((await loop(times)) >= runLengthNs / 10 || times >= 1e9) return times;
  }
}

/** Nanoseconds in readable form. */
export function duration(ns: number): string {
  const units: [string, number][] = [
    ["s", 1e9],
    ["ms", 1e6],
    ["µs", 1e3],
  ];
  const [unit, size] = units.find(([, each]) => ns >= each) ?? ["ns", 1];
  return `${Number((ns / size).toPrecision(3))} ${unit}`;
}
