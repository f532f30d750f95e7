/**
 * Names around a position in a cell, searched for character by character from there: a regular expression that ends in `$`
 * would start again at every character of a long run.
 */

/** The longest name that is searched for; nothing has a longer one. */
const window = 1000;

const part = /[\p{ID_Continue}$]/u;
const first = /[\p{ID_Start}$_]/u;

/** Whether the whole text is a name. */
export function isName(text: string): boolean {
  return text.length <= window && /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(text);
}

/** Where the name that ends at `end` begins; `end` if there is none. */
export function nameStart(text: string, end: number): number {
  let at = end;
  while (at > 0 && end - at < window) {
    const size = sizeBefore(text, at);
    if (!part.test(text.slice(at - size, at))) break;
    at -= size;
  }
  return at;
}

/** Where the name that begins or continues at `start` ends. */
export function nameEnd(text: string, start: number): number {
  let at = start;
  while (at < text.length && at - start < window) {
    const size = text.codePointAt(at)! > 0xffff ? 2 : 1;
    if (!part.test(text.slice(at, at + size))) break;
    at += size;
  }
  return at;
}

/** Where the blanks that end at `end` begin. */
export function blanksStart(text: string, end: number): number {
  let at = end;
  while (at > 0 && /\s/.test(text[at - 1]!)) at -= 1;
  return at;
}

/** For `a.b[0].na` before the cursor: what is to the left and to the right of the last dot. */
export function memberBefore(text: string, cursor: number): { object: string; typed: string } | undefined {
  const typed = nameStart(text, cursor);
  const dot = typed - 1;
  if (text[dot] !== ".") return undefined;
  let start = dot;
  for (let at = dot; dot - at < window; at = start - 1) {
    const segment = segmentStart(text, at);
    if (segment === undefined) return undefined;
    start = segment;
    if (text[start - 1] !== ".") return { object: text.slice(start, dot), typed: text.slice(typed, cursor) };
  }
  return undefined;
}

/** Where a `name` or `name[0][1]` that ends at `end` begins. */
function segmentStart(text: string, end: number): number | undefined {
  let at = end;
  while (text[at - 1] === "]" && end - at < window) {
    let digits = at - 1;
    while (/\d/.test(text[digits - 1] ?? "") && end - digits < window) digits -= 1;
    if (digits === at - 1 || text[digits - 1] !== "[") return undefined;
    at = digits - 1;
  }
  const start = nameStart(text, at);
  return start < at && first.test(String.fromCodePoint(text.codePointAt(start)!)) ? start : undefined;
}

function sizeBefore(text: string, at: number): number {
  return at > 1 && text.codePointAt(at - 2)! > 0xffff ? 2 : 1;
}
