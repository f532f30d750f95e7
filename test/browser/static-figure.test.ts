import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";
import sharp from "sharp";
import { figure, type Layout, type Trace } from "../../src/display/figure.js";

/**
 * The picture that is drawn without a browser, against plotly.js in Chromium with the same font: text and marks are in the
 * same places.
 */

const count = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i));
const axis = (text: string, more: object = {}) => ({ title: { text }, ...more });

const charts: [string, Trace[], Layout][] = [
  [
    "lines",
    [
      { y: count(50, (i) => Math.exp(-i / 15)), name: "training" },
      { y: count(50, (i) => Math.exp(-i / 18) + 0.05), name: "validation", line: { dash: "dash" } },
    ],
    { title: { text: "Loss (σ = 0.5)" }, xaxis: axis("step"), yaxis: axis("loss", { type: "log" }) },
  ],
  [
    "heat map",
    [
      {
        type: "heatmap",
        z: count(21, (i) => count(40, (j) => Math.cos(i * j))),
        colorbar: { title: { text: "change" } },
      },
    ],
    {
      title: { text: "Influence" },
      xaxis: axis("frame"),
      yaxis: axis("latent frame", { autorange: "reversed" }),
    },
  ],
  [
    "bars with long names",
    [
      {
        type: "bar",
        orientation: "h",
        y: ["encoder.mid_block.resnets.0.conv1", "conv_in", "<b>decoder</b>"],
        x: [3, 1, 2],
        text: ["3.0", "1.0", "2.0"],
      },
    ],
    { title: { text: "Milliseconds by layer" }, xaxis: axis("ms") },
  ],
  [
    "turned labels",
    [{ type: "bar", x: count(24, (i) => `latent ${i}`), y: count(24, (i) => 1 + (i % 7)) }],
    {},
  ],
  [
    "annotated points",
    [
      {
        mode: "markers+text",
        x: [1, 2, 3, 4],
        y: [4, 1, 3, 2],
        text: ["encode", "decode", "<i>train</i>", "x<sup>2</sup>"],
        textposition: "top center",
        marker: { size: [10, 20, 30, 15], color: [1, 2, 3, 4], showscale: true },
      },
    ],
    {
      xaxis: axis("seconds", { range: [0, 5] }),
      yaxis: axis("GB", { range: [0, 5] }),
      annotations: [{ x: 3, y: 3, text: "the fast one", ax: 60, ay: -50 }],
    },
  ],
  [
    "panels",
    [
      { type: "histogram", x: count(200, (i) => Math.sin(i)), name: "draws" },
      { y: [2, 1, 3], xaxis: "x2", yaxis: "y2", fill: "tozeroy", name: "area" },
      {
        type: "contour",
        z: count(12, (i) => count(12, (j) => Math.sin(i / 4) * Math.cos(j / 5))),
        xaxis: "x3",
        yaxis: "y3",
        showscale: false,
      },
      {
        type: "pie",
        labels: ["VAE", "transformer", "text"],
        values: [3, 5, 2],
        domain: { row: 1, column: 1 },
      },
    ],
    {
      title: { text: "Four panels" },
      grid: { rows: 2, columns: 2, pattern: "independent" },
      height: 600,
      legend: { orientation: "h", y: -0.1 },
    },
  ],
  [
    "Chinese",
    [
      { type: "bar", x: ["条件图像", "第 1 帧", "首帧复制"], y: [3, 1, 2], name: "损失（held-out）" },
      { x: ["条件图像", "第 1 帧", "首帧复制"], y: [2, 2, 1], name: "潜变量" },
    ],
    { title: { text: "去噪：噪声 σ 与损失" }, xaxis: axis("训练循环，LoRA"), yaxis: axis("损失") },
  ],
];

const require = createRequire(import.meta.url);
const FONT = "Figure Sans";

function face(file: string | URL, descriptors: string): string {
  const source = `url(data:font/ttf;base64,${readFileSync(file).toString("base64")})`;
  return `@font-face { font-family: "${FONT}"; ${descriptors} src: ${source}; }`;
}

/** The fonts that the picture has, under a name that no system font has. */
function fontFaces(): string {
  const faces = [
    ["DejaVuSans", "normal", "normal"],
    ["DejaVuSans-Bold", "bold", "normal"],
    ["DejaVuSans-Oblique", "normal", "italic"],
  ].map(([file, weight, style]) =>
    face(
      require.resolve(`dejavu-fonts-ttf/ttf/${file}.ttf`),
      `font-weight: ${weight}; font-style: ${style};`,
    ),
  );
  // Signs, characters, and what is as wide as they are.
  const chinese = "unicode-range: U+3000-303F, U+4E00-9FFF, U+FF00-FFEF;";
  return [...faces, face(new URL("../../vendor/NotoSansSC.ttf", import.meta.url), chinese)].join("\n");
}

let browser: Browser;
let page: Page;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu"],
  });
  page = await browser.newPage({ deviceScaleFactor: 2, viewport: { width: 800, height: 700 } });
  await page.setContent('<body style="margin: 0"><div id="figure" style="width: 700px"></div></body>');
  await page.addStyleTag({ content: fontFaces() });
  await page.evaluate(async (family) => {
    for (const style of ["", "bold ", "italic "])
      await document.fonts.load(`${style}12px "${family}"`, "a帧");
  }, FONT);
  await page.addScriptTag({ path: require.resolve("plotly.js-dist") });
});
after(() => browser?.close());

for (const [name, data, layout] of charts) {
  test(`${name}: as in Chromium`, async () => {
    const made = figure(data, { ...layout, width: 700, font: { family: FONT } });
    const ours = await pixels(await made.toPng());
    const theirs = await pixels(await inChromium(await made.toJSON()));
    assert.deepEqual([ours.width, ours.height], [theirs.width, theirs.height]);
    let far = 0;
    for (let i = 0; i < ours.data.length; i++) if (Math.abs(ours.data[i]! - theirs.data[i]!) > 40) far++;
    const share = far / ours.data.length;
    assert.ok(share < 0.0002, `${(100 * share).toFixed(3)}% of the picture differs`);
  });
}

async function inChromium(spec: object): Promise<Buffer> {
  await page.evaluate(
    async ({ data, layout }) => {
      const { Plotly } = window as unknown as { Plotly: { newPlot(...args: unknown[]): Promise<void> } };
      await Plotly.newPlot("figure", data, layout, { staticPlot: true });
    },
    spec as { data: object[]; layout: object },
  );
  return await page.locator("#figure .svg-container").screenshot();
}

async function pixels(png: Uint8Array) {
  // Blurred a little: edges of letters are smoothed in two ways, their places are what counts.
  const { data, info } = await sharp(png)
    .flatten({ background: "white" })
    .removeAlpha()
    .blur(2)
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}
