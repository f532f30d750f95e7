/**
 * Type errors as a notebook shows them.
 */
import { codeFrame, cyan, red } from "../ipc/code-frame.js";
import type { Cell, Diagnostic } from "../language/language.js";
import type { ErrorContent } from "../protocol/messages.js";
import { lineAndColumn } from "./positions.js";

const shown = 20;

export function diagnosticsContent(
  ename: string,
  cell: Cell,
  diagnostics: readonly Diagnostic[],
): ErrorContent {
  const evalue = diagnostics[0] ? headline(diagnostics[0]) : ename;
  return { ename, evalue, traceback: describeDiagnostics(cell, diagnostics) };
}

export function describeDiagnostics(cell: Cell, diagnostics: readonly Diagnostic[]): string[] {
  const texts = diagnostics.slice(0, shown).map((diagnostic) => describe(cell, diagnostic));
  const more = diagnostics.length - texts.length;
  return more > 0 ? [...texts, `and ${more} more`] : texts;
}

function describe(cell: Cell, diagnostic: Diagnostic): string {
  const { line, column } = lineAndColumn(cell.code, diagnostic.start);
  const length = Math.max(1, diagnostic.end - diagnostic.start);
  const name = `cell [${cell.count}]`;
  const colour = diagnostic.severity === "error" ? red : cyan;
  return `${colour(headline(diagnostic))}\n${codeFrame(cell.code, line, column, name, length)}`;
}

function headline({ code, message }: Diagnostic): string {
  return code > 0 ? `TS${code}: ${message}` : message;
}
