import type { Completeness } from "./language.js";
import { parseCell } from "./source.js";

/** Tells a console whether what was typed can run, or goes on in another line. */
export function completenessOf(code: string): Completeness {
  if (code.trim() === "") return { status: "complete" };
  const { errors } = parseCell(code);
  if (errors.length === 0) return { status: "complete" };
  const end = code.trimEnd().length;
  // A parser that runs out of text wants more; one that stumbles before that does not.
  const unfinished = errors.some(({ start, message }) => start >= end || /^Unterminated/.test(message));
  return unfinished && !breaksInString(errors, code)
    ? { status: "incomplete", indent: indentAfter(code) }
    : { status: "invalid" };
}

/** Plain strings and regular expressions end with their line; templates and comments don't. */
function breaksInString(
  errors: readonly { readonly start: number; readonly message: string }[],
  code: string,
): boolean {
  const first = errors.find(({ message }) => /^Unterminated/.test(message));
  return first !== undefined && !/^(?:`|\/\*|\})/.test(code.slice(first.start));
}

/** The indentation of the last line, one step deeper for each bracket that it leaves open. */
function indentAfter(code: string): string {
  const line = code.trimEnd().split("\n").at(-1) ?? "";
  const indent = /^\s*/.exec(line)?.[0] ?? "";
  const step = /^\t/m.test(code) ? "\t" : "  ";
  const brackets = line.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\/\/.*/g, "");
  const depth = (brackets.match(/[{([]/g)?.length ?? 0) - (brackets.match(/[})\]]/g)?.length ?? 0);
  return depth > 0 || /=>\s*$/.test(brackets) ? indent + step : indent;
}
