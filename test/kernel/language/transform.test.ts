import assert from "node:assert/strict";
import { Session } from "node:inspector";
import { after, before, test } from "node:test";
import { originalPositionFor, TraceMap } from "@jridgewell/trace-mapping";
import { interruptFlag, runtimeGlobal } from "../../../kernel/ipc/names.js";
import type { CompilerOptions } from "../../../kernel/language/config.js";
import { CellSyntaxError } from "../../../kernel/language/language.js";
import { transformCell } from "../../../kernel/language/transform.js";

/** V8's REPL mode, which is what transformed cells are made for. The modules imported are this process's own. */
const session = new Session();
const imports: unknown[][] = [];
let count = 0;

before(() => {
  session.connect();
  const runtime = {
    import: async (specifier: string, ...rest: unknown[]) => {
      imports.push([specifier, ...rest]);
      return (await import(specifier)) as unknown;
    },
    await: (value: unknown) => value,
    box: (value: unknown) => value,
    iterate: (value: unknown) => value,
    interrupt: () => {
      throw new Error("interrupted");
    },
    meta: { url: "file:///notebook.ts" },
  };
  Object.defineProperty(globalThis, runtimeGlobal, { value: runtime });
  Object.defineProperty(globalThis, interruptFlag, { value: false, writable: true });
});
after(() => session.disconnect());

interface Evaluated {
  result: { value?: unknown; description?: string };
  exceptionDetails?: { exception: { description: string } };
}

/** Runs a cell as the executor does; gives its result, or throws what it throws, as text. */
function run(code: string, options: CompilerOptions = {}): Promise<unknown> {
  count += 1;
  const cell = { id: String(count), count, code };
  return new Promise((resolve, reject) => {
    const params = {
      expression: transformCell(cell, options).code,
      replMode: true,
      awaitPromise: true,
      returnByValue: true,
    };
    session.post("Runtime.evaluate", params, (error, response) => {
      const { result, exceptionDetails } = response as unknown as Evaluated;
      if (error) reject(error);
      else if (exceptionDetails) reject(new Error(exceptionDetails.exception.description));
      else resolve(result.value);
    });
  });
}

test("the last statement is the result if it is an expression", async () => {
  assert.equal(await run("1 + 1"), 2);
  assert.equal(await run("const a = 5;\na;"), 5);
  assert.equal(await run("'text'"), "text");
  assert.deepEqual(await run("{ a: 1, b: 2 }"), { a: 1, b: 2 });
  assert.equal(await run("await Promise.resolve(3)"), 3);
  assert.equal(await run("1;;"), 1);
  for (const code of [
    "let b = 1",
    "if (true) { 5 }",
    "5; function f() {}",
    "5; interface I {}",
    "",
    "// nothing",
    "for (const x of [1]) x",
    "class K {}",
    "enum E { A }",
  ]) {
    assert.equal(await run(code), undefined, code);
  }
});

test("every kind of declaration may follow every other under one name", async () => {
  const kinds = [
    "let same = 1",
    "const same = 2",
    "var same = 3",
    "function same() {}",
    "class same {}",
    "enum same { A }",
    "namespace same { export const x = 1 }",
    'import same from "node:os"',
    'import * as same from "node:os"',
    'import { cpus as same } from "node:os"',
    "const { same } = { same: 4 }",
    "for (var same = 0; same < 1; same++);",
    "async function* same() {}",
  ];
  for (const first of kinds) {
    for (const second of kinds) {
      await run(first);
      await run(second);
    }
  }
  assert.equal(await run("let same = 'last'; same"), "last");
});

test("statements without semicolons end where their lines end", async () => {
  assert.equal(await run("let n1 = 0\nfor (; n1 < 3; n1++) await null\nn1"), 3);
  assert.equal(await run("let n2 = 0\nwhile (n2 < 3) n2 += await 1\nn2"), 3);
  assert.equal(await run("const g1 = async () => await 5\nawait g1()"), 5);
  assert.equal(await run("const h1 = () => Math.max(1, 2)\nh1()"), 2);
  assert.equal(await run("for await (const x of [1]) await x\nawait 7"), 7);
  assert.equal(await run("const f1 = (x: number) => x\nfunction between() {}\n(f1)(9)"), 9);
  assert.equal(await run("let l1 = [1, 2]\nimport * as os1 from 'node:os'\n[0].concat(l1).length"), 3);
  assert.equal(await run("let v1 = 1\nexport const e1 = v1\nfunction moved() {}\n[e1][0]"), 1);
  assert.equal(await run("let o1 = {}\nfunction moved2() {}\n[1].length\n2"), 2);
  assert.equal(await run("var { a: a1 } = await { a: 4 }\n;[a1][0]"), 4);
  assert.equal(await run("export default await 6"), 6);
  assert.equal(await run("async function af() { for (;;) return await 8 }\nawait af()"), 8);
  assert.equal(await run("let d1 = 0\ndo await d1++\nwhile (d1 < 3)\nd1"), 3);
});

