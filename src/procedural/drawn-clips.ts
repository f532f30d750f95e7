import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
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
import { SafetensorsError, type SafetensorsFile, safeOpen, saveFile } from "../weights/safetensors.js";
import type { ProceduralClip } from "./clip.js";
import { HELD_OUT_SEED } from "./vae-training.js";

export interface DrawnClipsOptions {
  /** Number of different clips. Sample i is the clip of seed `firstSeed + i`. */
  readonly count: number;
  /** Default 0. */
  readonly firstSeed?: number;
  /** Makes the clip of a seed: always the same clip for a seed, and all of one size. */
  readonly clip: (seed: number) => Pick<ProceduralClip, "clip" | "caption">;
  /** Stays the caller's, as all models do. */
  readonly vae: AutoencoderKLCogVideoX;
  readonly promptEncoder: PromptEncoder;
  /** How much encoded data is kept in memory; other clips are encoded each time they are drawn. Default 1 GiB. */
  readonly cacheBytes?: number;
  /**
   * A folder where everything encoded is kept, for later runs and for others at the same time. Different models and scenes have
   * separate folders in it. Default: nothing is written.
   */
  readonly cacheDir?: string;
  /** Is told of damaged files in it. Default: `console.warn`. */
  readonly log?: (line: string) => void;
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

/** Seeds of posterior draws begin here, away from the seeds of scenes. */
const POSTERIOR_SEED = 0x5eed0000;

/** To be raised when the numbers computed for a clip's latent change. */
const ENCODING_VERSION = 1;

/** How many clips stand for all when two sets are compared. */
const PROBES = 5;

/**
 * Training data made on demand: a sample's clip, latent and prompt embedding are computed when it is first loaded. As in the
 * latent cache, a clip has a single draw from its posterior, which depends on nothing else: a sample is the same in whatever
 * order samples are loaded, and a resumed run is the same run.
 */
export class DrawnClips implements TrainingData {
  readonly #options: DrawnClipsOptions;
  readonly #firstSeed: number;
  readonly #bucket: string;
  /** The first clips to arrive are kept: each is drawn once per epoch, so the latest is the one needed last. */
  readonly #kept = new Map<number, Kept>();
  #room: number;
  #folder: Promise<string> | undefined;
  /** One clip at a time, since each may fill the memory. */
  #encoding: Promise<unknown> = Promise.resolve();

  /** @throws InputError for a count that is not positive, or that reaches from the training seeds into the held-out ones. */
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
      this.#kept.get(index) ?? (await this.#alone(() => this.#fetch(index)));
    return {
      encodedVideo: tf.tensor4d(encodedVideo.data, encodedVideo.shape),
      promptEmbedding: tf.tensor2d(promptEmbedding.data, promptEmbedding.shape),
      image: imageTensor(image),
    };
  }

  /** Made from the models, the seeds and some of the clips, since a changed `clip` function shows only in what it makes. */
  async fingerprint(): Promise<DataFingerprint> {
    const { count, promptEncoder } = this.#options;
    const probes = Array.from({ length: PROBES }, (_, i) =>
      this.#probe(this.#firstSeed + Math.round((i / (PROBES - 1)) * (count - 1))),
    );
    return {
      samples: count,
      clips: fingerprint([await this.#vaeId(), this.#firstSeed, ...probes.map(({ shows }) => shows)]),
      captions: fingerprint([promptEncoder.id, ...probes.map(({ caption }) => caption)]),
    };
  }

  async #vaeId(): Promise<unknown[]> {
    const { vae } = this.#options;
    return [await fingerprintModel(vae), vae.useSlicing, vae.useTiling];
  }

  #probe(seed: number): { shows: unknown[]; caption: string } {
    const { clip, caption } = this.#options.clip(seed);
    const pictures = createHash("sha256").update(clip.data).digest("hex");
    return { shows: [seed, bucketName(clip), clip.fps, pictures], caption };
  }

  /** The folder for these models and scenes, however many clips are drawn. */
  async #openFolder(cacheDir: string): Promise<string> {
    const probes = Array.from({ length: PROBES }, (_, seed) => this.#probe(seed));
    const id = fingerprint([
      ENCODING_VERSION,
      await this.#vaeId(),
      this.#options.promptEncoder.id,
      ...probes.map(({ shows, caption }) => [shows, caption]),
    ]);
    const folder = join(cacheDir, id.slice(0, 32));
    await mkdir(folder, { recursive: true });
    return folder;
  }

