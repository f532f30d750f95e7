import type { EncodedSourceMap, SourceMapInput } from "@jridgewell/remapping";
import remapping from "@jridgewell/remapping";
import MagicString from "magic-string";
import { type Node, type Program, parseSync } from "oxc-parser";
import { transformSync } from "oxc-transform";
import { marked } from "../ipc/marks.js";
import { interruptFlag, runtimeGlobal, writtenName } from "../ipc/names.js";
import type { CompilerOptions } from "./config.js";
import { eraseTypes } from "./erase.js";
import { type Cell, CellSyntaxError, type TransformedCell } from "./language.js";
import { isShared, withOwnNames } from "./own-names.js";
import {
  isFunction,
  meaningsOf,
  nestedVars,
  parseValidCell,
  type Source,
  toDiagnostic,
  walk,
} from "./source.js";
import { loadTypeScript } from "./typescript.js";

// `typeof` keeps a function working in another realm; here V8 optimises it away.
const guard = `typeof ${interruptFlag}!="undefined"&&${interruptFlag}&&${runtimeGlobal}.interrupt()`;

/**
 * Turns a cell into JavaScript for V8's REPL mode. Every name that the cell declares becomes a `let` or a class of the
 * session, which later cells may declare again in REPL mode.
 *
 * @param own names of earlier cells that packages look up, too (`isShared`).
 * @throws CellSyntaxError if the cell is not TypeScript.
 */
export function transformCell(
  cell: Cell,
  options: CompilerOptions = {},
  own: readonly string[] = [],
): TransformedCell {
  const source = parseValidCell(cell.code);
  const url = cellUrl(cell);
  const names = new Set([...own, ...sharedNamesOf(source)]);
  const { code, program, map } = renamed(toJavaScript(source, url, options), names);
  const text = rewrite(code, program ?? programOf(code), endsInExpression(source.program));
  let composed: string | undefined;
  return {
    code: `${text.toString()}\n//# sourceURL=${url}`,
    url,
    // Most cells never need their source map, which costs more than the transform itself.
    get map() {
      composed ??= composeMap(text, map(), cell, source.shift);
      return composed;
    },
  };
}

const programOf = (code: string): Program =>
  parseSync("cell.js", code, { lang: "js", sourceType: "module" }).program;

/** The values that a cell declares under names that packages look up, too. */
function sharedNamesOf({ declarations }: Source): string[] {
  return declarations
    .filter((declaration) => isShared(declaration.name) && meaningsOf(declaration).includes("value"))
    .map(({ name }) => name);
}

function renamed(compiled: Compiled, names: ReadonlySet<string>): Compiled {
  if (names.size === 0) return compiled;
  const text = withOwnNames(compiled.code, compiled.program ?? programOf(compiled.code), names);
  if (text === null) return compiled;
  const before = (_file: string, { depth }: { depth: number }) => (depth === 1 ? compiled.map() : null);
  return {
    code: text.toString(),
    map: () => remapping(mapOf(text, "cell.js"), before) as unknown as SourceMapInput,
  };
}

/** What V8 calls a cell's script. */
export function cellUrl(cell: Cell): string {
  return `cell-${cell.id}.ts`;
}

/**
 * Prepares the CommonJS body of a module that the notebook imports: inserts interrupt guards without moving lines, and
 * finds what the module requires while it is loaded.
 */
export function prepareModule(code: string): { code: string; requires: string[] } {
  const { program } = parseSync("module.js", code, { lang: "js", sourceType: "module" });
  const text = new MagicString(code);
  insertGuards(program, text);
  const requires = new Set<string>();
  walk(program, (node) => {
    if (
      node.type === "CallExpression" &&
      node.callee.type === "Identifier" &&
      node.callee.name === "require"
    ) {
      const [id] = node.arguments;
      if (id?.type === "Literal" && typeof id.value === "string") requires.add(id.value);
    }
    return !isFunction(node);
  });
  return { code: text.toString(), requires: [...requires] };
}

