import { type Node, type Program, parseSync, visitorKeys } from "oxc-parser";
import { CellSyntaxError, type Diagnostic } from "./language.js";

/** A cell as TypeScript sees it: parsed, with the names it declares for later cells. */
export interface Source {
  /** What is compiled: the cell, or the cell in parentheses if it is an object literal. */
  readonly code: string;
  /** How many characters of `code` precede the cell's first. */
  readonly shift: 0 | 1;
  readonly lang: "ts" | "tsx";
  readonly program: Program;
  readonly errors: readonly Diagnostic[];
  readonly declarations: readonly Declaration[];
  /** Whether it extends the global scope or a module for good (`declare global`, `declare module "x"`). */
  readonly augments: boolean;
}

/** A name that later cells see. */
export interface Declaration {
  readonly name: string;
  readonly kind: "let" | "const" | "function" | "class" | "enum" | "namespace" | "type" | "import";
  /** Where the name is in `code`. */
  readonly start: number;
  /** Whether the cell exports it itself. */
  readonly exported: boolean;
  /** For an import: the declaration, with only this name in it, as later cells need it. */
  readonly statement?: string;
  /** For a variable: whether it was declared with a type. */
  readonly annotated?: boolean;
  /** For an import: whether it is of a type only (`import type`). */
  readonly typeOnly?: boolean;
}

/** A name means a value, a type, or both; what declares one of these leaves the other as it was. */
export type Meaning = "value" | "type";

export function meaningsOf({ kind, typeOnly = false }: Declaration): readonly Meaning[] {
  if (kind === "type" || typeOnly) return ["type"];
  return kind === "let" || kind === "const" || kind === "function" ? ["value"] : ["value", "type"];
}

let last: { cell: string; source: Source } | undefined;

/** Parses a cell. The same cell is checked, transformed and accepted in turn, so the last result is kept. */
export function parseCell(cell: string): Source {
  if (last?.cell !== cell) last = { cell, source: parse(cell) };
  return last.source;
}

/** Parses a cell and throws {@link CellSyntaxError} if it is not TypeScript. */
export function parseValidCell(cell: string): Source {
  const source = parseCell(cell);
  if (source.errors.length > 0) throw new CellSyntaxError([...source.errors]);
  return source;
}

function parse(cell: string): Source {
  // Whoever writes a cell such as `{ a: 1, b }` means an object, as in Node's own REPL.
  const trimmed = cell.trim();
  if (trimmed.startsWith("{") && trimmed.endsWith("}")) {
    const parenthesized = parseAs("ts", `(${cell})`, 1);
    const [first] = parenthesized.program.body;
    if (parenthesized.errors.length === 0 && first?.type === "ExpressionStatement") {
      const expression =
        first.expression.type === "ParenthesizedExpression" ? first.expression.expression : null;
      if (expression?.type === "ObjectExpression" && expression.properties.length > 0) return parenthesized;
    }
  }
  const plain = parseAs("ts", cell, 0);
  if (plain.errors.length === 0) return plain;
  // JSX and old-style casts (`<T>x`) exclude each other, so the grammar that parses is taken.
  const jsx = parseAs("tsx", cell, 0);
  return (jsx.errors[0]?.start ?? Number.POSITIVE_INFINITY) > (plain.errors[0]?.start ?? 0) ? jsx : plain;
}

function parseAs(lang: "ts" | "tsx", code: string, shift: 0 | 1): Source {
  const { program, errors } = parseSync(`cell.${lang}`, code, {
    lang,
    sourceType: "module",
    showSemanticErrors: true,
  });
  return {
    code,
    shift,
    lang,
    program,
    errors: errors.filter((error) => error.severity === "Error").map((error) => toDiagnostic(error, shift)),
    declarations: program.body.flatMap((statement) => declarationsOf(statement, code)),
    augments: program.body.some(
      (node) => node.type === "TSModuleDeclaration" && (node.global || node.id.type === "Literal"),
    ),
  };
}

interface ParserError {
  readonly message: string;
  readonly codeframe: string | null;
  readonly labels: readonly { readonly start: number; readonly end: number }[];
}

/** A parser's complaint at the cell's own positions. */
export function toDiagnostic(error: ParserError, shift: number): Diagnostic {
  const label = error.labels[0];
  const number = /^TS\((\d+)\): /.exec(error.message) ?? /TS\((\d+)\): /.exec(error.codeframe ?? "");
  return {
    severity: "error",
    code: Number(number?.[1] ?? 0),
    message: error.message.replace(/^TS\(\d+\): /, ""),
    start: Math.max(0, (label?.start ?? 0) - shift),
    end: Math.max(0, (label?.end ?? 0) - shift),
  };
}

type Statement = Program["body"][number];

