import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { Folder, Notebook } from "./support.js";

const notebook = await Notebook.open(
  new Folder({
    "util.ts":
      "/** Doubles. */\nexport function double(x: number): number {\n  return 2 * x;\n}\nexport interface Item {\n  name: string;\n}\n",
  }),
);

test("an error has its number, message and place in the cell", async () => {
  const code = "const a = 1;\nconst s: string = a + 1;";
  const [error, ...rest] = await notebook.run(code);
  assert.deepEqual(rest, []);
  assert.equal(error?.code, 2322);
  assert.equal(error?.severity, "error");
  assert.match(error!.message, /'number' is not assignable to type 'string'/);
  assert.equal(code.slice(error!.start, error!.end), "s");
});

test("places are right after characters outside the basic plane, and with Windows line ends", async () => {
  const code = "const s = '😀😀';\r\n/* 😀 */ missing;";
  const [error] = await notebook.run(code);
  assert.equal(code.slice(error!.start, error!.end), "missing");
});

test("variables whose type a literal or a keyword shows keep it, and what widens widens", async () => {
  await notebook.ok(
    `let n = 1, s = "x", b = true, a: boolean = false, neg = -1, none = null; const five = 5, yes = true;
     export let e: string = "e"; var twice = 1; var twice = 2; let u: string | number = 5;`,
    'n = 2; s = "y"; b = false; a = true; neg = 3; e = "f"; twice = 4; u = "six"; const f: 5 = five; const t: true = yes;',
  );
  await notebook.ok(
    `const long = "${"x".repeat(5000)}"; const folded = "a\\\nb";`,
    'long.length; const ab: "ab" = folded;',
  );
  assert.deepEqual(await notebook.codes('n = "text"'), [2322]);
  assert.deepEqual(await notebook.codes("s = 1"), [2322]);
  assert.deepEqual(await notebook.codes("b = 1"), [2322]);
  assert.deepEqual(await notebook.codes("a = 1"), [2322]);
  assert.deepEqual(await notebook.codes("e = 1"), [2322]);
  assert.deepEqual(await notebook.codes("five = 6"), [2588]);
  assert.deepEqual(await notebook.codes("u = true"), [2322]);
});

test("later cells see variables, functions, classes, enums, interfaces, types, namespaces and imports", async () => {
  await notebook.ok(
    `let v = 1; const c = "x"; function f<T>(x: T): T[] { return [x]; } class P { x = 1; }
     enum E { A, B } interface I { q: number } type G<T> = { g: T }; namespace N { export const n = 1; export type T = "t"; }
     const { d1, inner: [d2] } = { d1: 1, inner: ["y"] }; abstract class Q extends P { abstract m(): void }`,
    'import { double, type Item } from "./util"; import * as os from "node:os"; import fs, { readFileSync as read } from "node:fs";',
    `v = 2; const g: G<I> = { g: { q: E.B } }; f(new P()).length; c.length; N.n; const t: N.T = "t"; d1.toFixed(); d2.trim();
     double(v); const item: Item = { name: os.hostname() }; fs.existsSync(read("x", "utf8")); class R extends Q { m() {} }`,
  );
  assert.deepEqual(await notebook.codes("v = 'text'"), [2322]);
  assert.deepEqual(await notebook.codes("f(1)[0].toUpperCase()"), [2339]);
});

test("the last declaration of a name is in force, for types as well as for values", async () => {
  await notebook.ok("interface Shape { r: number } let shape: Shape = { r: 1 }; const k = 1;");
  await notebook.ok("interface Shape { w: string } let shape: Shape = { w: 'x' }; const k = 'now text';");
  await notebook.ok("shape.w.length; k.length; const other: Shape = { w: 'y' }; let E = 5; E.toFixed();");
  assert.deepEqual(await notebook.codes("shape.r"), [2339]);
});

test("what can't be assigned says why", async () => {
  await notebook.ok("const fixed = 1; function named() {}; class Klass {}; enum En { A }");
  for (const [name, code, what] of [
    ["fixed", 2588, "a constant"],
    ["named", 2630, "a function"],
    ["Klass", 2629, "a class"],
    ["En", 2628, "an enum"],
  ] as const) {
    const [error] = await notebook.run(`${name} = 0 as any`);
    assert.equal(error?.code, code, name);
    assert.match(error!.message, new RegExp(`Cannot assign to '${name}' because it is ${what}\\.`));
  }
});

test("types of other cells are named by their cell", async () => {
  const first = notebook.cell("interface Two { a: number } function wants(x: Two) {}");
  notebook.language.accept(first);
  const second = notebook.cell("interface Two { b: number } const two: Two = { b: 1 };");
  notebook.language.accept(second);
  const [error] = await notebook.run("wants(two)");
  assert.match(error!.message, new RegExp(`import\\("cell \\[${second.count}\\]"\\)\\.Two`));
  assert.doesNotMatch(error!.message, /firstframe-cell/);
});

