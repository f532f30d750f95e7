import assert from "node:assert/strict";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { chromium, type Page } from "playwright-core";
import { Canary, kernelRequests } from "./canary.js";
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
let traceTypes: string[];
before(async () => {
  canary = await Canary.start();
  const hostile =
    await everyText(`<span style="background: url(${canary.url}/loaded/NAME)">text of NAME</span>
    <a href="javascript:${canary.script("link")}" target="_top" popup="x=1">link</a>
    <img src=x onerror="${canary.script("NAME")}">`);
  traceTypes = Object.keys(hostile);
  const every = (figures: Record<string, object>) =>
    notebook(Object.entries(figures).map(([code, figure]) => ({ code, data: { [PLOTLY]: figure } })));
  lab = await Lab.start({
    "beside.ipynb": beside(),
    "beside-elsewhere.ipynb": {
      ...beside(),
      metadata: { kernelspec: { name: "elsewhere", display_name: "E" } },
    },
    "figures.ipynb": notebook(figures()),
    "every.ipynb": every(hostile),
    "proto.ipynb": every(await everyText("__proto__")),
    "shapes.ipynb": notebook(shapes()),
    "mine.ipynb": notebook([{ code: MINE }]),
    "hostile.plotly": { data: [{ y: [1, 2] }], layout: remotePicture("document") },
    "damaged.plotly": { data: { y: 1 } },
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
    figure: { [PLOTLY]: { data: [{ y: [1, 2] }], layout: remotePicture("figure") } },
    nothing: {},
  };
}

function remotePicture(name: string) {
  const picture = { source: canary.load(name), x: 0, y: 1, sizex: 1, sizey: 1, xref: "paper", yref: "paper" };
  return { images: [picture], title: { text: `figure of ${name}` } };
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

/** Figures that load something, each by another way, and one that only looks as if. */
function figures() {
  const load = (name: string) => canary.load(name);
  const line = { y: [1, 3, 2] };
  const specs: Record<string, object> = {
    picture: { data: [line], layout: remotePicture("layout-picture") },
    "picture of a template": {
      data: [line],
      layout: { template: { layout: remotePicture("template-picture") } },
    },
    "image trace": {
      data: [line, { type: "image", source: load("image-trace") }],
      layout: { title: { text: "image" } },
    },
    style: {
      data: [line],
      layout: { title: { text: `<span style="cursor: url(${load("style")}), auto">style</span>` } },
    },
    "style in disguise": {
      data: [{ ...line, name: `<b style='mask: \\75 rl("${load("escape")}")'>a</b>`, showlegend: true }],
      layout: {
        title: { text: `<span style="fill: &#117;rl(${load("entity")})">disguise</span>` },
        xaxis: { title: { text: `<i href='"' style='background: image-set("${load("set")}" 1x)'>x</i>` } },
      },
    },
    "style from pieces": {
      data: [
        {
          mode: "text",
          y: [1, 2],
          text: ["<", "<"],
          texttemplate: `%{text}span style="background: url(${load("pieces")})">p</span>`,
        },
        {
          mode: "text",
          y: [2, 3],
          customdata: ["span"],
          text: "t",
          texttemplate: `<%{customdata} style="background: url(${load("name")})">p`,
        },
      ],
      layout: {
        meta: ["<", ` style="background: url(${load("meta")})"`],
        title: {
          text: `%{meta[0]}span style="background: url(${load("title")})">pieces</span><b %{meta[1]}>b</b>`,
        },
      },
    },
    map: {
      data: [{ type: "scattermap", lon: [1], lat: [1] }, line],
      layout: { map: { style: load("style.json") }, title: { text: "map" } },
    },
    "map of a layout": {
      data: [line],
      layout: { map: { style: load("map") }, mapbox2: {}, geo: {}, title: { text: "map 2" } },
    },
    "map with a script": {
      data: [{ type: "scattermap", lon: [1], lat: [1] }, line],
      layout: {
        map: {
          style: {
            version: 8,
            layers: [],
            sources: {
              a: {
                type: "raster",
                tiles: [load("tile")],
                attribution: `<img src=x onerror="${canary.script("attribution")}">`,
              },
            },
          },
        },
        title: { text: "map 3" },
      },
    },
    globe: {
      data: [{ type: "scattergeo", lon: [1], lat: [1] }, line],
      config: { topojsonURL: load("topojson") },
      layout: { title: { text: "globe" } },
    },
    regions: {
      data: [{ type: "choropleth", locations: ["a"], z: [1], geojson: load("geojson") }, line],
      layout: { title: { text: "regions" } },
    },
    config: {
      data: [line],
      layout: { modebar: { add: ["sendChartToCloud"] }, title: { text: "$\\href{javascript:1}{config}$" } },
      config: {
        showSendToCloud: true,
        plotlyServerURL: canary.url,
        editable: true,
        displaylogo: true,
        watermark: true,
        modeBarButtonsToAdd: ["sendChartToCloud"],
        toImageButtonOptions: { filename: "../../x.exe" },
        notifyOnLogging: 2,
      },
    },
    buttons: {
      data: [line],
      layout: {
        title: { text: "buttons" },
        updatemenus: [
          { buttons: [{ label: "press", method: "relayout", args: ["images[0].source", load("button")] }] },
        ],
        sliders: [{ steps: [{ label: "slide", method: "update", args: [{}, remotePicture("slider")] }] }],
      },
    },
    "an honest figure": {
      data: [
        { ...line, name: "a < b", showlegend: true, hovertemplate: "%{y}<extra></extra>" },
        { mode: "text", x: [1], y: [1], text: "1 <b>bold</b> 2<br>3" },
      ],
      layout: {
        title: {
          text: `<span style="color: rgb(255, 0, 0)">red</span> <a href="https://example.com/?a=1&b=2" target="_top" popup="width=9">a link</a>`,
        },
        images: [
          {
            source: `data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>`,
            xref: "paper",
            yref: "paper",
            x: 0,
            y: 1,
            sizex: 1,
            sizey: 1,
          },
        ],
      },
    },
  };
  return Object.entries(specs).map(([code, figure]) => ({ code, data: { [PLOTLY]: figure } }));
}

/** Outputs of shapes that nobody draws, and what is said instead. */
const SHAPES: [string, unknown, RegExp][] = [
  [CONTROLS, null, /expected an object, found null/],
  [CONTROLS, [], /expected an object, found \[\]/],
  [CONTROLS, {}, /expected id to be a text, found nothing/],
  [CONTROLS, { id: "a" }, /expected controls to be an array, found nothing/],
  [CONTROLS, { id: "a", controls: null }, /expected controls to be an array, found null/],
  [
    CONTROLS,
    { id: "a", controls: { length: 1e9 } },
    /expected controls to be an array, found \{"length":1000000000\}/,
  ],
  [CONTROLS, { id: "a", controls: [null] }, /expected controls\[0\] to be an object, found null/],
  [CONTROLS, { id: "a", controls: [{ ...slider, name: {} }] }, /controls\[0\]\.name to be a text/],
  [
    CONTROLS,
    { id: "a", controls: [{ ...slider, max: "9" }] },
    /controls\[0\]\.max to be a number, found "9"/,
  ],
  [
    CONTROLS,
    { id: "a", controls: [{ ...slider, kind: "script" }] },
    /controls\[0\]\.kind to be slider, choice or switch/,
  ],
  [
    CONTROLS,
    { id: "a", controls: [{ ...slider, kind: "choice", options: 5 }] },
    /controls\[0\]\.options to be texts, found 5/,
  ],
  [
    CONTROLS,
    { id: "a", controls: Array(20_001).fill({ name: "a", label: "a", kind: "switch", value: true }) },
    /expected at most 20000 controls and choices, found 20001/,
  ],
  [PLOTLY, null, /could not be drawn: expected an object with data and layout, found null/],
  [PLOTLY, [], /expected an object with data and layout, found an array/],
  [PLOTLY, { data: {} }, /expected data to be an array of traces, found an object/],
  [PLOTLY, { data: [null] }, /expected data\[0\] to be an object, found null/],
  [PLOTLY, { data: [], layout: "x" }, /expected layout to be an object, found string/],
  [PLOTLY, { data: [{ y: [1] }], config: 3 }, /expected config to be an object, found number/],
];

function shapes() {
  const proto = JSON.parse(
    '{ "id": "a", "controls": [{ "name": "__proto__", "label": "proto", "kind": "switch", "value": true, "__proto__": { "polluted": 1 } }], "__proto__": { "polluted": 1 } }',
  ) as object;
  const figure = JSON.parse(
    '{ "data": [{ "y": [1, 2], "__proto__": { "polluted": 1 } }], "layout": { "__proto__": { "polluted": 1 }, "title": { "text": "proto", "constructor": { "prototype": { "polluted": 1 } } }, "template": { "layout": { "__proto__": { "polluted": 1 } } }, "width": 1e9, "height": 1e9, "xaxis": { "nticks": 1e9 } } }',
  ) as object;
  const cells = SHAPES.map(([type, value]) => ({
    code: type,
    data: { [type]: value, "text/plain": "plain" },
  }));
  return [
    ...cells,
    { code: "proto", data: { [CONTROLS]: proto } },
    { code: "proto", data: { [PLOTLY]: figure } },
  ];
}

/** A figure for every kind of trace, with the text wherever plotly.js's own schema says that a text, colour or address may be. */
async function everyText(text: string): Promise<Record<string, object>> {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu"],
  });
  try {
    const page = await browser.newPage();
    await page.addScriptTag({ path: createRequire(import.meta.url).resolve("plotly.js-dist") });
    return await page.evaluate((pattern) => {
      type Attribute = { valType?: string; items?: Record<string, Attribute>; _isLinkedToArray?: string };
      interface Schema {
        traces: Record<string, { attributes: Attribute }>;
        layout: { layoutAttributes: Attribute };
      }
      const { PlotSchema } = (window as unknown as { Plotly: { PlotSchema: { get(): Schema } } }).Plotly;
      const { traces, layout } = PlotSchema.get();
      const fill = (attributes: Attribute, path: string): Record<string, unknown> => {
        const made: Record<string, unknown> = {};
        for (const [key, attribute] of Object.entries(attributes) as [string, Attribute][]) {
          if (typeof attribute !== "object" || attribute === null || key.startsWith("_")) continue;
          if (/^([xyz]|[xy]period)0?$|^[xy]period$/.test(key) && attribute.valType === "any") continue;
          const name = `${path}.${key}`;
          const shown = pattern.replaceAll("NAME", name);
          if (["string", "any", "color"].includes(attribute.valType ?? "")) made[key] = shown;
          else if (attribute.valType === "data_array") {
            made[key] = /^(text|ids|labels|parents|customdata|meta|ticktext|hovertext)$/.test(key)
              ? [shown, shown, shown]
              : [1, 2, 3];
          } else if (attribute.valType === undefined && attribute.items) {
            made[key] = Object.values(attribute.items).map((item) => fill(item, name));
          } else if (attribute.valType === undefined) made[key] = fill(attribute, name);
        }
        return made;
      };
      const grid = [
        [1, 2, 3],
        [2, 3, 4],
        [3, 4, 5],
      ];
      return Object.fromEntries(
        Object.entries(traces).map(([type, { attributes }]) => {
          const trace = { ...fill(attributes, type), type } as Record<string, unknown>;
          if (Array.isArray(trace.z) && !/3d|cone|tube|volume|isosurface|choropleth/.test(type))
            trace.z = grid;
          if ("mode" in attributes) trace.mode = "lines+markers+text";
          for (const axis of ["xaxis", "yaxis"]) delete trace[axis];
          return [type, { data: [trace], layout: fill(layout.layoutAttributes, "layout") }];
        }),
      );
    }, text);
  } finally {
    await browser.close();
  }
}

const MINE = `import { appendFileSync } from "node:fs";
import { interact } from "firstframe";
interact({ n: [1, 9] }, ({ n }) => {
  appendFileSync("drawn.txt", \`\${n} \`);
  return \`drawn \${n}\`;
})`;

/** Opens a notebook, or a file of another kind, and waits until everything that can come of that has come. */
async function open(name: string, drawn: (page: Page) => Promise<unknown>) {
  let requests: string[] = [];
  const dialogs: string[] = [];
  const before = (page: Page) => {
    requests = kernelRequests(page);
    page.on("dialog", (dialog) => {
      dialogs.push(dialog.message());
      void dialog.dismiss();
    });
  };
  const opened = name.endsWith(".ipynb")
    ? await lab.open(name, { before })
    : await lab.openFile(name, before);
  await drawn(opened.page);
  await canary.settled(opened.page);
  return { opened, page: opened.page, requests, dialogs };
}

/** Waits for a text in each output area. */
async function outputs(page: Page, count: number): Promise<void> {
  await page
    .locator(".jp-OutputArea-child")
    .nth(count - 1)
    .waitFor({ state: "attached" });
}

/** What kernels are asked by JupyterLab itself whenever a notebook is opened. */
const OWN =
  /^(kernel_info_request|comm_info_request( jupyter\.widget)?|comm_open jupyter\.widget\.control|comm_msg|comm_close|debug_request|history_request)$/;

async function written(): Promise<string[]> {
  return (await readdir(lab.notebooks)).filter((file) => file.startsWith("written-by-"));
}

async function nothingHappened({
  requests,
  dialogs,
}: {
  requests: string[];
  dialogs: string[];
}): Promise<void> {
  assert.deepEqual(canary.taken(), []);
  assert.deepEqual(await written(), []);
  assert.deepEqual(dialogs, []);
  assert.deepEqual(
    requests.filter((request) => !OWN.test(request)),
    [],
  );
}

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
    const seen = await open("beside.ipynb", async (page) => {
      await page.locator(".firstframe-plotly .gtitle").nth(1).waitFor();
      for (const text of ["picture", "element", "frame", "inner-svg", "style", "markdown"]) {
        await page.getByText(`text of ${text}`).nth(1).waitFor();
      }
    });
    await seen.opened.ready();
    await canary.settled(seen.page);
    await nothingHappened(seen);

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
    const seen = await open("beside-elsewhere.ipynb", async (page) => {
      await page.locator(".firstframe-plotly .gtitle").nth(1).waitFor();
      await page.locator(".jp-Dialog", { hasText: "Select Kernel" }).waitFor();
    });
    await nothingHappened(seen);
    await seen.opened.close();
  });

  test("runs once its reader trusts it, as any notebook: what is counted does count", async () => {
    const { opened, page } = await open("beside.ipynb", () => Promise.resolve());
    await opened.ready();
    await trust(opened);
    for (const name of ["picture", "element", "frame", "inner-svg", "markdown", "javascript", "widget"]) {
      await canary.until(`/ran/${name}`);
      const file = `written-by-${name}.txt`;
      while (!(await written()).includes(file)) await page.waitForTimeout(50);
    }
    await canary.until("/loaded/figure");
    const note = page.locator(".firstframe-controls-note").first();
    await note.getByText("Run the cell to use these controls.", { exact: true }).waitFor();
    await canary.settled(page);
    await opened.shutDown();
    await opened.close();
    for (const file of await written()) await rm(join(lab.notebooks, file));
    canary.taken();
  });
});

