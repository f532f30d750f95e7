/**
 * Interrupts. When a cell blocks the event loop, a small thread (control.ts) says so in shared memory and has V8 stop the
 * main thread at its next step to set a flag; the guards that the transform put into cells' loops and functions read it
 * and throw. A pending await is rejected. After the first throw the cell is left alone for a moment, so that `finally` can
 * clean up; then guards throw until it is over.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import { context } from "../ipc/channel.js";
import type { Answer, Interrupt, KnownMap, MappedSource } from "../ipc/frames.js";
import { interruptFlag, whenIdle } from "../ipc/names.js";
import {
  compareExchange,
  continueWith,
  exchange,
  hasPrototype,
  later,
  load,
  NativePromise,
  resolved,
  store,
  tryDefine,
  tryDelete,
  trySet,
  wait,
  withOwnMethods,
} from "../ipc/primordials.js";
import { isSettled } from "./settled.js";

/** Slots of the shared memory. */
export const slot = {
  /** 0, or the request to interrupt; {@link whenIdle} for what runs between cells. */
  interrupt: 0,
  /** The running request; 0 for none. */
  running: 1,
  /** Counts the control thread's messages, to wake a main thread that is waiting for an answer. */
  wake: 2,
  /** The last interrupt that the main thread's event loop received. */
  heard: 3,
  /** If not 0, guards keep throwing. */
  insist: 4,
  /** The last interrupt for which V8 was told to end what was running. */
  terminated: 5,
  /** 1 while the inspector's call is on the stack, 0 where a promise or a timer continues a cell. */
  onStack: 6,
  /** The serial number of the last interrupt that one of the threads took on. */
  claimed: 7,
} as const;

/**
 * Whether the calling thread is the first to receive an interrupt, and so the one to act on it. An earlier interrupt that
 * nobody acted on, because its target was not running, does not get in the way.
 */
export function claim(state: Int32Array, serial: number): boolean {
  const last = load(state, slot.claimed);
  if (last >= serial) return false;
  return compareExchange(state, slot.claimed, last, serial) === last || claim(state, serial);
}

/** Thrown when a cell is interrupted. */
export class KeyboardInterrupt extends Error {
  /** The newest, for code that can only recognise it by an error's description. */
  static last: KeyboardInterrupt | undefined;

  constructor() {
    super("interrupted");
    KeyboardInterrupt.last = this;
  }

  /** For an await, which has no stack; ours would tell its author nothing. */
  static ofAwait(): KeyboardInterrupt {
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    const error = new KeyboardInterrupt();
    Error.stackTraceLimit = stackTraceLimit;
    return error;
  }
}
const { prototype } = KeyboardInterrupt;
// Its own, since cells may change Error's.
Object.defineProperty(KeyboardInterrupt, Symbol.hasInstance, {
  value: (value: unknown) => hasPrototype(value, prototype),
});
Object.defineProperty(KeyboardInterrupt.prototype, "name", {
  value: "KeyboardInterrupt",
  configurable: true,
});

export interface ControlSetup {
  readonly state: Int32Array;
  readonly port: MessagePort;
}

export type ControlNote = { readonly op: "interrupt"; readonly id: number } | Answer | KnownMap;

export class Interrupts {
  readonly state = new Int32Array(new SharedArrayBuffer(4 * Object.keys(slot).length));
  /**
   * Called once the main thread is free after an interrupt, with how many awaits of the cell were rejected, and whether
   * V8 ended what was running.
   */
  onInterrupt: (id: number, rejected: number, terminated: boolean) => void = () => undefined;
  /** Of the circle of pending awaits. */
  private readonly head = emptyCircle();
  private readonly port: MessagePort;
  private questions = 0;
  private answer: Answer | undefined;
  private readonly askers = new Map<number, (answer: unknown) => void>();
  private known: KnownMap | undefined;
  private raised = true;

