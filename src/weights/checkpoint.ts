/**
 * A model's weights in a folder, as diffusers and transformers keep them: one safetensors file, or several ("shards")
 * with an index that says which tensor is in which.
 */

import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileProblem, InputError, quote } from "../engine/errors.js";
import { readJsonObject, writeJson } from "./config.js";
import { DTYPE_BYTES } from "./dtype.js";
import { type DeferredTensor, type SafetensorsFile, safeOpen, saveFile } from "./safetensors.js";
import { isTorchFile, openTorchFile } from "./torch-file.js";
import { warnOnce } from "./warn-once.js";
import { CheckpointError, type WeightSource } from "./weight-source.js";

export { CheckpointError, type WeightSource };

/** diffusers' name for weight files, without the extension; transformers uses "model". */
export const DIFFUSERS_WEIGHTS = "diffusion_pytorch_model";
export const TRANSFORMERS_WEIGHTS = "model";

export interface WeightsLocation {
  /** File name without variant and extension. Default: diffusers' own. */
  readonly weightsName?: string;
  /** E.g. "fp16" for `diffusion_pytorch_model.fp16.safetensors`. */
  readonly variant?: string;
}

/**
 * Opens the weights in a folder, or one named file. If the folder has not the ones asked for but only others, these are read, and
 * a warning says so: see {@link chooseWeights}.
 * @throws CheckpointError when there are none, or a shard is missing or lacks a tensor that the index promises.
 */
export async function openWeights(path: string, location: WeightsLocation = {}): Promise<WeightSource> {
  if (path.endsWith(".safetensors")) return safeOpen(path);
  if (isTorchFile(path)) return openTorchFile(path);
  const names = await readdir(path).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === "ENOENT") return [];
    throw new CheckpointError(fileProblem(error), { file: path });
  });
  const { file, instead } = chooseWeights(names, location) ?? {};
  if (file === undefined) throw new CheckpointError(...noWeights(names, location, path));
  if (instead !== undefined) warnOnce(`${path}: ${instead}`);
  if (isIndex(file)) return openShards(path, join(path, file));
  return isTorchFile(file) ? openTorchFile(join(path, file)) : safeOpen(join(path, file));
}

/** Weights that were chosen among a folder's files. */
export interface ChosenWeights {
  /** A file of weights, or an index of shards. */
  readonly file: string;
  /** Why it is not what was asked for. */
  readonly instead?: string;
}

/**
 * The weights that a folder has: those asked for; else those without the variant; else those of its only variant; else its only
 * safetensors file, whatever its name; else torch's.
 * @returns undefined if there are none, or several to choose from.
 */
export function chooseWeights(
  names: readonly string[],
  location: WeightsLocation = {},
): ChosenWeights | undefined {
  const { weightsName = DIFFUSERS_WEIGHTS, variant } = location;
  const named = (variant?: string): string | undefined => {
    const { single, index } = weightFiles({ weightsName, variant });
    return [index, single].find((name) => names.includes(name));
  };
  const asked = named(variant);
  if (asked !== undefined) return { file: asked };
  const lacks = variant === undefined ? "" : `has no weights of the variant ${variant}, but `;
  const plain = named();
  if (plain !== undefined) return { file: plain, instead: `${lacks}${plain}, which is read` };
  const variants = variantsOf(names, weightsName);
  if (variants.length > 1) return undefined;
  const only = variants.length === 1 ? named(variants[0]) : onlySafetensors(names);
  if (only !== undefined) return { file: only, instead: `${lacks || "has "}only ${only}, which is read` };
  const stem = weightsName === TRANSFORMERS_WEIGHTS ? "pytorch_model" : weightsName;
  const torch = [variant, undefined].map((variant) => `${fileStem(stem, variant)}.bin`);
  const file = torch.find((name) => names.includes(name));
  return file === undefined ? undefined : { file };
}

const SHARD = /-\d{5}-of-\d{5}/;

/** The variants, such as "fp16", that weights of this name are there in. */
function variantsOf(names: readonly string[], weightsName: string): string[] {
  const stem = literal(weightsName);
  const pattern = new RegExp(`^${stem}(?:\\.([^.]+)\\.safetensors|\\.safetensors\\.index\\.([^.]+)\\.json)$`);
  const found = names
    .filter((name) => !SHARD.test(name))
    .flatMap((name) => pattern.exec(name)?.slice(1) ?? []);
  return [...new Set(found.filter((variant) => variant !== undefined))];
}

