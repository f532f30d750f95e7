/**
 * A few lines of a cell with a marker under one place, coloured for a notebook.
 */
const around = 2;

export const red = (text: string): string => `\x1b[31m${text}\x1b[39m`;
export const cyan = (text: string): string => `\x1b[36m${text}\x1b[39m`;
const grey = (text: string): string => `\x1b[90m${text}\x1b[39m`;

/** `line` and `column` count from 1; `length` is how much of the line is marked. */
export function codeFrame(source: string, line: number, column: number, name: string, length = 1): string {
  const lines = source.split("\n");
  const first = Math.max(1, line - around);
  const last = Math.min(lines.length, line + around);
  const width = String(last).length;
  const out = [cyan(`${name}:${line}:${column}`)];
  for (let n = first; n <= last; n++) {
    const whole = lines[n - 1] ?? "";
    const number = String(n).padStart(width);
    if (n !== line) {
      out.push(grey(`  ${number} | `) + whole);
      continue;
    }
    const skipped = statementsBefore(whole, column - 1);
    const text = skipped > 0 ? `... ${whole.slice(skipped)}` : whole;
    const start = skipped > 0 ? column - 1 - skipped + 4 : column - 1;
    const marks = "^".repeat(Math.max(1, Math.min(length, text.length - start)));
    // Tabs are kept, so that the marker stands below what it marks.
    const indent = text.slice(0, start).replace(/[^\t]/g, " ");
    out.push(
      `${red(">")} ${grey(`${number} | `)}${text}`,
      `${grey(`  ${" ".repeat(width)} | `)}${indent}${red(marks)}`,
    );
  }
  return out.join("\n");
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
