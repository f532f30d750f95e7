import type { Diagnostic } from "./language.js";
import { Lines, type Range } from "./positions.js";
import { readableTypes } from "./session.js";
import type { Declaration } from "./source.js";

export interface LspDiagnostic {
  readonly range: Range;
  readonly severity?: number;
  readonly code?: number | string;
  readonly message: string;
}

/** What the compiler objects to in any module, but cells can do. */
const allowed = new Set([
  1202, // `import x = require()` in an ECMAScript module
]);

/** What is worth saying, but no reason not to run a cell. */
const harmless = new Set([
  7016, // a package without types
]);

/** Assigning to what an earlier cell declared: the name is imported, which the compiler says instead of why it can't be. */
const importAssigned = 2632;
const assigned: Partial<Record<Declaration["kind"], { code: number; what: string }>> = {
  const: { code: 2588, what: "constant" },
  function: { code: 2630, what: "function" },
  class: { code: 2629, what: "class" },
  enum: { code: 2628, what: "enum" },
};

/** The errors and warnings that lie in the cell, in its own positions. */
export function toDiagnostics(
  found: readonly LspDiagnostic[],
  text: string,
  offset: number,
  length: number,
  kindOf: (name: string) => Declaration["kind"] | undefined,
): Diagnostic[] {
  const lines = new Lines(text);
  return found.flatMap(({ range, severity = 1, code, message }) => {
    const number = Number(code ?? 0);
    const start = lines.offsetAt(range.start) - offset;
    const end = lines.offsetAt(range.end) - offset;
    if (severity > 2 || allowed.has(number) || start < -1 || start > length) return [];
    const name = text.slice(offset + start, offset + end);
    const reason = number === importAssigned ? assigned[kindOf(name) ?? "import"] : undefined;
    return [
      {
        severity: severity === 2 || harmless.has(number) ? ("warning" as const) : ("error" as const),
        code: reason?.code ?? number,
        message: reason
          ? `Cannot assign to '${name}' because it is ${reason.what === "enum" ? "an" : "a"} ${reason.what}.`
          : readableTypes(message),
        start: Math.max(0, start),
        end: Math.min(Math.max(start, end), length),
      },
    ];
  });
}
