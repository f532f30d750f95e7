import type { Diagnostic } from "./language.js";
import { plugAndPlay } from "./package-manager.js";
import { Lines, type Range } from "./positions.js";
import { resolveInNodePath } from "./resolve.js";
import { readableTypes } from "./session.js";
import type { Declaration } from "./source.js";

export interface LspDiagnostic {
  readonly range: Range;
  readonly severity?: number;
  readonly code?: number | string;
  readonly message: string;
}

/** What the compiler rejects in a module although cells can do it. */
const allowed = new Set([
  1202, // `import x = require()` in an ECMAScript module
]);

/** A type is imported although an earlier cell has a value of that name. */
const importBesideValue = 2440;

/** What is worth mentioning, but no reason not to run a cell. */
const harmless = new Set([
  7016, // a package without types
]);

/** Assignments to names from earlier cells. These are imported, and the compiler says so instead of the real reason. */
const importAssigned = 2632;
const assigned: Partial<Record<Declaration["kind"], { code: number; what: string }>> = {
  const: { code: 2588, what: "constant" },
  function: { code: 2630, what: "function" },
  class: { code: 2629, what: "class" },
  enum: { code: 2628, what: "enum" },
};

/** Errors for a missing package, and one for missing types. */
const missingModule = new Set([2307, 2792, 2882]);
const missingTypes = 7016;
/** "zod" and "zod/mini", "@scope/name" and its subpaths, but not file paths or Node's modules. */
const packageOf = /^["'](?!node:)((?:@[\w.~-]+\/)?[a-z0-9~][\w.~-]*)(?:\/[^"']*)?["']$/;

function installHint(code: number, specifier: string, folder: string): string {
  const name = packageOf.exec(specifier)?.[1];
  if (name === undefined) return "";
  const map = missingModule.has(code) ? plugAndPlay(folder) : undefined;
  if (map !== undefined)
    return ` The project's packages are in Yarn's archives (${map}), which neither this kernel nor its compiler reads: set \`nodeLinker: node-modules\` in .yarnrc.yml and run \`yarn install\`.`;
  if (missingModule.has(code)) return ` Install it with \`%install ${name}\`.`;
  const types = name.replace(/^@(.+)\//, "$1__");
  return code === missingTypes ? ` Install its types with \`%install --save-dev @types/${types}\`.` : "";
}

/** The errors and warnings within the cell, at its own positions. */
export function toDiagnostics(
  found: readonly LspDiagnostic[],
  text: string,
  offset: number,
  length: number,
  kindOf: (name: string) => Declaration["kind"] | undefined,
  folder: string,
): Diagnostic[] {
  const lines = new Lines(text);
  return found.flatMap(({ range, severity = 1, code, message }) => {
    const number = Number(code ?? 0);
    const start = lines.offsetAt(range.start) - offset;
    const end = lines.offsetAt(range.end) - offset;
    if (severity > 2 || allowed.has(number) || start < -1 || start > length) return [];
    const name = text.slice(offset + start, offset + end);
    if (number === importBesideValue && kindOf(name)) return [];
    // Types don't say that it is there, so it is of type any.
    if (missingModule.has(number) && packageOf.test(name) && resolveInNodePath(name.slice(1, -1)) !== null)
      return [];
    // A module that is its own text, which Node can import.
    if (missingModule.has(number) && /^["']data:/.test(name)) return [];
    const reason = number === importAssigned ? assigned[kindOf(name) ?? "import"] : undefined;
    return [
      {
        severity: severity === 2 || harmless.has(number) ? ("warning" as const) : ("error" as const),
        code: reason?.code ?? number,
        message: reason
          ? `Cannot assign to '${name}' because it is ${reason.what === "enum" ? "an" : "a"} ${reason.what}.`
          : readableTypes(message) + installHint(number, name, folder),
        start: Math.max(0, start),
        end: Math.min(Math.max(start, end), length),
      },
    ];
  });
}
