import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CogVideoXDDIMScheduler } from "../../../src/diffusion/ddim.js";
import { CogVideoXDPMScheduler } from "../../../src/diffusion/dpm.js";
import type { SchedulerStep, SchedulerStepOutput } from "../../../src/diffusion/scheduler.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import { roundHalfEven } from "../../../src/engine/rounding.js";
import * as tf from "../../../src/engine/tf.js";
import { TINY_SCHEDULER } from "./tiny.js";

let folder: string;
before(async () => {
  await useEngine("cpu");
  folder = await mkdtemp(join(tmpdir(), "firstframe-scheduler-"));
});
after(() => rm(folder, { recursive: true }));

test("zero terminal SNR: the last timestep is pure noise, and a run ends at the predicted clean sample", () => {
  for (const Scheduler of [CogVideoXDDIMScheduler, CogVideoXDPMScheduler]) {
    const scheduler = new Scheduler(TINY_SCHEDULER);
    assert.equal(scheduler.alphasCumprod[999], 0);
    assert.equal(scheduler.finalAlphaCumprod, 1);
    tf.tidy(() => {
      const [x, noise] = [tf.ones([1, 2]), tf.fill([1, 2], 3)];
      assert.deepEqual([...scheduler.addNoise(x, noise, 999).dataSync()], [3, 3]);
    });
  }
});

/** Steps through a run with the clean sample as the model's target velocity. */
function trajectory(steps: number): tf.Tensor {
  return tf.tidy(() => {
    const scheduler = new CogVideoXDPMScheduler(TINY_SCHEDULER);
    scheduler.setTimesteps(steps);
    const generator = new RandomGenerator(1);
    let sample = generator.randn<tf.Rank.R2>([2, 3]);
    let old: tf.Tensor2D | null = null;
    let back: number | null = null;
    for (const timestep of scheduler.timesteps) {
      const output: SchedulerStepOutput<tf.Tensor2D> = scheduler.step({
        modelOutput: tf.mul(sample, 0.1) as tf.Tensor2D,
        timestep,
        sample,
        timestepBack: back,
        oldPredOriginalSample: old,
        generator,
      });
      [sample, old, back] = [output.prevSample, output.predOriginalSample, timestep];
    }
    return sample;
  });
}

test("runs of awkward lengths stay finite: one entry more (61), a last step that ends at alphas[0] (7)", () => {
  for (const steps of [1, 2, 7, 61]) {
    const end = trajectory(steps);
    assert.ok(end.dataSync().every(Number.isFinite), `${steps} steps`);
    end.dispose();
  }
  const scheduler = new CogVideoXDDIMScheduler(TINY_SCHEDULER);
  scheduler.setTimesteps(61);
  assert.equal(scheduler.timesteps.length, 62);
  assert.equal(scheduler.timesteps[61], -1);
});

test("drawn noise is the generator's, one draw a step; a list of generators gives each sample its own", () => {
  tf.tidy(() => {
    const scheduler = new CogVideoXDPMScheduler(TINY_SCHEDULER);
    scheduler.setTimesteps(5);
    const [sample, output] = [
      new RandomGenerator(1).randn<tf.Rank.R2>([2, 3]),
      new RandomGenerator(2).randn<tf.Rank.R2>([2, 3]),
    ];
    const step = (draws: Pick<SchedulerStep<tf.Tensor2D>, "noise" | "generator">) => [
      ...scheduler.step({ modelOutput: output, timestep: 999, sample, ...draws }).prevSample.dataSync(),
    ];
    const drawn = step({ generator: new RandomGenerator(3) });
    assert.deepEqual(drawn, step({ noise: new RandomGenerator(3).randn<tf.Rank.R2>([2, 3]) }));
    assert.notDeepEqual(drawn, step({ generator: new RandomGenerator(4) }));
    const apart = step({ generator: [new RandomGenerator(3), new RandomGenerator(4)] });
    assert.deepEqual(
      apart,
      step({
        noise: tf.concat(
          [3, 4].map((seed) => new RandomGenerator(seed).randn<tf.Rank.R2>([1, 3])),
          0,
        ),
      }),
    );
    assert.throws(
      () => step({ noise: tf.zeros([2, 2]) }),
      /noise: expected the sample's shape \[2,3\], found \[2,2\]/,
    );
    assert.throws(
      () => step({ generator: [3, 4, 5].map((seed) => new RandomGenerator(seed)) }),
      /generator: expected 2 \(one a sample of the batch\), found 3/,
    );
  });
});

