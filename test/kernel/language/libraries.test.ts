/**
 * Notebooks that use real libraries: no cell has an error where the compiler finds none in all cells as one file, and every cell
 * runs.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import path from "node:path";
import { before, test } from "node:test";
import { projectRoot } from "../../src/cli/project.js";
import { TestKernel } from "../support.js";
import { notebooks } from "./libraries/notebooks.js";
import { cellsOf, compiledAsFiles, Folder, Notebook } from "./support.js";

const compilerOptions = {
  ...{ strict: true, experimentalDecorators: true, emitDecoratorMetadata: true, jsx: "react-jsx" },
  ...{ lib: ["ESNext", "DOM", "DOM.Iterable"], esModuleInterop: true, resolveJsonModule: true },
};
const folder = new Folder({ "tsconfig.json": JSON.stringify({ compilerOptions }) });
before(() => {
  const source = path.join(projectRoot, "test/kernel/language/libraries");
  for (const name of ["package.json", "package-lock.json"])
    copyFileSync(path.join(source, name), path.join(folder.path, name));
  const flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"];
  const { status, stderr } = spawnSync("npm", ["ci", ...flags], { cwd: folder.path, encoding: "utf8" });
  assert.equal(status, 0, stderr);
});

test("the compiler finds no errors in the notebooks as files", () => {
  assert.equal(compiledAsFiles(folder, Object.values(notebooks), compilerOptions), "");
});

for (const [name, notebook] of Object.entries(notebooks)) {
  test(name, async () => {
    const opened = await open;
    opened.language.reset();
    await opened.ok(...cellsOf(notebook));
    const kernel = new TestKernel();
    try {
      await kernel.start({}, { cwd: folder.path });
      for (const code of cellsOf(notebook)) {
        const { reply, text } = await kernel.run(code, { timeout: 600_000 });
        assert.equal(reply.status, "ok", `${code}: ${text}`);
      }
    } finally {
      await kernel.stop();
    }
  });
}

const open = Notebook.open(folder);
