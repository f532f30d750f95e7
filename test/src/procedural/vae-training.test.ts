import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import {
  evaluateVae,
  type HeldOutSize,
  measureScalingFactor,
  trainVae,
  type VaeQuality,
} from "../../../src/procedural/vae-training.js";

const config = {
  block_out_channels: [8, 8, 8, 8],
  latent_channels: 4,
  layers_per_block: 1,
  norm_num_groups: 4,
};
let folder = "";
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-vae-"));
});
after(() => rm(folder, { recursive: true, force: true }));

async function train(outputDir: string, until: number, seed = 1, from?: string): Promise<number[]> {
  const errors: number[] = [];
  const steps = trainVae({
    config,
    outputDir,
    from,
    seed,
    trainSteps: 8,
    imageSteps: 3,
    muonLearningRate: 0.02,
    learningRate: 1e-2,
    clipRate: 0.5,
    warmupSteps: 1,
    decaySteps: 4,
    klWeight: 1e-4,
    changeWeight: 1,
    frameRates: [8, 16],
    checkpointingSteps: 4,
    cropSize: 16,
    batchSize: 1,
    imageBatchSize: 2,
  });
  for await (const { step, mse } of steps) {
    errors.push(mse);
    if (step === until) break;
  }
  return errors;
}

test("a VAE learns procedural clips; stopped and resumed, it ends with the same bytes", async () => {
  const before = tf.memory().numTensors;
  const errors = await train(join(folder, "whole"), 8);
  assert.equal(errors.length, 8);
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  assert.ok(mean(errors.slice(-3)) < mean(errors.slice(0, 3)), errors.join(", "));
  await train(join(folder, "parts"), 5); // the checkpoint is the fourth step's
  await assert.rejects(train(join(folder, "parts"), 8, 2), {
    name: "ResumeError",
    message:
      /checkpoint-4: was made with other arguments: seed: 1 in the checkpoint, 2 now; use another --work folder$/,
  });
  await train(join(folder, "parts"), 8);
  const weights = (run: string) =>
    readFile(join(folder, run, "checkpoint-8", "vae", "diffusion_pytorch_model.safetensors"));
  assert.ok((await weights("whole")).equals(await weights("parts")));
  // From there on in a folder of its own, it begins with what it has learned.
  const further = await train(join(folder, "further"), 1, 1, join(folder, "whole", "checkpoint-8", "vae"));
  assert.ok(further[0]! < errors[0]! / 2, `${further[0]} after ${errors[0]}`);
  assert.equal(tf.memory().numTensors, before, "tensors left behind");
});

test("quality and scaling factor are measured on clips, without leaving tensors", () => {
  const vae = AutoencoderKLCogVideoX.fromConfig(config, new RandomGenerator(0));
  const before = tf.memory().numTensors;
  const size = { clips: 2, numFrames: 9, height: 32, width: 48 };
  const { psnr, ssim, change, changeSlope } = evaluateVae(vae, size);
  assert.ok(psnr > 3 && psnr < 30 && ssim < 1, `${psnr} dB, ${ssim}`);
  // It knows nothing yet of how frames follow each other.
  assert.ok(change > 0 && Math.abs(changeSlope) < 0.5, `${change}, ${changeSlope}`);
  const factor = measureScalingFactor(vae, size);
  assert.ok(factor > 0 && Number.isFinite(factor));
  assert.equal(tf.memory().numTensors, before);
  vae.dispose();
});

interface Report {
  readonly held_out: readonly (HeldOutSize & VaeQuality)[];
}

async function storedVae(pipeline: string): Promise<{ report: Report; vae: AutoencoderKLCogVideoX }> {
  const folder = fileURLToPath(new URL(`../../../../notebooks/models/${pipeline}/`, import.meta.url));
  const report = JSON.parse(await readFile(join(folder, "vae-training.json"), "utf8")) as Report;
  return { report, vae: await AutoencoderKLCogVideoX.fromPretrained(join(folder, "vae")) };
}

/** Measures again what is stored first. */
function assertMeasured({ report, vae }: { report: Report; vae: AutoencoderKLCogVideoX }): VaeQuality {
  const { psnr, ssim, change, changeSlope, ...size } = report.held_out[0]!;
  const quality = evaluateVae(vae, size);
  vae.dispose();
  assert.ok(Math.abs(quality.psnr - psnr) < 0.01, `${quality.psnr} dB instead of ${psnr}`);
  assert.ok(Math.abs(quality.ssim - ssim) < 0.001, `${quality.ssim} instead of ${ssim}`);
  if (change !== undefined) {
    assert.ok(Math.abs(quality.change - change) < 0.01, `${quality.change} instead of ${change}`);
    assert.ok(
      Math.abs(quality.changeSlope - changeSlope) < 0.01,
      `${quality.changeSlope} instead of ${changeSlope}`,
    );
  }
  return quality;
}

test("the notebooks' VAE reaches 28 dB on clips it was not trained on, and the figure that is stored beside it", async () => {
  const stored = await storedVae("procedural");
  for (const { psnr } of stored.report.held_out) assert.ok(psnr >= 28, `${psnr} dB`);
  assertMeasured(stored);
});

test("the VAE for pipelines that move keeps what changes from frame to frame, at both rates", async () => {
  const stored = await storedVae("moving");
  const small = stored.report.held_out.filter(({ numFrames, height }) => numFrames === 17 && height === 64);
  assert.deepEqual(
    small.map(({ fps }) => fps),
    [8, 16],
  );
  for (const { psnr, change } of small) {
    assert.ok(psnr >= 30.5, `${psnr} dB`);
    assert.ok(change >= 0.8 && change <= 1.2, `${change} of the change`);
  }
  const { changeSlope } = assertMeasured(stored);
  assert.ok(changeSlope >= 0.4, `a slope of ${changeSlope}`);
});