function onlySafetensors(names: readonly string[]): string | undefined {
  const found = names.filter((name) => name.endsWith(".safetensors") && !SHARD.test(name));
  return found.length === 1 ? found[0] : undefined;
}

/** Whether it is an index of shards and no file of weights. */
export const isIndex = (name: string): boolean => name.endsWith(".json");

function noWeights(
  names: readonly string[],
  location: WeightsLocation,
  file: string,
): [problem: string, details: { file: string; hint?: string }] {
  const { single, index } = weightFiles(location);
  const others = names.filter((name) => WEIGHTS.test(name));
  const instead = others.length > 0 ? `, only ${others.join(", ")}` : "";
  const variants = variantsOf(names, location.weightsName ?? DIFFUSERS_WEIGHTS);
  let hint: string | undefined;
  if (variants.length > 1) hint = `variant says which: ${variants.join(" or ")}`;
  else if (others.length > 0 && !others.some((name) => name.endsWith(".safetensors")))
    hint = "write them as safetensors in Python: save_pretrained(FOLDER, safe_serialization=True)";
  return [
    `found neither ${single} nor ${index}${instead}`,
    { file, ...(hint === undefined ? {} : { hint }) },
  ];
}

/** Files that hold weights in some format. */
export const WEIGHTS = /\.(safetensors|bin|pt|pth|ckpt|h5|msgpack|onnx|gguf)$/;

/** The names that a model's weights may have: one file, or an index of shards, which takes precedence. */
export function weightFiles({ weightsName = DIFFUSERS_WEIGHTS, variant }: WeightsLocation = {}): {
  readonly single: string;
  readonly index: string;
} {
  return {
    single: `${fileStem(weightsName, variant)}.safetensors`,
    index: indexName(weightsName, variant),
  };
}

/** Which file of the folder holds a tensor, by the tensor's name. @throws CheckpointError naming the index. */
export async function readShardIndex(indexPath: string): Promise<Map<string, string>> {
  const { weight_map: map } = await readJsonObject(indexPath);
  if (typeof map !== "object" || map === null || Array.isArray(map))
    throw new CheckpointError("expected a weight_map of tensor names to files", { file: indexPath });
  const fileOf = new Map<string, string>();
  for (const [key, file] of Object.entries(map)) {
    // Only plain names: an index must not reach outside its folder.
    if (typeof file !== "string" || file !== basename(file) || !file.endsWith(".safetensors"))
      throw new CheckpointError(
        `"${key}" must be in a safetensors file of this folder, found ${quote(file)}`,
        { file: indexPath },
      );
    fileOf.set(key, file);
  }
  return fileOf;
}

async function openShards(folder: string, indexPath: string): Promise<WeightSource> {
  const fileOf = await readShardIndex(indexPath);
  const names = [...new Set(fileOf.values())].sort();
  const missing = names.filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0)
    throw new CheckpointError(
      `${missing.length} of ${names.length} files are missing: ${missing.join(", ")}`,
      { file: indexPath },
    );

  const shards = new Map<string, SafetensorsFile>();
  const close = async () => {
    await Promise.all([...shards.values()].map((shard) => shard.close()));
  };
  try {
    for (const name of names) shards.set(name, await safeOpen(join(folder, name)));
    for (const [key, name] of fileOf)
      if (!shards.get(name)!.has(key))
        throw new CheckpointError(`"${key}" should be in ${name}, but is not`, { file: indexPath });
  } catch (error) {
    await close();
    throw error;
  }
  const shardOf = (key: string): SafetensorsFile => {
    const name = fileOf.get(key);
    if (name === undefined) throw new CheckpointError(`no tensor "${key}"`, { file: indexPath });
    return shards.get(name)!;
  };
  return {
    path: indexPath,
    keys: () => [...fileOf.keys()],
    info: (key) => shardOf(key).info(key),
    getData: (key, buffer) => shardOf(key).getData(key, buffer),
    again: {
      stamp: [...shards.values()].map(({ again }) => again.stamp).join(" "),
      getDataSync: (key, buffer) => shardOf(key).again.getDataSync(key, buffer),
      readAhead: (key) => shardOf(key).again.readAhead(key),
    },
    close,
  };
}

/**
 * Creates a folder to write to, if need be.
 * @throws CheckpointError if a file is in the way.
 */
