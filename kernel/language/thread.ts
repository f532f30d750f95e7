/**
 * The thread in which the kernel's TypeScript side runs. However much time and depth a cell demands of parsers and regular
 * expressions, here it costs the server nothing. See {@link RemoteLanguage}, which starts it.
 */
import { parentPort, workerData } from "node:worker_threads";
import { assertShallow } from "./depth.js";
import { TypeScriptLanguage } from "./index.js";
import { type Cell, CellSyntaxError, type Script, type TransformedCell } from "./language.js";
import { assertFewErrors } from "./long-lines.js";

/** How many scripts' source maps are kept, so that their cells need not be transformed again. */
const kept = 50;

export type ToThread =
  | {
      readonly op: "call";
      readonly id: number;
      readonly name: keyof Calls;
      readonly args: readonly unknown[];
    }
  /** Nobody is waiting for the answer any more. */
  | { readonly op: "cancel"; readonly id: number }
  | { readonly op: "ping" };

export type FromThread =
  /** Work on a call begins; if the thread goes down from now on, this call may be the cause. */
  | { readonly op: "begun"; readonly id: number }
  | { readonly op: "answer"; readonly id: number; readonly value: unknown }
  | { readonly op: "failed"; readonly id: number; readonly error: ThreadError }
  /** The compiler's process, in case somebody else has to end it because this thread can't. */
  | { readonly op: "compiler"; readonly pid: number | undefined }
  | { readonly op: "pong" };

export interface ThreadError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  /** Of a {@link CellSyntaxError}. */
  readonly diagnostics?: CellSyntaxError["diagnostics"];
}

const port = parentPort!;
const tell = (message: FromThread) => port.postMessage(message);

const { cwd } = workerData as { cwd: string };
const language = new TypeScriptLanguage({ cwd, onCompiler: (pid) => tell({ op: "compiler", pid }) });
const scripts = new Map<string, TransformedCell>();
const running = new Map<number, AbortController>();

const calls = {
  start: (_: AbortSignal) => language.start(),
  check: (signal: AbortSignal, cell: Cell) => language.check(cell, signal),
  transform(_: AbortSignal, cell: Cell): Script {
    const transformed = transform(cell);
    return { code: transformed.code, url: transformed.url };
  },
  map: (_: AbortSignal, cell: Cell, url: string) => (scripts.get(url) ?? transform(cell)).map,
  accept: (_: AbortSignal, cell: Cell) => language.accept(cell),
  complete: (signal: AbortSignal, code: string, cursor: number) => language.complete(code, cursor, signal),
  inspect: (signal: AbortSignal, code: string, cursor: number, detail: 0 | 1) =>
    language.inspect(code, cursor, detail, signal),
  lint: (signal: AbortSignal, code: string, above: readonly string[]) => language.lint(code, above, signal),
  definition: (signal: AbortSignal, _code: string, cells: readonly string[], index: number, cursor: number) =>
    language.definition(cells, index, cursor, signal),
  isComplete: (_: AbortSignal, code: string) => language.isComplete(code),
  imports: (_: AbortSignal) => language.imports(),
  reset: (_: AbortSignal) => language.reset(),
  dispose: (_: AbortSignal) => language.dispose(),
};

export type Calls = typeof calls;

function transform(cell: Cell): TransformedCell {
  const transformed = language.transform(cell);
  scripts.set(transformed.url, transformed);
  if (scripts.size > kept) scripts.delete(scripts.keys().next().value!);
  return transformed;
}

// Whatever goes wrong in one call, the others continue.
process.on("uncaughtException", (error) => console.error(`firstframe: ${error.stack}`));
process.on("unhandledRejection", (error) => console.error("firstframe:", error));

port.on("message", (message: ToThread) => {
  if (message.op === "ping") tell({ op: "pong" });
  else if (message.op === "cancel") running.get(message.id)?.abort();
  else answer(message);
});

function answer({ id, name, args }: Extract<ToThread, { op: "call" }>): void {
  const controller = new AbortController();
  let value: unknown;
  tell({ op: "begun", id });
  try {
    const code = codeOf(args[0]);
    assertShallow(code);
    assertFewErrors(code);
    value = (calls[name] as (...args: unknown[]) => unknown)(controller.signal, ...args);
  } catch (error) {
    tell({ op: "failed", id, error: plain(error) });
    return;
  }
  if (!(value instanceof Promise)) {
    tell({ op: "answer", id, value });
    return;
  }
  running.set(id, controller);
  value
    .then(
      (result: unknown) => tell({ op: "answer", id, value: result }),
      (error: unknown) => tell({ op: "failed", id, error: plain(error) }),
    )
    .finally(() => running.delete(id));
}

/** The text that a call is about. */
function codeOf(argument: unknown): string {
  return typeof argument === "string" ? argument : ((argument as Cell | undefined)?.code ?? "");
}

function plain(error: unknown): ThreadError {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  return {
    name,
    message,
    stack,
    ...(error instanceof CellSyntaxError ? { diagnostics: error.diagnostics } : {}),
  };
}