test("arrays and variables that begin empty take their types from use, as in a module", async () => {
  await notebook.ok(
    "const list = []; list.push(1); let later; later = 'x'; later.length;",
    "list.push('y');",
  );
});

test("an object literal is an expression, and a block stays one", async () => {
  await notebook.ok("{ a: 1, b: [2] }", "{ let inner = 1; inner + 1; }", "{}");
  const code = "{ a: missingName }";
  const [error] = await notebook.run(code);
  assert.equal(code.slice(error!.start, error!.end), "missingName");
});

test("top-level await, import.meta, dynamic import, attributes, exports and require are fine", async () => {
  await notebook.ok(
    'const m = await import("node:path"); m.join("a"); import.meta.url; export const exported = 1; export default 5;',
    "exported.toFixed();",
    'import util = require("node:util"); util.inspect(1);',
    "util.inspect(2);",
  );
});

test("Node's globals and the kernel's own are known", async () => {
  await notebook.ok(
    'Buffer.from("x"); process.version; setTimeout(() => {}, 1); await fetch("data:,x"); structuredClone({});',
    'display("x"); display.html("<b>x</b>"); clearOutput({ wait: true }); const answer: string | null = prompt("?");',
    'import { display as shown, newDisplay } from "tslab"; shown.html("x"); newDisplay().text("y");',
    'import { Clip } from "firstframe/video"; import { KernelClient } from "firstframe/kernel-client"; Clip.fromFrames; KernelClient.name;',
  );
});

test("@ts-nocheck switches the check of its cell off, comments before it or not", async () => {
  await notebook.ok(
    "// @ts-nocheck\nconst no: number = 'x';",
    "/* about */\n// more\n// @ts-nocheck\nmissing();",
    "// @ts-expect-error\nconst no2: number = 'x';",
    "// @ts-ignore\nmissing();",
  );
  assert.deepEqual(await notebook.codes("missing(); // @ts-nocheck"), [2304]);
});

test("global augmentations stay in force", async () => {
  await notebook.ok("declare global { interface Array<T> { firstOne(): T } }", "[1].firstOne().toFixed();");
});

test("JSX is recognized by its grammar, and old casts by theirs", async () => {
  const codes = await notebook.codes("const el = <div>{1}</div>;");
  assert.ok(codes.includes(2875), `${codes}`);
  await notebook.ok("const cast = <number>(5 as unknown);");
});

test("a package without types is worth a warning, no more", async () => {
  notebook.folder.write("node_modules/untyped/package.json", '{"name":"untyped","main":"i.js"}');
  notebook.folder.write("node_modules/untyped/i.js", "exports.x = 1");
  const diagnostics = await notebook.run('import { x } from "untyped"; x;');
  assert.deepEqual(
    diagnostics.map(({ severity, code }) => [severity, code]),
    [["warning", 7016]],
  );
});

test("a package that is installed meanwhile is found", async () => {
  assert.deepEqual(await notebook.codes('import five from "arrives-later";'), [2307]);
  notebook.folder.write(
    "node_modules/arrives-later/package.json",
    '{"name":"arrives-later","types":"i.d.ts"}',
  );
  notebook.folder.write("node_modules/arrives-later/i.d.ts", "declare const five: 5; export default five;");
  await notebook.ok('import five from "arrives-later"; const exactly: 5 = five;');
});

test("a module that changed on disk is read again, also one behind another", async () => {
  notebook.folder.write("outer.ts", 'export * from "./inner.js";\n');
  notebook.folder.write("inner.ts", "export const size: number = 1;\n");
  await notebook.ok('import { size } from "./outer"; size.toFixed();');
  notebook.folder.write("inner.ts", 'export const size: string = "one";\n');
  await notebook.ok("size.trim();");
  assert.deepEqual(await notebook.codes("size.toFixed()"), [2551]);
});

test("imports of text that is no module fail where they stand", async () => {
  const code = 'import { nothing } from "./not-there";';
  const [error] = await notebook.run(code);
  assert.equal(error?.code, 2307);
  assert.equal(code.slice(error!.start, error!.end), '"./not-there"');
});

test("what is not installed comes with the magic that installs it; what is no package does not", async () => {
  const said = async (specifier: string) =>
    (await notebook.run(`import * as it from "${specifier}";`))[0]?.message ?? "no error";
  assert.match(await said("not-there-yet"), / Install it with `%install not-there-yet`\.$/);
  assert.match(await said("@scope/not-there/sub"), / Install it with `%install @scope\/not-there`\.$/);
  for (const path of ["./not-there", "node:not-there", "#not-there", "/not/there"])
    assert.doesNotMatch(await said(path), /%install/, path);
});

