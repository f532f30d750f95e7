import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Canary, nothingHappened, openStrangers, remotePicture, writtenFiles } from "./canary.js";
import { Lab, type NotebookPage } from "./lab.js";
import { notebook } from "./notebook.js";

/**
 * A stranger's notebook in a real JupyterLab: it is opened and nothing else is done. None of its scripts may run, nothing may be
 * loaded from where it says, no kernel may be asked for anything, no file may be written.
 */

const CONTROLS = "application/vnd.firstframe.controls.v1+json";
const PLOTLY = "application/vnd.plotly.v1+json";
const WIDGET_VIEW = "application/vnd.jupyter.widget-view+json";
const WIDGET_STATE = "application/vnd.jupyter.widget-state+json";

const slider = { name: "n", label: "n", kind: "slider", min: 1, max: 9, step: 1, value: 1 };
const controls = { [CONTROLS]: { id: "x", controls: [slider] } };

const NOT_TRUSTED = "This notebook is not trusted: run the cell to use these controls.";
const NO_OUTPUT = "This notebook is not trusted: run the cell to see its output.";

let canary: Canary;
let lab: Lab;
before(async () => {
  canary = await Canary.start();
  lab = await Lab.start({
    "beside.ipynb": beside(),
    "beside-elsewhere.ipynb": {
      ...beside(),
      metadata: { kernelspec: { name: "elsewhere", display_name: "E" } },
    },
    "mine.ipynb": notebook([{ code: MINE }]),
  });
});
after(async () => {
  await lab?.stop();
  await canary?.stop();
});