test("closures see what later cells assign or declare", async () => {
  await run(
    "let seen = 1; const read = () => seen; function callsOther() { return other(); } function other() { return 'old'; }",
  );
  await run("seen = 2");
  assert.equal(await run("read()"), 2);
  await run("const seen = 3; function other() { return 'new'; }");
  assert.equal(await run("read()"), 3);
  assert.equal(await run("callsOther()"), "new");
});

test("a cell that throws keeps what it had, and what was there before", async () => {
  await run("let kept = 'old'");
  await assert.rejects(
    run("let made = 1; let kept = (() => { throw new Error('half-way') })(); let never = 2"),
    /half-way/,
  );
  assert.equal(await run("kept + made"), "old1");
  await assert.rejects(run("never"), /never is not defined/);
});

test("functions and imports are there before the first statement", async () => {
  assert.equal(
    await run(
      'const early = later() + join("a", "b");\nfunction later() { return "x"; }\nimport { join } from "node:path";\nearly',
    ),
    "xa/b",
  );
});

test("var belongs to the cell, also in blocks, loops and patterns", async () => {
  assert.deepEqual(
    await run(
      "if (true) { var inBlock = 1; } for (var i = 0; i < 3; i++) {} for (var k in { a: 1 }) {} for (var { p } of [{ p: 5 }]);\nvar twice = 1; var twice = 2; var [x, { y = 9 }] = [7, {}], z;\n[inBlock, i, k, p, twice, x, y, z]",
    ),
    [1, 3, "a", 5, 2, 7, 9, null],
  );
  assert.deepEqual(await run("[inBlock, i]"), [1, 3]);
});

test("enums, namespaces, parameter properties, satisfies, definite and abstract members", async () => {
  assert.deepEqual(
    await run(
      "enum A { X = 1, Y } enum A { Z = 5 } const enum C { Q = 'q' } namespace N { export const n = 1; export namespace M { export const m = n + 1 } }\nabstract class B { constructor(readonly v: number) {} abstract m(): void; d!: string } class D extends B { m() {} }\n[A.X, A[2], A.Z, C.Q, N.M.m, new D(3).v satisfies number]",
    ),
    [1, "Y", 5, "q", 2, 3],
  );
});

test("decorators, of the standard and TypeScript's own, and using", async () => {
  const code =
    "const log: string[] = []; function dec(...args: any[]): any { log.push(typeof args[1]); } @dec class Decorated { @dec m() {} }\nlog";
  assert.deepEqual(await run(code), ["object", "object"]);
  assert.deepEqual(await run(code, { experimentalDecorators: true }), ["string", "undefined"]);
  assert.deepEqual(
    await run(
      "const order: string[] = []; { using r = { [Symbol.dispose ?? Symbol.for('d')]() { order.push('disposed'); } } as any; order.push('used'); }\norder",
    ),
    ["used", "disposed"],
  );
});