test("halves are rounded to the even neighbour", () => {
  assert.deepEqual([937.5, 812.5, 0.5, 1.5, 2.4, 2.6].map(roundHalfEven), [938, 812, 0, 2, 2, 3]);
});

test("a configuration is written as diffusers does and read by either class", async () => {
  const ddim = new CogVideoXDDIMScheduler({ ...TINY_SCHEDULER, steps_offset: 1 });
  await ddim.savePretrained(folder);
  const json = JSON.parse(await readFile(join(folder, "scheduler_config.json"), "utf8"));
  assert.equal(json._class_name, "CogVideoXDDIMScheduler");
  assert.equal(json.steps_offset, 1);
  const dpm = await CogVideoXDPMScheduler.fromPretrained(folder, { timestep_spacing: "leading" });
  assert.deepEqual(dpm.config, { ...ddim.config, timestep_spacing: "leading" });
  assert.deepEqual(CogVideoXDPMScheduler.fromConfig(ddim.config).config, ddim.config);
});

test("what can't be is refused by name", async () => {
  const scheduler = new CogVideoXDDIMScheduler(TINY_SCHEDULER);
  const x = tf.zeros([2, 3]);
  assert.throws(
    () => scheduler.step({ modelOutput: x, timestep: 999, sample: x }),
    /call setTimesteps\(numInferenceSteps\) before the first step/,
  );
  assert.throws(
    () => scheduler.setTimesteps(0),
    /numInferenceSteps: expected an integer from 1 to 1000 .*found 0/,
  );
  assert.throws(() => scheduler.setTimesteps(1001), /found 1001/);
  scheduler.setTimesteps(5);
  assert.throws(
    () => scheduler.step({ modelOutput: x, timestep: 1000, sample: x }),
    /timestep: expected an integer from 0 to 999, found 1000/,
  );
  assert.throws(
    () => scheduler.addNoise(x, x, [1, 2, 3]),
    /timesteps: expected 1 or 2 \(the batch\), found 3/,
  );
  assert.throws(() => scheduler.addNoise(x, x, -2), /timestep: expected an integer from 0 to 999, found -2/);
  x.dispose();
  assert.throws(
    () => new CogVideoXDDIMScheduler({ beta_schedule: "cosine" as "linear" }),
    /CogVideoXDDIMScheduler: beta_schedule must be one of "linear".*found "cosine"/,
  );
  assert.throws(
    () => new CogVideoXDPMScheduler({ trained_betas: [0.1, 0.2] }),
    /trained_betas must be 1000 numbers \(num_train_timesteps\), found 2/,
  );
  const path = join(folder, "scheduler_config.json");
  await writeFile(path, JSON.stringify({ _class_name: "EulerDiscreteScheduler" }));
  await assert.rejects(
    CogVideoXDDIMScheduler.fromPretrained(folder),
    /scheduler_config.json: expected the configuration of CogVideoXDDIMScheduler or CogVideoXDPMScheduler, found _class_name "EulerDiscreteScheduler"/,
  );
});

test("betas that are given replace the schedule", () => {
  const betas = [0.1, 0.2, 0.3];
  const scheduler = new CogVideoXDDIMScheduler({
    trained_betas: betas,
    num_train_timesteps: 3,
    snr_shift_scale: 1,
  });
  assert.deepEqual([...scheduler.betas], betas.map(Math.fround));
  const products = [0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7];
  for (const [i, a] of scheduler.alphasCumprod.entries()) assert.ok(Math.abs(a - products[i]!) < 1e-7);
});
