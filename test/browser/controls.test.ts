import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Lab } from "./lab.js";
import { notebook } from "./notebook.js";

/** Controls in a JupyterLab without ipywidgets' manager: our own. */

const CONTROLS = `import { figure, interact } from "firstframe";
interact({ n: [1, 9], kind: ["bar", "scatter"] }, ({ n, kind }) => {
  if (n === 9) throw new Error("nine is too many");
  return figure([{ type: kind, y: Array.from({ length: n }, (_, i) => i + 1) }], { title: { text: \`\${n} as \${kind}\` } });
})`;

let lab: Lab;
before(async () => {
  const files = { "controls.ipynb": notebook([{ code: CONTROLS }]) };
  lab = await Lab.start(files, { disabled: ["@jupyter-widgets/jupyterlab-manager"] });
});
after(() => lab?.stop());

describe("controls", () => {
  test("redraw their picture, survive errors, and are off without their kernel", async () => {
    const notebook = await lab.open("controls.ipynb");
    const { page } = notebook;
    await notebook.runAll();
    const slider = page.locator(".firstframe-controls input[type=range]");
    const title = page.locator(".firstframe-plotly .gtitle");
    await title.getByText("1 as bar", { exact: true }).waitFor();
    await page.locator(".firstframe-controls input[type=range]:enabled").waitFor();

    await slider.focus();
    for (let i = 0; i < 4; i++) await page.keyboard.press("ArrowRight");
    await title.getByText("5 as bar", { exact: true }).waitFor();
    assert.deepEqual(await notebook.figures(1), [{ title: "5 as bar", marks: 5 }]);
    assert.equal(await page.locator(".firstframe-controls output").textContent(), "5");
    assert.ok(await slider.evaluate((node) => node === document.activeElement), "the slider lost the focus");

    await page.locator(".firstframe-controls select").selectOption("scatter");
    await title.getByText("5 as scatter", { exact: true }).waitFor();
    await notebook.screenshot("controls-light");

    await slider.fill("9");
    await page.locator(".firstframe-controls-error").getByText("Error: nine is too many").waitFor();
    await slider.fill("2");
    await title.getByText("2 as scatter", { exact: true }).waitFor();
    assert.equal(await page.locator(".firstframe-controls-error").count(), 0);

    await notebook.save();
    await notebook.shutDown();
    const note = "Run the cell to use these controls.";
    await page.locator(".firstframe-controls-note").getByText(note).waitFor();
    assert.equal(await page.locator(".firstframe-controls :is(input, select):enabled").count(), 0);
    assert.deepEqual(notebook.problems, []);
    await notebook.close();

    // The notebook keeps the first picture, for those who only read it.
    const again = await lab.open("controls.ipynb", { theme: "dark" });
    assert.deepEqual(await again.figures(1), [{ title: "1 as bar", marks: 1 }]);
    await again.page.locator(".firstframe-controls-note").getByText(note).waitFor();
    await again.screenshot("controls-dark");
    await again.shutDown();
    await again.close();
  });
});
