import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Lab, projectRoot } from "./lab.js";

/** The tutorials as their readers meet them: opened in JupyterLab and run from the menu. */

const folder = join(projectRoot, "notebooks");
const names = readdirSync(folder).filter((name) => name.endsWith(".ipynb"));

let lab: Lab;
before(async () => {
  assert.ok(names.length > 0, `no notebook in ${folder}`);
  lab = await Lab.start(folder);
});
after(() => lab?.stop());

for (const name of names) {
  test(`${name} runs in JupyterLab without an error and shows its charts`, async () => {
    const page = await lab.open(name);
    await page.runAll();
    assert.deepEqual(await page.errors(), []);
    const count = await page.page.locator(".firstframe-plotly").count();
    assert.ok(count > 0, "no chart");
    for (const { title, marks } of await page.figures(count)) assert.ok(marks > 0, `"${title}" has no marks`);
    const stem = name.replace(/\.ipynb$/, "");
    await page.screenshot(`${stem}-light`);
    await page.setTheme("dark");
    await page.screenshot(`${stem}-dark`);
    assert.deepEqual(page.problems, []);
    await page.shutDown();
    await page.close();
  });
}
