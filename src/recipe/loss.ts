/** The training loss of CogVideoX image-to-video, step by step as the recipe's trainer computes it. */
import { InputError } from "../engine/errors.js";
import type { RotaryTables } from "../engine/ops/rotary/rotary.js";
import type { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import {
  concatImageLatents,
  encodeConditioningImage,
  type ImageEncoder,
  imageLatentScale,
  ofsFor,
  placeImageLatent,
} from "./conditioning.js";
import { dropDuplicatedFrames, padFrames } from "./first-frame.js";
import { type LatentSize, paddedFrames } from "./geometry.js";
import { type ImageNoiseDraws, imageNoiseSigmas } from "./image-noise.js";
import type { ImageNoiseDistribution, ImagePlace, Padding } from "./rules.js";

/** What predicts the velocity: the part of CogVideoXTransformer3DModel that the loss needs. */
export interface Denoiser {
  readonly config: { readonly patch_size_t: number | null; readonly ofs_embed_dim: number | null };
  /** Null for a model without rotary positions. */
  rotaryTables(size: LatentSize, use: "training" | "inference"): RotaryTables | null;
  forward(inputs: {
    readonly hiddenStates: tf.Tensor5D;
    readonly encoderHiddenStates: tf.Tensor3D;
    readonly timestep: readonly number[];
    readonly ofs: number | null;
    readonly imageRotaryEmb: RotaryTables | null;
    readonly generator?: RandomGenerator;
  }): { readonly sample: tf.Tensor5D };
}

/** The diffusion process: the part of a scheduler that the loss needs. */
export interface NoiseProcess {
  /** Training timesteps. */
  readonly length: number;
  /** Of each timestep, in float64. */
  readonly alphasCumprod: Float64Array;
  addNoise<T extends tf.Tensor>(original: T, noise: T, timesteps: readonly number[]): T;
  getVelocity<T extends tf.Tensor>(sample: T, noise: T, timesteps: readonly number[]): T;
}

export interface LossModels {
  readonly vae: ImageEncoder;
  readonly transformer: Denoiser;
  readonly scheduler: NoiseProcess;
}

/** Clips of one size, already encoded: what the latent cache holds. */
export interface TrainingBatch {
  /** Posterior samples times `scaling_factor`: [B, C, F, h, w]. */
  readonly encodedVideos: tf.Tensor5D;
  /** [B, tokens, text_embed_dim] */
  readonly promptEmbedding: tf.Tensor3D;
  /** First frames in [-1, 1]: [B, 3, H, W]. */
  readonly images: tf.Tensor4D;
}

/** Every random draw of one loss. */
export interface LossDraws {
  /** Standard normal z, one for the whole batch; sigma = exp(-3 + 0.5 z), or what {@link imageNoiseSigmas} makes of it. */
  readonly imageNoiseSigmaNormal: number;
  /** [B, 3, 1, H, W] */
  readonly imageNoise: tf.Tensor5D;
  /** The image latent's posterior draw: [B, C, 1, h, w]. */
  readonly imagePosteriorNoise: tf.Tensor5D;
  /** Diffusion steps, one per sample, from 0 to num_train_timesteps - 1. */
  readonly timesteps: readonly number[];
  /** [B, F, C, h, w], the frames already padded for the temporal patches. */
  readonly diffusionNoise: tf.Tensor5D;
  /** Samples whose image latent is replaced by zeros. Default: none. */
  readonly dropImage?: readonly boolean[];
  /** Samples whose caption is taken for the empty one by {@link dropCaptions}. Default: none. */
  readonly dropCaption?: readonly boolean[];
}

/** How the draws are made. The defaults are the recipe's, and what is switched off draws nothing. */
export interface DrawOptions {
  /** Probability with which a sample's image latent is replaced by zeros. */
  readonly imageDropout?: number;
  /** Probability with which a sample's caption is replaced by the empty one. */
  readonly captionDropout?: number;
  /** Probability of each training timestep; they sum to 1. Default: all are alike. */
  readonly timestepWeights?: Float64Array;
  /** The batch is a part of a larger one. All of that is drawn, and the batch gets its samples' share. */
  readonly share?: BatchShare;
}

/** Consecutive samples of a larger batch: those from `first` on, of `total`. */
export interface BatchShare {
  readonly first: number;
  readonly total: number;
}

export interface LossOptions {
  /** Put noise on the image before it is encoded, by another distribution if one is given. Default true, as in the recipe. */
  readonly imageNoise?: boolean | ImageNoiseDistribution;
  /** Count what was added to fill the patches too, the copies of the first frame. Default true, as in the recipe. */
  readonly paddingInLoss?: boolean;
  /** What fills the latent frames up to whole patches. Default "copy_first", as in the recipe. Sampling has the same option. */
  readonly padding?: Padding;
  /** Where the image latent lies. Default "first", as in the recipe. Sampling has the same option. */
  readonly imagePlace?: ImagePlace;
  /**
   * Min-SNR weighting (arXiv 2303.09556) as diffusers has it for v-prediction: the velocity's squared error counts
   * min(snr, gamma) / (snr + 1), with snr = alphas_cumprod / (1 - alphas_cumprod). In terms of the clean latent, as the loss
   * is computed here, that is a weight of min(snr, gamma) in place of 1 / (1 - alphas_cumprod). Where nothing but noise is
   * left (zero terminal SNR) it is 0: nothing is learned there. Default: no such weighting.
   */
  readonly snrGamma?: number;
}

/** Everything that comes before the transformer, whatever the condition; none of it is trained. */
export interface DiffusionInputs {
  /** With the first frame's copies in front: [B, C, F, h, w]. */
  readonly latentPadded: tf.Tensor5D;
  /** How many copies there are. */
  readonly copies: number;
  /** The target in the transformer's order: [B, F, C, h, w]. */
  readonly target: tf.Tensor5D;
  /** The target with diffusion noise: [B, F, C, h, w]. */
  readonly latentNoisy: tf.Tensor5D;
  /** What the transformer sees: [B, F, 2 C, h, w] with an image, joined along the channels; [B, F, C, h, w] without. */
  readonly modelInput: tf.Tensor5D;
  readonly timesteps: readonly number[];
  readonly rotary: RotaryTables | null;
  /** 1 / (1 - alphas_cumprod[t]) of each sample; min(snr, gamma) with {@link LossOptions.snrGamma}. */
  readonly weights: readonly number[];
}

/** The same of image to video. */
export interface LossInputs extends DiffusionInputs {
  /** The noise's standard deviation, their mean where samples have their own; 0 where image noise is off. */
  readonly imageNoiseSigma: number;
  /** [B, 3, 1, H, W] */
  readonly noisyImage: tf.Tensor5D;
  /** [B, 2 C, 1, h, w] */
  readonly imageMoments: tf.Tensor5D;
  /** [B, C, 1, h, w] */
  readonly imageLatent: tf.Tensor5D;
  /** The image latent at its place (frame 0), zeros elsewhere: [B, F, C, h, w]. */
  readonly imageLatentsPadded: tf.Tensor5D;
}

export interface LossTerms {
  /** The transformer's velocity: [B, F, C, h, w]. */
  readonly prediction: tf.Tensor5D;
  /** The clean latent that follows from it: [B, F, C, h, w]. */
  readonly latentPred: tf.Tensor5D;
  /** Mean squared error of each sample, without its weight: [B]. */
  readonly squaredError: tf.Tensor1D;
  /** The mean over the batch of weight times squared error. */
  readonly loss: tf.Scalar;
}

/**
 * Draws everything that one loss needs, in this order: sigma, image noise, posterior noise, timesteps, diffusion noise, dropped
 * images, dropped captions.
 */
export function drawLoss(
  generator: RandomGenerator,
  batch: TrainingBatch,
  { transformer, scheduler }: Pick<LossModels, "transformer" | "scheduler">,
  { imageDropout = 0, captionDropout = 0, timestepWeights, share }: DrawOptions = {},
): LossDraws {
  const [count, channels, frames, height, width] = batch.encodedVideos.shape;
  const { first, total } = share ?? { first: 0, total: count };
  const randn = (...sample: [number, number, number, number]): tf.Tensor5D => {
    const size = tf.util.sizeFromShape(sample);
    generator.skipNormals(first * size);
    const noise = generator.randn<tf.Rank.R5>([count, ...sample]) as tf.Tensor5D;
    generator.skipNormals((total - first - count) * size);
    return noise;
  };
  const each = <T>(draw: () => T): T[] => Array.from({ length: total }, draw).slice(first, first + count);
  const [, , imageHeight, imageWidth] = batch.images.shape;
  const padded = paddedFrames(frames, transformer.config.patch_size_t);
  const imageNoiseSigmaNormal = generator.normal();
  const imageNoise = randn(3, 1, imageHeight, imageWidth);
  const imagePosteriorNoise = randn(channels, 1, height, width);
  const timesteps = each(() =>
    timestepWeights ? drawIndex(generator, timestepWeights) : generator.integer(0, scheduler.length),
  );
  const diffusionNoise = randn(padded, channels, height, width);
  const drop = (probability: number) =>
    probability > 0 ? each(() => generator.uniform() < probability) : undefined;
  const dropImage = drop(imageDropout);
  const dropCaption = drop(captionDropout);
  return {
    imageNoiseSigmaNormal,
    imageNoise,
    imagePosteriorNoise,
    timesteps,
    diffusionNoise,
    dropImage,
    dropCaption,
  };
}

/** An index, drawn with these probabilities. */
function drawIndex(generator: RandomGenerator, weights: Float64Array): number {
  let left = generator.uniform();
  let last = 0;
  for (const [i, weight] of weights.entries()) {
    if (weight === 0) continue;
    if (left < weight) return i;
    left -= weight;
    last = i;
  }
  return last; // rounding left a little over
}

/**
 * The batch's prompt embeddings with the empty prompt's in place of those that were drawn to be dropped, which is what
 * classifier-free guidance starts from. The caller disposes the result.
 *
 * @param emptyPrompt [tokens, text_embed_dim], of "" and encoded as the captions were.
 */
export function dropCaptions(
  promptEmbedding: tf.Tensor3D,
  { dropCaption }: Pick<LossDraws, "dropCaption">,
  emptyPrompt: tf.Tensor2D,
): tf.Tensor3D {
  if (!tf.util.arraysEqual(emptyPrompt.shape, promptEmbedding.shape.slice(1))) {
    throw new InputError(
      `emptyPrompt: expected the captions' shape [${promptEmbedding.shape.slice(1)}], found [${emptyPrompt.shape}]`,
    );
  }
  if (!dropCaption?.includes(true)) return promptEmbedding.clone();
  return tf.tidy(
    () =>
      tf.stack(
        tf.unstack(promptEmbedding).map((caption, i) => (dropCaption[i] ? emptyPrompt : caption)),
      ) as tf.Tensor3D,
  );
}

/**
 * Duplicates the first latent frame, encodes the noisy image, and adds diffusion noise.
 *
 * @returns tensors that {@link disposeLossInputs} disposes.
 * @throws InputError if the batch's or the draws' shapes contradict each other.
 */
export function prepareLoss(
  { vae, transformer, scheduler }: LossModels,
  batch: TrainingBatch,
  draws: LossDraws,
  options: LossOptions = {},
): LossInputs {
  const { imageNoise = true, imagePlace } = options;
  const diffusion = prepareDiffusion({ transformer, scheduler }, batch, draws, options);
  const { latentNoisy } = diffusion;
  const [count, frames] = latentNoisy.shape;
  const encoded = encodeConditioningImage(vae, batch.images, {
    imageNoise: noiseOf(imageNoise, draws, scheduler.length),
    posterior: { noise: draws.imagePosteriorNoise },
    scale: imageLatentScale(vae.config, "training"),
  });
  const tensors = tf.tidy(() => {
    let imageLatent = encoded.latent;
    if (draws.dropImage !== undefined) {
      const keep = draws.dropImage.map((drop) => (drop ? 0 : 1));
      imageLatent = tf.mul(imageLatent, tf.tensor(keep, [count, 1, 1, 1, 1]));
      encoded.latent.dispose();
    }
    const imageLatentsPadded = placeImageLatent(imageLatent, frames, imagePlace);
    const modelInput = concatImageLatents(latentNoisy, imageLatentsPadded);
    return { imageLatent, imageLatentsPadded, modelInput };
  });
  return {
    ...diffusion,
    imageNoiseSigma: encoded.sigma,
    noisyImage: encoded.image,
    imageMoments: encoded.moments,
    ...tensors,
  };
}

/**
 * The same for text to video, the recipe's other half: no image is encoded, and the transformer sees the noisy latents alone.
 * Of the draws, those of the image and of its noise are not used.
 *
 * @returns tensors that {@link disposeLossInputs} disposes.
 * @throws InputError if the batch's or the draws' shapes contradict each other.
 */
export function prepareTextToVideoLoss(
  models: Pick<LossModels, "transformer" | "scheduler">,
  batch: TrainingBatch,
  draws: LossDraws,
  options: LossOptions = {},
): DiffusionInputs {
  const diffusion = prepareDiffusion(models, batch, draws, options);
  return { ...diffusion, modelInput: concatImageLatents(diffusion.latentNoisy, null) };
}

function prepareDiffusion(
  { transformer, scheduler }: Pick<LossModels, "transformer" | "scheduler">,
  { encodedVideos, images, promptEmbedding }: TrainingBatch,
  draws: LossDraws,
  { snrGamma, padding }: LossOptions,
): Omit<DiffusionInputs, "modelInput"> {
  const count = encodedVideos.shape[0];
  if (images.shape[0] !== count || promptEmbedding.shape[0] !== count || draws.timesteps.length !== count) {
    throw new InputError(
      `batch: expected ${count} images, prompts and timesteps (one a video), found ${images.shape[0]}, ${promptEmbedding.shape[0]} and ${draws.timesteps.length}`,
    );
  }
  const { latents: latentPadded, copies } = padFrames(encodedVideos, {
    patchSizeT: transformer.config.patch_size_t,
    padding,
  });
  const [, , frames, height, width] = latentPadded.shape;
  const tensors = tf.tidy(() => {
    const target = tf.transpose(latentPadded, [0, 2, 1, 3, 4]) as tf.Tensor5D;
    return { target, latentNoisy: scheduler.addNoise(target, draws.diffusionNoise, draws.timesteps) };
  });
  return {
    latentPadded,
    copies,
    ...tensors,
    timesteps: draws.timesteps,
    rotary: transformer.rotaryTables({ frames, height, width }, "training"),
    weights: draws.timesteps.map((t) => lossWeight(scheduler.alphasCumprod[t]!, snrGamma)),
  };
}

function noiseOf(
  imageNoise: boolean | ImageNoiseDistribution,
  { imageNoiseSigmaNormal: sigmaNormal, imageNoise: noise, timesteps }: LossDraws,
  numTrainTimesteps: number,
): ImageNoiseDraws<tf.Tensor5D> | null {
  if (imageNoise === false) return null;
  if (imageNoise === true) return { sigmaNormal, noise };
  return { sigmas: imageNoiseSigmas(sigmaNormal, timesteps, numTrainTimesteps, imageNoise), noise };
}

/** Of the clean latent's squared error. */
function lossWeight(alphaCumprod: number, snrGamma: number | undefined): number {
  const ofVelocity = 1 / (1 - alphaCumprod);
  return snrGamma === undefined ? ofVelocity : Math.min(alphaCumprod * ofVelocity, snrGamma);
}

export function disposeLossInputs(inputs: DiffusionInputs): void {
  tf.dispose(Object.values(inputs).filter((value) => value instanceof tf.Tensor) as tf.Tensor[]);
  if (inputs.rotary) tf.dispose([inputs.rotary.cos, inputs.rotary.sin]);
}

/**
 * The transformer's prediction and the loss, differentiable. The v-prediction (arXiv 2202.00512) is converted to the clean
 * latent, and its squared error weighted by 1 / (1 - alphas_cumprod), which cancels the factor from the
 * conversion; or by what {@link LossOptions.snrGamma} says.
 *
 * @param generator turns on the model's dropout and supplies its random numbers.
 */
export function computeLoss(
  { transformer, scheduler }: Pick<LossModels, "transformer" | "scheduler">,
  inputs: DiffusionInputs,
  promptEmbedding: tf.Tensor3D,
  { paddingInLoss = true, padding, generator }: LossOptions & { generator?: RandomGenerator } = {},
): LossTerms {
  const { sample: prediction } = transformer.forward({
    hiddenStates: inputs.modelInput,
    encoderHiddenStates: promptEmbedding,
    timestep: inputs.timesteps,
    ofs: ofsFor(transformer.config),
    imageRotaryEmb: inputs.rotary,
    generator,
  });
  const latentPred = scheduler.getVelocity(prediction, inputs.latentNoisy, inputs.timesteps);
  const squaredError = tf.tidy(() => {
    let error = tf.square(tf.sub(latentPred, inputs.target)) as tf.Tensor5D;
    if (!paddingInLoss) error = dropDuplicatedFrames(error, { copies: inputs.copies, frameAxis: 1, padding });
    return tf.mean(tf.reshape(error, [error.shape[0]!, -1]), 1) as tf.Tensor1D;
  });
  const loss = tf.tidy(() => tf.mean(tf.mul(squaredError, tf.tensor1d([...inputs.weights]))).asScalar());
  return { prediction, latentPred, squaredError, loss };
}

/** The samples' weighted losses and their mean, in float64 as in the recipe. */
export function lossValues(
  squaredError: ArrayLike<number>,
  weights: readonly number[],
): { perSample: number[]; loss: number } {
  const perSample = weights.map((weight, i) => weight * squaredError[i]!);
  return { perSample, loss: perSample.reduce((sum, value) => sum + value, 0) / perSample.length };
}
