/**
 * The text of a module's functions as its author wrote it, found by the text that V8 has of them: the source map leads from
 * where a function begins in the compiled module to where it begins in the source.
 */
import { originalPositionFor, type TraceMap } from "@jridgewell/trace-mapping";
import { type Node, type Program, parseSync } from "oxc-parser";
import { eraseTypes } from "../language/erase.js";
import { walk } from "../language/source.js";
import type { Written } from "./written.js";

export interface CompiledModule {
  readonly file: string;
  readonly source: string;
  readonly compiled: string;
  readonly map: TraceMap;
}

export function writtenIn(module: CompiledModule): Written {
  let texts: Map<string, () => string | undefined> | undefined;
  return (text) => {
    texts ??= textsOf(module);
    return texts.get(text)?.();
  };
}

function textsOf({ file, source, compiled, map }: CompiledModule): Map<string, () => string | undefined> {
  const texts = new Map<string, () => string | undefined>();
  const written = new Map<number, Node>();
  const lang = /x$/.test(file) || /\.[cm]?js$/.test(file) ? "tsx" : "ts";
  for (const [start, node] of functionsOf(parseSync(file, source, { lang, sourceType: "module" }).program))
    if (!written.has(start)) written.set(start, node);
  const sourceLines = lineStarts(source);
  const compiledLines = lineStarts(compiled);
  for (const [start, node] of functionsOf(
    parseSync("module.js", compiled, { lang: "js", sourceType: "module" }).program,
  )) {
    if (start !== node.start) continue;
    const line = compiledLines.findLastIndex((at) => at <= start);
    const at = originalPositionFor(map, { line: line + 1, column: start - compiledLines[line]! });
    if (at.line === null) continue;
    const found = written.get((sourceLines[at.line - 1] ?? Number.NaN) + at.column);
    if (found === undefined) continue;
    texts.set(shown(compiled.slice(node.start, node.end)), () => {
      const erased = eraseTypes(source, found as Program);
      return erased === null ? undefined : shown(erased.slice(found.start, found.end));
    });
  }
  return texts;
}

/** V8 shows a static method without the word. */
function shown(text: string): string {
  return text.replace(/^static\s+/, "");
}

/** What has a text of its own, and where that begins, or an export of it. */
function functionsOf(program: Program): [number, Node][] {
  const found: [number, Node][] = [];
  walk(program, (node, parent) => {
    const isMethod =
      node.type === "MethodDefinition" || (node.type === "Property" && (node.method || node.kind !== "init"));
    const isMethodsValue =
      parent !== null && "value" in parent && parent.value === node && found.at(-1)?.[1] === parent;
    if (
      isMethod ||
      (/^(?:Function|ArrowFunction|Class)(?:Declaration|Expression)$/.test(node.type) && !isMethodsValue)
    ) {
      found.push([node.start, node]);
      if (parent !== null && /^Export/.test(parent.type)) found.push([parent.start, node]);
    }
    return true;
  });
  return found;
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}
