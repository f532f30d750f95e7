import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, it } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";
import { Cli } from "../src/cli/cli.js";
import { fileName, type Hostile, type HostileCell } from "./hostile.js";

/** What an attack runs: a function of the test's, in every page and frame. */
export const run = "ran(1)";

export interface Opened {
  readonly page: Page;
  /** How often a script called `ran`. */
  readonly runs: () => number;
  /** What was asked for, but for the page itself. */
  readonly requests: string[];
  readonly close: () => Promise<void>;
}

/** The command line, a browser for the pages that it makes, and a server that no page may ask for anything. */
export class Pages {
  /** What the server was asked for, with the referrer. */
  readonly asked: string[] = [];

  private constructor(
    readonly cli: Cli,
    private readonly browser: Browser,
    private readonly server: Server,
  ) {}

  static async make(): Promise<Pages> {
    const cli = await Cli.make();
    const server = createServer((request, response) => {
      pages.asked.push(`${request.url} ${request.headers.referer ?? "-"}`);
      const isScript = request.url?.endsWith(".js");
      response.setHeader("access-control-allow-origin", "*");
      response.setHeader("content-type", isScript ? "text/javascript" : "image/svg+xml");
      response.end(isScript ? run : '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>');
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    const browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox"],
    });
    const pages = new Pages(cli, browser, server);
    return pages;
  }

  /** The server's address. */
  get remote(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async open(file: string): Promise<Opened> {
    this.asked.length = 0;
    const context = await this.browser.newContext({ viewport: { width: 1400, height: 700 } });
    let runs = 0;
    await context.exposeFunction("ran", () => {
      runs++;
    });
    const page = await context.newPage();
    const requests: string[] = [];
    const own = `file://${encodeURI(file)}`;
    context.on("request", (request) => {
      const url = request.url();
      if (!/^(data|blob):/.test(url) && url !== own) requests.push(url);
    });
    // What a page's policy stops is asked of nobody.
    context.on("requestfailed", (request) => {
      const at = requests.indexOf(request.url());
      if (request.failure()?.errorText === "csp" && at >= 0) requests.splice(at, 1);
    });
    await page.goto(own);
    return { page, runs: () => runs, requests, close: () => context.close() };
  }

  async dispose(): Promise<void> {
    await this.browser.close();
    this.server.closeAllConnections();
    this.server.close();
    this.cli.dispose();
  }
}

const chart = {
  output_type: "display_data",
  data: { "application/vnd.plotly.v1+json": { data: [{ y: [1, 3, 2] }], layout: { height: 200 } } },
  metadata: {},
};

/** A page's own features, to go behind what is tried on it. */
export const features: HostileCell[] = [
  "## Feature one\n\n$e^{i\\pi}$",
  { cell_type: "code", outputs: [chart], source: "figure()" },
  "## Feature two",
  `## Feature three\n\n${"text\n\n".repeat(60)}`,
];

export function notebookOf(cells: readonly HostileCell[], metadata: object = {}): object {
  return {
    nbformat: 4,
    nbformat_minor: 5,
    metadata,
    cells: cells.map((cell, i) => {
      const known = { id: `id-${i}`, metadata: {}, source: "" };
      if (typeof cell === "string") return { ...known, cell_type: "markdown", source: cell };
      return cell.cell_type === "code"
        ? { ...known, outputs: [], execution_count: i, ...cell }
        : { ...known, ...cell };
    }),
  };
}

/** Does to everything in a page what could set a script off, and waits until the browser has nothing left to do. */
export async function provoke(page: Page): Promise<void> {
  await page.evaluate(() => {
    // Links are followed, but for those to other pages.
    const away = (link: Element | null) =>
      link !== null && /^(?:https?|file):/.test(new URL(link.getAttribute("href") ?? "", location.href).href);
    addEventListener(
      "click",
      (event) => away((event.target as Element).closest("a, area")) && event.preventDefault(),
      true,
    );
    for (const element of Document.prototype.querySelectorAll.call(document, "main *")) {
      for (const type of ["mouseover", "mouseenter", "focus", "click", "toggle", "load", "error", "begin"]) {
        element.dispatchEvent(new MouseEvent(type, { cancelable: true }));
      }
    }
  });
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done))));
}

/** The page's own features: its button, its figure, its contents, its mathematics. */
export async function assertWorks(page: Page): Promise<void> {
  await page.waitForSelector('html[data-figures="drawn"]');
  assert.equal(await page.locator(".plotly").last().locator(".scatterlayer .trace").count(), 1, "figure");
  assert.ok((await page.locator("main .katex-html").count()) > 0, "mathematics");
  await page.locator("body > button").click();
  assert.equal(await page.locator("html").getAttribute("data-theme"), "dark", "button");
  const link = page.locator("body > nav a").last();
  assert.equal(await link.textContent(), "Feature three");
  await link.click();
  assert.match(page.url(), /#user-content-Feature-three$/);
  await page.waitForFunction(() => {
    const { top } = [...document.querySelectorAll("main h2")].at(-1)!.getBoundingClientRect();
    return top >= 0 && top < innerHeight;
  });
}

/** Tests that pages of these notebooks run and fetch nothing and do what pages do. */
export function testPages(kinds: (run: string, remote: string) => Hostile[]): void {
  let pages: Pages;
  let warnings = "";

  before(async () => {
    pages = await Pages.make();
    const all = kinds(run, pages.remote);
    const build = async (html: boolean, ...flags: string[]) => {
      const chosen = all.filter((kind) => (kind.html ?? false) === html);
      for (const kind of chosen) {
        const content = notebookOf([...kind.cells, ...features], kind.metadata);
        pages.cli.write(`in/${fileName(kind)}.ipynb`, content);
      }
      if (chosen.length === 0) return;
      const paths = chosen.map((kind) => `in/${fileName(kind)}.ipynb`);
      const { code, stderr } = await pages.cli.run("site", ...paths, "--out", "site", ...flags);
      assert.equal(code, 0, stderr);
      warnings += stderr;
    };
    await build(false);
    await build(true, "--sanitize-html");
  });
  after(() => pages?.dispose());

  for (const kind of kinds(run, "")) {
    it(kind.name, async () => {
      const { page, runs, requests, close } = await pages.open(pages.cli.path(`site/${fileName(kind)}.html`));
      await assertWorks(page);
      await provoke(page);
      assert.equal(runs(), 0, "scripts run");
      assert.deepEqual([requests, pages.asked], [[], []]);
      await close();
    });
  }

  it("and their index", async () => {
    const { page, runs, requests, close } = await pages.open(pages.cli.path("site/index.html"));
    await provoke(page);
    assert.deepEqual([runs(), requests], [0, []]);
    await close();
  });

  it("and says in a line each what it could not show", () => {
    for (const line of warnings.trimEnd().split("\n")) {
      assert.match(line, /^in\/[\w-]+\.ipynb, cell \d+(, output \d+)?: ./);
    }
    assert.match(warnings, /is not shown|can't be rendered/);
  });
}
