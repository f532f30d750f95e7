/**
 * Latents and prompt embeddings on disk, computed once. A file's name is the hash of all that its content depends on, and
 * it appears whole or not at all: so a killed run goes on, several machines can fill one cache, and a changed clip,
 * setting or model is noticed.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Generator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import type { AutoencoderKLCogVideoX } from "../vae/autoencoder.js";
import { type SafetensorsFile, safeOpen, saveFile } from "../weights/safetensors.js";
import { encodeVideo, type TrainingData, type TrainingSample } from "./data.js";
import {
  type Bucket,
  bucketName,
  type DatasetEntry,
  type PreprocessOptions,
  prepareClip,
} from "./dataset.js";
import { fingerprint, fingerprintContent, fingerprintModel } from "./fingerprint.js";

/** To be raised when the numbers that this package computes for a latent change. */
const ENCODING_VERSION = 1;

/** What turns prompts into embeddings. */
export interface PromptEncoder {
  /** Changes whenever embeddings would. */
  readonly id: string;
  /** [tokens, text_embed_dim]; the caller disposes it. */
  encode(prompt: string): Promise<tf.Tensor2D>;
}

export interface LatentCacheOptions extends PreprocessOptions {
  /** The cache's folder; the recipe's is `cache` in the data set's. */
  readonly cacheDir: string;
  /** Part of the path, as in the recipe. */
  readonly modelName: string;
  readonly vae: AutoencoderKLCogVideoX;
  readonly promptEncoder: PromptEncoder;
  /** Seed of the posterior's draws. Default 0. */
  readonly seed?: number;
}

/** One entry of the cache. */
export interface CachedEntry {
  readonly latentPath: string;
  readonly promptPath: string;
  readonly bucket: string;
}

export interface EncodeReport extends CachedEntry {
  /** False if both files were there before. */
  readonly encoded: boolean;
  /** What was done to the clip. */
  readonly report: string;
}

export class LatentCache {
  readonly #options: LatentCacheOptions;
  readonly #vaeId: string;

  private constructor(options: LatentCacheOptions, vaeId: string) {
    this.#options = options;
    this.#vaeId = vaeId;
  }

  /** Opens a cache for a VAE as it is now, with its slicing and tiling. */
  static async open(options: LatentCacheOptions): Promise<LatentCache> {
    const { vae } = options;
    const vaeId = fingerprint([await fingerprintModel(vae), vae.useSlicing, vae.useTiling]);
    return new LatentCache(options, vaeId);
  }

