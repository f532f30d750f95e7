import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { type DatasetEntry, parseBucket, readDataset } from "../../../src/train/dataset.js";
import { CachedData, LatentCache, type LatentCacheOptions } from "../../../src/train/latent-cache.js";
import { writeClip } from "../../../src/video/write.js";
import { captionEmbedding, tinyModels, writeDataset } from "./tiny.js";

let made: ReturnType<typeof tinyModels>;
const models = () => made;
const bucket = parseBucket("9x32x48");
let folder = "";
let entries: DatasetEntry[] = [];
before(async () => {
  await useEngine();
  made = tinyModels();
  folder = await mkdtemp(join(tmpdir(), "firstframe-cache-"));
  await writeDataset(join(folder, "data"), 3);
  entries = await readDataset({ dataRoot: join(folder, "data") });
});
after(async () => {
  models().dispose();
  await rm(folder, { recursive: true, force: true });
});

const promptEncoder = { id: "words", encode: async (prompt: string) => captionEmbedding(prompt) };
const open = (cacheDir: string, options: Partial<LatentCacheOptions> = {}) =>
  LatentCache.open({ cacheDir, modelName: "tiny", vae: models().vae, promptEncoder, ...options });

async function fill(cache: LatentCache, which = entries) {
  const done = [];
  for (const entry of which) done.push(await cache.ensure(entry, bucket));
  return done;
}

test("each clip is encoded once, and what is read back is what was encoded", async () => {
  const before = tf.memory().numTensors;
  const cacheDir = join(folder, "once");
  const first = await fill(await open(cacheDir));
  assert.deepEqual(
    first.map(({ encoded }) => encoded),
    [true, true, true],
  );
  assert.match(first[0]!.report, /videos\/0\.webp: 9 frames 48x32/);
  const second = await fill(await open(cacheDir));
  assert.deepEqual(
    second.map(({ encoded }) => encoded),
    [false, false, false],
  );
  assert.deepEqual(
    second.map(({ report }) => report),
    first.map(({ report }) => report),
  );
  assert.equal(
    tf.memory().numTensors,
    before + (await models().vae.parameters.size) * 0,
    "tensors left behind",
  );

  const data = new CachedData(second);
  const sample = await data.load(1);
  assert.deepEqual(sample.encodedVideo.shape, [4, 3, 4, 6]);
  assert.deepEqual(sample.image.shape, [3, 32, 48]);
  const { clip, caption } = proceduralClip({ seed: 1, numFrames: 9, height: 32, width: 48 });
  const image = tf.tidy(() => tf.squeeze(clip.slice(0, 1).toTensor(), [0, 2]));
  const difference = tf.tidy(() => tf.max(tf.abs(tf.sub(sample.image, image))).dataSync()[0]!);
  assert.ok(difference < 1e-6, `image differs by ${difference}`);
  assert.deepEqual(sample.promptEmbedding.dataSync(), captionEmbedding(caption).dataSync());
});

test("another order, another machine: the same bytes", async () => {
  const [a, b] = [join(folder, "order-a"), join(folder, "order-b")];
  await fill(await open(a));
  await fill(await open(b), entries.toReversed());
  const files = async (dir: string) =>
    (await readdir(dir, { recursive: true })).filter((name) => name.endsWith(".safetensors")).sort();
  assert.deepEqual(await files(a), await files(b));
  for (const name of await files(a)) {
    const [one, other] = [await readFile(join(a, name)), await readFile(join(b, name))];
    assert.ok(one.equals(other), `${name} differs`);
  }
});

test("a changed clip, prompt, setting or model is encoded again, and nothing else", async () => {
  const dataRoot = join(folder, "changing");
  await cp(join(folder, "data"), dataRoot, { recursive: true });
  const cacheDir = join(dataRoot, "cache");
  const own = await readDataset({ dataRoot });
  await fill(await open(cacheDir), own);
  const encoded = async (options: Partial<LatentCacheOptions> = {}, which = own) =>
    (await fill(await open(cacheDir, options), which)).map((result) => result.encoded);

  // Touched, but with the same bytes.
  await utimes(own[0]!.video, new Date(), new Date(Date.now() - 5000));
  assert.deepEqual(await encoded(), [false, false, false]);
  const { clip } = proceduralClip({ seed: 77, numFrames: 9, height: 32, width: 48 });
  await writeClip(own[0]!.video, clip, { lossless: true });
  assert.deepEqual(await encoded(), [true, false, false]);
  assert.deepEqual(await encoded({}, [own[0]!, { ...own[1]!, prompt: "something else" }, own[2]!]), [
    false,
    true,
    false,
  ]);
  assert.deepEqual(await encoded({ fit: "crop" }), [true, true, true]);
  assert.deepEqual(await encoded({ promptEncoder: { ...promptEncoder, id: "others" } }), [true, true, true]);
  const other = tinyModels(8);
  assert.deepEqual(await encoded({ vae: other.vae }), [true, true, true]);
  other.dispose();
  models().vae.enableSlicing();
  assert.deepEqual(await encoded(), [true, true, true]);
  models().vae.disableSlicing();
  assert.deepEqual(await encoded(), [false, false, false]);
});

test("a damaged file is encoded again", async () => {
  const cacheDir = join(folder, "damaged");
  const [first] = await fill(await open(cacheDir));
  await truncate(first!.latentPath, 100);
  await writeFile(first!.promptPath, "garbage");
  const [again, second] = await fill(await open(cacheDir));
  assert.deepEqual([again!.encoded, second!.encoded], [true, false]);
  await new CachedData([again!]).load(0);
});

test("killed while it writes, the cache loses only the clip at hand", async () => {
  const cacheDir = join(folder, "killed");
  const script = fileURLToPath(new URL("./fill-cache.js", import.meta.url));
  let whole = 0;
  for (let attempt = 0; attempt < 3; attempt++) {
    const child = spawn(process.execPath, [script, join(folder, "data"), cacheDir], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    // It says when it is about to write; kill it in different places after that.
    await new Promise<void>((done) => {
      child.stdout.once("data", () =>
        setTimeout(() => {
          child.kill("SIGKILL");
        }, attempt * 40),
      );
      child.once("exit", () => done());
    });
    const found = await fillOnlyWhole(cacheDir);
    assert.ok(found >= whole, `${found} entries after ${whole}`);
    whole = found;
  }
  const results = await fill(await open(cacheDir));
  for (let i = 0; i < results.length; i++) await new CachedData(results).load(i);
});

/** How many latents are whole; every file under its final name has to be. */
async function fillOnlyWhole(cacheDir: string): Promise<number> {
  const cache = await open(cacheDir);
  const present = await Promise.all(entries.map((entry) => cache.has(entry, bucket)));
  const names = await readdir(cacheDir, { recursive: true }).catch(() => []);
  const latents = names.filter((name) => name.includes("video_latent") && name.endsWith(".safetensors"));
  assert.ok(latents.length >= present.filter(Boolean).length);
  return present.filter(Boolean).length;
}
