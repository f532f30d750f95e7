/**
 * Errors as a notebook shows them: stack traces name the cell and the line as its author wrote it, our own frames are
 * left out, and the innermost line of a cell is shown in context.
 */
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { originalPositionFor, TraceMap } from "@jridgewell/trace-mapping";
import { codeFrame, red } from "../ipc/code-frame.js";
import type { MappedSource } from "../ipc/frames.js";
import { ownScript } from "../ipc/names.js";
import type { ErrorContent } from "../protocol/messages.js";
import { KeyboardInterrupt } from "./interrupt.js";

interface CellSource {
  readonly name: string;
  readonly source: string;
  readonly map: TraceMap;
}

const ownFolder = fileURLToPath(new URL("..", import.meta.url));
const scriptUrl = /(cell-[\w-]{1,40}\.ts):(\d{1,9}):(\d{1,9})/g;

/** Source maps of the user's own modules, by file. */
export const moduleMaps = new Map<string, TraceMap>();

export class CellErrors {
  private readonly cells = new Map<string, CellSource | null>();

  constructor(private readonly fetch: (url: string) => MappedSource | null) {
    const own: typeof Error.prepareStackTrace = (error, frames) => {
      try {
        return [
          headline(error),
          ...usersFrames(frames).map((frame) => `    at ${this.mapped(mappedModule(String(frame)))}`),
        ].join("\n");
      } catch {
        return headline(error);
      }
    };
    Error.prepareStackTrace = own;
    // Source map libraries (such as ts-node's) install their own; what they print is mapped once more.
    Object.defineProperty(Error, "prepareStackTrace", {
      configurable: true,
      get: () => own,
      set: (theirs: typeof Error.prepareStackTrace) => {
        Object.defineProperty(Error, "prepareStackTrace", {
          configurable: true,
          writable: true,
          value: (error: Error, frames: NodeJS.CallSite[]): unknown => {
            const result: unknown = (theirs ?? own)?.(error, frames);
            return typeof result === "string" ? this.mapped(result) : result;
          },
        });
      },
    });
  }

  /** Replaces positions in scripts by those in cells. */
  mapped(text: string): string {
    return text.replace(scriptUrl, (whole, url: string, line: string, column: string) => {
      const cell = this.cell(url);
      if (cell === null) return whole;
      const at = originalPositionFor(cell.map, { line: Number(line), column: Number(column) - 1 });
      return at.line === null ? cell.name : `${cell.name}:${at.line}:${at.column + 1}`;
    });
  }

  /** Never throws: if a cell has replaced what pretty printing needs, errors are printed plainly. */
  content(error: unknown): ErrorContent {
    try {
      return this.described(error);
    } catch {
      return plainContent(error);
    }
  }

  private described(error: unknown): ErrorContent {
    if (!(error instanceof Error) && !isForeignError(error)) {
      const text = safeInspect(error);
      return { ename: "Uncaught", evalue: text, traceback: [`${red("Uncaught")} ${text}`] };
    }
    const ename = String(error.name || error.constructor?.name || "Error");
    const evalue = String(error.message);
    return { ename, evalue, traceback: [this.traceback(error, ename)] };
  }

  private traceback(error: Error, ename: string): string {
    // Somebody is waiting for an interrupt, which is nothing but its stack.
    const plain = error instanceof KeyboardInterrupt && error.cause === undefined;
    const inspected = plain ? String(error.stack) : this.mapped(safeInspect(error, true));
    // Node puts errors without a stack in brackets.
    const line = headline(error);
    const text = inspected.startsWith(`[${line}]`) ? line + inspected.slice(line.length + 2) : inspected;
    const lines = withoutOwnFrames(text.split("\n"));
    const frames = lines
      .map((line, i) => ({ line: stripColors(line), i }))
      .filter(({ line }) => isFrame.test(line));
    const inner = frames.find(({ line }) => cellFrame.test(line));
    const shown = inner === undefined ? "" : this.excerpt(inner.line);
    const excerpt = shown === "" ? [] : [shown];
    // One without a stack, such as that of Promise.any, has frames only in the errors that it holds.
    const hasStack = String(error.stack)
      .split("\n")
      .some((line) => isFrame.test(line));
    const start = hasStack ? (frames[0]?.i ?? lines.length) : line.split("\n").length;
    const head = lines.slice(0, start).join("\n");
    const opens = !hasStack && shown !== "" && head.endsWith(" {");
    const shownHead = opens ? head.slice(0, -2) : head;
    const coloured = shownHead.startsWith(ename) ? red(ename) + shownHead.slice(ename.length) : shownHead;
    const more = opens ? ["{"] : [];
    return [coloured, ...excerpt, ...more, ...lines.slice(start)].join("\n");
  }

