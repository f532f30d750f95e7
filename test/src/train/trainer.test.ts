import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { currentEngine, useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { listCheckpoints } from "../../../src/train/checkpoint.js";
import type { TrainingData, TrainingSample } from "../../../src/train/data.js";
import { Trainer, type TrainerOptions } from "../../../src/train/trainer.js";
import { tinyData, tinyModels } from "./tiny.js";

let folder = "";
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-train-"));
});
after(() => rm(folder, { recursive: true, force: true }));

const SFT: TrainerOptions = {
  trainingType: "sft",
  seed: 3,
  learningRate: 3e-3,
  lrWarmupSteps: 2,
  batchSize: 2,
  gradientCheckpointing: false,
};
const LORA: TrainerOptions = { ...SFT, trainingType: "lora", rank: 4, loraAlpha: 4, learningRate: 1e-2 };
const MUON: TrainerOptions = { ...SFT, optimizer: "muon" };
const BFLOAT16: TrainerOptions = { ...SFT, mixedPrecision: "bf16" };

/** Runs and gives the checkpoint's files back. */
async function run(options: TrainerOptions, interruptAfter?: number): Promise<Record<string, Buffer>> {
  const models = tinyModels();
  const data = await tinyData(models.vae);
  const trainer = await Trainer.create(models, data, options);
  const stop = new AbortController();
  await trainer.train({
    signal: stop.signal,
    onStep: ({ step }) => {
      if (step === interruptAfter) stop.abort();
    },
  });
  const { path } = trainer.lastCheckpoint!;
  const names = (await readdir(path, { recursive: true, withFileTypes: true })).filter((entry) =>
    entry.isFile(),
  );
  const files = await Promise.all(
    names.map(async (entry) => {
      const file = join(entry.parentPath, entry.name);
      return [file.slice(path.length + 1), await readFile(file)] as const;
    }),
  );
  trainer.dispose();
  data.dispose();
  models.dispose();
  return Object.fromEntries(files);
}

test("in bfloat16, losses are within 1 % of float32's", async () => {
  const losses: Record<string, readonly number[]> = {};
  for (const mixedPrecision of ["no", "bf16"] as const) {
    const models = tinyModels();
    const data = await tinyData(models.vae);
    const trainer = await Trainer.create(models, data, { ...SFT, mixedPrecision, trainSteps: 20 });
    losses[mixedPrecision] = (await trainer.train()).losses;
    trainer.dispose();
    data.dispose();
    models.dispose();
  }
  const [exact, rough] = [losses.no!, losses.bf16!];
  for (const [i, loss] of exact.entries()) {
    const apart = Math.abs(rough[i]! - loss) / loss;
    assert.ok(apart < 0.01, `step ${i + 1}: ${loss} and ${rough[i]}`);
  }
  assert.equal(
    exact.some((loss, i) => loss !== rough[i]),
    currentEngine()!.bfloat16 !== null,
  );
});

