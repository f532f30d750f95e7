import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CogVideoXDPMScheduler } from "../../../src/diffusion/dpm.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import { computeLoss, disposeLossInputs, lossValues, prepareLoss } from "../../../src/recipe/loss.js";
import { LORA_TARGET_MODULES } from "../../../src/train/arguments.js";
import { getScheduler } from "../../../src/train/lr-scheduler.js";
import { Adam, clipFactor, gradNorm } from "../../../src/train/optimizer.js";
import { type SafetensorsFile, safeOpen } from "../../../src/weights/safetensors.js";
import { missingPython, runPython } from "./python.js";

const skip = missingPython("torch", "diffusers", "peft") ?? false;
const components = "test/golden/components";
const STEPS = 20;
const LEARNING_RATE = { sft: 1e-3, lora: 5e-3 } as const;

let folder = "";
let file: SafetensorsFile;
before(async () => {
  if (skip) return;
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-trajectory-"));
  const path = join(folder, "trajectory.safetensors");
  runPython("../../golden/trajectory.py", path);
  file = await safeOpen(path);
});
after(async () => {
  await file?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

for (const kind of ["sft", "lora"] as const) {
  test(`20 steps of ${kind} training are PyTorch's`, { skip }, async () => {
    const vae = await AutoencoderKLCogVideoX.fromPretrained(`${components}/vae`);
    const transformer = await CogVideoXTransformer3DModel.fromPretrained(`${components}/t15`);
    const scheduler = await CogVideoXDPMScheduler.fromPretrained(`${components}/scheduler_dpm_15`);
    const models = { vae, transformer, scheduler };
    let trained = [...transformer.parameters.values()].filter(({ trainable }) => trainable);
    if (kind === "lora") {
      const config = { r: 4, loraAlpha: 2, targetModules: LORA_TARGET_MODULES };
      trained = [
        ...transformer.addAdapter(config, { generator: new RandomGenerator(0) }).parameters.values(),
      ];
      for (const parameter of trained) parameter.set(await file.getFloat32(`lora.start.${parameter.name}`));
    }
    const optimizer = new Adam("adamw", trained, { betas: [0.9, 0.95], weightDecay: 1e-4 });
    const learningRate = getScheduler("constant_with_warmup", {
      learningRate: LEARNING_RATE[kind],
      numWarmupSteps: 4,
    });
    const expected = (await file.getData(`${kind}.losses`)).data as Float64Array;
    for (let step = 0; step < STEPS; step++) {
      const read = <T extends tf.Tensor>(name: string) =>
        file.getTensor(`${kind}.${step}.${name}`) as Promise<T>;
      const clips = Array.from((await file.getData(`${kind}.${step}.clips`)).data as Int32Array);
      const stack = async <T extends tf.Tensor>(name: string) =>
        tf.stack(await Promise.all(clips.map((clip) => file.getTensor(`${name}.${clip}`)))) as T;
      const batch = {
        encodedVideos: await stack<tf.Tensor5D>("latent"),
        promptEmbedding: await stack<tf.Tensor3D>("prompt"),
        images: await stack<tf.Tensor4D>("image"),
      };
      const inputs = prepareLoss(models, batch, {
        imageNoiseSigmaNormal: (await file.getFloat32(`${kind}.${step}.image_noise_sigma_normal`))[0]!,
        imageNoise: await read("image_noise"),
        imagePosteriorNoise: await read("image_posterior_noise"),
        timesteps: Array.from((await file.getData(`${kind}.${step}.timesteps`)).data as Int32Array),
        diffusionNoise: await read("diffusion_noise"),
      });
      let squared: Float32Array | undefined;
      const { grads } = tf.variableGrads(
        () => {
          const terms = computeLoss(models, inputs, batch.promptEmbedding);
          squared = terms.squaredError.dataSync() as Float32Array;
          return terms.loss;
        },
        trained.map(({ value }) => value),
      );
      const { loss } = lossValues(squared!, inputs.weights);
      const relative = Math.abs(loss - expected[step]!) / expected[step]!;
      assert.ok(relative < 1e-4, `step ${step}: loss ${loss}, PyTorch's ${expected[step]}`);
      const gradients = trained.map(({ value }) => grads[value.name] ?? tf.zerosLike(value));
      optimizer.step(gradients, learningRate(step), clipFactor(gradNorm(gradients), 1));
      tf.dispose(gradients);
      disposeLossInputs(inputs);
    }
    assert.ok(expected.at(-1)! !== expected[0], "the losses move");
    for (const parameter of trained) {
      const mine = await parameter.values();
      const theirs = await file.getFloat32(`${kind}.end.${parameter.name}`);
      const largest = theirs.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const off = theirs.reduce((most, value, i) => Math.max(most, Math.abs(value - mine[i]!)), 0);
      assert.ok(off < 1e-3 * largest + 1e-6, `${parameter.name} differs by ${off} of ${largest}`);
    }
    optimizer.dispose();
    vae.dispose();
    transformer.dispose();
  });
}
