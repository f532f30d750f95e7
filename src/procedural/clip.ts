import { InputError } from "../engine/errors.js";
import { RandomGenerator } from "../engine/random.js";
import type { Clip, Size } from "../video/clip.js";
import { render, type SpriteTruth } from "./picture.js";
import { describe, drawScene, type Scene, WORLDS, type WorldName } from "./scene.js";

export interface ProceduralClipOptions extends Partial<Size> {
  /** Draws the scene; give this or `seed`. */
  readonly generator?: RandomGenerator;
  /** Default 0. */
  readonly seed?: number;
  /** Default 81, CogVideoX-1.5's five seconds. */
  readonly numFrames?: number;
  /** Default 16. */
  readonly fps?: number;
  /** 1 to 4. Default: drawn from the numbers that the world allows. */
  readonly numSprites?: number;
  /** What may be in the scene. Default "full": everything. */
  readonly world?: WorldName;
}

export interface ProceduralClip {
  readonly clip: Clip;
  /** Says what is there and how it moves. */
  readonly caption: string;
  /** The truth about each sprite: size, path and angle. */
  readonly sprites: readonly SpriteTruth[];
  /** What the clip shows at the start. */
  readonly scene: Scene;
}

/**
 * A clip made from a seed: textured sprites that drift, bounce under gravity or turn in front of a textured
 * background, across which the camera pans. The same seed gives the same scene at every size and length.
 *
 * @throws InputError for sizes, counts or rates that are not positive.
 */
export function proceduralClip(options: ProceduralClipOptions = {}): ProceduralClip {
  const { numFrames = 81, height = 128, width = 192, fps = 16, numSprites, world = "full" } = options;
  for (const [name, value] of Object.entries({ numFrames, height, width })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new InputError(`proceduralClip: expected ${name} to be a positive integer, found ${value}`);
    }
  }
  if (!(fps > 0)) throw new InputError(`proceduralClip: expected fps > 0, found ${fps}`);
  if (numSprites !== undefined && ![1, 2, 3, 4].includes(numSprites)) {
    throw new InputError(`proceduralClip: expected numSprites from 1 to 4, found ${numSprites}`);
  }
  if (!Object.hasOwn(WORLDS, world)) {
    const names = Object.keys(WORLDS).join(", ");
    throw new InputError(`proceduralClip: expected world to be one of ${names}, found ${world}`);
  }
  const random = options.generator ?? new RandomGenerator(options.seed ?? 0);
  const scene = drawScene(random, {
    aspect: width / height,
    world: WORLDS[world],
    ...(numSprites === undefined ? {} : { numSprites }),
  });
  return { ...render(scene, { numFrames, height, width, fps }), caption: describe(scene), scene };
}
