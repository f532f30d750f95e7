/**
 * Cells in the folders of projects, whose tsconfig.json was not written for them.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readUserConfig } from "../../../kernel/language/config.js";
import { transformCell } from "../../../kernel/language/transform.js";
import { Folder, Notebook } from "./support.js";

const config = (compilerOptions: Record<string, unknown>, rest: Record<string, unknown> = {}) =>
  JSON.stringify({ compilerOptions, ...rest });

/** What a project says that Vite made. */
const vite = {
  "tsconfig.json": JSON.stringify({
    files: [],
    references: [{ path: "./tsconfig.app.json" }, { path: "./tsconfig.node.json" }],
  }),
  "tsconfig.app.json": config(
    {
      target: "ES2022",
      lib: ["ES2022", "DOM", "DOM.Iterable"],
      verbatimModuleSyntax: true,
      strict: true,
      erasableSyntaxOnly: true,
      paths: { "@/*": ["./src/*"] },
    },
    { include: ["src"] },
  ),
  "tsconfig.node.json": config({ lib: ["ES2023"], strict: true }, { include: ["vite.config.ts"] }),
  "src/lib/util.ts": "export const util = (n: number): number => n + 1; export interface U { a: number }",
  "src/env.d.ts":
    'declare const BUILD_ID: string; declare module "*.svg" { const url: string; export default url; } interface Window { custom: number }',
};

for (const place of ["", "src", "notebooks"]) {
  test(`a project of references, as Vite makes it: a notebook in ${place || "its folder"}`, async () => {
    const folder = new Folder({ ...vite, "notebooks/a.txt": "" });
    const notebook = await Notebook.open(place === "" ? folder : folder.below(place));
    await notebook.expect(
      'import { util, type U } from "@/lib/util"; const u: U = { a: util(1) }; enum Allowed { A }',
      "const el: HTMLElement = document.createElement('p'); BUILD_ID.length; window.custom.toFixed();",
      'import url from "./a.svg"; url.length;',
      "prompt('x')?.length; prompt.password('y'); confirm('z'); display.html('x'); const h: HeadersInit = {}; WebAssembly.validate(new Uint8Array(2));",
      "const name = 'x', event = 1, status = 2, history = [1]; name.length; history[0].toFixed();",
      "util('x') // error 2345",
    );
  });
}

test("a change in a project that is referred to applies at once", async () => {
  const folder = new Folder(vite);
  const notebook = await Notebook.open(folder);
  await notebook.expect("let maybe: string | null = 'x' as string | null;", "maybe.length // error 18047");
  folder.write("tsconfig.app.json", config({ strict: false }, { include: ["src"] }));
  await notebook.expect("maybe.length");
});

test("declarations of the project's own, wherever it says they are, and in the usual places", async () => {
  const text = "declare const MADE_BY_US: 5;";
  for (const [file, rest] of [
    ["types/env.d.ts", { include: ["src", "types"] }],
    ["typings/deep/env.d.ts", { include: ["./typings/**/*"] }],
    ["src/deep/env.d.ts", { include: ["src/**/*.ts"] }],
    ["env.d.ts", { files: ["env.d.ts"] }],
    ["env.d.ts", { include: ["*"] }],
    ["next-env.d.ts", { include: ["next-env.d.ts", "**/*.tsx"] }],
    ["src/env.d.ts", {}],
    ["types/env.d.ts", {}],
  ] as const) {
    const folder = new Folder({ "tsconfig.json": config({ strict: true }, rest), [file]: text });
    await (await Notebook.open(folder)).expect("MADE_BY_US.toFixed();");
  }
  const other = new Folder({ "tsconfig.json": config({}, { include: ["src"] }), "elsewhere/env.d.ts": text });
  await (await Notebook.open(other)).expect("MADE_BY_US // error 2304");
});

test("packages of the project's own types", async () => {
  const folder = new Folder({
    "tsconfig.json": config({ typeRoots: ["./node_modules/@types", "./own"] }),
    "own/ours/index.d.ts": "declare const OURS: number;",
  });
  await (await Notebook.open(folder)).expect("OURS.toFixed(); process.version.length;");
  folder.write("tsconfig.json", config({ typeRoots: ["./own"], types: ["not-installed"] }));
  await (await Notebook.open(folder)).expect("process.version.length;", "OURS // error 2304");
});