  private excerpt(frame: string): string {
    const [, name, line, column] = cellFrame.exec(frame)!;
    // The newest, if two have the same count.
    const cell = [...this.cells.values()].findLast((each) => each?.name === name);
    return cell ? codeFrame(cell.source, Number(line), Number(column), cell.name) : "";
  }

  private cell(url: string): CellSource | null {
    let cell = this.cells.get(url);
    if (cell === undefined) {
      const found = this.fetch(url);
      if (found === null) {
        cell = null;
      } else {
        const map = new TraceMap(found.map);
        cell = { name: found.name, source: map.sourcesContent?.[0] ?? "", map };
      }
      this.cells.set(url, cell);
    }
    return cell;
  }
}

function plainContent(error: unknown): ErrorContent {
  let ename = "Error";
  let evalue = "";
  try {
    const { name, message } = error as { name?: unknown; message?: unknown };
    if (typeof name === "string") ename = name;
    evalue = typeof message === "string" ? message : `${error as string}`;
  } catch {
    // a value that refuses everything
  }
  return { ename, evalue, traceback: [`${ename}: ${evalue}`] };
}

const isFrame = /^\s+at /;
const cellFrame = /(cell \[\d*\]):(\d+):(\d+)/;

/** Replaces a position in a compiled module of the user's by the one in its source. */
function mappedModule(frame: string): string {
  if (moduleMaps.size === 0) return frame;
  const position = /:(\d+):(\d+)\)?$/.exec(frame);
  if (position === null) return frame;
  const [text, line, column] = position;
  const start = frame.lastIndexOf("(", position.index) + 1 || (frame.startsWith("async ") ? 6 : 0);
  const file = frame.slice(start, position.index);
  const map = moduleMaps.get(file);
  const at = map && originalPositionFor(map, { line: Number(line), column: Number(column) - 1 });
  if (at?.line == null) return frame;
  return `${frame.slice(0, position.index)}:${at.line}:${at.column + 1}${text.endsWith(")") ? ")" : ""}`;
}

/** The same as {@link withoutOwnFrames}, before time is spent on printing and mapping each frame. */
function usersFrames(frames: readonly NodeJS.CallSite[]): readonly NodeJS.CallSite[] {
  const places = frames.map((frame) => frame.getScriptNameOrSourceURL() ?? "");
  const outermost = places.findLastIndex((place) => place.startsWith("cell-"));
  return frames.filter(
    (_, i) => !isOwn(places[i]!) && !(i > outermost && outermost >= 0 && places[i]!.startsWith("node:")),
  );
}

function isOwn(place: string): boolean {
  return (
    place.includes(ownFolder) ||
    place.includes(ownScript) ||
    /\(?node:(inspector|async_hooks|internal\/)/.test(place)
  );
}

/** Leaves out our own frames, and those below a cell's outermost frame, which belong to what called the cell. */
function withoutOwnFrames(lines: string[]): string[] {
  const plain = lines.map(stripColors);
  const outermost = plain.findLastIndex((line) => isFrame.test(line) && cellFrame.test(line));
  const kept: string[] = [];
  lines.forEach((line, i) => {
    const text = plain[i]!;
    const below = i > outermost && outermost >= 0 && /\(?node:/.test(text);
    if (!isFrame.test(text) || !(isOwn(text) || below)) kept.push(line);
    // What inspect appends to the last frame: the error's own properties follow.
    else if (text.endsWith(" {") && kept.length > 0) kept[kept.length - 1] += " {";
  });
  return kept;
}

/** An error made in another realm, e.g. by `vm`. */
function isForeignError(value: unknown): value is Error {
  return Object.prototype.toString.call(value) === "[object Error]";
}

function headline(error: Error): string {
  try {
    return Error.prototype.toString.call(error);
  } catch {
    return "Error";
  }
}

/** Node's inspect, even for values whose own inspection throws. */
export function safeInspect(value: unknown, colors = false): string {
  try {
    return inspect(value, { colors });
  } catch (error) {
    return `[${typeof value} that can't be inspected: ${error instanceof Error ? error.message : "it throws"}]`;
  }
}

function stripColors(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is how colours are written
  return text.replace(/\x1b\[[0-9;]*m/g, "");
}
