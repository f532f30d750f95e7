import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import sharp from "sharp";
import { animate } from "../../../src/display/animate.js";
import { channels } from "../../../src/display/channels.js";
import { compare, frames, image } from "../../../src/display/frames.js";
import { summary } from "../../../src/display/summary.js";
import { table } from "../../../src/display/table.js";
import { useEngine } from "../../../src/engine/engine.js";
import * as tf from "../../../src/engine/tf.js";
import { Clip } from "../../../src/video/clip.js";
import { type Decoded, decode, distance, extentOf, isDark, shown } from "./decode.js";

before(() => useEngine("cpu"));

/** Every frame in a colour of its own: red grows with the index. */
function colors(count: number, width = 64, height = 48): Clip {
  const list = Array.from({ length: count }, (_, i) =>
    Uint8Array.from({ length: width * height * 3 }, (_, at) => [40 + i * 20, 90, 160][at % 3]!),
  );
  return Clip.fromFrames(list, { width, height, fps: 8 });
}

const color = (index: number) => [40 + index * 20, 90, 160];

/** The left edges of the pictures in a row, by their blue. */
function pictures(png: Decoded, y: number): { left: number; right: number; rgb: number[] }[] {
  const found: { left: number; right: number; rgb: number[] }[] = [];
  for (let x = 0; x < png.width; x++) {
    const rgb = png.at(x, y);
    const inside = distance(rgb.slice(1), [90, 160]) < 6;
    const last = found.at(-1);
    if (inside && last?.right === x - 1) last.right = x;
    else if (inside) found.push({ left: x, right: x, rgb });
  }
  return found;
}

