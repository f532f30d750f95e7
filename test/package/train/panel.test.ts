import assert from "node:assert/strict";
import { test } from "node:test";
import { jupyterDisplay, type MimeBundle } from "../../../src/display/mime.js";
import { TrainingPanel } from "../../../src/train/panel.js";
import { proceduralClip } from "../../../src/video/procedural.js";

interface Shown {
  readonly bundle: MimeBundle;
  readonly displayId: string;
  readonly update: boolean;
}

test("the panel is one figure that is updated, with the loss by timestep, and a sample of its own", async () => {
  const pending: Promise<Shown>[] = [];
  const globals = globalThis as { display?: unknown };
  globals.display = (value: { [jupyterDisplay](): MimeBundle }, options: Omit<Shown, "bundle">) => {
    pending.push(Promise.resolve(value[jupyterDisplay]()).then((bundle) => ({ bundle, ...options })));
  };
  try {
    const panel = new TrainingPanel({ totalSteps: 101 });
    const report = { epoch: 0, gradNorm: 0.5, learningRate: 1e-4, seconds: 1 };
    panel.add({ ...report, step: 1, loss: 2, timesteps: [50, 950], sampleLosses: [1, 3] });
    panel.add({ ...report, step: 2, loss: 1, timesteps: [60, 999], sampleLosses: [0.5, 1.5] });
    await panel.sample("validation/0", proceduralClip({ numFrames: 3, height: 16, width: 24 }).clip, 2);
    await panel.finish();
    const [live, sample, last, ...more] = await Promise.all(pending);
    assert.equal(more.length, 0, "two steps within a second are drawn once");
    assert.deepEqual([live!.update, sample!.update, last!.update], [false, false, true]);
    assert.equal(last!.displayId, live!.displayId);
    assert.notEqual(sample!.displayId, live!.displayId);
    const text = live!.bundle["text/plain"] as string;
    assert.match(text, /^step 1 of 101, 1 s a step, 2 min left, \d+ MB; loss 2\.0000$/);
    assert.equal(live!.bundle["image/png"], undefined, "no picture is drawn while it moves");
    assert.ok(last!.bundle["image/png"] && last!.bundle["text/html"]);
    assert.match(sample!.bundle["text/html"] as string, /data:image\/webp;base64,/);
    const { data } = last!.bundle["application/vnd.plotly.v1+json"] as { data: Record<string, number[]>[] };
    const bars = data.find(({ type }) => (type as unknown as string) === "bar")!;
    assert.deepEqual(
      [bars.x, bars.y],
      [
        [50, 950],
        [0.75, 2.25],
      ],
    );
    assert.deepEqual(data[0]!.y, [2, 1]);
    assert.ok(!JSON.stringify(last!.bundle["application/vnd.plotly.v1+json"]).includes("left"));
  } finally {
    delete globals.display;
  }
});
