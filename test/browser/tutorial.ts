import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Locator } from "playwright-core";
import { compareNotebooks } from "../../src/cli/notebook/compare.js";
import { type Notebook, readNotebook } from "../../src/cli/notebook/format.js";
import { isInstalled } from "../../src/engine/install.js";
import { type Lab, type NotebookPage, projectRoot } from "./lab.js";

/** The tutorials as their readers meet them: opened in JupyterLab, run from the menu, their controls moved by mouse. */

const committed = join(projectRoot, "notebooks");

/** A copy of the notebooks' folder, so that what is saved does not change them; `Lab.stop` removes it. */
export function copyOfNotebooks(): string {
  mkdirSync(join(projectRoot, "out"), { recursive: true });
  const folder = mkdtempSync(join(projectRoot, "out", "lab-"));
  cpSync(committed, folder, { recursive: true });
  return folder;
}

export interface TutorialOptions {
  /** Whether the outputs have to be those that the committed notebook carries: on the engine that made them. */
  readonly compare: boolean;
  /** Of the screenshots. */
  readonly suffix?: string;
}

/**
 * Run All Cells: an error in the cells that are tagged for it and in no other, marks in every chart, every slider moves its
 * picture. Leaves screenshots in both themes.
 */
export async function runTutorial(
  lab: Lab,
  name: string,
  { compare, suffix = "" }: TutorialOptions,
): Promise<void> {
  const notebook = await readNotebook(join(lab.notebooks, name));
  const opened = await lab.open(name);
  await opened.runAll({ timeout: 600_000 });
  await assertErrors(opened, notebook);
  const count = await opened.page.locator(".firstframe-plotly").count();
  assert.ok(count > 0, "no chart");
  for (const { title, marks } of await opened.figures(count)) assert.ok(marks > 0, `"${title}" has no marks`);
  await assertPicturesLoaded(opened);
  await opened.save();
  if (compare) await assertSameOutputs(join(lab.notebooks, name), name);

  const stem = `${name.replace(/\.ipynb$/, "")}${suffix}`;
  await opened.screenshot(`${stem}-light`);
  await moveSliders(opened, notebook);
  await opened.setTheme("dark");
  await opened.screenshot(`${stem}-dark`);
  assert.deepEqual(opened.problems, []);
  await opened.shutDown();
  await opened.close();
}

async function assertErrors({ page }: NotebookPage, { cells }: Notebook): Promise<void> {
  const failing = await page.locator(".jp-Notebook .jp-Cell").evaluateAll((nodes) =>
    nodes.map((node) => {
      const error = node.querySelector('[data-mime-type="application/vnd.jupyter.error"]');
      const stderr = node.querySelector('[data-mime-type="application/vnd.jupyter.stderr"]');
      return [error, stderr].map((output) => output?.textContent ?? "").join("");
    }),
  );
  const wrong = failing.flatMap((text, i) => {
    const expected = cells[i]!.metadata.tags?.includes("raises-exception") ?? false;
    if (expected === (text !== "")) return [];
    return [expected ? `cell ${i} did not fail` : `cell ${i}: ${text}`];
  });
  assert.equal(failing.length, cells.length);
  assert.deepEqual(wrong, []);
}

async function assertPicturesLoaded({ page }: NotebookPage): Promise<void> {
  const broken = await page
    .locator(".jp-OutputArea-output img")
    .evaluateAll((nodes) => (nodes as HTMLImageElement[]).filter((node) => node.naturalWidth === 0).length);
  assert.equal(broken, 0, "pictures that do not load");
}

async function assertSameOutputs(saved: string, name: string): Promise<void> {
  const differences = await compareNotebooks(
    await readNotebook(join(committed, name)),
    await readNotebook(saved),
    { rtol: 0, atol: 0 },
  );
  assert.deepEqual(
    [...differences].map(([cell, list]) => ({
      cell,
      list: list.map(({ where, text }) => ({ where, text })),
    })),
    [],
  );
}

const CONTROLS = "application/vnd.firstframe.controls.v1+json";

/** Drags each slider, which is ipywidgets', towards an end and waits for another picture. */
async function moveSliders({ page }: NotebookPage, notebook: Notebook): Promise<void> {
  const sliders = page.locator(".jupyter-widgets .noUi-base");
  const expected = notebook.cells.filter(
    (cell) =>
      cell.cell_type === "code" && cell.outputs.some((output) => "data" in output && CONTROLS in output.data),
  );
  if (expected.length > 0) await sliders.nth(expected.length - 1).waitFor();
  const count = await sliders.count();
  for (let i = 0; i < count; i++) {
    const slider = sliders.nth(i);
    await slider.scrollIntoViewIfNeeded();
    const widget = slider.locator("xpath=ancestor::*[contains(@class, 'widget-interact')][1]");
    const before = await pictureIn(widget);
    const [track, grip] = [
      (await slider.boundingBox())!,
      (await slider.locator(".noUi-handle").boundingBox())!,
    ];
    const y = grip.y + grip.height / 2;
    const from = grip.x + grip.width / 2;
    await page.mouse.move(from, y);
    await page.mouse.down();
    const to = from < track.x + track.width / 2 ? 0.95 : 0.05;
    await page.mouse.move(track.x + to * track.width, y, { steps: 6 });
    await page.mouse.up();
    while ((await pictureIn(widget)) === before) await page.waitForTimeout(50);
    assert.equal(await widget.locator(".jp-mod-error, [data-mime-type*=stderr]").count(), 0);
  }
}

/** What is drawn below the controls. */
function pictureIn(output: Locator): Promise<string> {
  return output.evaluate((node) => {
    const image = node.querySelector("img")?.src ?? "";
    const marks = [...node.querySelectorAll(".main-svg path, .main-svg text")];
    return image + marks.map((mark) => mark.getAttribute("d") ?? mark.textContent).join();
  });
}

/** Run in JupyterLab on WebAssembly, where they take about as long; the others take minutes there. */
const onWasm = ["00-hello-kernel.ipynb", "02-first-frame-duplication.ipynb", "03-noisy-versus-clean.ipynb"];

/** Why outputs can't be compared here: they were made on TensorFlow, and other engines round otherwise. */
export async function otherEngine(): Promise<string | false> {
  const chosen = process.env.FIRSTFRAME_ENGINE || "tensorflow";
  if (chosen === "tensorflow" && (await isInstalled("tensorflow"))) return false;
  return "the outputs were made on TensorFlow, which is not what runs here";
}

/** Every tutorial by the engine that it runs on in JupyterLab. */
export function tutorials(): { readonly wasm: readonly string[]; readonly others: readonly string[] } {
  const names = readdirSync(committed).filter((name) => name.endsWith(".ipynb"));
  return { wasm: onWasm, others: names.filter((name) => !onWasm.includes(name)) };
}
