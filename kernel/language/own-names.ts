/**
 * Names that cells declare and packages look up. What V8's REPL mode declares, all code of the process sees: after a cell's
 * `const URL = "https://..."`, `fetch` and every package that makes a URL would fail, and after `const { window } = new JSDOM()`
 * packages would take the process for a browser. So where a cell declares such a name, it and later cells mean a name of the
 * session's own, which looks the same.
 */
import MagicString from "magic-string";
import { type Node, type Program, visitorKeys } from "oxc-parser";
import { marked } from "../ipc/marks.js";
import { ownMark } from "../ipc/names.js";
import { boundNames, isFunction, nestedVars } from "./source.js";

/** Names by which packages find out where they run. */
const elsewhere = [
  ...[
    "window",
    "document",
    "self",
    "navigator",
    "location",
    "history",
    "screen",
    "localStorage",
    "sessionStorage",
  ],
  ...["XMLHttpRequest", "HTMLElement", "Element", "Node", "Image", "Worker", "importScripts", "define"],
  ...["Deno", "Bun", "WorkerGlobalScope", "requestAnimationFrame"],
];

/** Node's own `require`, `module` and so on are in the scope of each package's file, so that cells' can't be taken for them. */
const perFile = new Set(["require", "module", "exports", "__filename", "__dirname"]);

const shared = new Set(
  [...Object.getOwnPropertyNames(globalThis), ...elsewhere].filter((name) => !perFile.has(name)),
);

/** Whether code outside of the cells may look the name up. */
export const isShared = (name: string): boolean => shared.has(name);

/** The session's own name in place of a shared one. */
const ownName = (name: string): string => name + ownMark;

/**
 * Has a cell's JavaScript mean the session's own names wherever it refers to one of `names`, or declares it.
 *
 * @returns null if it does neither.
 */
export const withOwnNames = (
  code: string,
  program: Program,
  names: ReadonlySet<string>,
): MagicString | null => renamedTo(code, program, new Map([...names].map((name) => [name, ownName(name)])));

/**
 * Renames what code refers to or declares at its top, and leaves what is of the same name in inner scopes.
 *
 * @param renames the new name of each.
 * @returns null if nothing is to be renamed.
 */
export function renamedTo(
  code: string,
  program: Program,
  renames: ReadonlyMap<string, string>,
): MagicString | null {
  if (renames.size === 0) return null;
  const text = new MagicString(code);
  let changed = false;
  const visit = (node: Node, parent: Node | null, hidden: ReadonlySet<string>): void => {
    const inside = hiddenIn(node, renames, hidden);
    const newName = (name: string) => (inside.has(name) ? undefined : renames.get(name));
    const own = node.type === "Identifier" ? newName(node.name) : undefined;
    if (node.type === "Identifier" && own !== undefined) {
      const place = placeOf(node, parent);
      if (place !== "none") {
        const { name, start } = node;
        const end = start + name.length; // a type may follow
        // The name of a function or class that is declared is written anew later.
        const plain =
          /^(?:Function|Class)Declaration$/.test(parent?.type ?? "") ||
          /^(?:Import|Export)/.test(parent?.type ?? "");
        if (place === "shorthand") text.update(start, end, marked(`${name}: ${own}`, name));
        else if (place === "import") text.update(start, end, `${name} as ${own}`);
        else text.update(start, end, plain ? own : marked(own, name));
        changed = true;
      }
    }
    if (node.type === "Property" && node.shorthand && node.value.type === "AssignmentPattern") {
      // `{ a = 1 }`
      const { left, right } = node.value;
      const to = left.type === "Identifier" ? newName(left.name) : undefined;
      if (left.type === "Identifier" && to !== undefined) {
        text.update(left.start, left.start + left.name.length, marked(`${left.name}: ${to}`, left.name));
        changed = true;
      }
      visit(right, node.value, inside);
      return;
    }
    for (const key of visitorKeys[node.type] ?? []) {
      const child = (node as unknown as Record<string, Node | (Node | null)[] | null | undefined>)[key];
      // `{ a }` has one text for key and value.
      if (key === "key" && node.type === "Property" && node.shorthand) continue;
      if (key === "imported" && node.type === "ImportSpecifier" && isSamePlace(node.imported, node.local))
        continue;
      if (Array.isArray(child)) {
        for (const item of child) if (item) visit(item, node, inside);
      } else if (child) {
        visit(child, node, inside);
      }
    }
  };
  visit(program, null, new Set());
  return changed ? text : null;
}