export async function makeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST" && error.code !== "ENOTDIR") throw error;
    throw new CheckpointError("expected a folder to write to, found a file", { file: folder });
  });
}

export interface SaveWeightsOptions extends WeightsLocation {
  /** Largest file, in bytes or as "10GB", "500MB" (powers of 1000). A tensor larger than that gets a file of its own. */
  readonly maxShardSize?: number | string;
}

/**
 * Writes tensors into a folder as diffusers does: into one file when they fit `maxShardSize` (default "10GB"), else into
 * shards with an index. Files of an earlier save that could be taken for part of this one are removed at the end.
 */
export async function saveWeights(
  folder: string,
  tensors: readonly (readonly [string, DeferredTensor])[],
  { weightsName = DIFFUSERS_WEIGHTS, variant, maxShardSize = "10GB" }: SaveWeightsOptions = {},
): Promise<void> {
  const shards = splitIntoShards(tensors, parseSize(maxShardSize));
  const stem = fileStem(weightsName, variant);
  const index = indexName(weightsName, variant);
  const written = new Set<string>();
  if (shards.length === 1) {
    await saveFile(tensors, join(folder, `${stem}.safetensors`));
    written.add(`${stem}.safetensors`);
  } else {
    const weightMap: Record<string, string> = {};
    const finished: [temporary: string, name: string][] = [];
    try {
      for (const [i, shard] of shards.entries()) {
        const name = `${stem}-${count(i + 1)}-of-${count(shards.length)}.safetensors`;
        const temporary = join(folder, `${name}.tmp`);
        finished.push([temporary, name]);
        await saveFile(shard, temporary);
        for (const [key] of shard) weightMap[key] = name;
      }
    } catch (error) {
      for (const [temporary] of finished) await rm(temporary, { force: true });
      throw error;
    }
    // If this is cut short, an earlier save's shards and index must not be mistaken for one model.
    if (finished.some(([, name]) => existsSync(join(folder, name))))
      await rm(join(folder, index), { force: true });
    for (const [temporary, name] of finished) {
      await rename(temporary, join(folder, name));
      written.add(name);
    }
    const totalSize = tensors.reduce((sum, [, tensor]) => sum + byteLength(tensor), 0);
    const sortedMap = Object.fromEntries(Object.entries(weightMap).sort(([a], [b]) => (a < b ? -1 : 1)));
    await writeJson(join(folder, index), { metadata: { total_size: totalSize }, weight_map: sortedMap });
    written.add(index);
  }
  const own = new RegExp(`^(${literal(stem)}(-\\d{5}-of-\\d{5})?\\.safetensors)$`);
  if (!written.has(index)) await rm(join(folder, index), { force: true }); // first, since it would be read before the new file
  for (const name of await readdir(folder))
    if (own.test(name) && !written.has(name)) await rm(join(folder, name));
}

/** Fills files in order, starting the next one when a tensor does not fit. */
function splitIntoShards<T extends readonly [string, DeferredTensor]>(
  tensors: readonly T[],
  limit: number,
): T[][] {
  const shards: T[][] = [[]];
  let size = 0;
  for (const entry of tensors) {
    const bytes = byteLength(entry[1]);
    if (shards.at(-1)!.length > 0 && size + bytes > limit) {
      shards.push([]);
      size = 0;
    }
    shards.at(-1)!.push(entry);
    size += bytes;
  }
  return shards;
}

function byteLength({ dtype, shape }: DeferredTensor): number {
  return shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype]);
}

/** "10GB" and the like in bytes, with powers of 1000 as in huggingface_hub. */
export function parseSize(size: number | string): number {
  if (typeof size === "number") {
    if (size > 0) return size;
    throw new InputError(`maxShardSize: expected a positive number of bytes, found ${size}`);
  }
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT])B$/i.exec(size);
  if (!match)
    throw new InputError(`maxShardSize: expected a size such as "10GB" or "500MB", found "${size}"`);
  return Math.floor(Number(match[1]) * 1000 ** ("KMGT".indexOf(match[2]!.toUpperCase()) + 1));
}

function fileStem(weightsName: string, variant?: string): string {
  return variant ? `${weightsName}.${variant}` : weightsName;
}

function indexName(weightsName: string, variant?: string): string {
  return variant
    ? `${weightsName}.safetensors.index.${variant}.json`
    : `${weightsName}.safetensors.index.json`;
}

const count = (n: number): string => String(n).padStart(5, "0");
const literal = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
