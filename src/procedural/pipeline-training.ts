import type { WorldName } from "./scene.js";

/** Bytes of a file of the stored weights: so many as can lie in a repository. */
export const MAX_SHARD_SIZE = 2_900_000;

const WORLDS_DRAWN: readonly WorldName[] = [
  ...(["plain", "paced", "pair", "textured", "turning"] as const),
  ...(["full", "full", "full"] as const),
];

/**
 * How a pipeline of procedural clips is made from nothing: a VAE of 4x in space, a T5 that can be read, and a transformer. Clips of the
 * plainer worlds are drawn beside those of the whole one, since they teach what it needs: which word moves which sprite.
 */
export const PIPELINE_TRAINING = {
  vae: { ratio: 4, trainSteps: 1800, imageSteps: 500, decaySteps: 800 },
  text: { textLayers: 3, textSteps: 1200 },
  transformer: { layers: 6, heads: 8, patchSize: 2 },
  training: {
    steps: 1500,
    batchSize: 32,
    learningRate: 3e-3,
    clips: 6000,
    worlds: WORLDS_DRAWN,
    world: "full" as WorldName,
    ...{ numFrames: 17, height: 64, width: 96, fps: 8 },
    evaluationSteps: 250,
    evaluationClips: 12,
  },
} as const;
