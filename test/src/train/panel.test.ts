import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { jupyterDisplay, type MimeBundle } from "../../../src/display/mime.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { TrainingPanel } from "../../../src/train/panel.js";
import { Clip } from "../../../src/video/clip.js";

interface Shown {
  readonly bundle: MimeBundle;
  readonly displayId: string;
  readonly update: boolean;
}

interface Spec {
  readonly data: { name: string; type: string; x: number[]; y: number[]; yaxis: string }[];
  readonly layout: Record<string, { text?: string; title?: { text: string } }>;
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

test("the panel is one figure that is updated, with the loss by timestep, and a sample of its own", async () => {
  const shown = frontEnd();
  const panel = new TrainingPanel({ totalSteps: 101 });
  const report = { epoch: 0, gradNorm: 0.5, learningRate: 1e-4, seconds: 1 };
  await panel.add({ ...report, step: 1, loss: 2, timesteps: [50, 950], sampleLosses: [1, 3] });
  await panel.add({ ...report, step: 2, loss: 1, timesteps: [60, 999], sampleLosses: [0.5, 1.5] });
  await panel.sample("validation/0", proceduralClip({ numFrames: 3, height: 16, width: 24 }).clip, 2);
  await panel.finish();
  const [live, sample, last, ...more] = shown;
  assert.equal(more.length, 0, "two steps within a second are drawn once");
  assert.deepEqual([live!.update, sample!.update, last!.update], [false, false, true]);
  assert.equal(last!.displayId, live!.displayId);
  assert.notEqual(sample!.displayId, live!.displayId);
  const text = live!.bundle["text/plain"] as string;
  assert.match(text, /^step 1 of 101, 1 s a step, 2 min left, [\d.]+ MB; loss 2$/);
  assert.deepEqual(Object.keys(live!.bundle), [PLOTLY, "text/plain"], "no picture is drawn while it moves");
  assert.ok(last!.bundle["image/png"] && last!.bundle["text/html"]);
  assert.match(sample!.bundle["text/html"] as string, /data:image\/webp;base64,/);
  assert.ok(sample!.bundle["image/png"], "PDFs and GitHub show a picture of the sample");
  const { data, layout } = last!.bundle[PLOTLY] as Spec;
  const bars = data.find(({ type }) => type === "bar")!;
  assert.deepEqual(
    [bars.x, bars.y],
    [
      [50, 950],
      [0.75, 2.25],
    ],
  );
  assert.deepEqual(
    data.map(({ name, y }) => [name, name === "loss by timestep" ? [] : y]),
    [
      ["loss", [2, 1]],
      ["mean of 16", [2, 1.5]],
      ["loss by timestep", []],
      ["gradient norm", [0.5, 0.5]],
      ["learning rate", [1e-4, 1e-4]],
    ],
  );
  assert.ok(!JSON.stringify({ data, layout }).includes("left"));
});

test("as a tracker it takes a run's own names, its number of steps, and charts what else is logged", async () => {
  const shown = frontEnd();
  const panel = new TrainingPanel({ title: "LoRA", interval: 0 });
  await panel.start({ train_steps: 4 });
  const losses = [4, 2, 3, 7];
  for (let step = 1; step <= 4; step++) {
    await panel.log(
      { loss: losses[step - 1]!, lr: 1e-4, epoch: 0, step_seconds: 2, "loss_t/250-499": step },
      step,
    );
  }
  await panel.log({ "validation/psnr": 20 }, 4);
  await panel.finish();
  assert.equal(new Set(shown.map(({ displayId }) => displayId)).size, 1);
  assert.deepEqual(
    shown.map(({ update }) => update),
    [false, true, true, true, true, true],
  );
  assert.match(
    shown[1]!.bundle["text/plain"] as string,
    /^LoRA, step 2 of 4, 2 s a step, 4 s left, \d+ MB; loss 2$/,
  );
  const { data, layout } = shown.at(-1)!.bundle[PLOTLY] as Spec;
  assert.deepEqual(
    data.map(({ name, x, y }) => ({ name, x, y })),
    [
      { name: "loss", x: [1, 2, 3, 4], y: losses },
      { name: "mean of 16", x: [1, 2, 3, 4], y: [4, 3, 3, 4] },
      { name: "loss by timestep", x: [375], y: [2.5] },
      { name: "learning rate", x: [1, 2, 3, 4], y: [1e-4, 1e-4, 1e-4, 1e-4] },
      { name: "validation/psnr", x: [4], y: [20] },
    ],
  );
  assert.equal(layout.title!.text, "LoRA");
  assert.equal(layout.yaxis4!.title!.text, "validation/psnr");
});

test("it draws as often as it was told, and thins long runs without losing their end", async () => {
  const shown = frontEnd();
  const panel = new TrainingPanel({ metrics: ["reward"], interval: 3600 });
  for (let step = 1; step <= 5000; step++) await panel.log({ reward: step, other: 1 }, step);
  assert.equal(shown.length, 1);
  const { data } = (await panel.figure().toJSON()) as unknown as Spec;
  assert.equal(data.length, 1);
  const { x, y } = data[0]!;
  assert.ok(x.length > 250 && x.length <= 513, `${x.length} points`);
  assert.equal(x[0], 1);
  assert.equal(x.at(-1), 5000);
  assert.deepEqual(x, y);
  const gaps = new Set(x.slice(1, -1).map((step, i) => step - x[i]!));
  assert.equal(gaps.size, 1, "even steps");
  assert.throws(() => new TrainingPanel({ interval: -1 }), /TrainingPanel: expected interval >= 0, found -1/);
});

test("a sample takes the place of the one before; without a notebook nothing is shown", async () => {
  const clip = Clip.fromFrames([new Uint8Array(48), new Uint8Array(48)], { width: 4, height: 4, fps: 8 });
  const silent = new TrainingPanel();
  await silent.log({ loss: 1 }, 1);
  await silent.sample("validation", clip, 1);
  await silent.finish();

  const shown = frontEnd();
  const panel = new TrainingPanel();
  await panel.sample("validation", clip, 10);
  await panel.sample("validation", clip, 20);
  assert.deepEqual(
    shown.map(({ update }) => update),
    [false, true],
  );
  assert.equal(shown[0]!.displayId, shown[1]!.displayId);
  assert.match(String(shown[1]!.bundle["text/plain"]), /^validation, step 20: 2 frames/);
  for (let i = 0; i < 10; i++) await panel.sample(`validation/${i}`, clip, 20);
  assert.equal(shown.length, 5, "four clips at most");
});
