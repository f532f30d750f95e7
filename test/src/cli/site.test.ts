import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { after, before, it } from "node:test";
import { JSDOM } from "jsdom";
import sharp from "sharp";
import { Cli, notebook } from "./cli.js";

let cli: Cli;
before(async () => {
  cli = await Cli.make();
});
after(() => cli.dispose());

it("firstframe site makes a page of each notebook as it is, and an index", async () => {
  const png = await sharp({ create: { width: 900, height: 300, channels: 3, background: "teal" } })
    .png()
    .toBuffer();
  const first = notebook([
    "# First & foremost\n\nIt says $x^2$. [On](02-second.ipynb)",
    "throw new Error('never run')",
  ]) as {
    cells: { outputs: object[] }[];
  };
  const data = { "image/png": png.toString("base64"), "text/plain": "kept output" };
  first.cells[1]!.outputs = [{ output_type: "display_data", metadata: {}, data }];
  cli.write("01-first.ipynb", first);
  cli.write("02-second.ipynb", notebook(["# Second"]));
  const { code, stdout, stderr } = await cli.run(
    "site",
    "01-first.ipynb",
    "02-second.ipynb",
    "--out",
    "site",
    "--title",
    "All <of> it",
  );
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^2 pages and site\/index\.html$/m);
  assert.deepEqual(readdirSync(cli.path("site")).sort(), ["01-first.html", "02-second.html", "index.html"]);
  const index = readFileSync(cli.path("site/index.html"), "utf8");
  assert.match(index, /<h1>All &#60;of&#62; it<\/h1>/);
  assert.match(
    index,
    /<a href="01-first\.html"><img src="data:image\/webp;base64,[^"]+".*<strong>First &#38; foremost<\/strong><p>It says x\^2\. On<\/p>/,
  );
  assert.ok(!index.includes('class="film"'), "the first text has no picture");
  assert.ok(index.length < png.length + 40_000, "small pictures");
  const page = readFileSync(cli.path("site/01-first.html"), "utf8");
  assert.ok(
    page.includes('href="02-second.html"') &&
      page.includes('href="index.html"') &&
      page.includes(data["image/png"]),
  );
  assert.ok(page.includes('<a rel="next" href="02-second.html"><small>Next</small>Second</a>'));
  assert.ok(!page.includes("API reference") && !index.includes("API reference"), "there is none beside it");
  const second = readFileSync(cli.path("site/02-second.html"), "utf8");
  assert.ok(
    second.includes('<a rel="prev" href="01-first.html"><small>Previous</small>First &#38; foremost</a>'),
  );
  const twice = await cli.run("site", "01-first.ipynb", "other/01-first.ipynb", "--out", "twice");
  assert.equal(twice.code, 2);
  assert.ok(!existsSync(cli.path("twice")));
});

it("firstframe site has the tutorials in both languages, which lead to each other", async () => {
  const { code, stderr } = await cli.run("site", "--out", "both");
  assert.equal(code, 0, stderr);
  const page = (name: string) => new JSDOM(readFileSync(cli.path(`both/${name}`), "utf8")).window.document;
  const [english, chinese] = [page("index.html"), page("zh/index.html")];
  assert.deepEqual([english.documentElement.lang, chinese.documentElement.lang], ["en", "zh"]);
  assert.equal(english.querySelector(".site [lang=zh]")?.getAttribute("href"), "zh/index.html");
  assert.equal(chinese.querySelector(".site [lang=en]")?.getAttribute("href"), "../index.html");
  for (const index of [english, chinese]) {
    const film = index.querySelector<HTMLImageElement>("h1 ~ .film img");
    assert.match(film?.src ?? "", /^data:image\/webp;base64,/, "the index begins with the film");
    assert.ok(film!.alt.length > 10 && index.querySelector(".cards p")!.textContent!.length > 10);
  }
  const tutorial = page("zh/01-vae-compression.html");
  assert.equal(tutorial.querySelector("[rel=next]")?.getAttribute("href"), "02-first-frame-duplication.html");
  assert.equal(tutorial.querySelector("[rel=next] small")?.textContent, "下一篇");
  const original = [...tutorial.querySelectorAll(".markdown a")].find(
    (link) => link.textContent === "English",
  );
  assert.equal(original?.getAttribute("href"), "../01-vae-compression.html");
  assert.ok(existsSync(cli.path("both/01-vae-compression.html")));
});
