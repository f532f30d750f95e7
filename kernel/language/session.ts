import type { Cell } from "./language.js";
import { type Declaration, parseCell } from "./source.js";
import { onOneLine, type PlainType } from "./types.js";

/** A cell that has run, as a module whose exports later cells see. */
export interface AcceptedCell {
  /** The module's name without its extension, in the notebook's folder. */
  readonly name: string;
  readonly extension: "ts" | "tsx";
  readonly text: string;
  /** Where the cell's code begins in `text`. */
  readonly offset: number;
  readonly declarations: ReadonlyMap<string, Declaration>;
  /** Types of its variables, so that later cells need not look into it; they arrive after it was accepted. */
  readonly types: ReadonlyMap<string, PlainType>;
  /** The cells that this one's text refers to. */
  readonly needs: readonly AcceptedCell[];
}

/** What precedes a cell's own code so that it sees what earlier cells declared. */
export interface Context {
  readonly header: string;
  readonly needs: readonly AcceptedCell[];
}

const modulePrefix = ".firstframe-cell-";

/** Names cells in types as tracebacks do, instead of the modules that the compiler knows them as. */
export function readableTypes(text: string): string {
  return text.replace(/"[^"\n]*\.firstframe-cell-(\d+)-\d+"/g, (_, count: string) => `"cell [${count}]"`);
}

/** The names that cells have declared; the last declaration of each is in force. */
export class Session {
  /** In order of declaration. */
  private readonly names = new Map<string, AcceptedCell>();
  /** Cells that extend the global scope, which all later ones see. */
  private augmenting: AcceptedCell[] = [];
  private count = 0;

  accept(cell: Cell, types: ReadonlyMap<string, PlainType>): void {
    const source = parseCell(cell.code);
    if (source.errors.length > 0 || (source.declarations.length === 0 && !source.augments)) return;
    const { header, needs } = this.contextOf(
      source.code,
      new Set(source.declarations.map(({ name }) => name)),
    );
    this.count += 1;
    const exported = source.declarations.filter(({ exported, kind }) => !exported && kind !== "import");
    const names = [...new Set(exported.map(({ name }) => name))];
    const declarations = new Map<string, Declaration>();
    for (const declaration of source.declarations) {
      const known = declarations.get(declaration.name);
      // A name that is both a variable and a type can only be passed on as a whole, by import.
      const merged =
        known && known.kind !== declaration.kind ? { ...known, kind: "namespace" as const } : declaration;
      declarations.set(declaration.name, merged);
    }
    const accepted: AcceptedCell = {
      name: `${modulePrefix}${cell.count}-${this.count}`,
      extension: source.lang,
      text: `${header}${source.code}\n${names.length > 0 ? `export { ${names.join(", ")} };` : ""}`,
      offset: header.length,
      declarations,
      types,
      needs,
    };
    for (const name of declarations.keys()) {
      this.names.delete(name);
      this.names.set(name, accepted);
    }
    if (source.augments) this.augmenting.push(accepted);
  }

  reset(): void {
    this.names.clear();
    this.augmenting = [];
  }

  /** The cell that last declared a name. */
  declaredIn(name: string): AcceptedCell | undefined {
    return this.names.get(name);
  }

  /** All declared names, the newest last. */
  allNames(): string[] {
    return [...this.names.keys()];
  }

  /**
   * The declarations that code needs: those of all names in it and in `also`, except `own`. Variables of plain types are
   * declared with their type, unless `documented`: then every name leads to where it was declared.
   */
  contextOf(
    code: string,
    own: ReadonlySet<string>,
    { also = [] as Iterable<string>, documented = false } = {},
  ): Context {
    const mentioned = new Set([
      ...(code.match(/[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*/gu) ?? []),
      ...also,
    ]);
    const imports = new Map<AcceptedCell, string[]>();
    const statements = new Set<string>();
    const needs = new Set<AcceptedCell>();
    for (const name of mentioned) {
      const cell = this.names.get(name);
      const declaration = cell?.declarations.get(name);
      if (!cell || !declaration || own.has(name)) continue;
      if (declaration.kind === "import") {
        statements.add(declaration.statement ?? "");
        continue;
      }
      const plain = documented ? undefined : this.plainType(cell, name, own);
      if (plain) {
        statements.add(`declare ${declaration.kind} ${name}${plain.declared};`);
        continue;
      }
      needs.add(cell);
      if (declaration.kind === "let") {
        // An imported variable could not be assigned.
        statements.add(`declare let ${name}: typeof import("./${cell.name}").${name};`);
      } else {
        imports.set(cell, [...(imports.get(cell) ?? []), name]);
      }
    }
    for (const cell of this.augmenting) {
      needs.add(cell);
      statements.add(`import "./${cell.name}";`);
    }
    for (const [cell, names] of imports)
      statements.add(`import { ${names.join(", ")} } from "./${cell.name}";`);
    const references = code.match(/^[ \t]*\/\/\/[ \t]*<reference\s.*$/gm) ?? [];
    // On one line, so that line numbers of cell and file differ by a constant.
    const line = [...statements].map(onOneLine).join(" ");
    return {
      header: `${references.map((reference) => `${reference.trim()}\n`).join("")}${line}\n`,
      needs: [...needs],
    };
  }

  /** Whether a name can be declared without the cell it comes from. */
  isPlain(name: string): boolean {
    const cell = this.names.get(name);
    const kind = cell?.declarations.get(name)?.kind;
    return kind === "import" || (cell !== undefined && this.plainType(cell, name, new Set()) !== undefined);
  }

  private plainType(cell: AcceptedCell, name: string, own: ReadonlySet<string>): PlainType | undefined {
    const kind = cell.declarations.get(name)?.kind;
    const plain = kind === "let" || kind === "const" ? cell.types.get(name) : undefined;
    return plain?.globals.some((global) => own.has(global) || this.names.has(global)) ? undefined : plain;
  }
}

/** A cell and everything it refers to, directly or indirectly. */
export function closureOf(needs: readonly AcceptedCell[]): Set<AcceptedCell> {
  const all = new Set(needs);
  for (const cell of all) for (const needed of cell.needs) all.add(needed);
  return all;
}
