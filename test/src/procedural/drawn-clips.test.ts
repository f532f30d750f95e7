import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import type { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { writeProceduralDataset } from "../../../src/procedural/dataset.js";
import { DrawnClips, type DrawnClipsOptions } from "../../../src/procedural/drawn-clips.js";
import { HELD_OUT_SEED } from "../../../src/procedural/vae-training.js";
import type { TrainingData } from "../../../src/train/data.js";
import { parseBucket, readDataset } from "../../../src/train/dataset.js";
import { CachedData, LatentCache, type PromptEncoder } from "../../../src/train/latent-cache.js";
import { Trainer, type TrainerOptions } from "../../../src/train/trainer.js";
import { captionEmbedding, tinyModels } from "../train/tiny.js";

let folder = "";
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-drawn-"));
});
after(() => rm(folder, { recursive: true, force: true }));

const SIZE = { numFrames: 9, height: 32, width: 48, fps: 8 };
const promptEncoder: PromptEncoder = { id: "words", encode: async (prompt) => captionEmbedding(prompt) };
const clip = (seed: number) => proceduralClip({ ...SIZE, seed });

/** Clips as they are drawn, and the seeds that were made so far. */
function drawn(vae: AutoencoderKLCogVideoX, options: Partial<DrawnClipsOptions> = {}) {
  const made: number[] = [];
  const make = options.clip ?? clip;
  const data = new DrawnClips({
    ...{ count: 4, vae, promptEncoder, ...options },
    clip: (seed) => {
      made.push(seed);
      return make(seed);
    },
  });
  made.length = 0; // the first one's size was asked for
  return { data, made };
}

/** A sample's numbers. */
async function numbers(data: TrainingData, index: number): Promise<Record<string, Float32Array>> {
  const { encodedVideo, promptEmbedding, image } = await data.load(index);
  const values = {
    encodedVideo: encodedVideo.dataSync().slice() as Float32Array,
    promptEmbedding: promptEmbedding.dataSync().slice() as Float32Array,
    image: image.dataSync().slice() as Float32Array,
  };
  tf.dispose([encodedVideo, promptEmbedding, image]);
  return values;
}

test("a sample is what the same clip is as a file of a data set", async () => {
  const { vae, dispose } = tinyModels();
  // Hardly any variance, so that the posterior's draws, which differ, don't count.
  const bias = vae.parameter("encoder.conv_out.conv.bias");
  bias.set((await bias.values()).map((value, i) => (i < vae.config.latent_channels ? value : -60)));
  const dataRoot = join(folder, "data");
  const { numFrames, ...rest } = SIZE;
  const scene = { ...rest, numFrames };
  await writeProceduralDataset({ out: dataRoot, clips: 3, heldOut: 1, seed: 20, scene, log: () => {} });
  const cache = await LatentCache.open({
    cacheDir: join(folder, "cache"),
    modelName: "tiny",
    vae,
    promptEncoder,
  });
  const entries = [];
  for (const entry of await readDataset({ dataRoot }))
    entries.push(await cache.ensure(entry, parseBucket("9x32x48")));
  const files = new CachedData(entries, { emptyPrompt: () => cache.embedPrompt("") });
  const { data } = drawn(vae, { count: 3, firstSeed: 20 });
  assert.equal(data.bucket(0), files.bucket(0));
  for (const i of [0, 1, 2]) {
    const [now, file] = [await numbers(data, i), await numbers(files, i)];
    assert.deepEqual(now.promptEmbedding, file.promptEmbedding);
    for (const [name, bound] of Object.entries({ image: 1e-6, encodedVideo: 1e-5 })) {
      const differences = now[name]!.map((value, k) => Math.abs(value - file[name]![k]!));
      assert.equal(differences.length, file[name]!.length);
      assert.ok(Math.max(...differences) < bound, `${name}: ${Math.max(...differences)}`);
    }
    assert.ok(Math.max(...now.encodedVideo!.map(Math.abs)) > 0.01, "a latent that is not nothing");
  }
  const [empty, same] = [await data.emptyPrompt(), await files.emptyPrompt!()];
  assert.deepEqual(empty.dataSync(), same.dataSync());
  tf.dispose([empty, same]);
  dispose();
});

