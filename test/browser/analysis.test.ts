import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { installKernelspec } from "../../kernel/install/kernelspec.js";
import type { Notebook } from "../../src/cli/notebook/format.js";
import { Lab, projectRoot } from "./lab.js";

/** An analysis as people write it, with zod, d3, arquero, Observable Plot, jsdom and Vega-Lite, types checked in every cell. */

const source = join(projectRoot, "test", "kernel", "analysis.ipynb");
const cells = (JSON.parse(readFileSync(source, "utf8")) as Notebook).cells.length;

let folder: string;
before(async () => {
  // Within the project, so that its packages are found.
  mkdirSync(join(projectRoot, "out"), { recursive: true });
  folder = mkdtempSync(join(projectRoot, "out", "lab-"));
  copyFileSync(source, join(folder, "analysis.ipynb"));
  await installKernelspec({ prefix: join(folder, "prefix") });
});

test("runs whole headless: charts, frames and values are shown as what they are", () => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(projectRoot, "dist/src/cli/main.js"), "run", "analysis.ipynb", "--out", "run"],
    {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, JUPYTER_PATH: join(folder, "prefix", "share", "jupyter") },
    },
  );
  assert.equal(status, 0, stdout + stderr);
  const run = JSON.parse(readFileSync(join(folder, "run", "analysis.ipynb"), "utf8")) as Notebook;
  const types = run.cells.flatMap((cell) =>
    cell.cell_type === "code"
      ? cell.outputs.map((output) => ("data" in output ? Object.keys(output.data)[0]! : output.output_type))
      : [],
  );
  const count = (type: string) => types.filter((each) => each === type).length;
  assert.equal(count("error"), 0);
  assert.deepEqual(
    ["image/svg+xml", "application/vnd.vegalite.v5+json", "text/markdown"].map(count),
    [3, 1, 1],
  );
  assert.ok(count("text/html") >= 5, `${count("text/html")} tables and figures`);
});

test("runs whole in JupyterLab, and its charts are drawn", async () => {
  let lab: Lab | undefined;
  try {
    lab = await Lab.start(folder);
    const opened = await lab.open("analysis.ipynb");
    await opened.runAll({ timeout: 600_000 });
    const { page } = opened;
    assert.equal(await page.locator(".jp-Notebook .jp-Cell").count(), cells);
    assert.equal(await page.locator('[data-mime-type="application/vnd.jupyter.error"]').count(), 0);
    await page.locator(".vega-embed canvas, .vega-embed svg").first().waitFor();
    const broken = await page
      .locator(".jp-OutputArea-output img")
      .evaluateAll((nodes) => (nodes as HTMLImageElement[]).filter((node) => node.naturalWidth === 0).length);
    assert.equal(broken, 0, "pictures that do not load");
    await opened.screenshot("analysis-light");
    await opened.setTheme("dark");
    await opened.screenshot("analysis-dark");
    assert.deepEqual(opened.problems, []);
    await opened.shutDown();
    await opened.close();
  } finally {
    await lab?.stop();
  }
});
