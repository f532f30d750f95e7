import type { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import type { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import { DiagonalGaussianDistribution } from "../models/vae/distribution.js";
import type { TrainingBatch } from "../recipe/loss.js";
import type { Clip } from "../video/clip.js";
import { fingerprint, fingerprintTensor } from "./fingerprint.js";
import type { DataFingerprint } from "./resume.js";

/** One clip, encoded. */
export interface TrainingSample {
  /** A posterior sample times `scaling_factor`: [C, F, h, w]. */
  readonly encodedVideo: tf.Tensor4D;
  /** [tokens, text_embed_dim] */
  readonly promptEmbedding: tf.Tensor2D;
  /** The first frame in [-1, 1]: [3, H, W]. */
  readonly image: tf.Tensor3D;
}

/** Where the trainer takes samples from. */
export interface TrainingData {
  readonly length: number;
  /** Samples of one bucket have the same shapes; only those share a batch. */
  bucket(index: number): string;
  /** The caller disposes the tensors. */
  load(index: number): Promise<TrainingSample>;
  /**
   * The embedding of the prompt "", [tokens, text_embed_dim], encoded as the captions are: `captionDropout` puts it in their
   * place. The caller disposes it.
   */
  emptyPrompt?(): Promise<tf.Tensor2D>;
  /** Identifies the samples, so that a run is not resumed with others. Default: their number. */
  fingerprint?(): Promise<DataFingerprint>;
}

/** Samples that stay in memory. They belong to this object until {@link dispose}. */
export class MemoryData implements TrainingData {
  readonly #samples: readonly TrainingSample[];
  readonly emptyPrompt?: () => Promise<tf.Tensor2D>;
  readonly #emptyPrompt: tf.Tensor2D | undefined;

  constructor(
    samples: readonly TrainingSample[],
    {
      emptyPrompt,
    }: {
      /** The embedding of the prompt "", which `captionDropout` needs; this object then owns it too. */
      readonly emptyPrompt?: tf.Tensor2D;
    } = {},
  ) {
    this.#samples = samples;
    this.#emptyPrompt = emptyPrompt;
    if (emptyPrompt) this.emptyPrompt = async () => emptyPrompt.clone();
  }

  /** Encodes clips and their captions, and the empty caption. */
  static async fromClips(
    clips: Iterable<{ readonly clip: Clip; readonly caption: string }>,
    options: {
      readonly vae: AutoencoderKLCogVideoX;
      /** Gives a caption's embedding, [tokens, text_embed_dim]. */
      readonly encodePrompt: (prompt: string) => tf.Tensor2D | Promise<tf.Tensor2D>;
      /** The posterior's draws. */
      readonly generator: RandomGenerator;
    },
  ): Promise<MemoryData> {
    const samples: TrainingSample[] = [];
    for (const { clip, caption } of clips) {
      samples.push({
        encodedVideo: await encodeVideo(options.vae, clip, options.generator),
        promptEmbedding: await options.encodePrompt(caption),
        image: imageTensor(clip),
      });
    }
    return new MemoryData(samples, { emptyPrompt: await options.encodePrompt("") });
  }

  get length(): number {
    return this.#samples.length;
  }

  bucket(index: number): string {
    return this.#samples[index]!.encodedVideo.shape.join("x");
  }

  async load(index: number): Promise<TrainingSample> {
    const { encodedVideo, promptEmbedding, image } = this.#samples[index]!;
    return {
      encodedVideo: encodedVideo.clone(),
      promptEmbedding: promptEmbedding.clone(),
      image: image.clone(),
    };
  }

  async fingerprint(): Promise<DataFingerprint> {
    const clips = this.#samples.map(async ({ encodedVideo, image }) => [
      await fingerprintTensor(encodedVideo),
      await fingerprintTensor(image),
    ]);
    const captions = this.#samples.map(({ promptEmbedding }) => fingerprintTensor(promptEmbedding));
    return {
      samples: this.length,
      clips: fingerprint(await Promise.all(clips)),
      captions: fingerprint(await Promise.all(captions)),
    };
  }

  dispose(): void {
    for (const sample of this.#samples)
      tf.dispose([sample.encodedVideo, sample.promptEmbedding, sample.image]);
    this.#emptyPrompt?.dispose();
  }
}

/**
 * A clip's latent as training wants it: a draw from the posterior times `scaling_factor`, [C, F, h, w]. A long or large
 * clip is encoded a few frames at a time, in memory that does not grow with its length. The caller disposes the latent.
 */
export async function encodeVideo(
  vae: AutoencoderKLCogVideoX,
  clip: Clip,
  generator: RandomGenerator,
): Promise<tf.Tensor4D> {
  const parameters = await encodeParameters(vae, clip);
  return tf.tidy(() => {
    const latentDist = new DiagonalGaussianDistribution(parameters);
    parameters.dispose();
    return tf.mul(
      tf.squeeze(latentDist.sample({ generator }), [0]),
      vae.config.scaling_factor,
    ) as tf.Tensor4D;
  });
}

/** The posterior of a clip as {@link AutoencoderKLCogVideoX.encode} gives it. */
async function encodeParameters(vae: AutoencoderKLCogVideoX, clip: Clip): Promise<tf.Tensor5D> {
  const { numFrames, height, width } = clip;
  const { block_out_channels: channels, temporal_compression_ratio: time } = vae.config;
  const float = 4;
  const smallest =
    (float * channels.at(-1)! * numFrames * height * width) / (time * vae.spatialCompressionRatio ** 2);
  // Where the VAE would hold some of its features for all frames anyway, encoding all frames at once is faster.
  if (smallest <= vae.wholeClipBytes) {
    return tf.tidy(() => vae.encode(clip.toTensor()).latentDist.parameters);
  }
  const groups: tf.Tensor5D[] = [];
  try {
    for await (const latentDist of vae.encodeStream(pieces(clip), clip)) {
      groups.push(latentDist.parameters.clone());
      latentDist.dispose();
    }
    return tf.concat(groups, 2);
  } finally {
    tf.dispose(groups);
  }
}

function* pieces(clip: Clip): Iterable<tf.Tensor5D> {
  const frames = 8;
  for (let i = 0; i < clip.numFrames; i += frames) yield clip.slice(i, i + frames).toTensor();
}

/** The first frame of a clip, [3, H, W] in [-1, 1]. */
export function imageTensor(clip: Clip): tf.Tensor3D {
  return tf.tidy(() => tf.squeeze(clip.slice(0, 1).toTensor(), [0, 2]) as tf.Tensor3D);
}

/** Stacks samples of one bucket into a batch. Disposes them. */
export function collate(samples: readonly TrainingSample[]): TrainingBatch {
  const stack = <T extends tf.Tensor>(tensors: tf.Tensor[]): T => {
    const batch = tf.stack(tensors) as T;
    tf.dispose(tensors);
    return batch;
  };
  return {
    encodedVideos: stack(samples.map(({ encodedVideo }) => encodedVideo)),
    promptEmbedding: stack(samples.map(({ promptEmbedding }) => promptEmbedding)),
    images: stack(samples.map(({ image }) => image)),
  };
}
