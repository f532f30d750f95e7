import { constants } from "node:buffer";
import { createHash } from "node:crypto";
import { escapeXml } from "../../display/mime.js";
import { CommandFailure } from "../errors.js";
import type { Cell, CodeCell, Notebook, TextCell } from "../notebook/format.js";
import { highlight } from "./code.js";
import { htmlPage } from "./html.js";
import { type Heading, plainSource, renderMarkdown } from "./markdown.js";
import { needed, type OutputContext, plainOutput, renderOutput } from "./output.js";
import { type Needs, noNeeds } from "./policy.js";
import { type Language, languageOf, words } from "./words.js";

export interface PageOptions {
  /** The notebook's own folder: relative pictures are found from here, and none outside it is shown. */
  readonly folder: string;
  /** Notebooks whose pages are next to this one. */
  readonly pages: ReadonlySet<string>;
  /** The title if the notebook has no heading. */
  readonly name: string;
  /** HTML above the first cell, such as a link to the index. */
  readonly navigation?: string;
  /** HTML below the last cell, such as links to the neighbouring pages. */
  readonly neighbours?: string;
  /** Removes scripts from the outputs' HTML; otherwise they run, as on nbconvert's pages. */
  readonly sanitizeHtml?: boolean;
  /** Called with what the page can't show, and the cell: `cell 3, output 1: ...`. */
  readonly warn?: (message: string) => void;
}

/**
 * A notebook as one self-contained HTML file: pictures, fonts and plotly.js are embedded, each only if used. No script from
 * the notebook runs in it, except those in its outputs' own HTML if `sanitizeHtml` is not set.
 */
export async function renderPage(notebook: Notebook, options: PageOptions): Promise<string> {
  const needs = noNeeds(nonceOf(notebook));
  const headings: Heading[] = [];
  const spoken = languageOf(notebook);
  const { onThisPage } = words[spoken];
  const language =
    notebook.metadata.language_info?.name ?? notebook.metadata.kernelspec?.language ?? "typescript";
  const cells: string[] = [];
  for (const [i, cell] of notebook.cells.entries()) {
    const context = { ...options, warn: (message: string) => options.warn?.(`cell ${i + 1}${message}`) };
    if (cell.cell_type === "code")
      cells.push(await codeCell(cell, { language: String(language), spoken }, context, needs));
    else cells.push(await textCell(cell, context, needs, headings));
  }
  const title = notebook.metadata.title ?? headings.find(({ depth }) => depth === 1)?.text ?? options.name;
  const sections = headings.filter(({ depth }) => depth === 2);
  const contents =
    sections.length > 2
      ? `<nav class="contents" aria-label="${onThisPage}"><details><summary>${onThisPage}</summary><ol>${sections.map(({ id, text }) => `<li><a href="#${escapeXml(id)}">${escapeXml(text)}</a></li>`).join("")}</ol></details></nav>`
      : "";
  const length = cells.reduce((sum, cell) => sum + cell.length, 0);
  if (length > LONGEST) {
    throw new CommandFailure(`${options.name}.html would be longer than a text of Node.js's can be (512 MB)`);
  }
  const main = `<main>${options.navigation ?? ""}${cells.join("\n")}${options.neighbours ?? ""}</main>`;
  return htmlPage(String(title), contents + main, needs, spoken);
}

/** The most for all cells together; the rest of a page, including plotly.js and KaTeX's fonts, gets 16 MB. */
const LONGEST = constants.MAX_STRING_LENGTH - 2 ** 24;

/**
 * The same notebook has to give the same page, so the nonce is derived from the content: writing it into a cell would
 * change it.
 */
function nonceOf({ cells }: Notebook): string {
  const hash = createHash("sha256");
  for (const cell of cells) hash.update(JSON.stringify(cell));
  return hash.digest("base64url");
}

async function codeCell(
  cell: CodeCell,
  { language, spoken }: { readonly language: string; readonly spoken: Language },
  context: OutputContext & Required<Pick<OutputContext, "warn">>,
  needs: Needs,
): Promise<string> {
  const outputs: string[] = [];
  for (const [i, output] of cell.outputs.entries()) {
    const warn = (message: string) => context.warn(`, output ${i + 1}: ${message}`);
    outputs.push(
      await orPlain(
        () => renderOutput(output, { ...context, warn }, needs),
        () => plainOutput(output),
        warn,
      ),
    );
  }
  const source = `<pre class="code"><code>${highlight(cell.source, language)}</code></pre>`;
  const { source_hidden, outputs_hidden } = (cell.metadata.jupyter ?? {}) as Record<string, unknown>;
  const shown = outputs
    .filter((output) => output !== "")
    .map((output) => `<div class="output">${output}</div>`);
  const parts = [
    cell.source.trim() === ""
      ? ""
      : source_hidden
        ? folded(words[spoken].code, source, firstLine(cell.source))
        : source,
    shown.length === 0 ? "" : outputs_hidden ? folded(words[spoken].output, shown.join("")) : shown.join(""),
  ];
  if (parts.every((part) => part === "")) return "";
  const count =
    cell.execution_count === null ? "" : `<span class="count">[${Number(cell.execution_count)}]</span>`;
  return `<section class="cell" id="cell-${escapeXml(cell.id)}">${count}${parts.join("")}</section>`;
}

async function textCell(
  cell: TextCell,
  context: OutputContext & Required<Pick<OutputContext, "warn">>,
  needs: Needs,
  headings: Heading[],
): Promise<string> {
  if (!isMarkdown(cell)) return `<section class="cell">${plainSource(cell.source)}</section>`;
  const warn = (message: string) => context.warn(`: ${message}`);
  const html = async () => {
    const attachments = cell.attachments ?? {};
    const markdown = await renderMarkdown(cell.source, { ...context, attachments, warn });
    headings.push(...markdown.headings);
    return needed(markdown, needs);
  };
  return `<section class="markdown">${await orPlain(html, () => plainSource(cell.source), warn)}</section>`;
}

/** A part that can't be rendered (nested too deeply for a library, say) is shown as text; the rest of the page is unaffected. */
async function orPlain(
  render: () => Promise<string>,
  plain: () => string,
  warn: (message: string) => void,
): Promise<string> {
  try {
    return await render();
  } catch (error) {
    warn(`shown as plain text, as it can't be rendered: ${(error as Error).message}`);
    return plain();
  }
}

/** A raw cell may say that it is Markdown or HTML, which are rendered alike: with scripts taken out. */
function isMarkdown(cell: Cell): boolean {
  const format = cell.metadata.format ?? cell.metadata.raw_mimetype;
  return cell.cell_type === "markdown" || format === "text/markdown" || format === "text/html";
}

function folded(summary: string, html: string, hint = ""): string {
  const first = hint === "" ? "" : ` <code>${escapeXml(hint)}</code>`;
  return `<details><summary>${summary}${first}</summary>${html}</details>`;
}

/** What JupyterLab shows of a folded cell, too. */
function firstLine(source: string): string {
  const [line = ""] = source.trim().split("\n");
  return line.length > 70 ? `${line.slice(0, 69)}…` : line;
}
