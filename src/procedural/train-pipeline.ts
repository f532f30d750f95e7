import { existsSync } from "node:fs";
import { join } from "node:path";
import { makeSmallPipeline } from "./pipeline.js";
import { PIPELINE_TRAINING } from "./pipeline-training.js";
import { WORLD_NAMES } from "./scene.js";
import { trainTransformer } from "./train-transformer.js";
import { trainSmallVae } from "./train-vae.js";

export interface TrainPipelineOptions {
  /** The pipeline's folder. What is there already is not trained again. */
  readonly out: string;
  /** Where checkpoints, losses and pictures go. */
  readonly work: string;
  readonly seed: number;
  /** Optimizer steps of the VAE, of T5 and of the transformer. Default: those of {@link PIPELINE_TRAINING}. */
  readonly vaeSteps: number;
  readonly textSteps: number;
  readonly steps: number;
  /** Held-out clips of each look at how sprites move. */
  readonly evaluationClips: number;
  readonly log: (line: string) => void;
}

/**
 * Trains a pipeline from nothing, part by part: each goes on where it was stopped, and one that is in `out` is taken as it is.
 *
 * @throws ResumeError if `work` holds a training with other options.
 */
export async function trainPipeline(options: TrainPipelineOptions): Promise<void> {
  const { out, work, seed, log } = options;
  const { vae, text, transformer, training } = PIPELINE_TRAINING;
  if (existsSync(join(out, "vae", "config.json"))) log(`${join(out, "vae")} is there`);
  else {
    // Of a shorter training, every part is as much shorter.
    const part = (steps: number) => Math.max(1, Math.round((steps * options.vaeSteps) / vae.trainSteps));
    await trainSmallVae({
      ...{ seed, out, log, ratio: vae.ratio, work: join(work, "vae"), exportOnly: false },
      trainSteps: options.vaeSteps,
      imageSteps: part(vae.imageSteps),
      decaySteps: part(vae.decaySteps),
    });
  }
  if (existsSync(join(out, "model_index.json"))) log(`${join(out, "text_encoder")} is there`);
  else {
    await makeSmallPipeline({
      ...{ out, seed, log, worlds: WORLD_NAMES, ...text, ...transformer },
      textSteps: options.textSteps,
    });
  }
  await trainTransformer({
    ...{ ...training, model: out, work: join(work, "transformer"), seed, log },
    steps: options.steps,
    evaluationClips: options.evaluationClips,
    lrScheduler: "cosine",
    mixedPrecision: "bf16",
  });
}
