/** The rules that a training may change: where the image lies, what fills the frames up, what counts, how noisy the image is. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { ImageToVideoOptions } from "../../../src/diffusion/image-to-video.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { placeImageLatent } from "../../../src/recipe/conditioning.js";
import { dropDuplicatedFrames, padFrames } from "../../../src/recipe/first-frame.js";
import { addImageNoise, imageNoiseSigma, imageNoiseSigmas } from "../../../src/recipe/image-noise.js";
import {
  computeLoss,
  disposeLossInputs,
  drawLoss,
  type LossOptions,
  prepareLoss,
  type TrainingBatch,
} from "../../../src/recipe/loss.js";
import { IMAGE_PLACES, type ImagePlace, PADDINGS, type Padding } from "../../../src/recipe/rules.js";
import { Trainer, type TrainerOptions } from "../../../src/train/trainer.js";
import { tinyPipeline } from "../diffusion/tiny.js";
import { tinyData, tinyModels } from "../train/tiny.js";

before(async () => {
  await useEngine();
});

/** One number a frame: [B, F, C, h, w] with every value of a frame alike. */
const frameValues = (x: tf.Tensor5D, axis: 1 | 2 = 1): number[] =>
  tf.tidy(() => {
    const order = axis === 1 ? [1, 0, 2, 3, 4] : [2, 0, 1, 3, 4];
    return [...tf.max(tf.reshape(tf.transpose(x, order), [x.shape[axis], -1]), 1).dataSync()];
  });

test("the image latent lies at the places that the rule names, and zeros at the others", () => {
  const held: Record<ImagePlace, number[]> = {
    first: [7, 0, 0, 0],
    second: [0, 7, 0, 0],
    first_two: [7, 7, 0, 0],
    last: [0, 0, 0, 7],
    all: [7, 7, 7, 7],
    none: [0, 0, 0, 0],
  };
  tf.tidy(() => {
    const latent = tf.fill([2, 3, 1, 2, 2], 7) as tf.Tensor5D;
    for (const place of IMAGE_PLACES) {
      const placed = placeImageLatent(latent, 4, place);
      assert.deepEqual(placed.shape, [2, 4, 3, 2, 2]);
      assert.deepEqual(frameValues(placed), held[place], place);
    }
    assert.deepEqual(frameValues(placeImageLatent(latent, 4)), held.first, "the recipe's");
  });
});

test("frames are filled up where the rule says, and what was added is dropped again", () => {
  const filled: Record<Padding, number[]> = {
    copy_first: [1, 1, 2, 3],
    zeros: [0, 1, 2, 3],
    copy_last: [1, 2, 3, 3],
  };
  for (const frameAxis of [1, 2] as const) {
    tf.tidy(() => {
      const shape = frameAxis === 1 ? [2, 3, 2, 2, 2] : [2, 2, 3, 2, 2];
      const view = frameAxis === 1 ? [1, 3, 1, 1, 1] : [1, 1, 3, 1, 1];
      const latents = tf.broadcastTo<tf.Rank.R5>(
        tf.reshape(tf.tensor1d([1, 2, 3]), view),
        shape as tf.ShapeMap[tf.Rank.R5],
      );
      for (const padding of PADDINGS) {
        const { latents: padded, copies } = padFrames(latents, { patchSizeT: 2, frameAxis, padding });
        assert.equal(copies, 1);
        assert.deepEqual(frameValues(padded, frameAxis), filled[padding], padding);
        const back = dropDuplicatedFrames(padded, { copies, frameAxis, padding });
        assert.deepEqual(back.shape, latents.shape);
        assert.deepEqual(back.dataSync(), latents.dataSync(), padding);
      }
    });
  }
});

test("levels of the image's noise: one for all, of any log-normal distribution, or rising with the timestep", () => {
  assert.equal(imageNoiseSigma(1, { logMean: -1 }), Math.exp(-0.5));
  assert.equal(imageNoiseSigma(2, { logMean: -1, logStd: 0.25 }), Math.exp(-0.5));
  assert.deepEqual(imageNoiseSigmas(-2, [0, 999], 1000), [Math.exp(-4), Math.exp(-4)]);
  const later = { distribution: "time_dependent" } as const;
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const levels = imageNoiseSigmas(0, [0, 500, 900, 999], 1000, later);
  assert.equal(levels[0], sigmoid(-1));
  assert.ok(Math.abs(levels[1]! - sigmoid(2 * (500 / 999) ** 5 - 1)) < 1e-12);
  assert.equal(levels[3], sigmoid(1));
  assert.ok(levels[2]! - levels[1]! > 0.5 * (levels[3]! - levels[0]!), "most of it comes late");
  assert.deepEqual(imageNoiseSigmas(0.5, [999], 1000, { ...later, max: 0.2 }), [0.2 / (1 + Math.exp(-1.5))]);
});

