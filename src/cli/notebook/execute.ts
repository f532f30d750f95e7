import { stripVTControlCharacters } from "node:util";
import { DeadKernelError, KernelClient, KernelTimeoutError } from "../../../kernel/client/client.js";
import type { FoundKernelspec } from "../../../kernel/client/kernelspecs.js";
import { OutputCollector } from "../../../kernel/client/outputs.js";
import type { CodeCell, Notebook } from "./format.js";
import { hasTag } from "./parameters.js";
import type { CellResult } from "./report.js";

export interface ExecuteOptions {
  readonly kernel: FoundKernelspec;
  /** The folder that the kernel runs in: the notebook's. */
  readonly cwd: string;
  readonly allowErrors: boolean;
  /** The most seconds for a cell. */
  readonly timeout: number | undefined;
  /** The most seconds for the whole notebook. */
  readonly notebookTimeout: number | undefined;
  /** Ends the kernel at once; the promise rejects with the signal's reason. */
  readonly signal: AbortSignal;
  readonly onStart: (cell: CodeCell, number: number, total: number) => void;
  readonly onEnd: (result: CellResult, number: number, total: number) => void;
}

export interface Execution {
  /** The notebook as far as it was executed. */
  readonly notebook: Notebook;
  readonly cells: readonly CellResult[];
  /** Why it ended early, if no cell is to blame. */
  readonly error?: string;
}

/**
 * How much output is kept, in characters of the notebook's file: 16 million printed by a cell, 256 million in all. Node.js
 * strings hold at most about 500 million, and a page is longer than its notebook.
 */
const outputLimits = { printed: 2 ** 24, total: 2 ** 28 };

/** How long an interrupted cell has before its kernel is killed, in milliseconds. */
const graceAfterInterruptMs = 20_000;

/**
 * Runs a notebook's cells in a new kernel, as nbclient does: a cell tagged `raises-exception` may fail, one tagged
 * `skip-execution` is left out. Execution times are not written into the notebook: they would change with each run.
 */
export async function executeNotebook(source: Notebook, options: ExecuteOptions): Promise<Execution> {
  const notebook = structuredClone(source);
  const results: CellResult[] = [];
  const execution = (error?: string): Execution => ({
    notebook,
    cells: results,
    ...(error === undefined ? {} : { error }),
  });
  const { kernel, cwd, signal } = options;
  const cells = notebook.cells.filter((cell): cell is CodeCell => cell.cell_type === "code");
  for (const cell of cells) reset(cell);
  signal.throwIfAborted();
  let client: KernelClient;
  try {
    client = await KernelClient.start(kernel, { cwd });
  } catch (error) {
    return execution(`the kernel ${kernel.name} did not start: ${(error as Error).message}`);
  }
  const end = () => client.process?.signal("SIGKILL");
  // A signal may end this process at any time, and its kernels with it.
  process.on("exit", end);
  signal.addEventListener("abort", end);
  try {
    signal.throwIfAborted();
    await describeKernel(notebook, client, kernel);
    const collector = new OutputCollector(outputLimits);
    const total = cells.length;
    const started = performance.now();
    for (const [index, cell] of cells.entries()) {
      if (cell.source.trim() === "" || hasTag(cell, "skip-execution")) continue;
      const allowed = options.allowErrors || hasTag(cell, "raises-exception");
      const left =
        (options.notebookTimeout ?? Number.POSITIVE_INFINITY) - (performance.now() - started) / 1000;
      const limit = Math.min(options.timeout ?? Number.POSITIVE_INFINITY, left);
      options.onStart(cell, index + 1, total);
      const result = await runCell(client, cell, collector, allowed, limit);
      signal.throwIfAborted();
      results.push(result);
      options.onEnd(result, index + 1, total);
      if (left <= limit && result.timedOut) {
        return execution(`it ran longer than ${options.notebookTimeout} s`);
      }
      if (result.error !== undefined && (!allowed || result.dead)) return execution();
    }
    return execution();
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof DeadKernelError || error instanceof KernelTimeoutError)
      return execution(error.message);
    throw error;
  } finally {
    if (signal.aborted) await client.kill();
    else await client.shutdown();
    process.off("exit", end);
    signal.removeEventListener("abort", end);
  }
}

