/**
 * The user's own files as modules, in every form that TypeScript gives them.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { startKernel } from "./support.js";

const shared = mkdtempSync(path.join(tmpdir(), "firstframe-node-path-"));
mkdirSync(path.join(shared, "in-node-path"));
writeFileSync(path.join(shared, "in-node-path/index.js"), "module.exports = { found: 'by NODE_PATH' };");

const kernel = await startKernel({ NODE_PATH: shared });
after(() => rmSync(shared, { recursive: true, force: true }));

function write(files: Record<string, string>): void {
  for (const [file, text] of Object.entries(files)) {
    const full = path.join(kernel.folder, file);
    mkdirSync(path.dirname(full), { recursive: true });
    writeFileSync(full, text);
  }
}

async function result(code: string): Promise<string> {
  return (await kernel.run(code)).text.trim();
}

test(".mjs and .mts, by their own names and as JavaScript", async () => {
  write({
    "plain.mjs":
      "export const a = 1; export default 'd'; export { join } from 'node:path'; export const top = await 2;",
    "typed.mts":
      "import { a } from './plain.mjs';\nexport const sum: number = 2 + a; export function fails(): never {\n  throw new Error('here'); }",
  });
  assert.equal(
    await result('import d, { a, join, top } from "./plain.mjs"; [a, d, join("a", "b"), top]'),
    "[ 1, 'd', 'a/b', 2 ]",
  );
  assert.equal(
    await result('import { sum } from "./typed.mts"; import { sum as same } from "./typed.mjs"; [sum, same]'),
    "[ 3, 3 ]",
  );
  assert.match(await result('import { fails } from "./typed.mts"; fails()'), /at fails \(.*typed\.mts:3:9\)/);
});

test("export = and import x = require()", async () => {
  write({
    "common.cts":
      "import fs = require('node:fs'); const c: number = fs.existsSync('/') ? 3 : 0; export = { c, plus(n: number) { return c + n; } };",
    "class.ts": "class Eq { v = 7 as number }\nexport = Eq;",
    "uses.ts":
      "import Eq = require('./class'); import common = require('./common.cts'); import { sep } from 'node:path'; export const made = [new Eq().v, common.c, sep];",
  });
  assert.equal(await result('import common from "./common.cts"; common.plus(1)'), "4");
  assert.equal(await result('import { plus } from "./common.cts"; plus(2)'), "5");
  assert.equal(await result('import Eq from "./class"; new Eq().v'), "7");
  assert.equal(await result('import { made } from "./uses"; made'), "[ 7, 3, '/' ]");
  assert.equal(await result('import again = require("./common.cts"); again.c'), "3");
  assert.equal(await result('import builtin = require("node:path"); builtin.sep'), "'/'");
});

test("require of TypeScript: from cells, from CommonJS, with and without extension, and anew when it changes", async () => {
  write({
    "r.ts":
      "import { inner } from './r-inner'; export const r: number = inner; export enum E { A = 4 } export default function named(): E { return E.A; }",
    "r-inner.ts": "export const inner: number = 20;",
    "cj.cjs": "const { r } = require('./r'); module.exports = { r };",
  });
  assert.equal(await result('require("./r").r'), "20");
  assert.equal(await result('require("./r.ts").default()'), "4");
  assert.equal(await result('require("./cj.cjs").r'), "20");
  assert.equal(await result('require.resolve("./r").slice(-5)'), "'/r.ts'");
  assert.equal(await result('import * as imported from "./r"; imported === require("./r")'), "true");
  assert.equal(await result('import fromCommonJs from "./cj.cjs"; fromCommonJs.r'), "20");
  write({ "r-inner.ts": "export const inner: number = 2100;" });
  assert.equal(await result('require("./r").r'), "2100");
  assert.equal(await result('import again from "./cj.cjs"; again.r'), "2100");
});

test("what imports a module that was run again for another is run again, too", async () => {
  write({
    "leaf.ts": "export const leaf: number = 1;",
    "middle.ts": "import { leaf } from './leaf'; export const middle: number = leaf;",
    "top.ts": "import { middle } from './middle'; export const top: number = middle;",
  });
  assert.equal(await result('import { top } from "./top"; top'), "1");
  write({ "leaf.ts": "export const leaf: number = 2222;" });
  assert.equal(await result('import { middle } from "./middle"; middle'), "2222");
  assert.equal(await result('import { top as topAgain } from "./top"; topAgain'), "2222");
});

test("a package of TypeScript in the workspace: enums, no extensions, its own aliases, and anew when it changes", async () => {
  write({
    "packages/kit/package.json":
      '{ "name": "kit", "type": "module", "exports": { ".": "./src/index.ts" }, "types": "src/index.ts" }',
    "packages/kit/tsconfig.json": '{ "compilerOptions": { "paths": { "@kit/*": ["./src/*"] } } }',
    "packages/kit/src/index.ts":
      'import { size } from "@kit/deep/inner"; import { other } from "./other"; export enum Kit { A = 3 } export const kit = () => size + Kit.A + other; export const later = async () => (await import("@kit/deep/inner")).size; export const where = import.meta.resolve("@kit/deep/inner");',
    "packages/kit/src/other.ts": "export const other: number = 100;",
    "packages/kit/src/deep/inner.ts": "export const size: number = 1;",
  });
  mkdirSync(path.join(kernel.folder, "node_modules"), { recursive: true });
  symlinkSync("../packages/kit", path.join(kernel.folder, "node_modules/kit"));
  assert.equal(
    await result(
      '// @ts-nocheck\nimport { kit, later, where } from "kit"; [kit(), await later(), where.slice(-21)]',
    ),
    "[ 104, 1, 'kit/src/deep/inner.ts' ]",
  );
  write({ "packages/kit/src/deep/inner.ts": "export const size: number = 1000;" });
  assert.equal(await result('// @ts-nocheck\nimport { kit as changed } from "kit"; changed()'), "1103");
  assert.equal(
    await result('// @ts-nocheck\nimport { kit as direct } from "./packages/kit/src/index"; direct()'),
    "1103",
  );
});

test("files in a package without their extensions, and folders, as compilers and require find them", async () => {
  write({
    "node_modules/older/package.json": '{ "name": "older", "version": "1.0.0", "main": "index.js" }',
    "node_modules/older/index.js": "exports.whole = 0;",
    "node_modules/older/fp.js": "exports.fp = 1;",
    "node_modules/older/fp.d.ts": "export declare const fp: number;",
    "node_modules/older/locale/index.js": "exports.locale = 2;",
    "node_modules/older/locale/index.d.ts": "export declare const locale: number;",
    "node_modules/older/sizes.json": "[3]",
    "node_modules/older/broken.js": "require('./not-there');",
    "uses-older.ts": 'import { fp } from "older/fp"; export const twice: number = 2 * fp;',
  });
  assert.equal(
    await result('import { fp } from "older/fp"; import { locale } from "older/locale"; [fp, locale]'),
    "[ 1, 2 ]",
  );
  assert.equal(await result('import { twice } from "./uses-older"; twice'), "2");
  assert.equal(
    await result('// @ts-nocheck\nconst sizes = await import("older/sizes"); sizes.default[0]'),
    "3",
  );
  assert.match(
    await result('// @ts-nocheck\nawait import("older/broken");'),
    /Cannot find module '.\/not-there'/,
  );
  assert.match(
    await result('// @ts-nocheck\nawait import("older/nowhere");'),
    /Cannot find module .*older\/nowhere/,
  );
});

test("a package whose wrapper for import has names that its CommonJS lacks", async () => {
  write({
    "node_modules/wrapped/package.json":
      '{ "name": "wrapped", "exports": { "import": "./wrapper.mjs", "require": "./index.js" }, "types": "./index.d.ts" }',
    "node_modules/wrapped/index.d.ts":
      "declare class Socket { static OPEN: number } export { Socket }; export declare class Server {} export default Socket;",
    "node_modules/wrapped/index.js":
      "class Socket { static OPEN = 1 } module.exports = Socket; Socket.Other = class {};",
    "node_modules/wrapped/server.js": "module.exports = class Server {};",
    "node_modules/wrapped/wrapper.mjs":
      'import Socket from "./index.js"; import Server from "./server.js"; export { Server, Socket }; export default Socket;',
  });
  assert.equal(
    await result(
      'import Default, { Server, Socket } from "wrapped"; [typeof new Server(), Default === Socket, Socket.OPEN]',
    ),
    "[ 'object', true, 1 ]",
  );
  assert.equal(
    await result('import * as whole from "wrapped"; Object.keys(whole).sort().join()'),
    "'Server,Socket,default'",
  );
});

test("packages in NODE_PATH's folders, of which TypeScript does not know", async () => {
  assert.equal(await result('import inNodePath from "in-node-path"; inNodePath.found'), "'by NODE_PATH'");
  assert.match(await result('import "nowhere-at-all";'), /TS2882|TS2307/);
});
