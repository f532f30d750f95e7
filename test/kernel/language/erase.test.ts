/**
 * Types taken out of TypeScript, all else left as it is.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Program, parseSync } from "oxc-parser";
import { transformSync } from "oxc-transform";
import { eraseTypes } from "../../../kernel/language/erase.js";

const root = fileURLToPath(new URL("../../../../", import.meta.url));

function erased(code: string): string | null {
  const { program, errors } = parseSync("x.ts", code, { lang: "ts", sourceType: "module" });
  assert.deepEqual(errors, [], code);
  return eraseTypes(code, program)?.toString() ?? null;
}

/** What code does, without how it is written. */
function meaning(code: string, what: string): string {
  const { program, errors } = parseSync("x.js", code, {
    lang: "js",
    sourceType: "module",
    preserveParens: false,
  });
  assert.deepEqual(
    errors.map(({ message }) => message),
    [],
    `${what}\n${code}`,
  );
  return JSON.stringify(withoutStyle(program.body), (_, each: unknown) =>
    typeof each === "bigint" ? `${each}n` : each,
  );
}

function withoutStyle(node: unknown): unknown {
  if (Array.isArray(node))
    return node.filter((each) => !isNothing(each as Record<string, unknown> | null)).map(withoutStyle);
  if (typeof node !== "object" || node === null) return node;
  const { start: _, end: __, raw: ___, shorthand: ____, ...rest } = node as Record<string, unknown>;
  const { type, computed, key } = rest as { type?: string; computed?: boolean; key?: { type?: string } };
  // The printer writes `["a"]` as `a`.
  if (type !== undefined && computed === true && key?.type === "Literal") rest.computed = false;
  return Object.fromEntries(Object.entries(rest).map(([name, each]) => [name, withoutStyle(each)]));
}

/** What stays of a statement without a meaning: `;` and `export {}`. */
function isNothing(node: Record<string, unknown> | null): boolean {
  if (node?.type === "EmptyStatement") return true;
  const { type, declaration, source, specifiers } = node ?? {};
  return (
    type === "ExportNamedDeclaration" && !declaration && !source && (specifiers as unknown[]).length === 0
  );
}

function assertSame(found: string, expected: string, what: string): void {
  const at = [...expected].findIndex((c, i) => c !== found[i]);
  const around = (text: string) => text.slice(Math.max(0, at - 300), at + 100);
  assert.ok(found === expected, `${what}\n${around(found)}\nexpected\n${around(expected)}`);
}

function printed(code: string, lang: "js" | "ts" = "ts"): string {
  const { code: output, errors } = transformSync(`x.${lang}`, code, {
    lang,
    sourceType: "module",
    typescript: { onlyRemoveTypeImports: true },
  });
  assert.deepEqual(errors, [], code);
  return output;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "node_modules" ? [] : filesBelow(file);
    return /(?<!\.d)\.ts$/.test(entry.name) ? [file] : [];
  });
}

test("all of this repository means what it meant", () => {
  const files = ["kernel", "src", "test"].flatMap((folder) => filesBelow(path.join(root, folder)));
  let done = 0;
  for (const file of files) {
    const code = readFileSync(file, "utf8");
    const result = erased(code);
    if (result === null) continue;
    done += 1;
    assertSame(meaning(printed(result, "js"), file), meaning(printed(code), file), file);
  }
  // Some have parameter properties.
  assert.ok(done > files.length / 2, `${done} of ${files.length}`);
});

test("so do the tutorials' cells", () => {
  const folder = path.join(root, "notebooks");
  for (const name of readdirSync(folder).filter((each) => each.endsWith(".ipynb"))) {
    const { cells } = JSON.parse(readFileSync(path.join(folder, name), "utf8")) as {
      cells: { cell_type: string; source: string | string[] }[];
    };
    for (const { cell_type, source } of cells) {
      const code = Array.isArray(source) ? source.join("") : source;
      // Some fail on purpose, and magics are none of its business.
      if (cell_type !== "code" || /^%/m.test(code)) continue;
      const { program, errors } = parseSync("x.ts", code, { lang: "ts", sourceType: "module" });
      const result = errors.length > 0 ? null : eraseTypes(code, program)?.toString();
      if (result) assertSame(meaning(printed(result, "js"), name), meaning(printed(code), name), code);
    }
  }
});

