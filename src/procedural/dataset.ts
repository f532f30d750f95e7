/**
 * Writes procedural clips as a data set in the recipe's layout, and clips that no training sees in `held-out` beside them:
 *
 *     node dist/src/procedural/dataset.js --out out/procedural --clips 1024 --held-out 32 --seed 0
 *
 * Clips are lossless animated WebP. Clip i is that of seed SEED + i, whatever the others are; held-out clips have the
 * seeds from which the small VAE's training stays away too.
 */
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeClip } from "../video/write.js";
import { proceduralClip } from "./clip.js";
import { HELD_OUT_SEED } from "./vae-training.js";

const { values } = parseArgs({
  options: {
    out: { type: "string", default: "out/procedural" },
    clips: { type: "string", default: "1024" },
    "held-out": { type: "string", default: "32" },
    seed: { type: "string", default: "0" },
    frames: { type: "string", default: "17" },
    height: { type: "string", default: "64" },
    width: { type: "string", default: "96" },
    fps: { type: "string", default: "8" },
    sprites: { type: "string" },
  },
});
const seed = Number(values.seed);
const scene = {
  numFrames: Number(values.frames),
  height: Number(values.height),
  width: Number(values.width),
  fps: Number(values.fps),
  numSprites: values.sprites === undefined ? undefined : Number(values.sprites),
};
await writeSet(values.out, Number(values.clips), seed);
await writeSet(join(values.out, "held-out"), Number(values["held-out"]), HELD_OUT_SEED + seed);

/** The lists come last: a folder that has them is complete. */
async function writeSet(folder: string, count: number, firstSeed: number): Promise<void> {
  await mkdir(join(folder, "videos"), { recursive: true });
  const prompts: string[] = [];
  const videos: string[] = [];
  for (let i = 0; i < count; i++) {
    const { clip, caption } = proceduralClip({ ...scene, seed: firstSeed + i });
    const name = `${String(i).padStart(5, "0")}.webp`;
    await writeClip(join(folder, "videos", name), clip, { lossless: true, effort: 0 });
    prompts.push(caption);
    videos.push(`videos/${name}`);
  }
  await writeLines(join(folder, "prompts.txt"), prompts);
  await writeLines(join(folder, "videos.txt"), videos);
  console.log(`${folder}: ${count} clips`);
}

async function writeLines(path: string, lines: readonly string[]): Promise<void> {
  await rm(`${path}.tmp`, { force: true });
  await writeFile(`${path}.tmp`, lines.map((line) => `${line}\n`).join(""));
  await rename(`${path}.tmp`, path);
}
