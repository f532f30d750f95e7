import { access, constants, realpath, stat } from "node:fs/promises";
import { constants as osConstants } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { type Arguments, parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { UsageError, warn } from "./errors.js";
import { usableKernel } from "./kernel.js";
import type { Difference } from "./notebook/compare.js";
import { type Execution, executeNotebook } from "./notebook/execute.js";
import { type Notebook, readNotebook, writeNotebook } from "./notebook/format.js";
import { applyParameters, readGiven } from "./notebook/parameters.js";
import { pageNames } from "./notebook/paths.js";
import {
  type CellResult,
  failed,
  junit,
  type NotebookResult,
  reportPage,
  textReport,
} from "./notebook/report.js";
import { RunProgress } from "./progress.js";
import { writeOutput } from "./write.js";

type Values = Arguments<typeof commands.run>["values"];
type Kernel = ReturnType<typeof usableKernel>;

interface Job {
  readonly path: string;
  /** The notebook with its parameters. */
  readonly notebook: Notebook;
  readonly kernel: Kernel;
  /** The executed notebook's path, without an extension. */
  readonly target: string;
}

/** `firstframe run`: see the table of commands for what it does. */
export async function runCommand(argv: string[]): Promise<number> {
  const { values, positionals } = parseCommand("run", commands.run, argv);
  const jobs = await plan(positionals, values);
  const abort = new AbortController();
  const interrupted = onSignals(abort);
  const progress = new RunProgress(process.stdout, Math.min(values.jobs, jobs.length));
  const results: NotebookResult[] = [];
  try {
    await forEach(jobs, values.jobs, async (job) => {
      abort.signal.throwIfAborted();
      const result = await runNotebook(job, jobs, values, progress, abort.signal);
      results.push(result);
      report(result, values.check);
      // A check goes through every notebook; a run ends at the first failure.
      if (failed(result) && !values.check) abort.abort(new Stop());
    });
  } catch (error) {
    progress.clear();
    if (!(error instanceof Stop)) throw error;
    if (error.signal !== undefined) {
      console.error(`interrupted: nothing of the running notebook${values.jobs > 1 ? "s" : ""} was written`);
      return 128 + osConstants.signals[error.signal];
    }
  } finally {
    interrupted.dispose();
  }
  results.sort((a, b) => positionals.indexOf(a.path) - positionals.indexOf(b.path));
  if (values.junit !== undefined) await writeOutput(values.junit, junit(results));
  if (values.check) {
    const file = join(values.out, "check.html");
    await writeOutput(file, reportPage(results));
    const bad = results.filter(failed).length;
    console.log(
      `${results.length - bad} of ${results.length} notebooks give the outputs that they carry → ${file}`,
    );
  }
  return results.some(failed) ? 1 : 0;
}

/** The reason with which the running notebooks are ended. */
class Stop extends Error {
  constructor(readonly signal?: NodeJS.Signals) {
    super("stopped");
  }
}

/** Finds everything that can be wrong with the input before anything runs or is written. */
async function plan(paths: readonly string[], values: Values): Promise<Job[]> {
  if (values.inplace && values.check) throw new UsageError("--inplace and --check exclude each other");
  for (const flag of ["html", "sanitize-html"] as const) {
    if (!values[flag] || !(values.inplace || values.check)) continue;
    throw new UsageError(`--${flag} and --${values.inplace ? "inplace" : "check"} exclude each other`);
  }
  if (values.inplace && values.param.length > 0) {
    throw new UsageError("--inplace and --param exclude each other: a notebook keeps its own parameters");
  }
  const given = readGiven(values.param);
  const twice = paths.find((path, i) => paths.findIndex((other) => resolve(other) === resolve(path)) < i);
  if (twice !== undefined) throw new UsageError(`${twice} was given twice`);
  const notebooks: { path: string; notebook: Notebook }[] = [];
  for (const path of paths) notebooks.push({ path, notebook: await readNotebook(path) });
  const targets = values.inplace
    ? paths.map((path) => path.replace(/\.ipynb$/, ""))
    : pageNames(paths).map((name) => join(values.out, name));
  const kernels = notebooks.map(({ path, notebook }) =>
    usableKernel(kernelName(path, notebook, values.kernel), path),
  );
  if (values.inplace) for (const path of paths) await assertReplaceable(path);
  else await assertWritable(values.out);
  if (values.junit !== undefined) await assertWritable(dirname(values.junit));
  const withParameters = await applyParameters(notebooks, given, process.cwd());
  return paths.map((path, i) => ({
    path,
    notebook: withParameters[i]!,
    kernel: kernels[i]!,
    target: targets[i]!,
  }));
}

function kernelName(path: string, { metadata }: Notebook, asked: string | undefined): string {
  const name = asked ?? metadata.kernelspec?.name;
  if (name !== undefined) return name;
  const language = metadata.language_info?.name ?? "typescript";
  if (language === "typescript" || language === "javascript") return "firstframe";
  throw new UsageError(`it names no kernel and its language is ${language}`, {
    file: path,
    hint: "choose one with --kernel",
  });
}

/** The folder must be writable, or, if it does not exist, the nearest one above it that does. */
async function assertWritable(folder: string): Promise<void> {
  const found = await stat(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw new UsageError(`expected a folder (${error.code})`, { file: folder });
  });
  if (!found) return await assertWritable(dirname(resolve(folder)));
  if (!found.isDirectory()) throw new UsageError("expected a folder, found a file", { file: folder });
  await access(folder, constants.W_OK).catch(() => {
    throw new UsageError("can't be written to", { file: folder });
  });
}

