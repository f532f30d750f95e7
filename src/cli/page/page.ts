import { escapeXml } from "../../display/mime.js";
import type { Cell, CodeCell, Notebook, TextCell } from "../notebook/format.js";
import { highlight } from "./code.js";
import { htmlPage, type Needs } from "./html.js";
import { type Heading, type MarkdownContext, renderMarkdown } from "./markdown.js";
import { renderOutput } from "./output.js";

export interface PageOptions {
  /** The notebook's own folder: relative pictures are found from here. */
  readonly folder: string;
  /** Notebooks whose pages stand beside this one. */
  readonly pages: ReadonlySet<string>;
  /** The title where the notebook has no heading. */
  readonly name: string;
  /** HTML above the first cell: a way back to an index. */
  readonly navigation?: string;
}

/** A notebook as one HTML file that needs nothing else: pictures, fonts and plotly.js are in it, each only if used. */
export async function renderPage(notebook: Notebook, options: PageOptions): Promise<string> {
  const needs: Needs = { math: false, plotly: false };
  const headings: Heading[] = [];
  const language =
    notebook.metadata.language_info?.name ?? notebook.metadata.kernelspec?.language ?? "typescript";
  const cells: string[] = [];
  for (const cell of notebook.cells) {
    if (cell.cell_type === "code") cells.push(await codeCell(cell, String(language), options, needs));
    else cells.push(await textCell(cell, options, needs, headings));
  }
  const title = notebook.metadata.title ?? headings.find(({ depth }) => depth === 1)?.text ?? options.name;
  const sections = headings.filter(({ depth }) => depth === 2);
  const contents =
    sections.length > 2
      ? `<nav class="contents"><ol>${sections.map(({ id, text }) => `<li><a href="#${escapeXml(id)}">${text}</a></li>`).join("")}</ol></nav>`
      : "";
  return htmlPage(
    String(title),
    `${contents}<main>${options.navigation ?? ""}${cells.join("\n")}</main>`,
    needs,
  );
}

async function codeCell(
  cell: CodeCell,
  language: string,
  context: MarkdownContext,
  needs: Needs,
): Promise<string> {
  const outputs: string[] = [];
  for (const output of cell.outputs) outputs.push(await renderOutput(output, context, needs));
  const source = `<pre class="code"><code>${highlight(cell.source, language)}</code></pre>`;
  const { source_hidden, outputs_hidden } = (cell.metadata.jupyter ?? {}) as Record<string, unknown>;
  const shown = outputs
    .filter((output) => output !== "")
    .map((output) => `<div class="output">${output}</div>`);
  const parts = [
    cell.source.trim() === "" ? "" : source_hidden ? folded("Code", source) : source,
    shown.length === 0 ? "" : outputs_hidden ? folded("Output", shown.join("")) : shown.join(""),
  ];
  if (parts.every((part) => part === "")) return "";
  const count = cell.execution_count === null ? "" : `<span class="count">[${cell.execution_count}]</span>`;
  return `<section class="cell" id="${escapeXml(cell.id)}">${count}${parts.join("")}</section>`;
}

async function textCell(
  cell: TextCell,
  context: MarkdownContext,
  needs: Needs,
  headings: Heading[],
): Promise<string> {
  if (!isMarkdown(cell))
    return `<section class="cell"><pre class="raw">${escapeXml(cell.source)}</pre></section>`;
  const attachments = cell.attachments ?? {};
  const { html, headings: found, hasMath } = await renderMarkdown(cell.source, { ...context, attachments });
  headings.push(...found);
  needs.math ||= hasMath;
  return `<section class="markdown">${html}</section>`;
}

/** A raw cell may say that it is Markdown or HTML, which are rendered alike: with scripts taken out. */
function isMarkdown(cell: Cell): boolean {
  const format = cell.metadata.format ?? cell.metadata.raw_mimetype;
  return cell.cell_type === "markdown" || format === "text/markdown" || format === "text/html";
}

function folded(summary: string, html: string): string {
  return `<details><summary>${summary}</summary>${html}</details>`;
}
