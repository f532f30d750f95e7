import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import sharp from "sharp";
import { figure } from "../../src/display/figure.js";
import { jupyterDisplay } from "../../src/display/mime.js";
import { Lab } from "./lab.js";
import { notebook } from "./notebook.js";

/** What the package shows and what the extension adds, in one real JupyterLab with the real kernel. */

const count = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i));

const savedFigures = [
  figure(
    [
      { y: count(50, (i) => Math.exp(-i / 15)), name: "train" },
      { y: count(50, (i) => Math.exp(-i / 18) + 0.05), name: "validation", line: { dash: "dash" } },
    ],
    { title: { text: "Loss" }, xaxis: { title: { text: "step" } }, yaxis: { type: "log" } },
  ),
  figure([{ type: "heatmap", z: count(21, (i) => count(81, (j) => Math.exp(-((j / 4 - i) ** 2) / 4))) }], {
    title: { text: "Which latent sees which frame" },
  }),
  figure([{ type: "bar", x: count(22, String), y: count(22, (i) => 1 + (i % 5)) }], {
    title: { text: "Gradients" },
  }),
];

const SHOWS = [
  'import { animate, channels, compare, figure, frames, proceduralClip, progress, summary, table } from "firstframe";\nimport { useEngine } from "firstframe";\nawait useEngine("cpu");',
  "const { clip } = proceduralClip({ seed: 3 });\nframes(clip);",
  'for await (const step of progress([1, 2, 3, 4, 5], { desc: "steps" })) await new Promise((done) => setTimeout(done, 60));',
  'figure([{ y: [1, 3, 2], name: "loss" }], { title: { text: "A line" } });',
  'await display(figure([{ type: "bar", x: ["a", "b"], y: [2, 1] }], { title: { text: "Bars" } }));\nawait display(animate(clip));\n"done"',
  'const x = clip.toTensor();\nawait display(summary(x, "x"));\nawait display(compare({ clip, same: x }, { indices: [0, 40, 80] }));\nchannels(x, { frames: [0, 40] });',
  'import { TrainingPanel } from "firstframe";\nconst panel = new TrainingPanel({ title: "A training", interval: 0.1 });\nfor (let step = 1; step <= 20; step++) {\n  await new Promise((done) => setTimeout(done, 30));\n  await panel.log({ loss: 1 / step, lr: 1e-4 }, step);\n}\nawait panel.sample("validation", clip, 20);\nawait panel.finish();',
  "table([{ frames: clip.numFrames, latents: (clip.numFrames - 1) / 4 + 1 }]);",
];

const EDITING = ["const kept: number = 5;", "while (true) {}", "console.log(kept + 1);", "kep", "foro"];

let lab: Lab;
before(async () => {
  const outputs = await Promise.all(savedFigures.map((shown) => shown[jupyterDisplay]()));
  const cells = (codes: readonly string[]) => notebook(codes.map((code) => ({ code })));
  lab = await Lab.start({
    "saved.ipynb": notebook(outputs.map((data) => ({ code: "figure(...)", data }))),
    "shows.ipynb": cells(SHOWS),
    "editing.ipynb": cells(EDITING),
  });
});
after(() => lab?.stop());

describe("figures of a saved notebook", () => {
  test("are drawn, follow the theme and the width of the page, and can be saved", async () => {
    const notebook = await lab.open("saved.ipynb");
    const { page } = notebook;
    const drawn = await notebook.figures(3);
    assert.deepEqual(drawn, [
      { title: "Loss", marks: 2 },
      { title: "Which latent sees which frame", marks: 1 },
      { title: "Gradients", marks: 22 },
    ]);
    const first = page.locator(".firstframe-plotly").first();
    const titleColor = () => first.locator(".gtitle").evaluate((node) => getComputedStyle(node).fill);
    assert.equal(await titleColor(), "rgb(68, 68, 68)");

    const wide = await plotWidth();
    await page.setViewportSize({ width: 1000, height: 900 });
    while ((await plotWidth()) > wide - 150) await page.waitForTimeout(50);
    assert.ok(
      (await plotWidth()) <= (await first.evaluate((node) => node.clientWidth)),
      "wider than its cell",
    );

    await first.hover();
    const download = page.waitForEvent("download");
    await first.locator('.modebar-btn[data-title*="as a PNG"]').click();
    const file = await download;
    assert.equal(file.suggestedFilename(), "Loss.png");
    const { format, width } = await sharp(await readFile(await file.path())).metadata();
    assert.equal(format, "png");
    assert.equal(width, 2 * Math.round(await plotWidth()));
    assert.equal(
      await page.locator(".modebar-btn[data-title*=Share]").count(),
      0,
      "figures are not uploaded",
    );

    await notebook.screenshot("figures-light");
    await notebook.setTheme("dark");
    while ((await titleColor()) !== "rgb(224, 224, 224)") await page.waitForTimeout(50);
    await notebook.screenshot("figures-dark");
    assert.deepEqual(notebook.problems, []);
    await notebook.close();

    async function plotWidth(): Promise<number> {
      return (await first.locator(".main-svg").first().boundingBox())!.width;
    }
  });
});

