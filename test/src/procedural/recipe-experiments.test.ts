/** `npm run recipe`: the arms can be trained, what is cut off goes on to the same numbers, and intervals are what they say. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { watch } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { psnr } from "../../../src/train/metrics.js";
import {
  ARM_NAMES,
  ARMS,
  CORRUPTION_NAMES,
  EXPERIMENTS,
  experimentsOf,
  MEASURES,
  RECIPE,
} from "../../bench/recipe/arms.js";
import { pairedBootstrap, verdict } from "../../bench/recipe/bootstrap.js";
import { corrupt, heldOutClip, laterRolls } from "../../bench/recipe/held-out.js";
import { moved } from "../../bench/recipe/measure.js";
import { type RecipeReport, readReport, readResults, writeReport } from "../../bench/recipe/report.js";
import { Runner, type RunResult, SETTINGS } from "../../bench/recipe/runner.js";
import { projectRoot } from "../cli/project.js";

const VAE = join(projectRoot, "notebooks", "models", "procedural", "vae");
const TINY = {
  ...SETTINGS,
  clips: { world: "plain", numFrames: 9, height: 32, width: 32, fps: 8 },
  trainingClips: 4,
  heldOut: 2,
  samplingSteps: 1,
  textLayers: 1,
  textSteps: 1,
  layers: 1,
  heads: 1,
  steps: 2,
  batchSize: 2,
  warmupSteps: 0,
} as const;

let folder = "";
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-recipe-"));
});
after(() => rm(folder, { recursive: true, force: true }));

test("a bootstrap of known differences: where they are, how wide, and paired", () => {
  const random = new RandomGenerator(1);
  const normal = (count: number) => Array.from({ length: count }, () => random.normal());
  const hard = normal(400).map((value) => 10 * value);
  const base = [hard, hard.map((value) => value + 3)];
  const shifted = base.map((values) => values.map((value) => value + 1));
  const exact = pairedBootstrap(shifted, base)!;
  for (const end of [exact.mean, exact.low, exact.high])
    assert.ok(Math.abs(end - 1) < 1e-9, "pairs differ by 1");
  assert.equal(verdict(exact), "higher");

  const noise = normal(400);
  const noisy = pairedBootstrap([hard.map((value, i) => value + noise[i]!)], [hard])!;
  const mean = noise.reduce((sum, value) => sum + value) / 400;
  const half = 1.96 * Math.sqrt(noise.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 400 / 400);
  assert.ok(Math.abs(noisy.mean - mean) < 1e-9);
  assert.ok(Math.abs(noisy.high - noisy.mean - half) < 0.15 * half, "as wide as a normal mean's interval");
  assert.ok(Math.abs(noisy.mean - noisy.low - half) < 0.15 * half);
  assert.equal(verdict({ mean: 0.1, low: -0.1, high: 0.3 }), "no difference shown");
  assert.equal(verdict({ mean: -2, low: -3, high: -1 }), "lower");
  assert.deepEqual(pairedBootstrap([hard], [noise]), pairedBootstrap([hard], [noise]), "drawn from a seed");

  // What can't be measured is left out, and seeds that disagree make the interval wide.
  const holes = pairedBootstrap([[1, null, 3]], [[0, 5, null]])!;
  assert.deepEqual([holes.mean, holes.low, holes.high], [1, 1, 1]);
  assert.equal(pairedBootstrap([[null]], [[1]]), undefined);
  const disagree = pairedBootstrap([hard.map((v) => v + 1), hard.map((v) => v - 1)], [hard, hard])!;
  assert.equal(verdict(disagree), "no difference shown");
});

test("each arm differs from the recipe in what the table says, and belongs to an experiment with a prediction", () => {
  assert.equal(ARM_NAMES[0], RECIPE);
  assert.deepEqual(experimentsOf(RECIPE), Object.keys(EXPERIMENTS));
  for (const arm of ARM_NAMES) {
    if (arm === RECIPE) continue;
    const differs = Object.keys(ARMS[arm].rules).length > 0 || "patchSizeT" in ARMS[arm];
    assert.ok(differs, arm);
    assert.equal(experimentsOf(arm).length, 1, arm);
  }
  for (const { measures, claims } of Object.values(EXPERIMENTS)) {
    assert.ok(claims.length > 0);
    for (const measure of measures) assert.ok(measure in MEASURES, measure);
  }
});

test("later rolls begin where the ones before end, with the direction reversed each time", () => {
  const clip = heldOutClip(3, TINY.clips);
  let before = clip.truth.clip;
  for (const [i, { caption, truth }] of laterRolls(clip).entries()) {
    assert.equal(caption, i % 2 === 0 ? clip.reversedCaption : clip.caption);
    assert.equal(Buffer.compare(truth.clip.frame(0), before.frame(before.numFrames - 1)), 0);
    before = truth.clip;
  }
  assert.ok(psnr(before.slice(8), clip.image) > 40, "there and back, twice");
});

test("spoilt images are as spoilt as they should be, and the same each time", async () => {
  const clip = heldOutClip(5, { ...TINY.clips, height: 48, width: 48 });
  const found: Record<string, number> = {};
  for (const how of CORRUPTION_NAMES) {
    const image = await corrupt(clip, how);
    assert.deepEqual([image.width, image.height, image.numFrames], [48, 48, 1]);
    assert.equal(Buffer.compare(image.data, (await corrupt(clip, how)).data), 0, how);
    found[how] = psnr(image, clip.image);
    assert.ok(found[how] < 38 && found[how] > 5, `${how}: ${found[how]} dB`);
  }
  // Pixels from -1 to 1: sigma 0.05 is 6.4 levels of 255, 32 dB.
  assert.ok(Math.abs(found["sigma-0.05"]! - 20 * Math.log10(2 / 0.05)) < 0.5);
  assert.ok(found["sigma-0.05"]! > found["sigma-0.14"]! && found["sigma-0.14"]! > found["sigma-0.37"]!);
});

test("moved: 1 for the truth, 0 for a still, between for what goes half the way", () => {
  const { truth } = heldOutClip(1, TINY.clips);
  const still = truth.clip.select(Array(9).fill(0));
  assert.equal(moved(truth.clip, truth.clip), 1);
  assert.equal(moved(still, truth.clip), 0);
  const half = moved(truth.clip.select([0, 1, 2, 3, 4, 4, 4, 4, 4]), truth.clip);
  assert.ok(half > 0.2 && half < 0.9, `${half}`);
});

test("every arm of the table trains and is measured, and leaves no tensors", async () => {
  const work = join(folder, "arms");
  const options = { work, vae: VAE, settings: TINY, log: () => {} };
  const runner = await Runner.open(options);
  await runner.run(RECIPE, 0); // what is kept from the first run on
  const tensors = tf.memory().numTensors;
  for (const arm of ARM_NAMES) {
    const { values, attention, losses, steps } = await runner.run(arm, 0);
    assert.equal(steps, runner.stepsOf(arm));
    assert.equal(losses.length, 0, "fewer than a window");
    const inE1 = experimentsOf(arm).includes("E1");
    for (const measure of Object.keys(MEASURES)) {
      if (measure.includes("/") && !inE1) assert.equal(values[measure], undefined);
      else assert.equal(values[measure]?.length, TINY.heldOut, `${arm}: ${measure}`);
    }
    // 4x4 places: up to three away, in both directions; weighted by how many pairs there are, it is the share of the first patch.
    assert.deepEqual([attention.map.length, attention.map[0]!.length], [7, 7]);
    const pairs = (away: number) => 4 - Math.abs(away - 3);
    const whole = attention.map.flatMap((row, y) => row.map((value, x) => value * pairs(y) * pairs(x)));
    const toFirst = attention.shares.map((layer) => layer.at(-1)![1]!);
    const mean = toFirst.reduce((sum, share) => sum + share, 0) / toFirst.length;
    assert.ok(Math.abs(whole.reduce((sum, value) => sum + value, 0) / 16 - mean) < 1e-3);
    for (const layer of attention.shares) {
      assert.equal(layer.length, arm === "patch-1" ? 3 : 2, "a row for each temporal patch");
      for (const from of layer) {
        assert.equal(from.length, layer.length + 1);
        assert.ok(Math.abs(from.reduce((sum, share) => sum + share, 0) - 1) < 1e-3, "shares of a whole");
      }
    }
    const left = (await readdir(join(work, "runs", `${arm}-0`))).filter((name) =>
      name.startsWith("checkpoint"),
    );
    assert.deepEqual(left, [], "weights that were measured are removed");
  }
  assert.equal(tf.memory().numTensors, tensors);

  const file = join(folder, "recipe.json");
  const report = await writeReport(runner, await readResults(runner, [0, 1]), file);
  assert.deepEqual(JSON.parse(JSON.stringify(report)), await readReport(file));
  assert.equal(report.runs.length, ARM_NAMES.length);
  for (const [name, { measures, predictions }] of Object.entries(report.experiments)) {
    for (const [measure, { effects, means }] of Object.entries(measures)) {
      assert.ok(means[RECIPE] !== undefined, `${name}: ${measure}`);
      assert.deepEqual(effects.map(({ arm }) => arm).sort(), Object.keys(predictions).sort());
      for (const { low, high, verdict: says } of effects)
        assert.equal(says === "no difference shown", low <= 0 && high >= 0);
    }
  }
  assert.equal(report.strip.rows.length, 5, "the truth and the arms of E1");
  await runner.dispose();
  const longer = await Runner.open({
    ...options,
    work: join(folder, "longer"),
    settings: { ...TINY, steps: 450 },
  });
  // 20 words and 2 or 3 times 16 places.
  assert.deepEqual([longer.stepsOf("zeros"), longer.stepsOf("patch-1")], [450, Math.round((450 * 52) / 68)]);
  await longer.dispose();
  await assert.rejects(
    Runner.open({ ...options, settings: { ...TINY, steps: 3 } }),
    /settings\.json: results of other settings are here/,
  );
});

test("killed in a training or in a measurement, the run goes on to the same numbers", async () => {
  const settings = { ...TINY, steps: 24, checkpointingSteps: 4 };
  const file = join(folder, "settings.json");
  await writeFile(file, JSON.stringify(settings));
  const script = join(projectRoot, "dist", "test", "bench", "recipe.js");
  /** Kills the process when a file appears whose name fits. */
  const run = async (work: string, until?: RegExp): Promise<string | null> => {
    const out = join(work, "recipe.json");
    const args = ["--settings", file, "--work", work, "--vae", VAE, "--out", out, "--seeds", "3"];
    const child = spawn(process.execPath, [script, ...args, "--arms", "recipe"], { stdio: "ignore" });
    const place = join(work, "runs", "recipe-3");
    await mkdir(place, { recursive: true });
    const watcher = watch(place);
    watcher.on("change", (_, name) => {
      if (until?.test(String(name))) child.kill("SIGKILL");
    });
    const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
    watcher.close();
    if (signal === null) assert.equal(code, 0);
    return signal;
  };
  const result = async (work: string): Promise<Partial<RunResult>> => {
    const { runs } = JSON.parse(await readFile(join(work, "recipe.json"), "utf8")) as RecipeReport;
    const { trainingSeconds: _, ...rest } = runs[0]!;
    return rest;
  };
  const whole = join(folder, "whole");
  assert.equal(await run(whole), null);
  const cut = join(folder, "cut");
  assert.equal(await run(cut, /^checkpoint-8$/), "SIGKILL");
  assert.equal(await run(cut, /^measured-clean\.json$/), "SIGKILL");
  assert.equal(await run(cut), null);
  assert.deepEqual(await result(cut), await result(whole));
  assert.equal((await result(whole)).losses!.length, 2);
});