  constructor() {
    this.lower();
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    const worker = withOwnMethods(
      new Worker(new URL("./control.js", import.meta.url), {
        workerData: { state: this.state, port: port2 } satisfies ControlSetup,
        transferList: [port2],
        execArgv: [],
        env: {},
      }),
    );
    worker.unref();
    port1.on("message", (note: ControlNote) => this.hear(note));
    port1.unref();
  }

  begin(id: number): void {
    this.clear();
    store(this.state, slot.running, id);
  }

  end(): void {
    store(this.state, slot.running, 0);
    this.clear();
  }

  setOnStack(inside: boolean): void {
    store(this.state, slot.onStack, inside ? 1 : 0);
  }

  /** Sets the flag that guards read, if there is an interrupt. */
  readonly raise = (): void => {
    if (this.raised || load(this.state, slot.interrupt) === 0) return;
    // Where a cell has frozen the global object, there is no flag: V8 ends what goes on for too long.
    this.raised = trySet(globalThis, interruptFlag, true);
  };

  /** Makes the flag anew, which V8 again takes for a constant, as it does not with one that has changed. */
  private lower(): void {
    if (!this.raised) return;
    this.raised = false;
    tryDelete(globalThis, interruptFlag);
    const property = { __proto__: null, value: false, configurable: true, writable: true };
    tryDefine(globalThis, interruptFlag, property as PropertyDescriptor);
  }

  /** What a guard calls when the flag is set. Throws, unless the interrupt was for a cell that is over. */
  readonly check = (): void => {
    const id = load(this.state, slot.interrupt);
    if (id === 0) {
      this.lower();
      return;
    }
    const due = id === this.current();
    if (!due || load(this.state, slot.insist) === 0) {
      compareExchange(this.state, slot.interrupt, id, 0);
      this.lower();
    }
    if (due) throw new KeyboardInterrupt();
  };

  /** Makes an awaited value interruptible. */
  readonly guard = <T>(value: T): T | Promise<Awaited<T>> => {
    if (!isThenable(value) || isSettled(value)) return value;
    const promise = new NativePromise<Awaited<T>>(capture as Executor<Awaited<T>>);
    const { resolve, reject } = captured;
    const { head } = this;
    const entry: PendingAwait = { owner: context(), reject, previous: head.previous, next: head };
    head.previous.next = entry;
    head.previous = entry;
    // A chain in which each link is settled by the one before, so that V8 finds the awaiting code for stack traces.
    const settled = continueWith(
      resolved(value),
      (result) => {
        unlink(entry);
        return result;
      },
      (error: unknown) => {
        unlink(entry);
        throw error;
      },
    );
    continueWith(settled as Promise<unknown>, resolve, reject);
    return promise;
  };

  /** Makes the steps of `for await` interruptible. */
  readonly iterate = <T>(iterable: AsyncIterable<T> | Iterable<T>): AsyncIterable<T> | Iterable<T> => {
    const { guard } = this;
    const begin = (iterable as Partial<AsyncIterable<T>> | null | undefined)?.[Symbol.asyncIterator];
    if (typeof begin !== "function") return iterable;
    return {
      [Symbol.asyncIterator]() {
        const steps = begin.call(iterable);
        return {
          next: () => guard(steps.next()) as Promise<IteratorResult<T>>,
          return: async (value?: unknown) => steps.return?.(value) ?? { done: true, value },
        };
      },
    };
  };

  /**
   * Asks the server and blocks until its answer arrives through the control thread.
   * Throws {@link KeyboardInterrupt} when interrupted, if `interruptible`.
   */
  ask(question: (id: number) => void, interruptible: boolean): unknown {
    this.questions += 1;
    const id = this.questions;
    question(id);
    for (;;) {
      const seen = load(this.state, slot.wake);
      this.drain();
      if (this.answer?.id === id) return this.answer.value;
      if (interruptible) this.check();
      wait(this.state, slot.wake, seen);
    }
  }

  /** Asks the server without waiting. */
  askLater(question: (id: number) => void, answered: (answer: unknown) => void): void {
    this.questions += 1;
    this.askers.set(this.questions, answered);
    question(this.questions);
  }

