/** Trains a VAE on procedural clips: the small one that the notebooks use. */
import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Generator, type GeneratorState } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import { AutoencoderKLCogVideoX, type AutoencoderKLCogVideoXConfig } from "../vae/autoencoder.js";
import { Clip } from "../video/clip.js";
import { proceduralClip } from "../video/procedural.js";
import { loadFile, saveFile } from "../weights/safetensors.js";
import { findCheckpoint, saveCheckpoint } from "./checkpoint.js";
import { getScheduler } from "./lr-scheduler.js";
import { psnr, ssim } from "./metrics.js";
import { Adam, clipFactor, gradNorm } from "./optimizer.js";

export interface VaeTrainingOptions {
  readonly config: Partial<AutoencoderKLCogVideoXConfig>;
  readonly outputDir: string;
  readonly seed: number;
  readonly trainSteps: number;
  readonly learningRate: number;
  readonly warmupSteps: number;
  /** Weight of the mean Kullback-Leibler divergence beside the mean squared error. */
  readonly klWeight: number;
  readonly checkpointingSteps: number;
  /** Side of the square crops. */
  readonly cropSize: number;
  /** Clips a step. */
  readonly batchSize: number;
}

/** Seeds from here on make the clips that are only measured on, never trained on. */
export const HELD_OUT_SEED = 1_000_000;

/** Heights that clips are drawn at before they are cropped, so that sprites come in several sizes. */
const HEIGHTS = [64, 96, 128];
/** Every fourth step sees a clip of more than one frame group, in which later groups follow the first. */
const LONG_EVERY = 4;

interface VaeTrainingState {
  readonly step: number;
  readonly generator: GeneratorState;
}

/** Quality of a VAE's reconstructions of clips it was not trained on. */
export interface VaeQuality {
  readonly psnr: number;
  readonly ssim: number;
}

/**
 * Trains from the newest checkpoint in `outputDir`, or from scratch, and yields once a step. Losses are appended to
 * `log.jsonl` there.
 */
export async function* trainVae(
  options: VaeTrainingOptions,
): AsyncGenerator<{ step: number; loss: number; vae: AutoencoderKLCogVideoX }> {
  const { outputDir, trainSteps, klWeight } = options;
  await mkdir(outputDir, { recursive: true });
  let generator = new Generator(options.seed);
  const vae = AutoencoderKLCogVideoX.fromConfig(options.config, generator);
  const parameters = [...vae.parameters.values()];
  const optimizer = new Adam("adamw", parameters, { betas: [0.9, 0.99], weightDecay: 1e-4 });
  const learningRate = getScheduler("cosine", {
    learningRate: options.learningRate,
    numWarmupSteps: options.warmupSteps,
    numTrainingSteps: trainSteps,
  });
  let step = 0;
  const found = await findCheckpoint(outputDir, "latest");
  if (found) {
    const state = JSON.parse(await readFile(join(found.path, "state.json"), "utf8")) as VaeTrainingState;
    await vae.loadWeights(join(found.path, "vae"));
    const moments = await loadFile(join(found.path, "optimizer.safetensors"));
    optimizer.loadState(moments, state.step);
    tf.dispose(moments);
    generator = Generator.fromState(state.generator);
    step = state.step;
  }
  const save = () =>
    saveCheckpoint(
      outputDir,
      step,
      async (folder) => {
        await vae.savePretrained(join(folder, "vae"));
        const moments = optimizer.stateTensors();
        await saveFile(moments, join(folder, "optimizer.safetensors"));
        tf.dispose(moments);
        const state: VaeTrainingState = { step, generator: generator.getState() };
        await writeFile(join(folder, "state.json"), JSON.stringify(state));
      },
      { limit: 2 },
    );
  try {
    while (step < trainSteps) {
      const long = step % LONG_EVERY === LONG_EVERY - 1;
      const video = drawCrops(generator, {
        count: long ? Math.max(1, options.batchSize >> 1) : options.batchSize,
        numFrames: long ? 17 : 9,
        size: options.cropSize,
      });
      const variables = parameters.map(({ value }) => value);
      let error = 0;
      let divergence = 0;
      const { value, grads } = tf.variableGrads(() => {
        const { latentDist } = vae.encode(video);
        const { sample } = vae.decode(latentDist.sample({ generator }));
        const squared = tf.mean(tf.square(tf.sub(sample, video)));
        const { mean, var: variance, logvar } = latentDist;
        const kl = tf.mul(tf.mean(tf.sub(tf.sub(tf.add(tf.square(mean), variance), 1), logvar)), 0.5);
        error = squared.dataSync()[0]!;
        divergence = kl.dataSync()[0]!;
        return tf.add(squared, tf.mul(kl, klWeight)).asScalar();
      }, variables);
      const loss = value.dataSync()[0]!;
      const raw = variables.map(({ name }) => grads[name]!);
      const norm = gradNorm(raw);
      tf.dispose([video, value]);
      if (!Number.isFinite(loss + norm))
        throw new Error(`step ${step}: the loss is ${loss}, the gradient's norm ${norm}`);
      const rate = learningRate(step);
      optimizer.step(raw, rate, clipFactor(norm, 1));
      tf.dispose(raw);
      step++;
      const line = { step, loss, mse: error, kl: divergence, grad_norm: norm, lr: rate };
      await appendFile(join(outputDir, "log.jsonl"), `${JSON.stringify(line)}\n`);
      if (step % options.checkpointingSteps === 0 || step === trainSteps) await save();
      yield { step, loss, vae };
    }
  } finally {
    optimizer.dispose();
    vae.dispose();
  }
}

