import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import {
  eachMapping,
  generatedPositionFor,
  LEAST_UPPER_BOUND,
  originalPositionFor,
  TraceMap,
} from "@jridgewell/trace-mapping";
import { parseSync } from "oxc-parser";
import { isShallow } from "../language/depth.js";
import type { TransformedCell } from "../language/language.js";
import { walk } from "../language/source.js";
import { hashSeed, murmur2 } from "./hash.js";
import type { Location, ScriptParsed } from "./inspector.js";

/** Where front ends look for the sources of cells; nothing is written there. */
export const sourcePrefix = path.join(tmpdir(), `firstframe_${process.pid}`, path.sep);
export const sourceSuffix = ".ts";

/** The name of a cell's source: the same code has the same. */
export function sourcePathOf(code: string): string {
  return `${sourcePrefix}${murmur2(code, hashSeed)}${sourceSuffix}`;
}

/** A script of V8's and the source it was made from. */
export interface Script {
  readonly url: string;
  /** What front ends call the source; null if it is none of the user's. */
  readonly path: string | null;
  readonly name: string;
  /** Its text, where the transform made it. */
  readonly code?: string;
  /** From the script to its source, if they differ. */
  readonly map: TraceMap | null;
}

export interface SourcePlace {
  readonly script: Script;
  /** From 1, as are columns. */
  readonly line: number;
  readonly column: number;
}

/** The kernel's own code, and Node's: neither shown nor stepped into. */
const ownFolder = fileURLToPath(new URL("..", import.meta.url));
export const blackboxed = [
  "^node:",
  `^(file://)?${ownFolder.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`,
  "^firstframe:",
];
const isBlackboxed = (url: string) => blackboxed.some((pattern) => new RegExp(pattern).test(url));

export class Sources {
  private readonly cells = new Map<string, Script>();
  private readonly parsed = new Map<string, Script>();
  private readonly codes = new Map<string, string>();

  /** Makes a cell's code known before it runs, if ever. */
  dump(code: string): string {
    const sourcePath = sourcePathOf(code);
    this.codes.set(sourcePath, code);
    return sourcePath;
  }

  codeOf(sourcePath: string): string | undefined {
    return this.codes.get(sourcePath);
  }

  /** A cell is about to run as a script. */
  addCell(source: string, { url, code, map }: TransformedCell, count: number): Script {
    const script = { url, path: this.dump(source), name: `cell [${count}]`, code, map: new TraceMap(map) };
    this.cells.set(url, script);
    return script;
  }

  addParsed({ scriptId, url, sourceMapURL }: ScriptParsed): Script {
    const cell = this.cells.get(url);
    const file = url.startsWith("file:") ? fileURLToPath(url) : path.isAbsolute(url) ? url : null;
    const shown = file !== null && !isBlackboxed(url);
    const inline = /^data:application\/json[^,]*;base64,(.+)$/.exec(sourceMapURL ?? "")?.[1];
    const map = shown && inline ? new TraceMap(Buffer.from(inline, "base64").toString("utf8")) : null;
    const script = cell ?? { url, path: shown ? file : null, name: shown ? path.basename(file) : url, map };
    this.parsed.set(scriptId, script);
    return script;
  }

  /** All scripts that a source became: the cell may have run more than once. */
  scriptsOf(sourcePath: string): Script[] {
    const scripts = [...this.cells.values(), ...this.parsed.values()];
    return [...new Set(scripts.filter(({ path: each }) => each === sourcePath))];
  }

  /** Where a location in a script lies in the user's source; null if it does not. */
  place({ scriptId, lineNumber, columnNumber = 0 }: Location): SourcePlace | null {
    const script = this.parsed.get(scriptId);
    if (!script || script.path === null) return null;
    if (!script.map) return { script, line: lineNumber + 1, column: columnNumber + 1 };
    const needle = { line: lineNumber + 1, column: columnNumber };
    const before = originalPositionFor(script.map, needle);
    // What the transform puts in front of a statement stands for it.
    const at =
      before.line === null ? originalPositionFor(script.map, { ...needle, bias: LEAST_UPPER_BOUND }) : before;
    return at.line === null ? null : { script, line: at.line, column: at.column + 1 };
  }

  /** Whether a script is Node's or the kernel's. */
  isForeign(scriptId: string): boolean {
    const script = this.parsed.get(scriptId);
    return script === undefined || (script.path === null && isBlackboxed(script.url));
  }

  /** The process is a new one: its scripts are others. */
  forgetScripts(): void {
    this.cells.clear();
    this.parsed.clear();
  }
}

/** The first line from `line` on that has code, and where the script has it; null if there is none. */
export function breakable(
  { map, code }: Pick<Script, "map" | "code">,
  line: number,
): { line: number; at: { line: number; column: number } } | null {
  if (!map) return { line, at: { line, column: 0 } };
  const lines = new Set<number>();
  const isCode = codeLines(map.sourcesContent?.[0] ?? "");
  eachMapping(map, ({ originalLine }) => {
    if (originalLine !== null && originalLine >= line && isCode(originalLine)) lines.add(originalLine);
  });
  const first = Math.min(...lines);
  if (!Number.isFinite(first)) return null;
  const source = map.sources[0] ?? "";
  const at = generatedPositionFor(map, { source, line: first, column: 0, bias: LEAST_UPPER_BOUND });
  if (at.line === null) return null;
  return {
    line: first,
    at: { line: at.line, column: code ? statementStart(code, at.line, at.column) : at.column },
  };
}

/** Which lines, counted from 1, have more than blanks and comments. */
function codeLines(source: string): (line: number) => boolean {
  if (!isShallow(source)) return () => true;
  const { comments } = parseSync("cell.ts", source, { lang: "ts", sourceType: "module" });
  let code = "";
  let from = 0;
  for (const { start, end } of comments) {
    code += source.slice(from, start) + source.slice(start, end).replace(/[^\n]/g, " ");
    from = end;
  }
  const lines = (code + source.slice(from)).split("\n");
  return (line) => lines[line - 1]?.trim() !== "";
}

/** V8 stops where statements begin, which may be in what the transform put in front of them. */
function statementStart(code: string, line: number, column: number): number {
  if (!isShallow(code)) return column;
  const lineStart = code.split("\n", line - 1).reduce((sum, text) => sum + text.length + 1, 0);
  const offset = lineStart + column;
  const { program } = parseSync("script.js", code, { lang: "js", sourceType: "module" });
  let start = offset;
  walk(program, (node) => {
    if (node.type === "Program") return true;
    if (node.start > offset || offset >= node.end) return false;
    if (/Statement$|Declaration$/.test(node.type) && node.type !== "BlockStatement") start = node.start;
    return true;
  });
  return start >= lineStart ? start - lineStart : column;
}