/** JavaScript, and how to get its source map. */
interface Compiled {
  readonly code: string;
  /** Its syntax tree, if there is one already. */
  readonly program?: Program;
  map(): SourceMapInput;
}

function toJavaScript(source: Source, url: string, options: CompilerOptions): Compiled {
  if (needsTypeScript(source.program)) return toJavaScriptByTypeScript(source, url, options);
  return erased(source, options) ?? toJavaScriptByPrinting(source, url, options);
}

/** The cell as written, without its types, if that is JavaScript. */
function erased(source: Source, options: CompilerOptions): Compiled | null {
  const text = eraseTypes(source.code, source.program, options.useDefineForClassFields !== false);
  if (text === null) return null;
  const { hashbang } = source.program;
  if (hashbang) text.remove(hashbang.start, hashbang.end);
  const code = text.toString();
  const { program, errors } = parseSync("cell.js", code, { lang: "js", sourceType: "module" });
  return errors.length > 0 ? null : { code, program, map: () => mapOf(text, "cell.ts") };
}

function mapOf(text: MagicString, source: string): EncodedSourceMap {
  return text.generateMap({ source, hires: "boundary" }) as unknown as EncodedSourceMap;
}

function toJavaScriptByPrinting(source: Source, url: string, options: CompilerOptions): Compiled {
  const classic = options.jsx === "react";
  const result = transformSync(url, source.code, {
    lang: source.lang,
    sourceType: "module",
    sourcemap: true,
    jsx: {
      runtime: classic ? "classic" : "automatic",
      development: options.jsx === "react-jsxdev",
      ...(options.jsxImportSource && !classic ? { importSource: options.jsxImportSource } : {}),
      ...(options.jsxFactory && classic ? { pragma: options.jsxFactory } : {}),
      ...(options.jsxFragmentFactory && classic ? { pragmaFrag: options.jsxFragmentFactory } : {}),
    },
    assumptions: { setPublicClassFields: options.useDefineForClassFields === false },
    typescript: {
      // A later cell may use what this one only imports.
      onlyRemoveTypeImports: true,
      removeClassFieldsWithoutInitializer: options.useDefineForClassFields === false,
    },
  });
  const errors = result.errors.filter((error) => error.severity === "Error");
  if (errors.length > 0) throw new CellSyntaxError(errors.map((error) => toDiagnostic(error, source.shift)));
  return { code: result.code, map: () => result.map as SourceMapInput };
}

/** Whether the cell has decorators or `using`, which V8 does not run yet and oxc lowers only in part. */
function needsTypeScript(program: Program): boolean {
  let found = false;
  walk(program, (node) => {
    if (node.type === "Decorator" || (node.type === "VariableDeclaration" && /using$/.test(node.kind)))
      found = true;
    if (node.type === "AccessorProperty") found = true;
    return !found;
  });
  return found;
}

function toJavaScriptByTypeScript(source: Source, url: string, options: CompilerOptions): Compiled {
  const ts = loadTypeScript();
  const classic = options.jsx === "react";
  const { outputText, sourceMapText } = ts.transpileModule(source.code, {
    fileName: url.replace(/ts$/, source.lang),
    compilerOptions: {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      verbatimModuleSyntax: true,
      sourceMap: true,
      jsx: classic
        ? ts.JsxEmit.React
        : options.jsx === "react-jsxdev"
          ? ts.JsxEmit.ReactJSXDev
          : ts.JsxEmit.ReactJSX,
      jsxImportSource: options.jsxImportSource,
      jsxFactory: options.jsxFactory,
      jsxFragmentFactory: options.jsxFragmentFactory,
      experimentalDecorators: options.experimentalDecorators,
      emitDecoratorMetadata: options.emitDecoratorMetadata,
      useDefineForClassFields: options.useDefineForClassFields,
    },
  });
  return {
    code: outputText.slice(0, outputText.lastIndexOf("//# sourceMappingURL=")),
    map: () => JSON.parse(sourceMapText ?? "null") as SourceMapInput,
  };
}

