import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";
import sharp from "sharp";
import { type Notebook, type Output, parseNotebook } from "../../src/cli/notebook/format.js";
import { renderPage } from "../../src/cli/page/page.js";
import { figure } from "../../src/display/figure.js";
import { jupyterDisplay } from "../../src/display/mime.js";
import { screenshots } from "./lab.js";

let browser: Browser;
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-page-"));
  await mkdir(screenshots, { recursive: true });
  await writeFile(join(folder, "local.png"), await picture("green"));
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
  });
});
after(async () => {
  await browser?.close();
  await rm(folder, { recursive: true });
});

const picture = (background: string) =>
  sharp({ create: { width: 320, height: 180, channels: 3, background } })
    .png()
    .toBuffer();

const display = (data: Record<string, unknown>): Output => ({
  output_type: "display_data",
  data,
  metadata: {},
});

function notebook(cells: (string | { source: string; outputs: Output[] })[]): Notebook {
  return parseNotebook(
    JSON.stringify({
      nbformat: 4,
      nbformat_minor: 5,
      metadata: { language_info: { name: "typescript" } },
      cells: cells.map((cell, i) =>
        typeof cell === "string"
          ? { cell_type: "markdown", id: `m${i}`, metadata: {}, source: cell }
          : { cell_type: "code", id: `c${i}`, metadata: {}, execution_count: i, ...cell },
      ),
    }),
    "page.ipynb",
  );
}

interface Opened {
  readonly page: Page;
  readonly problems: string[];
  readonly close: () => Promise<void>;
}

async function open(content: Notebook, options: { dark?: boolean; phone?: boolean } = {}): Promise<Opened> {
  const html = await renderPage(content, { folder, pages: new Set(["02-next.ipynb"]), name: "page" });
  const file = join(folder, "page.html");
  await writeFile(file, html);
  const context = await browser.newContext({
    viewport: options.phone ? { width: 375, height: 800 } : { width: 1400, height: 900 },
    colorScheme: options.dark ? "dark" : "light",
  });
  const page = await context.newPage();
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("request", (request) => /^(file|data|blob):/.test(request.url()) || problems.push(request.url()));
  await page.goto(`file://${file}`);
  return { page, problems, close: () => context.close() };
}

async function everything(): Promise<Notebook> {
  const chart = figure([{ y: [3, 1, 2] }, { type: "bar", y: [1, 2, 3] }], { title: { text: "Loss" } });
  return notebook([
    [
      "# One page with *everything*",
      "",
      "Inline $(81-1)/4+1=21$, [next](02-next.ipynb#Part-two), [other](other.ipynb), ![local](local.png)",
      "",
      "$$\\mathcal{L} = \\mathbb{E}\\left[\\frac{\\lVert v-\\hat v\\rVert^2}{1-\\bar\\alpha_t}\\right]$$",
      "",
      "| a | b |",
      "|---|--:|",
      "| 1 | 2 |",
      "",
      "<script>document.title = 'taken over'</script><img src=x onerror=\"document.title='taken over'\">",
    ].join("\n"),
    "## Part one",
    {
      source: 'const greeting: string = "hello"; // says it\nconsole.log(greeting)',
      outputs: [
        { output_type: "stream", name: "stdout", text: "0%\r50%\r100%\n\u001b[31mred\u001b[0m <b>&\n" },
        { output_type: "stream", name: "stderr", text: "careful\n" },
      ],
    },
    "## Part two",
    { source: "figure(...)", outputs: [display(await chart[jupyterDisplay]())] },
    "## Part three",
    {
      source: "more",
      outputs: [
        display({ "image/png": (await picture("navy")).toString("base64"), "text/plain": "a picture" }),
        display({
          "text/html": "<table><tr><th>psnr</th></tr><tr><td>28.1</td></tr></table>",
          "text/plain": "",
        }),
        display({ "text/latex": "$$E = mc^2$$", "text/plain": "" }),
        display({ "application/json": { a: [1, 2] } }),
        display({ "text/plain": `${"wide ".repeat(100)}` }),
        {
          output_type: "error",
          ename: "TypeError",
          evalue: "x",
          traceback: ["\u001b[31mTypeError\u001b[0m: x"],
        },
      ],
    },
  ]);
}

describe("the web page of a notebook", () => {
  for (const dark of [false, true]) {
    it(`shows every kind of output without fetching anything, ${dark ? "dark" : "light"}`, async () => {
      const { page, problems, close } = await open(await everything(), { dark });
      await page.waitForSelector('html[data-figures="drawn"]');
      // The one request that the broken picture in the text makes is for a file.
      assert.deepEqual(
        problems.filter((problem) => !problem.includes("ERR_FILE_NOT_FOUND")),
        [],
      );
      assert.equal(await page.title(), "One page with everything");
      assert.equal(await page.locator(".plotly .scatterlayer .trace").count(), 1);
      assert.equal(await page.locator(".plotly .barlayer .point").count(), 3);
      assert.ok((await page.locator(".katex").count()) >= 3);
      assert.ok(await page.evaluate("document.fonts.check('16px KaTeX_Main')"));
      assert.equal(await page.locator(".contents a").count(), 3);
      assert.equal(
        await page.getByText("next", { exact: true }).getAttribute("href"),
        "02-next.html#user-content-Part-two",
      );
      assert.equal(await page.getByText("other", { exact: true }).getAttribute("href"), "other.ipynb");
      assert.match((await page.locator('img[alt="local"]').getAttribute("src"))!, /^data:image\/png;base64,/);
      const stream = (await page.locator(".stdout").textContent())!;
      assert.equal(stream.trimEnd(), "100%\nred <b>&");
      assert.equal(await page.locator(".stdout .ansi-red-fg").textContent(), "red");
      assert.ok((await page.locator(".hljs-keyword").count()) > 0);
      assert.equal(await page.locator("#user-content-Part-two").textContent(), "Part two");
      await page.screenshot({
        path: join(screenshots, `page-${dark ? "dark" : "light"}.png`),
        fullPage: true,
      });
      await close();
    });
  }

  it("fits a phone", async () => {
    const { page, close } = await open(await everything(), { phone: true });
    await page.waitForSelector('html[data-figures="drawn"]');
    assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 375);
    await page.screenshot({ path: join(screenshots, "page-phone.png"), fullPage: true });
    await close();
  });

  it("switches between light and dark, figures included", async () => {
    const { page, problems, close } = await open(await everything());
    await page.waitForSelector('html[data-figures="drawn"]');
    const colors = () =>
      page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.xtick text')).fill]",
      );
    const light = (await colors()) as string[];
    await page.click("#theme");
    await page.waitForFunction(
      (before) => getComputedStyle(document.querySelector(".xtick text")!).fill !== before,
      light[1]!,
    );
    const dark = (await colors()) as string[];
    assert.notEqual(dark[0], light[0]);
    assert.deepEqual(
      problems.filter((problem) => !problem.includes("ERR_FILE_NOT_FOUND")),
      [],
    );
    await close();
  });

  it("carries plotly.js and fonts only where they are used", async () => {
    const render = (content: Notebook) => renderPage(content, { folder, pages: new Set(), name: "x" });
    const small = await render(notebook(["# Text", { source: "1", outputs: [] }]));
    const math = await render(notebook(["$x^2$"]));
    assert.ok(small.length < 30_000, `${small.length} characters`);
    assert.ok(math.length > 200_000 && math.length < 500_000, `${math.length} characters`);
    assert.ok((await render(await everything())).length > 2_000_000);
  });
});
