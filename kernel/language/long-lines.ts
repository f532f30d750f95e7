/**
 * The parser, which is native code, quotes the whole line with each error. For a megabyte with an error every few characters
 * the memory would grow with the square of the length, and a thread in native code can't be ended. So errors in long lines
 * are first counted, piece by piece.
 */
import { parseSync } from "oxc-parser";
import { afterComment, afterString } from "./depth.js";
import { CellSyntaxError, type Diagnostic } from "./language.js";
import { toDiagnostic } from "./source.js";

/** Characters times those of the longest line, up to which code is parsed unchecked: at worst a gigabyte for a moment. */
const harmless = 2 ** 31;
/** How much memory quoted lines may take, and how many copies of each the parser holds. */
const quotedAtMost = 2 ** 30;
const copies = 3;
const pieceLength = 2 ** 14;
/** How many errors a piece may have only because it was cut out: one at its beginning, one at its end. */
const byCut = 2;
const shown = 20;

/** Whether the errors in a text could take too much memory. */
export function hasLongLines(code: string): boolean {
  return code.length ** 2 > harmless && longestLine(code) * code.length > harmless;
}

/** Throws {@link CellSyntaxError} for code with so many errors in lines so long that the parser must not see all of it. */
export function assertFewErrors(code: string): void {
  if (!hasLongLines(code)) return;
  const most = Math.max(shown, quotedAtMost / copies / longestLine(code));
  const text = withoutTexts(code);
  const found: Diagnostic[] = [];
  for (let start = 0; start < text.length; start += pieceLength) {
    const piece = text.slice(start, start + pieceLength);
    const { errors } = parseSync("cell.ts", piece, {
      lang: "ts",
      sourceType: "module",
      showSemanticErrors: true,
    });
    if (errors.length <= byCut) continue;
    for (const error of errors.slice(byCut)) found.push(toDiagnostic(error, -start));
    if (found.length > most) throw new CellSyntaxError(found.slice(0, shown));
  }
}

function longestLine(code: string): number {
  let longest = 0;
  for (let start = 0; start < code.length; ) {
    const found = code.indexOf("\n", start);
    const end = found < 0 ? code.length : found;
    longest = Math.max(longest, end - start);
    start = end + 1;
  }
  return longest;
}

/** The same length with comments and strings blanked out: a piece that begins inside them must not be read as code. */
function withoutTexts(code: string): string {
  const pieces: string[] = [];
  let start = 0;
  let operand = false;
  const tokens = /[\w$]+|[^\s\w$]/g;
  for (let match = tokens.exec(code); match !== null; match = tokens.exec(code)) {
    const [token] = match;
    const { index } = match;
    let end = index;
    if (token === '"' || token === "'" || token === "`") end = afterString(code, index);
    else if (token === "/" && "/*".includes(code[index + 1] ?? " ")) end = afterComment(code, index);
    else if (token === "/" && !operand) end = afterRegExp(code, index);
    if (end > index + 1) {
      const isComment = token === "/" && "/*".includes(code[index + 1] ?? " ");
      pieces.push(
        code.slice(start, index),
        isComment ? " ".repeat(end - index) : `0${" ".repeat(end - index - 1)}`,
      );
      start = end;
      tokens.lastIndex = end;
      if (!isComment) operand = true;
    } else {
      operand = /[\w$)\]]$/.test(token) && !/^(?:return|typeof|case|in|of|void|delete|await)$/.test(token);
    }
  }
  return [...pieces, code.slice(start)].join("");
}

function afterRegExp(code: string, start: number): number {
  let inClass = false;
  for (let at = start + 1; at < code.length && code[at] !== "\n"; at += 1) {
    const char = code[at];
    if (char === "\\") at += 1;
    else if (char === "[") inClass = true;
    else if (char === "]") inClass = false;
    else if (char === "/" && !inClass) return at + 1;
  }
  return start;
}
