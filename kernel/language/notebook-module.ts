/**
 * A notebook as a module: its cells in order, as one file. Where cells say `export`, these are run with what they need of the others;
 * else all are, and all that they declare can be imported.
 */
import MagicString from "magic-string";
import type { Node } from "oxc-parser";
import { withoutMagics } from "./magics.js";
import { renamedTo } from "./own-names.js";
import { type Declaration, parseValidCell, type Source, walk } from "./source.js";

/** Whether a path is a notebook's. */
export const isNotebook = (file: string): boolean => file.endsWith(".ipynb");

interface RawCell {
  readonly cell_type?: unknown;
  readonly source?: unknown;
  readonly metadata?: { readonly tags?: unknown };
}

interface RawNotebook {
  readonly cells?: unknown;
  readonly metadata?: {
    readonly kernelspec?: { readonly language?: unknown };
    readonly language_info?: { readonly name?: unknown };
  };
}

interface ModuleCell {
  readonly source: Source;
  readonly isParameters: boolean;
  readonly exports: boolean;
}

/**
 * The TypeScript of a notebook's module.
 *
 * @param json the notebook's file.
 * @param parameters values by name, as text; each takes the place of the one that the cell tagged `parameters` gives the name.
 * @throws Error if the file is no notebook of TypeScript, or a parameter is none of its.
 */
export function notebookModule(json: string, parameters: Readonly<Record<string, string>> = {}): string {
  const cells = needed(cellsOf(json));
  const given = new Map(Object.entries(parameters));
  const total = new Map<string, number>();
  for (const { source } of cells) for (const name of ownDeclarations(source)) count(total, name);
  const so = new Map<string, number>();
  const parts = cells.map((cell) => {
    for (const name of ownDeclarations(cell.source)) count(so, name);
    // A name that a later cell declares again is another one until then.
    const earlier = new Map(
      [...so].filter(([name, n]) => n < total.get(name)!).map(([name, n]) => [name, `${name}$${n}`]),
    );
    return cellText(cell, earlier, given);
  });
  if (given.size > 0) {
    const [name] = given.keys();
    const known = cells
      .filter(({ isParameters }) => isParameters)
      .flatMap(({ source }) => ownDeclarations(source));
    throw new Error(
      `there is no parameter ${name}; ${known.length > 0 ? `there are ${known.join(", ")}` : "no cell is tagged parameters"}`,
    );
  }
  const names = cells.some(({ exports }) => exports) ? [] : [...total.keys()];
  return `${parts.join("\n;\n")}\n;export { ${names.join(", ")} };\n`;
}

function cellsOf(json: string): ModuleCell[] {
  let notebook: RawNotebook;
  try {
    notebook = JSON.parse(json) as RawNotebook;
  } catch (error) {
    throw new Error(`expected a notebook, found ${(error as Error).message}`);
  }
  const language = notebook.metadata?.kernelspec?.language ?? notebook.metadata?.language_info?.name;
  if (language !== undefined && !/^(?:type|java)script$/i.test(String(language)))
    throw new Error(`expected a notebook of TypeScript, found one of ${String(language)}`);
  if (!Array.isArray(notebook.cells)) throw new Error("expected a notebook, found no cells");
  return (notebook.cells as RawCell[]).flatMap(({ cell_type: type, source, metadata }) => {
    const tags = Array.isArray(metadata?.tags) ? (metadata.tags as unknown[]) : [];
    // What fails on purpose would end the module.
    if (type !== "code" || tags.includes("raises-exception")) return [];
    const text = Array.isArray(source) ? source.join("") : String(source ?? "");
    const parsed = parseValidCell(withoutMagics(text));
    const exports = parsed.program.body.some(({ type: kind }) => kind.startsWith("Export"));
    return [{ source: parsed, isParameters: tags.includes("parameters"), exports }];
  });
}

/** The cells that run: if some export, these and the ones that declare what they use, directly or not. */
function needed(cells: readonly ModuleCell[]): ModuleCell[] {
  if (!cells.some(({ exports }) => exports)) return [...cells];
  const taken = new Set(cells.filter(({ exports }) => exports));
  for (const cell of taken) {
    const used = new Set<string>();
    walk(cell.source.program, (node) => {
      if (node.type === "Identifier") used.add(node.name);
      return true;
    });
    for (const other of cells)
      if (other.source.declarations.some(({ name }) => used.has(name))) taken.add(other);
  }
  return cells.filter((cell) => taken.has(cell));
}

/** The names that a cell declares or imports, each once. */
const ownDeclarations = ({ declarations }: Source): string[] => [
  ...new Set(declarations.map(({ name }: Declaration) => name)),
];

const count = (numbers: Map<string, number>, name: string) => numbers.set(name, (numbers.get(name) ?? 0) + 1);

function cellText(
  { source, isParameters }: ModuleCell,
  earlier: ReadonlyMap<string, string>,
  given: Map<string, string>,
): string {
  const text = renamedTo(source.code, source.program, earlier) ?? new MagicString(source.code);
  if (isParameters) setParameters(source, text, given);
  return text.toString();
}

/** Puts values in place of those that a cell gives its variables, and takes them out of `given`. */
function setParameters({ program, code }: Source, text: MagicString, given: Map<string, string>): void {
  for (const statement of program.body) {
    const declaration = statement.type === "ExportNamedDeclaration" ? statement.declaration : statement;
    if (declaration?.type !== "VariableDeclaration") continue;
    for (const { id, init } of declaration.declarations) {
      if (id.type !== "Identifier" || init === null || !given.has(id.name)) continue;
      const annotation = id.typeAnnotation?.typeAnnotation;
      const type = annotation && code.slice(annotation.start, annotation.end);
      text.update(init.start, init.end, parameterCode(given.get(id.name)!, type, init));
      given.delete(id.name);
    }
  }
}

/** A value as code: text where the variable is one of text, else what JSON makes of it. */
function parameterCode(value: string, type: string | undefined, init: Node): string {
  const isText =
    type === undefined ? init.type === "Literal" && typeof init.value === "string" : type === "string";
  if (isText) return JSON.stringify(value);
  try {
    return JSON.stringify(JSON.parse(value));
  } catch {
    return JSON.stringify(value);
  }
}
