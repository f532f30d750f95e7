/**
 * Which request output belongs to. The executor names requests by numbers.
 */
import type { Message } from "../protocol/messages.js";

/** A request that output may belong to. */
export interface Context {
  readonly message: Message;
  readonly silent: boolean;
  readonly allowStdin: boolean;
  readonly count: number;
}

/** Requests older than the last so many are forgotten. */
const remembered = 20_000;

export class Contexts {
  private readonly contexts = new Map<number, Context>();
  private last = 0;
  private lastCell = 0;

  /** @returns the request's number. */
  add(context: Context): number {
    this.last += 1;
    // All that an answer needs, without what it answers.
    const message: Message = { ...context.message, parent: {}, metadata: {}, content: {}, buffers: [] };
    this.contexts.set(this.last, { ...context, message });
    if (this.contexts.size > remembered) this.contexts.delete(this.contexts.keys().next().value!);
    return this.last;
  }

  /** Adds a cell; output that names no request belongs to it until the next one. */
  addCell(context: Context): number {
    this.lastCell = this.add(context);
    return this.lastCell;
  }

  get(id: number): Context | undefined {
    return this.contexts.get(id);
  }

  /** Without a number, that of the cell being executed, or of the last one that was. */
  of(id: number | undefined): Partial<Context> {
    return this.contexts.get(id ?? this.lastCell) ?? {};
  }
}