/** Whether the cell has a result: its last statement is an expression. */
function endsInExpression(program: Program): boolean {
  const last = program.body.findLast((node) => node.type !== "EmptyStatement");
  return last?.type === "ExpressionStatement" || isDefaultExpression(last);
}

function isDefaultExpression(node: Program["body"][number] | undefined): boolean {
  return node?.type === "ExportDefaultDeclaration" && !/Declaration$/.test(node.declaration.type);
}

function rewrite(code: string, program: Program, hasResult: boolean): MagicString {
  const text = new MagicString(code);
  const body = program.body;
  // In this order: what ends at one place is closed from the inside out.
  rewriteAsync(program, text);
  insertGuards(program, text);
  // Imports and functions are hoisted; those already at the top stay in place.
  const first = body.find((node) => node.type !== "ImportDeclaration");
  const hoist = (node: Node) => {
    if (first && node.start > first.start) text.move(node.start, node.end, first.start);
  };
  const vars = [...new Set(nestedVars(program).map(({ name }) => name))];
  if (vars.length > 0) rewriteVars(program, text);
  const used = body.some((node) => node.type === "ImportDeclaration")
    ? usedNames(program)
    : new Set<string>();
  for (const node of body) {
    rewriteStatement(node, text, used, hoist);
    // What follows may be hoisted from between it and a line that would continue it.
    if (
      /^(?:Expression|Throw)Statement$|^VariableDeclaration$|^Export/.test(node.type) &&
      code[node.end - 1] !== ";"
    )
      text.appendRight(node.end, ";");
  }
  // `void 0`, or the directive would become the result of a cell that has none.
  const typescript = requiresFile(program)
    ? `await ${runtimeGlobal}.await(${runtimeGlobal}.typescript());`
    : "";
  text.prepend(`"use strict";void 0;${typescript}${vars.length > 0 ? `let ${vars.join(",")};` : ""}`);
  if (hasResult) boxResult(program, text);
  else text.append(`\n${runtimeGlobal}.box(void 0);`);
  return text;
}

/** Whether the code may require a file of the user's, rather than a package. */
function requiresFile(program: Program): boolean {
  let found = false;
  walk(program, (node) => {
    if (node.type === "CallExpression" && isRequire(node.callee)) {
      const [id] = node.arguments;
      found ||= id?.type !== "Literal" || (typeof id.value === "string" && /^[./]/.test(id.value));
    }
    return !found;
  });
  return found;
}

/** `require` or `require.resolve`. */
function isRequire(callee: Node): boolean {
  const called = callee.type === "MemberExpression" ? callee.object : callee;
  return called.type === "Identifier" && called.name === "require";
}

/** The result goes to the executor in a box, because V8's inspector would copy a string, however long. */
function boxResult(program: Program, text: MagicString): void {
  const last = program.body.findLast((node) => node.type !== "EmptyStatement");
  const result = last?.type === "ExportDefaultDeclaration" ? last.declaration : last;
  if (!result || (last?.type !== "ExportDefaultDeclaration" && last?.type !== "ExpressionStatement")) return;
  const { start, end } = result.type === "ExpressionStatement" ? result.expression : result;
  text.prependRight(start, `${runtimeGlobal}.box((`).appendLeft(end, "))");
}

