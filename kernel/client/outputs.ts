/**
 * Gathers a cell's messages as a notebook stores its outputs (nbformat 4).
 */
import type { Message } from "../protocol/messages.js";

export type CellOutput =
  | { output_type: "stream"; name: "stdout" | "stderr"; text: string }
  | { output_type: "display_data"; data: Record<string, unknown>; metadata: Record<string, unknown> }
  | {
      output_type: "execute_result";
      data: Record<string, unknown>;
      metadata: Record<string, unknown>;
      execution_count: number | null;
    }
  | { output_type: "error"; ename: string; evalue: string; traceback: string[] };

type Shown = Extract<CellOutput, { data: unknown }>;
type Stream = Extract<CellOutput, { output_type: "stream" }>;
type ErrorOutput = Extract<CellOutput, { output_type: "error" }>;

/** How much is kept; without limits, all. Both count characters as a notebook's file has them. */
export interface OutputLimits {
  /** Of what a cell prints: the first half and the last half. */
  readonly printed: number;
  /** Of all outputs of all cells. */
  readonly total: number;
}

const unlimited: OutputLimits = { printed: Number.POSITIVE_INFINITY, total: Number.POSITIVE_INFINITY };

/** The outputs of a notebook's cells; displays with an id can be updated from any of them. */
export class OutputCollector {
  private readonly displays = new Map<string, Shown[]>();
  /** What each output takes of the room. */
  private readonly sizes = new Map<CellOutput, number>();
  private room: number;

  constructor(private readonly limits: OutputLimits = unlimited) {
    this.room = limits.total;
  }

  /**
   * Makes the list of one cell's outputs, and the function that takes its messages. `end` is called when there are no more: with a
   * limit, the last outputs are in the list only then.
   */
  cell(): {
    readonly outputs: CellOutput[];
    readonly add: (message: Message) => void;
    readonly end: () => void;
  } {
    const cell = new CellOutputs(Math.min(this.limits.printed, this.room));
    let clearNext = false;
    const clear = () => {
      for (const output of cell.clear()) this.take(output, 0);
    };
    const add = (message: Message): void => {
      const { content } = message;
      const type = message.header.msg_type;
      if (type === "clear_output") {
        if (content.wait === true) clearNext = true;
        else clear();
        return;
      }
      if (type === "update_display_data") {
        this.update(content);
        return;
      }
      const output = asOutput(type, content);
      if (output === undefined) return;
      if (clearNext) clear();
      clearNext = false;
      if (output.output_type === "stream") cell.print(output);
      else if (output.output_type === "error") {
        cell.show(this.fits(output, output) ? output : shortenedError(output));
      } else {
        if (!this.fits(output, output.data)) output.data = leftOut(output.data);
        cell.show(output);
        this.remember(content, output);
      }
    };
    const end = () => {
      const kept = cell.end();
      if (Number.isFinite(kept)) this.room = Math.max(0, this.room - kept);
    };
    return { outputs: cell.outputs, add, end };
  }

  /** Whether there is room for an output with this content, which it then takes. */
  private fits(output: CellOutput, content: object): boolean {
    if (this.room === Number.POSITIVE_INFINITY) return true;
    const size = JSON.stringify(content).length;
    this.take(output, size <= this.room + (this.sizes.get(output) ?? 0) ? size : 0);
    return this.sizes.has(output);
  }

  private take(output: CellOutput, size: number): void {
    this.room += (this.sizes.get(output) ?? 0) - size;
    if (size > 0) this.sizes.set(output, size);
    else this.sizes.delete(output);
  }

  private remember(content: Record<string, unknown>, output: Shown): void {
    const id = displayId(content);
    if (id === undefined) return;
    const shown = this.displays.get(id) ?? [];
    shown.push(output);
    this.displays.set(id, shown);
  }

  private update(content: Record<string, unknown>): void {
    for (const output of this.displays.get(displayId(content) ?? "") ?? []) {
      const data = storedBundle(content.data);
      output.data = this.fits(output, data) ? data : leftOut(data);
      output.metadata = object(content.metadata);
    }
  }
}

/** One cell's outputs in order. The start of what it prints goes into the list at once, the last of it waits for the end. */
class CellOutputs {
  readonly outputs: CellOutput[] = [];
  private readonly half: number;
  /** What the start may still take. */
  private room: number;
  /** What came since the start was full. */
  private rest: { readonly output: CellOutput; readonly size: number }[] = [];
  private restSize = 0;
  private left = 0;

  constructor(limit: number) {
    this.half = limit / 2;
    this.room = this.half;
  }

  print({ name, text }: Stream): void {
    const start = this.rest.length > 0 ? 0 : lengthWithin(text, this.room);
    if (start > 0) this.append(name, text.slice(0, start));
    this.room -= sizeOf(text, 0, start);
    if (start === text.length) return;
    const from = Math.max(start, text.length - lengthWithin(text, this.half, "from the end"));
    this.left += from - start;
    this.wait({ output_type: "stream", name, text: text.slice(from) }, sizeOf(text, from, text.length));
    while (this.restSize > this.half) {
      const { output, size } = this.rest.shift()!;
      this.restSize -= size;
      if (output.output_type === "stream") this.left += output.text.length;
      else this.outputs.push(output);
    }
  }

