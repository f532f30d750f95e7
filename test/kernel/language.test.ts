/**
 * The language in cells, through the whole kernel.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { startKernel } from "./support.js";

const kernel = await startKernel();

function write(file: string, text: string): void {
  const full = path.join(kernel.folder, file);
  mkdirSync(path.dirname(full), { recursive: true });
  writeFileSync(full, text);
}

/** What a cell's result prints as, or its error. */
async function result(code: string): Promise<string> {
  return (await kernel.run(code)).text.trim();
}

async function fails(code: string, pattern: RegExp): Promise<void> {
  const { reply, text } = await kernel.run(code);
  assert.equal(reply.status, "error", code);
  assert.match(text, pattern);
}

test("type errors carry a code frame and TypeScript's number, all of them", async () => {
  const { reply, text } = await kernel.run('const fine = 1;\nconst a: number = "x";\n\nmissing();');
  assert.match(text, /TS2322: Type 'string' is not assignable to type 'number'/);
  assert.match(text, new RegExp(`cell \\[${reply.execution_count}\\]:2:7`));
  assert.match(text, /> 2 \| const a: number = "x";\n\s+\|\s+\^/);
  assert.match(text, /TS2304: Cannot find name 'missing'/);
  await fails("fine", /TS2304/);
});

test("@ts-nocheck switches the check off for a cell, @ts-expect-error for a line", async () => {
  assert.equal(await result('// @ts-nocheck\nconst anything: number = "really"; anything'), "'really'");
  assert.equal(await result('// @ts-expect-error\nconst n: number = "text"; n'), "'text'");
});

test("the session's check is a setting: before, warn, off", async () => {
  await fails('const w: number = "x"; w', /TS2322/);
  const warned = await kernel.run('%check warn\nconst w: number = "x"; w');
  assert.equal(warned.reply.status, "ok");
  assert.match(warned.text, /TS2322/);
  assert.match(warned.text, /'x'\s*$/);
  assert.equal(await result('%check off\nconst w: number = "y"; w'), "'y'");
  await kernel.run("%check before");
  await fails('const w: number = "x"; w', /TS2322/);
});

test("declarations of every kind may be declared again, the newest type in force", async () => {
  await kernel.run(
    "const a = 1; let b = 1; class C { one = 1 } function f() { return 1; } enum E { A } type T = number; interface I { x: number }",
  );
  assert.equal(
    await result(
      'const a = "text"; let b = true; class C { two = 2 } function f(x: string) { return x + a; } enum E { B = 7 } type T = string; interface I { y: string }',
    ),
    "",
  );
  assert.equal(
    await result('const t: T = "t"; const i: I = { y: t }; [a.length, b, new C().two, f("f"), E.B, i.y]'),
    "[ 4, true, 2, 'ftext', 7, 't' ]",
  );
  await fails("new C().one", /TS2339/);
  await fails("const i2: I = { x: 1 }", /TS2353/);
  await fails("E.A", /TS2339/);
});

test("closures see what later cells change", async () => {
  await kernel.run(
    'let level = 1; const show = () => "level " + level; function twice() { return double(level); } function double(x: number) { return 2 * x; }',
  );
  await kernel.run("level = 5; function double(x: number) { return 200 * x; }");
  assert.equal(await result("[show(), twice()]"), "[ 'level 5', 1000 ]");
});

test("a cell that throws half-way leaves what it had defined", async () => {
  await kernel.run('let before = "old";');
  await fails('const made = 1; before = "new"; throw new Error("half-way"); const never = 2;', /half-way/);
  assert.equal(await result("[made, before]"), "[ 1, 'new' ]");
  await fails("never", /never is not defined/);
});

test("a cell that does not pass its check leaves nothing", async () => {
  await fails('const untouched = 1; const wrong: number = "x";', /TS2322/);
  await fails("untouched", /TS2304/);
});

