import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { writeProceduralDataset } from "../../../src/procedural/dataset.js";
import { emptyCounts, measureMotion, summarize, truthOf } from "../../../src/procedural/motion.js";
import { motionMeasure, SCENES_FILE } from "../../../src/procedural/motion-measure.js";
import { HELD_OUT_SEED } from "../../../src/procedural/vae-training.js";
import { readDataset } from "../../../src/train/dataset.js";
import type { GeneratedSample } from "../../../src/train/validation.js";
import { Clip } from "../../../src/video/clip.js";
import { readClip } from "../../../src/video/read.js";
import { train, writeLoraTask } from "../train/command.js";

let folder = "";
let heldOut = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-measure-"));
  await writeLoraTask(folder);
  heldOut = join(folder, "toy", "held-out");
  // Nine frames of the eight that a second has: the last is one second after the first.
  const scene = { numFrames: 9, height: 32, width: 48, fps: 8 };
  await writeProceduralDataset({
    out: join(folder, "toy"),
    clips: 2,
    heldOut: 4,
    seed: 3,
    scene,
    log: () => {},
  });
});
after(() => rm(folder, { recursive: true, force: true }));

/** What a validation hands over where `change` was generated. */
async function samplesOf(change: (clip: Clip) => Clip): Promise<GeneratedSample[]> {
  const samples: GeneratedSample[] = [];
  for (const { prompt, video } of await readDataset({ dataRoot: heldOut })) {
    const reference = await readClip(video);
    // Training saves its samples at another rate than that of the clips.
    const clip = new Clip({ ...change(reference), fps: 15 });
    samples.push({ prompt, video, reference, image: reference.slice(0, 1), clip });
  }
  return samples;
}

test("samples are held against the scenes that the folder names", async () => {
  const lines: string[] = [];
  const measure = (await motionMeasure(heldOut, (line) => lines.push(line)))!;
  assert.deepEqual(await measure(await samplesOf((clip) => clip)), { sprites_left_1s: 1, direction: 1 });
  const frozen = await samplesOf((clip) => clip.select(Array(9).fill(0)));
  assert.equal((await measure(frozen)).direction, 0);
  const gone = await samplesOf((clip) => new Clip({ ...clip, data: clip.data.map(() => 128) }));
  assert.ok((await measure(gone)).sprites_left_1s! < 0.1);

  // By hand: the same seeds, from the first held-out one.
  const counts = emptyCounts();
  for (const [i, { clip }] of frozen.entries()) {
    const made = proceduralClip({ numFrames: 9, height: 32, width: 48, fps: 8, seed: HELD_OUT_SEED + 3 + i });
    measureMotion(new Clip({ ...clip, fps: 8 }), truthOf(made), counts);
  }
  const { sprites_left, direction } = summarize(counts);
  assert.deepEqual(await measure(frozen), { sprites_left_1s: sprites_left["1"], direction });
  assert.deepEqual(lines, []);
});

test("clips that the folder does not name, or that training changes, are left out", async () => {
  const lines: string[] = [];
  const measure = (await motionMeasure(heldOut, (line) => lines.push(line)))!;
  const samples = await samplesOf((clip) => clip);
  const others = samples.map((sample) => ({ ...sample, video: join(folder, "data", "videos", "0.webp") }));
  assert.deepEqual(await measure(others), {});
  assert.deepEqual(await measure(samples.map(({ video, reference, ...rest }) => rest)), {});
  assert.deepEqual(lines, []);
  const resized = samples.map((sample) => {
    const half = (clip: Clip) => clip.resize({ height: 16, width: 24 });
    return { ...sample, clip: half(sample.clip), reference: half(sample.reference!) };
  });
  assert.deepEqual(await measure(resized), {});
  assert.deepEqual(await measure(resized), {});
  assert.deepEqual(lines, [
    `${join(heldOut, "videos", "00000.webp")}: differs from what the generator makes, so its motion is not measured`,
  ]);
  assert.equal(await motionMeasure(join(folder, "data"), assert.fail), undefined);
});

const validation = () => [
  ...["--config", join(folder, "lora.yaml"), "--do_validation", "true", "--validation_steps", "3"],
  ...["--validation_dir", heldOut, "--validation_prompts", "prompts.txt"],
  ...["--validation_videos", "videos.txt", "--num_inference_steps", "2", "--train_steps", "3"],
];

test("train logs them beside its own measures", async () => {
  const outputDir = join(folder, "run");
  const { code, stdout, stderr } = await train([...validation(), "--output_dir", outputDir]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /validation at step 3: .*psnr \d.* sprites_left_1s \d\.\d+ {2}direction \d\.\d+$/m);
  const rows = (await readFile(join(outputDir, "logs", "metrics.jsonl"), "utf8")).trimEnd().split("\n");
  const row = rows
    .map((line) => JSON.parse(line) as Record<string, number>)
    .find((each) => each["validation/psnr"] !== undefined)!;
  assert.equal(row.step, 3);
  for (const name of ["validation/sprites_left_1s", "validation/direction"])
    assert.ok(row[name]! >= 0 && row[name]! <= 1, `${name}: ${row[name]}`);
});

test("a damaged list of scenes is said by name", async () => {
  const file = join(heldOut, SCENES_FILE);
  const text = await readFile(file, "utf8");
  try {
    await writeFile(file, '{ "scene": {} }');
    await assert.rejects(motionMeasure(heldOut, assert.fail), {
      name: "InputError",
      message: `${file}: expected a scene, and seeds by clip`,
    });
    await writeFile(file, "{");
    const { code, stderr } = await train([...validation(), "--output_dir", join(folder, "refused")]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /^firstframe: .*held-out\/procedural\.json: not valid JSON/m);
  } finally {
    await writeFile(file, text);
  }
});