test("nothing is written into the notebook's folder", () => {
  assert.deepEqual(readdirSync(notebook.folder.path).sort(), [
    "inner.ts",
    "node_modules",
    "outer.ts",
    "util.ts",
  ]);
});

test("the compiler is started again when it dies, and nothing is lost", async () => {
  await notebook.ok("const survivor = { deep: 'x' };");
  const { pid } = notebook.language;
  process.kill(pid!, "SIGKILL");
  await notebook.ok("survivor.deep.length;");
  assert.notEqual(notebook.language.pid, pid);
  assert.deepEqual(await notebook.codes("survivor.deep = 5"), [2322]);
});

test("after a reset, earlier cells are forgotten", async () => {
  await notebook.ok("const forgotten = 1;", "forgotten;");
  notebook.language.reset();
  assert.deepEqual(await notebook.codes("forgotten"), [2304]);
});

test("the nearest tsconfig.json applies: strictness, paths, jsx, and also one that is new or has changed", async () => {
  const folder = new Folder({
    "tsconfig.json":
      '{ /* comment */ "extends": "./base.json", "compilerOptions": { "strict": false }, "include": ["src"], }',
    "base.json":
      '{ "compilerOptions": { "paths": { "@/*": ["./lib/*"] }, "jsx": "react", "jsxFactory": "h", "noUnusedLocals": true } }',
    "lib/alias.ts": "export const aliased = 1;\n",
    "notebooks/keep.txt": "",
  });
  const loose = await Notebook.open(new Folder());
  loose.folder.write("tsconfig.json", '{ "compilerOptions": { "strict": false } }');
  await loose.ok("function implicit(x) { return x; }");
  loose.folder.write("tsconfig.json", '{ "compilerOptions": { "strict": true } }  ');
  assert.deepEqual(await loose.codes("function implicit2(x) { return x; }"), [7006]);

  const below = new Folder();
  void below;
  const language = await Notebook.open(
    Object.assign(Object.create(Folder.prototype), { path: `${folder.path}/notebooks` }),
  );
  await language.ok(
    'function implicit(x) { return x; } import { aliased } from "@/alias"; aliased.toFixed(); const unused = 1;',
    "declare global { namespace JSX { interface IntrinsicElements { b: {} } } } declare function h(...args: unknown[]): {};",
    "<b>text</b>",
  );
});

test("variables of earlier cells keep the types they have there, and widen as they do there", async () => {
  await notebook.ok(
    `const five = 5, minus = -1, word = "w", yes = true, big = 5n, un: "a" | "b" = "a" as "a" | "b", tuple = [1, "x"] as const;
     let loose = "x", maybe: string | undefined, rec = { a: [1], f(x: number): string { return String(x); }, g: <T,>(x: T) => x };
     const map = new Map<string, number[]>(), sym = Symbol("s"), box = new (class Hidden { v = 1 })(), nothing = null;
     let fn = (a: number, ...rest: string[]) => a + rest.length; const buffer = Buffer.from("x"); const date = new Date();`,
  );
  await notebook.ok(
    `let w1 = five; w1 = 6; let w2 = word; w2 = "other"; let w3 = yes; w3 = false; let w4 = big; w4 = 6n; let w5 = minus; w5 = 3;
     const exact: 5 = five; const exactWord: "w" = word; const t: readonly [1, "x"] = tuple; maybe = undefined; maybe = "s";
     rec.a.push(2); rec.f(1).trim(); rec.g(5).toFixed(); map.get("k")?.length; const s: typeof sym = sym; box.v.toFixed(); fn(1, "a", "b");
     buffer.readUInt8(0); date.getTime(); nothing; loose = "y"; rec = { a: [], f: (x) => "", g: (x) => x };`,
  );
  assert.deepEqual(await notebook.codes("un = 'c'"), [2588]);
  assert.deepEqual(await notebook.codes("loose = 5"), [2322]);
  assert.deepEqual(await notebook.codes("tuple[0] = 2"), [2540]);
  assert.deepEqual(await notebook.codes("fn('x')"), [2345]);
});

test("a cell that shadows a global type does not change what earlier variables are", async () => {
  await notebook.ok("const entries = new Map<string, number>(); let stamps: Date[] = [];");
  await notebook.ok(
    "class Map { mine = 1 } interface Date { own: string } new Map().mine; entries.set('k', 1); stamps[0]?.getTime();",
  );
  await notebook.ok(
    "entries.get('k')?.toFixed(); new Map().mine.toFixed(); stamps.push(new globalThis.Date());",
  );
});
