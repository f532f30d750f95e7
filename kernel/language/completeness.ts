import type { Program } from "oxc-parser";
import type { Completeness } from "./language.js";
import { parseCell } from "./source.js";

/** Tells a console whether what was typed can run or continues on another line. */
export function completenessOf(code: string): Completeness {
  if (code.trim() === "") return { status: "complete" };
  const { errors, program } = parseCell(code);
  const incomplete: Completeness = { status: "incomplete", indent: indentAfter(code) };
  if (errors.length === 0) return lacksBody(program, code) ? incomplete : { status: "complete" };
  const end = code.trimEnd().length;
  // If the parser fails at the end of the text, there is more to come; if it fails earlier, there is not.
  const unfinished = errors.some(({ start, message }) => start >= end || /^Unterminated/.test(message));
  return (unfinished && !breaksInString(errors, code)) || isHead(code) ? incomplete : { status: "invalid" };
}

/** Whether a function, which may be an overload's signature, still needs its body. */
function lacksBody(program: Program, code: string): boolean {
  const last = program.body.at(-1);
  const declaration =
    last?.type === "ExportNamedDeclaration" || last?.type === "ExportDefaultDeclaration"
      ? last.declaration
      : last;
  return declaration?.type === "TSDeclareFunction" && !declaration.declare && !code.trimEnd().endsWith(";");
}

/** What may follow the head of a function or variable that the parser takes for wrong. */
const rests = [" {}", " => {}", " = 1"];

function isHead(code: string): boolean {
  return (
    /[\w$)>\]}]\s*$/.test(code.slice(-100)) &&
    rests.some((rest) => parseCell(code + rest).errors.length === 0)
  );
}

/** Plain strings and regular expressions end with their line; templates and comments don't. */
function breaksInString(
  errors: readonly { readonly start: number; readonly message: string }[],
  code: string,
): boolean {
  const first = errors.find(({ message }) => /^Unterminated/.test(message));
  return first !== undefined && !/^(?:`|\/\*|\})/.test(code.slice(first.start));
}

/** The indentation of the last line, one step deeper if that line leaves a bracket open. */
function indentAfter(code: string): string {
  const text = code.trimEnd();
  const line = text.slice(text.lastIndexOf("\n") + 1);
  const indent = /^\s*/.exec(line)?.[0] ?? "";
  const step = /^\t/m.test(code) ? "\t" : "  ";
  return leavesOpen(line) ? indent + step : indent;
}

/** Whether a line opens more brackets than it closes, or ends in an arrow, ignoring strings and comments. */
function leavesOpen(line: string): boolean {
  let depth = 0;
  let last = "";
  for (let at = 0; at < line.length; at += 1) {
    const c = line[at]!;
    if (c === '"' || c === "'") at = closing(line, at);
    else if (c === "/" && line[at + 1] === "/") break;
    else if ("{([".includes(c)) depth += 1;
    else if ("})]".includes(c)) depth -= 1;
    if (c !== " ") last = last.slice(-1) + c;
  }
  return depth > 0 || last === "=>";
}

/** Where a string ends. */
function closing(line: string, start: number): number {
  for (let at = start + 1; at < line.length; at += 1) {
    if (line[at] === "\\") at += 1;
    else if (line[at] === line[start]) return at;
  }
  return line.length;
}
