import MagicString from "magic-string";
import type { Node, Program } from "oxc-parser";
import { isFunction, walk } from "./source.js";

/** Anything on a node that a certain kind of node has. */
type Loose = Node & {
  readonly [key: string]: unknown;
  readonly key: Node;
  readonly value: Node | null;
  readonly id: Node | null;
  readonly body: Node | null;
  readonly expression: Node;
  readonly typeAnnotation?: Node | null;
  readonly returnType?: Node | null;
  readonly params: readonly Node[];
  readonly implements?: readonly Node[];
};

/**
 * TypeScript without its types, every other character as its author wrote it: what a function's `toString` shows.
 *
 * @returns null where types alone can't be taken out: JSX, enums, namespaces with values, parameter properties,
 * `import x = ...`, `export = ...`, and class fields that `[[Set]]` their value.
 */
export function eraseTypes(code: string, program: Program, definesFields = true): MagicString | null {
  const eraser = new Eraser(code, definesFields);
  walk(
    program,
    (node, parent) => eraser.enter(node as Loose, parent),
    (node, parent) => eraser.leave(node, parent),
  );
  return eraser.result();
}

class Eraser {
  private readonly edits: { readonly start: number; readonly end: number; readonly text: string }[] = [];
  /** Where something was taken out: what follows on the next line must not become part of it. */
  private readonly ends = new Set<number>();
  private possible = true;

  constructor(
    private readonly code: string,
    private readonly definesFields: boolean,
  ) {}

  result(): MagicString | null {
    if (!this.possible) return null;
    const text = new MagicString(this.code);
    for (const { start, end, text: replacement } of this.edits) {
      if (end === start) text.appendLeft(start, replacement);
      else if (replacement === "") text.remove(start, end);
      else text.update(start, end, replacement);
    }
    return text;
  }

  /** Whether a node's children are to be visited, too. */
  enter(node: Loose, parent: Node | null): boolean {
    switch (node.type as string) {
      case "TSTypeAnnotation":
      case "TSTypeParameterDeclaration":
      case "TSTypeParameterInstantiation":
        this.erase(node.start, node.end);
        return false;
      case "TSInterfaceDeclaration":
      case "TSTypeAliasDeclaration":
      case "TSDeclareFunction":
      case "TSNamespaceExportDeclaration":
      case "TSAbstractMethodDefinition":
      case "TSAbstractPropertyDefinition":
      case "TSAbstractAccessorProperty":
      case "TSIndexSignature":
        return this.statement(node, parent);
      case "TSModuleDeclaration":
      case "TSEnumDeclaration":
      case "TSImportEqualsDeclaration":
        if (node.declare === true || node.global === true || node.importKind === "type")
          return this.statement(node, parent);
        return this.impossible();
      case "TSClassImplements":
        return false;
      case "TSExportAssignment":
      case "TSParameterProperty":
      case "JSXElement":
      case "JSXFragment":
      case "Decorator":
        return this.impossible();
      case "TSAsExpression":
      case "TSSatisfiesExpression":
      case "TSNonNullExpression":
      case "TSInstantiationExpression":
        this.erase(node.expression.end, node.end);
        walk(
          node.expression,
          (child, above) => this.enter(child as Loose, above),
          (child, above) => this.leave(child, above),
          node,
        );
        return false;
      case "TSTypeAssertion":
        return this.assertion(node);
      case "ImportDeclaration":
      case "ExportNamedDeclaration":
      case "ExportAllDeclaration":
        return this.module(node, parent);
      case "ExportDefaultDeclaration":
        if (/^TS(?:Interface|DeclareFunction)/.test((node.declaration as Node).type))
          return this.statement(node, parent);
        return true;
      case "VariableDeclaration":
        return node.declare === true ? this.statement(node, parent) : true;
      case "VariableDeclarator":
        if (node.definite === true) this.mark("!", (node.id as Loose).typeAnnotation?.start ?? node.end);
        return true;
      case "ClassDeclaration":
      case "ClassExpression":
        return this.class(node, parent);
      case "MethodDefinition":
      case "PropertyDefinition":
      case "AccessorProperty":
        return this.member(node, parent);
      default:
        if (isFunction(node)) this.function(node);
        else if (node.optional === true && /^(?:Identifier|\w+Pattern|RestElement)$/.test(node.type))
          this.mark("?", node.typeAnnotation?.start ?? node.end);
        return true;
    }
  }

  /** A type at the end of a statement without a semicolon kept it apart from the next line. */
  leave(node: Node, parent: Node | null): void {
    const inHead = /^For(?:In|Of)?Statement$/.test(parent?.type ?? "") && node.type === "VariableDeclaration";
    if (
      !inHead &&
      this.ends.has(node.end) &&
      this.code[node.end - 1] !== ";" &&
      /^(?:Expression|Return|Throw)Statement$|^VariableDeclaration$|^PropertyDefinition$|^ExportDefault/.test(
        node.type,
      )
    )
      this.edits.push({ start: node.end, end: node.end, text: ";" });
  }