test("types that a project names are found in its node_modules", async () => {
  const folder = new Folder({
    "tsconfig.json": config({ types: ["jest", "node", "vite/client"] }),
    "package.json": "{}",
    "node_modules/@types/jest/index.d.ts": "declare const jest: 5;",
    "node_modules/@types/node/package.json": '{ "name": "@types/node", "version": "1.0.0" }',
    "node_modules/vite/package.json": '{ "name": "vite", "version": "1.0.0" }',
    "node_modules/vite/client.d.ts":
      "interface ImportMetaEnv { MODE: string } interface ImportMeta { readonly env: ImportMetaEnv }",
  });
  await (await Notebook.open(folder)).expect(
    "jest.toFixed(); import.meta.env.MODE.length; process.version.length;",
  );
});

test("whatever a project is compiled for, cells run on this Node", async () => {
  const folder = new Folder({
    "tsconfig.json": config({
      target: "ES5",
      lib: ["ES5", "DOM"],
      module: "amd",
      downlevelIteration: true,
      noLib: true,
    }),
  });
  await (await Notebook.open(folder)).expect(
    "for (const [k, v] of new Map([['a', 1]])) k + v; const p = await Promise.resolve(1); class A { #x = 1; get y() { return this.#x; } }",
    "[3, 1].toSorted(); document.title;",
    // No compiler that takes these options is strict by itself.
    "function implicit(x) { return x + 1; } let none: string = null;",
    "p.length // error 2339",
  );
});

test("a project is as strict as its own compiler is unless told otherwise", async () => {
  const typescript = (version: string) => ({
    "tsconfig.json": config({}),
    "node_modules/typescript/package.json": JSON.stringify({ name: "typescript", version }),
  });
  await (await Notebook.open(new Folder(typescript("5.9.3")))).expect("function f(x) { return x; }");
  await (await Notebook.open(new Folder(typescript("6.0.1")))).expect(
    "function f(x) { return x; } // error 7006",
  );
});

test("a project without a compiler is strict unless told otherwise", async () => {
  await (await Notebook.open(new Folder({ "tsconfig.json": config({}) }))).expect(
    "function f(x) { return x; } // error 7006",
  );
  await (await Notebook.open(new Folder({ "tsconfig.json": config({ strict: false }) }))).expect(
    "function f(x) { return x; }",
  );
});

test("a base that can't be found is said once, and the rest applies", async () => {
  const folder = new Folder({
    "tsconfig.json": config(
      { paths: { "#x": ["./x.ts"] } },
      { extends: ["./base", "@tsconfig/node99/tsconfig.json"] },
    ),
    "base.json": config({ strict: false }),
    "x.ts": "export const x: number = 1;",
  });
  const notebook = await Notebook.open(folder);
  const [notice, ...others] = await notebook.run('import { x } from "#x"; function f(a) { return a + x; }');
  assert.deepEqual(others, []);
  assert.equal(notice?.severity, "notice");
  assert.match(
    notice!.message,
    /tsconfig\.json extends "@tsconfig\/node99\/tsconfig\.json", which can't be read: it is not installed\. /,
  );
  await notebook.ok("x.toFixed();");
  folder.write("tsconfig.json", config({}, { extends: "./nowhere" }));
  const [changed] = await notebook.run("1;");
  assert.match(changed!.message, /extends "\.\/nowhere"/);
  folder.write("tsconfig.json", config({ strict: true }));
  await notebook.ok("2;");
});

test("a tsconfig.json that is not JSON is said once, and what can be read of it applies", async () => {
  const folder = new Folder({ "tsconfig.json": '{ "compilerOptions": { "strict": false, ' });
  const notebook = await Notebook.open(folder);
  const [notice, ...others] = await notebook.run("function f(a) { return a; }");
  assert.equal(notice?.severity, "notice");
  assert.deepEqual(others, []);
  await notebook.ok("f(1);");
  for (const fine of [
    '{ // comment\n "compilerOptions": { /* more */ "strict": true, }, }',
    "",
    "\ufeff{}",
    "{}\n// end",
  ]) {
    folder.write("tsconfig.json", fine);
    await notebook.ok("f(2);");
  }
});

test("fields are assigned, not defined, where the project's target has none", () => {
  const folder = new Folder({ "tsconfig.json": config({ target: "ES2021" }) });
  const { options } = readUserConfig(folder.path);
  const { code } = transformCell(
    { id: "1", count: 1, code: "class A { declared?: number; n = 1; }" },
    options,
  );
  assert.doesNotMatch(code, /declared/);
  assert.match(code, /this\.n = 1/);
});
