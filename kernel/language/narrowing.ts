/**
 * What a cell knows about its variables at its end: `if (!token) throw new Error("no token")` in one cell, and `token` is
 * a string in the next. The compiler is asked for the types of what may have been narrowed, by code that is put after the
 * cell's own and is never run.
 */
import type { Node, Program } from "oxc-parser";
import { isFunction, type Source, walk } from "./source.js";
import { evidentTypes, isLibraryType, type PlainType } from "./types.js";

/** A variable, or a property of one, as the compiler follows it: `token`, `match.groups`. */
export interface Reference {
  readonly text: string;
  readonly root: string;
}

/** The type of a reference at the end of a cell. */
export interface End {
  /** Its type, if that means the same in every cell. */
  readonly plain?: PlainType;
  /** What its declared type lost, if that is all: `null | undefined`. */
  readonly without?: string;
  /** The cell's export that has its type. */
  readonly name: string;
  /** Whether it holds for good: the variable can't be assigned, and its declaration promises nothing wider. */
  readonly firm: boolean;
}

/** Begins all names that only the compiler sees. */
export const ownPrefix = "__firstframe";
/** A function that tells the compiler a reference's type. */
export const isFunctionName = `${ownPrefix}Is`;
const endName = (i: number) => `${ownPrefix}End${i}`;

/** The maximum number of a cell's references whose types at its end are requested. */
const atMost = 40;
/** The deepest property that is followed: `a.b.c.d`. */
const deepest = 4;

/**
 * The references whose types at the end of a cell may differ from their declared ones.
 *
 * @param mayNarrow whether a reference to a name that the cell does not declare can be followed
 * @param known references to a variable's properties that earlier cells narrowed
 */
export function narrowableIn(
  source: Source,
  mayNarrow: (text: string, root: string) => boolean,
  known: (name: string) => Iterable<string>,
): readonly Reference[] {
  if (source.errors.length > 0) return [];
  const own = variablesOf(source.program);
  const declared = new Set(source.declarations.map(({ name }) => name));
  const references = new Map<string, Reference>();
  const add = (text: string, root: string) => {
    const variable = own.get(root);
    if (variable ? variable.settled : declared.has(root) || !mayNarrow(text, root)) return;
    references.set(text, { text, root });
  };
  const addAll = (node: Node) => forEachReference(node, ({ text, root }) => add(text, root));
  for (const [name, { narrowed }] of own) if (narrowed) add(name, name);
  let branches = false;
  for (const statement of source.program.body) {
    if (decides(statement)) {
      branches = true;
      addAll(statement);
    } else {
      visit(statement, (node, parent) => {
        if (node.type === "AssignmentExpression") addAll(node.left);
        else if (node.type === "CallExpression" && isStatement(parent) && !isOutput(node))
          node.arguments.forEach(addAll);
        return true;
      });
    }
  }
  // What one variable is may say what another is: `const { data, error } = await load(); if (error) throw error;`.
  if (branches) for (const name of own.keys()) add(name, name);
  for (const { root } of [...references.values()]) for (const text of known(root)) add(text, root);
  // Variables first, and each object before its properties, whose types depend on it.
  const size = ({ text, root }: Reference) => (text === root ? 0 : text.length);
  return [...references.values()].sort((a, b) => size(a) - size(b)).slice(0, atMost);
}

/**
 * Code that is put after a cell, in which the type of each reference stands twice: as it is at the cell's end, and as it
 * is declared, since what was narrowed outside a function is not known inside one.
 */
export function probeOf(references: readonly Reference[]): Probe {
  if (references.length === 0) return { text: "", ends: [], declared: [] };
  let text = "\n;";
  const write = ({ text: reference }: Reference, i: number) => {
    const at = text.length + "const ".length;
    text += `const ${endName(i)} = ${reference};`;
    return { name: endName(i), at };
  };
  const ends = references.map(write);
  text += `function ${ownPrefix}Declared() {`;
  const declared = references.map(write);
  return { text: `${text}}`, ends, declared };
}

export interface Probe {
  readonly text: string;
  /** The constants whose types are those at the cell's end, and where they are in `text`. */
  readonly ends: readonly { readonly name: string; readonly at: number }[];
  readonly declared: readonly { readonly name: string; readonly at: number }[];
}

/** The same for a cell's module: constants whose types are those at the cell's end. */
export function exportedEnds(references: readonly Reference[]): string {
  return references.map(({ text }, i) => `export const ${endName(i)} = ${text};`).join(" ");
}