const snippets: readonly string[] = [
  "const a = 1\ntype B = number\n(a)",
  "const a = b\ninterface I { x: 1 }\n[1, 2].map(String)",
  "let x = y as any\n(z)",
  "x = y satisfies Z\n`t`",
  "let v = w!\n;(u)",
  "const f = () => <Foo>{ a: 1 };",
  "<any>function () {};",
  "<Foo>{ a: 1 }.b;",
  "function f() { return <T>\n x; }",
  "const g = async <T>\n(x: T): Promise<T> => x;",
  "const h = (x: number)\n: number => x;",
  "const o = { m<T>(this: Window, a: T, b?: number): void {}, get x(): number { return 1; }, async *g(this: void) {} };",
  "function t(this: Date) {} function u(this: Date, ) {} function w(this: { a: 1 }, x: number) {}",
  "class A { get: number\n foo() {} static\n; readonly a?: string; private b!: number; c = 1 as any\n ['d'] = 2; declare e: string\n f() {} }",
  "abstract class B<T> extends C<T> implements D<T>, E { abstract a(): void; abstract b: number; protected abstract readonly c: string; constructor(); constructor(x?: number) { super(); } static override async m?<K>(): Promise<K> { return 1 as any; } [k: string]: any; public /* public */ static readonly ['x']?: number = 1; }",
  "export abstract class F {} export declare class G { x: number } export declare const q: number; declare function r(): void; declare let s: string;",
  "export function over(a: string): void;\nexport function over(a: number): void;\nexport function over(a: unknown) {}",
  'import type { A } from "a"; import { type B, c, type D as E } from "b"; import { type F } from "f"; import g, { type H } from "g"; import * as i from "i";',
  "const b = 1, c = 2; type T = 1; export { type T, b }; export { c }; export type { T as U };",
  'export type * from "x"; export default interface X {}',
  "export default y as Z\n(1)",
  "a?.b!.c; (a as any) = 1; a! += 1; (b as any)[0]!++; for (const x of y as any) {} for (const k in z!) {}",
  "let x!: number, y: string | undefined = undefined, { a, b }: { a: 1; b: 2 } = q, [c]: [number] = r;",
  "new Map<string, number>(); f<T>(x); new Foo<T>; a?.<T>(x); tag<T>`x`; const inst = f<string>; class S extends Base<T> {}",
  "try {} catch (e: unknown) {} function asserts(x: unknown): asserts x is string {} function is(x: unknown): x is string { return true; }",
  "declare module 'x' { export const a: 1; } declare global { interface Window { a: 1 } } declare namespace N { const a: 1; } declare enum E { A }",
  "const arrow = <T,>(x: T) => x, generic = function <T extends { a: 1 }>(x: T) {}; const type = 1; type\n; let as = 2; as;",
  "if (x as any) y as any\nelse z as any\n[1]",
  "label: for (const a of <any>b) { continue label; } throw e as Error\n[1]; ",
  "const deep = ((x as any) as string)!.length as number < 3;",
  "type A = 1; export type B = 2; export interface C {} /** kept */ function last(a = 1 as number, ...r: any[]) { /* kept, too */ }",
];

test("what types stand beside keeps its meaning", () => {
  for (const code of snippets) {
    const result = erased(code);
    assert.ok(result !== null, code);
    assertSame(meaning(printed(result, "js"), code), meaning(printed(code), code), `${code}\n${result}`);
  }
});

test("everything but the types stays as written", () => {
  assert.equal(
    erased("const f = (a: number,  b?: 'x')  => { /* why */ return a+ 'single' as string; };"),
    "const f = (a,  b)  => { /* why */ return a+ 'single'; };",
  );
  const plain = "// comment\nlet s='a' ;  for(;;){ break }\n";
  assert.equal(erased(plain), plain);
});

test("where types are not all there is to TypeScript, it says so", () => {
  for (const code of [
    "enum E { A }",
    "namespace N { export const a = 1; }",
    "class A { constructor(private x: number) {} }",
    'import fs = require("fs");',
    "export = 1;",
    "class D { @dec x = 1 }",
  ])
    assert.equal(erased(code), null, code);
  const { program } = parseSync("x.ts", "class A { x: number }");
  assert.equal(eraseTypes("class A { x: number }", program as Program, false), null);
});
