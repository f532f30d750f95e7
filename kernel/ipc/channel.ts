/**
 * The executor's way out: writes are synchronous, so output keeps its order, nothing is lost when the process ends,
 * and a cell that prints faster than anyone reads is slowed down instead of filling memory.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { writeSync } from "node:fs";
import { Writable } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import type { PublishedContents, PublishedType } from "../protocol/published.js";
import { encodeFrame, FrameKind, type FromExecutor, fd } from "./frames.js";
import {
  bufferFrom,
  killOurselves,
  min,
  slice,
  stringify,
  unitAt,
  wait,
  withOwnMethods,
} from "./primordials.js";

/** Longer text is cut to pieces, so that no part of the way has to hold it whole. */
const maxText = 2 ** 20;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/**
 * Which request the code that runs now belongs to, in its timers and promises, too: where V8 can tell. Before Node 24,
 * Node keeps track with hooks that slow promises down and leave their marks on them, which then
 * show when a promise is printed; there, it is the request whose code runs or ran last.
 */
const contexts = trackingIsFree() ? withOwnMethods(new AsyncLocalStorage<number>()) : undefined;
const runIn = contexts?.run.bind(contexts) as (<T>(id: number, run: () => T) => T) | undefined;
const contextNow = contexts?.getStore.bind(contexts);
let fallback = 0;

export function inContext<T>(id: number, run: () => T): T {
  if (runIn !== undefined) return runIn(id, run);
  const before = fallback;
  fallback = id;
  try {
    return run();
  } finally {
    fallback = before;
  }
}

/** The request that output is attributed to where nothing else is known. */
export function setFallbackContext(id: number): void {
  fallback = id;
}

export function context(): number {
  return contextNow?.() ?? fallback;
}

function trackingIsFree(): boolean {
  const probe = new AsyncLocalStorage<number>();
  const marked = probe.run(1, () => Object.getOwnPropertySymbols(Promise.resolve()).length > 0);
  probe.disable();
  return !marked;
}

export function sendControl(message: FromExecutor, id = context()): void {
  write(encodeFrame(FrameKind.control, id, [stringify(message)]));
}

/** Publishes on iopub. */
export function publish<Type extends PublishedType>(
  type: Type,
  content: PublishedContents[Type],
  options: { metadata?: object; buffers?: readonly Uint8Array[]; context?: number } = {},
): void {
  const { metadata = {}, buffers = [], context: id = context() } = options;
  const parts: (string | Uint8Array)[] = [type, stringify(metadata), stringify(content)];
  for (let i = 0; i < buffers.length; i++) parts[i + 3] = buffers[i]!;
  write(encodeFrame(FrameKind.publish, id, parts));
}

export function print(stream: "stdout" | "stderr", text: string, id = context()): void {
  for (let at = 0; at < text.length; ) {
    let end = min(at + maxText, text.length);
    if (end < text.length && isHighSurrogate(unitAt(text, end - 1))) end -= 1;
    const piece = at === 0 && end === text.length ? text : slice(text, at, end);
    write(encodeFrame(FrameKind[stream], id, [piece]));
    at = end;
  }
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit < 0xdc00;
}

function write(pieces: Uint8Array[]): void {
  for (let i = 0; i < pieces.length; i++) {
    const piece = pieces[i]!;
    let at = 0;
    while (at < piece.length) {
      try {
        at += writeSync(fd.out, piece, at);
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code;
        if (code === "EAGAIN") wait(sleeper, 0, 0, 1);
        else if (code === "EPIPE") killOurselves();
        else throw error;
      }
    }
  }
}

/** Stands in for `process.stdout` and `process.stderr`. */
export class OutputStream extends Writable {
  readonly isTTY = false;
  private readonly decoder = new StringDecoder("utf8");

  constructor(
    private readonly to: "stdout" | "stderr",
    readonly fd: number,
  ) {
    super({ decodeStrings: false });
  }

  override _write(chunk: string | Buffer, encoding: BufferEncoding, done: (error?: Error) => void): void {
    const bytes =
      typeof chunk !== "string" ? chunk : isUtf8(encoding) ? undefined : bufferFrom(chunk, encoding);
    print(this.to, bytes === undefined ? (chunk as string) : this.decoder.write(bytes));
    done();
  }

  /** Like Node's own, it can't be closed: a library that ends it must not silence the cells to come. */
  override end(chunk?: unknown, encoding?: unknown, done?: unknown): this {
    const callback = [chunk, encoding, done].find((argument) => typeof argument === "function");
    if (typeof chunk === "string" || chunk instanceof Uint8Array) this.write(chunk);
    if (callback !== undefined) process.nextTick(callback as () => void);
    return this;
  }

  override destroy(): this {
    return this;
  }
}

function isUtf8(encoding: string): boolean {
  return encoding === "utf8" || encoding === "utf-8";
}
