/**
 * The seam between the kernel's server and what knows TypeScript. Positions are offsets in UTF-16 code units;
 * the server converts from and to the code points that Jupyter's messages use.
 */
export interface Language {
  /** Starts the compiler; resolves when it can answer. */
  start(): Promise<void>;
  /** Type errors of a cell that has not run yet, in the context of all accepted cells. */
  check(cell: Cell): Promise<Diagnostic[]>;
  /** The JavaScript that the executor evaluates. Throws {@link CellSyntaxError}. */
  transform(cell: Cell): TransformedCell;
  /** Makes a cell's declarations visible to later cells. Called when the cell has started to run. */
  accept(cell: Cell): void;
  complete(code: string, cursor: number): Promise<Completions>;
  inspect(code: string, cursor: number, detail: 0 | 1): Promise<Inspection | null>;
  isComplete(code: string): Completeness;
  /** Forgets every cell (after the executor was replaced). */
  reset(): void;
  dispose(): Promise<void>;
}

export interface Cell {
  /** Unique in a session; stack traces and diagnostics name it as `cell [count]`. */
  readonly id: string;
  /** The execution count, which is what a traceback shows. */
  readonly count: number;
  readonly code: string;
}

export interface Diagnostic {
  readonly severity: "error" | "warning" | "suggestion";
  /** TypeScript's number, e.g. 2322. */
  readonly code: number;
  readonly message: string;
  readonly start: number;
  readonly end: number;
}

export interface TransformedCell {
  readonly code: string;
  /** Source map version 3, as JSON, whose one source is the cell. */
  readonly map: string;
  /** What V8 calls the script: its stack frames carry this name. */
  readonly url: string;
}

/** A cell that is not TypeScript. */
export class CellSyntaxError extends Error {
  override name = "SyntaxError";
  constructor(readonly diagnostics: Diagnostic[]) {
    super(diagnostics[0]?.message ?? "syntax error");
  }
}

export interface Completions {
  readonly items: readonly { readonly text: string; readonly type: string; readonly signature?: string }[];
  readonly start: number;
  readonly end: number;
}

export interface Inspection {
  readonly plain: string;
  readonly markdown: string;
}

export type Completeness =
  | { readonly status: "complete" | "invalid" | "unknown" }
  | { readonly status: "incomplete"; readonly indent: string };
