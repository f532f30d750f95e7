/**
 * The parts of cells' magics that run here: shell scripts, npm, environment and folder, timing.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import { homedir } from "node:os";
import { StringDecoder } from "node:string_decoder";
import { context, print } from "../ipc/channel.js";
import type { RepeatOptions } from "../ipc/frames.js";
import { type PackageManagerName, packageManagerOf } from "../language/package-manager.js";
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

/** How each adds packages, without colours, questions and advertisements. */
const ADD: Record<PackageManagerName, readonly string[]> = {
  npm: [
    "npm",
    "install",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--loglevel=http",
    "--color=false",
  ],
  pnpm: ["pnpm", "add", "--reporter=append-only"],
  yarn: ["yarn", "add"],
  bun: ["bun", "add"],
};

/** Installs packages in the notebook's folder, with the package manager of its project. */
export async function install(packages: readonly string[], folder: string): Promise<void> {
  const displayId = newDisplayId();
  const { name, because } = packageManagerOf(folder);
  const [program, command, ...flags] = ADD[name] as [string, string, ...string[]];
  const what = `${program} ${command} ${packages.join(" ")}`;
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
    // Only npm says what it fetches.
    void draw(`${what}: ${name === "npm" ? `${fetched} fetched, ` : ""}${seconds()} s ...`, true);
  });
  // Yarn has no long name for it.
  const added = name === "yarn" ? packages.map((each) => (each === "--save-dev" ? "-D" : each)) : packages;
  const found = because === undefined ? "" : `; it is the project's by ${because}`;
  const { code } = await spawnProgram(
    program,
    [command, ...flags, ...added],
    (_, text) => lines.push(text),
    folder,
  ).catch((error: Error) => {
    throw new Error(`${error.message}${found}`);
  });
  lines.end();
  await draw(`${what}: ${code === 0 ? "done" : "failed"} in ${seconds()} s`, true);
  print(code === 0 ? "stdout" : "stderr", `${said.join("\n")}\n`);
  if (code !== 0) throw new Error(`${what} ended with exit code ${code}`);
}

function spawnProgram(
  program: string,
  parameters: readonly string[],
  output: (stream: "stdout" | "stderr", text: string) => void,
  cwd = process.cwd(),
): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, {
      cwd,
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

/** Words in a variable's name that make its value a secret, as in IPython. */
const secret = /key|token|secret|password/i;

/** Prints the environment or one of its variables, or sets one, here and for what cells start. */
export function env({ name, value }: { name?: string; value?: string }): void {
  if (name === undefined) {
    const shown = Object.entries(process.env)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([each, text]) => `${each}=${secret.test(each) ? "<hidden>" : text}`);
    print("stdout", `${shown.join("\n")}\n`);
  } else if (value === undefined) {
    const found = process.env[name];
    if (found === undefined) throw new Error(`%env: there is no environment variable ${name}`);
    print("stdout", `${found}\n`);
  } else {
    process.env[name] = value;
    print("stdout", `env: ${name}=${value}\n`);
  }
}

let folderBefore: string | undefined;

/** Makes another folder the current one, and prints which. */
export function cd({ folder }: { folder?: string }): void {
  const before = process.cwd();
  if (folder !== undefined) {
    if (folder === "-" && folderBefore === undefined)
      throw new Error("%cd: there was no folder before this one");
    const home = folder.replace(/^~(?=$|\/)/, homedir());
    try {
      process.chdir(folder === "-" ? folderBefore! : home);
    } catch (error) {
      throw new Error(`%cd: can't go to ${folder}: ${(error as Error).message}`);
    }
    folderBefore = before;
  }
  print("stdout", `${process.cwd()}\n`);
}

/** Shows text as what it is. */
export function show({ type, text }: { type: string; text: string }): void {
  void displayFunction({ [type]: text, "text/plain": text }, { raw: true });
}

/** Writes a file whole or not at all, or adds to its end. */
export async function writefile(options: { file: string; append: boolean; text: string }): Promise<void> {
  const { append, text } = options;
  const file = options.file.replace(/^~(?=\/)/, homedir());
  const existed = existsSync(file);
  try {
    if (append) await appendFile(file, text);
    else {
      // Loaded here, so that the kernel starts without it.
      const { writeFileAtomic } = await import("../../src/files/atomic.js");
      await writeFileAtomic(file, text);
    }
  } catch (error) {
    throw new Error(`%%writefile: can't write ${file}: ${(error as Error).message}`);
  }
  print("stdout", `${append ? "appended to" : existed ? "overwrote" : "wrote"} ${file}\n`);
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
