import { stripVTControlCharacters } from "node:util";
import { diffLines } from "diff";
import { escapeXml } from "../../display/mime.js";
import { htmlPage } from "../page/html.js";
import type { Difference } from "./compare.js";

/** The result of one code cell. */
export interface CellResult {
  readonly id: string;
  readonly count: number | null;
  /** The cell's first line, to recognise it by. */
  readonly title: string;
  readonly seconds: number;
  /** Why it failed: one line. */
  readonly error?: string;
  /** Whether its tag `raises-exception` allows it to fail. */
  readonly errorExpected?: boolean;
  readonly traceback?: string;
  /** The line of the cell where it failed, if the traceback says so. */
  readonly line?: number | undefined;
  readonly differences: readonly Difference[];
}

export interface NotebookResult {
  readonly path: string;
  readonly seconds: number;
  readonly cells: readonly CellResult[];
  /** Why the notebook failed, if no cell did: its kernel died, or its time was up. */
  readonly error?: string;
}

export const failed = (result: NotebookResult) => result.error !== undefined || result.cells.some(cellFailed);
const cellFailed = (cell: CellResult) => cell.error !== undefined || cell.differences.length > 0;

/** JUnit XML: a suite per notebook, a case per code cell. */
export function junit(results: readonly NotebookResult[]): string {
  const suites = results.map((result) => {
    const cases = result.cells.map((cell) => {
      const name = `cell [${cell.count ?? " "}] ${cell.title}`;
      const open = `  <testcase classname="${xml(result.path)}" name="${xml(name)}" time="${cell.seconds.toFixed(3)}"`;
      if (cell.error !== undefined) {
        const body = xml(cell.traceback ?? cell.error);
        return `${open}>\n   <error message="${xml(cell.error)}">${body}</error>\n  </testcase>`;
      }
      if (cell.differences.length === 0) return `${open}/>`;
      const message = cell.differences.map(({ where, message }) => `${where}: ${message}`).join("; ");
      const body = xml(cell.differences.map((difference) => textReport(difference, false)).join("\n"));
      return `${open}>\n   <failure message="${xml(message)}">${body}</failure>\n  </testcase>`;
    });
    const own = result.error === undefined ? [] : [notebookCase(result)];
    const all = [...cases, ...own];
    const errors = result.cells.filter(({ error }) => error !== undefined).length + own.length;
    const failures = result.cells.filter((cell) => cell.error === undefined && cellFailed(cell)).length;
    const counts = `tests="${all.length}" failures="${failures}" errors="${errors}" time="${result.seconds.toFixed(3)}"`;
    return ` <testsuite name="${xml(result.path)}" ${counts}>\n${all.join("\n")}\n </testsuite>`;
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n${suites.join("\n")}\n</testsuites>\n`;
}

function notebookCase({ path, error }: NotebookResult): string {
  const message = xml(error ?? "");
  return `  <testcase classname="${xml(path)}" name="the notebook"><error message="${message}"/></testcase>`;
}

/** Escapes text and drops what XML 1.0 can't represent. */
function xml(text: string): string {
  const allowed = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu;
  return escapeXml(stripVTControlCharacters(text).replaceAll(allowed, "\uFFFD"));
}

/** A difference for a terminal or a log, with `-` for what is gone and `+` for what is new. */
export function textReport(difference: Difference, colors: boolean): string {
  const paint = (code: number, line: string) => (colors ? `\x1b[${code}m${line}\x1b[0m` : line);
  const head = stripVTControlCharacters(`${difference.where}: ${difference.message}`);
  if (difference.text === undefined) return head;
  const lines = changedLines(difference.text).map(({ sign, line }) => {
    if (sign === " ") return `  ${line}`;
    return paint(sign === "-" ? 31 : 32, `${sign} ${line}`);
  });
  return [head, ...lines].join("\n");
}

interface Line {
  readonly sign: "-" | "+" | " ";
  readonly line: string;
}

/** Texts that differ in more lines than this are shown one after the other, since the time to compare them is quadratic. */
const mostEdits = 1000;
/** The most lines of one difference. */
const mostLines = 400;

/** The changed lines with one line of context, long ones shortened. */
function changedLines({ expected, found }: { expected: string; found: string }): Line[] {
  const clean = (text: string) => `${stripVTControlCharacters(text)}\n`;
  const [before, after] = [clean(expected), clean(found)];
  const changes = diffLines(before, after, { maxEditLength: mostEdits });
  if (changes === undefined) return [...atMost(lines(before, "-")), ...atMost(lines(after, "+"))];
  const all = changes.flatMap(({ value, added, removed }) => lines(value, added ? "+" : removed ? "-" : " "));
  return atMost(
    all.filter((line, i) => [all[i - 1], line, all[i + 1]].some((near) => near && near.sign !== " ")),
  );
}

function lines(text: string, sign: Line["sign"]): Line[] {
  const all = text.replace(/\n$/, "").split("\n");
  return all.map((line) => ({ sign, line: shortened(line) }));
}

function atMost(lines: Line[]): Line[] {
  if (lines.length <= mostLines) return lines;
  const more = `... ${lines.length - mostLines} more lines`;
  return [...lines.slice(0, mostLines), { sign: " ", line: more }];
}

const shortened = (line: string) => (line.length > 300 ? `${line.slice(0, 297)}...` : line);

/** A check's report as a page: the differences of each notebook, with text as lines and pictures side by side. */
export function reportPage(results: readonly NotebookResult[]): string {
  const total = results.filter(failed).length;
  const verdict =
    total === 0
      ? `<p class="passed">All ${results.length} notebooks give the outputs that they carry.</p>`
      : `<p class="failed">${total} of ${results.length} notebooks differ.</p>`;
  const sections = results.map((result) => {
    const cells = result.cells.filter(cellFailed).map(cellReport);
    const state = failed(result) ? '<span class="failed">✗</span>' : '<span class="passed">✓</span>';
    const error = result.error === undefined ? "" : `<pre class="error">${escapeXml(result.error)}</pre>`;
    return `<section><h2>${state} ${escapeXml(result.path)}</h2>${error}${cells.join("")}</section>`;
  });
  return htmlPage(
    "Check of the notebooks",
    `<main><h1>Check of the notebooks</h1>${verdict}${sections.join("")}</main>`,
  );
}

function cellReport(cell: CellResult): string {
  const head = `<h3>cell [${escapeXml(String(cell.count ?? " "))}] <code>${escapeXml(cell.title)}</code></h3>`;
  const error =
    cell.error === undefined
      ? ""
      : `<pre class="error">${escapeXml(stripVTControlCharacters(cell.traceback ?? cell.error))}</pre>`;
  return head + error + cell.differences.map(differenceReport).join("");
}

function differenceReport({ where, message, text, pictures }: Difference): string {
  const lines = text
    ? changedLines(text).map(({ sign, line }) => {
        const tag = { "-": "del", "+": "ins", " ": "span" }[sign];
        return `<${tag}>${sign} ${escapeXml(line)}</${tag}>`;
      })
    : [];
  const side = (name: string, address: string | undefined) =>
    `<figure>${address ? `<img src="${escapeXml(address)}" alt="${name}">` : "nothing"}<figcaption>${name}</figcaption></figure>`;
  const pair = pictures
    ? `<div class="pair">${side("expected", pictures.expected)}${side("found", pictures.found)}</div>`
    : "";
  const body = lines.length > 0 ? `<pre class="code">${lines.join("\n")}</pre>` : "";
  return `<p>${escapeXml(where)}: ${escapeXml(message)}</p>${body}${pair}`;
}
