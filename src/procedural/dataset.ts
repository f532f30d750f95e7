import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../files/atomic.js";
import { writeClip } from "../video/write.js";
import { proceduralClip } from "./clip.js";
import { SCENES_FILE, type ScenesFile } from "./motion-measure.js";
import { HELD_OUT_SEED } from "./vae-training.js";

export interface ProceduralDatasetOptions {
  readonly out: string;
  /** Clips to train on. */
  readonly clips: number;
  /** Clips in `held-out` below `out`, which no training sees. */
  readonly heldOut: number;
  /** Clip i is made from seed + i, however many there are. */
  readonly seed: number;
  readonly scene: ScenesFile["scene"];
  readonly log: (line: string) => void;
}

/**
 * Writes procedural clips as a data set in the recipe's layout, as lossless animated WebP, and records which scenes they show,
 * so that a training that validates with them can measure motion. Held-out clips have seeds that the small VAE's training
 * avoids, too.
 */
export async function writeProceduralDataset(options: ProceduralDatasetOptions): Promise<void> {
  const { out, clips, heldOut, seed } = options;
  await writeSet(out, clips, seed, options);
  await writeSet(join(out, "held-out"), heldOut, HELD_OUT_SEED + seed, options);
}

/** Writes the lists last: a folder that has them is complete. */
async function writeSet(
  folder: string,
  count: number,
  firstSeed: number,
  { scene, log }: ProceduralDatasetOptions,
): Promise<void> {
  await mkdir(join(folder, "videos"), { recursive: true });
  const prompts: string[] = [];
  const videos: string[] = [];
  const seeds: Record<string, number> = {};
  for (let i = 0; i < count; i++) {
    const { clip, caption } = proceduralClip({ ...scene, seed: firstSeed + i });
    const name = `${String(i).padStart(5, "0")}.webp`;
    await writeClip(join(folder, "videos", name), clip, { lossless: true, effort: 0 });
    prompts.push(caption);
    videos.push(`videos/${name}`);
    seeds[`videos/${name}`] = firstSeed + i;
  }
  const scenes: ScenesFile = { scene, seeds };
  await writeFileAtomic(join(folder, SCENES_FILE), `${JSON.stringify(scenes, null, 1)}\n`);
  await writeFileAtomic(join(folder, "prompts.txt"), lines(prompts));
  await writeFileAtomic(join(folder, "videos.txt"), lines(videos));
  log(`${folder}: ${count} clips`);
}

const lines = (texts: readonly string[]): string => texts.map((text) => `${text}\n`).join("");