function rewriteStatement(
  node: Program["body"][number],
  text: MagicString,
  used: Set<string>,
  hoist: (node: Node) => void,
): void {
  switch (node.type) {
    case "ImportDeclaration":
      text.update(node.start, node.end, importStatement(node, text.original, used));
      hoist(node);
      break;
    case "FunctionDeclaration":
      if (!node.id) break;
      // Without a name of its own, it calls the current function of that name, as a declaration does.
      text.update(
        node.start,
        node.id.end,
        `let ${node.id.name} = ${text.original.slice(node.start, node.id.start).trimEnd()}${marked("", ` ${writtenName(node.id.name)}`)}`,
      );
      text.appendLeft(node.end, ";");
      hoist(node);
      break;
    case "ClassDeclaration":
      // Its objects show the name that its author gave it.
      if (!node.id || writtenName(node.id.name) === node.id.name) break;
      text.update(node.start, node.id.end, `let ${node.id.name} = class ${writtenName(node.id.name)}`);
      text.appendLeft(node.end, ";");
      break;
    case "VariableDeclaration":
      if (node.kind === "const") text.update(node.start, node.start + node.kind.length, "let");
      break;
    case "ExportNamedDeclaration":
      if (node.declaration) {
        text.update(node.start, node.declaration.start, " ");
        rewriteStatement(node.declaration, text, used, hoist);
      } else if (node.source) {
        text.update(node.start, node.end, `await ${runtimeGlobal}.import(${node.source.raw});`);
      } else {
        text.remove(node.start, node.end);
      }
      break;
    case "ExportAllDeclaration":
      text.update(node.start, node.end, `await ${runtimeGlobal}.import(${node.source.raw});`);
      break;
    case "ExportDefaultDeclaration": {
      const inner = node.declaration;
      text.update(node.start, inner.start, " ");
      if ((inner.type === "FunctionDeclaration" || inner.type === "ClassDeclaration") && inner.id) {
        rewriteStatement(inner, text, used, hoist);
      } else {
        text.appendRight(inner.start, "(").appendLeft(inner.end, ")").appendRight(node.end, ";");
      }
      break;
    }
    default:
  }
}

type ImportDeclaration = Extract<Program["body"][number], { type: "ImportDeclaration" }>;

function importStatement(node: ImportDeclaration, code: string, used: Set<string>): string {
  const attributes = node.attributes.map(
    ({ key, value }) => `${code.slice(key.start, key.end)}: ${value.raw}`,
  );
  const options = attributes.length > 0 ? `{ with: { ${attributes.join(", ")} } }` : "";
  const call = (names: string) =>
    `await ${runtimeGlobal}.import(${[node.source.raw, options || (names && "void 0"), names].filter(Boolean).join(", ")})`;
  const properties: string[] = [];
  const required: string[] = [];
  let namespace = "";
  for (const specifier of node.specifiers) {
    const local = specifier.local.name;
    if (specifier.type === "ImportNamespaceSpecifier") {
      namespace = local;
      continue;
    }
    const imported =
      specifier.type === "ImportDefaultSpecifier"
        ? { start: 0, end: 0, name: "default" }
        : specifier.imported;
    const key = "name" in imported ? imported.name : imported.raw;
    properties.push(`${key}: ${local}`);
    // A name that the cell never uses may be a type, which does not exist at run time.
    if (used.has(local))
      required.push("name" in imported ? JSON.stringify(imported.name) : String(imported.raw));
  }
  const names = required.length > 0 ? `[${required.join(", ")}]` : "";
  if (namespace)
    return `let ${namespace} = ${call(names)}${properties.length > 0 ? `, { ${properties.join(", ")} } = ${namespace}` : ""};`;
  if (properties.length > 0) return `let { ${properties.join(", ")} } = ${call(names)};`;
  return `${call("")};`;
}

/** Names that the code refers to, except imports and property names. */
function usedNames(program: Program): Set<string> {
  const names = new Set<string>();
  walk(program, (node, parent) => {
    if (node.type === "ImportDeclaration") return false;
    if (node.type === "Identifier" && !isPropertyName(node, parent)) names.add(node.name);
    return true;
  });
  return names;
}