  /** Where a clip's latent and its prompt's embedding are or will be. Reads the clip's bytes if they are new. */
  async locate(entry: DatasetEntry, bucket: Bucket): Promise<CachedEntry> {
    const { cacheDir, modelName, fit = "resize", shortClips = "repeat", seed = 0 } = this.#options;
    const memo = join(cacheDir, "content");
    const content = [await fingerprintContent(entry.video, memo)];
    if (entry.image !== undefined) content.push(await fingerprintContent(entry.image, memo));
    const key = fingerprint([ENCODING_VERSION, content, bucket, fit, shortClips, seed, this.#vaeId]);
    return {
      latentPath: join(cacheDir, "video_latent", modelName, bucketName(bucket), `${key}.safetensors`),
      promptPath: this.#promptPath(entry.prompt),
      bucket: bucketName(bucket),
    };
  }

  /**
   * Encodes what is not there yet.
   *
   * @throws ClipError or DatasetError naming the clip.
   */
  async ensure(entry: DatasetEntry, bucket: Bucket): Promise<EncodeReport> {
    const place = await this.locate(entry, bucket);
    const latent = await readMetadata(place.latentPath, "encoded_video");
    const prompt = await readMetadata(place.promptPath, "prompt_embedding");
    const report = latent?.get("report") ?? (await this.#encodeClip(entry, bucket, place.latentPath));
    if (prompt === undefined) await this.#encodePrompt(entry.prompt, place.promptPath);
    return { ...place, encoded: latent === undefined || prompt === undefined, report };
  }

  /** A prompt's embedding, [tokens, text_embed_dim], from the cache or computed and kept. The caller disposes it. */
  async embedPrompt(prompt: string): Promise<tf.Tensor2D> {
    const path = this.#promptPath(prompt);
    if ((await readMetadata(path, "prompt_embedding")) === undefined) await this.#encodePrompt(prompt, path);
    const file = await safeOpen(path);
    try {
      return (await file.getTensor("prompt_embedding")) as tf.Tensor2D;
    } finally {
      await file.close();
    }
  }

  #promptPath(prompt: string): string {
    const { cacheDir, promptEncoder } = this.#options;
    const key = fingerprint([ENCODING_VERSION, prompt, promptEncoder.id]);
    return join(cacheDir, "prompt_embeddings", `${key}.safetensors`);
  }

  /** Whether an entry is there already. */
  async has(entry: DatasetEntry, bucket: Bucket): Promise<boolean> {
    const { latentPath, promptPath } = await this.locate(entry, bucket);
    const latent = await readMetadata(latentPath, "encoded_video");
    return latent !== undefined && (await readMetadata(promptPath, "prompt_embedding")) !== undefined;
  }

  async #encodeClip(entry: DatasetEntry, bucket: Bucket, path: string): Promise<string> {
    const { vae, fit, shortClips } = this.#options;
    const { video, image, report } = await prepareClip(entry, bucket, { fit, shortClips });
    // The file's own name seeds the draw, so it does not matter who encodes which clip when.
    const generator = new Generator(Number.parseInt(path.slice(-20, -12), 16));
    const latent = await encodeVideo(vae, video, generator);
    try {
      await mkdir(join(path, ".."), { recursive: true });
      await saveFile(
        {
          encoded_video: latent,
          image: { dtype: "U8", shape: [image.height, image.width, 3], data: image.data },
        },
        path,
        { source: entry.video, report, bucket: bucketName(bucket) },
      );
    } finally {
      latent.dispose();
    }
    return report;
  }

  async #encodePrompt(prompt: string, path: string): Promise<void> {
    const embedding = await this.#options.promptEncoder.encode(prompt);
    try {
      await mkdir(join(path, ".."), { recursive: true });
      await saveFile({ prompt_embedding: embedding }, path, { prompt });
    } finally {
      embedding.dispose();
    }
  }
}

/** A whole file's metadata; undefined if it is not there, damaged, or lacks the tensor. */
async function readMetadata(path: string, tensor: string): Promise<ReadonlyMap<string, string> | undefined> {
  let file: SafetensorsFile | undefined;
  try {
    file = await safeOpen(path);
    return file.has(tensor) ? file.metadata() : undefined;
  } catch {
    return undefined;
  } finally {
    await file?.close();
  }
}

/** Training data from a cache's files; nothing but the batch at hand is in memory. */
export class CachedData implements TrainingData {
  readonly #entries: readonly CachedEntry[];

  constructor(entries: readonly CachedEntry[]) {
    this.#entries = entries;
  }

  get length(): number {
    return this.#entries.length;
  }

  bucket(index: number): string {
    return this.#entries[index]!.bucket;
  }

  async load(index: number): Promise<TrainingSample> {
    const { latentPath, promptPath } = this.#entries[index]!;
    const latents = await safeOpen(latentPath);
    const prompts = await safeOpen(promptPath);
    try {
      const image = (await latents.getTensor("image")) as tf.Tensor3D;
      const sample = {
        encodedVideo: (await latents.getTensor("encoded_video")) as tf.Tensor4D,
        promptEmbedding: (await prompts.getTensor("prompt_embedding")) as tf.Tensor2D,
        image: tf.tidy(
          () =>
            tf.transpose(
              tf.sub(tf.mul(tf.div(tf.cast(image, "float32"), 255), 2), 1),
              [2, 0, 1],
            ) as tf.Tensor3D,
        ),
      };
      image.dispose();
      return sample;
    } finally {
      await latents.close();
      await prompts.close();
    }
  }
}