function reset(cell: CodeCell): void {
  cell.outputs = [];
  cell.execution_count = null;
  delete cell.metadata.execution;
}

/** What front ends write into a notebook about the kernel that ran it. */
async function describeKernel(
  notebook: Notebook,
  client: KernelClient,
  kernel: FoundKernelspec,
): Promise<void> {
  const { content } = await client.request("kernel_info_request", {}, { timeout: 60_000 });
  const { displayName: display_name, language, name } = kernel;
  notebook.metadata.kernelspec = { display_name, language, name };
  notebook.metadata.language_info = content.language_info as Notebook["metadata"]["language_info"] & object;
}

interface RunResult extends CellResult {
  readonly timedOut?: boolean;
  readonly dead?: boolean;
}

async function runCell(
  client: KernelClient,
  cell: CodeCell,
  collector: OutputCollector,
  allowed: boolean,
  limit: number,
): Promise<RunResult> {
  const { outputs, add, end } = collector.cell();
  cell.outputs = outputs;
  const started = performance.now();
  const result = (more: Partial<RunResult> = {}): RunResult => ({
    id: cell.id,
    count: cell.execution_count,
    title: firstLine(cell.source),
    seconds: (performance.now() - started) / 1000,
    differences: [],
    ...more,
  });
  const errorExpected = hasTag(cell, "raises-exception");
  let timedOut = false;
  const timer = Number.isFinite(limit) ? setTimeout(() => late(), limit * 1000) : undefined;
  let killer: NodeJS.Timeout | undefined;
  const late = () => {
    timedOut = true;
    client.interrupt().catch(() => {});
    killer = setTimeout(() => client.process?.signal("SIGKILL"), graceAfterInterruptMs);
  };
  const lateError = () => `CellTimeoutError: the cell ran longer than ${Number(limit.toFixed(1))} s`;
  try {
    const reply = await client.execute(cell.source, {
      stopOnError: !allowed,
      onOutput: (message) => {
        if (message.header.msg_type === "execute_input") {
          const { execution_count } = message.content;
          if (Number.isInteger(execution_count)) cell.execution_count = execution_count as number;
        }
        add(message);
      },
    });
    if (reply.status === "ok") return result();
    const { ename = "Aborted", evalue = "the cell was not run" } = reply;
    const traceback = reply.traceback?.join("\n") ?? "";
    const line = lineOf(traceback, cell.execution_count);
    const error = timedOut ? lateError() : `${ename}: ${evalue}`;
    return result({ error, errorExpected, traceback, line, timedOut });
  } catch (error) {
    if (!(error instanceof DeadKernelError)) throw error;
    const message = timedOut
      ? `${lateError()} and did not end when interrupted`
      : `DeadKernel: ${error.message}`;
    const [ename = "", evalue = ""] = message.split(/: (.*)/s);
    end();
    outputs.push({ output_type: "error", ename, evalue, traceback: [message] });
    return result({ error: message, timedOut, dead: true });
  } finally {
    end();
    clearTimeout(timer);
    clearTimeout(killer);
  }
}

/** The first line that is not empty. */
function firstLine(source: string): string {
  const lines = source.split("\n").map((line) => line.trim());
  return lines.find((line) => line !== "" && !line.startsWith("//")) ?? lines[0] ?? "";
}

/** Where in this cell it failed: its innermost frame in the traceback. */
function lineOf(traceback: string, count: number | null): number | undefined {
  const frame = new RegExp(`cell \\[${count}\\]:(\\d+):\\d+`).exec(stripVTControlCharacters(traceback));
  return frame ? Number(frame[1]) : undefined;
}
