/**
 * Notebooks that use real libraries: no cell has an error where the compiler finds none in all cells as one file, and every cell
 * runs.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { before, test } from "node:test";
import { projectRoot } from "../../src/cli/project.js";
import { TestKernel } from "../support.js";
import { notebooks } from "./libraries/notebooks.js";
import { Folder, Notebook } from "./support.js";

const typescript = path.dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
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

const cells = (notebook: string) => notebook.split("//%%").map((cell) => cell.trim());

test("the compiler finds no errors in the notebooks as files", () => {
  const files = Object.values(notebooks).map((notebook, i) => {
    const file = `as-file-${i}.tsx`;
    folder.write(file, `${cells(notebook).join("\n")}\nexport {};\n`);
    return file;
  });
  const options = { ...compilerOptions, target: "ESNext", module: "ESNext", moduleResolution: "Bundler" };
  const project = {
    compilerOptions: { ...options, noEmit: true, skipLibCheck: true, types: ["node"] },
    files,
  };
  folder.write("as-files.json", JSON.stringify(project));
  const tsc = path.join(typescript, "bin", "tsc");
  const { stdout } = spawnSync(process.execPath, [tsc, "-p", "as-files.json"], {
    cwd: folder.path,
    encoding: "utf8",
  });
  assert.equal(stdout, "");
});

for (const [name, notebook] of Object.entries(notebooks)) {
  test(name, async () => {
    const opened = await open;
    opened.language.reset();
    await opened.ok(...cells(notebook));
    const kernel = new TestKernel();
    try {
      await kernel.start({}, { cwd: folder.path });
      for (const code of cells(notebook)) {
        const { reply, text } = await kernel.run(code, { timeout: 600_000 });
        assert.equal(reply.status, "ok", `${code}: ${text}`);
      }
    } finally {
      await kernel.stop();
    }
  });
}

const open = Notebook.open(folder);
