import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { figure } from "../../../src/display/figure.js";
import { useEngine } from "../../../src/engine/engine.js";
import * as tf from "../../../src/engine/tf.js";
import { decode, distance, extentOf, isDark, shown } from "./decode.js";

const bars = () =>
  figure([{ type: "bar", x: ["a", "b", "c"], y: [1, 3, 2], marker: { color: "rgb(200,0,0)" } }], {
    title: { text: "Three bars" },
  });

describe("a figure's bundle", () => {
  test("holds the spec, a picture for pages, a picture for GitHub, and words", async () => {
    const bundle = await shown(bars());
    assert.deepEqual(Object.keys(bundle), [
      "application/vnd.plotly.v1+json",
      "text/html",
      "image/png",
      "text/plain",
    ]);
    const spec = bundle["application/vnd.plotly.v1+json"] as unknown as { data: object[]; layout: object };
    assert.deepEqual(spec.data, [
      { type: "bar", x: ["a", "b", "c"], y: [1, 3, 2], marker: { color: "rgb(200,0,0)" } },
    ]);
    assert.equal(bundle["text/plain"], 'Figure "Three bars": bar');
    const png = await decode(bundle["image/png"]!);
    assert.deepEqual([png.width, png.height], [1400, 800]);
  });

  test("works offline: the HTML is a picture inside one img, without scripts, styles or addresses", async () => {
    const { "text/html": html } = await shown(bars());
    const [, type, data] =
      /^<img src="data:([^;]+);base64,([^"]+)" width="700" height="400" alt="[^"<>]+">$/.exec(html!)!;
    assert.equal(type, "image/svg+xml");
    const svg = Buffer.from(data!, "base64").toString();
    assert.ok(svg.startsWith("<svg"));
    assert.doesNotMatch(svg, /<text|<script|font-family/, "text is drawn as outlines");
    assert.deepEqual([...svg.matchAll(/(?:href|src)="(?!#|data:)[^"]*"/g)], []);
  });

  test("has Chinese as outlines, too, where no font is installed", async () => {
    const { "text/html": html } = await shown(
      figure([{ type: "bar", x: ["条件图像", "第 4 帧"], y: [1, 2] }], { title: { text: "去噪：σ 与损失" } }),
    );
    const [, data] = /;base64,([^"]+)"/.exec(html!)!;
    const svg = Buffer.from(data!, "base64").toString();
    assert.doesNotMatch(svg, /<text/);
    // Of the second font, whose units are not the first one's: eleven characters and a colon, each with a look of its own.
    const used = new Set([...svg.matchAll(/<use href="#(\w+)"[^>]* transform=/g)].map(([, id]) => id!));
    const looks = [...used].map((id) => new RegExp(`<path id="${id}" d="([^"]+)"`).exec(svg)![1]!);
    assert.equal(looks.length, 12);
    assert.equal(new Set(looks).size, 12);
  });

  test("takes typed arrays and tensors, also disposed ones, and leaves none behind", async () => {
    await useEngine("cpu");
    const before = tf.memory().numTensors;
    const z = tf.tensor2d([0.1, 0.2, 0.3, 0.4], [2, 2]);
    const made = figure([{ type: "heatmap", z }, { y: new Float32Array([0.1, Number.NaN, 2]) }]);
    z.dispose();
    const { data } = JSON.parse(JSON.stringify(await made.toJSON())) as { data: unknown[] };
    assert.deepEqual(data, [
      {
        type: "heatmap",
        z: [
          [0.1, 0.2],
          [0.3, 0.4],
        ],
      },
      { y: [0.1, null, 2] },
    ]);
    assert.equal(tf.memory().numTensors, before);
  });

  test("says in words what only a browser can draw", async () => {
    const bundle = await shown(figure([{ type: "scatter3d", x: [1], y: [1], z: [1] }]));
    assert.deepEqual(Object.keys(bundle), ["application/vnd.plotly.v1+json", "text/html", "text/plain"]);
    assert.match(
      bundle["text/html"]!,
      /^<p>Figure: scatter3d: scatter3d traces need WebGL; open the notebook/,
    );
  });
});

describe("the picture", () => {
  test("has a bar of its height for each value", async () => {
    const png = await decode(await bars().toPng());
    const red = extentOf(
      png,
      { left: 0, top: 0, right: 1400, bottom: 800 },
      (rgb) => distance(rgb, [200, 0, 0]) < 8,
    )!;
    const width = red.right - red.left;
    // Bars take 80% of their slot; the columns below are their middles.
    const height = (slot: number) => {
      const x = Math.round(red.left + width * ((slot + 0.4) / 2.8));
      const column = { left: x, right: x + 1, top: 0, bottom: 800 };
      const { top, bottom } = extentOf(png, column, (rgb) => distance(rgb, [200, 0, 0]) < 8)!;
      return bottom - top + 1;
    };
    const unit = height(0);
    assert.ok(Math.abs(height(1) / unit - 3) < 0.05, `${height(1) / unit}`);
    assert.ok(Math.abs(height(2) / unit - 2) < 0.05, `${height(2) / unit}`);
  });

  test("has a heat map's cells in the colours of its scale, sharp at their edges", async () => {
    const made = figure(
      [
        {
          type: "heatmap",
          z: [
            [0, 1],
            [1, 0],
          ],
          showscale: false,
          colorscale: [
            [0, "rgb(10,20,30)"],
            [1, "rgb(240,200,100)"],
          ],
        },
      ],
      { margin: { l: 100, r: 100, t: 100, b: 100 } },
    );
    const png = await decode(await made.toPng());
    assert.deepEqual([png.width, png.height], [1400, 800]);
    const [low, high] = [
      [10, 20, 30],
      [240, 200, 100],
    ];
    const expected = [
      [204, 596, low],
      [698, 404, low],
      [702, 404, high],
      [698, 396, high],
      [702, 396, low],
      [1196, 204, low],
    ] as [number, number, number[]][];
    for (const [x, y, color] of expected) {
      assert.ok(distance(png.at(x, y), color) <= 3, `${x}, ${y}: ${png.at(x, y)} is not ${color}`);
    }
  });

  test("has its title in the middle and nothing cut off at the edges", async () => {
    const made = figure(
      [{ type: "bar", orientation: "h", y: ["decoder.mid_block.resnets.0.conv1", "b"], x: [1, 2] }],
      { title: { text: "A title in the middle" }, xaxis: { title: { text: "milliseconds" } } },
    );
    const png = await decode(await made.toPng());
    const title = extentOf(png, { left: 0, top: 0, right: 1400, bottom: 90 }, isDark)!;
    assert.ok(title.right - title.left > 250 && title.right - title.left < 500, JSON.stringify(title));
    // plotly centres on the plot with its margins, to the pixel.
    assert.ok(Math.abs((title.left + title.right) / 2 - 700) <= 4, JSON.stringify(title));
    const ink = extentOf(png, { left: 0, top: 0, right: 1400, bottom: 800 }, isDark)!;
    assert.ok(ink.left >= 4 && ink.right <= 1395 && ink.top >= 4 && ink.bottom <= 795, JSON.stringify(ink));
  });

  test("is the same, byte by byte, in another order and in another process", async () => {
    const first = await bars().toSvg();
    await figure([{ y: [1, 2, 3] }, { type: "pie", values: [1, 2] }]).toSvg();
    const again = bars();
    assert.equal(await again.toSvg(), first);
    const program = `
      import { figure } from ${JSON.stringify(new URL("../../../src/display/figure.js", import.meta.url).href)};
      import { createHash } from "node:crypto";
      const made = figure([{ type: "bar", x: ["a", "b", "c"], y: [1, 3, 2], marker: { color: "rgb(200,0,0)" } }],
        { title: { text: "Three bars" } });
      console.log(createHash("sha256").update(await made.toSvg()).update(await made.toPng()).digest("hex"));`;
    // That it ends at all shows that the drawing thread holds nobody up.
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
      cwd: fileURLToPath(new URL(".", import.meta.url)),
    });
    const here = createHash("sha256")
      .update(first)
      .update(await again.toPng())
      .digest("hex");
    assert.equal(stdout.trim(), here);
  });

  test("draws every kind of chart that needs no WebGL", async () => {
    const z = [
      [1, 2, 3],
      [2, 4, 1],
      [3, 1, 2],
    ];
    const traces = [
      { type: "scatter", x: [1, 2], y: [2, 1], mode: "lines+markers+text", text: ["a", "b<sub>1</sub>"] },
      { type: "scattergl", x: [1, 2], y: [2, 1] },
      { type: "histogram", x: [1, 1, 2] },
      { type: "histogram2d", x: [1, 1, 2], y: [1, 2, 2] },
      { type: "box", y: [1, 2, 3, 9] },
      { type: "violin", y: [1, 2, 3, 9] },
      { type: "contour", z, contours: { showlabels: true } },
      { type: "heatmap", z, xgap: 2, ygap: 2, texttemplate: "%{z}" },
      { type: "heatmap", z, zsmooth: "best" },
      {
        type: "image",
        z: [
          [
            [255, 0, 0],
            [0, 255, 0],
          ],
        ],
      },
      { type: "pie", labels: ["a", "b"], values: [1, 2] },
      { type: "sankey", node: { label: ["a", "b"] }, link: { source: [0], target: [1], value: [1] } },
      { type: "table", header: { values: ["a"] }, cells: { values: [["b"]] } },
      { type: "waterfall", x: ["a", "b"], y: [1, -1] },
      { type: "funnel", x: [3, 2], y: ["a", "b"] },
      { type: "sunburst", labels: ["a", "b"], parents: ["", "a"] },
      { type: "treemap", labels: ["a", "b"], parents: ["", "a"] },
      { type: "indicator", mode: "gauge+number", value: 3 },
      { type: "scatterpolar", r: [1, 2], theta: [0, 90] },
      { type: "barpolar", r: [1, 2], theta: [0, 90] },
      { type: "scatterternary", a: [1], b: [2], c: [3] },
      { type: "candlestick", x: [1], open: [1], close: [2], high: [3], low: [0] },
    ];
    const blank = await decode(await figure([]).toPng());
    for (const trace of traces) {
      const png = await decode(await figure([trace]).toPng());
      assert.deepEqual([png.width, png.height], [blank.width, blank.height]);
      const ink = extentOf(
        png,
        { left: 100, top: 64, right: 1300, bottom: 680 },
        (rgb) => distance(rgb, [255, 255, 255]) > 60,
      );
      assert.ok(ink !== null, `${trace.type} drew nothing`);
    }
  });
});

describe("errors name what is wrong", () => {
  const cases: [string, object[], object, RegExp][] = [
    [
      "an unknown attribute",
      [{ y: [1], colour: "red" }],
      {},
      /data\[0\]\.colour: plotly has no such attribute/,
    ],
    ["a typing error", [{ y: [1], mdoe: "lines" }], {}, /data\[0\]\.mdoe: .* \(did you mean mode\?\)/],
    [
      "an unknown value",
      [{ y: [1], mode: "liness" }],
      {},
      /data\[0\]\.mode: expected any of "lines", "markers", "text" joined by "\+".*, found "liness"/,
    ],
    [
      "an unknown kind of chart",
      [{ y: [1], type: "bars" }],
      {},
      /data\[0\]\.type: expected one of .*bar, .*found "bars"/,
    ],
    [
      "a number out of range",
      [{ y: [1], opacity: 2 }],
      {},
      /data\[0\]\.opacity: expected a number of at least 0 of at most 1, found 2/,
    ],
    [
      "the layout",
      [{ y: [1] }],
      { xaxis2: { tite: 1 }, yaxis: { type: "logarithmic" } },
      /layout\.yaxis\.type: expected one of .*"log".*found "logarithmic"/,
    ],
    [
      "a title as in plotly.js 2",
      [{ y: [1] }],
      { title: "Loss" },
      /layout\.title: expected an object such as { text: "Loss" }, found "Loss"/,
    ],
    [
      "an item of a list",
      [{ y: [1] }],
      { annotations: [{ text: "a", foo: 1 }] },
      /layout\.annotations\[0\]\.foo: plotly has no such attribute/,
    ],
    [
      "a colour scale of plotly.py",
      [{ type: "heatmap", z: [[1]], colorscale: "Plasma" }],
      {},
      /colorscale: expected a colour scale \(Blackbody,.*found "Plasma"/,
    ],
    ["missing coordinates", [{ type: "bar", y: "abc" }], {}, /data\[0\]: nothing to draw/],
  ];
  for (const [name, data, layout, message] of cases) {
    test(name, async () => {
      await assert.rejects(shown(figure(data as never, layout as never)), (error: Error) => {
        assert.match(error.message, /^figure: /);
        assert.match(error.message, message);
        return true;
      });
    });
  }

  test("wrong kinds of values, at once", () => {
    assert.throws(
      () => figure({ y: [1] } as never),
      /expected an array of traces, found a value of type object/,
    );
    assert.throws(() => figure([[1, 2]] as never), /expected data\[0\] to be an object, found an array/);
    assert.throws(() => figure([{ y: [1] }], null as never), /expected layout to be an object, found null/);
    assert.throws(
      () => figure([{ y: [1], text: () => "a" }]),
      /data\[0\]\.text: expected data, found a function/,
    );
  });

  test("a chart that still waits for its first point is no error", async () => {
    const bundle = await shown(figure([{ x: [], y: [] }]));
    assert.ok(bundle["image/png"]);
  });
});
