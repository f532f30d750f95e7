/**
 * What cells declare that have not run: names that later cells may use, and of which nothing is known for certain.
 */
import { assertShallow } from "./depth.js";
import type { Diagnostic, Place } from "./language.js";
import { type Declaration, parseCell } from "./source.js";
import { onOneLine } from "./types.js";

/** A declaration, as far as a cell that can't be read yet tells. */
export type Declared = Pick<Declaration, "name" | "kind" | "start" | "statement">;

/** How many cells' declarations are kept. */
const keptAtMost = 1000;
const kept = new Map<string, readonly Declared[]>();

/** What a cell declares, also one that does not parse yet. */
export function declaredIn(code: string): readonly Declared[] {
  const known = kept.get(code);
  if (known) return known;
  const declared = read(code);
  kept.set(code, declared);
  if (kept.size > keptAtMost) kept.delete(kept.keys().next().value!);
  return declared;
}

function read(code: string): readonly Declared[] {
  try {
    assertShallow(code);
  } catch {
    return []; // it can't run
  }
  const { declarations, errors } = parseCell(code);
  return errors.length > 0 ? declaredByLine(code) : declarations;
}

/** The names that code which does not parse (yet) seems to declare. */
export function declaredByLine(code: string): Declared[] {
  const found: Declared[] = [];
  for (const match of code.matchAll(
    /^(?:export\s+)?(?:default\s+)?(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?(const\s+enum|const|let|var|class|function\*?|enum|namespace|interface|type)\s+([\p{ID_Start}$_][\p{ID_Continue}$]*)/gmu,
  )) {
    const [all, keyword, name] = match as unknown as [string, string, string];
    const kind = keyword === "let" || keyword === "var" ? "let" : "const";
    found.push({ name, kind, start: match.index + all.length - name.length });
  }
  // Names bound by imports and patterns; property names among them do no harm.
  for (const match of code.matchAll(
    /^(?:import\b([^"'=;(]{0,1000}?)\bfrom\b|(?:const|let|var)\s{0,100}([[{][^=;]{0,1000}[\]}])\s{0,100}=)/gm,
  )) {
    const [all, imported, pattern] = match;
    const text = imported ?? pattern ?? "";
    const start = match.index + all.indexOf(text);
    for (const { 0: name, index } of text.matchAll(/[\p{ID_Start}$_][\p{ID_Continue}$]*/gu))
      found.push({ name, kind: "const", start: start + index });
  }
  return found;
}

/**
 * The names whose nearest declaration above a cell is not in force, because the cell with it has not run, or not as it is
 * written now.
 */
export function unrunNames(
  above: readonly string[],
  isInForce: (name: string, code: string) => boolean,
): Map<string, Declared> {
  const nearest = new Map<string, { declared: Declared; code: string }>();
  for (const code of above) {
    for (const declared of declaredIn(code)) nearest.set(declared.name, { declared, code });
  }
  const unknown = new Map<string, Declared>();
  for (const [name, { declared, code }] of nearest) if (!isInForce(name, code)) unknown.set(name, declared);
  return unknown;
}

/** A module that does not exist: what is imported from it is of any type as a value, as a type and as a namespace. */
const nowhere = "firstframe:not-run";

/** Lines that declare a name as anything, for what the code does not declare itself. */
export function anything(
  name: string,
  { kind, statement }: Declared,
  own: { readonly value: ReadonlySet<string>; readonly type: ReadonlySet<string> },
): string {
  const value = !own.value.has(name);
  const type = !own.type.has(name);
  if (value && type && statement !== undefined) return `// @ts-ignore\n${onOneLine(statement)}\n`;
  // An import could not be assigned.
  if (value && type && kind !== "let") return `// @ts-ignore\nimport { ${name} } from "${nowhere}";\n`;
  const asValue = value ? `declare let ${name}: any; ` : "";
  const asType = type ? `type ${name}<A = any, B = any, C = any, D = any> = any;` : "";
  return `${asValue}${asType}\n`;
}

/** Complaints that types are missing. */
const untyped = new Set([2347, 2571, 18046]);

/** Whether an error may be there only because the type of something is not known. */
export function mayComeFromUnknown({ code, message }: Diagnostic): boolean {
  return (
    (code >= 7000 && code < 8000) || untyped.has(code) || /\btype '(?:unknown|\{\}|never)\b/i.test(message)
  );
}

/** Whether code mentions one of these names. */
export function mentions(code: string, names: ReadonlyMap<string, unknown>): boolean {
  for (const [name] of code.matchAll(/[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*/gu))
    if (names.has(name)) return true;
  return false;
}

/** A place in the code of a cell that has run, in the cell that is the same now; else where a cell declares that name. */
export function inCells(
  cells: readonly string[],
  index: number,
  code: string,
  start: number,
  name: string,
): Place | null {
  for (const cell of nearestFirst(cells, index))
    if (cells[cell] === code) return { cell, start, end: start + name.length };
  return declarationAmong(cells, index, name);
}

/** The declaration of a name that is nearest to a cell: above, else below. */
export function declarationAmong(cells: readonly string[], index: number, name: string): Place | null {
  for (const cell of nearestFirst(cells, index)) {
    const declared = declaredIn(cells[cell]!).find((each) => each.name === name);
    if (declared) return { cell, start: declared.start, end: declared.start + name.length };
  }
  return null;
}

/** The cells above one, from it upwards, and then those below. */
function nearestFirst(cells: readonly string[], index: number): number[] {
  return [...cells.keys()].map((_, i) => (i <= index ? index - i : i));
}
