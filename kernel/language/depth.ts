import { CellSyntaxError } from "./language.js";

interface Depth {
  readonly brackets: number;
  /** Of brackets and operators together. */
  readonly all: number;
}

/**
 * How deeply brackets, and operators that are followed by others, may nest. Parsers recurse for each of them; the thread's
 * stack (remote.ts) has room for twice as many. Printed code is indented, so the memory for nested blocks grows with the
 * square of their depth. V8 itself gives up after a few thousand brackets.
 */
export const deepest: Depth = { brackets: 10_000, all: 200_000 };
/** On a stack of eight megabytes. */
const deepestElsewhere: Depth = { brackets: 2000, all: 10_000 };

/** Throws {@link CellSyntaxError} for code that would overflow the stack of a parser, which is native code. */
export function assertShallow(code: string): void {
  const at = tooDeep(code, deepest);
  if (at === undefined) return;
  const message = `Expected at most ${deepest.brackets.toLocaleString("en-US")} brackets and ${deepest.all.toLocaleString("en-US")} operators in each other, found more.`;
  throw new CellSyntaxError([{ severity: "error", code: 0, message, start: at, end: at + 1 }]);
}

/** Whether code can be parsed; by default, outside the thread with the large stack. */
export function isShallow(code: string, limit = deepestElsewhere): boolean {
  return tooDeep(code, limit) === undefined;
}

/**
 * Where code nests too deeply, if it does. Each bracket counts as a level until it is closed, and each token until its
 * statement or list item ends.
 */
function tooDeep(code: string, deepest: Depth): number | undefined {
  // A level takes at least one character, so almost all code passes without a check.
  if (code.length <= deepest.brackets) return undefined;
  /** How many tokens each open bracket holds so far; the innermost is last. */
  const outer: number[] = [];
  let inner = 0;
  let depth = 0;
  let last = 0;
  const tokens = /[\w$]+|[^\s\w$]/g;
  for (let match = tokens.exec(code); match !== null; match = tokens.exec(code)) {
    const [token] = match;
    const previous = last;
    last = token.charCodeAt(token.length - 1);
    if (token === '"' || token === "'" || token === "`") tokens.lastIndex = afterString(code, match.index);
    else if (token === "/" && "/*".includes(code[match.index + 1] ?? " "))
      tokens.lastIndex = afterComment(code, match.index);
    if (token === "(" || token === "[" || token === "{") {
      outer.push(inner + 1);
      depth += 1;
      inner = 0;
    } else if (token === ")" || token === "]" || token === "}") {
      depth -= inner;
      inner = outer.pop() ?? 0;
    } else if (token === ";" || token === "," || (isWord(last) && endsLine(code, match.index, previous))) {
      depth -= inner;
      inner = 0;
    } else {
      inner += 1;
      depth += 1;
    }
    if (outer.length > deepest.brackets || depth > deepest.all) return match.index;
  }
  return undefined;
}

/** Whether a word begins a line and follows one that could end a statement. */
function endsLine(code: string, start: number, previous: number): boolean {
  let at = start - 1;
  while (code[at] === " " || code[at] === "\t") at -= 1;
  return (code[at] === "\n" || code[at] === "\r") && !isOperator(previous);
}

function isWord(unit: number): boolean {
  return /[\w$]/.test(String.fromCharCode(unit));
}

function isOperator(unit: number): boolean {
  return "=+-*/%&|^!~<>?:.".includes(String.fromCharCode(unit));
}

/** The position after a string, or the end of its line if it is not a template and not closed there. */
export function afterString(code: string, start: number): number {
  const quote = code[start];
  for (let at = start + 1; at < code.length; at += 1) {
    if (code[at] === "\\") at += 1;
    else if (code[at] === quote || (quote !== "`" && code[at] === "\n")) return at + 1;
  }
  return code.length;
}

export function afterComment(code: string, start: number): number {
  const line = code[start + 1] === "/";
  const end = code.indexOf(line ? "\n" : "*/", start + 2);
  return end < 0 ? code.length : end + (line ? 1 : 2);
}
