import { escapeXml } from "./mime.js";

/** A cell of a table: HTML, so that a part of it may be set apart. */
export interface HtmlCell {
  readonly html: string;
  /** Numbers stand below each other by their last digits. */
  readonly align?: "left" | "right";
}

/** A table of cells that are HTML already, in the one form that all tables of the package have. */
export function htmlTable(
  rows: readonly (readonly HtmlCell[])[],
  { head, caption }: { readonly head?: readonly HtmlCell[]; readonly caption?: string } = {},
): string {
  return [
    caption ? `<table><caption>${escapeXml(caption)}</caption>` : "<table>",
    ...(head === undefined ? [] : [`<thead>${line("th", head)}</thead>`]),
    "<tbody>",
    ...rows.map((row) => line("td", row)),
    "</tbody></table>",
  ].join("\n");
}

function line(tag: "td" | "th", cells: readonly HtmlCell[]): string {
  // The attribute instead of a style: GitHub and JupyterLab's sanitizer keep it.
  const cell = ({ html, align }: HtmlCell) =>
    `<${tag}${align === undefined ? "" : ` align="${align}"`}>${html}</${tag}>`;
  return `<tr>${cells.map(cell).join("")}</tr>`;
}