  private impossible(): false {
    this.possible = false;
    return false;
  }

  private erase(start: number, end: number): void {
    if (start === end) return;
    this.edits.push({ start, end, text: "" });
    this.ends.add(end);
  }

  private statement(node: Node, parent: Node | null): false {
    const exported = parent?.type === "ExportNamedDeclaration" ? parent : node;
    this.edits.push({ start: exported.start, end: exported.end, text: ";" });
    return false;
  }

  /** Takes out a mark that stands before `end`. */
  private mark(mark: string, end: number): void {
    const at = this.code.lastIndexOf(mark, end - 1);
    this.erase(at, at + 1);
  }

  private assertion(node: Loose): boolean {
    const { expression } = node;
    this.erase(node.start, expression.start);
    // At the beginning of a statement or of an arrow's body, these would mean something else.
    if (
      /^(?:\{|function\b|async\b|class\b|let\b)/.test(this.code.slice(expression.start, expression.start + 9))
    ) {
      this.edits.push({ start: expression.start, end: expression.start, text: "(" });
      this.edits.push({ start: expression.end, end: expression.end, text: ")" });
    }
    walk(
      expression,
      (child, above) => this.enter(child as Loose, above),
      (child, above) => this.leave(child, above),
      node,
    );
    return false;
  }

  private module(node: Loose, parent: Node | null): boolean {
    if (node.importKind === "type" || node.exportKind === "type") return this.statement(node, parent);
    const specifiers = (node.specifiers ?? []) as readonly Loose[];
    const types = specifiers.filter(({ importKind, exportKind }) => (importKind ?? exportKind) === "type");
    if (types.length > 0) {
      const inBraces = specifiers.filter(
        ({ type }) => type === "ImportSpecifier" || type === "ExportSpecifier",
      );
      const kept = inBraces.filter((each) => !types.includes(each));
      this.edits.push({
        start: inBraces[0]!.start,
        end: inBraces.at(-1)!.end,
        text: kept.map(({ start, end }) => this.code.slice(start, end)).join(", ") || " ",
      });
      return false;
    }
    const { declaration } = node as { declaration?: Loose | null };
    if (declaration?.declare === true) return this.statement(node, parent);
    return true;
  }

  private class(node: Loose, parent: Node | null): boolean {
    if (node.declare === true) return this.statement(node, parent);
    if (node.abstract === true) this.words(node.start, node.id?.start ?? node.body!.start);
    const first = node.implements?.[0];
    if (first !== undefined)
      this.erase(this.code.lastIndexOf("implements", first.start), node.implements!.at(-1)!.end);
    return true;
  }

  private member(node: Loose, parent: Node | null): boolean {
    if (node.declare === true || node.value?.type === "TSEmptyBodyFunctionExpression")
      return this.statement(node, parent);
    if (!this.definesFields && node.type === "PropertyDefinition") return this.impossible();
    this.words(node.start, node.key.start);
    if (node.optional === true || node.definite === true) {
      const mark = node.definite === true ? "!" : "?";
      const at = this.code.indexOf(mark, node.key.end);
      this.erase(at, at + 1);
    }
    return true;
  }

  /** Takes out modifiers that only TypeScript has. */
  private words(start: number, end: number): void {
    const modifier =
      /\/\/.*|\/\*[\s\S]*?\*\/|\b(?:public|private|protected|override|readonly|abstract)\b\s*|[\s\S]/y;
    modifier.lastIndex = start;
    for (let at = start; at < end; at = modifier.lastIndex) {
      const [found] = modifier.exec(this.code)!;
      if (found.length > 1 && !found.startsWith("/"))
        this.edits.push({ start: at, end: modifier.lastIndex, text: "" });
    }
  }

  private function(node: Loose): void {
    // `async` and its parameters, and a list of parameters and its arrow, share a line.
    if (node.type === "ArrowFunctionExpression") {
      const { typeParameters: parameters, returnType: result } = node as unknown as {
        typeParameters?: Node | null;
        returnType?: Node | null;
      };
      if (parameters) this.erase(parameters.end, this.skipBlanks(parameters.end, 1));
      if (result) this.erase(this.skipBlanks(result.start - 1, -1) + 1, result.start);
    }
    const [first, second] = node.params as readonly (Loose | undefined)[];
    if (first?.type !== "Identifier" || (first as unknown as { name: string }).name !== "this") return;
    const comma = /^\s*,/.exec(this.code.slice(first.end));
    const annotation = first.typeAnnotation;
    const end = second?.start ?? first.end + (comma?.[0].length ?? 0);
    // Its type is taken out by itself.
    this.edits.push({ start: first.start, end: annotation?.start ?? end, text: "" });
    if (annotation && end > annotation.end) this.edits.push({ start: annotation.end, end, text: "" });
  }

  private skipBlanks(at: number, step: 1 | -1): number {
    let end = at;
    while (/\s/.test(this.code[end] ?? "")) end += step;
    return end;
  }
}