/** A notebook that is to be written in place: it and its folder, after following symbolic links, must be writable. */
async function assertReplaceable(path: string): Promise<void> {
  const file = await realpath(path);
  await access(file, constants.W_OK).catch(() => {
    throw new UsageError("can't be written to", { file: path });
  });
  await assertWritable(dirname(file));
}

async function runNotebook(
  { path, notebook, kernel, target }: Job,
  jobs: readonly Job[],
  values: Values,
  progress: RunProgress,
  signal: AbortSignal,
): Promise<NotebookResult> {
  const started = performance.now();
  progress.notebook(path);
  const execution = await executeNotebook(notebook, {
    kernel,
    cwd: resolve(dirname(path)),
    allowErrors: values["allow-errors"],
    timeout: values.timeout,
    notebookTimeout: values["notebook-timeout"],
    signal,
    onStart: (cell, number, total) =>
      progress.cellStarts(path, cell.source.trim().split("\n")[0]!, number, total),
    onEnd: (result, number, total) => progress.cellEnded(path, result, number, total),
  });
  const seconds = (performance.now() - started) / 1000;
  const result = await judge(path, seconds, notebook, execution, values);
  const written = values.check ? [] : await write(execution.notebook, path, target, jobs, values);
  progress.notebookEnded(path, seconds, written);
  return result;
}

async function judge(
  path: string,
  seconds: number,
  expected: Notebook,
  { notebook, cells, error }: Execution,
  values: Values,
): Promise<NotebookResult> {
  const differences: ReadonlyMap<string, Difference[]> = values.check
    ? await (await import("./notebook/compare.js")).compareNotebooks(expected, notebook, values)
    : new Map();
  const tolerated = (cell: CellResult) =>
    values["allow-errors"] ||
    notebook.cells.some(({ id, metadata }) => id === cell.id && metadata.tags?.includes("raises-exception"));
  return {
    path,
    seconds,
    ...(error === undefined ? {} : { error }),
    cells: cells.map((cell) => {
      const { error: cellError, ...rest } = cell;
      const kept = cellError === undefined || tolerated(cell) ? rest : cell;
      return { ...kept, differences: differences.get(cell.id) ?? [] };
    }),
  };
}

/** Writes the executed notebook and its page, or only one of them. @returns what was written */
async function write(
  notebook: Notebook,
  path: string,
  target: string,
  jobs: readonly Job[],
  values: Values,
): Promise<string[]> {
  const file = `${target}.ipynb`;
  if (!values.html) await writeNotebook(file, notebook);
  if (values.inplace) return [file];
  // Loaded only here, because it brings a whole DOM with it.
  const { renderPage } = await import("./page/page.js");
  const page = `${target}.html`;
  const pages = new Set(jobs.map((job) => basename(job.path)));
  const html = await renderPage(notebook, {
    folder: dirname(path),
    pages,
    name: basename(target),
    sanitizeHtml: values["sanitize-html"],
    warn: (message) => warn(`${path}, ${message}`),
  });
  await writeOutput(page, html);
  return values.html ? [page] : [file, page];
}

/** What failed, on standard error: the cell's own error first, then one line that says where it was. */
function report(result: NotebookResult, check: boolean): void {
  for (const cell of result.cells) {
    const line = cell.line === undefined ? "" : `, line ${cell.line}`;
    const place = `${result.path}, cell [${cell.count ?? " "}]${line}`;
    if (cell.error !== undefined) {
      const { isTTY } = process.stderr;
      if (cell.traceback) console.error(isTTY ? cell.traceback : plain(cell.traceback));
      console.error(`${place}: ${plain(cell.error).split("\n")[0]}`);
    }
    if (!check) continue;
    for (const difference of cell.differences) {
      console.error(`${place}, ${textReport(difference, process.stderr.isTTY === true)}`);
    }
  }
  if (result.error !== undefined) console.error(`${result.path}: ${result.error}`);
}

const plain = stripVTControlCharacters;

/** Runs tasks in order, a given number at a time; the first rejection is passed on once the others have ended. */
async function forEach<T>(
  items: readonly T[],
  atOnce: number,
  task: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length) await task(items[next++]!);
  };
  const settled = await Promise.allSettled(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  const bad = settled.find((result) => result.status === "rejected");
  if (bad) throw bad.reason;
}

/** The first signal ends the running notebooks, the second one this process, at once. */
function onSignals(abort: AbortController): { dispose(): void } {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  const handler = (signal: NodeJS.Signals) => {
    if (abort.signal.aborted) process.exit(128 + osConstants.signals[signal]);
    abort.abort(new Stop(signal));
  };
  for (const signal of signals) process.on(signal, handler);
  return {
    dispose() {
      for (const signal of signals) process.off(signal, handler);
    },
  };
}
