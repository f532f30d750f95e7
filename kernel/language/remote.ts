/**
 * The kernel's TypeScript side as the server uses it: a thread, which a cell's demands on a parser may keep busy, and the
 * compiler's process, which that thread owns. Either is replaced when it fails.
 */
import { Worker } from "node:worker_threads";
import {
  type Cell,
  CellSyntaxError,
  type Completeness,
  type Completions,
  type Diagnostic,
  type Inspection,
  type Language,
  type Place,
  type Script,
} from "./language.js";
import type { Calls, FromThread, ThreadError, ToThread } from "./thread.js";

/** Enough for native parsers at the greatest allowed depth (depth.ts); unused stack takes no memory. */
const stackSizeMb = 512;
/** How often a thread that somebody is waiting for is asked whether it is alive. */
const intervalMs = 1000;
/** How long it may be busy with one thing before it is replaced, in general and after an interrupt. */
const patienceMs = 60_000;
const patienceOnceInterruptedMs = 4000;
/** How long it may take to end, and how often that is checked. */
const patienceAtTheEndMs = 2000;
const turnMs = 10;
/** To how many threads a call is sent if none of them begins it. */
const sentAtMost = 3;
/** How long to wait for completions and documentation before answering with none. */
const answerMs = 20_000;

interface Pending {
  readonly name: keyof Calls;
  readonly args: readonly unknown[];
  /** The thread is working on it, or waiting for the compiler's answer. */
  begun?: true;
  /** How many threads it was sent to. */
  sent: number;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

type ArgumentsOf<Name extends keyof Calls> = Calls[Name] extends (
  signal: AbortSignal,
  ...args: infer Rest
) => unknown
  ? Rest
  : never;

export class RemoteLanguage implements Language {
  private worker: Worker | undefined;
  private readonly pending = new Map<number, Pending>();
  private lastId = 0;
  private compiler: number | undefined;
  /** What later cells see, for a thread that replaces another. */
  private accepted: Cell[] = [];
  private timer: NodeJS.Timeout | undefined;
  private askedAt: number | undefined;
  private interruptedAt: number | undefined;
  private started = false;
  private disposed = false;
  /** Threads that were told to end but have not yet. */
  private ending = 0;

  constructor(private readonly cwd: string) {}

  /** Whether after disposal a thread is still too busy to end, which would keep the process alive. */
  async isStuck(): Promise<boolean> {
    for (let waited = 0; this.ending > 0 || this.askedAt !== undefined; waited += turnMs) {
      if (waited > patienceAtTheEndMs) return true;
      await new Promise((resolve) => setTimeout(resolve, turnMs));
    }
    return false;
  }

  start(): Promise<void> {
    const started = this.call("start");
    this.started = true;
    return started;
  }

  check(cell: Cell, signal?: AbortSignal): Promise<Diagnostic[]> {
    return this.call("check", [cell], signal);
  }

  transform(cell: Cell): Promise<Script> {
    return this.call("transform", [cell]);
  }

  map(cell: Cell, url: string): Promise<string> {
    return this.call("map", [cell, url]);
  }

  accept(cell: Cell): void {
    this.accepted.push(cell);
    this.call("accept", [cell]).catch(() => undefined);
  }

  complete(code: string, cursor: number): Promise<Completions> {
    return this.inTime("complete", [code, cursor], { items: [], start: cursor, end: cursor });
  }

  inspect(code: string, cursor: number, detail: 0 | 1): Promise<Inspection | null> {
    return this.inTime("inspect", [code, cursor, detail], null);
  }

  lint(code: string, above: readonly string[], signal?: AbortSignal): Promise<Diagnostic[] | null> {
    return this.call("lint", [code, above], signal);
  }

  definition(cells: readonly string[], index: number, cursor: number): Promise<Place | null> {
    return this.inTime("definition", [cells[index]!, cells, index, cursor], null);
  }

  isComplete(code: string): Promise<Completeness> {
    return this.inTime("isComplete", [code], { status: "unknown" });
  }

  imports(): Promise<readonly string[]> {
    return this.inTime("imports", [], []);
  }

  interrupt(): void {
    if (this.pending.size > 0) this.interruptedAt ??= performance.now();
  }

  reset(): void {
    this.accepted = [];
    this.call("reset").catch(() => undefined);
  }

  async dispose(): Promise<void> {
    this.disposed = true;
    if (this.worker === undefined) return;
    this.ask(this.worker);
    await this.call("dispose").catch(() => undefined);
  }

  /** It ends with the thread, unless it is stopped. */
  killCompiler(): void {
    if (this.compiler === undefined) return;
    try {
      process.kill(this.compiler, "SIGKILL");
    } catch {
      // already gone
    }
    this.compiler = undefined;
  }

