/**
 * `process.stdin` of cells: each line is asked of the reader of the notebook, and only once somebody waits for it. An open
 * `readline` interface by itself does not: only its questions, and listeners for lines that the running cell added, do.
 */
import { createRequire, syncBuiltinESMExports } from "node:module";
import type { Interface } from "node:readline";
import { Readable } from "node:stream";
import { context, sendControl } from "../ipc/channel.js";
import type { InputAnswer } from "../ipc/frames.js";
import { later } from "../ipc/primordials.js";
import type { Interrupts } from "./interrupt.js";

interface Reader {
  readonly interface: Interface;
  /** Of questions not answered yet. */
  questions: number;
  /** The cell that last added a listener for lines. */
  linesFor: number;
}

export function replaceInput(interrupts: Interrupts): void {
  // Not before cells can run.
  later(hearReaders);
  let stdin: Stdin | undefined;
  Object.defineProperty(process, "stdin", {
    configurable: true,
    enumerable: true,
    get: () => {
      // One that has come to its end is of no use to the cells to come.
      if (stdin === undefined || stdin.readableEnded || stdin.destroyed) stdin = new Stdin(interrupts);
      return stdin;
    },
  });
}

/** Learns of readers that `readline` makes for a {@link Stdin}. */
function hearReaders(): void {
  const require = createRequire(import.meta.url);
  for (const name of ["node:readline", "node:readline/promises"]) {
    const module = require(name) as { createInterface: (...args: unknown[]) => Interface };
    const { createInterface } = module;
    module.createInterface = (...args) => {
      const made = createInterface(...args);
      const { input } = made as unknown as { input?: unknown };
      if (input instanceof Stdin) input.add(made);
      return made;
    };
    Object.defineProperty(module.createInterface, "name", { value: createInterface.name });
  }
  syncBuiltinESMExports();
}

class Stdin extends Readable {
  readonly fd = 0;
  readonly isTTY = false;
  private readonly readers = new Set<Reader>();
  private hungry = false;
  private asking = false;
  private checking = false;
  /** The cell that last added a listener of its own. */
  private listenersFor = 0;

  constructor(private readonly interrupts: Interrupts) {
    super({ highWaterMark: 0 });
  }

  /**
   * A loop over it that is left destroys it, in newer versions of Node with an error, which would be one of every reader
   * that is still open.
   */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    callback((error as NodeJS.ErrnoException | null)?.code === "ABORT_ERR" ? null : error);
  }

  override _read(): void {
    this.hungry = true;
    this.check();
  }

  override on(event: string | symbol, listener: (...args: never[]) => void): this {
    if (event === "data" || event === "readable") {
      this.listenersFor = this.interrupts.running();
      this.check();
    }
    return super.on(event, listener as (...args: unknown[]) => void);
  }

  override resume(): this {
    this.check();
    return super.resume();
  }

  /** Never keeps the process waiting, nor does it need to. */
  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  add(made: Interface): void {
    const reader: Reader = { interface: made, questions: 0, linesFor: 0 };
    this.readers.add(reader);
    // The interface's own listeners are none that wait.
    this.listenersFor = 0;
    made.once("close", () => this.readers.delete(reader));
    made.on("newListener", (event: string) => {
      if (event !== "line") return;
      reader.linesFor = this.interrupts.running();
      this.check();
    });
    const question = made.question as (...args: unknown[]) => unknown;
    Object.defineProperty(made, "question", {
      configurable: true,
      writable: true,
      value: (...args: unknown[]) => {
        reader.questions += 1;
        this.check();
        return Reflect.apply(question, made, args);
      },
    });
  }

  private isStopped(): boolean {
    return this.isPaused() && this.listenerCount("readable") === 0;
  }

  private isAwaited(): boolean {
    const cell = this.interrupts.running();
    if (cell === 0 || context() !== cell) return false;
    if (this.listenersFor === cell) return true;
    for (const { interface: each, questions, linesFor } of this.readers)
      if (questions > 0 || (linesFor === cell && each.listenerCount("line") > 0)) return true;
    return false;
  }

  /** In a while, since whoever has just got a line may be about to close. */
  private check(): void {
    if (this.checking) return;
    this.checking = true;
    later(() => {
      this.checking = false;
      if (this.hungry && !this.asking && !this.isStopped() && this.isAwaited()) this.ask();
    });
  }

  private ask(): void {
    const cell = this.interrupts.running();
    this.asking = true;
    this.interrupts.askLater(
      (id) => sendControl({ op: "input", id, context: cell, prompt: "", password: false }),
      (answer) => this.receive(answer as InputAnswer, cell),
    );
  }

  private receive(answer: InputAnswer, cell: number): void {
    this.asking = false;
    for (const reader of this.readers) reader.questions = 0;
    if ("refused" in answer) {
      if (cell === this.interrupts.running()) this.interrupts.fail(cell, new Error(answer.refused));
      return;
    }
    this.hungry = false;
    this.push(answer.value === null ? null : `${answer.value}\n`);
  }
}
