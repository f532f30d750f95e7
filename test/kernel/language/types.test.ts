import assert from "node:assert/strict";
import { test } from "node:test";
import { plainFunctionOf, plainTypeOf } from "../../../kernel/language/types.js";

const shown = (declaration: string) => `\`\`\`typescript\n${declaration}\n\`\`\`\nAbout it.`;

for (const [declaration, declared] of [
  ["let x: number", ": number"],
  ["const x: 5", " = 5"],
  ["const x: -5", " = -5"],
  ['const x: "a b"', ' = "a b"'],
  ["let x: string | undefined", ": string | undefined"],
  ["let x: {\n    a: number;\n    m(b: string): void;\n}", ": { a: number; m(b: string): void; }"],
  ["const x: readonly [1, string?]", ": readonly [1, string?]"],
  [
    "let x: (a: number, ...rest: string[]) => Promise<void>",
    ": (a: number, ...rest: string[]) => Promise<void>",
  ],
  ["const x: Map<string, Uint8Array<ArrayBuffer>>", ": Map<string, Uint8Array<ArrayBuffer>>"],
  ["let x: any[]", ": any[]"],
  ["let x: { [key: string]: number }", ": { [key: string]: number }"],
] as const) {
  test(`plain: ${declaration}`, () => assert.equal(plainTypeOf(shown(declaration), "x")?.declared, declared));
}

test("the global names in a type are known", () => {
  assert.deepEqual(plainTypeOf(shown("let x: Map<string, Date[]>"), "x")?.globals, ["Map", "Date"]);
});

for (const declaration of [
  "let x: Point",
  "let x: tf.Tensor",
  'let x: typeof import("fs")',
  "const x: true",
  "const x: 5n",
  "const x: unique symbol",
  "const x: typeof x",
  "let x: <T>(a: T) => T",
  "let x: { a: number; ... 5 more ...; z: string; }",
  "let x: this",
  "let x: new () => Point",
  "let x: (a: unknown) => a is string",
  "let x: A extends B ? 1 : 2",
  "let y: number",
  "class x",
]) {
  test(`not plain: ${declaration}`, () => assert.equal(plainTypeOf(shown(declaration), "x"), null));
}

for (const [declaration, declared] of [
  ["function f(x: number): string", "(x: number): string"],
  [
    "function f(x: {\n    a: number;\n}, y?: string, ...z: number[]): Promise<void>",
    "(x: { a: number; }, y?: string, ...z: number[]): Promise<void>",
  ],
  ["function f(): Generator<number, void, unknown>", "(): Generator<number, void, unknown>"],
  ["function f(m: string): never", "(m: string): never"],
] as const) {
  test(`plain: ${declaration}`, () =>
    assert.equal(plainFunctionOf(shown(declaration), "f")?.declared, declared));
}

for (const declaration of [
  "function f(x: Point): string",
  "function f<T>(x: T): T",
  "function f(x: unknown): asserts x is string",
  "function f(x: unknown): x is string",
  "function f(x: string): number (+1 overload)",
  "function f(x: string): string\nnamespace f",
  "function f({ a }: { a: number; }): number",
  "function g(): void",
  "let f: () => void",
]) {
  test(`not plain: ${declaration}`, () => assert.equal(plainFunctionOf(shown(declaration), "f"), null));
}
