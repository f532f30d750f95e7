/** Fills the latent cache, for `firstframe encode` and for `firstframe train` before it trains. */

import { mkdir, readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { fileProblem, firstLine, InputError } from "../engine/errors.js";
import { removeAbandoned } from "../files/atomic.js";
import {
  CogVideoXTransformer3DModel,
  type CogVideoXTransformer3DModelConfig,
} from "../models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import { ClipError } from "../video/read.js";
import type { ModelDtype } from "../weights/dtype.js";
import { ArgumentError, type TrainArguments } from "./arguments.js";
import { assignBuckets, type Bucket, type DatasetEntry, DatasetError, readDataset } from "./dataset.js";
import { CACHE_PARTS, type EncodeReport, LatentCache } from "./latent-cache.js";
import { T5PromptEncoder } from "./prompt-encoder.js";
import { parseYaml } from "./yaml-text.js";

/** The arguments that a training's cache depends on. The seed is not one of them: see {@link LatentCache}. */
export type CacheArguments = Pick<
  TrainArguments,
  | "model_path"
  | "model_name"
  | "model_type"
  | "transformer_config"
  | "enable_slicing"
  | "enable_tiling"
  | "data_root"
  | "caption_column"
  | "video_column"
  | "image_column"
  | "id_token"
  | "fit"
  | "short_clips"
  | "fps"
  | "frame_extraction"
  | "broken_clips"
  | "cache_dir"
  | "mixed_precision"
>;

/** A clip of the data set and the size it is brought to. */
export interface AssignedEntry {
  readonly entry: DatasetEntry;
  readonly bucket: Bucket;
}

/** One of `count` parts of a data set, counted from 0. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

const cacheDir = ({ cache_dir, data_root }: CacheArguments): string => cache_dir ?? join(data_root!, "cache");

/** The folders of a cache that a run writes to. */
export const cacheFolders = (args: CacheArguments): string[] =>
  [".", ...CACHE_PARTS].map((name) => join(cacheDir(args), name));

/** Where hashes of files are kept beside the cache. */
export const contentDir = (args: CacheArguments): string => join(cacheDir(args), "content");

/** The format of frozen models' weights, as in the recipe. */
export const frozenDtype = ({ mixed_precision }: Pick<TrainArguments, "mixed_precision">): ModelDtype =>
  mixed_precision === "bf16" ? "bfloat16" : "float32";

/** The pipeline's VAE, with slicing and tiling as the arguments say. The caller disposes it. */
export async function openVae(args: CacheArguments): Promise<AutoencoderKLCogVideoX> {
  const dtype = frozenDtype(args);
  const vae = await AutoencoderKLCogVideoX.fromPretrained(join(args.model_path!, "vae"), { dtype });
  if (args.enable_slicing) vae.enableSlicing();
  if (args.enable_tiling) vae.enableTiling();
  return vae;
}

/**
 * The transformer's configuration: the folder's, or that of a new transformer.
 *
 * @throws ArgumentError or ConfigError naming the file and what is wrong with it.
 */
export async function readTransformerConfig(
  args: CacheArguments,
): Promise<CogVideoXTransformer3DModelConfig> {
  const file = args.transformer_config;
  if (file === undefined)
    return CogVideoXTransformer3DModel.loadConfig(join(args.model_path!, "transformer"));
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    throw new ArgumentError(`transformer_config: ${file}: ${fileProblem(error)}`);
  });
  let config: unknown;
  try {
    config = extname(file) === ".json" ? JSON.parse(text) : await parseYaml(text);
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof InputError)) throw error;
    throw new ArgumentError(`transformer_config: ${file}: ${firstLine(error)}`);
  }
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    throw new ArgumentError(`transformer_config: ${file}: expected keys with their values`);
  }
  const keys = Object.entries(config).filter(([key]) => !key.startsWith("_"));
  return CogVideoXTransformer3DModel.completeConfig(Object.fromEntries(keys));
}

