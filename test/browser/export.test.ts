import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import createDOMPurify from "dompurify";
import { JSDOM } from "jsdom";
import { chromium } from "playwright-core";
import sharp from "sharp";
import { pythonEnvironment } from "../../kernel/install/python.js";
import { animate } from "../../src/display/animate.js";
import { figure } from "../../src/display/figure.js";
import { frames } from "../../src/display/frames.js";
import { interact } from "../../src/display/interact.js";
import { type Displayable, jupyterDisplay } from "../../src/display/mime.js";
import { table } from "../../src/display/table.js";
import { proceduralClip } from "../../src/procedural/clip.js";
import { projectRoot } from "./lab.js";
import { notebook } from "./notebook.js";

/** Every picture shows where no kernel and no extension is: nbconvert's pages and LaTeX, and behind GitHub's sanitizer. */

const { clip } = proceduralClip({ seed: 3, numFrames: 9 });
const chart = () => figure([{ y: [1, 3, 2] }], { title: { text: "A line" } });
const shown: [string, Displayable][] = [
  ["figure", chart()],
  ["frames", frames(clip)],
  ["animate", animate(clip)],
  ["interact", interact({ n: [0, 3] }, chart)],
  ["table", table([{ frames: 81, latents: 21 }])],
];

let folder: string;
let bundles: Record<string, string>[];
before(async () => {
  // The kernel's comms, so that the types of widgets and controls are in the notebook, as JupyterLab saves them.
  const comm = { isOpen: true, send: () => {}, close: () => {}, onMessage: () => {}, onClose: () => {} };
  Object.assign(globalThis, { comms: { registerTarget: () => {}, open: () => comm } });
  bundles = (await Promise.all(shown.map(([, value]) => value[jupyterDisplay]()))) as Record<
    string,
    string
  >[];
  folder = await mkdtemp(join(tmpdir(), "firstframe-export-"));
  const cells = bundles.map((data, i) => ({ code: `${shown[i]![0]}(...)`, data }));
  await writeFile(join(folder, "shown.ipynb"), JSON.stringify(notebook(cells)));
});
after(() => rm(folder, { recursive: true, force: true }));

test("nbconvert's HTML shows every picture, offline", async () => {
  await nbconvert("html");
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu"],
  });
  try {
    const page = await browser.newPage();
    await page.route(/^(?!file:|data:)/, (route) => route.abort());
    await page.goto(`file://${join(folder, "shown.html")}`, { waitUntil: "domcontentloaded" });
    const pictures = await page.locator(".jp-OutputArea-output img").evaluateAll((nodes) =>
      Promise.all(
        (nodes as HTMLImageElement[]).map(async (node) => {
          await node.decode();
          return [node.naturalWidth > 0, node.clientWidth > 50];
        }),
      ),
    );
    assert.deepEqual(pictures, Array(4).fill([true, true]));
    assert.equal(await page.locator(".jp-OutputArea-output table td").count(), 2);
  } finally {
    await browser.close();
  }
});

test("nbconvert's LaTeX includes every picture as PNG, and the table", async () => {
  await nbconvert("latex");
  const tex = await readFile(join(folder, "shown.tex"), "utf8");
  const files = (await readdir(join(folder, "shown_files"))).filter((name) => name.endsWith(".png"));
  assert.equal(files.length, 4);
  for (const name of files) {
    assert.ok(tex.includes(name), `${name} is not included`);
    assert.ok((await sharp(join(folder, "shown_files", name)).metadata()).width! > 50);
  }
  assert.match(tex, /\\begin\{tabular\}\{rr\}[\s\S]*81 & 21/);
});

test("a sanitizer that drops scripts, styles and inline SVG leaves every picture", () => {
  const { window } = new JSDOM("");
  const purify = createDOMPurify(window);
  for (const [i, bundle] of bundles.entries()) {
    const html = bundle["text/html"];
    if (html === undefined) {
      assert.ok(bundle["image/png"], shown[i]![0]);
      continue;
    }
    const clean = purify.sanitize(html, {
      USE_PROFILES: { html: true },
      FORBID_ATTR: ["style"],
      FORBID_TAGS: ["style"],
    });
    const before = JSDOM.fragment(html).querySelectorAll("img[src], td").length;
    assert.ok(before > 0, shown[i]![0]);
    assert.equal(JSDOM.fragment(clean).querySelectorAll("img[src], td").length, before, shown[i]![0]);
  }
});

async function nbconvert(format: string): Promise<void> {
  const program = pythonEnvironment(join(projectRoot, ".venv")).bin("jupyter-nbconvert");
  await promisify(execFile)(program, ["--to", format, "shown.ipynb"], { cwd: folder });
}