for (const [name, options] of Object.entries({ SFT, LORA, MUON, BFLOAT16 })) {
  test(`${name}: the loss goes down, and no tensor is left behind`, async () => {
    const models = tinyModels();
    const data = await tinyData(models.vae);
    const before = tf.memory().numTensors;
    const base = await models.transformer.parameter("transformer_blocks.0.attn1.to_q.weight").values();
    const trainer = await Trainer.create(models, data, { ...options, trainSteps: 40 });
    const { losses, finished } = await trainer.train();
    assert.ok(finished);
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const [first, last] = [mean(losses.slice(0, 10)), mean(losses.slice(-10))];
    assert.ok(last < 0.9 * first, `${first} to ${last}`);
    const now = await models.transformer.parameter("transformer_blocks.0.attn1.to_q.weight").values();
    assert.equal(
      Buffer.from(base.buffer).equals(Buffer.from(now.buffer)),
      name === "LORA",
      "LoRA leaves the weights",
    );
    trainer.dispose();
    if (name === "LORA") models.transformer.deleteAdapters();
    assert.equal(tf.memory().numTensors, before);
    data.dispose();
    models.dispose();
  });

  test(`${name}: stopped twice and resumed, the run ends with the same bytes`, async () => {
    const common: TrainerOptions = {
      ...options,
      trainSteps: 5,
      gradientAccumulationSteps: 2,
      batchSize: 1,
      emaDecay: 0.9,
      noisedImageDropout: 0.2,
      captionDropout: 0.3,
      timestepBiasStrategy: "later",
      timestepBiasMultiplier: 4,
      snrGamma: 5,
      checkpointingSteps: 100,
    };
    const whole = await run({ ...common, outputDir: join(folder, `${name}-whole`) });
    const outputDir = join(folder, `${name}-parts`);
    await run({ ...common, outputDir, resumeFromCheckpoint: "latest" }, 2);
    await run({ ...common, outputDir, resumeFromCheckpoint: "latest" }, 3);
    assert.deepEqual(
      (await listCheckpoints(outputDir)).map(({ step }) => step),
      [2, 3],
    );
    const parts = await run({ ...common, outputDir, resumeFromCheckpoint: "latest" });
    assert.deepEqual(Object.keys(parts).sort(), Object.keys(whole).sort());
    for (const [file, bytes] of Object.entries(whole))
      assert.ok(parts[file]!.equals(bytes), `${file} differs`);
    assert.ok(Object.keys(whole).some((file) => file.startsWith("ema/")));
  });
}

test("gradient checkpointing gives the same training", async () => {
  const losses = async (gradientCheckpointing: boolean) => {
    const models = tinyModels();
    const data = await tinyData(models.vae);
    const trainer = await Trainer.create(models, data, { ...SFT, gradientCheckpointing, trainSteps: 4 });
    const result = await trainer.train();
    trainer.dispose();
    data.dispose();
    models.dispose();
    return result.losses;
  };
  const [kept, recomputed] = [await losses(false), await losses(true)];
  kept.forEach((loss, i) => {
    assert.ok(Math.abs(loss - recomputed[i]!) < 1e-4 * loss, `step ${i}: ${loss}, ${recomputed[i]}`);
  });
});

test("two batches of one accumulate to the gradient of one batch of two", async () => {
  // Without image noise the batch's one sigma does not matter; the draws differ, so compare how many samples a step has.
  const models = tinyModels();
  const data = await tinyData(models.vae, 3);
  const trainer = await Trainer.create(models, data, {
    ...SFT,
    batchSize: 1,
    gradientAccumulationSteps: 2,
    trainEpochs: 2,
  });
  assert.equal(trainer.totalSteps, 4);
  const samples: number[] = [];
  const epochs: number[] = [];
  for await (const { timesteps, epoch } of trainer.steps()) {
    samples.push(timesteps.length);
    epochs.push(epoch);
  }
  assert.deepEqual(samples, [2, 1, 2, 1], "an epoch's end completes the step");
  assert.deepEqual(epochs, [0, 0, 1, 1]);
  trainer.dispose();
  data.dispose();
  models.dispose();
});

test("a data set may keep tensors of its own as it loads", async () => {
  const models = tinyModels();
  const files = await tinyData(models.vae, 3);
  const kept = new Map<number, TrainingSample>();
  const lazy: TrainingData = {
    length: files.length,
    bucket: (index) => files.bucket(index),
    load: async (index) => {
      const sample = kept.get(index) ?? (await files.load(index));
      kept.set(index, sample);
      await new Promise((resolve) => setImmediate(resolve));
      const { encodedVideo, promptEmbedding, image } = sample;
      return {
        encodedVideo: encodedVideo.clone(),
        promptEmbedding: promptEmbedding.clone(),
        image: image.clone(),
      };
    },
  };
  const before = tf.memory().numTensors;
  const trainer = await Trainer.create(models, lazy, {
    ...SFT,
    batchSize: 1,
    gradientAccumulationSteps: 2,
    trainEpochs: 2,
  });
  // Beside the data set, code of the user's own that runs while the next clips are read.
  const others: tf.Tensor[] = [];
  const timer = setInterval(() => others.push(tf.scalar(1)), 1);
  try {
    assert.equal((await trainer.train()).finished, true);
  } finally {
    clearInterval(timer);
  }
  assert.equal(kept.size, 3);
  trainer.dispose();
  tf.dispose(others);
  for (const sample of kept.values()) tf.dispose({ ...sample });
  assert.equal(tf.memory().numTensors, before, "and what the steps made is gone");
  files.dispose();
  models.dispose();
});

