import type { Cell } from "./language.js";
import { type End, exportedEnds, isFunctionName, narrowableIn, type Reference } from "./narrowing.js";
import { isShared } from "./own-names.js";
import { isPath } from "./resolve.js";
import { type Declaration, type Meaning, meaningsOf, parseCell, type Source } from "./source.js";
import { onOneLine, type PlainType } from "./types.js";
import { anything, type Declared } from "./unrun.js";

/** What the compiler found out about a cell. All but `clean` arrives after the cell was accepted. */
export interface Learned {
  /** Types of its variables and signatures of its functions, so that later cells need not look into it. */
  readonly types: Map<string, PlainType>;
  /** What it may narrow. */
  readonly references: readonly Reference[];
  /** The types at its end of what it did narrow. */
  readonly ends: Map<string, End>;
  /** Types as they are declared of what later cells may narrow: of its variables that can be assigned. */
  readonly declared: Map<string, string>;
  /** Whether it has no errors, so that it needs no names but those it was checked with. */
  readonly clean: boolean;
  /** Whether that is so only if variables have the types they were declared with. */
  readonly wide: boolean;
}

const unknown = (): Learned => ({
  types: new Map(),
  references: [],
  ends: new Map(),
  declared: new Map(),
  clean: false,
  wide: false,
});

/** A cell that has run, as a module whose exports later cells see. */
export interface AcceptedCell {
  /** The module's name without its extension, in the notebook's folder. */
  readonly name: string;
  readonly extension: "ts" | "tsx";
  readonly text: string;
  /** The cell's own code, which begins at `offset` in `text`. */
  readonly code: string;
  readonly offset: number;
  readonly declarations: ReadonlyMap<string, Meanings>;
  readonly learned: Learned;
  readonly context: Context;
}

/** The declarations that give a name its meanings in a cell. */
type Meanings = { readonly [meaning in Meaning]?: Declaration };
/** The cells in which a name got its meanings. */
type Owners = { readonly [meaning in Meaning]?: AcceptedCell };

/** What precedes a cell's own code so that it sees what earlier cells declared. */
export interface Context {
  readonly header: string;
  readonly needs: readonly AcceptedCell[];
  /** What the header says about each name. */
  readonly parts: ReadonlyMap<string, string>;
  /** Whether variables have types that they may not have any more. */
  readonly narrows: boolean;
}

/** The names that code itself declares, each for what it means there. */
export interface Own {
  readonly value: ReadonlySet<string>;
  readonly type: ReadonlySet<string>;
}

/** How code is to be examined. */
export interface View {
  /** Names that are needed although the code does not mention them. */
  readonly also?: Iterable<string>;
  /** Every name leads to where it was declared. */
  readonly documented?: boolean;
  /** Variables have the types they were declared with. */
  readonly wide?: boolean;
  /** Names that may be anything, by how they are declared in cells that have not run. */
  readonly unknown?: ReadonlyMap<string, Declared>;
}

const modulePrefix = ".firstframe-cell-";
/** How many modules are kept for cells that run again. */
const modulesAtMost = 1000;
const nobody: Owners = {};

/** Names cells in types as tracebacks do, instead of the modules that the compiler knows them as. */
export function readableTypes(text: string): string {
  return text.replace(/"[^"\n]*\.firstframe-cell-(\d+)-\d+"/g, (_, count: string) => `"cell [${count}]"`);
}

/** The names that declarations give a meaning. */
export function ownNames(declarations: Iterable<Declaration>): { value: Set<string>; type: Set<string> } {
  const own = { value: new Set<string>(), type: new Set<string>() };
  for (const declaration of declarations)
    for (const meaning of meaningsOf(declaration)) own[meaning].add(declaration.name);
  return own;
}

/** The names that cells have declared; the last declaration of each meaning is in force. */
export class Session {
  /** In order of declaration. */
  private readonly names = new Map<string, Owners>();
  /**
   * By variable and reference: the cell that may last have narrowed it, or made it wide again, preceded by the last one
   * that is known to have narrowed it for good.
   */
  private readonly narrowed = new Map<string, Map<string, readonly AcceptedCell[]>>();
  /** Modules by the code of their cells. */
  private readonly modules = new Map<string, AcceptedCell>();
  /** Cells that extend the global scope, which all later ones see. */
  private readonly augmenting = new Set<AcceptedCell>();
  private count = 0;

