import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { createImporter } from "../../../kernel/executor/modules.js";
import { Folder } from "./support.js";

const folder = new Folder({
  "package.json":
    '{ "name": "self", "type": "module", "exports": { ".": "./self.js" }, "imports": { "#inner": "./self.js" } }',
  "self.js": "export const me = 'self';",
  "tsconfig.json": '{ "compilerOptions": { "paths": { "@/*": ["./lib/*"] } } }',
  "lib/alias.ts": "export const alias: string = 'alias';",
  "node_modules/esm-only/package.json":
    '{ "name": "esm-only", "type": "module", "exports": { "import": "./i.js" } }',
  "node_modules/esm-only/i.js": "export default 'esm'; export const awaited = await Promise.resolve(42);",
  "node_modules/cjs/package.json": '{ "name": "cjs", "version": "1.2.3" }',
  "node_modules/cjs/index.js": "for (const k of ['dynamic']) module.exports[k] = k; exports.plain = 1;",
  "node_modules/marked/package.json": '{ "name": "marked" }',
  "node_modules/marked/index.js":
    "Object.defineProperty(exports, '__esModule', { value: true }); exports.default = class Marked {}; exports.other = 5;",
  "node_modules/callable/package.json": '{ "name": "callable" }',
  "node_modules/callable/index.js": "module.exports = () => 7; module.exports.helper = 8;",
  "node_modules/source/package.json": '{ "name": "source", "type": "module", "exports": "./i.ts" }',
  "node_modules/source/i.ts": "export const typed: number = 3;",
  "data.json": '{ "k": 1 }',
});
const load = createImporter({ cwd: folder.path });
const counts = globalThis as unknown as Record<string, number>;

test("packages: ESM only, with top-level await, and only under the import condition", async () => {
  assert.deepEqual({ ...(await load("esm-only")) }, { default: "esm", awaited: 42 });
});

test("CommonJS: names that Node finds and names that it does not, callable exports, marked defaults", async () => {
  const cjs = await load("cjs", undefined, ["dynamic", "plain"]);
  assert.equal(cjs.dynamic, "dynamic");
  assert.equal((cjs.default as { plain: number }).plain, 1);
  const { default: callable, helper } = await load("callable");
  assert.equal((callable as () => number)() + (helper as number), 15);
  const { default: Marked, other } = await load("marked");
  assert.equal((Marked as { name: string }).name, "Marked");
  assert.equal(other, 5);
});

test("Node's built-ins, with and without their prefix, as one and the same", async () => {
  const bare = await load("fs");
  assert.equal(bare, await load("node:fs"));
  assert.equal(typeof bare.readFileSync, "function");
});

test("the package of the folder by its own name, its internal names, and data URLs", async () => {
  assert.equal((await load("self")).me, "self");
  assert.equal((await load("#inner")).me, "self");
  assert.equal((await load("data:text/javascript,export default 5")).default, 5);
});

test("JSON, of files and packages, with attributes and without", async () => {
  for (const options of [undefined, { with: { type: "json" } }]) {
    assert.deepEqual((await load("./data.json", options)).default, { k: 1 });
    assert.equal((await load("cjs/package.json", options)).version, "1.2.3");
  }
  folder.write("data.json", '{ "k": 22 }');
  assert.equal((await load("./data.json")).k, 22);
});

test("a package that consists of TypeScript, as in a monorepo", async () => {
  assert.equal((await load("source")).typed, 3);
});

test("tslab and firstframe come with the kernel", async () => {
  assert.equal(typeof (await load("tslab")).display, "object");
});