test("imports: packages of every format, with top-level await, named and default", async () => {
  write(
    "node_modules/esm-only/package.json",
    '{ "name": "esm-only", "type": "module", "exports": { "import": "./i.js" }, "types": "./i.d.ts" }',
  );
  write(
    "node_modules/esm-only/i.js",
    "export default 'esm'; export const awaited = await Promise.resolve(42);",
  );
  write(
    "node_modules/esm-only/i.d.ts",
    "declare const name: string; export default name; export const awaited: number;",
  );
  write("node_modules/cjs-named/package.json", '{ "name": "cjs-named", "version": "1.2.3" }');
  write(
    "node_modules/cjs-named/index.js",
    "for (const k of ['dynamic']) module.exports[k] = k; exports.plain = 1;",
  );
  assert.equal(await result('import name, { awaited as a42 } from "esm-only"; [name, a42]'), "[ 'esm', 42 ]");
  assert.equal(
    await result(
      'import { dynamic, plain } from "cjs-named"; import * as whole from "cjs-named"; [dynamic, plain, whole.dynamic]',
    ),
    "[ 'dynamic', 1, 'dynamic' ]",
  );
  assert.equal(
    await result(
      'import fs, { existsSync } from "fs"; import path from "node:path"; [fs.existsSync === existsSync, path.join("a", "b")]',
    ),
    "[ true, 'a/b' ]",
  );
  assert.equal(await result("[existsSync.name, path.sep]"), "[ 'existsSync', '/' ]");
  assert.equal(await result('(await import("esm-only")).awaited + 1'), "43");
  assert.equal(await result('typeof require("node:os").cpus'), "'function'");
  await fails('import { nope } from "node:fs"; nope', /TS2305/);
  await fails(
    '// @ts-nocheck\nimport { nope } from "node:fs"; nope',
    /SyntaxError.*does not provide an export named 'nope'/,
  );
  await fails('import "not-installed"', /TS2882|TS2307/);
  await fails('// @ts-nocheck\nimport "not-installed"', /Cannot find package 'not-installed'/);
});

test("import.meta.resolve: built-in modules, files, packages", async () => {
  write("node_modules/resolved/package.json", '{ "name": "resolved", "main": "main.js" }');
  write("node_modules/resolved/main.js", "");
  assert.equal(
    await result(
      '["fs", "node:fs", "./some.ts", "resolved"].map((each) => import.meta.resolve(each).replace(import.meta.url.replace(/[^/]*$/, ""), "")).join(" ")',
    ),
    "'node:fs node:fs some.ts node_modules/resolved/main.js'",
  );
});

test("JSON with attributes and without", async () => {
  write("settings.json", '{ "answer": 42 }');
  assert.equal(
    await result('import settings from "./settings.json" with { type: "json" }; settings.answer'),
    "42",
  );
  assert.equal(await result('import plain from "./settings.json"; plain.answer'), "42");
  assert.equal(
    await result('(await import("./settings.json", { with: { type: "json" } })).default.answer'),
    "42",
  );
  await fails("settings.answer.length", /TS2339/);
});

test("relative modules: .ts, .tsx and .js, reloaded with new types when they, or what they import, change", async () => {
  write("inner.ts", "export const size: number = 1;\n");
  write(
    "outer.ts",
    'import { size } from "./inner";\nexport const area = () => size;\nexport interface Shape { name: string }\nexport enum Kind { A = 3 }\n',
  );
  write("script.js", "export const fromScript = 'js';\n");
  assert.equal(
    await result(
      'import { area, Kind, type Shape } from "./outer"; import { fromScript } from "./script.js"; const s: Shape = { name: "x" }; [area(), Kind.A, s.name, fromScript]',
    ),
    "[ 1, 3, 'x', 'js' ]",
  );
  write("inner.ts", 'export const size: string = "now text";\n');
  assert.equal(await result('import { area } from "./outer.ts"; area().toUpperCase()'), "'NOW TEXT'");
  await fails('import { gone } from "./inner";', /TS2305/);
});

test("an error in the user's own module names its file and line", async () => {
  write(
    "thrower.ts",
    "export interface Removed {\n  a: string;\n}\n\nexport function fail(): never {\n  throw new RangeError('from a module');\n}\n",
  );
  const { reply, text } = await kernel.run('import { fail } from "./thrower";\nfail();');
  assert.equal(reply.ename, "RangeError");
  assert.match(text, /at fail \(.*thrower\.ts:6:\d+\)\n\s+at cell \[\d+\]:2:1$/);
});

test("tracebacks follow awaits through cells", async () => {
  const { reply, text } = await kernel.run(
    'async function inner() {\n  await new Promise((resolve) => setTimeout(resolve, 1));\n  throw new Error("deep");\n}\nasync function outer() {\n  await inner();\n}\nawait outer();',
  );
  const cell = `cell \\[${reply.execution_count}\\]`;
  assert.match(
    text,
    new RegExp(
      `at inner \\(${cell}:3:9\\)\\n\\s+at async outer \\(${cell}:6:3\\)\\n\\s+at async ${cell}:8:1`,
    ),
  );
});