test("each image of a batch gets noise of its own level", () => {
  tf.tidy(() => {
    const image = tf.ones<tf.Rank.R5>([2, 3, 1, 2, 2]);
    const noise = new RandomGenerator(1).randn<tf.Rank.R5>([2, 3, 1, 2, 2]);
    const { image: noisy, sigma } = addImageNoise(image, { sigmas: [0, 2], noise });
    assert.equal(sigma, 1, "the mean of both");
    const [first, second] = [noisy.slice([0], [1]), noisy.slice([1], [1])].map((x) => x.dataSync());
    assert.ok(first!.every((value) => value === 1));
    assert.deepEqual(second, tf.add(1, tf.mul(noise.slice([1], [1]), 2)).dataSync());
    assert.throws(
      () => addImageNoise(image, { sigmas: [1], noise }),
      /sigmas: expected 2 \(one an image\), found 1/,
    );
  });
});

/** What the loss makes of a batch of two clips with three latent frames, with the same draws each time. */
function loss<T>(
  options: LossOptions,
  read: (of: ReturnType<typeof prepareLoss> & ReturnType<typeof computeLoss>) => T,
): T {
  const models = tinyModels();
  const before = tf.memory().numTensors;
  const random = new RandomGenerator(3);
  const batch: TrainingBatch = {
    encodedVideos: random.randn([2, 4, 3, 4, 4]),
    promptEmbedding: random.randn([2, 4, 12]),
    images: tf.tidy(() => tf.clipByValue(random.randn<tf.Rank.R4>([2, 3, 32, 32]), -1, 1) as tf.Tensor4D),
  };
  const draws = { ...drawLoss(random, batch, models), timesteps: [100, 999] };
  const inputs = prepareLoss(models, batch, draws, options);
  const terms = computeLoss(models, inputs, batch.promptEmbedding, options);
  const result = read({ ...inputs, ...terms });
  disposeLossInputs(inputs);
  tf.dispose([terms.prediction, terms.latentPred, terms.squaredError, terms.loss]);
  tf.dispose([batch.encodedVideos, batch.promptEmbedding, batch.images]);
  tf.dispose([draws.imageNoise, draws.imagePosteriorNoise, draws.diffusionNoise]);
  assert.equal(tf.memory().numTensors, before, "tensors left behind");
  models.dispose();
  return result;
}

test("the loss counts all frames, or leaves out those that were added, wherever they are", () => {
  for (const padding of PADDINGS) {
    for (const paddingInLoss of [true, false]) {
      const [counted, expected] = loss({ padding, paddingInLoss }, ({ latentPred, target, squaredError }) =>
        tf.tidy(() => {
          const errors = tf.square(tf.sub(latentPred, target));
          const from = paddingInLoss || padding === "copy_last" ? 0 : 1;
          const part = tf.slice(errors, [0, from], [-1, paddingInLoss ? 4 : 3]);
          return [squaredError.dataSync(), tf.mean(part, [1, 2, 3, 4]).dataSync()];
        }),
      );
      for (const i of [0, 1]) assert.ok(Math.abs(counted![i]! / expected![i]! - 1) < 1e-5, padding);
    }
  }
});

test("the transformer's input follows the rules", () => {
  const recipe = loss({}, ({ latentPadded, imageLatentsPadded, imageNoiseSigma }) => {
    const [target, image] = [latentPadded.arraySync(), imageLatentsPadded.arraySync()];
    return { target, image, imageNoiseSigma };
  });
  for (const video of recipe.target) for (const c of video) assert.deepEqual(c[0], c[1]);
  const zeros = loss({ padding: "zeros", imagePlace: "second" }, ({ latentPadded, imageLatentsPadded }) => {
    return { target: latentPadded.arraySync(), image: imageLatentsPadded.arraySync() };
  });
  assert.ok(zeros.target.flat(4).some((value) => value !== 0));
  for (const video of zeros.target) for (const c of video) assert.ok(c[0]!.flat().every((x) => x === 0));
  for (const [b, video] of zeros.image.entries()) {
    assert.deepEqual(video[1], recipe.image[b]![0], "the same image, one place later");
    for (const i of [0, 2, 3]) assert.ok(video[i]!.flat(2).every((value) => value === 0));
  }
  const noise = (imageNoise: LossOptions["imageNoise"]) =>
    loss({ imageNoise }, ({ imageNoiseSigma }) => imageNoiseSigma);
  assert.equal(noise(false), 0);
  assert.ok(Math.abs(noise({ logMean: -1 }) / recipe.imageNoiseSigma - Math.exp(2)) < 1e-6);
  const z = (Math.log(recipe.imageNoiseSigma) + 3) / 0.5;
  const [early, late] = imageNoiseSigmas(z, [100, 999], 1000, { distribution: "time_dependent" });
  assert.ok(Math.abs(noise({ distribution: "time_dependent" }) - (early! + late!) / 2) < 1e-6);
});

