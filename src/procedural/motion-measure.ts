import { existsSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { InputError } from "../engine/errors.js";
import type { ValidationMeasure } from "../train/validation.js";
import { Clip } from "../video/clip.js";
import { readJsonObject } from "../weights/config.js";
import { type ProceduralClipOptions, proceduralClip } from "./clip.js";
import { emptyCounts, type MotionTruth, measureMotion, summarize, truthOf } from "./motion.js";

/** A file next to a data set's lists that says which scenes its clips show. */
export const SCENES_FILE = "procedural.json";

/** The content of that file. */
export interface ScenesFile {
  /** How all clips were made. */
  readonly scene: Omit<ProceduralClipOptions, "seed" | "generator">;
  /** Each clip's seed, by its path relative to the folder. */
  readonly seeds: Readonly<Record<string, number>>;
}

/**
 * Measures what sprites do in the samples of a training's validation: `sprites_left_1s`, how much of each is left after a
 * second, and `direction`, the share of them that went the right way by then.
 *
 * @param folder of the validation set.
 * @param log is told, once, of a clip that differs from what the generator makes, for instance because the training resizes
 *   it, and whose motion can't be measured.
 * @returns undefined unless the folder says which scenes its clips show.
 * @throws InputError naming the file that says so, if it is damaged.
 */
export async function motionMeasure(
  folder: string,
  log: (line: string) => void,
): Promise<ValidationMeasure | undefined> {
  const file = join(folder, SCENES_FILE);
  if (!existsSync(file)) return undefined;
  const { scene, seeds } = (await readJsonObject(file)) as Partial<Record<keyof ScenesFile, unknown>>;
  if (!isObject(scene) || !isObject(seeds) || !Object.values(seeds).every(Number.isSafeInteger))
    throw new InputError("expected a scene, and seeds by clip", { file });
  const truths = new Map<string, MotionTruth | undefined>();
  let warned = false;
  const truthFor = (video: string, reference: Clip): MotionTruth | undefined => {
    const name = relative(folder, video).split(sep).join("/");
    if (!Object.hasOwn(seeds, name)) return undefined;
    if (!truths.has(name)) {
      const made = proceduralClip({ ...(scene as ScenesFile["scene"]), seed: seeds[name] as number });
      const same = isSame(made.clip, reference);
      if (!same && !warned)
        log(`${video}: differs from what the generator makes, so its motion is not measured`);
      warned ||= !same;
      truths.set(name, same ? truthOf(made) : undefined);
    }
    return truths.get(name);
  };
  return (samples) => {
    const counts = emptyCounts();
    for (const { clip, video, reference } of samples) {
      const truth = video === undefined || reference === undefined ? undefined : truthFor(video, reference);
      // Samples are saved at a different frame rate.
      if (truth && clip.numFrames === truth.clip.numFrames)
        measureMotion(new Clip({ ...clip, fps: truth.clip.fps }), truth, counts);
    }
    const { sprites_left, direction } = summarize(counts);
    return {
      ...(sprites_left["1"] === null ? {} : { sprites_left_1s: sprites_left["1"] }),
      ...(direction === null ? {} : { direction }),
    };
  };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isSame = (a: Clip, b: Clip): boolean =>
  a.width === b.width && a.height === b.height && Buffer.compare(a.data, b.data) === 0;
