/** Files that were damaged after they were written: every one is noticed, named, and nothing of it is used. */
import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { listCheckpoints } from "../../../src/train/checkpoint.js";
import type { MemoryData } from "../../../src/train/data.js";
import { type DatasetEntry, parseBucket, readDataset } from "../../../src/train/dataset.js";
import { CachedData, LatentCache } from "../../../src/train/latent-cache.js";
import { Trainer, type TrainerOptions } from "../../../src/train/trainer.js";
import { safeOpen } from "../../../src/weights/safetensors.js";
import { captionEmbedding, tinyData, tinyModels, writeDataset } from "./tiny.js";

let folder = "";
let made: ReturnType<typeof tinyModels>;
let data: MemoryData;
let entries: DatasetEntry[] = [];
const bucket = parseBucket("9x32x48");
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-damage-"));
  made = tinyModels();
  data = await tinyData(made.vae);
  await train("lora", join(folder, "lora"));
  await train("sft", join(folder, "sft"));
  await writeDataset(join(folder, "data"), 3);
  entries = await readDataset({ dataRoot: join(folder, "data") });
  for (const entry of entries) await (await openCache(join(folder, "cache"))).ensure(entry, bucket);
});
after(async () => {
  data.dispose();
  made.dispose();
  await rm(folder, { recursive: true, force: true });
});

type Kind = "lora" | "sft";

/** Goes on from a checkpoint if `resume` names one, and trains to step 4 unless `look` is set. */
async function train(kind: Kind, outputDir: string, resume?: string, look = false) {
  const transformer = CogVideoXTransformer3DModel.fromConfig(made.transformer.config, new RandomGenerator(1));
  const notes: string[] = [];
  const options: TrainerOptions = {
    trainingType: kind,
    outputDir,
    seed: 3,
    trainSteps: 4,
    batchSize: 1,
    rank: 4,
    loraAlpha: 4,
    learningRate: 1e-2,
    emaDecay: 0.9,
    checkpointingSteps: 2,
    gradientCheckpointing: false,
    resumeFromCheckpoint: resume,
    log: (line) => notes.push(line),
  };
  try {
    const trainer = await Trainer.create({ ...made, transformer }, data, options);
    const { step } = trainer;
    if (!look) await trainer.train();
    trainer.dispose();
    return { step, notes: notes.join("\n") };
  } finally {
    transformer.deleteAdapters();
    transformer.dispose();
  }
}

async function flip(file: string, position: number, bit = 0): Promise<void> {
  const bytes = await readFile(file);
  bytes[position]! ^= 1 << bit;
  await writeFile(file, bytes);
}

/** The lowest bit of a tensor's number: nothing that looks wrong. */
const flipTensor = (name: string, key: RegExp) => async (at: string) => {
  const file = await safeOpen(join(at, name));
  const found = file.keys().find((each) => key.test(each))!;
  const { byteOffset, byteLength } = file.info(found);
  await file.close();
  await flip(join(at, name), byteOffset + 4 * Math.floor(byteLength / 8));
};

/** Exchanges the first text that fits for one that says something else. */
const change = (name: string, what: RegExp, by: string) => async (at: string) => {
  const text = await readFile(join(at, name), "latin1");
  const changed = text.replace(what, by);
  assert.notEqual(changed, text, `${name} has no ${what}`);
  await writeFile(join(at, name), changed, "latin1");
};

const cut = (name: string, part: number) => async (at: string) => {
  const { length } = await readFile(join(at, name));
  await truncate(join(at, name), Math.floor(length * part));
};
const lose = (name: string) => (at: string) => rm(join(at, name), { recursive: true });
const folderInstead = (name: string) => async (at: string) => {
  await rm(join(at, name));
  await mkdir(join(at, name));
};
const fromEarlier = (name: string) => (at: string) =>
  cp(join(dirname(at), "checkpoint-2", name), join(at, name), { recursive: true });
const exchange = (one: string, other: string) => async (at: string) => {
  await rename(join(at, one), join(at, "aside"));
  await rename(join(at, other), join(at, one));
  await rename(join(at, "aside"), join(at, other));
};

const LORA = "pytorch_lora_weights.safetensors";
const EMA = `ema/${LORA}`;
const MOMENTS = "optimizer.safetensors";
const STATE = "trainer_state.json";
const WEIGHTS = "transformer/diffusion_pytorch_model.safetensors";