test("a module of the user's: imports of all kinds, live bindings, import.meta, await at the top", async () => {
  folder.write(
    "all.ts",
    `import esm, { awaited } from "esm-only"; import cjs from "cjs"; import Marked, { other } from "marked"; import callable from "callable";
import fs, { existsSync } from "node:fs"; import * as path from "node:path"; import data from "./data.json"; import { alias } from "@/alias";
import { c } from "./sub/c.js"; import type { Nothing } from "./nothing";
export interface I { x: number } export enum Color { Red, Green } export let count = 0; export function inc() { count++; }
export const all = [esm, awaited, (cjs as any).dynamic, Marked.name, other, callable(), fs.existsSync === existsSync, path.join("a", "b"), data.k, alias, c];
export const url = import.meta.url; export const lazy = (x: string) => import(x); export const top = await Promise.resolve("awaited");
export default class D {}`,
  );
  folder.write("sub/c.ts", "export const c: string = 'c';");
  const module = await load("./all", undefined, ["all", "default", "I".slice(1) || "Color"]);
  assert.deepEqual(module.all, ["esm", 42, "dynamic", "Marked", 5, 7, true, "a/b", 22, "alias", "c"]);
  assert.equal(module.url, pathToFileURL(path.join(folder.path, "all.ts")).href);
  assert.equal(module.top, "awaited");
  (module.inc as () => void)();
  assert.equal(module.count, 1);
  assert.equal((await (module.lazy as (x: string) => Promise<{ c: string }>)("./sub/c")).c, "c");
});

test("what changed is run again, with what imports it, and nothing else", async () => {
  folder.write(
    "top.ts",
    "import { mid } from './mid'; import { side } from './side'; counts.top = (counts.top ?? 0) + 1; export const all = mid + side;".replaceAll(
      "counts",
      "(globalThis as any)",
    ),
  );
  folder.write(
    "mid.ts",
    "import { leaf } from './leaf'; (globalThis as any).mid = ((globalThis as any).mid ?? 0) + 1; export const mid = leaf + 'm';",
  );
  folder.write(
    "leaf.ts",
    "(globalThis as any).leaf = ((globalThis as any).leaf ?? 0) + 1; export const leaf = 'l';",
  );
  folder.write(
    "side.ts",
    "(globalThis as any).side = ((globalThis as any).side ?? 0) + 1; export const side = 's';",
  );
  assert.equal((await load("./top")).all, "lms");
  assert.equal((await load("./top.js")).all, "lms");
  assert.deepEqual([counts.top, counts.mid, counts.leaf, counts.side], [1, 1, 1, 1]);
  folder.write("leaf.ts", "(globalThis as any).leaf++; export const leaf = 'changed';");
  assert.equal((await load("./top")).all, "changedms");
  assert.deepEqual([counts.top, counts.mid, counts.leaf, counts.side], [2, 2, 2, 1]);
});

test("modules that import each other", async () => {
  folder.write(
    "ring1.ts",
    "import { two } from './ring2'; export const one = 1; export const sum = () => one + two;",
  );
  folder.write(
    "ring2.ts",
    "import { one } from './ring1'; export const two = 2; export const sum = () => one + two;",
  );
  assert.equal(((await load("./ring1")).sum as () => number)(), 3);
  assert.equal(((await load("./ring2")).sum as () => number)(), 3);
});

test("JavaScript of the user's: ES modules and CommonJS, reloaded as well", async () => {
  folder.write("plain.js", "export const e = 1; export default 2;");
  assert.deepEqual({ ...(await load("./plain")) }, { e: 1, default: 2 });
  folder.write("old.cjs", "const d = require('./dep.cjs'); module.exports = { d };");
  folder.write("dep.cjs", "module.exports = 'first';");
  assert.equal((await load("./old.cjs")).d, "first");
  folder.write("dep.cjs", "module.exports = 'second one';");
  assert.equal((await load("./old.cjs", undefined, ["d"])).d, "second one");
});

test("errors: no such file, package or export, and a module that fails is tried again", async () => {
  await assert.rejects(load("./nowhere"), {
    code: "ERR_MODULE_NOT_FOUND",
    message: /Cannot find module '\.\/nowhere'/,
  });
  await assert.rejects(load("no-such-package"), { code: "ERR_MODULE_NOT_FOUND" });
  await assert.rejects(load("node:fs", undefined, ["nope"]), {
    name: "SyntaxError",
    message: /'node:fs' does not provide an export named 'nope'/,
  });
  folder.write("fails.ts", "export {};\nthrow new Error('at load');");
  await assert.rejects(load("./fails"), /at load/);
  await assert.rejects(load("./fails"), /at load/);
  folder.write("fails.ts", "export const fine = true; // now\n");
  assert.equal((await load("./fails")).fine, true);
  folder.write("broken.ts", "export const x = ;");
  await assert.rejects(load("./broken"), /broken\.ts/);
});
