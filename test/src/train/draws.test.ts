/** What a loss draws, and how its options bend the draws: which timesteps, which captions, and what an error weighs. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import {
  computeLoss,
  type DrawOptions,
  disposeLossInputs,
  drawLoss,
  dropCaptions,
  type LossDraws,
  lossValues,
  prepareLoss,
} from "../../../src/recipe/loss.js";
import { CODE_SPELLING, completeOptions, readArguments } from "../../../src/train/arguments.js";
import { collate, MemoryData, type TrainingData } from "../../../src/train/data.js";
import { LatentCache } from "../../../src/train/latent-cache.js";
import { T5PromptEncoder } from "../../../src/train/prompt-encoder.js";
import { runTraining } from "../../../src/train/run.js";
import { timestepWeights } from "../../../src/train/timestep-bias.js";
import { Trainer, type TrainerOptions } from "../../../src/train/trainer.js";
import { writeLoraTask } from "./command.js";
import { captionEmbedding, tinyData, tinyModels } from "./tiny.js";

let folder = "";
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-draws-"));
  await writeLoraTask(folder);
});
after(() => rm(folder, { recursive: true, force: true }));

/** Draws for `count` samples of one number. */
function draw(seed: number, count: number, options?: DrawOptions) {
  const models = tinyModels();
  const batch = {
    encodedVideos: tf.zeros<tf.Rank.R5>([count, 1, 2, 1, 1]),
    promptEmbedding: tf.zeros<tf.Rank.R3>([count, 1, 1]),
    images: tf.zeros<tf.Rank.R4>([count, 3, 1, 1]),
  };
  const generator = new RandomGenerator(seed);
  const draws = drawLoss(generator, batch, models, options);
  models.dispose();
  tf.dispose({ ...batch });
  return { draws, generator };
}

const disposeDraws = ({ imageNoise, imagePosteriorNoise, diffusionNoise }: LossDraws) =>
  tf.dispose([imageNoise, imagePosteriorNoise, diffusionNoise]);

const weightsOf = async (options: TrainerOptions) =>
  timestepWeights(await completeOptions(options), 1000, CODE_SPELLING);

/** Pearson's statistic of counts against probabilities; at 9 degrees of freedom 27.9 is passed once in a thousand. */
function chiSquare(counts: readonly number[], probabilities: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.reduce((sum, count, i) => {
    const expected = total * probabilities[i]!;
    return sum + (count - expected) ** 2 / expected;
  }, 0);
}

test("by default the draws are those they always were", async () => {
  const weights = await weightsOf({ timestepBiasMultiplier: 7, timestepBiasPortion: 0.5 });
  assert.equal(weights, undefined, "a multiplier without a strategy means nothing");
  for (const imageDropout of [0, 0.4]) {
    const options = { imageDropout, captionDropout: 0, timestepWeights: weights };
    const { draws, generator } = draw(4, 3, options);
    const as = new RandomGenerator(4);
    assert.equal(draws.imageNoiseSigmaNormal, as.normal());
    const tensors = [as.randn([3, 3, 1, 1, 1]), as.randn([3, 1, 1, 1, 1])];
    assert.deepEqual(
      draws.timesteps,
      [0, 1, 2].map(() => as.integer(0, 1000)),
    );
    tensors.push(as.randn([3, 2, 1, 1, 1]));
    const found = [draws.imageNoise, draws.imagePosteriorNoise, draws.diffusionNoise];
    for (const [i, tensor] of found.entries()) assert.deepEqual(tensor.dataSync(), tensors[i]!.dataSync());
    if (imageDropout === 0) assert.equal(draws.dropImage, undefined);
    else
      assert.deepEqual(
        draws.dropImage,
        [0, 1, 2].map(() => as.uniform() < 0.4),
      );
    assert.equal(draws.dropCaption, undefined);
    assert.deepEqual(generator.getState(), as.getState());
    tf.dispose([tensors, found]);
  }
});

const LATER = {
  timestepBiasStrategy: "later",
  timestepBiasPortion: 0.001,
  timestepBiasMultiplier: 428,
} as const;

