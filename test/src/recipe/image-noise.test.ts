import assert from "node:assert/strict";
import { before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { encodeImage } from "../../../src/recipe/conditioning.js";
import { addImageNoise, imageNoiseSigma } from "../../../src/recipe/image-noise.js";
import { tinyPipeline } from "../diffusion/tiny.js";

before(async () => {
  await useEngine("cpu");
});

test("one sigma for the whole batch, noise for every pixel", () => {
  tf.tidy(() => {
    const image = tf.zeros<tf.Rank.R5>([2, 3, 1, 4, 4]);
    const { image: noisy, sigma } = addImageNoise(image, { generator: new RandomGenerator(5) });
    const generator = new RandomGenerator(5);
    assert.equal(sigma, imageNoiseSigma(generator.normal()));
    const noise = generator.randn<tf.Rank.R5>([2, 3, 1, 4, 4]);
    assert.deepEqual(noisy.dataSync(), tf.mul(noise, sigma).dataSync());
    const given = addImageNoise(image, { sigmaNormal: 1, noise });
    assert.equal(given.sigma, Math.exp(-2.5));
    assert.throws(
      () => addImageNoise(image, { sigmaNormal: 1, noise: tf.zeros([2, 3, 1, 4, 5]) }),
      /noise: expected the image's shape \[2,3,1,4,4\], found \[2,3,1,4,5\]/,
    );
  });
});

test("log(sigma) has mean -3 and standard deviation 0.5", () => {
  const generator = new RandomGenerator(1);
  const logs = Array.from({ length: 20000 }, () => Math.log(imageNoiseSigma(generator.normal())));
  const mean = logs.reduce((sum, x) => sum + x) / logs.length;
  const deviation = Math.sqrt(logs.reduce((sum, x) => sum + (x - mean) ** 2, 0) / logs.length);
  assert.ok(Math.abs(mean + 3) < 0.02, `mean ${mean}`);
  assert.ok(Math.abs(deviation - 0.5) < 0.02, `deviation ${deviation}`);
});

test("the clean path encodes the image as it is; the noisy one what addImageNoise made of it", () => {
  const { vae } = tinyPipeline();
  const before = tf.memory().numTensors;
  tf.tidy(() => {
    const image = tf.clipByValue(
      new RandomGenerator(3).randn<tf.Rank.R4>([2, 3, 16, 16]),
      -1,
      1,
    ) as tf.Tensor4D;
    const clean = encodeImage(vae, image, { imageNoise: null, posterior: "mode" });
    assert.equal(clean.sigma, 0);
    assert.deepEqual(clean.latent.shape, [2, 4, 1, 2, 2]);
    const five = tf.expandDims(image, 2) as tf.Tensor5D;
    const mode = tf.mul(vae.encode(five).latentDist.mode(), vae.config.scaling_factor);
    assert.deepEqual(clean.latent.dataSync(), mode.dataSync());

    const noisy = encodeImage(vae, image, {
      imageNoise: { generator: new RandomGenerator(7) },
      posterior: { generator: new RandomGenerator(8) },
    });
    const made = addImageNoise(five, { generator: new RandomGenerator(7) });
    assert.equal(noisy.sigma, made.sigma);
    const sample = vae.encode(made.image).latentDist.sample({ generator: new RandomGenerator(8) });
    assert.deepEqual(noisy.latent.dataSync(), tf.mul(sample, vae.config.scaling_factor).dataSync());
  });
  assert.equal(tf.memory().numTensors, before);
});