test("clips are made when they are drawn and kept as far as there is room, always the same", async () => {
  const { vae, dispose } = tinyModels();
  const tensors = tf.memory().numTensors;
  const kept = drawn(vae);
  const first = [await numbers(kept.data, 2), await numbers(kept.data, 0)];
  assert.deepEqual(kept.made, [2, 0]);
  assert.deepEqual([await numbers(kept.data, 2), await numbers(kept.data, 0)], first);
  assert.deepEqual(kept.made, [2, 0], "kept");

  const none = drawn(vae, { cacheBytes: 0 });
  assert.deepEqual([await numbers(none.data, 0), await numbers(none.data, 2)], [first[1], first[0]]);
  await numbers(none.data, 0);
  assert.deepEqual(none.made, [0, 2, 0]);

  const bytes = Object.values(first[0]!).reduce((sum, { length }) => sum + 4 * length, 0);
  const image = first[0]!.image!.length; // kept as bytes, not as numbers of four
  const one = drawn(vae, { cacheBytes: 1.5 * (bytes - 3 * image) });
  for (const index of [0, 1, 0, 1]) await numbers(one.data, index);
  assert.deepEqual(one.made, [0, 1, 1], "the first fits, the second does not");

  // Several at a time, as the trainer asks for a batch.
  const batch = drawn(vae, { cacheBytes: 0 });
  const together = await Promise.all([2, 0].map((index) => numbers(batch.data, index)));
  assert.deepEqual(together, first);
  assert.equal(tf.memory().numTensors, tensors, "no tensor is left behind");
  dispose();
});

test("what was encoded is kept in a folder, for later runs of the same models and scenes", async () => {
  const { vae, dispose } = tinyModels();
  const cacheDir = join(folder, "kept");
  const lines: string[] = [];
  const from = (options: Partial<DrawnClipsOptions> = {}) =>
    drawn(vae, { cacheDir, cacheBytes: 0, log: (line) => lines.push(line), ...options });
  const without = await numbers(drawn(vae).data, 3);
  const first = from();
  assert.deepEqual(await numbers(first.data, 3), without);
  assert.ok(first.made.includes(3));
  const folders = await readdir(cacheDir);
  assert.equal(folders.length, 1);
  const file = join(cacheDir, folders[0]!, "3.safetensors");
  assert.ok(existsSync(file));

  // Other sets of the same scenes have it, too.
  const fails: PromptEncoder = { ...promptEncoder, encode: () => Promise.reject(new Error("encoded again")) };
  const later = from({ count: 9, firstSeed: 2, promptEncoder: fails });
  const again = await numbers(later.data, 1);
  assert.deepEqual(again, without);
  assert.deepEqual(lines, []);

  // Other models and scenes have not.
  await assert.rejects(numbers(from({ promptEncoder: { ...fails, id: "other" } }).data, 3), /encoded again/);
  const faster = (seed: number) => proceduralClip({ ...SIZE, fps: 16, seed });
  await assert.rejects(numbers(from({ clip: faster, promptEncoder: fails }).data, 3), /encoded again/);
  assert.equal((await readdir(cacheDir)).length, 3);

  const bytes = await readFile(file);
  bytes[bytes.length - 5]! ^= 1;
  await writeFile(file, bytes);
  assert.deepEqual(await numbers(from().data, 3), without);
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /3\.safetensors: tensor "image": .*damaged\); it is encoded again$/);
  await copyFile(file, join(cacheDir, folders[0]!, "1.safetensors"));
  const one = await numbers(from().data, 1);
  assert.match(
    lines[1]!,
    /1\.safetensors: expected the clip of seed 1, found that of 3; it is encoded again$/,
  );
  assert.deepEqual(one, await numbers(from({ promptEncoder: fails }).data, 1));
  assert.notDeepEqual(one, without);
  assert.equal(lines.length, 2);
  dispose();
});

