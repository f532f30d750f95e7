/**
 * What the kernel puts into cells' and modules' code stands between marks that say what stood there before, so that it can
 * be taken out again: a function's `toString` shows the text as its author wrote it.
 */
import { indexOf, slice } from "./primordials.js";

const open = "/*__firstframe ";
const openEnd = "*/";
const close = "/*__firstframe*/";

/** Code of the kernel's own, in place of `written`. */
export function marked(code: string, written = ""): string {
  return `${open}${written}${openEnd}${code}${close}`;
}

/** The text as it was before. */
export function withoutMarks(text: string): string {
  let at = indexOf(text, open);
  if (at < 0) return text;
  let out = "";
  let from = 0;
  while (at >= 0) {
    const end = indexOf(text, openEnd, at);
    const next = indexOf(text, close, end);
    out = out + slice(text, from, at) + slice(text, at + open.length, end);
    // The text of an arrow function ends with its expression, within what was put after that.
    if (next < 0) return out;
    from = next + close.length;
    at = indexOf(text, open, from);
  }
  return out + slice(text, from);
}
