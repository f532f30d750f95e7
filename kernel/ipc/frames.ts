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
export interface RunCommand {
  readonly op: "run";
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

export type ToExecutor =
  | RunCommand
  | {
      readonly op: "comm";
      readonly id: number;
      readonly type: string;
      readonly content: Record<string, unknown>;
      readonly metadata: Record<string, unknown>;
    }
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

export interface ErrorContent {
  readonly ename: string;
  readonly evalue: string;
  readonly traceback: readonly string[];
}

export type FromExecutor =
  | { readonly op: "ready" }
  | {
      readonly op: "done";
      readonly id: number;
      readonly error?: ErrorContent;
      readonly interrupted?: boolean;
      readonly userExpressions: Readonly<Record<string, unknown>>;
      readonly payload: readonly object[];
    }
  | { readonly op: "hello"; readonly id: number }
  /** A message of a comm has been dealt with. */
  | { readonly op: "handled"; readonly id: number }
  /** The main thread has heard of an interrupt: it is not stuck. */
  | { readonly op: "interrupted"; readonly id: number }
  /** Questions; the executor waits for their {@link Answer}, the one to `input` a string or null, to `map` a {@link MappedSource}. */
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
  const sizes = parts.map((part) => (typeof part === "string" ? Buffer.byteLength(part) : part.byteLength));
  const lead = headerLength + 4 * parts.length;
  const total = sizes.reduce((sum, size) => sum + size, lead);
  const whole = total <= 65536;
  const head = Buffer.allocUnsafe(whole ? total : lead);
  head.writeUInt32LE(total - 4, 0);
  head.writeUInt8(kind, 4);
  head.writeUInt32LE(context, 5);
  head.writeUInt8(parts.length, 9);
  sizes.forEach((size, i) => {
    head.writeUInt32LE(size, headerLength + 4 * i);
  });
  if (!whole) return [head, ...parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part))];
  let at = lead;
  parts.forEach((part, i) => {
    if (typeof part === "string") head.write(part, at);
    else head.set(part, at);
    at += sizes[i]!;
  });
  return [head];
}

/** A frame longer than this gets its memory at once, and what arrives goes there: else all of it would be there twice. */
const large = 65536;

/** Puts a pipe's chunks together to frames. */
export class FrameReader {
  private rest: Buffer = Buffer.alloc(0);
  private whole: Buffer | undefined;
  private filled = 0;

  constructor(private readonly handle: (frame: Frame) => void) {}

  push(chunk: Buffer): void {
    const frames: Frame[] = [];
    let data = chunk;
    if (this.whole !== undefined) {
      const copied = chunk.copy(this.whole, this.filled);
      this.filled += copied;
      if (this.filled < this.whole.length) return;
      frames.push(decodeFrame(this.whole));
      this.whole = undefined;
      data = chunk.subarray(copied);
    } else if (this.rest.length > 0) {
      data = Buffer.concat([this.rest, chunk]);
    }
    let needed = lengthOf(data);
    while (data.length >= needed) {
      frames.push(decodeFrame(data.subarray(0, needed)));
      data = data.subarray(needed);
      needed = lengthOf(data);
    }
    if (needed > large && needed < Number.POSITIVE_INFINITY) {
      this.whole = Buffer.allocUnsafeSlow(needed);
      this.filled = data.copy(this.whole);
      data = data.subarray(data.length);
    }
    this.rest = data;
    for (const frame of frames) this.handle(frame);
  }
}

/** The length of the frame that begins here; infinite, where not even that is there. */
function lengthOf(data: Buffer): number {
  return data.length >= 4 ? 4 + data.readUInt32LE(0) : Number.POSITIVE_INFINITY;
}

function decodeFrame(data: Buffer): Frame {
  const parts: Buffer[] = [];
  const count = data.readUInt8(9);
  let at = headerLength + 4 * count;
  for (let i = 0; i < count; i++) {
    const size = data.readUInt32LE(headerLength + 4 * i);
    parts.push(data.subarray(at, at + size));
    at += size;
  }
  return { kind: data.readUInt8(4), context: data.readUInt32LE(5), parts };
}