test("JSX becomes calls, as tsconfig says", async () => {
  await run("const h = (...args: unknown[]) => args; const Fragment = 'F'");
  const classic = { jsx: "react", jsxFactory: "h", jsxFragmentFactory: "Fragment" } as const;
  assert.deepEqual(await run("<b a={1}>x{2}</b>", classic), ["b", { a: 1 }, "x", 2]);
  assert.deepEqual(await run("<>x</>", classic), ["F", null, "x"]);
  const { code } = transformCell(
    { id: "jsx", count: 1, code: "<b/>" },
    { jsx: "react-jsx", jsxImportSource: "preact" },
  );
  assert.match(code, /__firstframe\.import\("preact\/jsx-runtime"/);
});

test("imports say what they need: attributes, and names that are used; types are gone", async () => {
  imports.length = 0;
  await run(
    'import type { A } from "./none"; import os, { type B, cpus, EOL as eol } from "node:os"; import "node:fs"; import * as p from "node:path"; cpus; const x: B = 1;',
  );
  assert.deepEqual(imports, [["node:os", undefined, ["cpus"]], ["node:fs"], ["node:path"]]);
  const { code } = transformCell({
    id: "attr",
    count: 1,
    code: 'import d from "./d.json" with { type: "json" };',
  });
  assert.match(code, /import\("\.\/d\.json", \{ with: \{ type: "json" \} \}\)/);
  assert.equal(await run("typeof os.hostname + eol"), "function\n");
});

test("dynamic import, import.meta and exports", async () => {
  imports.length = 0;
  assert.equal(await run('(await import("node:path")).join("a", "b")'), "a/b");
  assert.deepEqual(imports, [["node:path"]]);
  assert.equal(await run("import.meta.url"), "file:///notebook.ts");
  assert.equal(
    await run(
      'export const e = 1; export function f() { return e; } export { e as g }; export * from "node:path"; export default f;\nf()',
    ),
    1,
  );
  assert.equal(await run("export default 6 * 7"), 42);
});

test("cells are strict", async () => {
  await assert.rejects(run("// @ts-nocheck\nundeclared = 1"), /undeclared is not defined/);
  assert.equal(await run("(function () { return this; })()"), undefined);
});

for (const code of [
  "while (true) {}",
  "for (;;);",
  "do { } while (true)",
  "let n = 0; for (const x of (function* () { while (true) yield n; })()) n++;",
  "const object = { a: 1 }; for (;;) for (const key in object) key;",
  "const fib = (n: number): number => (n < 2 ? n : fib(n - 1) + fib(n - 2)); fib(80)",
  "function fibonacci(n: number): number { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); } fibonacci(80)",
  "const o = { m(n: number): number { return n < 2 ? n : o.m(n - 1) + o.m(n - 2); } }; o.m(80)",
  "while (true) { try { await null; } finally { } }",
]) {
  test(`a flag that another thread has V8 set stops: ${code}`, async () => {
    const { Worker } = await import("node:worker_threads");
    const worker = new Worker(
      `const { Session } = require("node:inspector");
      const session = new Session();
      session.connectToMainThread();
      setTimeout(() => session.post("Runtime.evaluate", { expression: "${interruptFlag} = true" }), 150);`,
      { eval: true },
    );
    await assert.rejects(run(code), /interrupted/);
    (globalThis as unknown as Record<string, boolean>)[interruptFlag] = false;
    await worker.terminate();
  });
}

test("a function's source works where there are no guards", async () => {
  const source = String(
    await run(
      "((n: number) => { let s = 0; for (let i = 0; i < n; i++) s += Math.max(i, 0); return s; }).toString()",
    ),
  );
  const { runInNewContext } = await import("node:vm");
  assert.equal(runInNewContext(`(${source})(4)`), 6);
});

test("the source map leads to the cell's lines and columns", () => {
  const code =
    "interface Removed {\n  a: string;\n}\n\nconst x: number = 1; function f(a: Removed): never {\n  throw new Error('here');\n}";
  const { code: js, map, url } = transformCell({ id: "m", count: 7, code });
  assert.ok(js.endsWith(`//# sourceURL=${url}`));
  const trace = new TraceMap(map);
  assert.deepEqual(trace.sources, ["cell [7]"]);
  assert.deepEqual(trace.sourcesContent, [code]);
  const lines = js.split("\n");
  const line = lines.findIndex((text) => text.includes("throw new Error"));
  const at = originalPositionFor(trace, { line: line + 1, column: lines[line]!.indexOf("new Error") });
  assert.deepEqual([at.line, at.column], [6, 8]);
});

test("the source map of an object literal does not count its parentheses", () => {
  const code = "{ a: fail() }";
  const { code: js, map } = transformCell({ id: "o", count: 1, code });
  const lines = js.split("\n");
  const line = lines.findIndex((text) => text.includes("fail()"));
  const at = originalPositionFor(new TraceMap(map), {
    line: line + 1,
    column: lines[line]!.indexOf("fail()"),
  });
  assert.deepEqual([at.line, at.column], [1, code.indexOf("fail()")]);
});

test("what is not TypeScript is an error with its place", () => {
  const code = "const s = '😀';\nconst = 5";
  assert.throws(
    () => transformCell({ id: "s", count: 1, code }),
    (error: unknown) => {
      assert.ok(error instanceof CellSyntaxError);
      assert.equal(error.name, "SyntaxError");
      assert.equal(code.slice(error.diagnostics[0]!.start, error.diagnostics[0]!.end), "=");
      return true;
    },
  );
});
