import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Lab } from "./lab.js";
import { notebook } from "./notebook.js";

/** ipywidgets' own front end, without its Python side: models and messages are made in TypeScript. */
const SLIDER = `const widget = (state: Record<string, unknown>) =>
  comms.open("jupyter.widget", { state, buffer_paths: [] }, { metadata: { version: "2.1.0" } });
const module = (name: string) => ({ _model_module: name, _model_module_version: "2.0.0", _view_module: name, _view_module_version: "2.0.0" });
const base = module("@jupyter-widgets/base");
const controls = module("@jupyter-widgets/controls");
const layout = widget({ ...base, _model_name: "LayoutModel", _view_name: "LayoutView" });
const style = widget({ ...controls, _model_name: "SliderStyleModel", _view_module: "@jupyter-widgets/base", _view_name: "StyleView" });
const slider = widget({
  ...controls, _model_name: "IntSliderModel", _view_name: "IntSliderView", description: "frame", value: 3, min: 0, max: 10, step: 1,
  continuous_update: true, readout: true, layout: "IPY_MODEL_" + layout.id, style: "IPY_MODEL_" + style.id,
});
let frame = 3;
display.markdown("frame **3**", { displayId: "frame" });
slider.onMessage(({ data }) => {
  if (data.method !== "update") return;
  frame = data.state.value;
  display.markdown(\`frame **\${frame}**\`, { displayId: "frame", update: true });
});
display({ "application/vnd.jupyter.widget-view+json": { version_major: 2, version_minor: 0, model_id: slider.id } }, { raw: true });`;

const BACK = 'slider.send({ method: "update", state: { value: 1 }, buffer_paths: [] });\nframe';

const INTERACT = `import { figure, interact } from "firstframe";
interact({ n: [1, 9], kind: ["bar", "scatter"], on: true }, ({ n, kind, on }) => {
  if (n === 9) throw new Error("nine is too many");
  return figure([{ type: kind, y: Array.from({ length: n }, (_, i) => i + 1) }], { title: { text: \`\${n} as \${kind}\${on ? "" : ", off"}\` } });
})`;

const COUNTER = `import { anywidget } from "firstframe";
const counter = anywidget({
  state: { value: 2, bytes: new Uint8Array([40]) },
  css: ".counter { font-weight: bold; padding: 4px 12px; }",
  esm: \`export default {
    render({ model, el }) {
      const button = document.createElement("button");
      button.className = "counter";
      const show = () => { button.textContent = "count is " + (model.get("value") + model.get("bytes").getUint8(0)); };
      button.onclick = () => { model.set("value", model.get("value") + 1); model.save_changes(); };
      model.on("change:value", show);
      model.on("msg:custom", (content) => { button.title = content.title; });
      show();
      el.append(button);
    },
  };\`,
});
counter.on("change:value", (value) => display.markdown("the cell has **" + value + "**", { displayId: "count", update: true }));
display.markdown("the cell has **2**", { displayId: "count" });
counter`;

const lab = await Lab.start({
  "widgets.ipynb": notebook([{ code: SLIDER }, { code: BACK }]),
  "interact.ipynb": notebook([{ code: INTERACT }]),
  "anywidget.ipynb": notebook([
    { code: COUNTER },
    { code: 'counter.set({ value: 50 });\ncounter.send({ title: "from the cell" });' },
  ]),
});
after(() => lab.stop());