const isSamePlace = (a: Node, b: Node): boolean => a.start === b.start && a.end === b.end;

/** What an identifier is where it stands: a reference or a declaration, one in a shorthand, or no variable's name. */
function placeOf(node: Node, parent: Node | null): "name" | "shorthand" | "import" | "none" {
  switch (parent?.type) {
    case "MemberExpression":
      return parent.property === node && !parent.computed ? "none" : "name";
    case "Property":
      if (parent.shorthand) return "shorthand";
      return parent.key === node && !parent.computed ? "none" : "name";
    case "MethodDefinition":
    case "PropertyDefinition":
    case "AccessorProperty":
    case "TSPropertySignature":
    case "TSMethodSignature":
      return parent.key === node && !parent.computed ? "none" : "name";
    case "ImportSpecifier":
      if (parent.local !== node && !isSamePlace(parent.local, node)) return "none";
      return isSamePlace(parent.imported, parent.local) ? "import" : "name";
    case "TSQualifiedName":
      return parent.right === node ? "none" : "name";
    case "TSEnumMember":
    case "TSTypeParameter":
    case "ExportSpecifier":
    case "LabeledStatement":
    case "BreakStatement":
    case "ContinueStatement":
    case "MetaProperty":
      return "none";
    default:
      return "name";
  }
}

/** Of `names`, those that mean something else inside of a node: what scopes between it and the top declare. */
function hiddenIn(
  node: Node,
  names: ReadonlyMap<string, string>,
  hidden: ReadonlySet<string>,
): ReadonlySet<string> {
  const found = bindingsOf(node).filter((name) => names.has(name) && !hidden.has(name));
  return found.length > 0 ? new Set([...hidden, ...found]) : hidden;
}

function bindingsOf(node: Node): string[] {
  const namesOf = (patterns: readonly Node[]) => patterns.flatMap(boundNames).map(({ name }) => name);
  if (isFunction(node)) {
    const { params, body, id } = node as unknown as {
      params: readonly Node[];
      body: Node | null;
      id?: Node | null;
    };
    const own = id && node.type === "FunctionExpression" ? [id] : [];
    const vars = body === null ? [] : nestedVars(body).map(({ name }) => name);
    return [...namesOf([...own, ...params]), ...vars];
  }
  switch (node.type) {
    case "ClassExpression":
      return node.id ? [node.id.name] : [];
    case "CatchClause":
      return node.param ? namesOf([node.param]) : [];
    case "ForStatement":
      return node.init ? lexicalNames([node.init]) : [];
    case "ForInStatement":
    case "ForOfStatement":
      return lexicalNames([node.left]);
    case "BlockStatement":
    case "StaticBlock":
      return lexicalNames(node.body);
    case "SwitchStatement":
      return node.cases.flatMap(({ consequent }) => lexicalNames(consequent));
    default:
      return [];
  }
}

/** What statements declare for the block that they stand in. */
function lexicalNames(statements: readonly Node[]): string[] {
  return statements.flatMap((node) => {
    if (node.type === "VariableDeclaration")
      return node.kind === "var"
        ? []
        : node.declarations.flatMap(({ id }) => boundNames(id)).map(({ name }) => name);
    if (node.type === "FunctionDeclaration" || node.type === "ClassDeclaration")
      return node.id ? [node.id.name] : [];
    return [];
  });
}
