import { createHash } from "node:crypto";
import { InputError } from "../engine/errors.js";
import { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import type { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import { encodeVideo, imageTensor, type TrainingData, type TrainingSample } from "../train/data.js";
import { bucketName } from "../train/dataset.js";
import { fingerprint, fingerprintModel } from "../train/fingerprint.js";
import type { PromptEncoder } from "../train/latent-cache.js";
import type { DataFingerprint } from "../train/resume.js";
import { Clip } from "../video/clip.js";
import type { ProceduralClip } from "./clip.js";
import { HELD_OUT_SEED } from "./vae-training.js";

export interface DrawnClipsOptions {
  /** How many different clips there are. Sample i is the clip of seed `firstSeed + i`. */
  readonly count: number;
  /** Default 0. */
  readonly firstSeed?: number;
  /** Makes the clip of a seed: always the same one, and all of one size. */
  readonly clip: (seed: number) => Pick<ProceduralClip, "clip" | "caption">;
  /** Stays the caller's, as all models do. */
  readonly vae: AutoencoderKLCogVideoX;
  readonly promptEncoder: PromptEncoder;
  /** How much of what was encoded is kept in memory; further clips are encoded whenever they are drawn. Default 1 GiB. */
  readonly cacheBytes?: number;
}

/** A sample without tensors. */
interface Kept {
  readonly encodedVideo: Values<tf.Rank.R4>;
  readonly promptEmbedding: Values<tf.Rank.R2>;
  readonly image: Clip;
}

interface Values<R extends tf.Rank> {
  readonly shape: tf.ShapeMap[R];
  readonly data: Float32Array;
}

/** Draws of posteriors begin here, apart from the seeds that scenes are drawn from. */
const POSTERIOR_SEED = 0x5eed0000;

/** Clips that stand for all others when it is asked whether they are the same. */
const PROBES = 5;

/**
 * Training data that is made as it is drawn: clip, latent and prompt embedding of a sample come about when it is loaded
 * first. As in the latent cache, a clip has one draw from its posterior, which nothing else has a part in: a sample is the
 * same in whatever order samples are loaded, and a resumed run is the same run.
 */
export class DrawnClips implements TrainingData {
  readonly #options: DrawnClipsOptions;
  readonly #firstSeed: number;
  readonly #bucket: string;
  /** What comes first is kept: every clip is drawn once an epoch, so that the latest is the one needed last. */
  readonly #kept = new Map<number, Kept>();
  #room: number;
  /** One clip at a time, as each may fill the memory. */
  #encoding: Promise<unknown> = Promise.resolve();

  /** @throws InputError for a count that is not positive, or that reaches from training's seeds into the held-out ones. */
  constructor(options: DrawnClipsOptions) {
    const { count, firstSeed = 0, cacheBytes = 2 ** 30 } = options;
    if (!Number.isInteger(count) || count < 1)
      throw new InputError(`count: expected a positive integer, found ${count}`);
    if (!Number.isSafeInteger(firstSeed) || firstSeed < 0)
      throw new InputError(`firstSeed: expected an integer of at least 0, found ${firstSeed}`);
    if (firstSeed < HELD_OUT_SEED && firstSeed + count > HELD_OUT_SEED) {
      throw new InputError(
        `count: expected seeds below the held-out clips' (${HELD_OUT_SEED}), found up to ${firstSeed + count - 1}`,
      );
    }
    if (!(cacheBytes >= 0)) throw new InputError(`cacheBytes: expected at least 0, found ${cacheBytes}`);
    this.#options = options;
    this.#firstSeed = firstSeed;
    this.#room = cacheBytes;
    this.#bucket = bucketName(options.clip(firstSeed).clip);
  }

  get length(): number {
    return this.#options.count;
  }

  bucket(_index: number): string {
    return this.#bucket;
  }

  emptyPrompt(): Promise<tf.Tensor2D> {
    return this.#options.promptEncoder.encode("");
  }

  async load(index: number): Promise<TrainingSample> {
    const { encodedVideo, promptEmbedding, image } =
      this.#kept.get(index) ?? (await this.#alone(() => this.#encode(index)));
    return {
      encodedVideo: tf.tensor4d(encodedVideo.data, encodedVideo.shape),
      promptEmbedding: tf.tensor2d(promptEmbedding.data, promptEmbedding.shape),
      image: imageTensor(image),
    };
  }

  /** Made of the models, the seeds, and what some of the clips are: whether a function has changed can't be seen otherwise. */
  async fingerprint(): Promise<DataFingerprint> {
    const { count, vae, promptEncoder, clip } = this.#options;
    const probes = Array.from({ length: PROBES }, (_, i) => {
      const seed = this.#firstSeed + Math.round((i / (PROBES - 1)) * (count - 1));
      const { clip: pictures, caption } = clip(seed);
      const { fps, data } = pictures;
      return {
        shows: [seed, bucketName(pictures), fps, createHash("sha256").update(data).digest("hex")],
        caption,
      };
    });
    const model = [await fingerprintModel(vae), vae.useSlicing, vae.useTiling];
    return {
      samples: count,
      clips: fingerprint([model, this.#firstSeed, ...probes.map(({ shows }) => shows)]),
      captions: fingerprint([promptEncoder.id, ...probes.map(({ caption }) => caption)]),
    };
  }

  /** Lets `work` wait until what came before is through. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#encoding.then(work);
    this.#encoding = result.catch(() => {}); // whoever asked for it is told
    return result;
  }

  async #encode(index: number): Promise<Kept> {
    const { vae, promptEncoder } = this.#options;
    const seed = this.#firstSeed + index;
    const { clip, caption } = this.#options.clip(seed);
    if (bucketName(clip) !== this.#bucket) {
      throw new InputError(
        `clip: expected ${this.#bucket} as of seed ${this.#firstSeed}, found ${bucketName(clip)} of seed ${seed}`,
      );
    }
    const kept = {
      encodedVideo: await valuesOf(await encodeVideo(vae, clip, new RandomGenerator(POSTERIOR_SEED + seed))),
      promptEmbedding: await valuesOf(await promptEncoder.encode(caption)),
      image: new Clip({ ...clip, data: clip.frame(0).slice() }),
    };
    const bytes =
      kept.encodedVideo.data.byteLength + kept.promptEmbedding.data.byteLength + kept.image.data.byteLength;
    if (bytes <= this.#room && !this.#kept.has(index)) {
      this.#kept.set(index, kept);
      this.#room -= bytes;
    }
    return kept;
  }
}

async function valuesOf<R extends tf.Rank>(tensor: tf.Tensor<R>): Promise<Values<R>> {
  try {
    return { shape: tensor.shape, data: (await tensor.data()).slice() as Float32Array };
  } finally {
    tensor.dispose();
  }
}
