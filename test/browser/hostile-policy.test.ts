import assert from "node:assert/strict";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import sharp from "sharp";
import { type HostileCell, hostileOutputs, hostileTexts } from "./hostile.js";
import { screenshots } from "./lab.js";
import { assertWorks, features, notebookOf, Pages, provoke, run } from "./pages.js";

let pages: Pages;
before(async () => {
  pages = await Pages.make();
  mkdirSync(screenshots, { recursive: true });
});
after(() => pages?.dispose());

describe("a page of a stranger's notebook", () => {
  it("runs nothing in the report of a check", async () => {
    const cells = [...hostileTexts(run, pages.remote), ...hostileOutputs(run, pages.remote)]
      .flatMap((kind) => kind.cells)
      .filter((cell) => typeof cell !== "string" && cell.cell_type === "code");
    const code = cells.map((cell, i) => ({
      ...(cell as Exclude<HostileCell, string>),
      id: `c${i}`,
      source: `void '<img src=x onerror="${run}"><script>${run}</script>';`,
    }));
    const name = `in/<img src=x onerror="${run}">.ipynb`;
    pages.cli.write(name, notebookOf(code, { kernelspec: { name: "firstframe", display_name: "x" } }));
    const { code: exit, stderr } = await pages.cli.run("run", name, "--check", "--out", "report");
    assert.equal(exit, 1, stderr);
    const file = pages.cli.path("report/check.html");
    assert.ok(readFileSync(file, "utf8").includes('<figure><img src="data:image/'), "it shows pictures");
    const { page, runs, requests, close } = await pages.open(file);
    await provoke(page);
    assert.deepEqual([runs(), requests, pages.asked], [0, [], []]);
    await page.screenshot({ path: join(screenshots, "hostile-report.png"), fullPage: true });
    await close();
  });

  it("would be stopped by the page's policy if it got through", async () => {
    pages.cli.write("plain.ipynb", notebookOf(features));
    assert.equal((await pages.cli.run("site", "plain.ipynb", "--out", "site")).code, 0);
    const html = readFileSync(pages.cli.path("site/plain.html"), "utf8");
    const through = [
      `<script>${run}</script>`,
      `<img src=x onerror="${run}">`,
      `<script src="${pages.remote}/x.js"></script>`,
      `<img src="${pages.remote}/x.svg">`,
      `<iframe srcdoc="<script>${run}</script>"></iframe>`,
    ].join("");
    const opened = async (name: string, text: string) => {
      writeFileSync(pages.cli.path(name), text);
      const { runs, close } = await pages.open(pages.cli.path(name));
      const found = { runs: runs(), asked: [...pages.asked] };
      await close();
      return found;
    };
    const added = html.replace("<main>", `<main>${through}`);
    assert.deepEqual(await opened("through.html", added), { runs: 0, asked: [] });
    // The same page without a policy, so that it is known what would have happened.
    const { runs, asked: without } = await opened(
      "without.html",
      added.replace(/<meta http-equiv[^>]*>/, ""),
    );
    assert.equal(runs, 4);
    assert.equal(without.length, 2);
  });

  it("gets no picture from outside of its folder", async () => {
    const secret = await sharp({ create: { width: 40, height: 40, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    mkdirSync(pages.cli.path("outside"), { recursive: true });
    mkdirSync(pages.cli.path("folder/below"), { recursive: true });
    writeFileSync(pages.cli.path("outside/secret.png"), secret);
    writeFileSync(pages.cli.path("folder-beside.png"), secret);
    const own = await sharp({ create: { width: 40, height: 40, channels: 3, background: "blue" } })
      .png()
      .toBuffer();
    for (const name of ["own.png", "100%.png", "a b.png", "below/own.png"])
      writeFileSync(pages.cli.path(`folder/${name}`), own);
    symlinkSync(pages.cli.path("outside/secret.png"), pages.cli.path("folder/link.png"));
    symlinkSync(pages.cli.path("outside"), pages.cli.path("folder/linked"));
    symlinkSync("own.png", pages.cli.path("folder/inner.png"));
    mkdirSync(pages.cli.path("folder/folder.png"));
    const out = pages.cli.path("outside/secret.png");
    const refused = [
      out,
      `file://${out}`,
      `FILE:${out}`,
      "../outside/secret.png",
      "%2e%2e/outside/secret.png",
      "..%2Foutside%2Fsecret.png",
      "./below/../../outside/secret.png",
      "link.png",
      "linked/secret.png",
      "../folder-beside.png",
      "folder.png",
      "missing.png",
      "\\..\\outside\\secret.png",
      "own.png/../../outside/secret.png",
    ];
    const allowed = [
      "own.png",
      "./own.png",
      "below/own.png",
      "below/../own.png",
      "inner.png",
      "100%.png",
      "a%20b.png",
      "own.png?raw=true#x",
    ];
    const cells = [
      ...refused.map((path) => `![refused](<${path}>)\n\n<img alt="refused" src="${path}">`),
      ...allowed.map((path) => `![allowed](${path})\n\n<img alt="allowed" src="${path}">`),
    ];
    pages.cli.write("folder/pictures.ipynb", notebookOf([...cells, ...features]));
    const { code, stderr } = await pages.cli.run("site", "folder/pictures.ipynb", "--out", "pictures");
    assert.equal(code, 0, stderr);
    const file = pages.cli.path("pictures/pictures.html");
    const html = readFileSync(file, "utf8");
    assert.ok(!html.includes(secret.toString("base64")));
    const { page, requests, close } = await pages.open(file);
    await assertWorks(page);
    assert.equal(await page.locator('img[alt="refused"]').count(), 0);
    assert.equal(await page.locator('img[alt="allowed"]').count(), 2 * allowed.length);
    const widths = await page
      .locator("main img")
      .evaluateAll((images) => images.map((image) => (image as HTMLImageElement).naturalWidth));
    assert.deepEqual(new Set(widths), new Set([40]));
    assert.equal(await page.locator(".note").count(), 2 * refused.length);
    assert.deepEqual(requests, []);
    assert.match(
      stderr,
      /^folder\/pictures\.ipynb, cell 4: the picture \.\.\/outside\/secret\.png is not shown: it is not in the notebook's folder$/m,
    );
    await close();
  });

  it("gets pictures from the web that its text names, and nothing else, and they are not told where the reader is", async () => {
    pages.cli.write(
      "remote.ipynb",
      notebookOf([
        `![x](${pages.remote}/shown.svg) <img src="${pages.remote}/html.svg">`,
        `<p style="background:url(${pages.remote}/style)">x</p><video src="${pages.remote}/video"></video><svg><image href="${pages.remote}/image"/></svg>`,
        ...features,
      ]),
    );
    assert.equal((await pages.cli.run("site", "remote.ipynb", "--out", "remote")).code, 0);
    const { page, close } = await pages.open(pages.cli.path("remote/remote.html"));
    await assertWorks(page);
    assert.deepEqual(pages.asked.sort(), ["/html.svg -", "/shown.svg -"]);
    await close();
  });
});

describe("HTML of outputs on a page", () => {
  const html = (source: string): HostileCell => ({
    cell_type: "code",
    outputs: [{ output_type: "display_data", data: { "text/html": source }, metadata: {} }],
  });

  it("does what it does on nbconvert's pages, and what is around it stays as it is", async () => {
    const works: Record<string, string> = {
      "a script": `<script>${run}</script>`,
      "a script of another site": `<script src="${pages.remote}/a.js"></script>`,
      "a script that loads one": `<script>const s = document.createElement("script"); s.src = "${pages.remote}/b.js"; document.body.append(s);</script>`,
      "a module": `<script type="module">import "${pages.remote}/c.js";</script>`,
      "an event handler": `<img src="data:," onerror="${run}">`,
      "code made from a string": `<script>new Function("${run}")()</script>`,
      "a document in a frame": `<iframe srcdoc="<script>${run}</script>"></iframe>`,
      "what is left open": `<div><script>${run}</script><textarea><!--`,
      "SVG's script": `<svg><script>${run}</script></svg>`,
    };
    pages.cli.write(
      "html.ipynb",
      notebookOf([
        ...Object.values(works).map(html),
        html(`<style>.own{color:rgb(1, 2, 3)}</style><p class="own">own</p>`),
        html(`<img id="far" src="${pages.remote}/far.svg">`),
        `<script>${run}</script><p class="own">own</p>`,
        ...features,
      ]),
    );
    assert.equal((await pages.cli.run("site", "html.ipynb", "--out", "html")).code, 0);
    const file = pages.cli.path("html/html.html");
    const { page, runs, close } = await pages.open(file);
    await assertWorks(page);
    const deadline = Object.keys(works).length;
    await page.waitForFunction(() => (document.getElementById("far") as HTMLImageElement).naturalWidth > 0);
    for (let i = 0; i < 200 && runs() < deadline; i++)
      await page.evaluate(() => new Promise((done) => setTimeout(done, 50)));
    assert.equal(runs(), deadline);
    assert.equal(
      await page
        .locator("p.own")
        .first()
        .evaluate((own) => getComputedStyle(own).color),
      "rgb(1, 2, 3)",
    );
    await close();
    // The scripts' leave is theirs alone.
    const text = readFileSync(file, "utf8");
    writeFileSync(
      pages.cli.path("html/added.html"),
      text.replace(
        "<main>",
        `<main><script>${run};0</script><b onclick="${run};1" id="added">x</b><img src="data:," onerror="${run};2"><script src="${pages.remote}/d.js"></script>`,
      ),
    );
    const added = await pages.open(pages.cli.path("html/added.html"));
    await assertWorks(added.page);
    await added.page.locator("#added").dispatchEvent("click");
    for (let i = 0; i < 200 && added.runs() < deadline; i++)
      await added.page.evaluate(() => new Promise((done) => setTimeout(done, 50)));
    assert.equal(added.runs(), deadline);
    await added.close();
    // The same notebook gives the same page.
    assert.equal((await pages.cli.run("site", "html.ipynb", "--out", "again")).code, 0);
    assert.equal(readFileSync(pages.cli.path("again/html.html"), "utf8"), text);
  });

  it("is text, tables and pictures with --sanitize-html", async () => {
    const png = await sharp({ create: { width: 8, height: 8, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    pages.cli.write(
      "table.ipynb",
      notebookOf([
        html(
          `<table border="1" class="dataframe"><thead><tr style="text-align:right"><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table><script>${run}</script><img id="p" src="data:image/png;base64,${png.toString("base64")}">`,
        ),
        ...features,
      ]),
    );
    assert.equal((await pages.cli.run("site", "table.ipynb", "--out", "table", "--sanitize-html")).code, 0);
    const { page, runs, requests, close } = await pages.open(pages.cli.path("table/table.html"));
    await assertWorks(page);
    assert.equal(await page.locator("table.dataframe td").textContent(), "1");
    assert.equal(
      await page
        .locator("table.dataframe tr")
        .first()
        .evaluate((row) => getComputedStyle(row).textAlign),
      "right",
    );
    assert.equal(
      await page.locator("#user-content-p").evaluate((picture) => (picture as HTMLImageElement).naturalWidth),
      8,
    );
    assert.deepEqual([runs(), requests], [0, []]);
    await close();
  });
});
