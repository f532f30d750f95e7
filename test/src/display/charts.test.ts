import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  bars,
  heatmap,
  INTERVAL_COLORS,
  intervals,
  lines,
  SEQUENCE_COLORS,
  sequencePicture,
} from "../../../src/display/charts.js";
import type { Figure } from "../../../src/display/figure.js";
import { InputError } from "../../../src/engine/errors.js";
import { decode, distance } from "./decode.js";

type Part = Record<string, unknown>;
async function spec(figure: Figure): Promise<{ data: Part[]; layout: Record<string, Part> }> {
  return JSON.parse(JSON.stringify(await figure.toJSON())) as { data: Part[]; layout: Record<string, Part> };
}

describe("bars", () => {
  test("one series: a colour, an interval and a written value for each bar", async () => {
    const made = bars([1, 2.345], {
      labels: ["a", "b"],
      errors: [0.1, 0.2],
      colors: ["red", "blue"],
      digits: 1,
      title: "Two",
      x: "which",
      y: "how much",
    });
    const { data, layout } = await spec(made);
    assert.deepEqual(data, [
      {
        type: "bar",
        x: ["a", "b"],
        y: [1, 2.345],
        error_y: { type: "data", array: [0.1, 0.2] },
        text: ["1.0", "2.3"],
        marker: { color: ["red", "blue"] },
      },
    ]);
    assert.deepEqual(layout.title, { text: "Two" });
    assert.deepEqual(layout.xaxis, { type: "category", title: { text: "which" } });
    assert.deepEqual(layout.yaxis, { title: { text: "how much" } });
  });

  test("several series by name, numbered where there are no labels", async () => {
    const { data } = await spec(bars({ before: [1, 2, 3], after: [4, 5, 6] }, { colors: ["red", "blue"] }));
    assert.deepEqual(
      data.map(({ name, x, marker }) => [name, x, marker]),
      [
        ["before", ["0", "1", "2"], { color: "red" }],
        ["after", ["0", "1", "2"], { color: "blue" }],
      ],
    );
  });

  test("several series have intervals by their names", async () => {
    const { data } = await spec(bars({ a: [1, 2], b: [3, 4] }, { errors: { b: [0.3, 0.4], a: [0.1, 0.2] } }));
    assert.deepEqual(
      data.map(({ error_y }) => (error_y as { array: number[] }).array),
      [
        [0.1, 0.2],
        [0.3, 0.4],
      ],
    );
  });

  test("refuse what does not fit together", () => {
    assert.throws(() => bars([1, 2], { labels: ["a"] }), InputError);
    assert.throws(() => bars([1, 2], { errors: [1] }), InputError);
    assert.throws(() => bars({ a: [1], b: [1, 2] }), InputError);
    assert.throws(() => bars({ a: [1], b: [2] }, { errors: [1] }), {
      name: "InputError",
      message: "bars: expected errors by the series' names, found a list",
    });
    assert.throws(() => bars({ a: [1], b: [2] }, { errors: { a: [1] } }), InputError);
    assert.throws(() => bars({ a: [1], b: [2] }, { errors: { a: [1], b: [1, 2] } }), InputError);
    assert.throws(() => bars([1], { errors: { a: [1] } }), InputError);
    assert.throws(() => bars({ a: [1], b: [2] }, { colors: ["red"] }), InputError);
  });
});

test("lines are curves by name, with plotly's attributes where a curve has some, and factors on log axes", async () => {
  const { data, layout } = await spec(
    lines(
      { plain: [3, 4], placed: { x: [1, 10], y: [5, 6], yaxis: "y2" }, "": [1, 1] },
      { log: "x", markers: true, layout: { xaxis: { autorange: "reversed" }, yaxis2: { side: "right" } } },
    ),
  );
  assert.deepEqual(data, [
    { type: "scatter", mode: "lines+markers", name: "plain", y: [3, 4] },
    { type: "scatter", mode: "lines+markers", name: "placed", x: [1, 10], y: [5, 6], yaxis: "y2" },
    { type: "scatter", mode: "lines+markers", y: [1, 1] },
  ]);
  assert.deepEqual(layout.xaxis, { type: "log", autorange: "reversed" });
  assert.deepEqual(layout.yaxis, {});
  assert.deepEqual(layout.yaxis2, { side: "right" });
});

test("a heatmap has its rows downwards where asked, empty places, and lines between columns", async () => {
  const { data, layout } = await spec(
    heatmap([[1, null, 3]], { scale: "RMS", rows: ["one"], down: true, lines: [0.5], lineColor: "white" }),
  );
  assert.deepEqual(data[0]!.z, [[1, null, 3]]);
  assert.deepEqual(data[0]!.y, ["one"]);
  assert.deepEqual(data[0]!.colorbar, { title: { text: "RMS" } });
  assert.equal(layout.yaxis!.autorange, "reversed");
  const [line] = layout.shapes as unknown as Part[];
  assert.deepEqual([line!.x0, line!.x1, line!.yref, line!.line], [0.5, 0.5, "paper", { color: "white" }]);
});