function isPropertyName(node: Node, parent: Node | null): boolean {
  switch (parent?.type) {
    case "MemberExpression":
      return parent.property === node && !parent.computed;
    case "Property":
      return parent.key === node && !parent.computed && !parent.shorthand;
    case "MethodDefinition":
    case "PropertyDefinition":
      return parent.key === node && !parent.computed;
    default:
      return false;
  }
}

/** Turns `var` declarations into assignments, because REPL mode does not allow redeclaring a `var`. */
function rewriteVars(program: Program, text: MagicString): void {
  walk(program, (node, parent) => {
    if (isFunction(node) || node.type === "StaticBlock") return false;
    if (node.type !== "VariableDeclaration" || node.kind !== "var") return true;
    const first = node.declarations[0];
    const last = node.declarations.at(-1);
    if (!first || !last) return true;
    text.update(node.start, first.id.start, " ");
    const inFor =
      (parent?.type === "ForStatement" && parent.init === node) ||
      ((parent?.type === "ForInStatement" || parent?.type === "ForOfStatement") && parent.left === node);
    if (!inFor && first.id.type === "ObjectPattern")
      text.appendRight(first.id.start, "(").appendLeft(last.end, ")");
    return true;
  });
}

/** Routes `await`, `for await`, `import()` and `import.meta` through the executor. */
function rewriteAsync(program: Program, text: MagicString): void {
  walk(program, (node) => {
    if (node.type === "AwaitExpression") {
      wrap(node.argument, `${runtimeGlobal}.await(`, text);
    } else if (node.type === "ForOfStatement" && node.await) {
      wrap(node.right, `${runtimeGlobal}.iterate(`, text);
    } else if (node.type === "ImportExpression") {
      text.update(node.start, node.start + "import".length, marked(`${runtimeGlobal}.import`, "import"));
    } else if (node.type === "MetaProperty" && node.meta.name === "import") {
      text.update(node.start, node.end, marked(`${runtimeGlobal}.meta`, "import.meta"));
    }
    return true;
  });
}

function wrap({ start, end }: Node, call: string, text: MagicString): void {
  text.appendLeft(start, marked(call)).appendLeft(end, marked(")"));
}

/** Makes every loop, and every function that calls others, stop when an interrupt is pending. */
function insertGuards(program: Program, text: MagicString): void {
  const calls: boolean[] = [];
  walk(
    program,
    (node) => {
      if (isFunction(node)) calls.push(false);
      else if (/^(Call|New|TaggedTemplate|Await)Expression$/.test(node.type)) calls[calls.length - 1] = true;
      return true;
    },
    (node) => {
      if (/^(For|ForIn|ForOf|While|DoWhile)Statement$/.test(node.type)) {
        guardBlock((node as unknown as { body: Node }).body, text);
      } else if (isFunction(node) && calls.pop()) {
        const body = (node as unknown as { body: Node | null }).body;
        if (body?.type === "BlockStatement") guardBlock(body, text);
        else if (body) text.appendRight(body.start, marked(`(${guard},`)).appendLeft(body.end, marked(")"));
      }
    },
  );
}

function guardBlock(body: Node, text: MagicString): void {
  if (body.type === "BlockStatement") text.appendRight(body.start + 1, marked(`${guard};`));
  else text.appendRight(body.start, marked(`{${guard};`)).appendLeft(body.end, marked("}"));
}

function composeMap(text: MagicString, map: SourceMapInput, cell: Cell, shift: number): string {
  const outer = mapOf(text, "cell.js");
  const parentheses = () =>
    new MagicString(cell.code).prepend("(").append(")").generateMap({ source: "cell", hires: true });
  const composed = remapping(outer, (_file, { depth }) => {
    if (depth === 1) return map;
    return depth === 2 && shift > 0 ? (parentheses() as unknown as EncodedSourceMap) : null;
  });
  return JSON.stringify({
    ...composed,
    names: [],
    sources: [`cell [${cell.count}]`],
    sourcesContent: [cell.code],
  });
}