/** Random crops of procedural clips, [B, 3, F, size, size] in [-1, 1]. */
function drawCrops(
  generator: Generator,
  { count, numFrames, size }: { count: number; numFrames: number; size: number },
): tf.Tensor5D {
  const clips = Array.from({ length: count }, () => {
    const height = HEIGHTS[generator.integer(0, HEIGHTS.length)]!;
    const width = (height * 3) / 2;
    const seed = generator.integer(0, HELD_OUT_SEED);
    const { clip } = proceduralClip({ seed, numFrames, height, width, fps: 16 });
    return clip.crop({
      top: generator.integer(0, height - size + 1),
      left: generator.integer(0, width - size + 1),
      height: size,
      width: size,
    });
  });
  return tf.tidy(() => tf.concat(clips.map((clip) => clip.toTensor())));
}

/** Encodes held-out clips to the posterior's mode, decodes them, and compares. */
export function evaluateVae(
  vae: AutoencoderKLCogVideoX,
  { clips, numFrames, height, width }: { clips: number; numFrames: number; height: number; width: number },
): VaeQuality {
  let [decibels, similarity] = [0, 0];
  for (let i = 0; i < clips; i++) {
    const { clip } = proceduralClip({ seed: HELD_OUT_SEED + i, numFrames, height, width });
    const decoded = tf.tidy(() => vae.forward(clip.toTensor()).sample);
    const back = Clip.fromTensor(decoded, clip);
    decoded.dispose();
    decibels += psnr(clip, back) / clips;
    similarity += ssim(clip, back) / clips;
  }
  return { psnr: decibels, ssim: similarity };
}

/** 1 / the standard deviation of latents over clips: what `scaling_factor` has to be for latents of variance 1. */
export function measureScalingFactor(
  vae: AutoencoderKLCogVideoX,
  { clips, numFrames, height, width }: { clips: number; numFrames: number; height: number; width: number },
): number {
  let [sum, squares, count] = [0, 0, 0];
  for (let seed = 0; seed < clips; seed++) {
    const { clip } = proceduralClip({ seed, numFrames, height, width });
    const values = tf.tidy(() => vae.encode(clip.toTensor()).latentDist.mode().dataSync());
    for (const value of values) {
      sum += value;
      squares += value * value;
    }
    count += values.length;
  }
  return 1 / Math.sqrt(squares / count - (sum / count) ** 2);
}