const OPTIONS: TrainerOptions = {
  trainingType: "sft",
  batchSize: 2,
  trainSteps: 5,
  learningRate: 1e-3,
  lrWarmupSteps: 0,
  captionDropout: 0.3,
  checkpointingSteps: 100,
};

test("of twenty thousand clips a run makes those that it takes; resumed, it is the same run", async () => {
  const run = async (outputDir: string, interruptAfter?: number) => {
    const models = tinyModels();
    const { data, made } = drawn(models.vae, { count: 20_000 });
    const options = { ...OPTIONS, outputDir, resumeFromCheckpoint: "latest" };
    const trainer = await Trainer.create(models, data, options);
    made.length = 0; // without those that the fingerprint is made of
    const stop = new AbortController();
    await trainer.train({
      signal: stop.signal,
      onStep: ({ step }) => {
        if (step === interruptAfter) stop.abort();
      },
    });
    const weights = join(trainer.lastCheckpoint!.path, "transformer", "diffusion_pytorch_model.safetensors");
    trainer.dispose();
    models.dispose();
    return { made, weights: await readFile(weights) };
  };
  const whole = await run(join(folder, "whole"));
  assert.equal(new Set(whole.made).size, 10);
  assert.ok(whole.made.some((seed) => seed > 1000));
  const parts = [await run(join(folder, "parts"), 2), await run(join(folder, "parts"))];
  assert.deepEqual(
    parts.flatMap(({ made }) => made),
    whole.made,
  );
  assert.ok(parts[1]!.weights.equals(whole.weights));
});

test("a run is not gone on from with other clips, captions or models", async () => {
  const { vae, dispose } = tinyModels();
  const own = await drawn(vae).data.fingerprint();
  assert.deepEqual(await drawn(vae, { cacheBytes: 0 }).data.fingerprint(), own);
  const other = async (options: Partial<DrawnClipsOptions>) => {
    const { samples, clips, captions } = await drawn(vae, options).data.fingerprint();
    return {
      samples: samples === own.samples,
      clips: clips === own.clips,
      captions: captions === own.captions,
    };
  };
  assert.equal((await other({ count: 5 })).samples, false);
  assert.equal((await other({ firstSeed: 1 })).clips, false);
  const faster = (seed: number) => proceduralClip({ ...SIZE, fps: 16, seed });
  assert.deepEqual(await other({ clip: faster }), { samples: true, clips: false, captions: true });
  const louder = (seed: number) => ({ ...clip(seed), caption: clip(seed).caption.toUpperCase() });
  assert.deepEqual(await other({ clip: louder }), { samples: true, clips: true, captions: false });
  const encoder = { ...promptEncoder, id: "other words" };
  assert.deepEqual(await other({ promptEncoder: encoder }), { samples: true, clips: true, captions: false });
  const models = tinyModels(7);
  const otherVae = await drawn(models.vae).data.fingerprint();
  assert.notEqual(otherVae.clips, own.clips);
  models.dispose();
  dispose();
});

test("seeds of held-out clips, and clips of several sizes, are refused", async () => {
  const { vae, dispose } = tinyModels();
  assert.throws(() => drawn(vae, { count: 0 }), /^InputError: count: expected a positive integer, found 0$/);
  assert.throws(
    () => drawn(vae, { firstSeed: -1 }),
    /firstSeed: expected an integer of at least 0, found -1$/,
  );
  assert.throws(
    () => drawn(vae, { firstSeed: HELD_OUT_SEED - 3 }),
    /count: expected seeds below the held-out clips' \(1000000\), found up to 1000000$/,
  );
  assert.equal(drawn(vae, { firstSeed: HELD_OUT_SEED }).data.length, 4);
  const growing = (seed: number) => proceduralClip({ ...SIZE, seed, height: seed === 2 ? 48 : 32 });
  await assert.rejects(
    drawn(vae, { clip: growing }).data.load(2),
    /clip: expected 9x32x48 as of seed 0, found 9x48x48 of seed 2$/,
  );
  dispose();
});
