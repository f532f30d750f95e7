/**
 * Code runs as written: what a function shows of itself, and what becomes of it elsewhere.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startKernel } from "./support.js";

const kernel = await startKernel();

async function printed(code: string): Promise<string> {
  const { reply, text } = await kernel.run(code);
  assert.equal(reply.status, "ok", text);
  return text.replace(/\n$/, "");
}

/** JavaScript, each a function or class. */
const written: readonly string[] = [
  "(a,b)  => { for(let i=0;i<1;i++) Math.max(a, b); /* why */ return a+'b' }",
  "x => String(x)",
  "async () => await null",
  "async () => { for await (const x of [1]) await x; return import('node:fs') }",
  "function named ( n ) {\n\treturn n ? named(n - 1) : [ n ]; // last\n}",
  "async function* gen() { while (true) yield await 1; }",
  "function () { do Math.random(); while (false) }",
  "class Counter { #n = 0; static make() { return new Counter() } step() { for (;;) if (++this.#n) return this; } }",
  "() => import.meta.url.replace('a', \"b\")",
  "() => tag`a`.concat( tag `b` )",
];

test("JavaScript shows its text as it was written, comments, quotes and blanks", async () => {
  await kernel.run("// @ts-nocheck\nconst tag = (...parts) => parts;");
  for (const code of written)
    assert.equal(await printed(`// @ts-nocheck\nconsole.log((${code}).toString())`), code);
});

test("so do functions that a cell declares, and their methods", async () => {
  const code = "async  function* declared(a,  b) { await a; yield declared(b); }";
  assert.equal(await printed(`// @ts-nocheck\n${code}\nconsole.log(String(declared))`), code);
  assert.equal(await printed("console.log('' + declared)"), code);
  assert.equal(
    await printed(
      "// @ts-nocheck\nconst o = { m(x) { return String(x) }, get g() { return Math.random() } }; console.log(o.m + '|' + Object.getOwnPropertyDescriptor(o, 'g').get)",
    ),
    "m(x) { return String(x) }|get g() { return Math.random() }",
  );
  assert.equal(
    await printed("class Declared { m() { return [new Date()] } }\nconsole.log(Declared.toString())"),
    "class Declared { m() { return [new Date()] } }",
  );
});

test("TypeScript shows its text without the types", async () => {
  assert.equal(
    await printed(
      "console.log(String((a: number,  b?: string[]): string => { return (b as unknown[])!.map(String).join('') + a; }))",
    ),
    "(a,  b) => { return (b).map(String).join('') + a; }",
  );
  assert.equal(
    await printed(
      "abstract class Shape<T> { private readonly sides: number = 3; constructor(public name: string) {} area(this: Shape<T>): number { return Math.sqrt(this.sides); } }\nconsole.log(/__|:|private|public/.test(String(Shape)))",
    ),
    "false",
  );
});

test("Function.prototype.toString looks as Node's own does", async () => {
  assert.equal(
    await printed(
      "const { toString: shown } = Function.prototype; console.log(String(shown), shown.name, shown.length, String(Math.max), Object.keys(Function.prototype).length, 'prototype' in shown)",
    ),
    "function toString() { [native code] } toString 0 function max() { [native code] } 0 false",
  );
  assert.match((await kernel.run("Function.prototype.toString.call({} as any)")).text, /TypeError/);
});

test("what is sent elsewhere runs there: another realm, a worker, a string", async () => {
  const sent =
    "const work = async (n: number) => { const { setTimeout: later } = globalThis; await new Promise((r) => later ? later(r, 1) : r(0)); let s = 0; for (let i = 0; i < n; i++) s += Math.abs(i); for await (const x of [1, 2]) s += x; return s; };";
  await kernel.run(sent);
  assert.equal(
    await printed('import vm from "node:vm"; console.log(await vm.runInNewContext("(" + work + ")(4)"))'),
    "9",
  );
  assert.equal(await printed("console.log(await new Function('return (' + work + ')(4)')())"), "9");
  assert.equal(
    await printed(
      `import { Worker } from "node:worker_threads"; const main = "const { parentPort } = require('node:worker_threads'); (" + work + ")(4).then((s) => parentPort.postMessage(s))"; const worker = new Worker(main, { eval: true }); console.log(await new Promise((r) => worker.once("message", r)))`,
    ),
    "9",
  );
  assert.equal(
    await printed(
      'const imports = async () => { const { parentPort } = await import("node:worker_threads"); parentPort!.postMessage(import.meta === undefined); };\nconsole.log(imports.toString())',
    ),
    'async () => { const { parentPort } = await import("node:worker_threads"); parentPort.postMessage(import.meta === undefined); }',
  );
});

test("functions of local modules show their source, not what it was compiled to", async () => {
  writeFileSync(
    join(kernel.folder, "texts.ts"),
    `import { inspect as look } from "node:util";
export const derive = (d: { a: number }) => look(d.a);
export function declared(a: number, b:  string[]) { // why
  for (const x of b) console.log(a, x, look); return import("node:fs"); }
export class Classy { static async m(this: void, x: number) { return look(x as number); } private n = (q: 1) => { return 'q'; } }
export default class { get z(): number { return import.meta.url.length; } }
enum Kind { A }
export const kinds = () => look(Kind.A);
`,
  );
  await kernel.run('import Unnamed, { derive, declared, Classy, kinds } from "./texts";');
  assert.equal(await printed("console.log(String(derive))"), "(d) => look(d.a)");
  assert.equal(
    await printed("console.log(String(declared))"),
    'function declared(a, b) { // why\n  for (const x of b) console.log(a, x, look); return import("node:fs"); }',
  );
  assert.equal(
    await printed("console.log(String(Classy))"),
    "class Classy { static async m(x) { return look(x); } n = (q) => { return 'q'; } }",
  );
  assert.equal(await printed("console.log(String(Classy.m))"), "async m(x) { return look(x); }");
  assert.equal(
    await printed(
      "console.log(String(Unnamed), Object.getOwnPropertyDescriptor(Unnamed.prototype, 'z')!.get!.toString())",
    ),
    "class { get z() { return import.meta.url.length; } } get z() { return import.meta.url.length; }",
  );
  assert.equal(await printed("console.log(String(kinds))"), "() => look(Kind.A)");
});