  private async inTime<Name extends keyof Calls>(
    name: Name,
    args: ArgumentsOf<Name>,
    otherwise: Awaited<ReturnType<Calls[Name]>>,
  ): Promise<Awaited<ReturnType<Calls[Name]>>> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), answerMs);
    try {
      return await this.call(name, args, late.signal);
    } catch (error) {
      // The author's next keystroke asks again.
      if (late.signal.aborted || error instanceof ThreadEndedError || error instanceof CellSyntaxError)
        return otherwise;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  private call<Name extends keyof Calls>(
    name: Name,
    args?: ArgumentsOf<Name>,
    signal?: AbortSignal,
  ): Promise<Awaited<ReturnType<Calls[Name]>>> {
    const worker = this.thread();
    this.lastId += 1;
    const id = this.lastId;
    const all = args ?? [];
    return new Promise((resolve, reject) => {
      this.pending.set(id, {
        name,
        args: all,
        sent: 1,
        resolve: resolve as (value: unknown) => void,
        reject,
      });
      signal?.addEventListener("abort", () => {
        if (this.pending.get(id) === undefined) return;
        this.settle(id);
        if (this.worker !== undefined) send(this.worker, { op: "cancel", id });
        reject(new Error("nobody waits any more"));
      });
      send(worker, { op: "call", id, name, args: all });
      this.timer ??= setInterval(() => this.watch(), intervalMs).unref();
    });
  }

  private thread(): Worker {
    if (this.worker !== undefined) return this.worker;
    const worker = new Worker(new URL("./thread.js", import.meta.url), {
      workerData: { cwd: this.cwd },
      resourceLimits: { stackSizeMb },
    });
    this.worker = worker;
    this.askedAt = undefined;
    worker.on("message", (message: FromThread) => this.hear(message, worker));
    worker.on("error", (error) => this.replace(worker, describe(error)));
    worker.on("exit", () => this.replace(worker, "it ended"));
    // After the listeners, the first of which would undo it.
    worker.unref();
    const tell = (name: keyof Calls, args: readonly unknown[]) => {
      this.lastId += 1;
      send(worker, { op: "call", id: this.lastId, name, args });
    };
    for (const cell of this.accepted) tell("accept", [cell]);
    if (this.started) tell("start", []);
    return worker;
  }

  private hear(message: FromThread, worker: Worker): void {
    if (worker !== this.worker) return;
    switch (message.op) {
      case "pong":
        this.askedAt = undefined;
        this.interruptedAt = undefined;
        break;
      case "compiler":
        this.compiler = message.pid;
        break;
      case "begun": {
        const pending = this.pending.get(message.id);
        if (pending !== undefined) pending.begun = true;
        break;
      }
      case "answer":
        this.settle(message.id)?.resolve(message.value);
        break;
      default:
        this.settle(message.id)?.reject(errorOf(message.error));
    }
  }

  private settle(id: number): Pending | undefined {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    if (this.pending.size === 0 && !this.disposed) {
      clearInterval(this.timer);
      this.timer = undefined;
      this.askedAt = undefined;
      this.interruptedAt = undefined;
    }
    return pending;
  }

  private watch(): void {
    const { worker } = this;
    if (worker === undefined) return;
    if (this.askedAt === undefined) {
      this.ask(worker);
      return;
    }
    const now = performance.now();
    const late = now - this.askedAt > patienceMs;
    const interrupted =
      this.interruptedAt !== undefined &&
      now - Math.max(this.interruptedAt, this.askedAt) > patienceOnceInterruptedMs;
    if (late || interrupted) this.replace(worker, "it took too long");
  }

  private ask(worker: Worker): void {
    this.askedAt ??= performance.now();
    send(worker, { op: "ping" });
  }

  /**
   * Replaces the thread by one that knows the same cells and gets the calls that this one had not begun. Those that it had
   * begun fail, since one of them may have brought it down.
   */
  private replace(worker: Worker, reason: string): void {
    if (worker !== this.worker) return;
    if (!this.disposed) console.error(`firstframe: the thread that reads TypeScript is replaced: ${reason}`);
    this.end(worker, new ThreadEndedError(`the kernel could not read this code: ${reason}`));
  }

  private end(worker: Worker, error: Error): void {
    this.worker = undefined;
    this.ending += 1;
    worker.terminate().then(
      () => {
        this.ending -= 1;
      },
      () => undefined,
    );
    this.killCompiler();
    this.interruptedAt = undefined;
    for (const [id, { name, begun, sent }] of [...this.pending]) {
      // A new thread gets all accepted cells anyway.
      const needless = name === "accept" || name === "reset";
      if (begun || needless || sent === sentAtMost || this.disposed) this.settle(id)?.reject(error);
    }
    if (this.pending.size === 0) return;
    const next = this.thread();
    for (const [id, pending] of this.pending) {
      pending.sent += 1;
      send(next, { op: "call", id, name: pending.name, args: pending.args });
    }
  }
}

/** The thread was ended, or ended by itself, before it answered. */
export class ThreadEndedError extends Error {
  override name = "ThreadEndedError";
}

function send(worker: Worker, message: ToThread): void {
  worker.postMessage(message);
}

function describe(error: Error): string {
  return (error as NodeJS.ErrnoException).code === "ERR_WORKER_OUT_OF_MEMORY"
    ? "it ran out of memory"
    : String(error.stack ?? error);
}

function errorOf({ name, message, stack, diagnostics }: ThreadError): Error {
  if (diagnostics !== undefined) return new CellSyntaxError(diagnostics);
  return Object.assign(new Error(message), { name, stack });
}
