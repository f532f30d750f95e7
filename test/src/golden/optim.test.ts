import assert from "node:assert/strict";
import { test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { trainingRotaryTables } from "../../../src/models/transformer/rotary-positions.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { Parameter, zeros } from "../../../src/nn/module.js";
import { getScheduler, LR_SCHEDULERS, type LrSchedulerName } from "../../../src/train/lr-scheduler.js";
import { Adam, clipGradNorm } from "../../../src/train/optimizer.js";
import { casesOf, type GoldenCase } from "./case.js";

await useEngine();

async function schedules(golden: GoldenCase): Promise<void> {
  const p = golden.params as Record<string, number>;
  for (const name of LR_SCHEDULERS) {
    const learningRate = getScheduler(name, {
      learningRate: p.base_lr!,
      numWarmupSteps: p.num_warmup_steps!,
      numTrainingSteps: p.num_training_steps!,
      numCycles: name === "cosine_with_restarts" ? p.num_cycles! : 1,
      power: p.power!,
    });
    const steps = golden.tensors[name]!.shape[0]!;
    const data = Float64Array.from({ length: steps }, (_, step) => learningRate(step));
    await golden.compare(name, { shape: [steps], data });
  }
}

async function adamw(golden: GoldenCase): Promise<void> {
  const p = golden.params as Record<string, number> & {
    betas: [number, number];
    lr_scheduler: LrSchedulerName;
  };
  const parameter = new Parameter("param", [p.n!], { init: zeros });
  parameter.set(Float32Array.from((await golden.values("param")).data));
  const optimizer = new Adam("adamw", [parameter], {
    betas: p.betas,
    eps: p.eps!,
    weightDecay: p.weight_decay!,
  });
  const learningRate = getScheduler(p.lr_scheduler, {
    learningRate: p.lr!,
    numWarmupSteps: p.warmup!,
    numTrainingSteps: p.total!,
  });
  const rates: number[] = [];
  for (const [step] of (golden.params.grad_scales as number[]).entries()) {
    const gradient = await golden.tensor(`grad${step}`);
    const { gradients, norm } = clipGradNorm([gradient], p.max_grad_norm!);
    await golden.compare(`step${step}.grad_norm`, { shape: [1], data: [norm] });
    rates.push(learningRate(step));
    optimizer.step(gradients, learningRate(step));
    await golden.compare(`step${step}.param`, parameter.value);
    tf.dispose([gradient, gradients]);
  }
  const state = optimizer.stateTensors();
  await golden.compare("exp_avg", state["param.exp_avg"]!);
  await golden.compare("exp_avg_sq", state["param.exp_avg_sq"]!);
  await golden.compare("lr", { shape: [rates.length], data: rates });
  tf.dispose(state);
  optimizer.dispose();
  parameter.dispose();
}

async function lora(golden: GoldenCase): Promise<void> {
  const p = golden.params as Record<string, number> & {
    betas: [number, number];
    target_modules: string[];
    timesteps: number[];
    loss_scales: number[];
  };
  const transformer = await CogVideoXTransformer3DModel.fromPretrained(golden.component());
  const hiddenStates = await golden.tensor<tf.Rank.R5>("hidden_states");
  const encoderHiddenStates = await golden.tensor<tf.Rank.R3>("encoder_hidden_states");
  const [, frames, , height, width] = hiddenStates.shape as [number, number, number, number, number];
  const imageRotaryEmb = trainingRotaryTables(transformer.config, { frames, height, width });
  const predict = () =>
    transformer.forward({
      hiddenStates: hiddenStates as tf.Tensor5D,
      encoderHiddenStates: encoderHiddenStates as tf.Tensor3D,
      timestep: p.timesteps,
      ofs: p.ofs!,
      imageRotaryEmb,
    }).sample;
  await golden.compare("sample_base", predict());

  const { parameters } = transformer.addAdapter(
    { r: p.r!, loraAlpha: p.alpha!, targetModules: p.target_modules },
    { generator: new RandomGenerator(0) },
  );
  assert.deepEqual([...parameters.keys()], golden.measured.trainable_order);
  await golden.compare("sample_base", predict()); // B = 0
  for (const [name, parameter] of parameters) {
    parameter.set(Float32Array.from((await golden.values(`lora.${name}`)).data));
  }
  await golden.compare("sample_lora", predict());
  transformer.fuseLora();
  for (const name of golden.names("output").filter((key) => key.startsWith("merged."))) {
    const weight = transformer.parameter(name.replace("merged.", ""));
    await golden.compare(name, weight.toFileLayout(weight.value));
  }
  transformer.unfuseLora();

  const trained = [...parameters.values()];
  const optimizer = new Adam("adamw", trained, { betas: p.betas, eps: p.eps!, weightDecay: p.weight_decay! });
  for (const [step, scale] of p.loss_scales.entries()) {
    const target = await golden.tensor(`target${step}`);
    const { value, grads } = tf.variableGrads(
      () => tf.mul(tf.mean(tf.square(tf.sub(predict(), target))), scale).asScalar(),
      trained.map((parameter) => parameter.value),
    );
    await golden.compare(`step${step}.loss`, { shape: [1], data: value.dataSync() });
    const raw = trained.map((parameter) => grads[parameter.value.name]!);
    for (const [i, parameter] of trained.entries()) {
      await golden.compare(`step${step}.grad.${parameter.name}`, parameter.toFileLayout(raw[i]!));
    }
    const { gradients, norm } = clipGradNorm(raw, p.max_grad_norm!);
    await golden.compare(`step${step}.grad_norm`, { shape: [1], data: [norm] });
    optimizer.step(gradients, p.lr!);
    for (const parameter of trained) {
      await golden.compare(`step${step}.param.${parameter.name}`, parameter.toFileLayout(parameter.value));
    }
  }
  for (const [key, tensor] of Object.entries(optimizer.stateTensors())) {
    const [, name, moment] = /^(.*)\.(exp_avg(?:_sq)?)$/.exec(key)!;
    await golden.compare(`final.${moment}.${name}`, tensor);
  }
}

for (const golden of await casesOf("optim")) {
  const run = { lr_schedules: schedules, optim_adamw: adamw, lora_adamw: lora }[golden.name];
  assert.ok(run, `no test for ${golden.name}`);
  test(`${golden.name}: ${golden.title}`, async () => {
    await run(golden);
    golden.assertAllCompared();
  });
}
