import type { Generator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import type { AutoencoderKLCogVideoX } from "../vae/autoencoder.js";
import type { Clip } from "../video/clip.js";
import type { TrainingBatch } from "./loss.js";

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
  /** Samples of one bucket have the same shapes; only they come into a batch together. */
  bucket(index: number): string;
  /** The caller disposes the tensors. */
  load(index: number): Promise<TrainingSample>;
}

/** Samples that stay in memory; they belong to it until {@link dispose}. */
export class MemoryData implements TrainingData {
  readonly #samples: readonly TrainingSample[];

  constructor(samples: readonly TrainingSample[]) {
    this.#samples = samples;
  }

  /**
   * Encodes clips and their captions.
   *
   * @param encodePrompt gives a caption's embedding, [tokens, text_embed_dim].
   * @param generator the posterior's draws.
   */
  static async fromClips(
    clips: Iterable<{ readonly clip: Clip; readonly caption: string }>,
    options: {
      readonly vae: AutoencoderKLCogVideoX;
      readonly encodePrompt: (prompt: string) => tf.Tensor2D | Promise<tf.Tensor2D>;
      readonly generator: Generator;
    },
  ): Promise<MemoryData> {
    const samples: TrainingSample[] = [];
    for (const { clip, caption } of clips) {
      samples.push({
        encodedVideo: encodeVideo(options.vae, clip, options.generator),
        promptEmbedding: await options.encodePrompt(caption),
        image: imageTensor(clip),
      });
    }
    return new MemoryData(samples);
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

  dispose(): void {
    for (const sample of this.#samples)
      tf.dispose([sample.encodedVideo, sample.promptEmbedding, sample.image]);
  }
}

/** A clip's latent as training wants it: a draw from the posterior times `scaling_factor`, [C, F, h, w]. */
export function encodeVideo(vae: AutoencoderKLCogVideoX, clip: Clip, generator: Generator): tf.Tensor4D {
  return tf.tidy(() => {
    const sample = vae.encode(clip.toTensor()).latentDist.sample({ generator });
    return tf.mul(tf.squeeze(sample, [0]), vae.config.scaling_factor) as tf.Tensor4D;
  });
}

/** The first frame of a clip, [3, H, W] in [-1, 1]. */
export function imageTensor(clip: Clip): tf.Tensor3D {
  return tf.tidy(() => tf.squeeze(clip.slice(0, 1).toTensor(), [0, 2]) as tf.Tensor3D);
}

/** Puts samples of one bucket together. Disposes them. */
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
