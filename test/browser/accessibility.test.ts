import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { AxeResults } from "axe-core";
import { type Browser, chromium, type Page } from "playwright-core";
import { Cli } from "../src/cli/cli.js";
import { projectRoot } from "../src/cli/project.js";

const tutorials = readdirSync(join(projectRoot, "notebooks"))
  .filter((name) => name.endsWith(".ipynb"))
  .sort();
/** Of the API reference: its first page, a module with all kinds of things in it, and a class. */
const REFERENCE = ["api/index", "api/modules/firstframe_video", "api/classes/firstframe.Clip"];
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const views = {
  light: { colorScheme: "light", width: 1400 },
  dark: { colorScheme: "dark", width: 1400 },
  "390 pixels wide": { colorScheme: "light", width: 390 },
} as const;

let cli: Cli;
let browser: Browser;
before(async () => {
  cli = await Cli.make();
  const paths = tutorials.map((name) => join(projectRoot, "notebooks", name));
  // The pages link to the reference where it is there already; it is filled while they are made.
  cli.write("site/api/index.html", "");
  const reference = [join(projectRoot, ".ci/api-reference.mjs"), cli.path("site/api")];
  for (const { code, stderr } of await Promise.all([
    cli.run("site", ...paths, "--out", "site"),
    cli.program(process.execPath, reference).ended,
  ]))
    assert.equal(code, 0, stderr);
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
  });
});
after(async () => {
  await browser?.close();
  cli.dispose();
});

async function opened(name: string, width = 1400): Promise<Page> {
  const page = await browser.newPage({ viewport: { width, height: 900 } });
  await page.goto(`file://${cli.path(`site/${name}.html`)}`);
  if (tutorials.includes(`${name}.ipynb`)) await page.waitForSelector('html[data-figures="drawn"]');
  return page;
}

/** What axe finds that keeps people out, a line each. */
async function barriers(page: Page): Promise<string[]> {
  const violations = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run(options: object): Promise<AxeResults> } };
    return (await axe.run({ resultTypes: ["violations"] })).violations;
  });
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join("; ")}`);
}

async function follow(page: Page, rel: "prev" | "next"): Promise<void> {
  await page.locator(`a[rel=${rel}]`).click();
  await page.waitForLoadState();
}

const folded = "details:has(> summary > code)";

describe("the site", () => {
  const names = ["index", ...tutorials.map((file) => file.replace(/\.ipynb$/, "")), ...REFERENCE];
  for (const name of names) {
    it(`${name}: axe finds nothing serious, light, dark and on a phone`, async () => {
      const page = await opened(name);
      await page.evaluate(axe);
      for (const [view, { colorScheme, width }] of Object.entries(views)) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        // Observers of sizes are called with the second frame.
        await page.evaluate(
          () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
        );
        assert.deepEqual(await barriers(page), [], view);
        assert.equal(await page.evaluate("document.documentElement.scrollWidth"), width, view);
      }
      await page.close();
    });
  }

  it("is read from the first tutorial to the last and back", async () => {
    const page = await opened("index");
    assert.equal(
      await page.getByRole("link", { name: "API reference" }).getAttribute("href"),
      "api/index.html",
    );
    await page.locator(".cards a").first().click();
    await page.waitForLoadState();
    for (const [i, file] of tutorials.entries()) {
      assert.ok(page.url().endsWith(`/${file.replace(/\.ipynb$/, "")}.html`), page.url());
      assert.equal(await page.locator("a[rel=prev]").count(), i === 0 ? 0 : 1);
      if (i + 1 < tutorials.length) await follow(page, "next");
    }
    assert.equal(await page.locator("a[rel=next]").count(), 0);
    await follow(page, "prev");
    assert.ok(page.url().endsWith(`/${tutorials.at(-2)!.replace(/\.ipynb$/, "")}.html`));
    assert.equal(await page.getByRole("link", { name: "API reference" }).count(), 1);
    await page.close();
  });

  it("has contents beside the text, and folded above it on a phone", async () => {
    for (const [width, open] of [
      [1400, true],
      [390, false],
    ] as const) {
      const page = await opened("02-first-frame-duplication", width);
      const link = page.locator("nav.contents a").last();
      assert.equal(await link.isVisible(), open);
      if (!open) await page.locator("nav.contents summary").click();
      await link.click();
      assert.match(page.url(), /#.*Exercises$/);
      await page.close();
    }
  });

  it("shows pictures first: the code of cells that only draw is folded, with its first line", async () => {
    const page = await opened("02-first-frame-duplication");
    const code = page.locator(folded).first();
    assert.match((await code.locator("summary").textContent())!, /^Code const /);
    assert.equal(await code.locator("pre").isVisible(), false);
    const cell = page.locator(".cell").filter({ has: page.locator("summary > code") });
    assert.ok(await cell.first().locator(".plotly").first().isVisible());
    await code.locator("summary").click();
    assert.ok(await code.locator("pre").isVisible());
    await page.close();
  });

  it("is scrolled with the keyboard where a block scrolls, and only there", async () => {
    const page = await opened("02-first-frame-duplication", 390);
    const reached = await page.evaluate(() =>
      [...document.querySelectorAll("pre.code")]
        .filter((block) => block.checkVisibility())
        .map((block) => [block.scrollWidth > block.clientWidth, block.getAttribute("tabindex") === "0"]),
    );
    assert.ok(reached.some(([scrolls]) => scrolls) && reached.some(([scrolls]) => !scrolls));
    for (const [scrolls, stop] of reached) assert.equal(stop, scrolls);
    await page.close();
  });
});
