import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Lab } from "./lab.js";
import { notebook } from "./notebook.js";

const code = `interface Item {
  price: number;
}
function total(items: Item[]): number {
  let sum = 0;
  for (const item of items) sum += item.price;
  return sum;
}
total([{ price: 2 }, { price: 40 }]);`;

const lab = await Lab.start({ "debug.ipynb": notebook([{ code }]) });
after(() => lab.stop());

test("JupyterLab's debugger stops at a breakpoint in TypeScript, shows stack and variables, and goes on", async () => {
  const opened = await lab.open("debug.ipynb");
  const { page } = opened;
  await opened.ready();
  await opened.startDebugger();
  // The first icon only keeps the place. The gutter takes clicks once the debugger has set the cell's editor up.
  const gutter = page.locator(".jp-Notebook .cm-breakpoint-gutter").first();
  await gutter.waitFor({ timeout: 60_000 });
  const line = page.locator(".jp-Notebook .cm-line").nth(6);
  const [box, edge] = [await line.boundingBox(), await gutter.boundingBox()];
  await page.mouse.click(edge!.x + edge!.width / 2, box!.y + box!.height / 2);
  await page.locator(".jp-Notebook .cm-breakpoint-icon").nth(1).waitFor({ timeout: 60_000 });

  await page.locator(".jp-Notebook .cm-content").first().click();
  await page.keyboard.press("Shift+Enter");
  const frames = page.locator(".jp-DebuggerCallstack-body li");
  await frames.filter({ hasText: "total" }).waitFor({ timeout: 60_000 });
  await page.locator(".jp-DebuggerVariables").getByText("sum").first().waitFor({ timeout: 60_000 });
  await opened.screenshot("debugger");

  await page.keyboard.press("F9");
  const output = page.locator(".jp-OutputArea-output");
  await output.getByText("42", { exact: true }).first().waitFor({ timeout: 60_000 });
  assert.deepEqual(await opened.errors(), []);
  assert.deepEqual(opened.problems, []);
  await opened.close();
});