describe("a stranger's figures", () => {
  test("are drawn, load nothing from anywhere, and say what is left out", async () => {
    const seen = await open("figures.ipynb", async (page) => {
      await outputs(page, figures().length);
      for (let i = 0; i < figures().length; i++) {
        await page.locator(".firstframe-plotly").nth(i).locator(".main-svg").first().waitFor();
      }
    });
    const { page, opened } = seen;
    await nothingHappened(seen);
    const shown = await page
      .locator(".firstframe-plotly")
      .evaluateAll((nodes) =>
        nodes.map((node) => [
          node.querySelector(".gtitle")?.textContent ?? "",
          node.querySelector(".firstframe-plotly-note")!.textContent,
        ]),
      );
    const left = (what: string) =>
      `Not shown, because this figure is from a file that is not trusted: ${what}.`;
    const pictures = left("pictures from elsewhere");
    assert.deepEqual(shown, [
      ["figure of layout-picture", pictures],
      ["figure of template-picture", pictures],
      ["image", pictures],
      ["style", ""],
      ["disguise", ""],
      [`<span style="background: url(${canary.load("title")})">piecesb`, ""],
      ["map", left("traces of type scattermap, maps")],
      ["map 2", left("maps")],
      ["map 3", left("traces of type scattermap, maps")],
      ["globe", left("traces of type scattergeo")],
      ["regions", left("traces of type choropleth")],
      ["$\\href{javascript:1}{config}$", left("buttons and sliders")],
      ["buttons", left("buttons and sliders")],
      ["red a link", ""],
    ]);
    assert.equal(await page.locator(".modebar-btn[data-title*=hare]").count(), 0, "a button that uploads");
    assert.equal(await page.locator(".modebar-btn.plotlyjsicon").count(), 0);

    const honest = page.locator(".firstframe-plotly").last();
    assert.equal(
      await honest
        .locator(".gtitle tspan")
        .first()
        .evaluate((node) => getComputedStyle(node).fill),
      "rgb(255, 0, 0)",
    );
    const link = honest.locator(".gtitle a");
    assert.deepEqual(
      await link.evaluate((node) => ["target", "onclick"].map((name) => node.getAttribute(name))),
      ["_blank", null],
    );
    assert.equal(
      await link.evaluate((node) => (node as SVGAElement).href.baseVal),
      "https://example.com/?a=1&b=2",
    );
    assert.equal(await honest.locator(".legendtext").first().textContent(), "a < b");
    assert.equal(
      await honest.locator(".imagelayer image, .layer-above image").count(),
      1,
      "a picture of its own",
    );

    await honest.hover();
    const download = page.waitForEvent("download");
    const named = page.locator(".firstframe-plotly").nth(11);
    await named.hover();
    await named.locator('.modebar-btn[data-title*="as a PNG"]').click();
    assert.match((await download).suggestedFilename(), /^[\w-]+\.png$/);
    assert.deepEqual(opened.problems, []);
    await opened.screenshot("untrusted-figures");
    await opened.close();
  });

  test("hold hostile texts wherever plotly.js takes a text, for every kind of trace", async () => {
    for (const name of ["every.ipynb", "proto.ipynb"]) {
      const seen = await open(name, async (page) => {
        await outputs(page, traceTypes.length);
        // Some of these texts are no values for plotly.js, which says so.
        const ended = page.locator(".firstframe-plotly :is(.main-svg:first-of-type, .jp-RenderedText)");
        for (let i = 0; i < traceTypes.length; i++) {
          await page
            .locator(".firstframe-plotly")
            .nth(i)
            .locator(".main-svg, .jp-RenderedText")
            .first()
            .waitFor();
        }
        assert.ok((await ended.count()) > 0);
      });
      await nothingHappened(seen);
      const inPage = await seen.page.evaluate(() => ({
        prototype: Object.keys(Object.prototype),
        addresses: [...document.querySelectorAll(".firstframe-plotly *")].flatMap((node) =>
          [...node.attributes]
            .filter(
              ({ name, value }) =>
                name.startsWith("on") ||
                /url\((?!["']?(#|http:\/\/[^/]+\/lab[^ ]*#))|javascript:/.test(value),
            )
            .map(({ name, value }) => `${node.nodeName} ${name}=${value.slice(0, 80)}`),
        ),
        drawn: document.querySelectorAll(".firstframe-plotly .plot-container").length,
      }));
      assert.deepEqual(inPage.prototype, []);
      assert.deepEqual(inPage.addresses, []);
      if (name === "every.ipynb")
        assert.ok(inPage.drawn >= 30, `only ${inPage.drawn} of ${traceTypes.length} were drawn`);
      await seen.opened.close();
    }
  });

  test("are as harmless in a file of their own", async () => {
    const seen = await open("hostile.plotly", (page) => page.locator(".firstframe-plotly .gtitle").waitFor());
    await nothingHappened(seen);
    await seen.page.getByText(/Not shown, .*: pictures from elsewhere\./).waitFor();
    await seen.opened.close();
    const damaged = await lab.openFile("damaged.plotly");
    await damaged.page
      .getByText("This figure could not be drawn: expected data to be an array of traces, found an object")
      .waitFor();
    assert.deepEqual(damaged.problems, []);
    await damaged.close();
  });
});

test("outputs of unheard-of shapes are told from ours in a sentence, and reach into no prototype", async () => {
  const seen = await open("shapes.ipynb", async (page) => {
    await page.locator(".firstframe-plotly .gtitle").getByText("proto").waitFor();
    await page.locator(".firstframe-controls-row").getByText("proto").waitFor();
  });
  await nothingHappened(seen);
  const said = await seen.page
    .locator(".firstframe-controls-error, .firstframe-plotly .jp-RenderedText")
    .allInnerTexts();
  assert.equal(said.length, SHAPES.length);
  for (const [i, [, , expected]] of SHAPES.entries()) assert.match(said[i]!, expected);
  const inPage = await seen.page.evaluate(() => ({
    prototype: Object.keys(Object.prototype),
    polluted: ({} as { polluted?: number }).polluted,
    height: document.querySelector(".firstframe-plotly .main-svg")!.getBoundingClientRect().height,
  }));
  assert.deepEqual([inPage.prototype, inPage.polluted], [[], undefined]);
  assert.ok(inPage.height < 10_000, `a figure ${inPage.height} pixels high`);
  assert.deepEqual(seen.opened.problems, []);
  await seen.opened.close();
});

test("a stranger's notebook over one whose kernel runs has no word with that kernel until its cell is run", async () => {
  const mine = await lab.open("mine.ipynb");
  await mine.runAll();
  await mine.page.locator(".firstframe-controls input:enabled").waitFor();
  await mine.page.locator(".firstframe-controls input").fill("3");
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

  const seen = await open("mine.ipynb", (page) => page.getByText("text of a stranger").waitFor());
  await seen.opened.ready();
  await canary.settled(seen.page);
  await nothingHappened(seen);
  assert.equal(await drawn(), "1 3 ");
  await seen.page.locator(".firstframe-controls-note").getByText(NOT_TRUSTED).waitFor();
  assert.equal(await seen.page.locator(".firstframe-controls input:enabled").count(), 0);

  await seen.opened.runAll();
  await seen.page.locator(".firstframe-controls input:enabled").waitFor();
  await seen.page.locator(".firstframe-controls input").fill("5");
  await seen.page.getByText("drawn 5").waitFor();
  assert.deepEqual(canary.taken(), []);
  assert.deepEqual(seen.opened.problems, []);
  await seen.opened.shutDown();
  await seen.opened.close();
});