/** The cache of a data set for a model. The caller disposes the prompt encoder, which loads its model only when needed. */
export async function openCache(
  args: CacheArguments,
  vae: AutoencoderKLCogVideoX,
  transformer: Pick<CogVideoXTransformer3DModelConfig, "max_text_seq_length" | "patch_size_t">,
  log?: (line: string) => void,
): Promise<{ cache: LatentCache; promptEncoder: T5PromptEncoder }> {
  const { max_text_seq_length: maxLength, patch_size_t: patch } = transformer;
  await mkdir(cacheDir(args), { recursive: true }).catch((error: Error) => {
    throw new ArgumentError(`cache_dir: expected a folder to write to (${firstLine(error)})`, {
      file: cacheDir(args),
    });
  });
  await removeAbandoned(cacheDir(args));
  const promptEncoder = await T5PromptEncoder.open(args.model_path!, maxLength, contentDir(args), {
    dtype: frozenDtype(args),
  });
  const cache = await LatentCache.open({
    cacheDir: cacheDir(args),
    modelName: args.model_name ?? `${patch === null ? "cogvideox" : "cogvideox1.5"}-${args.model_type}`,
    vae,
    promptEncoder,
    fit: args.fit,
    shortClips: args.short_clips,
    fps: args.fps,
    frameExtraction: args.frame_extraction,
    log,
  });
  return { cache, promptEncoder };
}

/**
 * The data set's clips, each with its bucket.
 *
 * @param options.skipped is told of clips that fit no bucket or can't be read, if `broken_clips` is "skip".
 * @throws DatasetError naming the clip, if it is "error".
 */
export async function readEntries(
  args: CacheArguments,
  buckets: readonly Bucket[],
  {
    shard = { index: 0, count: 1 },
    skipped,
  }: { readonly shard?: Shard; readonly skipped: (problem: string) => void },
): Promise<AssignedEntry[]> {
  const entries = await readDataset({
    dataRoot: args.data_root!,
    captionColumn: args.caption_column,
    videoColumn: args.video_column,
    imageColumn: args.image_column,
    idToken: args.id_token,
  });
  const own = entries.filter((_, i) => i % shard.count === shard.index);
  const { fps, frame_extraction: frameExtraction } = args;
  const found = await assignBuckets(own, buckets, { fps, frameExtraction });
  return own.flatMap((entry, i) => {
    const place = found[i]!;
    if ("bucket" in place) {
      const { bucket, parts } = place;
      if (parts === 1) return [{ entry, bucket }];
      // An image is of the clip's beginning: later parts have their own first frames.
      const { image, ...clip } = entry;
      return Array.from({ length: parts }, (_, part) => ({
        entry: part === 0 ? { ...clip, image, part } : { ...clip, part },
        bucket,
      }));
    }
    if (args.broken_clips === "error") throw new DatasetError(place.problem);
    skipped(place.problem);
    return [];
  });
}

/** The outcome for one clip, with what was done to it or what is wrong with it. */
export interface ClipReport {
  /** Counted from 1. */
  readonly number: number;
  readonly total: number;
  readonly outcome: "encoded" | "was there" | "skipped";
  readonly text: string;
}

export interface FilledCache {
  readonly entries: readonly EncodeReport[];
  /** The clips of `entries`. */
  readonly taken: readonly AssignedEntry[];
  readonly encoded: number;
  /** False if it was aborted. */
  readonly finished: boolean;
}

/**
 * Encodes what the cache does not have yet.
 *
 * @param options.verify reads existing entries to the last byte.
 * @param options.signal stops it after the current clip.
 * @throws ClipError or DatasetError naming the clip, unless `broken_clips` is "skip".
 */
export async function fillCache(
  cache: LatentCache,
  assigned: readonly AssignedEntry[],
  {
    brokenClips,
    verify,
    signal,
    report,
  }: {
    readonly brokenClips: CacheArguments["broken_clips"];
    readonly verify?: boolean;
    readonly signal?: AbortSignal;
    readonly report: (clip: ClipReport) => void;
  },
): Promise<FilledCache> {
  const entries: EncodeReport[] = [];
  const taken: AssignedEntry[] = [];
  let encoded = 0;
  for (const [i, { entry, bucket }] of assigned.entries()) {
    if (signal?.aborted) return { entries, taken, encoded, finished: false };
    const place = { number: i + 1, total: assigned.length };
    try {
      const result = await cache.ensure(entry, bucket, { verify });
      entries.push(result);
      taken.push({ entry, bucket });
      if (result.encoded) encoded++;
      report({ ...place, outcome: result.encoded ? "encoded" : "was there", text: result.report });
    } catch (error) {
      const isClipProblem = error instanceof ClipError || error instanceof DatasetError;
      if (brokenClips === "error" || !isClipProblem) throw error;
      report({ ...place, outcome: "skipped", text: error.message });
    }
  }
  return { entries, taken, encoded, finished: true };
}
