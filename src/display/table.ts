import { InputError } from "../engine/errors.js";
import { htmlTable } from "./html-table.js";
import { escapeXml, jupyterDisplay, type MimeBundle, showAs } from "./mime.js";

export type Cell = string | number | bigint | boolean | null | undefined;

export interface TableOptions {
  /** Column names in order; default: the keys of the rows. */
  readonly columns?: readonly string[];
  readonly title?: string;
  /** Significant digits of numbers that are not whole. */
  readonly digits?: number;
}

/** Rows and columns: an HTML table, LaTeX for PDFs, and aligned text for terminals. */
export class Table {
  readonly columns: readonly string[];
  readonly #cells: readonly (readonly string[])[];
  readonly #numeric: readonly boolean[];

  constructor(
    rows: readonly Readonly<Record<string, Cell>>[],
    readonly options: TableOptions = {},
  ) {
    this.columns = options.columns ?? [...new Set(rows.flatMap((row) => Object.keys(row)))];
    if (this.columns.length === 0) throw new InputError("table: expected at least one column, found none");
    const digits = options.digits ?? 4;
    this.#cells = rows.map((row) => this.columns.map((column) => format(row[column], digits)));
    this.#numeric = this.columns.map((column) =>
      rows.every((row) => row[column] == null || ["number", "bigint"].includes(typeof row[column])),
    );
  }

  /** Aligned columns, as in a terminal. */
  toString(): string {
    const widths = this.columns.map((column, i) =>
      Math.max(column.length, ...this.#cells.map((row) => row[i]!.length)),
    );
    const line = (cells: readonly string[]) =>
      cells
        .map((cell, i) => (this.#numeric[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
        .join("  ")
        .trimEnd();
    const rule = widths.map((width) => "─".repeat(width)).join("  ");
    const title = this.options.title ? [this.options.title] : [];
    return [...title, line(this.columns), rule, ...this.#cells.map(line)].join("\n");
  }

  [jupyterDisplay](): MimeBundle {
    return { "text/html": this.#html(), "text/latex": this.#latex(), "text/plain": this.toString() };
  }

  static {
    showAs<Table>(Table, {
      line: (table) => `Table, ${table.#cells.length} rows of ${table.columns.join(", ")}`,
      text: (table) => table.toString(),
    });
  }

  #html(): string {
    const cells = (texts: readonly string[]) =>
      texts.map((text, i) => ({
        html: escapeXml(text),
        align: this.#numeric[i] ? ("right" as const) : ("left" as const),
      }));
    const { title: caption } = this.options;
    return htmlTable(this.#cells.map(cells), { head: cells(this.columns), caption });
  }

  #latex(): string {
    const line = (cells: readonly string[]) => `${cells.map(escapeLatex).join(" & ")} \\\\`;
    const columns = this.#numeric.map((right) => (right ? "r" : "l")).join("");
    const title = this.options.title ? [`\\textbf{${escapeLatex(this.options.title)}}`, ""] : [];
    return [
      ...title,
      `\\begin{tabular}{${columns}}`,
      line(this.columns),
      "\\hline",
      ...this.#cells.map(line),
      "\\end{tabular}",
    ].join("\n");
  }
}

/**
 * A table for a notebook; `console.table` is for terminals only.
 *
 * @example table([{ frames: 81, latents: 21 }, { frames: 49, latents: 13 }])
 * @param rows objects with the same keys; missing values stay empty
 * @throws InputError if there is no column
 */
export function table(rows: readonly Readonly<Record<string, Cell>>[], options: TableOptions = {}): Table {
  return new Table(rows, options);
}

function format(cell: Cell, digits: number): string {
  if (cell === null || cell === undefined) return "";
  if (typeof cell !== "number" || Number.isInteger(cell)) return String(cell);
  return String(Number(cell.toPrecision(digits)));
}

function escapeLatex(text: string): string {
  return text
    .replace(/[\\^~]/g, (c) => ({ "\\": "\\textbackslash ", "^": "\\^{}", "~": "\\~{}" })[c]!)
    .replace(/[&%$#_]/g, "\\$&");
}