test("an import that never ends can be interrupted", async () => {
  write("endless.ts", 'console.log("loading");\nawait new Promise(() => {});\n');
  let sent = false;
  const { reply } = await kernel.run('const kept = 5;\nimport("./endless");\nawait import("./endless");', {
    onOutput: ({ header }) => {
      if (header.msg_type !== "stream" || sent) return;
      sent = true;
      setTimeout(() => void kernel.client.interrupt(), 50);
    },
  });
  assert.equal(reply.ename, "KeyboardInterrupt");
  assert.equal(await result("kept"), "5");
});

test("an endless loop in the user's own module can be interrupted", async () => {
  write("spin.ts", "export function spin(): never {\n  console.log('spinning');\n  for (;;);\n}\n");
  let sent = false;
  const { reply } = await kernel.run('import { spin } from "./spin"; spin();', {
    onOutput: ({ header }) => {
      if (header.msg_type !== "stream" || sent) return;
      sent = true;
      setTimeout(() => void kernel.client.interrupt(), 50);
    },
  });
  assert.equal(reply.ename, "KeyboardInterrupt");
  assert.equal(await result("kept"), "5");
});

test("tsconfig.json: strictness, paths, jsx", async () => {
  write("lib/alias.ts", "export const aliased: number = 4;\n");
  write(
    "tsconfig.json",
    '{ "compilerOptions": { "strict": false, "paths": { "@/*": ["./lib/*"] }, "jsx": "react", "jsxFactory": "h", "experimentalDecorators": true } }',
  );
  assert.equal(
    await result('import { aliased } from "@/alias"; function loose(x) { return x; }\nloose(aliased)'),
    "4",
  );
  await kernel.run(
    "declare global { namespace JSX { interface IntrinsicElements { b: { id?: string } } } }\nfunction h(...args: unknown[]) { return args; }",
  );
  assert.equal(await result('<b id="i">text</b>'), "[ 'b', { id: 'i' }, 'text' ]");
  assert.equal(
    await result(
      "const seen: string[] = []; function mark(target: object, key: string) { seen.push(key); }\nclass Marked { @mark m() {} }\nseen",
    ),
    "[ 'm' ]",
  );
  write("tsconfig.json", '{ "compilerOptions": { "strict": true } }');
  await fails("function strict(x) { return x; }", /TS7006/);
});

test("members of values that only exist at run time complete", async () => {
  await kernel.run('const anything: any = JSON.parse(\'{ "apple": { "core": 1 }, "banana": 2 }\');');
  const complete = async (code: string) => {
    const { content } = await kernel.client.request("complete_request", { code, cursor_pos: code.length });
    return content.matches as string[];
  };
  assert.deepEqual(await complete("anything.app"), ["apple"]);
  assert.deepEqual(await complete("anything.apple.co"), ["core"]);
  assert.ok((await complete("process.env.PAT")).includes("PATH"));
});

test("after the executor was replaced, types know that variables are gone", async () => {
  await kernel.run("const gone = 1;");
  await fails("process.exit(3)", /exit code 3/);
  await fails("gone", /TS2304/);
});

test("nothing but what the tests wrote is in the notebook's folder", () => {
  assert.deepEqual(
    readdirSync(kernel.folder).filter((name) => name.startsWith(".")),
    [],
  );
});

test("a module that is its own text can be imported", async () => {
  assert.equal(
    await result('const own = await import("data:text/javascript,export const z = 26"); own.z'),
    "26",
  );
});

test("what a cell finds out about its variables, the next cells know; classes that run again are the same", async () => {
  const stack =
    "class Stack { private items: number[] = []; push(x: number) { return this.items.push(x); } }";
  await kernel.run(stack);
  await kernel.run("let found: { n: number } | undefined = [{ n: 1 }].find(({ n }) => n > 0);");
  await kernel.run("if (!found) throw new Error('nothing'); const mine: Stack = new Stack();");
  await kernel.run(stack);
  assert.equal(await result("const other: Stack = mine; found.n + other.push(1)"), "2");
});

test("what is wrong with tsconfig.json is said below one cell, which runs", async () => {
  write(
    "tsconfig.json",
    '{ "extends": "not-installed-anywhere/tsconfig.json", "compilerOptions": { "strict": false } }',
  );
  const { reply, outputs } = await kernel.run("function loose(x) { return x; } loose(5)");
  assert.equal(reply.status, "ok");
  const [first, second] = outputs;
  assert.equal(first?.output_type === "stream" && first.name, "stderr");
  assert.match(
    first?.output_type === "stream" ? first.text : "",
    /tsconfig\.json extends "not-installed-anywhere\/tsconfig\.json"/,
  );
  assert.equal(second?.output_type, "execute_result");
  assert.equal((await kernel.run("loose(6)")).outputs.length, 1);
});
