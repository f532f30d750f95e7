import type { ErrorContent } from "../protocol/messages.js";
import type { ExpressionResult } from "../protocol/replies.js";
import {
  allocUnsafe,
  allocUnsafeSlow,
  byteLength,
  concat,
  min,
  readUInt8,
  readUInt32,
  setBytes,
  subarray,
  writeUInt8,
  writeUInt32,
  writeUtf8,
} from "./primordials.js";

/**
 * What goes between the server and the executor, over pipes of their own: length-prefixed frames.
 *
 *     u32 length of the rest | u8 kind | u32 context | u8 number of parts | u32 length of each part | parts
 *
 * Numbers are little-endian. The context says which request a frame belongs to.
 */
export const FrameKind = {
  /** Text that a cell printed. */
  stdout: 1,
  stderr: 2,
  /** A message for iopub: type, metadata and content as JSON, then buffers. */
  publish: 3,
  /** An {@link FromExecutor} or {@link ToExecutor} as JSON, then buffers. */
  control: 4,
} as const;

export interface Frame {
  readonly kind: number;
  readonly context: number;
  readonly parts: readonly Buffer[];
}

/** A cell, as the executor gets it. */
export interface EvaluateCommand {
  readonly op: "evaluate";
  /** Names the request; output carries it as its context. */
  readonly id: number;
  readonly count: number;
  readonly silent: boolean;
  readonly allowStdin: boolean;
  /** Absent where there is nothing to evaluate, e.g. only user expressions. */
  readonly script?: Script;
  /** Say how long it took. */
  readonly timed?: boolean;
  /** The script's value is a function: call it again and again, and say how long one call takes. */
  readonly repeat?: RepeatOptions;
  readonly userExpressions: Readonly<Record<string, Script>>;
}

export interface Script {
  readonly code: string;
  /** What V8 calls it; with it, the executor asks for the source map once a stack trace needs it. */
  readonly url: string;
}

/** A source map version 3 whose one source is the cell, with its text in `sourcesContent`. */
export interface MappedSource {
  readonly map: string;
  /** The cell's name in tracebacks. */
  readonly name: string;
}

export interface RepeatOptions {
  /** Calls per run; 0 lets the executor choose. */
  readonly number: number;
  readonly runs: number;
}

/**
 * Comes to both threads, and the first that hears of it acts: the main thread where its event loop turns, the control
 * thread where a cell keeps it busy.
 */
export interface Interrupt {
  readonly op: "interrupt";
  /** The request to interrupt. */
  readonly id: number;
  /** Counts the interrupts of this process, from 1. */
  readonly serial: number;
}

/** A message of a comm, with its buffers in the same frame. */
export interface CommCommand {
  readonly op: "comm";
  readonly id: number;
  readonly type: string;
  readonly content: Record<string, unknown>;
  readonly metadata: Record<string, unknown>;
}

export type ToExecutor =
  | EvaluateCommand
  | CommCommand
  | { readonly op: "members"; readonly id: number; readonly expression: string }
  | Interrupt
  /** Is answered with the same by an event loop that turns. */
  | { readonly op: "hello"; readonly id: number }
  | { readonly op: "exit" };

/** What the control thread gets, which answers however busy cells keep the main thread. */
export type ToControl =
  | Interrupt
  | Answer
  | KnownMap
  /** A command for the inspector of the main thread, or the end of it all. */
  | { readonly op: "inspector"; readonly id: number; readonly method: string; readonly params?: object }
  | { readonly op: "inspectorDetach" };

/** What the control thread says. */
export type FromControl =
  | { readonly op: "inspected"; readonly id: number; readonly result?: unknown; readonly error?: string }
  | { readonly op: "inspectorEvent"; readonly method: string; readonly params: unknown };

/** The source map of a cell that has been running for a while: its error, should there be one, need not ask for it. */
export interface KnownMap {
  readonly op: "map";
  readonly url: string;
  readonly value: MappedSource;
}

/** What the executor's main thread waits for. */
export interface Answer {
  readonly op: "answer";
  readonly id: number;
  readonly value: unknown;
}

/** What was typed, null where the question was dismissed; or why it can't be asked. */
export type InputAnswer = { readonly value: string | null } | { readonly refused: string };