test("a slider of ipywidgets is moved by hand, the cell's code follows, and moves it back", async () => {
  const opened = await lab.open("widgets.ipynb");
  const { page } = opened;
  await opened.ready();
  await page.locator(".jp-Notebook .cm-content").first().click();
  await page.keyboard.press("Shift+Enter");
  const handle = page.locator(".jupyter-widgets .noUi-handle");
  const shown = page.locator(".jp-RenderedMarkdown strong").first();
  await handle.waitFor();
  assert.equal(await shown.textContent(), "3");

  const [grip, track] = [
    (await handle.boundingBox())!,
    (await page.locator(".jupyter-widgets .noUi-base").boundingBox())!,
  ];
  await page.mouse.move(grip.x + grip.width / 2, grip.y + grip.height / 2);
  await page.mouse.down();
  await page.mouse.move(track.x + track.width * 0.8, grip.y + grip.height / 2, { steps: 5 });
  await page.mouse.up();
  await page.locator(".jp-RenderedMarkdown strong").getByText("8", { exact: true }).waitFor();
  const readout = page.locator(".jupyter-widgets .widget-readout");
  assert.equal(await readout.textContent(), "8");
  await opened.screenshot("ipywidgets");

  // Dragging has taken the focus from the notebook.
  await page.locator(".jp-Notebook .cm-content").nth(1).click();
  await page.keyboard.press("Shift+Enter");
  await page.locator(".jp-OutputArea-output").getByText("8", { exact: true }).last().waitFor();
  await readout.getByText("1", { exact: true }).waitFor();
  assert.deepEqual(await opened.errors(), []);
  assert.deepEqual(opened.problems, []);
  await opened.close();
});

test("interact is ipywidgets' own controls, also after the page is loaded again, and ours where the kernel is gone", async () => {
  const opened = await lab.open("interact.ipynb");
  const { page } = opened;
  await opened.runAll();
  const title = page.locator(".jupyter-widgets .firstframe-plotly .gtitle");
  await title.getByText("1 as bar", { exact: true }).waitFor();
  assert.equal(await page.locator(".firstframe-controls").isVisible(), false, "our own controls, too");

  await page.locator(".jupyter-widgets select").selectOption("scatter");
  await title.getByText("1 as scatter", { exact: true }).waitFor();
  await page.locator(".jupyter-widgets input[type=checkbox]").uncheck();
  await title.getByText("1 as scatter, off", { exact: true }).waitFor();
  const readout = page.locator(".jupyter-widgets .widget-readout");
  const set = async (value: string) => {
    await readout.click();
    await page.keyboard.press("Control+a");
    await page.keyboard.type(value);
    await page.keyboard.press("Enter");
  };
  await set("9");
  await page.locator(".jupyter-widgets").getByText("Error: nine is too many").first().waitFor();
  await set("4");
  await title.getByText("4 as scatter, off", { exact: true }).waitFor();
  await opened.screenshot("interact-ipywidgets-light");
  assert.deepEqual(opened.problems, []);

  await opened.save();
  await page.reload();
  await title.getByText("4 as scatter, off", { exact: true }).waitFor();
  assert.equal(await readout.textContent(), "4", "the kernel's state");
  await set("3");
  await title.getByText("3 as scatter, off", { exact: true }).waitFor();

  await opened.shutDown();
  await opened.close();
  const again = await lab.open("interact.ipynb", { theme: "dark" });
  assert.deepEqual(await again.figures(1), [{ title: "1 as bar", marks: 1 }]);
  await again.page
    .locator(".firstframe-controls-note")
    .getByText("Run the cell to use these controls.")
    .waitFor();
  assert.equal(await again.page.getByText("model not found").count(), 0);
  await again.runAll();
  await again.page.locator(".jupyter-widgets .gtitle").getByText("1 as bar", { exact: true }).waitFor();
  await again.screenshot("interact-ipywidgets-dark");
  await again.shutDown();
  await again.close();
});

test("a cell's own anywidget draws, tells the cell, and is told by it", async () => {
  const opened = await lab.open("anywidget.ipynb");
  const { page } = opened;
  await opened.ready();
  const run = async (i: number) => {
    await page.locator(".jp-Notebook .cm-content").nth(i).click();
    await page.keyboard.press("Shift+Enter");
  };
  await run(0);
  const button = page.locator("button.counter");
  await button.getByText("count is 42", { exact: true }).waitFor();
  await button.click();
  await button.getByText("count is 43", { exact: true }).waitFor();
  await page.locator(".jp-RenderedMarkdown strong").getByText("3", { exact: true }).waitFor();
  await run(1);
  await button.getByText("count is 90", { exact: true }).waitFor();
  await page.locator("button.counter[title='from the cell']").waitFor();
  assert.equal(await button.evaluate((node) => getComputedStyle(node).fontWeight), "700");
  await opened.screenshot("anywidget");
  assert.deepEqual(await opened.errors(), []);
  assert.deepEqual(opened.problems, []);
  await opened.close();
});