test("timesteps are drawn as the bias says", async () => {
  const tenths = (timesteps: readonly number[]) =>
    Array.from({ length: 10 }, (_, i) => timesteps.filter((t) => Math.floor(t / 100) === i).length);
  const cases: [string, TrainerOptions, number[]][] = [
    ["none", { timestepBiasMultiplier: 3 }, Array(10).fill(1)],
    [
      "earlier",
      { timestepBiasStrategy: "earlier", timestepBiasMultiplier: 3, timestepBiasPortion: 0.2 },
      [3, 3],
    ],
    [
      "later",
      { timestepBiasStrategy: "later", timestepBiasMultiplier: 0.5 },
      [1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.5],
    ],
    [
      "range",
      {
        timestepBiasStrategy: "range",
        timestepBiasMultiplier: 4,
        timestepBiasBegin: 300,
        timestepBiasEnd: 500,
      },
      [1, 1, 1, 4, 4],
    ],
    ["the last alone", LATER, [100, 100, 100, 100, 100, 100, 100, 100, 100, 527]],
  ];
  for (const [name, options, ratios] of cases) {
    const weights = await weightsOf(options);
    const { draws } = draw(11, 20000, { timestepWeights: weights });
    disposeDraws(draws);
    const all = Array.from({ length: 10 }, (_, i) => ratios[i] ?? 1);
    const sum = all.reduce((total, ratio) => total + ratio, 0);
    const statistic = chiSquare(
      tenths(draws.timesteps),
      all.map((ratio) => ratio / sum),
    );
    assert.ok(statistic < 27.9, `${name}: ${statistic}`);
    if (weights) {
      assert.equal(weights.length, 1000);
      assert.ok(Math.abs(weights.reduce((total, weight) => total + weight, 0) - 1) < 1e-9);
    }
    if (options === LATER) {
      const share = draws.timesteps.filter((t) => t === 999).length / draws.timesteps.length;
      assert.ok(Math.abs(share - 0.3) < 0.012, `${share}`);
      assert.ok(Math.abs(weights![999]! - 428 / 1427) < 1e-12);
    }
  }
  // No timestep at all is in the portion, so that none is biased.
  const none = await weightsOf({ ...LATER, timestepBiasPortion: 0.0001 });
  assert.deepEqual(new Set(none), new Set([1 / 1000]));
});

test("a range outside the schedule is refused, in the words of whoever gave it", async () => {
  const range = { timestepBiasStrategy: "range" } as const;
  const models = tinyModels();
  const data = await tinyData(models.vae, 1);
  const refused = (options: TrainerOptions, message: RegExp) =>
    assert.rejects(Trainer.create(models, data, { ...range, ...options }), {
      name: "ArgumentError",
      message,
    });
  await refused(
    { timestepBiasEnd: 1001 },
    /^timestepBiasEnd: expected at most 1000 \(num_train_timesteps\), found 1001$/,
  );
  await refused(
    { timestepBiasBegin: 300, timestepBiasEnd: 300 },
    /^timestepBiasBegin: expected less than timestepBiasEnd \(300\), found 300$/,
  );
  const lines: string[] = [];
  const args = await readArguments({
    config: join(folder, "lora.yaml"),
    flags: {
      timestep_bias_strategy: "range",
      timestep_bias_end: "2000",
      output_dir: join(folder, "refused"),
      cache_dir: join(folder, "refused-cache"),
    },
  });
  await assert.rejects(runTraining(args, { log: (line) => lines.push(line) }), {
    name: "ArgumentError",
    message: /^timestep_bias_end: expected at most 1000 \(num_train_timesteps\), found 2000$/,
  });
  assert.deepEqual(lines, [], "before anything is encoded");
  data.dispose();
  models.dispose();
});

test("captions are dropped as often as asked, and the empty one takes their place", () => {
  const { draws, generator } = draw(5, 20000, { captionDropout: 0.1 });
  const dropped = draws.dropCaption!.filter(Boolean).length / 20000;
  assert.ok(Math.abs(dropped - 0.1) < 0.008, `${dropped}`);
  const without = draw(5, 20000);
  assert.deepEqual(draws.timesteps, without.draws.timesteps, "what is drawn before stays as it was");
  assert.notDeepEqual(generator.getState(), without.generator.getState());
  disposeDraws(draws);
  disposeDraws(without.draws);
  tf.tidy(() => {
    const captions = tf.tensor3d([1, 2, 3, 4, 5, 6], [3, 1, 2]);
    const empty = tf.tensor2d([-1, -2], [1, 2]);
    const rows = (dropCaption?: boolean[]) =>
      Array.from(dropCaptions(captions, { dropCaption }, empty).dataSync());
    assert.deepEqual(rows([true, false, true]), [-1, -2, 3, 4, -1, -2]);
    assert.deepEqual(rows([false, false, false]), [1, 2, 3, 4, 5, 6]);
    assert.deepEqual(rows(), [1, 2, 3, 4, 5, 6]);
    assert.throws(
      () => dropCaptions(captions, { dropCaption: [true, false, false] }, tf.zeros([2, 2])),
      /emptyPrompt: expected the captions' shape \[1,2\], found \[2,2\]/,
    );
  });
});

/** Losses of four steps on clips with these captions. */
async function losses(options: TrainerOptions, caption?: string): Promise<readonly number[]> {
  const models = tinyModels();
  const own = await tinyData(models.vae);
  const samples = await Promise.all([0, 1, 2, 3].map((i) => own.load(i)));
  const given = samples.map((sample) =>
    caption === undefined ? sample : { ...sample, promptEmbedding: captionEmbedding(caption) },
  );
  const data = new MemoryData(given, { emptyPrompt: captionEmbedding("") });
  const before = tf.memory().numTensors;
  const common = {
    trainingType: "sft",
    learningRate: 1e-2,
    lrWarmupSteps: 0,
    batchSize: 2,
    trainSteps: 4,
  } as const;
  const trainer = await Trainer.create(models, data, { ...common, ...options });
  const result = await trainer.train();
  trainer.dispose();
  assert.equal(tf.memory().numTensors, before, "no tensor is left behind");
  data.dispose();
  own.dispose();
  models.dispose();
  return result.losses;
}