/** WCAG's contrast of two colours, from 1 to 21. */
function contrast(one: readonly number[], other: readonly number[]): number {
  const luminance = (rgb: readonly number[]) => {
    const [red, green, blue] = rgb.map((byte) => {
      const value = byte / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
  };
  const [dark, bright] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (bright! + 0.05) / (dark! + 0.05);
}

describe("frames", () => {
  test("has Chinese labels, which are not the box of a missing character", async () => {
    // The last two are so rare that the font has neither.
    const labels = ["潜", "帧", "潜", "㐂", "㐃"];
    const png = await decode((await shown(frames(colors(5), { labels })))["image/png"]!);
    const row = pictures(png, 20);
    const drawn = row.map(({ left, right }) => {
      const area = { left, top: 52, right, bottom: png.height };
      const box = extentOf(png, area, (rgb) => distance(rgb, [255, 255, 255]) > 60)!;
      let text = "";
      for (let y = box.top; y <= box.bottom; y++)
        for (let x = box.left; x <= box.right; x++) text += png.at(x, y)[0] < 200 ? "#" : ".";
      return text;
    });
    assert.equal(drawn[0], drawn[2]);
    assert.equal(drawn[3], drawn[4], "boxes");
    assert.equal(new Set(drawn).size, 3);
  });

  test("puts frames side by side in their order, with a label under each", async () => {
    const png = await decode((await shown(frames(colors(5))))["image/png"]!);
    const row = pictures(png, 20);
    assert.equal(row.length, 5);
    row.forEach(({ rgb }, i) => {
      assert.ok(distance(rgb, color(i)) <= 1, `${rgb}`);
    });
    const bottom = row[0]!;
    const height = Math.round(((bottom.right - bottom.left + 1) * 48) / 64);
    for (const { left, right } of row) {
      const label = extentOf(
        png,
        { left: left - 3, right: right + 3, top: height + 3, bottom: png.height },
        isDark,
      );
      assert.ok(label, "no label");
      assert.ok(
        Math.abs((label.left + label.right) / 2 - (left + right) / 2) <= 2,
        "the label is not centred",
      );
    }
  });

  test("lets the page through, and labels it so that both themes can be read", async () => {
    const { "image/png": bytes } = await shown(frames(colors(2), { title: "Two", width: 100 }));
    for (const page of ["#ffffff", "#111111", "#0d1117"]) {
      const png = await decode(bytes!, page);
      const ground = [1, 3, 5].map((at) => Number.parseInt(page.slice(at, at + 2), 16));
      assert.deepEqual(png.at(png.width - 1, png.height - 1), ground);
      let best = 1;
      for (let y = png.height - 20; y < png.height; y++) {
        for (let x = 0; x < png.width; x++) best = Math.max(best, contrast(png.at(x, y), ground));
      }
      assert.ok(best > 4, `a contrast of ${best} on ${page}`);
    }
  });

  test("spreads 8 frames over a long clip, the last one included, and says so", async () => {
    const bundle = await shown(frames(colors(10), { title: "Ten" }));
    assert.equal(bundle["text/plain"], "8 of 10 frames, 64x48: Ten");
    const row = pictures(await decode(bundle["image/png"]!), 60);
    assert.deepEqual(
      row.map(({ rgb }) => Math.round((rgb[0]! - 40) / 20)),
      [0, 1, 3, 4, 5, 6, 8, 9],
    );
  });

  test("breaks rows at `columns` and draws a border around highlighted frames", async () => {
    const made = frames(colors(4), { columns: 2, labels: false, width: 64, highlight: [1] });
    const png = await decode((await shown(made))["image/png"]!);
    assert.equal(pictures(png, 20).length, 2);
    assert.equal(pictures(png, 20 + 54).length, 2);
    const [, second] = pictures(png, 20);
    assert.ok(distance(png.at(second!.left - 2, 20), [214, 39, 40]) < 30, `${png.at(second!.left - 2, 20)}`);
  });

  test("shows a video tensor like its clip, as it was when it was passed", async () => {
    const before = tf.memory().numTensors;
    const clip = colors(3);
    const tensor = clip.toTensor();
    const made = frames(tensor);
    tensor.dispose();
    assert.deepEqual(await made.toPng(), await frames(clip).toPng());
    assert.equal(tf.memory().numTensors, before);
  });

  test("refuses what it can't show, at once", () => {
    assert.throws(() => frames(colors(3), { indices: [3] }), /frames: expected indices below 3, found 3/);
    assert.throws(() => frames(colors(3), { labels: ["a"] }), /frames: expected 3 labels, found 1/);
    assert.throws(
      () => frames(tf.zeros([2, 5, 4, 4])),
      /frames: expected .* C = 3 or 1, found \[2, 5, 4, 4\]/,
    );
    assert.throws(
      () => frames({ frames: 3 } as never),
      /frames: expected a clip or a tensor, found an object with frames/,
    );
    const cut = { data: new Uint8Array(10), width: 2, height: 2 };
    assert.throws(() => frames(cut), /expected whole frames of 2 x 2 x 3 bytes, found 10 bytes/);
  });

  test("refuses values of another range instead of showing white, and shows them with the right one", async () => {
    const bytes = tf.fill([3, 1, 4, 4], 128);
    await assert.rejects(shown(frames(bytes)), /expected values in \[-1, 1\], found 128 to 128; set range/);
    const png = await decode((await shown(frames(bytes, { range: [0, 255] })))["image/png"]!);
    assert.ok(distance(png.at(10, 10), [128, 128, 128]) <= 1);
    await assert.rejects(shown(frames(tf.fill([3, 1, 4, 4], Number.NaN))), /expected numbers, found NaN/);
  });
});

describe("image and compare", () => {
  test("an image's pixels are where they were, gray or RGB", async () => {
    const values = tf.tensor([-1, 1, 0, 0.5], [2, 2]);
    const png = await decode((await shown(image(values)))["image/png"]!);
    const [left, top] = [2, 2];
    const side = 96 / 2;
    const at = (column: number, row: number) =>
      png.at(left + (column + 0.5) * side, top + (row + 0.5) * side);
    assert.deepEqual(
      [at(0, 0), at(1, 0), at(0, 1)].map(([red]) => red),
      [0, 255, 128],
    );
    assert.deepEqual(at(1, 1), [191, 191, 191]);
    assert.throws(() => image(colors(2)), /image: expected one image, found 2 frames/);
  });

  test("rows are named and hold the same frames", async () => {
    const other = colors(4);
    other.data.fill(7);
    const made = compare({ original: colors(4), changed: other }, { indices: [0, 3] });
    const png = await decode((await shown(made))["image/png"]!);
    const row = pictures(png, 20);
    assert.deepEqual(
      row.map(({ rgb }) => Math.round((rgb[0]! - 40) / 20)),
      [0, 3],
    );
    const below = row[0]!;
    const height = Math.round(((below.right - below.left + 1) * 48) / 64);
    assert.deepEqual(png.at(below.left + 5, height + 20), [7, 7, 7]);
    assert.ok(extentOf(png, { left: 0, right: below.left - 2, top: 0, bottom: height }, isDark), "no name");
    assert.throws(
      () => compare({ a: colors(2), b: colors(3) }),
      /compare: expected clips of the same number of frames, found a 2, b 3/,
    );
  });
});

describe("channels", () => {
  test("draws a map for each channel and frame, on one scale from violet to yellow", async () => {
    const tensor = tf.tensor([0, 0, 1, 1, 2, 2, 4, 4], [1, 2, 2, 1, 2]); // channel, frame: 0, 1; 2, 4
    const made = channels(tensor, { width: 80 });
    const png = await decode((await shown(made))["image/png"]!);
    const filled = (rgb: [number, number, number]) => Math.max(...rgb) - Math.min(...rgb) > 40;
    const area = extentOf(png, { left: 0, top: 0, right: png.width - 90, bottom: png.height }, filled)!;
    const map = (column: number, row: number) =>
      png.at(area.left + 40 + column * 84, area.top + 20 + row * 44);
    assert.ok(distance(map(0, 0), [68, 1, 84]) <= 1, `${map(0, 0)}`);
    assert.ok(distance(map(0, 1), [35, 144, 140]) <= 6, `${map(0, 1)}`); // viridis at 0.5
    assert.ok(distance(map(1, 1), [253, 231, 37]) <= 1, `${map(1, 1)}`);
  });

  test("refuses channels and frames that are not there", () => {
    const tensor = tf.zeros([1, 4, 3, 2, 2]);
    assert.throws(() => channels(tensor, { channels: [4] }), /channels: expected channels below 4, found 4/);
    assert.throws(() => channels(tensor, { frames: [-4] }), /channels: expected frames below 3, found -4/);
    assert.throws(() => channels(tensor, { labels: ["a"] }), /channels: expected 3 labels, found 1/);
    assert.throws(() => channels(tf.zeros([2, 2])), /channels: expected .*found \[2, 2\]/);
  });
});

describe("animate", () => {
  test("is an animated WebP of every frame at the clip's rate, with a strip for paper", async () => {
    const bundle = await shown(animate(colors(6)));
    const [, data] = /^<img src="data:image\/webp;base64,([^"]+)" width="64" alt="Clip: 6 frames/.exec(
      bundle["text/html"]!,
    )!;
    const meta = await sharp(Buffer.from(data!, "base64"), { animated: true }).metadata();
    assert.equal(meta.pages, 6);
    assert.deepEqual(meta.delay, [125, 125, 125, 125, 125, 125]);
    assert.equal(meta.loop, 0);
    assert.equal(pictures(await decode(bundle["image/png"]!), 20).length, 6);
  });

  test("stays below its largest size, and says when it can't", async () => {
    const noise = new Uint8Array(10 * 128 * 96 * 3);
    let state = 1;
    for (let i = 0; i < noise.length; i++) noise[i] = state = (state * 48271 + 11) % 251;
    const clip = new Clip({ data: noise, width: 128, height: 96, fps: 8 });
    const whole = await animate(clip).toWebp();
    const small = await animate(clip, { maxBytes: whole.length / 4 }).toWebp();
    assert.ok(small.length <= whole.length / 4);
    await assert.rejects(animate(clip, { maxBytes: 100 }).toWebp(), /animate: expected at most 100 bytes/);
    assert.throws(() => animate(clip, { fps: 0 }), /animate: expected fps > 0, found 0/);
  });
});