  /** Runs `work` once everything before it is done. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#encoding.then(work);
    this.#encoding = result.catch(() => {}); // whoever asked for it gets the error
    return result;
  }

  async #fetch(index: number): Promise<Kept> {
    const { cacheDir, log = console.warn } = this.#options;
    const seed = this.#firstSeed + index;
    if (cacheDir === undefined) return this.#keep(index, await this.#encode(seed));
    this.#folder ??= this.#openFolder(cacheDir);
    const file = join(await this.#folder, `${seed}.safetensors`);
    const stored = await readKept(file, seed, log);
    if (stored) return this.#keep(index, stored);
    const encoded = await this.#encode(seed);
    await writeKept(file, seed, encoded);
    return this.#keep(index, encoded);
  }

  #keep(index: number, sample: Kept): Kept {
    const parts = [sample.encodedVideo, sample.promptEmbedding, sample.image];
    const bytes = parts.reduce((sum, { data }) => sum + data.byteLength, 0);
    if (bytes <= this.#room && !this.#kept.has(index)) {
      this.#kept.set(index, sample);
      this.#room -= bytes;
    }
    return sample;
  }

  async #encode(seed: number): Promise<Kept> {
    const { vae, promptEncoder } = this.#options;
    const { clip, caption } = this.#options.clip(seed);
    if (bucketName(clip) !== this.#bucket) {
      throw new InputError(
        `clip: expected ${this.#bucket} as of seed ${this.#firstSeed}, found ${bucketName(clip)} of seed ${seed}`,
      );
    }
    return {
      encodedVideo: await valuesOf(await encodeVideo(vae, clip, new RandomGenerator(POSTERIOR_SEED + seed))),
      promptEmbedding: await valuesOf(await promptEncoder.encode(caption)),
      image: new Clip({ ...clip, data: clip.frame(0).slice() }),
    };
  }
}

async function valuesOf<R extends tf.Rank>(tensor: tf.Tensor<R>): Promise<Values<R>> {
  try {
    return { shape: tensor.shape, data: (await tensor.data()).slice() as Float32Array };
  } finally {
    tensor.dispose();
  }
}

const writeKept = (
  file: string,
  seed: number,
  { encodedVideo, promptEmbedding, image }: Kept,
): Promise<void> =>
  saveFile(
    {
      encoded_video: { dtype: "F32", ...encodedVideo },
      prompt_embedding: { dtype: "F32", ...promptEmbedding },
      image: { dtype: "U8", shape: [image.height, image.width, 3], data: image.data },
    },
    file,
    { seed: String(seed), fps: String(image.fps) },
  );

/** Undefined if the file is missing or, after telling `log`, damaged. */
async function readKept(file: string, seed: number, log: (line: string) => void): Promise<Kept | undefined> {
  let opened: SafetensorsFile | undefined;
  try {
    opened = await safeOpen(file);
    const metadata = opened.metadata();
    if (metadata.get("seed") !== String(seed))
      throw new SafetensorsError(`expected the clip of seed ${seed}, found that of ${metadata.get("seed")}`, {
        file,
      });
    if (!opened.hasChecksums) throw new SafetensorsError("its checksums are missing", { file });
    const [video, prompt, image] = [
      await opened.getData("encoded_video"),
      await opened.getData("prompt_embedding"),
      await opened.getData("image"),
    ];
    const [height, width] = image.shape as [number, number];
    const fps = Number(metadata.get("fps"));
    return {
      encodedVideo: { shape: video.shape as tf.ShapeMap["R4"], data: video.data as Float32Array },
      promptEmbedding: { shape: prompt.shape as tf.ShapeMap["R2"], data: prompt.data as Float32Array },
      image: new Clip({ data: image.data as Uint8Array, height, width, fps }),
    };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    if (!(error instanceof SafetensorsError)) throw error;
    log(`${error.message}; it is encoded again`);
    return undefined;
  } finally {
    await opened?.close();
  }
}