  /** The request whose cell is running; 0 for none. */
  running(): number {
    return load(this.state, slot.running);
  }

  /** Rejects what a cell awaits. */
  fail(id: number, error: unknown): void {
    this.rejectAwaits(id, () => error);
  }

  /** The source map of a script, if the server has already sent it. */
  knownMap(url: string): MappedSource | undefined {
    this.drain();
    return this.known?.url === url ? this.known.value : undefined;
  }

  /** Handles an interrupt that reached the event loop by itself. */
  interrupt({ id, serial }: Interrupt): void {
    if (!claim(this.state, serial) || id !== this.current()) return;
    store(this.state, slot.interrupt, id);
    this.raise();
    this.handle(id);
  }

  /** Ends the interrupt of something that ran between cells. */
  clearIdle(): void {
    if (this.current() === whenIdle) this.clear();
  }

  /** Handles what the control thread sent while code blocked the event loop. */
  private drain(): void {
    for (let got = receiveMessageOnPort(this.port); got; got = receiveMessageOnPort(this.port)) {
      const note = got.message as ControlNote;
      if (note.op === "interrupt") later(() => this.hear(note));
      else this.hear(note);
    }
  }

  private hear(note: ControlNote): void {
    if (note.op === "interrupt") this.handle(note.id);
    else if (note.op === "map") this.known = note;
    else {
      const asker = this.askers.get(note.id);
      if (asker === undefined) this.answer = note;
      else {
        this.askers.delete(note.id);
        asker(note.value);
      }
    }
  }

  private rejectAwaits(id: number, error: () => unknown): number {
    let rejected = 0;
    for (let each = this.head.next, next = each.next; each !== this.head; each = next, next = each.next) {
      if (each.owner !== id) continue;
      unlink(each);
      each.reject(error());
      rejected += 1;
    }
    return rejected;
  }

  private current(): number {
    return load(this.state, slot.running) || whenIdle;
  }

  private clear(): void {
    store(this.state, slot.interrupt, 0);
    store(this.state, slot.insist, 0);
    this.lower();
  }

  private handle(id: number): void {
    if (id !== this.current()) return; // already over
    store(this.state, slot.heard, id);
    const rejected = this.rejectAwaits(id, () => KeyboardInterrupt.ofAwait());
    // The awaiting code throws now and may clean up; guards would cut that short.
    if (rejected > 0 && compareExchange(this.state, slot.interrupt, id, 0) === id) this.lower();
    if (id === whenIdle) this.clear(); // nothing is running that could be interrupted
    this.onInterrupt(id, rejected, exchange(this.state, slot.terminated, 0) === id);
  }
}

/** An await that an interrupt rejects. They form a circle, which is quicker than a set. */
interface PendingAwait {
  readonly owner: number;
  reject(error: unknown): void;
  previous: PendingAwait;
  next: PendingAwait;
}

function emptyCircle(): PendingAwait {
  const head = { owner: 0, reject: () => undefined } as unknown as PendingAwait;
  head.previous = head;
  head.next = head;
  return head;
}

function unlink(entry: PendingAwait): void {
  entry.previous.next = entry.next;
  entry.next.previous = entry.previous;
  // Its promise may yet settle, after the interrupt.
  entry.previous = entry;
  entry.next = entry;
}

type Executor<T> = (resolve: (value: T | PromiseLike<T>) => void, reject: (error: unknown) => void) => void;

/** What settles the promise that was made last: a function for each would take longer than the promise. */
const captured: { resolve: (value: unknown) => void; reject: (error: unknown) => void } = {
  resolve: () => undefined,
  reject: () => undefined,
};

function capture(resolve: (value: unknown) => void, reject: (error: unknown) => void): void {
  captured.resolve = resolve;
  captured.reject = reject;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    ((typeof value === "object" && value !== null) || typeof value === "function") &&
    typeof (value as { then?: unknown }).then === "function"
  );
}