/** Outputs of every kind that a bundle with controls may hold, each with a script or something to load. */
function besides(): Record<string, Record<string, unknown>> {
  const script = (name: string) => canary.script(name);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="${script("svg")}"><script>${script("svg-script")}</script></svg>`;
  return {
    picture: { "text/html": `text of picture<img src="/no-such" onerror="${script("picture")}">` },
    element: { "text/html": `text of element<script>${script("element")}</script>` },
    frame: {
      "text/html": `text of frame<iframe srcdoc="<script>parent.${script("frame")}</script>"></iframe>`,
    },
    "inner-svg": {
      "text/html": `text of inner-svg<svg><animate attributeName="x" dur="1s" onbegin="${script("inner-svg")}"/></svg>`,
    },
    style: { "text/html": `text of style<style>body { background: url(${canary.load("style")}) }</style>` },
    svg: { "image/svg+xml": svg },
    markdown: {
      "text/markdown": `text of markdown\n<img src="/no-such" onerror="${script("markdown")}">\n\n<script>${script("markdown-script")}</script>`,
    },
    latex: { "text/latex": `$\\text{<img src="/no-such" onerror="${script("latex")}">}$` },
    javascript: { "application/javascript": script("javascript") },
    widget: { [WIDGET_VIEW]: { version_major: 2, version_minor: 0, model_id: "a-widget" } },
    figure: { [PLOTLY]: { data: [{ y: [1, 2] }], layout: remotePicture(canary, "figure") } },
    nothing: {},
  };
}

function beside(): Record<string, unknown> {
  const cells = Object.entries(besides()).map(([code, data]) => ({ code, data: { ...controls, ...data } }));
  const alone = Object.entries(besides()).map(([code, data]) => ({ code: `${code} alone`, data }));
  const whole = notebook([...cells, ...alone]) as {
    cells: { metadata: Record<string, unknown> }[];
    metadata: Record<string, unknown>;
  };
  for (const cell of whole.cells) cell.metadata.trusted = true; // whoever writes that
  whole.metadata[WIDGET_STATE] = widgetState();
  whole.metadata.widgets = { [WIDGET_STATE]: widgetState() };
  return whole as unknown as Record<string, unknown>;
}

function widgetState() {
  const module = (name: string, version: string) => ({
    _model_module: name,
    _model_module_version: version,
    _view_module: name,
    _view_module_version: version,
  });
  const model = (name: string, state: Record<string, unknown>) => ({
    model_name: name,
    model_module: state._model_module,
    model_module_version: state._model_module_version,
    state: { ...state, _model_name: name, _view_name: name.replace("Model", "View") },
  });
  return {
    version_major: 2,
    version_minor: 0,
    state: {
      "a-layout": model("LayoutModel", module("@jupyter-widgets/base", "2.0.0")),
      "a-style": model("HTMLStyleModel", module("@jupyter-widgets/controls", "2.0.0")),
      "a-widget": model("HTMLModel", {
        ...module("@jupyter-widgets/controls", "2.0.0"),
        value: `text of widget<img src="/no-such" onerror="${canary.script("widget")}">`,
        layout: "IPY_MODEL_a-layout",
        style: "IPY_MODEL_a-style",
      }),
    },
  };
}

const MINE = `import { appendFileSync } from "node:fs";
import { interact } from "firstframe";
interact({ n: [1, 9] }, ({ n }) => {
  appendFileSync("drawn.txt", \`\${n} \`);
  return \`drawn \${n}\`;
})`;

/** JupyterLab's own command, from its palette. */
async function trust({ page }: NotebookPage): Promise<void> {
  await page.keyboard.press("Control+Shift+KeyC");
  await page.locator("#modal-command-palette input, .lm-CommandPalette-input").first().fill("Trust Notebook");
  await page.locator(".lm-CommandPalette-item", { hasText: "Trust Notebook" }).first().click();
  await page.locator(".jp-Dialog button", { hasText: "Trust" }).click();
  await page.locator(".jp-Dialog").waitFor({ state: "detached" });
}

describe("a stranger's notebook with controls beside outputs of every kind", () => {
  const count = 24; // each beside controls, and alone

  test("runs nothing when it is opened with its kernel", async () => {
    const seen = await openStrangers(lab, canary, "beside.ipynb", async (page) => {
      await page.locator(".firstframe-plotly .gtitle").nth(1).waitFor();
      for (const text of ["picture", "element", "frame", "inner-svg", "style", "markdown"]) {
        await page.getByText(`text of ${text}`).nth(1).waitFor();
      }
    });
    await seen.opened.ready();
    await canary.settled(seen.page);
    await nothingHappened(lab, canary, seen);

    assert.equal(await seen.page.locator(".firstframe-controls").count(), count / 2);
    assert.equal(await seen.page.locator(".firstframe-controls :is(input, select):enabled").count(), 0);
    const notes = await seen.page.locator(".firstframe-controls-note").allInnerTexts();
    assert.equal(notes.length, count / 2);
    assert.deepEqual([...new Set(notes)].sort(), [NO_OUTPUT, NOT_TRUSTED].sort());
    const frames = await seen.page.locator(".jp-OutputArea iframe").count();
    assert.equal(frames, 0, "a frame of the notebook's");
    assert.deepEqual(seen.opened.problems, []);
    await seen.opened.screenshot("untrusted-controls");
    await seen.opened.shutDown();
    await seen.opened.close();
  });

  test("runs nothing whichever kernel it names", async () => {
    const seen = await openStrangers(lab, canary, "beside-elsewhere.ipynb", async (page) => {
      await page.locator(".firstframe-plotly .gtitle").nth(1).waitFor();
      await page.locator(".jp-Dialog", { hasText: "Select Kernel" }).waitFor();
    });
    await nothingHappened(lab, canary, seen);
    await seen.opened.close();
  });

  test("runs once its reader trusts it, as any notebook: what is counted does count", async () => {
    const { opened, page } = await openStrangers(lab, canary, "beside.ipynb", () => Promise.resolve());
    await opened.ready();
    await trust(opened);
    for (const name of ["picture", "element", "frame", "inner-svg", "markdown", "javascript", "widget"]) {
      await canary.until(`/ran/${name}`);
      const file = `written-by-${name}.txt`;
      while (!(await writtenFiles(lab)).includes(file)) await page.waitForTimeout(50);
    }
    await canary.until("/loaded/figure");
    const note = page.locator(".firstframe-controls-note").first();
    await note.getByText("Run the cell to use these controls.", { exact: true }).waitFor();
    await canary.settled(page);
    await opened.shutDown();
    await opened.close();
    for (const file of await writtenFiles(lab)) await rm(join(lab.notebooks, file));
    canary.taken();
  });
});

/** Types a value into the slider of ipywidgets that a cell has shown. */
async function set({ page }: NotebookPage, value: string): Promise<void> {
  await page.locator(".jupyter-widgets .widget-readout").click();
  await page.keyboard.press("Control+KeyA");
  await page.keyboard.type(value);
  await page.keyboard.press("Enter");
}

test("a stranger's notebook over one whose kernel runs has no word with that kernel until its cell is run", async () => {
  const mine = await lab.open("mine.ipynb");
  await mine.runAll();
  await set(mine, "3");
  await mine.page.getByText("drawn 3").waitFor();
  await mine.save();
  await mine.close();
  const drawn = () => readFile(join(lab.notebooks, "drawn.txt"), "utf8");
  assert.equal(await drawn(), "1 3 ");

  const file = join(lab.notebooks, "mine.ipynb");
  const saved = JSON.parse(await readFile(file, "utf8")) as {
    cells: { outputs: { data: Record<string, unknown> }[] }[];
  };
  const { data } = saved.cells[0]!.outputs[0]!;
  assert.match((data[CONTROLS] as { id: string }).id, /^\w+-1$/);
  data["text/html"] = `text of a stranger<img src="/no-such" onerror="${canary.script("over")}">`;
  await writeFile(file, JSON.stringify(saved));

  const seen = await openStrangers(lab, canary, "mine.ipynb", (page) =>
    page.getByText("text of a stranger").waitFor(),
  );
  await seen.opened.ready();
  await canary.settled(seen.page);
  await nothingHappened(lab, canary, seen);
  assert.equal(await drawn(), "1 3 ");
  await seen.page.locator(".firstframe-controls-note").getByText(NOT_TRUSTED).waitFor();
  assert.equal(await seen.page.locator(".firstframe-controls input:enabled").count(), 0);

  assert.equal(await seen.page.locator(".jupyter-widgets").count(), 0);

  await seen.opened.runAll();
  await set(seen.opened, "5");
  await seen.page.getByText("drawn 5").waitFor();
  assert.deepEqual(canary.taken(), []);
  assert.deepEqual(seen.opened.problems, []);
  await seen.opened.shutDown();
  await seen.opened.close();
});
