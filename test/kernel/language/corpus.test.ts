/**
 * Notebooks as people write them: no cell has an error where the compiler finds none in all cells as one file.
 */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { notebooks, packages } from "./corpus.js";
import { cellsOf, compiledAsFiles, Folder, Notebook } from "./support.js";

const require = createRequire(import.meta.url);
const installed = path.resolve(path.dirname(require.resolve("typescript/package.json")), "..");
const compilerOptions = { strict: true, experimentalDecorators: true, jsx: "react-jsx" };

const folder = new Folder({ "tsconfig.json": JSON.stringify({ compilerOptions }) });
for (const [name, types] of Object.entries(packages)) {
  folder.write(`node_modules/${name}/package.json`, JSON.stringify({ name, types: "index.d.ts" }));
  folder.write(`node_modules/${name}/index.d.ts`, types);
}
folder.write("node_modules/react/jsx-runtime.d.ts", 'export { JSX } from "./index.js";');
mkdirSync(path.join(folder.path, "node_modules", "@types"));
for (const name of ["jsdom", "@types/jsdom", "@types/node"])
  symlinkSync(path.join(installed, name), path.join(folder.path, "node_modules", name));

test("the compiler finds no errors in the notebooks as files", () => {
  assert.equal(compiledAsFiles(folder, Object.values(notebooks), compilerOptions), "");
});

for (const [name, notebook] of Object.entries(notebooks)) {
  test(name, async () => {
    const { language } = await open;
    language.reset();
    await (await open).ok(...cellsOf(notebook));
  });
}

const open = Notebook.open(folder);