  accept(cell: Cell, learned: Learned = unknown()): void {
    const source = parseCell(cell.code);
    if (source.errors.length > 0) return;
    if (source.declarations.length === 0 && !source.augments && learned.references.length === 0) return;
    const accepted = this.moduleOf(cell, source, learned);
    for (const [name, meanings] of accepted.declarations) {
      const before = this.names.get(name);
      this.names.delete(name);
      this.names.set(name, {
        ...before,
        ...(meanings.value && { value: accepted }),
        ...(meanings.type && { type: accepted }),
      });
      if (meanings.value) this.narrowed.delete(name);
    }
    for (const { text, root } of accepted.learned.references) {
      const references = this.narrowed.get(root) ?? new Map<string, readonly AcceptedCell[]>();
      const firm = references.get(text)?.findLast(({ learned }) => learned.ends.get(text)?.firm);
      this.narrowed.set(root, references.set(text, firm ? [firm, accepted] : [accepted]));
    }
    if (source.augments) this.augmenting.add(accepted);
  }

  reset(): void {
    this.names.clear();
    this.narrowed.clear();
    this.modules.clear();
    this.augmenting.clear();
  }

  /** The cell that last declared a name, as a value if it is one. */
  declaredIn(name: string): AcceptedCell | undefined {
    const owners = this.names.get(name);
    return owners?.value ?? owners?.type;
  }

  /** The declaration of a name that is in force. */
  declarationOf(name: string): Declaration | undefined {
    const { value, type } = this.names.get(name) ?? nobody;
    return value?.declarations.get(name)?.value ?? type?.declarations.get(name)?.type;
  }

  /** Whether what a name means is what the cell of this code declared. */
  isInForce(name: string, code: string): boolean {
    const { value, type } = this.names.get(name) ?? nobody;
    return value?.code === code || type?.code === code;
  }

  /** The names of values that packages look up, too. */
  sharedNames(): string[] {
    return this.allNames().filter((name) => isShared(name) && this.valueOf(name) !== undefined);
  }

  /** The names whose value was imported. */
  importedNames(): string[] {
    return this.allNames().filter((name) => this.valueOf(name)?.kind === "import");
  }