  show(output: Exclude<CellOutput, Stream>): void {
    if (this.rest.length > 0) this.wait(output, 0);
    else this.outputs.push(output);
  }

  /** @returns what was there */
  clear(): CellOutput[] {
    const cleared = [...this.outputs, ...this.rest.map(({ output }) => output)];
    this.outputs.length = 0;
    this.room = this.half;
    this.forget();
    return cleared;
  }

  /** @returns how much of what was printed is kept */
  end(): number {
    const kept = this.half - this.room + this.restSize;
    if (this.left > 0) {
      const text = `\n[${this.left} characters are left out here: what a cell prints is kept up to a limit, its start and its end]\n`;
      this.outputs.push({ output_type: "stream", name: "stderr", text });
    }
    for (const { output } of this.rest) {
      if (output.output_type === "stream") this.append(output.name, output.text);
      else this.outputs.push(output);
    }
    this.forget();
    return kept;
  }

  private wait(output: CellOutput, size: number): void {
    this.rest.push({ output, size });
    this.restSize += size;
  }

  private append(name: Stream["name"], text: string): void {
    const last = this.outputs.at(-1);
    if (last?.output_type === "stream" && last.name === name) last.text += text;
    else this.outputs.push({ output_type: "stream", name, text });
  }

  private forget(): void {
    this.rest = [];
    this.restSize = 0;
    this.left = 0;
  }
}

/** What a character takes in a notebook's file, where each line is a string of its own and control characters are escaped. */
function weight(code: number): number {
  if (code < 0x20) return 16;
  return code === 0x22 || code === 0x5c ? 2 : 1;
}

function sizeOf(text: string, from: number, to: number): number {
  let size = 0;
  for (let i = from; i < to; i++) size += weight(text.charCodeAt(i));
  return size;
}

/** How much of a text's start, or of its end, has this size at most, in whole characters. */
function lengthWithin(text: string, size: number, side?: "from the end"): number {
  const { length } = text;
  if (size === Number.POSITIVE_INFINITY) return length;
  const codeAt = (i: number) => text.charCodeAt(side ? length - 1 - i : i);
  let fits = 0;
  for (let left = size; fits < length; fits++) {
    left -= weight(codeAt(fits));
    if (left < 0) break;
  }
  // Not between the halves of a character.
  const cut = side ? length - fits : fits;
  const split = fits > 0 && fits < length && /^[\uDC00-\uDFFF]/.test(text.slice(cut, cut + 1));
  return split ? fits - 1 : fits;
}

/** A display that there is no room for: what it would have been. */
function leftOut(data: Record<string, unknown>): Record<string, unknown> {
  const types = Object.keys(data).slice(0, 10).join(", ");
  const megabytes = (JSON.stringify(data).length / 1e6).toFixed(1);
  return {
    "text/plain": `[${types} (${megabytes} MB) is left out: the notebook's outputs have reached their limit]`,
  };
}

/** An error that there is no room for: the start of what it says. */
function shortenedError({ ename, evalue, traceback }: ErrorOutput): ErrorOutput {
  const start = (text: string) => (text.length > 10_000 ? `${text.slice(0, 10_000)} ...` : text);
  return {
    output_type: "error",
    ename: start(ename),
    evalue: start(evalue),
    traceback: [start(traceback.join("\n"))],
  };
}

function displayId(content: Record<string, unknown>): string | undefined {
  return (content.transient as { display_id?: string } | undefined)?.display_id;
}

const object = (value: unknown) =>
  (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;

const WIDGET_VIEW_TYPE = "application/vnd.jupyter.widget-view+json";

/**
 * An output's content, without a view of a widget that shows something else as well: the widget ends with its kernel, and front ends
 * would show "model not found" where a picture could be.
 */
export function storedBundle(data: unknown): Record<string, unknown> {
  const { [WIDGET_VIEW_TYPE]: view, ...rest } = object(data);
  const others = Object.keys(rest).some((type) => type !== "text/plain");
  return others || view === undefined ? rest : { [WIDGET_VIEW_TYPE]: view, ...rest };
}

function asOutput(type: string, content: Record<string, unknown>): CellOutput | undefined {
  const data = storedBundle(content.data);
  const metadata = object(content.metadata);
  switch (type) {
    case "stream":
      return { output_type: "stream", name: content.name as "stdout", text: String(content.text) };
    case "display_data":
      return { output_type: "display_data", data, metadata };
    case "execute_result": {
      const count = content.execution_count as number | null;
      return { output_type: "execute_result", data, metadata, execution_count: count };
    }
    case "error":
      return {
        output_type: "error",
        ename: String(content.ename),
        evalue: String(content.evalue),
        traceback: Array.isArray(content.traceback) ? content.traceback.map(String) : [],
      };
    default:
      return undefined;
  }
}
