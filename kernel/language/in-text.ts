/** What the text before a `/` ends in where a regular expression begins. */
const beforeRegExp =
  /(?:[(,=:[!&|?{};+\-*%~^<>]|\b(?:return|typeof|case|in|of|delete|void|throw|new|else|do|await|yield))$/;

interface Region {
  readonly end: number;
  /** Whether it is over there, rather than cut off by the end of a line or of the code. */
  readonly closed: boolean;
}

/** Whether a place is in a comment, a string, a template's text or a regular expression. */
export function isInText(code: string, cursor: number): boolean {
  /** For each template around a place: how many braces are open in its expression. */
  const templates: number[] = [];
  for (let at = 0; at < cursor; ) {
    const c = code[at]!;
    const region = regionAt(code, at, templates);
    if (region === undefined) {
      if (templates.length > 0 && (c === "{" || c === "}"))
        templates.push(templates.pop()! + (c === "{" ? 1 : -1));
      at += 1;
      continue;
    }
    const { end, closed } = region;
    if (closed ? cursor < end : cursor <= end) return true;
    at = end;
  }
  return false;
}

function regionAt(code: string, at: number, templates: number[]): Region | undefined {
  const c = code[at]!;
  if (c === '"' || c === "'") return quoted(code, at + 1, c);
  if (c === "`") return template(code, at + 1, templates);
  if (c === "}" && templates.at(-1) === 0) {
    templates.pop();
    return template(code, at + 1, templates);
  }
  if (c !== "/") return undefined;
  if (code[at + 1] === "/") {
    const end = code.indexOf("\n", at);
    return { end: end < 0 ? code.length : end, closed: false };
  }
  if (code[at + 1] === "*") {
    const end = code.indexOf("*/", at + 2);
    return end < 0 ? { end: code.length, closed: false } : { end: end + 2, closed: true };
  }
  const before = code.slice(Math.max(0, at - 12), at).trimEnd();
  return at === 0 || beforeRegExp.test(before) ? quoted(code, at + 1, "/") : undefined;
}

function quoted(code: string, start: number, quote: string): Region {
  let inClass = false;
  for (let at = start; at < code.length; at += 1) {
    const c = code[at]!;
    if (c === "\n") return { end: at, closed: false };
    if (c === "\\") at += 1;
    else if (quote === "/" && (c === "[" || c === "]")) inClass = c === "[";
    else if (c === quote && !inClass) return { end: at + 1, closed: true };
  }
  return { end: code.length, closed: false };
}

function template(code: string, start: number, templates: number[]): Region {
  for (let at = start; at < code.length; at += 1) {
    const c = code[at]!;
    if (c === "\\") at += 1;
    else if (c === "`") return { end: at + 1, closed: true };
    else if (c === "$" && code[at + 1] === "{") {
      templates.push(0);
      return { end: at + 2, closed: true };
    }
  }
  return { end: code.length, closed: false };
}