describe("sequencePicture", () => {
  const rows = [
    { name: "frames", boxes: [0, 0, 1, 2], colors: ["#d62728", "#ff7f0e", "#1f77b4", "#1f77b4"] },
    { name: "image", boxes: ["img", "0", "0", "0"] },
  ];

  test("puts rows below each other, place below place, and patches through all of them", async () => {
    const { data, layout } = await spec(sequencePicture(rows, { patch: 2 }));
    assert.deepEqual(
      data.map(({ x, y, text }) => [x, y, text]),
      [
        [
          [0, 1, 2, 3],
          [1, 1, 1, 1],
          ["0", "0", "1", "2"],
        ],
        [
          [0, 1, 2, 3],
          [0, 0, 0, 0],
          ["img", "0", "0", "0"],
        ],
      ],
    );
    assert.deepEqual(layout.yaxis!.ticktext, ["frames", "image"]);
    const outlines = layout.shapes as unknown as Record<string, number>[];
    assert.equal(outlines.length, 2);
    for (const [i, { x0, x1, y0, y1 }] of outlines.entries()) {
      assert.ok(x0! < 2 * i && x0! > 2 * i - 1 && x1! > 2 * i + 1 && x1! < 2 * i + 2, "a pair of boxes");
      assert.ok(y0! < 0 && y1! > 1, "both rows");
    }
  });

  test("a row's own patches are only its own; what does not fill a patch has no outline", async () => {
    const { layout } = await spec(
      sequencePicture([
        { name: "three", boxes: [0, 1, 2, 3], patch: 3 },
        { name: "none", boxes: [0] },
      ]),
    );
    const outlines = layout.shapes as unknown as Record<string, number>[];
    assert.equal(outlines.length, 1);
    assert.ok(outlines[0]!.y0! > 0 && outlines[0]!.x1! > 2 && outlines[0]!.x1! < 3);
  });

  test("is drawn: the copy's red is left of the first frame's orange", async () => {
    const png = await decode(
      Buffer.from(await sequencePicture(rows, { patch: 2 }).toPng()).toString("base64"),
    );
    const leftmost = (hex: string) => {
      const rgb = [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
      for (let x = 0; x < png.width; x++) {
        for (let y = 0; y < png.height; y += 4) if (distance(png.at(x, y), rgb) < 6) return x;
      }
      return Number.POSITIVE_INFINITY;
    };
    assert.ok(leftmost(SEQUENCE_COLORS.copy) < leftmost(SEQUENCE_COLORS.first));
    assert.ok(leftmost(SEQUENCE_COLORS.first) < png.width);
  });

  test("refuses nothing to draw, and colours of another number than boxes", () => {
    assert.throws(() => sequencePicture([]), InputError);
    assert.throws(() => sequencePicture([{ name: "a", boxes: [1, 2], colors: ["red"] }]), InputError);
  });
});

describe("intervals", () => {
  const row = (name: string, low: number, high: number) => ({ name, mean: (low + high) / 2, low, high });
  const { shown, notShown } = INTERVAL_COLORS;

  test("a panel a measure, each with axes of its own; what reaches across 0 is grey", async () => {
    const panels = {
      "PSNR, dB": [row("none", 1, 3), row("strong", -1, 2)],
      seam: [row("none", -4, -2)],
      flicker: [row("none", 0, 1)],
    };
    const { data, layout } = await spec(intervals(panels, { columns: 2, title: "Against the recipe" }));
    assert.deepEqual(
      data.map(({ x, y, xaxis, yaxis }) => [x, y, xaxis, yaxis]),
      [
        [[2, 0.5], ["none", "strong"], "x", "y"],
        [[-3], ["none"], "x2", "y2"],
        [[0.5], ["none"], "x3", "y3"],
      ],
    );
    assert.deepEqual(
      data.map(({ marker }) => (marker as { color: string[] }).color),
      [[shown, notShown], [shown], [notShown]],
    );
    const [first] = data.map(({ error_x }) => error_x as { array: number[]; arrayminus: number[] });
    assert.deepEqual(first!.array, [1, 1.5]);
    assert.deepEqual(first!.arrayminus, [1, 1.5]);
    assert.deepEqual(layout.title, { text: "Against the recipe" });
    const titles = layout.annotations as unknown as { text: string }[];
    assert.deepEqual(
      titles.map(({ text }) => text),
      Object.keys(panels),
    );
    // Two side by side, the third below the first.
    const domain = (axis: string) => layout[axis]!.domain as [number, number];
    assert.ok(domain("xaxis")[1] < domain("xaxis2")[0]);
    assert.deepEqual(domain("xaxis3"), domain("xaxis"));
    assert.ok(domain("yaxis3")[1] < domain("yaxis")[0]);
    assert.equal(layout.yaxis2!.showticklabels, false);
    for (const axis of ["xaxis", "xaxis2", "xaxis3"]) assert.equal(layout[axis]!.rangemode, "tozero");
  });

  test("is drawn", async () => {
    const png = await intervals({ a: [row("one", -1, 1)] }).toPng();
    assert.ok(png.length > 1000);
  });

  test("nothing to show is refused", () => {
    assert.throws(() => intervals({}), /intervals: expected panels, found none/);
    assert.throws(() => intervals({ a: [] }), /intervals: expected rows in "a", found none/);
  });
});