test("a trainer takes the rules by name, and each makes another training", async () => {
  const trained = async (options: TrainerOptions) => {
    const models = tinyModels();
    const data = await tinyData(models.vae, 2);
    const trainer = await Trainer.create(models, data, {
      trainingType: "sft",
      trainSteps: 1,
      learningRate: 1e-3,
      ...options,
    });
    const { losses } = await trainer.train();
    trainer.dispose();
    data.dispose();
    models.dispose();
    return losses[0]!;
  };
  const recipe = await trained({});
  assert.equal(await trained({ imageNoiseLogMean: -3, imagePlace: "first", padding: "copy_first" }), recipe);
  const others: TrainerOptions[] = [
    { imageNoiseLogMean: -1 },
    { imageNoiseDistribution: "time_dependent" },
    { imagePlace: "all" },
    { padding: "zeros", imagePlace: "second" },
    { padding: "copy_last" },
  ];
  for (const options of others) assert.notEqual(await trained(options), recipe, JSON.stringify(options));
  await assert.rejects(
    trained({ imagePlace: "middle" as never }),
    /imagePlace: expected one of first, second, first_two, last, all, none, found middle/,
  );
});

test("sampling follows the same rules", async () => {
  const pipe = tinyPipeline();
  const before = tf.memory().numTensors;
  const [image, other] = [3, 4].map(
    (seed) => proceduralClip({ seed, numFrames: 1, height: 32, width: 48 }).clip,
  );
  const sampled = async (changes: Partial<ImageToVideoOptions<"latent">>) => {
    const { frames } = await pipe.generate({
      prompt: "a red ball moves left",
      image: image!,
      ...{ numFrames: 9, height: 32, width: 48, numInferenceSteps: 1, guidanceScale: 1 },
      generator: new RandomGenerator(1),
      outputType: "latent",
      ...changes,
    });
    const values = [...frames.dataSync()];
    frames.dispose();
    return values;
  };
  const recipe = await sampled({});
  assert.deepEqual(await sampled({ imagePlace: "first", padding: "copy_first" }), recipe);
  for (const imagePlace of IMAGE_PLACES) {
    const here = await sampled({ imagePlace });
    if (imagePlace === "none")
      assert.deepEqual(await sampled({ imagePlace, image: other! }), here, "no image");
    else assert.notDeepEqual(await sampled({ imagePlace, image: other! }), here);
    if (imagePlace !== "first") assert.notDeepEqual(here, recipe, imagePlace);
  }
  // What was added at the end is dropped at the end: the first frame is then decoded from place 0.
  const clip = async (padding: Padding) => {
    const { frames } = await pipe.generate({
      prompt: "a red ball moves left",
      image: image!,
      ...{ numFrames: 9, height: 32, width: 48, numInferenceSteps: 1, guidanceScale: 1 },
      generator: new RandomGenerator(1),
      outputType: "pt",
      padding,
    });
    const values = [...frames.dataSync()];
    frames.dispose();
    return values;
  };
  const shape: tf.ShapeMap[tf.Rank.R5] = [1, 4, 4, 4, 6];
  for (const [padding, from] of [
    ["copy_first", 1],
    ["zeros", 1],
    ["copy_last", 0],
  ] as const) {
    const latents = tf.tidy(() => tf.slice(tf.tensor5d(recipe, shape), [0, from], [1, 3]));
    const decoded = await pipe.decodeLatents(latents);
    const pixels = tf.tidy(() =>
      tf.transpose(tf.clipByValue(tf.add(tf.mul(decoded, 0.5), 0.5), 0, 1), [0, 2, 1, 3, 4]).dataSync(),
    );
    const found = await clip(padding);
    assert.ok(
      found.every((value, i) => Math.abs(value - pixels[i]!) < 1e-5),
      padding,
    );
    tf.dispose([latents, decoded]);
  }
  assert.equal(tf.memory().numTensors, before);
  pipe.dispose();
});