describe("summary and table", () => {
  test("a summary counts", async () => {
    const made = summary(tf.tensor([1, 2, 3, Number.NaN, 6], [5]), "x");
    const { histogram, ...rest } = await made.statistics();
    assert.deepEqual(rest, {
      shape: [5],
      dtype: "float32",
      min: 1,
      max: 6,
      mean: 3,
      std: Math.sqrt((4 + 1 + 0 + 9) / 4),
      notFinite: 1,
    });
    assert.equal(
      histogram.reduce((sum, value) => sum + value),
      4,
    );
    const bundle = await shown(made);
    assert.match(
      bundle["text/plain"]!,
      /^x \[5\] float32 {2}min 1 {2}max 6 {2}mean 3 {2}std 1\.871 {2}not finite 1/,
    );
    assert.match(
      bundle["text/html"]!,
      /^<table>\n<tbody>\n<tr><td><b>x \[5\] float32<\/b><\/td><td>min <b>1<\/b><\/td>.*<td><code>\S+<\/code><\/td><\/tr>\n<\/tbody><\/table>$/,
    );
    assert.throws(() => summary(tf.tensor(["a"])), /expected a tensor of numbers, found dtype string/);
  });

  test("a table is aligned as text, escaped as HTML, and LaTeX for PDFs", async () => {
    const bundle = await shown(
      table(
        [
          { name: "a|<b>", n: 1.23456789 },
          { name: "c", n: 10 },
        ],
        { title: "T" },
      ),
    );
    assert.equal(
      bundle["text/plain"],
      ["T", "name       n", "─────  ─────", "a|<b>  1.235", "c         10"].join("\n"),
    );
    assert.equal(
      bundle["text/html"],
      [
        "<table><caption>T</caption>",
        '<thead><tr><th align="left" style="text-align: left">name</th><th align="right" style="text-align: right">n</th></tr></thead>',
        "<tbody>",
        '<tr><td align="left" style="text-align: left">a|&#60;b&#62;</td><td align="right" style="text-align: right">1.235</td></tr>',
        '<tr><td align="left" style="text-align: left">c</td><td align="right" style="text-align: right">10</td></tr>',
        "</tbody></table>",
      ].join("\n"),
    );
    assert.equal(
      bundle["text/latex"],
      [
        "\\textbf{T}",
        "",
        "\\begin{tabular}{lr}",
        "name & n \\\\",
        "\\hline",
        "a|<b> & 1.235 \\\\",
        "c & 10 \\\\",
        "\\end{tabular}",
      ].join("\n"),
    );
    const odd = await shown(table([{ a_b: "50% & $x^2$" }]));
    assert.ok(odd["text/latex"]!.includes("a\\_b \\\\"));
    assert.ok(odd["text/latex"]!.includes("50\\% \\& \\$x\\^{}2\\$"));
    assert.throws(() => table([]), /table: expected at least one column/);
  });
});