/** What is done to the newest checkpoint, and the file that has to be named. */
const CHECKPOINT: [string, Kind, (checkpoint: string) => Promise<unknown>, string][] = [
  ["a bit of a LoRA's weight", "lora", flipTensor(LORA, /lora_B/), LORA],
  ["a bit of a model's weight", "sft", flipTensor(WEIGHTS, /proj_out/), WEIGHTS],
  ["a bit of the moving average", "lora", flipTensor(EMA, /lora_A/), EMA],
  [
    "a bit of the moving average of all weights",
    "sft",
    flipTensor(`ema/${WEIGHTS}`, /norm/),
    `ema/${WEIGHTS}`,
  ],
  ["a bit of the first moment", "lora", flipTensor(MOMENTS, /exp_avg$/), MOMENTS],
  ["a bit of the second moment", "sft", flipTensor(MOMENTS, /exp_avg_sq$/), MOMENTS],
  ["a tensor's name in a header", "lora", change(LORA, /lora_B/, "lora_C"), LORA],
  ["a tensor's shape in a header", "lora", change(LORA, /\[32,4\]/, "[4,32]"), LORA],
  ["a tensor's place in a header", "lora", change(MOMENTS, /data_offsets":\[0/, 'data_offsets":[8'), MOMENTS],
  ["a header's length", "lora", (at) => flip(join(at, MOMENTS), 0, 4), MOMENTS],
  ["a checksum", "lora", change(LORA, /(crc32":"\w{8} )(\w{8})/, "$1deadbeef"), LORA],
  ["the checksums' name", "lora", change(MOMENTS, /firstframe\.crc32/, "firstframe.crc31"), MOMENTS],
  ["the generator's state", "lora", change(STATE, /("draws":\{"bits":\[-?)(\d)/, "$17"), STATE],
  ["the place in the data", "lora", change(STATE, /"position":\d/, '"position":1'), STATE],
  ["the step count", "lora", change(STATE, /"step":4/, '"step":3'), STATE],
  ["what it was made with", "lora", change(STATE, /"seed":3/, '"seed":2'), STATE],
  ["its format", "lora", change(STATE, /"format":2/, '"format":1'), STATE],
  ["its own hash", "lora", change(STATE, /"sha256":"\w(\w{63})"\}\n/, '"sha256":"x$1"}\n'), STATE],
  ["a space in the state", "lora", change(STATE, /,"step"/, ', "step"'), STATE],
  ["half of the state", "lora", cut(STATE, 0.5), STATE],
  ["an empty state", "lora", cut(STATE, 0), STATE],
  ["no state", "lora", lose(STATE), STATE],
  ["a folder instead of the state", "lora", folderInstead(STATE), STATE],
  [
    "a configuration's value",
    "sft",
    change("transformer/config.json", /true/, "null"),
    "transformer/config.json",
  ],
  ["no configuration", "sft", lose("ema/transformer/config.json"), "ema/transformer/config.json"],
  ["half of the weights", "sft", cut(WEIGHTS, 0.5), WEIGHTS],
  ["one byte less", "lora", cut(LORA, 0.9999), LORA],
  ["one byte more", "lora", async (at) => writeFile(join(at, LORA), "x", { flag: "a" }), LORA],
  ["empty weights", "lora", cut(LORA, 0), LORA],
  ["empty moments", "lora", cut(MOMENTS, 0), MOMENTS],
  ["no weights", "lora", lose(LORA), LORA],
  ["no moments", "lora", lose(MOMENTS), MOMENTS],
  ["no moving average", "lora", lose("ema"), EMA],
  ["a folder instead of the weights", "lora", folderInstead(LORA), LORA],
  ["a folder instead of the moments", "lora", folderInstead(MOMENTS), MOMENTS],
  ["another checkpoint's weights", "lora", fromEarlier(LORA), LORA],
  ["another checkpoint's moments", "lora", fromEarlier(MOMENTS), MOMENTS],
  ["another checkpoint's state", "lora", fromEarlier(STATE), STATE],
  ["weights and moving average exchanged", "lora", exchange(LORA, EMA), EMA],
];

describe("a damaged checkpoint", () => {
  for (const [what, kind, damage, file] of CHECKPOINT) {
    test(what, async () => {
      const outputDir = await mkdtemp(join(folder, "run-"));
      await cp(join(folder, kind), outputDir, { recursive: true });
      const newest = join(outputDir, "checkpoint-4");
      await damage(newest);
      const tensors = tf.memory().numTensors;
      const named = join(newest, file).replaceAll(/[.+]/g, "\\$&");
      await assert.rejects(train(kind, outputDir, newest, true), {
        name: "ResumeError",
        message: new RegExp(`^${named}: `),
      });
      const { step, notes } = await train(kind, outputDir, "latest");
      assert.equal(step, 2, "the one before");
      assert.match(notes, new RegExp(`^passed over ${named}: `));
      assert.equal(tf.memory().numTensors, tensors, "tensors left behind");
      // The run has written that checkpoint again, in the damaged one's place.
      assert.ok(
        (await readFile(join(newest, STATE))).equals(
          await readFile(join(folder, kind, "checkpoint-4", STATE)),
        ),
      );
      assert.equal((await train(kind, outputDir, "latest", true)).step, 4);
      await rm(outputDir, { recursive: true });
    });
  }

  test("under another's name", async () => {
    const outputDir = await mkdtemp(join(folder, "run-"));
    await cp(join(folder, "lora"), outputDir, { recursive: true });
    await rename(join(outputDir, "checkpoint-4"), join(outputDir, "checkpoint-3"));
    const { step, notes } = await train("lora", outputDir, "latest", true);
    assert.equal(step, 2);
    assert.match(notes, /checkpoint-3\/trainer_state\.json: expected step 3, found 4/);
  });

  test("that is a file", async () => {
    const outputDir = await mkdtemp(join(folder, "run-"));
    await cp(join(folder, "lora"), outputDir, { recursive: true });
    await writeFile(join(outputDir, "checkpoint-9"), "no folder");
    const { step, notes } = await train("lora", outputDir, "latest", true);
    assert.equal(step, 4);
    assert.match(notes, /checkpoint-9\/trainer_state\.json: /);
  });

  test("where no other is left: an error, nothing starts anew", async () => {
    const outputDir = await mkdtemp(join(folder, "run-"));
    await cp(join(folder, "lora"), outputDir, { recursive: true });
    await flipTensor(LORA, /lora_B/)(join(outputDir, "checkpoint-4"));
    await cut(MOMENTS, 0.5)(join(outputDir, "checkpoint-2"));
    await assert.rejects(train("lora", outputDir, "latest"), {
      name: "ResumeError",
      message: /checkpoint-4\/pytorch_lora_weights.*checkpoint-2\/optimizer.*no whole checkpoint is left$/,
    });
    assert.equal((await listCheckpoints(outputDir)).length, 2);
  });
});

const promptEncoder = { id: "words", encode: async (prompt: string) => captionEmbedding(prompt) };
const openCache = (cacheDir: string, log: (line: string) => void = assert.fail) =>
  LatentCache.open({ cacheDir, modelName: "tiny", vae: made.vae, promptEncoder, log });

interface CacheFiles {
  readonly latent: string;
  readonly prompt: string;
  readonly otherLatent: string;
  readonly otherPrompt: string;
}
const inFile = (damage: (at: string) => Promise<unknown>, at: string) => damage(dirname(at));

/** What is done to the first clip's files, and which of them has to be named. */
const CACHE: [string, (files: CacheFiles) => Promise<unknown>, "latent" | "prompt"][] = [
  ["a bit of a latent", ({ latent }) => inFile(flipTensor(basename(latent), /encoded/), latent), "latent"],
  ["a bit of an image", ({ latent }) => inFile(flipTensor(basename(latent), /image/), latent), "latent"],
  [
    "a bit of a prompt embedding",
    ({ prompt }) => inFile(flipTensor(basename(prompt), /./), prompt),
    "prompt",
  ],
  ["a latent's shape", ({ latent }) => inFile(change(basename(latent), /4,6\]/, "6,4]"), latent), "latent"],
  ["a report", ({ latent }) => inFile(change(basename(latent), /9 frames/, "8 frames"), latent), "latent"],
  [
    "a prompt",
    ({ prompt }) => inFile(change(basename(prompt), /"prompt":"A/, '"prompt":"B'), prompt),
    "prompt",
  ],
  [
    "the checksums' name",
    ({ latent }) => inFile(change(basename(latent), /firstframe\.crc32/, "firstframe.crc31"), latent),
    "latent",
  ],
  ["half a latent", ({ latent }) => inFile(cut(basename(latent), 0.5), latent), "latent"],
  ["an empty latent", ({ latent }) => inFile(cut(basename(latent), 0), latent), "latent"],
  ["an empty prompt embedding", ({ prompt }) => inFile(cut(basename(prompt), 0), prompt), "prompt"],
  ["a folder instead of a latent", ({ latent }) => inFile(folderInstead(basename(latent)), latent), "latent"],
  ["another clip's latent", ({ latent, otherLatent }) => cp(otherLatent, latent), "latent"],
  ["another prompt's embedding", ({ prompt, otherPrompt }) => cp(otherPrompt, prompt), "prompt"],
];

describe("a damaged file of the latent cache is encoded again, with a note", () => {
  for (const [what, damage, kind] of CACHE) {
    test(what, async () => {
      const cacheDir = await mkdtemp(join(folder, "cache-"));
      await cp(join(folder, "cache"), cacheDir, { recursive: true });
      const notes: string[] = [];
      const cache = await openCache(cacheDir, (line) => notes.push(line));
      const [first, second] = await Promise.all(entries.map((entry) => cache.locate(entry, bucket)));
      const files = {
        latent: first!.latentPath,
        prompt: first!.promptPath,
        otherLatent: second!.latentPath,
        otherPrompt: second!.promptPath,
      };
      const whole = await readFile(files[kind]);
      const note = new RegExp(`^${files[kind].replaceAll(".", "\\.")}: .*; it is encoded again$`);

      await damage(files);
      const tensors = tf.memory().numTensors;
      await assert.rejects(new CachedData([first!]).load(0), /safetensors|EISDIR/);
      const repair = async (index: number) => {
        await cache.ensure(entries[index]!, bucket, { verify: true });
      };
      const sample = await new CachedData([first!], { repair }).load(0);
      tf.dispose([sample.encodedVideo, sample.image, sample.promptEmbedding]);
      assert.equal(tf.memory().numTensors, tensors, "tensors left behind");
      assert.match(notes.splice(0).join("\n"), note);
      assert.ok((await readFile(files[kind])).equals(whole), "the same bytes as before");

      await damage(files);
      const { encoded } = await cache.ensure(entries[0]!, bucket, { verify: true });
      assert.ok(encoded);
      assert.match(notes.splice(0).join("\n"), note);
      assert.ok((await readFile(files[kind])).equals(whole));
      if (kind === "prompt") {
        await damage(files);
        const embedding = await cache.embedPrompt(entries[0]!.prompt);
        assert.deepEqual(await embedding.data(), await captionEmbedding(entries[0]!.prompt).data());
        assert.match(notes.splice(0).join("\n"), note);
      }
      await rm(cacheDir, { recursive: true });
    });
  }

  test("a hash kept of a clip's bytes is computed again", async () => {
    const cacheDir = await mkdtemp(join(folder, "cache-"));
    await cp(join(folder, "cache"), cacheDir, { recursive: true });
    const cache = await openCache(cacheDir);
    const before = await cache.locate(entries[0]!, bucket);
    for (const name of await readdir(join(cacheDir, "content")))
      await change(name, /"sha256":"\w{8}/, '"sha256":"00000000')(join(cacheDir, "content"));
    assert.deepEqual(await (await openCache(cacheDir)).locate(entries[0]!, bucket), before);
  });
});

test("a LoRA and a model that are loaded alone are looked at as well", async () => {
  const at = await mkdtemp(join(folder, "alone-"));
  await cp(join(folder, "lora", "checkpoint-4", LORA), join(at, LORA));
  await cp(join(folder, "sft", "checkpoint-4", "transformer"), join(at, "transformer"), { recursive: true });
  await flipTensor(LORA, /lora_A/)(at);
  await flipTensor(WEIGHTS, /proj_out/)(at);
  await assert.rejects(
    made.transformer.loadLoraAdapter(at),
    /SafetensorsError: .*lora_weights.*tensor "transformer\./,
  );
  await assert.rejects(
    CogVideoXTransformer3DModel.fromPretrained(join(at, "transformer")),
    /SafetensorsError: .*diffusion_pytorch_model\.safetensors: tensor "proj_out\.\w+": its bytes do not match/,
  );
});