/** Whether later cells gain anything from a type that a reference was narrowed to. */
export function isUseful(type: string, firm: boolean): boolean {
  const parts = type.split(" | ");
  // It is empty now, and will be filled by something that the compiler does not see, such as a callback.
  if (parts.every((part) => /^(?:null|undefined|void|never)$/.test(part))) return false;
  // Of the values that its declaration promises this is just the first: `let mode: "train" | "test" = "train"`.
  return firm || !parts.every((part) => /^(?:"[^"]*"|-?[\d.]+n?|true|false|null|undefined)$/.test(part));
}

/** What a type lost on its way to another one, if it was only null or undefined, and if `reference` can stand in a type. */
export function lost(from: string, to: string, reference: string): string | undefined {
  if (/[[\]]/.test(reference)) return undefined;
  for (const gone of ["undefined", "null", "null | undefined"]) {
    const kept = from.split(" | ").filter((part) => !gone.split(" | ").includes(part));
    const joined = kept.join(" | ");
    if (joined !== from && (joined === to || (kept.length === 1 && joined === `(${to})`))) return gone;
  }
  return undefined;
}

interface Variable {
  /** Its first value may say more than its declaration. */
  readonly narrowed: boolean;
  /** There is nothing to learn, or the compiler makes up its type from all uses. */
  readonly settled: boolean;
}

function variablesOf(program: Program): Map<string, Variable> {
  const variables = new Map<string, Variable>();
  const evident = evidentTypes(program);
  for (const statement of program.body) {
    const node = statement.type === "ExportNamedDeclaration" ? statement.declaration : statement;
    if (node?.type !== "VariableDeclaration") continue;
    for (const { id, init } of node.declarations) {
      const type = id.typeAnnotation?.typeAnnotation;
      const open = type === undefined && (init === null || isEmpty(init));
      for (const name of namesIn(id)) {
        variables.set(name, {
          narrowed: type !== undefined && init !== null && mayBeUnion(type),
          settled: evident.has(name) || open,
        });
      }
    }
  }
  return variables;
}

/** Names that a pattern binds, and some that it only mentions, which are then no variables of the cell. */
function namesIn(pattern: Node): string[] {
  const names: string[] = [];
  walk(pattern, (node, parent) => {
    if (/^TS/.test(node.type) || isFunction(node)) return false;
    const key = parent?.type === "Property" && parent.key === node && !parent.shorthand;
    const value = parent?.type === "AssignmentPattern" && parent.right === node;
    if (node.type === "Identifier" && !key && !value) names.push(node.name);
    return true;
  });
  return names;
}

/** Values from which the compiler makes no type: it waits for what is assigned, or put in. */
function isEmpty(node: Node): boolean {
  return (
    (node.type === "ArrayExpression" && node.elements.length === 0) ||
    (node.type === "Literal" && node.value === null && node.raw === "null") ||
    (node.type === "Identifier" && node.name === "undefined")
  );
}

function mayBeUnion(type: Node): boolean {
  if (type.type === "TSParenthesizedType") return mayBeUnion(type.typeAnnotation);
  if (type.type === "TSTypeReference")
    return type.typeName.type !== "Identifier" || !isLibraryType(type.typeName.name);
  return /^TS(?:UnionType|IndexedAccessType|ConditionalType|IntersectionType|TypeQuery|ImportType)$/.test(
    type.type,
  );
}

/** Whether what follows a statement may know more than what precedes it, because some ways through it do not lead there. */
function decides(statement: Node): boolean {
  if (/^(?:While|DoWhile)Statement$/.test(statement.type)) return true;
  if (!/^(?:If|For|ForOf|ForIn|Switch|Try|Labeled|Block)/.test(statement.type)) return false;
  let found = false;
  visit(statement, (node, parent) => {
    if (/^(?:Throw|Break|Continue|While|DoWhile)Statement$/.test(node.type)) found = true;
    if (node.type === "AssignmentExpression") found = true;
    if (node.type === "CallExpression" && isStatement(parent) && !isOutput(node)) found = true;
    return !found;
  });
  return found;
}

function isStatement(parent: Node | null): boolean {
  return parent?.type === "ExpressionStatement" || parent?.type === "AwaitExpression";
}

/** Calls that many cells consist of, and that say nothing about types. */
function isOutput({ callee }: { callee: Node }): boolean {
  const object = callee.type === "MemberExpression" ? callee.object : callee;
  return object.type === "Identifier" && /^(?:console|display)$/.test(object.name);
}

/** Visits what runs as part of a cell, without its functions and classes. */
function visit(node: Node, enter: (node: Node, parent: Node | null) => boolean): void {
  walk(node, (inner, parent) => !isFunction(inner) && !/^Class/.test(inner.type) && enter(inner, parent));
}

/** Variables in a piece of code and properties of them, each with all that it begins with: of `a.b.c` also `a.b` and `a`. */
function forEachReference(root: Node, found: (reference: Reference) => void): void {
  visit(root, (node, parent) => {
    if (/^TS(?!\w*(?:Expression|Assertion)$)/.test(node.type)) return false;
    // The method that is called is not a property that somebody looks at.
    const called = parent?.type === "CallExpression" && parent.callee === node;
    const reference = called && node.type === "MemberExpression" ? undefined : referenceOf(node);
    if (reference) found(reference);
    // A property's name is no variable.
    const named =
      (node.type === "MemberExpression" && !node.computed && node.object) ||
      (node.type === "Property" && !node.computed && !node.shorthand && node.value);
    if (named) forEachReference(named, found);
    return !named;
  });
}

function referenceOf(node: Node, depth = 0): Reference | undefined {
  switch (node.type) {
    case "Identifier":
      return node.name === "undefined" ? undefined : { text: node.name, root: node.name };
    case "ChainExpression":
    case "ParenthesizedExpression":
    case "TSNonNullExpression":
      return referenceOf(node.expression, depth);
    case "MemberExpression": {
      const object = depth < deepest ? referenceOf(node.object, depth + 1) : undefined;
      if (!object) return undefined;
      if (!node.computed)
        return node.property.type === "Identifier"
          ? { text: `${object.text}.${node.property.name}`, root: object.root }
          : undefined;
      const { property } = node;
      if (property.type !== "Literal" || !/^(?:string|number)$/.test(typeof property.value)) return undefined;
      return { text: `${object.text}[${property.raw}]`, root: object.root };
    }
    default:
      return undefined;
  }
}
