/**
 * A few lines of a cell with a marker under one place, coloured for a notebook. Grey is no colour for what is to be read:
 * JupyterLab's dark theme shows it as nearly black on black.
 */
const around = 2;
/** Of longer lines only what is near the marker is shown. */
const longest = 400;

export const red = (text: string): string => `\x1b[31m${text}\x1b[39m`;
export const cyan = (text: string): string => `\x1b[36m${text}\x1b[39m`;

/** `line` and `column` count from 1; `length` is how much of the line is marked. */
export function codeFrame(source: string, line: number, column: number, name: string, length = 1): string {
  const first = Math.max(1, line - around);
  const lines = linesOf(source, first, line + around);
  const last = first + lines.length - 1;
  const width = String(last).length;
  const out = [cyan(`${name}:${line}:${column}`)];
  for (let n = first; n <= last; n++) {
    const whole = lines[n - first] ?? "";
    const number = String(n).padStart(width);
    if (n !== line) {
      out.push(`  ${number} | ${shortened(whole, 0)}`);
      continue;
    }
    const far = column - 1 > longest ? column - 1 - longest / 2 : 0;
    const skipped = far || statementsBefore(whole, column - 1);
    const text = shortened(skipped > 0 ? `... ${whole.slice(skipped)}` : whole, column - 1 - skipped);
    const start = skipped > 0 ? column - 1 - skipped + 4 : column - 1;
    const marks = "^".repeat(Math.max(1, Math.min(length, text.length - start)));
    // Tabs are kept, so that the marker stands below what it marks.
    const indent = text.slice(0, start).replace(/[^\t]/g, " ");
    out.push(`${red(">")} ${number} | ${text}`, `  ${" ".repeat(width)} | ${indent}${red(marks)}`);
  }
  return out.join("\n");
}

/** Lines `first` to `last`, which count from 1, as far as there are any. */
function linesOf(source: string, first: number, last: number): string[] {
  let start = 0;
  for (let line = 1; line < first; line++) {
    const end = source.indexOf("\n", start);
    if (end < 0) return [];
    start = end + 1;
  }
  const lines: string[] = [];
  for (let line = first; line <= last; line++) {
    const end = source.indexOf("\n", start);
    if (end < 0) return [...lines, source.slice(start)];
    lines.push(source.slice(start, end));
    start = end + 1;
  }
  return lines;
}

function shortened(line: string, from: number): string {
  return line.length - from > longest ? `${line.slice(0, from + longest)} ...` : line;
}

/** How much of a line belongs to statements that end before `offset`: they have no part in what is wrong there. */
function statementsBefore(line: string, offset: number): number {
  let depth = 0;
  let quote = "";
  let end = 0;
  for (let i = 0; i < offset; i++) {
    const c = line[i]!;
    if (quote !== "") {
      if (c === "\\") i++;
      else if (c === quote) quote = "";
    } else if (c === '"' || c === "'" || c === "`") quote = c;
    else if (c === "(" || c === "[" || c === "{") depth++;
    else if (c === ")" || c === "]" || c === "}") depth--;
    else if (c === ";" && depth === 0) end = i + 1;
  }
  while (end > 0 && line[end] === " ") end++;
  return Math.min(end, offset);
}
