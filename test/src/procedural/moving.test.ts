/** The pipeline whose film opens the tutorials moves things as captions say: its stored figures, and measured anew. */
import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { useEngine } from "../../../src/engine/index.js";
import { type EvaluationReport, evaluateMotion } from "../../../src/procedural/evaluate.js";

const folder = fileURLToPath(new URL("../../../../notebooks/models/moving", import.meta.url));

test("held-out sprites stay, go where the caption says, and the other way when it says that", async () => {
  const stored = JSON.parse(await readFile(join(folder, "motion.json"), "utf8")) as EvaluationReport;
  const setting = { steps: 10, guidance: 2 };
  const recorded = stored.runs.find(
    ({ steps, guidance }) => steps === setting.steps && guidance === setting.guidance,
  )!;
  assert.equal(stored.clips, 128);
  const { still, untrained } = stored.yardsticks;
  assert.ok(recorded.psnr > still.psnr && recorded.ssim > untrained.ssim);

  await useEngine();
  const pipeline = await CogVideoXImageToVideoPipeline.fromPretrained(folder);
  const { runs, yardsticks } = await evaluateMotion(pipeline, { clips: 8, settings: [setting] });
  const [run] = runs;
  const said = JSON.stringify({ ...run, untrained: yardsticks.untrained });
  assert.ok(run!.sprites_left["1"]! > 0.6 && run!.sprites_left["2"]! > 0.5, said);
  assert.ok(run!.direction! > 0.6 && run!.swap! > 0.5, said);
  assert.ok(yardsticks.untrained.sprites_left["1"]! < 0.3, said);
  assert.ok(run!.psnr > yardsticks.still.psnr + 1, said);
  pipeline.dispose();
});

test("its files fit into a repository", async () => {
  for (const name of await readdir(folder, { recursive: true }))
    assert.ok((await stat(join(folder, name))).size < 3_000_000, name);
});
