import { escapeXml } from "./mime.js";

/** A table cell as HTML, so that part of it can be emphasised. */
export interface HtmlCell {
  readonly html: string;
  /** Right for numbers, so that their last digits line up. */
  readonly align?: "left" | "right";
}

/** Makes an HTML table, in the one form that all of the package's tables have. */
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
  // The style for JupyterLab, whose own style overrides the attribute; the attribute for GitHub, which keeps no style.
  const cell = ({ html, align }: HtmlCell) =>
    `<${tag}${align === undefined ? "" : ` align="${align}" style="text-align: ${align}"`}>${html}</${tag}>`;
  return `<tr>${cells.map(cell).join("")}</tr>`;
}
