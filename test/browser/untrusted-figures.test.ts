import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { Canary, nothingHappened, openStrangers, remotePicture } from "./canary.js";
import { Lab } from "./lab.js";
import { notebook } from "./notebook.js";

/**
 * Figures and controls of a stranger's, opened in a real JupyterLab and nothing else done: nothing may be loaded, no text may be
 * more than a text, and whatever the JSON is, the page stays whole.
 */

const CONTROLS = "application/vnd.firstframe.controls.v1+json";
const PLOTLY = "application/vnd.plotly.v1+json";

const slider = { name: "n", label: "n", kind: "slider", min: 1, max: 9, step: 1, value: 1 };

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
    "figures.ipynb": notebook(figures()),
    "every.ipynb": every(hostile),
    "proto.ipynb": every(await everyText("__proto__")),
    "shapes.ipynb": notebook(shapes()),
    "hostile.plotly": { data: [{ y: [1, 2] }], layout: remotePicture(canary, "document") },
    "damaged.plotly": { data: { y: 1 } },
  });
});
after(async () => {
  await lab?.stop();
  await canary?.stop();
});

/** Figures that load something, each by another way, and one that only looks as if. */
function figures() {
  const load = (name: string) => canary.load(name);
  const line = { y: [1, 3, 2] };
  const specs: Record<string, object> = {
    picture: { data: [line], layout: remotePicture(canary, "layout-picture") },
    "picture of a template": {
      data: [line],
      layout: { template: { layout: remotePicture(canary, "template-picture") } },
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
        sliders: [
          { steps: [{ label: "slide", method: "update", args: [{}, remotePicture(canary, "slider")] }] },
        ],
      },
    },
    "an honest figure": {
      data: [
        { ...line, name: "a < b", showlegend: true, hovertemplate: "%{y}<extra></extra>" },
        { mode: "text", x: [1], y: [1], text: "1 <b>bold</b> 2<br>3" },
      ],
      layout: {
        title: {
          text: `<span style="color: rgb(255, 0, 0)">red</span> <a href="${canary.url}/link?a=1&b=2" target="_top" popup="width=9">a link</a>`,
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
  [PLOTLY, { data: [], layout: "x" }, /expected layout to be an object, found a string/],
  [PLOTLY, { data: [{ y: [1] }], config: 3 }, /expected config to be an object, found a number/],
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

describe("a stranger's figures", () => {
  test("are drawn, load nothing from anywhere, and say what is left out", async () => {
    const seen = await openStrangers(lab, canary, "figures.ipynb", async (page) => {
      for (let i = 0; i < figures().length; i++) {
        await page.locator(".firstframe-plotly").nth(i).locator(".main-svg").first().waitFor();
      }
    });
    const { page, opened } = seen;
    await nothingHappened(lab, canary, seen);
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
    assert.equal(await link.getAttribute("onclick"), null);
    const [opens] = await Promise.all([page.context().waitForEvent("page"), link.dispatchEvent("click")]);
    await opens.waitForURL(`${canary.url}/link?a=1&b=2`);
    assert.equal(await opens.evaluate(() => window.opener), null, "a page that may send this one elsewhere");
    await opens.close();
    assert.deepEqual(canary.taken(), ["/link?a=1&b=2"], "what its reader opened, and nothing else");
    assert.equal(await honest.locator(".legendtext").first().textContent(), "a < b");
    assert.equal(
      await honest.locator(".imagelayer image, .layer-above image").count(),
      1,
      "a picture of its own",
    );

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
      const seen = await openStrangers(lab, canary, name, async (page) => {
        for (let i = 0; i < traceTypes.length; i++) {
          const figure = page.locator(".firstframe-plotly").nth(i);
          // Some of these texts are no values for plotly.js, which says so.
          await figure.locator(".main-svg, .jp-RenderedText").first().waitFor();
        }
      });
      await nothingHappened(lab, canary, seen);
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
    const seen = await openStrangers(lab, canary, "hostile.plotly", (page) =>
      page.locator(".firstframe-plotly .gtitle").waitFor(),
    );
    await nothingHappened(lab, canary, seen);
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
  const seen = await openStrangers(lab, canary, "shapes.ipynb", async (page) => {
    await page.locator(".firstframe-plotly .gtitle").getByText("proto").waitFor();
    await page.locator(".firstframe-controls-row").getByText("proto").waitFor();
  });
  await nothingHappened(lab, canary, seen);
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
