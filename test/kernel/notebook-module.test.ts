import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { notebookModule } from "../../kernel/language/notebook-module.js";
import { interrupted, startKernel } from "./support.js";

/** `import { clip } from "./other.ipynb"`: notebooks as modules. */

const kernel = await startKernel();

type Cell = string | { code: string; tags: string[] };

const json = (cells: readonly Cell[], language = "typescript"): string =>
  JSON.stringify({
    cells: [
      { cell_type: "markdown", metadata: {}, source: ["# A title\n", "const no = 1;"] },
      ...cells.map((cell) => {
        const { code, tags } = typeof cell === "string" ? { code: cell, tags: [] } : cell;
        return { cell_type: "code", execution_count: null, metadata: { tags }, outputs: [], source: code };
      }),
    ],
    metadata: { kernelspec: { language, name: language, display_name: language } },
    nbformat: 4,
    nbformat_minor: 5,
  });

const write = (name: string, cells: readonly Cell[], language?: string) =>
  writeFileSync(join(kernel.folder, name), json(cells, language));

async function value(code: string): Promise<string> {
  const { text, reply } = await kernel.run(code);
  assert.equal(reply.status, "ok", text);
  return text;
}

test("all that a notebook declares can be imported, with its type, and what it shows is shown", async () => {
  write("other.ipynb", [
    "%check off",
    'import { join } from "node:path";\nconst clip = { frames: 81, name: join("a", "b") };',
    "interface Size { height: number; width: number }\nfunction area({ height, width }: Size): number { return height * width; }",
    "console.log('it ran'); clip",
    "await Promise.resolve(1)",
    { code: "throw new Error('on purpose')", tags: ["raises-exception"] },
    "class Box<T> { constructor(readonly value: T) {} }",
  ]);
  assert.equal(
    await value(
      'import { clip, area, Box, type Size } from "./other.ipynb";\nconst size: Size = { height: 2, width: 3 };\n[clip.frames, area(size), new Box("x").value.length]',
    ),
    "it ran\n[ 81, 6, 1 ]",
  );
  assert.equal(await value('import { clip as again } from "./other.ipynb"; again === clip'), "true");
  assert.match(
    (await kernel.run('import { area as f } from "./other.ipynb"; f({ height: "2", width: 3 })')).text,
    /TS2322/,
  );
  assert.match((await kernel.run('import { nothing } from "./other.ipynb"; nothing')).text, /TS2305/);
});

test("a notebook that changed is run again", async () => {
  write("changing.ipynb", ["const state = 1;"]);
  assert.equal(await value('import { state } from "./changing.ipynb"; state'), "1");
  write("changing.ipynb", ["const state = 'two, and longer';"]);
  assert.equal(await value('import { state } from "./changing.ipynb"; state.length'), "15");
});

test("where cells export, these run with what they need, and no others", async () => {
  write("exporting.ipynb", [
    "const base = 20;",
    "console.log('not needed'); const unused = base;",
    "const twice = (x: number) => 2 * x;",
    "export const answer = twice(base) + 2;",
  ]);
  assert.equal(await value('import { answer } from "./exporting.ipynb"; answer'), "42");
  assert.match((await kernel.run('import { base } from "./exporting.ipynb"; base')).text, /TS2459|TS2305/);
});

test("names that cells declare again are what they are at the end, and before that what they were", async () => {
  write("again.ipynb", [
    "import { sep } from 'node:path';\nlet x = 1; const early = () => x; class A { static n = 1 }",
    "const first = { x, a: new A() }; const { y = x } = { y: undefined as number | undefined };",
    "import { sep } from 'node:path';\nconst x = 'two'; class A { static n = 2 } const type: A = new A();",
    "const last = { x, n: A.n, x2: ((x: number) => x)(3), early: early() };",
  ]);
  assert.equal(
    await value('import { first, last, x, y } from "./again.ipynb"; [first.x, x, y, last]'),
    "[ 1, 'two', 1, { x: 'two', n: 2, x2: 3, early: 1 } ]",
  );
});

test("parameters take the place of those that the notebook declares, by its types", async () => {
  write("given.ipynb", [
    { code: 'const steps = 3, name: string = "a", sizes = [1];\nlet on = false;', tags: ["parameters"] },
    "const all = { steps, name, sizes, on };",
  ]);
  const all = 'import { all } from "./given.ipynb"';
  assert.equal(await value(`${all}; all`), "{ steps: 3, name: 'a', sizes: [ 1 ], on: false }");
  assert.equal(
    await value(`${all} with { steps: "10", name: "7", sizes: "[4, 5]", on: "true" };\nall`),
    "{ steps: 10, name: '7', sizes: [ 4, 5 ], on: true }",
  );
  assert.equal(await value(`${all} with { steps: "11" };\nall.steps`), "11");
  const wrong = await kernel.run(`${all} with { step: "1" };\nall`);
  assert.match(wrong.text, /given\.ipynb: there is no parameter step; there are steps, name, sizes, on/);
});

test("what is no notebook of TypeScript says so, and errors and interrupts in one are as in a module", async () => {
  write("python.ipynb", ["x = 1"], "python");
  writeFileSync(join(kernel.folder, "torn.ipynb"), '{ "cells": [');
  const run = async (name: string) => (await kernel.run(`// @ts-nocheck\nimport "./${name}.ipynb";`)).text;
  assert.match(await run("python"), /python\.ipynb: expected a notebook of TypeScript, found one of python/);
  assert.match(await run("torn"), /torn\.ipynb: expected a notebook, found .*JSON/);
  write("syntax.ipynb", ["const = 1"]);
  assert.match(await run("syntax"), /SyntaxError: .*syntax\.ipynb: /);
  write("throws.ipynb", ["const a = 1;\nnull!.b;"]);
  assert.match(await run("throws"), /TypeError: Cannot read properties of null/);
  write("endless.ipynb", ["console.log('it runs');", "for (;;);"]);
  const { reply } = await interrupted(kernel, 'import "./endless.ipynb";');
  assert.equal(reply.ename, "KeyboardInterrupt");
  assert.throws(() => notebookModule("[]"), /found no cells/);
});