test("where all captions are dropped, the model learns from the empty one alone", async () => {
  const all = await losses({ captionDropout: 1 });
  const never = 1e-300; // draws as well, and drops none
  assert.deepEqual(all, await losses({ captionDropout: never }, ""));
  assert.notDeepEqual(all, await losses({ captionDropout: never }));
});

test("data that has no empty caption is refused", async () => {
  const models = tinyModels();
  const own = await tinyData(models.vae, 1);
  const data: TrainingData = {
    length: 1,
    bucket: (index) => own.bucket(index),
    load: (index) => own.load(index),
  };
  await assert.rejects(Trainer.create(models, data, { captionDropout: 0.1 }), {
    name: "ArgumentError",
    message: "captionDropout: expected data with the empty prompt's embedding (emptyPrompt), found none",
  });
  own.dispose();
  models.dispose();
});

test("the empty caption is the one that the pipeline's guidance starts from", async () => {
  const model = join(folder, "model");
  const cacheDir = join(folder, "dropped-cache");
  const args = await readArguments({
    config: join(folder, "lora.yaml"),
    flags: {
      caption_dropout: "0.5",
      train_steps: "2",
      output_dir: join(folder, "dropped"),
      cache_dir: cacheDir,
      report_to: "none",
    },
  });
  assert.equal((await runTraining(args, { log: () => {} })).finished, true);
  const pipeline = await CogVideoXImageToVideoPipeline.fromPretrained(model);
  const { promptEmbeds, negativePromptEmbeds } = pipeline.encodePrompt({
    prompt: "a red ball",
    doClassifierFreeGuidance: true,
    maxSequenceLength: pipeline.transformer.config.max_text_seq_length,
  });
  const promptEncoder = await T5PromptEncoder.open(
    model,
    pipeline.transformer.config.max_text_seq_length,
    join(cacheDir, "content"),
  );
  const never = { id: promptEncoder.id, encode: () => Promise.reject(new Error("not in the cache")) };
  const modelName = "cogvideox1.5-i2v";
  const cache = await LatentCache.open({ cacheDir, modelName, vae: pipeline.vae, promptEncoder: never });
  const cached = await cache.embedPrompt("");
  assert.deepEqual(cached.dataSync(), negativePromptEmbeds!.dataSync());
  assert.notDeepEqual(cached.dataSync(), promptEmbeds.dataSync());
  await promptEncoder.dispose();
  tf.dispose([cached, promptEmbeds, negativePromptEmbeds!]);
  pipeline.dispose();
});

test("min-SNR weighting is diffusers' for v-prediction, and finite where nothing but noise is left", async () => {
  const models = tinyModels();
  const data = await tinyData(models.vae);
  const batch = collate(await Promise.all([0, 1, 2, 3].map((i) => data.load(i))));
  const timesteps = [0, 300, 700, 999];
  const drawn = drawLoss(new RandomGenerator(2), batch, models);
  const draws = { ...drawn, timesteps };
  const snrGamma = 5;
  const inputs = prepareLoss(models, batch, draws, { snrGamma });
  const terms = computeLoss(models, inputs, batch.promptEmbedding);
  const alphas = timesteps.map((t) => models.scheduler.alphasCumprod[t]!);
  assert.equal(alphas[3], 0);
  const snr = alphas.map((alpha) => alpha / (1 - alpha));
  // In the velocity's own terms.
  const velocity = models.scheduler.getVelocity(inputs.target, drawn.diffusionNoise, timesteps);
  const errors = tf.tidy(() => {
    const squared = tf.square(tf.sub(terms.prediction, velocity));
    return Array.from(tf.mean(tf.reshape(squared, [4, -1]), 1).dataSync());
  });
  const expected = errors.map((error, i) => (error * Math.min(snr[i]!, snrGamma)) / (snr[i]! + 1));
  const { perSample, loss } = lossValues(terms.squaredError.dataSync(), inputs.weights);
  for (const [i, value] of perSample.entries())
    assert.ok(Math.abs(value - expected[i]!) <= 1e-3 * expected[i]!, `${value}, ${expected[i]}`);
  assert.equal(perSample[3], 0);
  assert.ok(Math.abs(terms.loss.dataSync()[0]! - loss) < 1e-4 * loss);
  const plain = prepareLoss(models, batch, draws);
  assert.deepEqual(
    plain.weights,
    alphas.map((alpha) => 1 / (1 - alpha)),
  );
  disposeLossInputs(plain);
  disposeLossInputs(inputs);
  disposeDraws(drawn);
  tf.dispose([{ ...terms }, { ...batch }, velocity]);
  data.dispose();
  models.dispose();

  const [without, weighted] = [await losses({}), await losses({ snrGamma })];
  assert.notDeepEqual(weighted, without);
  assert.ok(weighted.every(Number.isFinite));
  // All draws at the last timestep, where the weight is 0.
  assert.deepEqual(await losses({ ...LATER, timestepBiasMultiplier: 1e12, snrGamma }), [0, 0, 0, 0]);
});
