/**
 * The interface between the kernel's server and its TypeScript side. Positions are offsets in UTF-16 code units; the server
 * converts them to and from the code points in Jupyter's messages.
 */
export interface Language {
  /** Starts the compiler; resolves when it can answer, or when it is clear that it can't for now. */
  start(): Promise<void>;
  /**
   * Type errors of a cell that has not run yet, in the context of all accepted cells. Rejects if the compiler is in
   * trouble; `signal` says that nobody is waiting for the answer any more.
   */
  check(cell: Cell, signal?: AbortSignal): Promise<Diagnostic[]>;
  /** The JavaScript that the executor evaluates. Rejects with {@link CellSyntaxError}. */
  transform(cell: Cell): Promise<Script>;
  /** Source map version 3, as JSON, of the script that a cell was transformed to. Its one source is the cell. */
  map(cell: Cell, url: string): Promise<string>;
  /** Makes a cell's declarations visible to later cells. Called once the cell has started to run. */
  accept(cell: Cell): void;
  /** Empty if the compiler is in trouble. */
  complete(code: string, cursor: number): Promise<Completions>;
  /**
   * Errors and warnings of code that is being written, as {@link check} and {@link transform} would find them. What cells above
   * it declare and have not run is of any type. Null if a cell that is to run needed the compiler. Rejects if it is in trouble.
   *
   * @param above the texts of the cells above, in order
   */
  lint(code: string, above: readonly string[], signal?: AbortSignal): Promise<Diagnostic[] | null>;
  /**
   * Where what is at a place is declared: in one of the cells, or in a file. Null if nothing is known, or the compiler is in
   * trouble.
   *
   * @param cells the texts of the notebook's cells, in order
   * @param index which of them it is about
   */
  definition(cells: readonly string[], index: number, cursor: number): Promise<Place | null>;
  /** Null if nothing is known, or the compiler is in trouble. */
  inspect(code: string, cursor: number, detail: 0 | 1): Promise<Inspection | null>;
  isComplete(code: string): Promise<Completeness>;
  /** The names that cells have imported. */
  imports(): Promise<readonly string[]>;
  /** Somebody is waiting: whatever does not answer soon is replaced. */
  interrupt(): void;
  /** Forgets every cell (after the executor was replaced). */
  reset(): void;
  dispose(): Promise<void>;
}

export interface Cell {
  /** Unique within a session; stack traces and diagnostics show it as `cell [count]`. */
  readonly id: string;
  /** The execution count, which is what a traceback shows. */
  readonly count: number;
  readonly code: string;
}

export interface Diagnostic {
  /** A notice is about the project, not the cell, and comes with one cell only. */
  readonly severity: "error" | "warning" | "suggestion" | "notice";
  /** TypeScript's number, e.g. 2322. */
  readonly code: number;
  readonly message: string;
  readonly start: number;
  readonly end: number;
}

/**
 * What is wrong with a cell that is not TypeScript. The compiler's codes from 1000 to 1999 are about grammar; it says more than
 * the parser that found the error.
 */
export function syntaxErrors(
  found: readonly Diagnostic[],
  parser: readonly Diagnostic[],
): readonly Diagnostic[] {
  const grammar = found.filter(({ code, severity }) => severity === "error" && code >= 1000 && code < 2000);
  return grammar.length > 0 ? grammar : parser;
}

/** Where something is declared. */
export type Place =
  | { readonly cell: number; readonly start: number; readonly end: number }
  /** Line and column from 0, as in the language server protocol; `path` is relative to the notebook's folder. */
  | { readonly file: string; readonly path: string; readonly line: number; readonly column: number };

export interface Script {
  readonly code: string;
  /** What V8 calls the script: its stack frames carry this name. */
  readonly url: string;
}

export interface TransformedCell extends Script {
  /** Source map version 3, as JSON, whose one source is the cell. */
  readonly map: string;
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