export type FromExecutor =
  | { readonly op: "ready" }
  | {
      readonly op: "done";
      readonly id: number;
      readonly error?: ErrorContent;
      readonly interrupted?: boolean;
      readonly userExpressions: Readonly<Record<string, ExpressionResult>>;
    }
  | { readonly op: "hello"; readonly id: number }
  /** A message of a comm has been dealt with. */
  | { readonly op: "handled"; readonly id: number }
  /** The main thread has heard of an interrupt: it is not stuck. */
  | { readonly op: "interrupted"; readonly id: number }
  /** Questions; the executor waits for their {@link Answer}, the one to `input` an {@link InputAnswer}, to `map` a {@link MappedSource}. */
  | {
      readonly op: "input";
      readonly id: number;
      readonly context: number;
      readonly prompt: string;
      readonly password: boolean;
    }
  | { readonly op: "map"; readonly id: number; readonly url: string }
  | {
      readonly op: "members";
      readonly id: number;
      readonly members: readonly { readonly name: string; readonly type: string }[];
    };

/** File descriptors that the server opens for the executor, next to 0, 1 and 2. */
export const fd = { out: 3, commands: 4, control: 5 } as const;

const headerLength = 10;

/** A frame in as few pieces as writing takes: one, unless a part is large. */
export function encodeFrame(
  kind: number,
  context: number,
  parts: readonly (Uint8Array | string)[],
): Uint8Array[] {
  const count = parts.length;
  const lead = headerLength + 4 * count;
  const sizes: number[] = [];
  let total = lead;
  for (let i = 0; i < count; i++) {
    const part = parts[i]!;
    sizes[i] = typeof part === "string" ? byteLength(part) : part.byteLength;
    total += sizes[i]!;
  }
  const whole = total <= 65536;
  const head = allocUnsafe(whole ? total : lead);
  writeUInt32(head, total - 4, 0);
  writeUInt8(head, kind, 4);
  writeUInt32(head, context, 5);
  writeUInt8(head, count, 9);
  const pieces: Uint8Array[] = [head];
  let at = lead;
  for (let i = 0; i < count; i++) {
    const part = parts[i]!;
    const size = sizes[i]!;
    writeUInt32(head, size, headerLength + 4 * i);
    if (!whole) {
      pieces[i + 1] = typeof part === "string" ? bytesOf(part, size) : part;
    } else if (typeof part === "string") {
      writeUtf8(head, part, at);
      at += size;
    } else {
      setBytes(head, part, at);
      at += size;
    }
  }
  return pieces;
}

function bytesOf(text: string, size: number): Buffer {
  const bytes = allocUnsafe(size);
  writeUtf8(bytes, text, 0);
  return bytes;
}

const infinity = Number.POSITIVE_INFINITY;
/** A frame longer than this gets its memory at once, and what arrives goes there: else all of it would be there twice. */
const large = 65536;

/** Puts a pipe's chunks together to frames. */
export class FrameReader {
  private rest: Buffer = allocUnsafe(0);
  private whole: Buffer | undefined;
  private filled = 0;

  constructor(private readonly handle: (frame: Frame) => void) {}

  push(chunk: Buffer): void {
    const frames: Frame[] = [];
    let data = chunk;
    if (this.whole !== undefined) {
      const missing = this.whole.length - this.filled;
      const copied = min(missing, chunk.length);
      setBytes(this.whole, subarray(chunk, 0, copied), this.filled);
      this.filled += copied;
      if (this.filled < this.whole.length) return;
      frames[0] = decodeFrame(this.whole);
      this.whole = undefined;
      data = subarray(chunk, copied);
    } else if (this.rest.length > 0) {
      data = concat([this.rest, chunk]);
    }
    let needed = lengthOf(data);
    while (data.length >= needed) {
      frames[frames.length] = decodeFrame(subarray(data, 0, needed));
      data = subarray(data, needed);
      needed = lengthOf(data);
    }
    if (needed > large && needed < infinity) {
      this.whole = allocUnsafeSlow(needed);
      setBytes(this.whole, data, 0);
      this.filled = data.length;
      data = subarray(data, data.length);
    }
    this.rest = data;
    for (let i = 0; i < frames.length; i++) this.handle(frames[i]!);
  }
}

/** The length of the frame that begins here; infinite, where not even that is there. */
function lengthOf(data: Buffer): number {
  return data.length >= 4 ? 4 + readUInt32(data, 0) : infinity;
}

function decodeFrame(data: Buffer): Frame {
  const parts: Buffer[] = [];
  const count = readUInt8(data, 9);
  let at = headerLength + 4 * count;
  for (let i = 0; i < count; i++) {
    const size = readUInt32(data, headerLength + 4 * i);
    parts[i] = subarray(data, at, at + size);
    at += size;
  }
  return { kind: readUInt8(data, 4), context: readUInt32(data, 5), parts };
}
