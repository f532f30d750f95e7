import "@tensorflow/tfjs-backend-cpu";
import assert from "node:assert/strict";
import { test } from "node:test";
import { CogVideoXDDIMScheduler } from "../../../src/diffusion/ddim.js";
import { CogVideoXDPMScheduler } from "../../../src/diffusion/dpm.js";
import type { CogVideoXScheduler, SchedulerStepOutput } from "../../../src/diffusion/scheduler.js";
import * as tf from "../../../src/engine/tf.js";
import { casesOf, type GoldenCase } from "./case.js";

/** The schedulers of a case's components, by the last part of their folder's name ("15", "2b", ...). */
async function schedulers(golden: GoldenCase): Promise<[string, CogVideoXScheduler][]> {
  return Promise.all(
    golden.components.map(async (component) => {
      const [, kind, key] = /^scheduler_(ddim|dpm)_(.+)$/.exec(component)!;
      const Scheduler = kind === "ddim" ? CogVideoXDDIMScheduler : CogVideoXDPMScheduler;
      return [key!, await Scheduler.fromPretrained(golden.component(component))] as [
        string,
        CogVideoXScheduler,
      ];
    }),
  );
}

const only = async (golden: GoldenCase): Promise<CogVideoXScheduler> => (await schedulers(golden))[0]![1];

async function tables(golden: GoldenCase): Promise<void> {
  const [original, noise] = await Promise.all([golden.tensor("original"), golden.tensor("noise")]);
  for (const [key, scheduler] of await schedulers(golden)) {
    const shape = [scheduler.config.num_train_timesteps];
    await golden.compare(`${key}.betas`, { shape, data: scheduler.betas });
    await golden.compare(`${key}.alphas_cumprod`, { shape, data: scheduler.alphasCumprod });
    await golden.compare(`${key}.final_alpha_cumprod`, { shape: [1], data: [scheduler.finalAlphaCumprod] });
    assert.equal(`torch.${scheduler.dtype}`, golden.measured[`${key}.dtype`]);
    for (let i = 0; `timesteps${i}` in golden.measured; i++) {
      const timesteps = golden.measured[`timesteps${i}`] as number[];
      const noisy = scheduler.addNoise(original, noise, timesteps);
      const velocity = scheduler.getVelocity(original, noise, timesteps);
      await golden.compare(`${key}.add_noise${i}`, noisy);
      await golden.compare(`${key}.get_velocity${i}`, velocity);
      await golden.compare(`${key}.loss_weight${i}`, {
        shape: [timesteps.length],
        data: timesteps.map((t) => 1 / (1 - scheduler.alphasCumprod[t]!)),
      });
      tf.dispose([noisy, velocity]);
    }
  }
  tf.dispose([original, noise]);
}

async function timesteps(golden: GoldenCase): Promise<void> {
  const all = new Map(await schedulers(golden));
  for (const name of golden.names("table")) {
    const [, key, count] = /^(.+)\.n(\d+)$/.exec(name)!;
    const scheduler = all.get(key!)!;
    scheduler.setTimesteps(Number(count));
    await golden.compare(name, { shape: [scheduler.timesteps.length], data: scheduler.timesteps });
  }
}

async function trajectory(golden: GoldenCase): Promise<void> {
  const scheduler = await only(golden);
  const steps = golden.measured.timesteps as number[];
  scheduler.setTimesteps(Number(/_n(\d+)$/.exec(golden.name)![1]));
  assert.deepEqual([...scheduler.timesteps], steps);
  let latents = await golden.tensor("latents");
  let old: tf.Tensor | null = null;
  for (const [i, t] of steps.entries()) {
    const modelOutput = await golden.tensor(`model_output${i}`);
    const draws = (golden.measured.draws_per_step as number[] | undefined)?.[i];
    const noise = draws === undefined ? undefined : await golden.tensor(`noise${i}.${draws - 1}`);
    assert.equal(noise !== undefined, scheduler instanceof CogVideoXDPMScheduler);
    const step: SchedulerStepOutput<tf.Tensor> = scheduler.step({
      modelOutput,
      timestep: t,
      sample: latents,
      timestepBack: i > 0 ? steps[i - 1]! : null,
      oldPredOriginalSample: old,
      noise,
    });
    await golden.compare(`prev_sample${i}`, step.prevSample);
    await golden.compare(`pred_original${i}`, step.predOriginalSample);
    tf.dispose([latents, modelOutput, ...(noise ? [noise] : []), ...(old ? [old] : [])]);
    latents = step.prevSample;
    old = step.predOriginalSample;
  }
  tf.dispose([latents, old!]);
}

for (const golden of await casesOf("schedulers")) {
  test(golden.name, async () => {
    const before = tf.memory().numTensors;
    const check = { scheduler_tables: tables, scheduler_timesteps: timesteps }[golden.name] ?? trajectory;
    await check(golden);
    golden.assertAllCompared();
    assert.equal(tf.memory().numTensors, before);
  });
}