test("old checkpoints go beyond the limit, and diffusers' folders are in those that stay", async () => {
  const outputDir = join(folder, "limit");
  await run({ ...SFT, outputDir, trainSteps: 5, checkpointingSteps: 1, checkpointingLimit: 2 });
  const kept = await listCheckpoints(outputDir);
  assert.deepEqual(
    kept.map(({ step }) => step),
    [4, 5],
  );
  const transformer = await CogVideoXTransformer3DModel.fromPretrained(join(kept[1]!.path, "transformer"));
  assert.equal(transformer.config.num_layers, 2);
  transformer.dispose();
});

test("a loss that explodes ends the run with the last good checkpoint's name", async () => {
  const models = tinyModels();
  const data = await tinyData(models.vae);
  const outputDir = join(folder, "explodes");
  const trainer = await Trainer.create(models, data, {
    ...SFT,
    outputDir,
    trainSteps: 6,
    checkpointingSteps: 2,
  });
  await assert.rejects(
    trainer.train({
      onStep: ({ step }) => {
        if (step !== 3) return;
        const bias = models.transformer.parameter("proj_out.bias");
        bias.set(new Float32Array(bias.size).fill(Number.NaN));
      },
    }),
    (error: Error) => {
      assert.equal(error.name, "DivergenceError");
      assert.match(error.message, /^step 4: the loss is NaN; the last good checkpoint is .*checkpoint-2$/);
      return true;
    },
  );
  trainer.dispose();
  data.dispose();
  models.dispose();
});

test("a checkpoint that does not fit is refused by name", async () => {
  const outputDir = join(folder, "misfit");
  await run({ ...SFT, outputDir, trainSteps: 1 });
  await assert.rejects(run({ ...LORA, outputDir, trainSteps: 2, resumeFromCheckpoint: "latest" }), {
    name: "ResumeError",
    message: new RegExp(
      `^${outputDir}/checkpoint-1: was made with other arguments: trainingType: sft in the checkpoint, lora now; .*now$`,
    ),
  });
  await assert.rejects(run({ ...SFT, outputDir, resumeFromCheckpoint: join(folder, "checkpoint-9") }), {
    name: "ResumeError",
    message: `${join(folder, "checkpoint-9")}: no such checkpoint`,
  });
  await assert.rejects(
    run({ ...SFT, outputDir, resumeFromCheckpoint: "newest" }),
    /expected "latest" or a folder/,
  );
});

test("options out of range are refused by name", async () => {
  const models = tinyModels();
  const data = await tinyData(models.vae, 1);
  const attempt = (options: TrainerOptions) => Trainer.create(models, data, { ...SFT, ...options });
  await assert.rejects(
    attempt({ batchSize: 0 }),
    /^ArgumentError: batchSize: expected a whole number of at least 1, found 0$/,
  );
  await assert.rejects(
    attempt({ learningRate: -1 }),
    /^ArgumentError: learningRate: expected a number of at least 0, found -1$/,
  );
  await assert.rejects(
    attempt({ beta2: 1 }),
    /^ArgumentError: beta2: expected a number of at least 0 and below 1, found 1$/,
  );
  await assert.rejects(attempt({ emaDecay: 1 }), /^ArgumentError: emaDecay: .* below 1, found 1$/);
  await assert.rejects(attempt({ gradientAccumulationSteps: 0.5 }), /gradientAccumulationSteps: .*found 0.5/);
  await assert.rejects(
    attempt({ lrScheduler: "step" as "linear" }),
    /^ArgumentError: lrScheduler: expected one of .*found step$/,
  );
  data.dispose();
  models.dispose();
});
