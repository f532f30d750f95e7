import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Page } from "playwright-core";
import { Lab, type NotebookPage } from "./lab.js";
import { notebook } from "./notebook.js";

/** Errors while typing, types by pointing and the way to declarations, in a real JupyterLab. */

const CELLS = [
  '/** Adds two numbers. */\nfunction add(a: number, b: number): number {\n  return a + b;\n}\nlet word: string = "a";',
  "// here\n",
  "const unrun = { size: 1 };",
  "// below\n",
  'import { help } from "./helpers.ts";\nhelp("x");',
];

const python = {
  ...notebook([{ code: "" }]),
  metadata: {
    kernelspec: { name: "python3", display_name: "Python 3 (ipykernel)", language: "python" },
    language_info: { name: "python" },
  },
};

let lab: Lab;
let opened: NotebookPage;
let page: Page;

before(async () => {
  lab = await Lab.start({
    "typing.ipynb": notebook(CELLS.map((code) => ({ code }))),
    "python.ipynb": python,
  });
  await writeFile(
    join(lab.notebooks, "helpers.ts"),
    "// line 1\n\nexport function help(text: string): string {\n  return text;\n}\n",
  );
  opened = await lab.open("typing.ipynb");
  page = opened.page;
  await opened.ready();
  await run(0);
});
after(() => lab.stop());

const cell = (index: number) => page.locator(".jp-CodeCell").nth(index);
const marks = (index: number) => cell(index).locator(".firstframe-lint");
const tooltip = () => page.locator(".firstframe-hover");

async function run(index: number): Promise<void> {
  await cell(index).locator(".cm-content").click();
  await page.keyboard.press("Control+Enter");
  await cell(index)
    .locator(".jp-InputPrompt")
    .getByText(/\[\d+\]:/)
    .waitFor();
}

/** Replaces what is in a cell. */
async function type(index: number, text: string): Promise<void> {
  await cell(index).locator(".cm-content").click();
  await page.keyboard.press("Control+A");
  await page.keyboard.insertText(text);
}

/** Waits until exactly these texts of a cell are underlined. */
async function underlined(index: number, ...texts: string[]): Promise<void> {
  await page.waitForFunction(
    ({ index, texts }) => {
      const code = document.querySelectorAll(".jp-CodeCell")[index]!;
      const found = [...code.querySelectorAll(".firstframe-lint")].map((mark) => mark.textContent);
      return JSON.stringify(found) === JSON.stringify(texts);
    },
    { index, texts },
    { polling: 50 },
  );
}

/** Points at a word in a cell until its tooltip is there: again if the page has moved meanwhile, as when a theme arrives. */
async function point(index: number, word: string): Promise<string> {
  for (let tries = 1; ; tries++) {
    await page.mouse.move(5, 5);
    await tooltip().waitFor({ state: "detached" });
    const { x, y } = await middleOf(index, word);
    await page.mouse.move(x - 2, y);
    await page.mouse.move(x, y);
    try {
      await tooltip().waitFor({ timeout: 10_000 });
      return (await tooltip().textContent())!;
    } catch (error) {
      if (tries === 12) throw error;
    }
  }
}

/** Where on the page a word of a cell is. */
function middleOf(index: number, word: string): Promise<{ x: number; y: number }> {
  return cell(index)
    .locator(".cm-content")
    .evaluate((content, word) => {
      const walker = document.createTreeWalker(content, NodeFilter.SHOW_TEXT);
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const at = node.textContent!.indexOf(word);
        if (at < 0) continue;
        const range = document.createRange();
        range.setStart(node, at);
        range.setEnd(node, at + word.length);
        const { left, top, width, height } = range.getBoundingClientRect();
        return { x: left + width / 2, y: top + height / 2 };
      }
      throw new Error(`no ${word} in ${content.textContent}`);
    }, word);
}

/** What is selected, and in which cell. */
async function selected(index: number, text: string): Promise<void> {
  await page.waitForFunction(
    ({ index, text }) => {
      const cells = [...document.querySelectorAll(".jp-Notebook .jp-CodeCell")];
      return cells[index]!.contains(document.activeElement) && String(getSelection()) === text;
    },
    { index, text },
    { polling: 50 },
  );
}

