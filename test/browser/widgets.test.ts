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

const lab = await Lab.start({ "widgets.ipynb": notebook([{ code: SLIDER }, { code: BACK }]) });
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
