import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { LivePanel } from "../../../src/display/live.js";
import { jupyterDisplay, type MimeBundle } from "../../../src/display/mime.js";
import { Clip } from "../../../src/video/clip.js";

interface Shown {
  readonly bundle: MimeBundle;
  readonly displayId: string;
  readonly update: boolean;
}

const scope = globalThis as { display?: unknown };
const PLOTLY = "application/vnd.plotly.v1+json";

/** Stands where the kernel's `display` is, and writes down what a front end would get. */
function frontEnd(): Shown[] {
  const shown: Shown[] = [];
  scope.display = async (
    value: { [jupyterDisplay](): MimeBundle | Promise<MimeBundle> },
    options: { displayId: string; update: boolean },
  ) => {
    shown.push({ bundle: await value[jupyterDisplay](), ...options });
  };
  return shown;
}

afterEach(() => {
  delete scope.display;
});

test("a live panel is one output with a chart for each metric; the last one carries a picture", async () => {
  const shown = frontEnd();
  const panel = new LivePanel({ title: "LoRA", interval: 0 });
  await panel.start({}, 0);
  for (let step = 1; step <= 4; step++) await panel.log({ loss: 1 / step, lr: step === 1 ? 0 : 1e-4 }, step);
  await panel.finish();
  assert.equal(new Set(shown.map(({ displayId }) => displayId)).size, 1);
  assert.deepEqual(
    shown.map(({ update }) => update),
    [false, true, true, true, true],
  );
  assert.deepEqual(Object.keys(shown[0]!.bundle), [PLOTLY, "text/plain"]);
  const last = shown.at(-1)!.bundle;
  assert.ok(last["image/png"] && last["text/html"]);
  const { data, layout } = last[PLOTLY] as {
    data: { name: string; x: number[]; y: number[] }[];
    layout: Record<string, { text?: string; type?: string }>;
  };
  assert.deepEqual(
    data.map(({ name, x, y }) => ({ name, x, y })),
    [
      { name: "loss", x: [1, 2, 3, 4], y: [1, 1 / 2, 1 / 3, 1 / 4] },
      { name: "lr", x: [1, 2, 3, 4], y: [0, 1e-4, 1e-4, 1e-4] },
    ],
  );
  assert.equal(layout.title!.text, "LoRA, step 4: loss 0.25, lr 0.0001");
  assert.equal(layout.yaxis!.type, "log");
  assert.equal(layout.yaxis2!.type, undefined);
});

test("a live panel redraws as often as it was told, and thins long runs without losing their end", async () => {
  const shown = frontEnd();
  const panel = new LivePanel({ metrics: ["loss"], interval: 3600 });
  await panel.start({}, 0);
  for (let step = 1; step <= 5000; step++) await panel.log({ loss: step, other: 1 }, step);
  assert.equal(shown.length, 1);
  const { data } = (await panel.figure().toJSON()) as unknown as { data: { x: number[]; y: number[] }[] };
  assert.equal(data.length, 1);
  const { x, y } = data[0]!;
  assert.ok(x.length > 250 && x.length <= 513, `${x.length} points`);
  assert.equal(x[0], 1);
  assert.equal(x.at(-1), 5000);
  assert.deepEqual(x, y);
  const gaps = new Set(x.slice(1, -1).map((step, i) => step - x[i]!));
  assert.equal(gaps.size, 1, "even steps");
});

test("a sample takes the place of the one before; without a notebook nothing is shown", async () => {
  const clip = Clip.fromFrames([new Uint8Array(48), new Uint8Array(48)], { width: 4, height: 4, fps: 8 });
  const silent = new LivePanel();
  await silent.log({ loss: 1 }, 1);
  await silent.sample("validation", clip, 1);
  await silent.finish();

  const shown = frontEnd();
  const panel = new LivePanel();
  await panel.sample("validation", clip, 10);
  await panel.sample("validation", clip, 20);
  assert.deepEqual(
    shown.map(({ update }) => update),
    [false, true],
  );
  assert.equal(shown[0]!.displayId, shown[1]!.displayId);
  assert.match(String(shown[1]!.bundle["text/plain"]), /^validation, step 20: 2 frames/);
  assert.throws(() => new LivePanel({ interval: -1 }), /LivePanel: expected interval >= 0, found -1/);
});