describe("Run All Cells", () => {
  test("shows everything that the package can show", async () => {
    const notebook = await lab.open("shows.ipynb");
    await notebook.runAll();
    assert.deepEqual(await notebook.errors(), []);
    assert.deepEqual(await notebook.figures(3), [
      { title: "A line", marks: 4 },
      { title: "Bars", marks: 2 },
      { title: "A training", marks: 22 },
    ]);
    await notebook.screenshot("shows-light");
    await notebook.save();
    await notebook.setTheme("dark");
    await notebook.screenshot("shows-dark");
    assert.deepEqual(notebook.problems, []);
    await notebook.shutDown();
    await notebook.close();
  });

  test("leaves a whole notebook: one progress line, every picture, no error", async () => {
    const saved = JSON.parse(await readFile(join(lab.notebooks, "shows.ipynb"), "utf8")) as {
      cells: { outputs: { output_type: string; data?: Record<string, string[]> }[] }[];
    };
    const types = saved.cells.map(({ outputs }) => outputs.map(({ data }) => Object.keys(data ?? {}).sort()));
    const plotly = ["application/vnd.plotly.v1+json", "image/png", "text/html", "text/plain"];
    const picture = ["image/png", "text/plain"];
    assert.deepEqual(types, [
      [["text/plain"]],
      [picture],
      [["text/html", "text/plain"]],
      [plotly],
      [plotly, ["image/png", "text/html", "text/plain"], ["text/plain"]],
      [["text/html", "text/plain"], picture, picture],
      [plotly, ["image/png", "text/html", "text/plain"]],
      [["text/html", "text/latex", "text/plain"]],
    ]);
    // nbformat saves text as a list of lines.
    assert.match(saved.cells[2]!.outputs[0]!.data!["text/plain"]!.join(""), /^steps: 100% \|█{20}\| 5\/5$/);
  });
});

describe("the kernel from the page", () => {
  test("shows its logo in the launcher", async () => {
    const notebook = await lab.open("editing.ipynb");
    await notebook.menu("File", "New Launcher");
    const logo = notebook.page.locator('.jp-LauncherCard[title^="TypeScript (firstframe)"] img').first();
    await logo.waitFor();
    assert.match((await logo.getAttribute("src"))!, /kernelspecs\/firstframe\/logo-svg\.svg/);
    assert.ok(await logo.evaluate((node) => (node as HTMLImageElement).naturalWidth > 0));
    await notebook.close();
  });

  test("colours TypeScript, completes, explains, is interrupted and restarted", async () => {
    const notebook = await lab.open("editing.ipynb");
    const { page } = notebook;
    const cell = (index: number) => page.locator(".jp-CodeCell").nth(index);
    const output = (index: number) => cell(index).locator(".jp-OutputArea-output");
    const run = async (index: number) => {
      await cell(index).locator(".cm-content").click();
      await page.keyboard.press("Control+Enter");
    };
    await notebook.ready();

    // A type after a colon is coloured as one: JupyterLab knows the cells for TypeScript.
    const line = cell(0).locator(".cm-line").first();
    const colors = await line.evaluate((node) => [...node.children].map((part) => part.className));
    assert.ok(new Set(colors).size >= 3, `only ${colors.length} kinds of words`);

    await run(0);
    await cell(0).locator(".jp-InputPrompt").getByText("[1]:").waitFor();

    await run(1);
    await page
      .locator("#jp-main-statusbar")
      .getByText(/\| Busy$/)
      .waitFor();
    await notebook.menu("Kernel", "Interrupt Kernel");
    await output(1)
      .getByText(/KeyboardInterrupt|interrupted/i)
      .first()
      .waitFor();
    await run(2);
    await output(2).getByText("6").waitFor();

    await cell(3).locator(".cm-content").click();
    await page.keyboard.press("End");
    await page.keyboard.press("Tab");
    await cell(3)
      .locator(".cm-content")
      .getByText("kept")
      .or(page.locator(".jp-Completer-item", { hasText: "kept" }))
      .first()
      .waitFor();
    if (await page.locator(".jp-Completer-item").first().isVisible()) await page.keyboard.press("Enter");
    await cell(3).locator(".cm-content").getByText("kept").waitFor();
    await page.keyboard.press("Shift+Tab");
    await page
      .locator(".jp-Tooltip")
      .getByText(/kept: number/)
      .first()
      .waitFor();
    await page.keyboard.press("Escape");

    // A snippet of the extension.
    const snippet = cell(4).locator(".cm-content").getByText("for (const item of items) {");
    const offered = page.locator(".jp-Completer-item", { hasText: "forof" });
    await cell(4).locator(".cm-content").click();
    await page.keyboard.press("End");
    await page.keyboard.press("Tab");
    await snippet.or(offered).first().waitFor();
    if (await offered.isVisible()) await offered.click();
    await snippet.waitFor();

    await notebook.menu("Kernel", "Restart Kernel…");
    await page.locator(".jp-Dialog button", { hasText: "Restart" }).click();
    await notebook.ready();
    await run(2);
    await output(2).getByText(/kept/).first().waitFor();
    assert.deepEqual(notebook.problems, []);
    await notebook.shutDown();
    await notebook.close();
  });
});
