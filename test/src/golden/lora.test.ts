import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { trainingRotaryTables } from "../../../src/models/transformer/rotary-positions.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { Adam, clipGradNorm } from "../../../src/train/optimizer.js";
import { safeOpen } from "../../../src/weights/safetensors.js";
import { casesOf, type GoldenCase, goldenDir } from "./case.js";

await useEngine();

interface Params {
  r: number;
  alpha: number;
  lr: number;
  betas: [number, number];
  eps: number;
  weight_decay: number;
  max_grad_norm: number;
  loss_scales: number[];
  target_modules: string[];
  ofs: number;
}

async function check(golden: GoldenCase): Promise<void> {
  const params = golden.params as unknown as Params;
  const transformer = await CogVideoXTransformer3DModel.fromPretrained(golden.component());
  const hiddenStates = await golden.tensor<tf.Rank.R5>("hidden_states");
  const [, frames, , height, width] = hiddenStates.shape;
  const imageRotaryEmb = trainingRotaryTables(transformer.config, { frames, height, width });
  const inputs = {
    hiddenStates,
    encoderHiddenStates: await golden.tensor<tf.Rank.R3>("encoder_hidden_states"),
    timestep: (await golden.values("timesteps")).data,
    ofs: params.ofs,
    imageRotaryEmb,
  };
  const compareSample = async (name: string) => {
    const { sample } = transformer.forward(inputs);
    await golden.compare(name, sample);
    sample.dispose();
  };

  await compareSample("sample_base");
  const { parameters, layers } = transformer.addAdapter(
    { r: params.r, loraAlpha: params.alpha, targetModules: params.target_modules },
    { generator: new RandomGenerator(1) },
  );
  assert.deepEqual([...new Set([...layers.values()].map(({ scaling }) => scaling))], golden.measured.scaling);
  assert.deepEqual([...parameters.keys()], golden.measured.trainable_order);
  assert.deepEqual(
    transformer.trainableVariables(),
    [...parameters.values()].map(({ value }) => value),
    "only the adapter trains",
  );
  await compareSample("sample_base"); // B is zero

  for (const [name, parameter] of parameters) {
    parameter.set(Float32Array.from((await golden.values(`lora.${name}`)).data));
  }
  await compareSample("sample_lora");
  for (const merged of golden.names("output").filter((name) => name.startsWith("merged."))) {
    const name = merged.slice("merged.".length);
    transformer.fuseLora();
    const fused = transformer.parameter(name).toFileLayout(transformer.parameter(name).value);
    await golden.compare(merged, fused);
    fused.dispose();
    await compareSample("sample_lora");
    transformer.unfuseLora();
    await compareSample("sample_lora");
  }

  const optimizer = new Adam("adamw", parameters.values(), {
    betas: params.betas,
    eps: params.eps,
    weightDecay: params.weight_decay,
  });
  const variables = transformer.trainableVariables();
  for (const [step, scale] of params.loss_scales.entries()) {
    const target = await golden.tensor(`target${step}`);
    transformer.gradientCheckpointing = step === 1; // the same numbers either way
    const before = tf.memory().numTensors;
    const { value, grads } = tf.variableGrads(
      () => tf.mul(tf.mean(tf.squaredDifference(transformer.forward(inputs).sample, target)), scale),
      variables,
    );
    assert.equal(tf.memory().numTensors, before + 1 + variables.length);
    await golden.compare(`step${step}.loss`, { shape: [1], data: await value.data() });
    for (const [name, parameter] of parameters) {
      await golden.compare(`step${step}.grad.${name}`, grads[parameter.value.name]!);
    }
    const ordered = variables.map((variable) => grads[variable.name]!);
    const { gradients, norm } = clipGradNorm(ordered, params.max_grad_norm);
    await golden.compare(`step${step}.grad_norm`, { shape: [1], data: [norm] });
    optimizer.step(gradients, params.lr);
    for (const [name, parameter] of parameters)
      await golden.compare(`step${step}.param.${name}`, parameter.value);
    tf.dispose([target, value, grads, gradients]);
  }
  const state = optimizer.stateTensors();
  for (const name of parameters.keys()) {
    await golden.compare(`final.exp_avg.${name}`, state[`${name}.exp_avg`]!);
    await golden.compare(`final.exp_avg_sq.${name}`, state[`${name}.exp_avg_sq`]!);
  }
  tf.dispose([state, { ...imageRotaryEmb }, inputs.hiddenStates, inputs.encoderHiddenStates]);
  optimizer.dispose();
  transformer.dispose();
}

for (const golden of await casesOf("optim")) {
  if (!golden.name.startsWith("lora_")) continue;
  test(`${golden.name}: ${golden.title}`, async () => {
    const before = tf.memory().numTensors;
    await check(golden);
    golden.assertAllCompared();
    assert.equal(tf.memory().numTensors, before);
  });

  test(`${golden.name}: the adapter's file, as diffusers writes it, gives the same output`, async () => {
    const params = golden.params as unknown as Params;
    const transformer = await CogVideoXTransformer3DModel.fromPretrained(golden.component());
    const folder = join(goldenDir, "components", "lora_demo");
    await transformer.loadLoraAdapter(folder, { loraAlpha: params.alpha });
    const hiddenStates = await golden.tensor<tf.Rank.R5>("hidden_states");
    const encoderHiddenStates = await golden.tensor<tf.Rank.R3>("encoder_hidden_states");
    const [, frames, , height, width] = hiddenStates.shape;
    const imageRotaryEmb = trainingRotaryTables(transformer.config, { frames, height, width });
    const timestep = (await golden.values("timesteps")).data;
    const { sample } = transformer.forward({
      hiddenStates,
      encoderHiddenStates,
      timestep,
      ofs: params.ofs,
      imageRotaryEmb,
    });
    await golden.compare("sample_lora", sample);
    // The file holds the case's own weights under the same names.
    const file = await safeOpen(join(folder, "pytorch_lora_weights.safetensors"));
    assert.deepEqual(
      file.keys().sort(),
      golden
        .names("input")
        .filter((name) => name.startsWith("lora."))
        .map((name) => name.replace("lora.", "transformer."))
        .sort(),
    );
    await file.close();
    tf.dispose([sample, hiddenStates, encoderHiddenStates, { ...imageRotaryEmb }]);
    transformer.dispose();
  });
}