describe("while somebody types", () => {
  test("a wrong argument is underlined, with the message by pointing, until it is right", async () => {
    await type(1, 'add(1, "two");\nadd(1, 2);');
    await underlined(1, '"two"');
    const mark = marks(1).first();
    assert.match(await mark.evaluate((node) => getComputedStyle(node).textDecorationStyle), /wavy/);
    assert.match(
      (await mark.getAttribute("aria-description"))!,
      /^Error TS2345: Argument of type 'string' is not assignable/,
    );
    assert.match(await point(1, '"two"'), /Error TS2345: Argument of type 'string' is not assignable/);
    await opened.screenshot("typing-error-light");

    await type(1, "add(1, 2);");
    await underlined(1);
  });

  test("pointing at a name shows its type and documentation", async () => {
    assert.match(await point(1, "add"), /add\(a: number, b: number\): number[\s\S]*Adds two numbers\./);
    await opened.screenshot("typing-hover-light");
  });

  test("names of cells above that have not run are no errors, others are, at once in each cell", async () => {
    await type(3, "unrun.size.anything; word.nothing; beyond;");
    await underlined(3, "nothing", "beyond");
    // What this cell needs appears above.
    await type(2, "const unrun = { size: 1 }; const beyond = 1;");
    await underlined(3, "nothing");
    await run(2);
    await underlined(3, "anything", "nothing");
  });

  test("a screen reader hears of the error at the cursor", async () => {
    await type(1, "word.nope");
    await underlined(1, "nope");
    await page
      .locator(".firstframe-typing-status", { hasText: "Error TS2339" })
      .waitFor({ state: "attached" });
    await page.keyboard.press("Home");
    await page.locator(".firstframe-typing-status", { hasText: /^$/ }).waitFor({ state: "attached" });
  });
});

describe("the way to a declaration", () => {
  test("leads to another cell by F12, and by a click with Ctrl", async () => {
    await type(1, "add(1, 2);\nword;");
    await page.keyboard.press("Control+Home");
    await page.keyboard.press("F12");
    await selected(0, "add");

    const { x, y } = await middleOf(1, "word");
    await page.keyboard.down("Control");
    await page.mouse.click(x, y);
    await page.keyboard.up("Control");
    await selected(0, "word");
  });

  test("leads to a file in the notebook's folder", async () => {
    const { x, y } = await middleOf(4, "help");
    await page.mouse.click(x, y);
    await page.keyboard.press("F12");
    const file = page.locator(".jp-FileEditor .cm-content");
    await file.getByText("export function help").waitFor();
    await page
      .locator("#jp-main-statusbar")
      .getByText(/Ln 3, Col 17/)
      .waitFor();
    await page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", { hasText: "typing.ipynb" }).click();
    await cell(0).waitFor();
  });
});

test("a restart forgets what has run: what is wrong is found out again", async () => {
  await underlined(3, "anything", "nothing");
  await opened.menu("Kernel", "Restart Kernel…");
  await page.locator(".jp-Dialog button", { hasText: "Restart" }).click();
  await underlined(3);
  await opened.ready();
  await run(0);
  await underlined(3, "nothing");
});

test("another kernel is asked nothing", async () => {
  const sent: string[] = [];
  const other = await lab.openFile("python.ipynb", (made) => {
    made.on("websocket", (socket) => socket.on("framesent", ({ payload }) => sent.push(String(payload))));
  });
  const editor = other.page.locator(".jp-CodeCell .cm-content").first();
  await other.ready();
  await editor.click();
  await other.page.keyboard.insertText("add = 1\n");
  await other.page.keyboard.press("F12");
  await other.page.keyboard.press("Control+Enter");
  await other.page.locator(".jp-InputPrompt", { hasText: "[1]:" }).waitFor();
  await other.page.keyboard.press("Control+Enter");
  await other.page.locator(".jp-InputPrompt", { hasText: "[2]:" }).waitFor();
  assert.ok(sent.some((frame) => frame.includes("add = 1")));
  assert.ok(!sent.some((frame) => frame.includes("firstframe.language")));
  await other.close();
});

test("marks are readable in the dark theme, and gone once types are not checked", async () => {
  await type(1, 'add("one", 2);');
  await underlined(1, '"one"');
  await opened.setTheme("dark");
  await point(1, '"one"');
  await opened.screenshot("typing-error-dark");
  await point(1, "add");
  await opened.screenshot("typing-hover-dark");
  await type(2, "%check off");
  await run(2);
  await underlined(1);
  assert.deepEqual(opened.problems, []);
});
