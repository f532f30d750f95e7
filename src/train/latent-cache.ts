/**
 * Latents and prompt embeddings on disk, computed once. A file's name is the hash of everything that its content depends on,
 * and it appears whole or not at all: so a killed run can go on, several machines can fill one cache, and a changed clip,
 * setting or model is noticed. A damaged or misnamed file is noticed when it is read, and made again.
 */
import { mkdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import type { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import { SafetensorsError, type SafetensorsFile, safeOpen, saveFile } from "../weights/safetensors.js";
import { encodeVideo, type TrainingData, type TrainingSample } from "./data.js";
import {
  type Bucket,
  bucketName,
  type DatasetEntry,
  type PreprocessOptions,
  prepareClip,
} from "./dataset.js";
import { fingerprint, fingerprintContent, fingerprintModel } from "./fingerprint.js";
import type { DataFingerprint } from "./resume.js";

/** To be raised when the numbers computed for a latent change. */
const ENCODING_VERSION = 2;

/** Folders of a cache. */
export const CACHE_PARTS = ["video_latent", "prompt_embeddings", "content"] as const;
const [LATENTS, PROMPTS, CONTENT] = CACHE_PARTS;

/** What turns prompts into embeddings. */
export interface PromptEncoder {
  /** Changes whenever embeddings would. */
  readonly id: string;
  /** [tokens, text_embed_dim]; the caller disposes it. */
  encode(prompt: string): Promise<tf.Tensor2D>;
}

export interface PromptCacheOptions {
  /** The cache's folder; in the recipe, `cache` in the data set's folder. */
  readonly cacheDir: string;
  readonly promptEncoder: PromptEncoder;
  /** Is told of damaged files. Default: `console.warn`. */
  readonly log?: (line: string) => void;
}

export interface LatentCacheOptions extends PreprocessOptions, PromptCacheOptions {
  /** Part of the path, as in the recipe. */
  readonly modelName: string;
  readonly vae: AutoencoderKLCogVideoX;
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
  /** The SHA-256 of the clip's file, and of its image's where it has one. */
  readonly content: string;
}

/**
 * As in the recipe, a clip has one sample of its posterior for all trainings: the run's seed plays no part in it, so a cache
 * filled once serves them all.
 */
export class LatentCache {
  readonly #options: LatentCacheOptions;
  readonly #prompts: PromptCache;
  readonly #vaeId: string;

  private constructor(options: LatentCacheOptions, vaeId: string) {
    this.#options = options;
    this.#prompts = new PromptCache(options);
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
    return this.#place(entry, bucket, await this.#content(entry));
  }

  async #content({ video, image }: DatasetEntry): Promise<string[]> {
    const memo = join(this.#options.cacheDir, CONTENT);
    const content = [await fingerprintContent(video, memo)];
    if (image !== undefined) content.push(await fingerprintContent(image, memo));
    return content;
  }

  #place(entry: DatasetEntry, bucket: Bucket, content: readonly string[]): CachedEntry {
    const {
      cacheDir,
      modelName,
      fit = "resize",
      shortClips = "repeat",
      fps,
      frameExtraction,
    } = this.#options;
    const { part = 0 } = entry;
    const frames = [fps ?? null, frameExtraction ?? "spread", part];
    // Earlier versions put an image of its own in front of the clip's frames.
    const version = entry.image === undefined ? ENCODING_VERSION : `${ENCODING_VERSION}, image apart`;
    const key = fingerprint([version, content, bucket, fit, shortClips, frames, this.#vaeId]);
    return {
      latentPath: join(cacheDir, LATENTS, modelName, bucketName(bucket), `${key}.safetensors`),
      promptPath: this.#prompts.path(entry.prompt),
      bucket: bucketName(bucket),
    };
  }

  /**
   * Encodes what is missing or damaged.
   *
   * @throws ClipError or DatasetError naming the clip.
   */
  async ensure(
    entry: DatasetEntry,
    bucket: Bucket,
    {
      verify = false,
    }: {
      /** Reads existing files to the last byte, not only their headers; {@link CachedData} does that anyway. */
      verify?: boolean;
    } = {},
  ): Promise<EncodeReport> {
    const content = await this.#content(entry);
    const place = this.#place(entry, bucket, content);
    const latent = await readEntry(place.latentPath, LATENT, verify, this.#options.log);
    const report = latent?.get("report") ?? (await this.#encodeClip(entry, bucket, place.latentPath));
    const promptEncoded = await this.#prompts.ensure(entry.prompt, verify);
    const encoded = latent === undefined || promptEncoded;
    return { ...place, encoded, report, content: content.join(" ") };
  }

  /** As {@link PromptCache.embed}. */
  embedPrompt(prompt: string): Promise<tf.Tensor2D> {
    return this.#prompts.embed(prompt);
  }

  /** Whether an entry is there already. */
  async has(entry: DatasetEntry, bucket: Bucket): Promise<boolean> {
    const { latentPath } = await this.locate(entry, bucket);
    const latent = await readEntry(latentPath, LATENT, false, this.#options.log);
    return latent !== undefined && (await this.#prompts.has(entry.prompt));
  }

  async #encodeClip(entry: DatasetEntry, bucket: Bucket, path: string): Promise<string> {
    const { vae, ...preprocess } = this.#options;
    const { video, image, report } = await prepareClip(entry, bucket, preprocess);
    // The file's own name seeds the draw, so it does not matter who encodes which clip, or when.
    const generator = new RandomGenerator(Number.parseInt(path.slice(-20, -12), 16));
    const latent = await encodeVideo(vae, video, generator);
    try {
      await mkdir(join(path, ".."), { recursive: true });
      await saveFile(
        {
          encoded_video: latent,
          image: { dtype: "U8", shape: [image.height, image.width, 3], data: image.data },
        },
        path,
        { source: entry.video, report, bucket: bucketName(bucket), key: keyOf(path) },
      );
    } finally {
      latent.dispose();
    }
    return report;
  }
}

/** Prompts' embeddings in a cache's folder, as {@link LatentCache} has them: trainings and samples share them. */
export class PromptCache {
  readonly #options: PromptCacheOptions;

  constructor(options: PromptCacheOptions) {
    this.#options = options;
  }

  /** Where a prompt's embedding is or will be. */
  path(prompt: string): string {
    const { cacheDir, promptEncoder } = this.#options;
    const key = fingerprint([ENCODING_VERSION, prompt, promptEncoder.id]);
    return join(cacheDir, PROMPTS, `${key}.safetensors`);
  }

  /** Whether it is there, intact; by its header alone unless it is to be verified. */
  async has(prompt: string, verify = false): Promise<boolean> {
    return (await readEntry(this.path(prompt), PROMPT, verify, this.#options.log)) !== undefined;
  }

  /** Encodes a prompt that is not there. @returns whether it was to be encoded. */
  async ensure(prompt: string, verify = false): Promise<boolean> {
    if (await this.has(prompt, verify)) return false;
    const path = this.path(prompt);
    const embedding = await this.#options.promptEncoder.encode(prompt);
    try {
      await mkdir(join(path, ".."), { recursive: true });
      await saveFile({ prompt_embedding: embedding }, path, { prompt, key: keyOf(path) });
    } finally {
      embedding.dispose();
    }
    return true;
  }

  /** A prompt's embedding, [tokens, text_embed_dim], read from the cache or computed and stored. The caller disposes it. */
  async embed(prompt: string): Promise<tf.Tensor2D> {
    await this.ensure(prompt, true);
    const file = await openEntry(this.path(prompt), PROMPT);
    try {
      return (await file.getTensor("prompt_embedding")) as tf.Tensor2D;
    } finally {
      await file.close();
    }
  }
}

/** An entry's metadata; undefined if it is missing or damaged. */
async function readEntry(
  path: string,
  tensors: readonly string[],
  verify: boolean,
  log: (line: string) => void = console.warn,
): Promise<ReadonlyMap<string, string> | undefined> {
  let file: SafetensorsFile | undefined;
  try {
    file = await openEntry(path, tensors);
    if (verify) await file.verify();
    return file.metadata();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    const isFolder = code === "EISDIR";
    if (!isFolder && !(error instanceof SafetensorsError)) throw error;
    log(`${isFolder ? `${path}: a folder, expected a file` : message}; it is encoded again`);
    if (isFolder) await rm(path, { recursive: true }); // otherwise no file can take its name
    return undefined;
  } finally {
    await file?.close();
  }
}

const LATENT = ["encoded_video", "image"] as const;
const PROMPT = ["prompt_embedding"] as const;

const keyOf = (path: string): string => basename(path, ".safetensors");

/** @throws SafetensorsError if the file is damaged, lacks a tensor, or was written under another name. */
async function openEntry(path: string, tensors: readonly string[]): Promise<SafetensorsFile> {
  const file = await safeOpen(path);
  try {
    for (const tensor of tensors) file.info(tensor);
    // Entries of earlier versions have neither key nor checksums.
    const key = file.metadata().get("key");
    if (key !== undefined && key !== keyOf(path)) {
      throw new SafetensorsError(`expected the entry of its name, found that of ${key}`, { file: path });
    }
    if (key !== undefined && !file.hasChecksums)
      throw new SafetensorsError("its checksums are missing", { file: path });
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Training data from a cache's files; only the current batch is in memory. */
export class CachedData implements TrainingData {
  readonly #entries: readonly CachedEntry[];
  readonly #repair: ((index: number) => Promise<void>) | undefined;
  readonly emptyPrompt?: () => Promise<tf.Tensor2D>;
  /** One repair at a time: each may load a model. */
  #repaired: Promise<void> = Promise.resolve();

  constructor(
    entries: readonly CachedEntry[],
    {
      repair,
      emptyPrompt,
    }: {
      /** Makes an entry's files again if they turn out to be damaged. Default: that is an error. */
      readonly repair?: (index: number) => Promise<void>;
      /** What `captionDropout` needs: `() => cache.embedPrompt("")`. */
      readonly emptyPrompt?: () => Promise<tf.Tensor2D>;
    } = {},
  ) {
    this.#entries = entries;
    this.#repair = repair;
    if (emptyPrompt) this.emptyPrompt = emptyPrompt;
  }

  get length(): number {
    return this.#entries.length;
  }

  bucket(index: number): string {
    return this.#entries[index]!.bucket;
  }

  async fingerprint(): Promise<DataFingerprint> {
    return {
      samples: this.length,
      clips: fingerprint(this.#entries.map(({ latentPath }) => keyOf(latentPath))),
      captions: fingerprint(this.#entries.map(({ promptPath }) => keyOf(promptPath))),
    };
  }

  /** @throws SafetensorsError naming the damaged file. */
  async load(index: number): Promise<TrainingSample> {
    const entry = this.#entries[index]!;
    const repair = this.#repair;
    try {
      return await loadEntry(entry);
    } catch (error) {
      if (!repair) throw error;
      this.#repaired = this.#repaired.catch(() => {}).then(() => repair(index));
      await this.#repaired;
      return await loadEntry(entry);
    }
  }
}

async function loadEntry({ latentPath, promptPath }: CachedEntry): Promise<TrainingSample> {
  const loaded: tf.Tensor[] = [];
  const read = async <T extends tf.Tensor>(file: SafetensorsFile, key: string): Promise<T> => {
    const tensor = await file.getTensor(key);
    loaded.push(tensor);
    return tensor as T;
  };
  let latents: SafetensorsFile | undefined;
  let prompts: SafetensorsFile | undefined;
  try {
    latents = await openEntry(latentPath, LATENT);
    prompts = await openEntry(promptPath, PROMPT);
    const encodedVideo = await read<tf.Tensor4D>(latents, "encoded_video");
    const promptEmbedding = await read<tf.Tensor2D>(prompts, "prompt_embedding");
    const image = await read<tf.Tensor3D>(latents, "image");
    const signed = tf.tidy(() => tf.sub(tf.mul(tf.div(tf.cast(image, "float32"), 255), 2), 1));
    const sample = { encodedVideo, promptEmbedding, image: tf.transpose(signed, [2, 0, 1]) as tf.Tensor3D };
    tf.dispose([image, signed]);
    return sample;
  } catch (error) {
    tf.dispose(loaded);
    throw error;
  } finally {
    await latents?.close();
    await prompts?.close();
  }
}