function declarationsOf(statement: Statement, code: string, exported = false): Declaration[] {
  const declare = (
    id: { name: string; start: number },
    kind: Declaration["kind"],
    text?: string,
    typeOnly = false,
  ): Declaration => ({
    name: id.name,
    kind,
    start: id.start,
    exported,
    ...(text === undefined ? {} : { statement: text, typeOnly }),
  });
  switch (statement.type) {
    case "ExportNamedDeclaration":
      return statement.declaration ? declarationsOf(statement.declaration, code, true) : [];
    case "ExportDefaultDeclaration": {
      const inner = statement.declaration;
      return inner.type === "FunctionDeclaration" || inner.type === "ClassDeclaration"
        ? declarationsOf(inner, code)
        : [];
    }
    case "VariableDeclaration": {
      const kind = statement.kind === "let" || statement.kind === "var" ? "let" : "const";
      return statement.declarations.flatMap(({ id }) =>
        boundNames(id).map((bound) => ({ ...declare(bound, kind), annotated: Boolean(id.typeAnnotation) })),
      );
    }
    case "FunctionDeclaration":
    case "TSDeclareFunction":
      return statement.id ? [declare(statement.id, "function")] : [];
    case "ClassDeclaration":
      return statement.id ? [declare(statement.id, "class")] : [];
    case "TSEnumDeclaration":
      return [declare(statement.id, "enum")];
    case "TSModuleDeclaration": {
      if (statement.global || statement.id.type === "Literal") return [];
      const { start, end } = statement.id;
      return [declare({ name: /^[^.\s]+/.exec(code.slice(start, end))?.[0] ?? "", start }, "namespace")];
    }
    case "TSInterfaceDeclaration":
    case "TSTypeAliasDeclaration":
      return [declare(statement.id, "type")];
    case "TSImportEqualsDeclaration":
      return statement.moduleReference.type === "TSExternalModuleReference"
        ? [declare(statement.id, "import", code.slice(statement.start, statement.end))]
        : [declare(statement.id, "namespace")];
    case "ImportDeclaration": {
      const from = code.slice(statement.source.start, statement.end).replace(/;$/, "");
      return statement.specifiers.map((specifier) => {
        const type =
          statement.importKind === "type" ||
          (specifier.type === "ImportSpecifier" && specifier.importKind === "type");
        const text = code.slice(specifier.start, specifier.end).replace(/^type\s+/, "");
        const clause = specifier.type === "ImportSpecifier" ? `{ ${text} }` : text;
        return declare(
          specifier.local,
          "import",
          `import ${type ? "type " : ""}${clause} from ${from};`,
          type,
        );
      });
    }
    default:
      return nestedVars(statement).map((bound) => declare(bound, "let"));
  }
}

interface Bound {
  readonly name: string;
  readonly start: number;
}

/** The names that `var` declares anywhere below a node, except in functions; they belong to the whole cell. */
export function nestedVars(root: Node): Bound[] {
  const names: Bound[] = [];
  walk(root, (node) => {
    if (isFunction(node) || node.type === "StaticBlock") return false;
    if (node.type === "VariableDeclaration" && node.kind === "var") {
      for (const { id } of node.declarations) names.push(...boundNames(id));
    }
    return true;
  });
  return names;
}

/** The names that a binding pattern binds. */
export function boundNames(pattern: Node): Bound[] {
  switch (pattern.type) {
    case "Identifier":
      return [pattern];
    case "ObjectPattern":
      return pattern.properties.flatMap((property) =>
        boundNames(property.type === "RestElement" ? property.argument : property.value),
      );
    case "ArrayPattern":
      return pattern.elements.flatMap((element) => (element ? boundNames(element) : []));
    case "AssignmentPattern":
      return boundNames(pattern.left);
    case "RestElement":
      return boundNames(pattern.argument);
    default:
      return [];
  }
}

export function isFunction(node: Node): boolean {
  return (
    node.type === "FunctionDeclaration" ||
    node.type === "FunctionExpression" ||
    node.type === "ArrowFunctionExpression"
  );
}

/** Visits a tree, parents first; `enter` returns false to skip a node's children. */
export function walk(
  node: Node,
  enter: (node: Node, parent: Node | null) => boolean,
  leave?: (node: Node, parent: Node | null) => void,
  parent: Node | null = null,
): void {
  if (enter(node, parent)) {
    for (const key of visitorKeys[node.type] ?? []) {
      const child = (node as unknown as Record<string, Node | (Node | null)[] | null | undefined>)[key];
      if (Array.isArray(child)) {
        for (const item of child) if (item) walk(item, enter, leave, node);
      } else if (child) {
        walk(child, enter, leave, node);
      }
    }
  }
  leave?.(node, parent);
}