  /** The packages that cells have imported from, the newest first. */
  importedModules(): string[] {
    const modules = this.importedNames().flatMap((name) => {
      const [, , module] = / from (["'])(.+?)\1/.exec(this.valueOf(name)?.statement ?? "") ?? [];
      return module === undefined || isPath(module) ? [] : [module];
    });
    return [...new Set(modules.reverse())];
  }

  /** All declared names, the newest last. */
  allNames(): string[] {
    return [...this.names.keys()];
  }

  /** What code may narrow. */
  narrowableIn(source: Source): readonly Reference[] {
    const mayNarrow = (text: string, root: string) => {
      if (root === "process") return text !== root;
      const kind = this.valueOf(root)?.kind;
      const type = text === root ? this.names.get(root)?.value?.learned.types.get(root) : undefined;
      return (
        (kind === "let" || kind === "const" || (kind === "import" && text !== root)) &&
        (type === undefined || mayBecomeNarrow(type))
      );
    };
    return narrowableIn(source, mayNarrow, (name) => this.narrowed.get(name)?.keys() ?? []);
  }

  /** Where the cell that declared a variable refers to it for the last time, which is where it knows most about it. */
  lastReference(name: string): { cell: AcceptedCell; offset: number } | undefined {
    const value = this.names.get(name)?.value;
    const known = this.endsOf(name).find(({ text, cell }) => text === name && cell === value);
    if (!known) return undefined;
    const declaration = `const ${known.end.name} = `;
    return { cell: known.cell, offset: known.cell.text.lastIndexOf(declaration) + declaration.length };
  }

  /** Whether a constant has lost a part of its declared type for good. */
  isFirm(name: string): boolean {
    return this.endsOf(name).some(({ text, end }) => text === name && end.firm);
  }

  /** The declarations that code needs: those of all names in it, except its own. Variables of plain types are declared with their type. */
  contextOf(
    code: string,
    own: Own,
    { also = [], documented = false, wide = false, unknown }: View = {},
  ): Context {
    const mentioned = new Set([
      ...(code.match(/[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*/gu) ?? []),
      ...also,
    ]);
    const imports = new Map<AcceptedCell, string[]>();
    const statements = new Set<string>();
    const facts: string[] = [];
    const needs = new Set<AcceptedCell>();
    const parts = new Map<string, string>();
    let narrows = false;
    const add = (name: string, statement: string) => {
      statements.add(statement);
      parts.set(name, `${parts.get(name) ?? ""}${statement}`);
    };
    const unknowns: string[] = [];
    for (const name of mentioned) {
      const declared = unknown?.get(name);
      if (declared) {
        if (own.value.has(name) && own.type.has(name)) continue;
        unknowns.push(anything(name, declared, own));
        continue;
      }
      const owners = this.names.get(name) ?? nobody;
      const value = own.value.has(name) ? undefined : owners.value;
      const type = own.type.has(name) ? undefined : owners.type;
      const known = value?.declarations.get(name)?.value;
      if (known && value) {
        // Only one import of a name is possible, and it has all meanings that the name has where it comes from.
        const apart = type !== undefined && type !== value;
        const firm = documented ? undefined : this.firmType(value, name, own);
        const plain = documented ? undefined : this.plainType(value, name, own);
        if (known.kind === "import") {
          add(name, apart ? importedValue(name, known.statement ?? "") : (known.statement ?? ""));
        } else if (firm) {
          if (firm.needs) needs.add(firm.needs);
          add(name, `declare const ${name}${firm.declared};`);
        } else if (plain) {
          add(name, `declare ${known.kind} ${name}${plain.declared};`);
        } else {
          needs.add(value);
          if (known.kind === "let" || apart) {
            // An imported variable could not be assigned.
            const keyword = known.kind === "let" ? "let" : "const";
            add(name, `declare ${keyword} ${name}: typeof import("./${value.name}").${name};`);
          } else {
            imports.set(value, [...(imports.get(value) ?? []), name]);
            parts.set(name, value.name);
          }
        }
      }
      if (type) {
        const whole = type === value && (imports.get(type)?.includes(name) || known?.kind === "import");
        const declaration = type.declarations.get(name)?.type;
        if (!whole && declaration?.kind === "import") {
          add(name, (declaration.statement ?? "").replace(/^import (?!type )/, "import type "));
        } else if (!whole) {
          // Beside a variable of that name, the compiler may reject this import, but follows it for types.
          needs.add(type);
          add(name, `import type { ${name} } from "./${type.name}";`);
        }
      }
      if (own.value.has(name)) continue;
      for (const { text, end, cell } of this.endsOf(name)) {
        if ((end.firm && text === name) || (wide && !end.firm)) continue;
        narrows ||= !end.firm;
        const plain = end.plain && this.isPlainHere(end.plain, own) ? end.plain : undefined;
        const without = end.without && `Exclude<typeof ${text}, ${end.without}>`;
        if (!plain && !without) needs.add(cell);
        const is = plain ? asType(plain) : (without ?? typeofEnd(cell, end));
        facts.push(`${isFunctionName}<${is}>(${text});`);
      }
    }
    for (const cell of this.augmenting) {
      needs.add(cell);
      statements.add(`import "./${cell.name}";`);
    }
    for (const [cell, names] of imports)
      statements.add(`import { ${names.join(", ")} } from "./${cell.name}";`);
    if (facts.length > 0) {
      statements.add(`declare function ${isFunctionName}<T>(x: unknown): asserts x is T;`);
      for (const fact of facts) statements.add(fact);
    }
    const references = code.match(/^[ \t]*\/\/\/[ \t]*<reference\s.*$/gm) ?? [];
    // On one line, so that line numbers of cell and file differ by a constant.
    const line = [...statements].map(onOneLine).join(" ");
    return {
      header: `${references.map((reference) => `${reference.trim()}\n`).join("")}${unknowns.join("")}${line}\n`,
      needs: [...needs],
      parts,
      narrows,
    };
  }

  /** Whether a name can be declared without the cell it comes from. */
  isPlain(name: string): boolean {
    const { value, type } = this.names.get(name) ?? nobody;
    if (type && type.declarations.get(name)?.type?.kind !== "import") return false;
    if (!value) return type !== undefined;
    return this.valueOf(name)?.kind === "import" || this.plainType(value, name, noNames) !== undefined;
  }

  private valueOf(name: string): Declaration | undefined {
    return this.names.get(name)?.value?.declarations.get(name)?.value;
  }

  /**
   * The module that a cell becomes. The same code in the same surroundings is the same module, so that instances of its
   * classes remain what they were when it runs again.
   */
  private moduleOf(cell: Cell, source: Source, learned: Learned): AcceptedCell {
    const context = this.contextOf(source.code, ownNames(source.declarations), { wide: learned.wide });
    const before = this.modules.get(source.code);
    if (before?.learned.clean && learned.clean && isSameFor(before.context, context)) return before;
    this.count += 1;
    const exported = source.declarations.filter(({ exported, kind }) => !exported && kind !== "import");
    const names = [...new Set(exported.map(({ name }) => name))];
    const declarations = new Map<string, Meanings>();
    for (const declaration of source.declarations) {
      const known = declarations.get(declaration.name);
      const meanings: { [meaning in Meaning]?: Declaration } = { ...known };
      for (const meaning of meaningsOf(declaration)) {
        // A namespace adds to what else has its name.
        const first = known?.[meaning];
        if (!first || first.kind === "namespace") meanings[meaning] = declaration;
      }
      declarations.set(declaration.name, meanings);
    }
    const ends = exportedEnds(learned.references);
    const accepted: AcceptedCell = {
      name: `${modulePrefix}${cell.count}-${this.count}`,
      extension: source.lang,
      text: `${context.header}${source.code}\n;${names.length > 0 ? `export { ${names.join(", ")} };` : ""}${ends}`,
      code: source.code,
      offset: context.header.length,
      declarations,
      learned,
      context,
    };
    this.modules.delete(source.code);
    this.modules.set(source.code, accepted);
    if (this.modules.size > modulesAtMost) this.modules.delete(this.modules.keys().next().value!);
    return accepted;
  }

  private plainType(cell: AcceptedCell, name: string, own: Own): PlainType | undefined {
    const kind = cell.declarations.get(name)?.value?.kind;
    const isPlain = kind === "let" || kind === "const" || kind === "function";
    const plain = isPlain ? cell.learned.types.get(name) : undefined;
    return plain && this.isPlainHere(plain, own) ? plain : undefined;
  }

  /** Whether the global names in a type are not those of something that cells declare. */
  private isPlainHere({ globals }: PlainType, own: Own): boolean {
    return !globals.some((global) => own.type.has(global) || this.names.get(global)?.type);
  }

  /** The type of a constant that was narrowed for good. */
  private firmType(value: AcceptedCell, name: string, own: Own) {
    if (value.declarations.get(name)?.value?.kind !== "const") return undefined;
    for (const { text, end, cell } of this.endsOf(name)) {
      if (text !== name || !end.firm) continue;
      if (end.plain && this.isPlainHere(end.plain, own)) return { declared: end.plain.declared };
      return end.without
        ? { declared: `: Exclude<typeof import("./${value.name}").${name}, ${end.without}>`, needs: value }
        : { declared: `: ${typeofEnd(cell, end)}`, needs: cell };
    }
    return undefined;
  }

  /** What is known about a variable and its properties. */
  private endsOf(name: string): (Reference & { end: End; cell: AcceptedCell })[] {
    return [...(this.narrowed.get(name) ?? [])].flatMap(([text, cells]) => {
      const last = cells.at(-1)!;
      const cell = last.learned.ends.has(text) ? last : cells[0]!;
      const end = cell.learned.ends.get(text);
      return end && (cell === last || end.firm) ? [{ text, root: name, end, cell }] : [];
    });
  }
}

const noNames: Own = { value: new Set(), type: new Set() };

/** A cell and everything it refers to, directly or indirectly. */
export function closureOf(needs: readonly AcceptedCell[]): Set<AcceptedCell> {
  const all = new Set(needs);
  for (const cell of all) for (const needed of cell.context.needs) all.add(needed);
  return all;
}

/**
 * Whether code that has no errors in one context means the same in another: all that it knew is the same, and what came
 * since then hides nothing that it used.
 */
function isSameFor(before: Context, now: Context): boolean {
  for (const [name, part] of before.parts) if (now.parts.get(name) !== part) return false;
  for (const name of now.parts.keys()) if (!before.parts.has(name) && name in globalThis) return false;
  return true;
}

/** An import as a variable, beside which a type of the same name can be imported from elsewhere. */
function importedValue(name: string, statement: string): string {
  const alias = `${name}__value`;
  const renamed = statement
    .replace(
      /^import \{ (.*?)(?: as [^}]*)? \} from/s,
      (_, imported: string) => `import { ${imported} as ${alias} } from`,
    )
    .replace(/^import \* as \S+ from/, `import * as ${alias} from`)
    .replace(/^import [^\s{*]+ (from|=)/, `import ${alias} $1`);
  return `${renamed} declare const ${name}: typeof ${alias};`;
}

/** Whether a type has parts, or is not known well enough to say. */
function mayBecomeNarrow({ declared }: PlainType): boolean {
  return /\||^: (?:any|unknown|object|boolean|\{\})$/.test(declared);
}

function typeofEnd(cell: AcceptedCell, { name }: End): string {
  return `typeof import("./${cell.name}").${name}`;
}

function asType({ declared }: PlainType): string {
  return declared.replace(/^(?:: | = )/, "");
}
