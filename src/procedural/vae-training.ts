/** Trains a VAE on procedural clips: the small one that the notebooks use. */

import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { variableGrads } from "../engine/ops/tape.js";
import { type GeneratorState, RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import { AutoencoderKLCogVideoX, type AutoencoderKLCogVideoXConfig } from "../models/vae/autoencoder.js";
import type { Parameter } from "../nn/module.js";
import { WORK_SPELLING } from "../train/arguments.js";
import { checkpointsToResume, saveCheckpoint } from "../train/checkpoint.js";
import { canonicalJson } from "../train/fingerprint.js";
import { DivergenceError } from "../train/guard.js";
import { getScheduler } from "../train/lr-scheduler.js";
import { psnr, ssim } from "../train/metrics.js";
import { Muon } from "../train/muon.js";
import { Adam, clipFactor, gradNorm } from "../train/optimizer.js";
import { lockOutput } from "../train/output-lock.js";
import { type ResumableState, type RunFingerprint, resumeFrom } from "../train/resume.js";
import { Clip } from "../video/clip.js";
import { loadFile, saveFile } from "../weights/safetensors.js";
import { proceduralClip } from "./clip.js";

export interface VaeTrainingOptions {
  readonly config: Partial<AutoencoderKLCogVideoXConfig>;
  readonly outputDir: string;
  /** A VAE's folder to begin with. Default: random weights. */
  readonly from?: string | undefined;
  readonly seed: number;
  readonly trainSteps: number;
  /**
   * Steps at the start that see single images: these cost a third of clips with as many frames, no two look alike, and
   * what they teach about space holds for clips too, since a convolution over equal frames is one with its kernel's sum.
   */
  readonly imageSteps: number;
  /** Muon's, for the kernels between the first and the last. */
  readonly muonLearningRate: number;
  /** AdamW's, for everything else. */
  readonly learningRate: number;
  /** A factor on both for steps with clips: a step has fewer clips than images, so its gradients are noisier. */
  readonly clipRate: number;
  /** Steps in which the learning rate rises from 0. */
  readonly warmupSteps: number;
  /** Last steps, in which it falls to 0. In between it is constant, so a run can be made longer until it starts to fall. */
  readonly decaySteps: number;
  /** Weight of the mean Kullback-Leibler divergence against the mean squared error. */
  readonly klWeight: number;
  /**
   * Weight of the mean squared error of what changes from frame to frame, against that of the frames. Most of a clip stands still,
   * so the frames' own error hardly tells whether a sprite moves inside a group of four frames or fades from one to the next.
   */
  readonly changeWeight: number;
  /** Frames per second of the clips; each clip's is drawn from these. */
  readonly frameRates: readonly number[];
  readonly checkpointingSteps: number;
  /** Side of the square crops. */
  readonly cropSize: number;
  /** Clips per step. */
  readonly batchSize: number;
  /** Images per step. */
  readonly imageBatchSize: number;
}

/** Seeds from here on make clips that are only for measuring, never for training. */
export const HELD_OUT_SEED = 1_000_000;

/** Heights that clips are rendered at before cropping, so that sprites come in several sizes, mostly small ones. */
const HEIGHTS = [64, 64, 64, 96, 128];
/** Every other step with clips sees longer ones, with several frame groups, so that later groups are trained too. */
const LONG_EVERY = 2;

interface VaeTrainingState extends ResumableState {
  readonly generator: GeneratorState;
}

/** Quality of a VAE's reconstructions of clips it was not trained on. */
export interface VaeQuality {
  readonly psnr: number;
  readonly ssim: number;
  /** Mean absolute difference of neighbouring frames, relative to that of the clips themselves. Flicker adds to it. */
  readonly change: number;
  /** Slope of the differences of neighbouring frames over the clips' own, by least squares: 1 for all motion, 0 for none. */
  readonly changeSlope: number;
}

/**
 * Trains from the newest checkpoint in `outputDir`, or from scratch, and yields once per step. Losses are appended to
 * `log.jsonl` there.
 *
 * @throws ResumeError if the checkpoints there were made with other options. The length of the training may differ.
 */
export async function* trainVae(options: VaeTrainingOptions): AsyncGenerator<VaeTrainingStep> {
  const lock = await lockOutput(options.outputDir, console.warn);
  try {
    yield* trainInOwnFolder(options);
  } finally {
    lock.release();
  }
}

interface VaeTrainingStep {
  readonly step: number;
  readonly mse: number;
  readonly vae: AutoencoderKLCogVideoX;
}

async function* trainInOwnFolder(options: VaeTrainingOptions): AsyncGenerator<VaeTrainingStep> {
  const { outputDir, trainSteps, decaySteps, checkpointingSteps, klWeight, changeWeight, ...rest } = options;
  const fingerprint: RunFingerprint = {
    arguments: {
      ...{ ...rest, klWeight, changeWeight },
      frameRates: rest.frameRates.join(),
      config: canonicalJson(options.config),
    },
  };
  let generator = new RandomGenerator(options.seed);
  const vae = AutoencoderKLCogVideoX.fromConfig(options.config, generator);
  if (options.from === undefined) prepareWeights(vae);
  else await vae.loadWeights(options.from);
  const parameters = [...vae.parameters.values()];
  const inner = parameters.filter(isInnerKernel);
  const outer = parameters.filter((parameter) => !isInnerKernel(parameter));
  const muon = new Muon(inner, { momentum: 0.9 });
  const adam = new Adam("adamw", outer, { betas: [0.9, 0.99], weightDecay: 1e-4 });
  const rise = getScheduler("constant_with_warmup", { learningRate: 1, numWarmupSteps: options.warmupSteps });
  const schedule = (step: number) =>
    rise(step + 1) *
    Math.min(1, (trainSteps - step) / decaySteps) *
    (step < options.imageSteps ? 1 : options.clipRate);
  let step = 0;
  const save = () => {
    const state: VaeTrainingState = { fingerprint, generator: generator.getState() };
    return saveCheckpoint(
      outputDir,
      step,
      state,
      async (folder) => {
        await vae.savePretrained(join(folder, "vae"));
        const moments = { ...adam.stateTensors(), ...muon.stateTensors() };
        await saveFile(moments, join(folder, "optimizer.safetensors"));
        tf.dispose(moments);
      },
      { limit: 2 },
    );
  };
  try {
    const spelling = WORK_SPELLING;
    const places = await checkpointsToResume(outputDir, { resumeFromCheckpoint: "latest" }, { spelling });
    const log = console.warn;
    await resumeFrom<VaeTrainingState>(places, fingerprint, { spelling, log }, async (place, state) => {
      await vae.loadWeights(join(place.path, "vae"));
      const moments = await loadFile(join(place.path, "optimizer.safetensors"));
      const isMomentum = ([key]: [string, tf.Tensor]) => key.endsWith(".momentum_buffer");
      const entries = Object.entries(moments);
      muon.loadState(Object.fromEntries(entries.filter(isMomentum)));
      adam.loadState(Object.fromEntries(entries.filter((entry) => !isMomentum(entry))), place.step);
      tf.dispose(moments);
      generator = RandomGenerator.fromState(state.generator);
      step = place.step;
    });
    while (step < trainSteps) {
      if (step === options.imageSteps && options.from === undefined) seeNowOnly(vae);
      const images = step < options.imageSteps;
      const long = !images && step % LONG_EVERY === LONG_EVERY - 1;
      const { batchSize } = options;
      const video = drawCrops(generator, {
        count: images ? options.imageBatchSize : long ? Math.max(1, batchSize >> 1) : batchSize,
        numFrames: images ? 1 : long ? 17 : 9,
        size: options.cropSize,
        frameRates: options.frameRates,
      });
      const variables = parameters.map(({ value }) => value);
      let error = 0;
      let divergence = 0;
      const { value, grads } = variableGrads(() => {
        const { latentDist } = vae.encode(video);
        const { sample } = vae.decode(latentDist.sample({ generator }));
        const squared = tf.mean(tf.square(tf.sub(sample, video)));
        const { mean, var: variance, logvar } = latentDist;
        const kl = tf.mul(tf.mean(tf.sub(tf.sub(tf.add(tf.square(mean), variance), 1), logvar)), 0.5);
        error = squared.dataSync()[0]!;
        divergence = kl.dataSync()[0]!;
        const wrong = images ? squared : tf.add(squared, tf.mul(changeError(sample, video), changeWeight));
        return tf.add(wrong, tf.mul(kl, klWeight)).asScalar();
      }, variables);
      const loss = value.dataSync()[0]!;
      const gradientOf = ({ value }: Parameter) => grads[(value as tf.Variable).name]!;
      const raw = outer.map(gradientOf);
      const norm = gradNorm(parameters.map(gradientOf));
      tf.dispose([video, value]);
      if (!Number.isFinite(loss + norm))
        throw new DivergenceError(`step ${step}: the loss is ${loss}, the gradient's norm ${norm}`);
      const factor = schedule(step);
      muon.step(inner.map(gradientOf), factor * options.muonLearningRate);
      const rate = factor * options.learningRate;
      adam.step(raw, rate, clipFactor(gradNorm(raw), 1));
      tf.dispose(grads);
      step++;
      const line = { step, loss, mse: error, kl: divergence, grad_norm: norm, lr: rate };
      await appendFile(join(outputDir, "log.jsonl"), `${JSON.stringify(line)}\n`);
      if (step % checkpointingSteps === 0 || step === trainSteps) await save();
      yield { step, mse: error, vae };
    }
  } finally {
    muon.dispose();
    adam.dispose();
    vae.dispose();
  }
}

/** Muon is for matrices inside a network; vectors and the layers at its two ends, which hold colours, are AdamW's. */
const isInnerKernel = ({ name, shape }: Parameter): boolean =>
  shape.length > 1 && !/^(encoder\.conv_in|decoder\.conv_out)\./.test(name);

/** PyTorch draws initial weights uniformly within 1 / sqrt(fan in); this factor brings their variance to 1 / fan in. */
const GAIN = Math.sqrt(3);
/** The posterior's initial log variance, while its mean's variance is near 1: with little noise, learning starts sooner. */
const FIRST_LOGVAR = -4;

/**
 * Makes new weights quick to train: residual blocks that change nothing yet, so that the network is nearly linear; signals that
 * keep their size; spatial norms that hardly depend on the latent; latents with little noise.
 */
function prepareWeights(vae: AutoencoderKLCogVideoX): void {
  const { latent_channels: channels } = vae.config;
  for (const { name, value } of vae.parameters.values()) {
    tf.tidy(() => {
      if (/\.conv2\.conv\.weight$/.test(name)) value.assign(tf.zerosLike(value));
      else if (/\.conv_[yb]\.conv\.weight$/.test(name)) value.assign(tf.mul(value, 0.3));
      else if (/\.conv_y\.conv\.bias$/.test(name)) value.assign(tf.onesLike(value));
      else if (/\.conv_b\.conv\.bias$/.test(name)) value.assign(tf.zerosLike(value));
      else if (name === "encoder.conv_out.conv.bias")
        value.assign(tf.concat([tf.zeros([channels]), tf.fill([channels], FIRST_LOGVAR)]));
      else if (/weight$/.test(name) && value.rank > 1) value.assign(tf.mul(value, GAIN));
    });
  }
}

/**
 * Moves the causal convolutions' kernels to their last time, the frame itself. For images, whose past is the image itself, that
 * changes nothing; clips are now coded frame by frame, until training finds a use for earlier frames. (Measured: the first ten
 * steps with clips have two fifths of the error that they have with the kernels as they were.)
 */
function seeNowOnly(vae: AutoencoderKLCogVideoX): void {
  for (const { value } of vae.parameters.values()) {
    if (value.rank !== 5) continue;
    const [times, ...rest] = value.shape as [number, number, number, number, number]; // time is memory's first axis
    tf.tidy(() =>
      value.assign(tf.concat([tf.zeros([times - 1, ...rest]), tf.expandDims(tf.sum(value, 0), 0)], 0)),
    );
  }
}

/** Mean squared error of the differences of neighbouring frames. */
const changeError = (sample: tf.Tensor5D, video: tf.Tensor5D): tf.Tensor =>
  tf.mean(tf.square(changeOf(tf.sub(sample, video))));

/** [B, C, F, H, W] to [B, C, F - 1, H, W]: each frame after the first less the one before. */
function changeOf(video: tf.Tensor5D): tf.Tensor5D {
  const [batch, channels, frames, ...size] = video.shape;
  const part = (from: number) => tf.slice(video, [0, 0, from, 0, 0], [batch, channels, frames - 1, ...size]);
  return tf.sub(part(1), part(0));
}

/** Random crops of procedural clips, [B, 3, F, size, size] in [-1, 1]. */
function drawCrops(
  generator: RandomGenerator,
  options: { count: number; numFrames: number; size: number; frameRates: readonly number[] },
): tf.Tensor5D {
  const { count, numFrames, size, frameRates } = options;
  const clips = Array.from({ length: count }, () => {
    const height = HEIGHTS[generator.integer(0, HEIGHTS.length)]!;
    const width = (height * 3) / 2;
    const seed = generator.integer(0, HELD_OUT_SEED);
    const fps = frameRates[frameRates.length === 1 ? 0 : generator.integer(0, frameRates.length)]!;
    const { clip } = proceduralClip({ seed, numFrames, height, width, fps });
    return clip.crop({
      top: generator.integer(0, height - size + 1),
      left: generator.integer(0, width - size + 1),
      height: size,
      width: size,
    });
  });
  return tf.tidy(() => tf.concat(clips.map((clip) => clip.toTensor())));
}

/** Clips to measure a VAE with. */
export interface HeldOutSize {
  readonly clips: number;
  readonly numFrames: number;
  readonly height: number;
  readonly width: number;
  /** Default 16. */
  readonly fps?: number;
}

/** Encodes held-out clips to the posterior's mode, decodes them, and compares. */
export function evaluateVae(vae: AutoencoderKLCogVideoX, { clips, ...size }: HeldOutSize): VaeQuality {
  let [decibels, similarity] = [0, 0];
  const change = { decoded: 0, true: 0, product: 0, square: 0 };
  for (let i = 0; i < clips; i++) {
    const { clip } = proceduralClip({ seed: HELD_OUT_SEED + i, ...size });
    const video = clip.toTensor();
    const decoded = tf.tidy(() => vae.forward(video).sample);
    const back = Clip.fromTensor(decoded, clip);
    decibels += psnr(clip, back) / clips;
    similarity += ssim(clip, back) / clips;
    const [ours, truth] = [decoded, video].map((each) => tf.tidy(() => changeOf(each).dataSync()));
    for (let at = 0; at < truth!.length; at++) {
      change.decoded += Math.abs(ours![at]!);
      change.true += Math.abs(truth![at]!);
      change.product += ours![at]! * truth![at]!;
      change.square += truth![at]! ** 2;
    }
    tf.dispose([video, decoded]);
  }
  return {
    psnr: decibels,
    ssim: similarity,
    change: change.decoded / change.true,
    changeSlope: change.product / change.square,
  };
}

/** 1 / the standard deviation of latents over clips: what `scaling_factor` has to be for latents of variance 1. */
export function measureScalingFactor(vae: AutoencoderKLCogVideoX, { clips, ...size }: HeldOutSize): number {
  let [sum, squares, count] = [0, 0, 0];
  for (let seed = 0; seed < clips; seed++) {
    const { clip } = proceduralClip({ seed, ...size });
    const values = tf.tidy(() => vae.encode(clip.toTensor()).latentDist.mode().dataSync());
    for (const value of values) {
      sum += value;
      squares += value * value;
    }
    count += values.length;
  }
  return 1 / Math.sqrt(squares / count - (sum / count) ** 2);
}
