/** LoRA adapters in files: as diffusers' pipelines and models write them, as PEFT does, and as other trainers do. */

import { readdir, stat } from "node:fs/promises";
import { join, posix } from "node:path";
import { CheckpointError, makeFolder, type WeightSource } from "./checkpoint.js";
import { writeJson } from "./config.js";
import { type FloatDtype, toFloat32 } from "./dtype.js";
import { type HubOptions, type Needs, resolveModel } from "./hub.js";
import { readLoraKeys } from "./lora-keys.js";
import {
  type LoraSettings,
  METADATA_KEY,
  PEFT_CONFIG_NAME,
  PEFT_WEIGHTS,
  patternValue,
  readLoraSettings,
} from "./lora-settings.js";
import { type DeferredTensor, SafetensorsFile, safeOpen, saveFile } from "./safetensors.js";
import { isTorchFile, openTorchFile } from "./torch-file.js";

const DIFFUSERS_LORA = "pytorch_lora_weights";
/** The file that diffusers writes. */
export const LORA_WEIGHT_NAME = `${DIFFUSERS_LORA}.safetensors`;
/** The file that PEFT writes. */
const PEFT_WEIGHT_NAME = `${PEFT_WEIGHTS}.safetensors`;
/** What a folder's file may be called, in the order in which they are looked for. */
const WEIGHT_NAMES = [LORA_WEIGHT_NAME, PEFT_WEIGHT_NAME, `${DIFFUSERS_LORA}.bin`, `${PEFT_WEIGHTS}.bin`];

export interface LoadLoraOptions extends HubOptions {
  /** Default "default". */
  readonly adapterName?: string;
  /** The file's name, if a folder or a model on the Hub uses neither diffusers' nor PEFT's and has several. */
  readonly weightName?: string;
  /**
   * The update is scaled by loraAlpha / rank. For files that don't say it, such as those of CogVideo's trainers. Default: what
   * the file says, else the rank, a factor of 1, as in diffusers. Another than the file's is refused.
   */
  readonly loraAlpha?: number;
}

export interface SaveLoraOptions {
  /** Default "default". */
  readonly adapterName?: string;
  /**
   * "diffusers": pytorch_lora_weights.safetensors, names after "transformer."; what `pipe.load_lora_weights` reads.
   * "peft": adapter_model.safetensors and adapter_config.json, what `PeftModel.from_pretrained` reads.
   * Default "diffusers".
   */
  readonly format?: "diffusers" | "peft";
  /** Default: the format's. */
  readonly weightName?: string;
  /**
   * Writes rank and alpha into the file's header, as diffusers' `save_lora_weights` does with
   * `transformer_lora_adapter_metadata`; its pipelines then apply the adapter at the scale it was trained with. Default true.
   * Without them, whoever loads the file has to know alpha, as with files of CogVideo's trainers.
   */
  readonly metadata?: boolean;
  /** Number format in the file. Default float32. */
  readonly dtype?: FloatDtype;
}

/** An open LoRA file: what it adapts, and where its numbers are. */
export interface LoraFile {
  readonly path: string;
  readonly source: WeightSource;
  /** By module: the rank that its weights have, and its alpha, if the file says one for it or for all. */
  readonly layers: ReadonlyMap<string, { readonly rank: number; readonly alpha?: number }>;
  /** What its header, or the configuration beside it, says. */
  readonly settings: LoraSettings | undefined;
  /** The parameter ("to_q.lora_A.weight" after its module's name) that a key of the file holds. */
  parameterOf(key: string): string | undefined;
}

/**
 * Opens a file, a folder of diffusers' or PEFT's, or a model of the Hugging Face Hub. Files are safetensors, or of `torch.save`,
 * which are read without running anything in them. The caller closes its `source`.
 *
 * @param modules the model's linear layers: kohya's scripts write their names with _ for dots.
 * @throws CheckpointError, ConfigError or SafetensorsError naming the file and what is wrong with it; HubError.
 */
export async function openLora(
  path: string,
  options: Pick<LoadLoraOptions, "weightName" | keyof HubOptions> = {},
  modules: Iterable<string> = [],
): Promise<LoraFile> {
  const file = await findFile(
    await resolveModel(path, options, loraFiles(options.weightName)),
    options.weightName,
  );
  const source = isTorchFile(file) ? await openTorchFile(file) : await safeOpen(file);
  try {
    const { parameters, ranks, alphas } = readLoraKeys(source, modules);
    const header = source instanceof SafetensorsFile ? source.metadata() : new Map<string, string>();
    const settings = await readLoraSettings(file, header);
    const layers = new Map<string, { rank: number; alpha?: number }>();
    for (const [module, rank] of ranks) {
      assertRank(file, module, rank, settings);
      const key = alphas.get(module);
      const own = key === undefined ? undefined : await readAlpha(source, key);
      const alpha = own ?? (settings && (patternValue(settings.alphaPattern, module) ?? settings.loraAlpha));
      layers.set(module, alpha === undefined ? { rank } : { rank, alpha });
    }
    return { path: file, source, layers, settings, parameterOf: (key) => parameters.get(key) };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** The scale depends on the rank, so it must be the one that the weights have. */
function assertRank(file: string, module: string, rank: number, settings: LoraSettings | undefined): void {
  if (settings === undefined) return;
  const expected = patternValue(settings.rankPattern, module) ?? settings.r;
  if (expected !== undefined && expected !== rank)
    throw new CheckpointError(`${module}: rank ${expected} by ${settings.where}, ${rank} by its weights`, {
      file,
    });
}

async function readAlpha(source: WeightSource, key: string): Promise<number> {
  const { shape } = source.info(key);
  if (shape.some((length) => length !== 1))
    throw new CheckpointError(`${key}: expected a single number, found shape [${shape}]`, {
      file: source.path,
    });
  const { dtype, data } = await source.getData(key);
  const alpha = toFloat32(dtype, data)[0]!;
  if (Number.isFinite(alpha)) return alpha;
  throw new CheckpointError(`${key}: expected a number, found ${alpha}`, { file: source.path });
}

/**
 * Writes an adapter into a folder, which is created if need be.
 *
 * @param tensors by parameter's name, without a prefix.
 * @param config PEFT's configuration of the adapter.
 */
export async function writeLora(
  folder: string,
  tensors: Iterable<readonly [string, DeferredTensor]>,
  config: Readonly<Record<string, unknown>>,
  { format = "diffusers", weightName, metadata = true }: SaveLoraOptions,
): Promise<void> {
  const prefix = format === "peft" ? "base_model.model." : "transformer.";
  const named = [...tensors].map(([name, tensor]): [string, DeferredTensor] => [prefix + name, tensor]);
  const header = Object.fromEntries(
    Object.entries(config)
      .map(([key, value]): [string, unknown] => [prefix + key, value])
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  await makeFolder(folder);
  const file = join(folder, weightName ?? (format === "peft" ? PEFT_WEIGHT_NAME : LORA_WEIGHT_NAME));
  await saveFile(named, file, {
    format: "pt",
    ...(metadata && format === "diffusers" ? { [METADATA_KEY]: JSON.stringify(header, null, 2) } : {}),
  });
  if (format === "peft") await writeJson(join(folder, PEFT_CONFIG_NAME), { ...config, peft_type: "LORA" });
}

const loraFiles =
  (weightName: string | undefined): Needs =>
  (repository, folder) => {
    if (weightName !== undefined) return [repository.oneOf(folder, [weightName])];
    const only = onlyFile(repository.names(folder));
    const weights = repository.oneOf(folder, only === undefined ? WEIGHT_NAMES : [...WEIGHT_NAMES, only]);
    const beside = posix.basename(weights).startsWith(`${PEFT_WEIGHTS}.`) ? [PEFT_CONFIG_NAME] : [];
    return [weights, ...repository.present(folder, beside)];
  };

/** A folder's file under another name is meant if there is only one, as in diffusers. */
function onlyFile(names: readonly string[]): string | undefined {
  const found = names.filter((name) => name.endsWith(".safetensors"));
  return found.length === 1 ? found[0] : undefined;
}

async function findFile(path: string, weightName: string | undefined): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw new CheckpointError("no such file or folder", { file: path });
  if (!found.isDirectory()) return path;
  const there = await readdir(path);
  const wanted = weightName === undefined ? WEIGHT_NAMES : [weightName];
  const name =
    wanted.find((name) => there.includes(name)) ?? (weightName === undefined ? onlyFile(there) : undefined);
  if (name !== undefined) return join(path, name);
  const others = there.filter((name) => name.endsWith(".safetensors"));
  const instead = others.length > 0 ? `, only ${others.join(", ")}` : "";
  throw new CheckpointError(`found neither ${wanted.join(" nor ")}${instead}`, {
    file: path,
    ...(others.length > 1 && weightName === undefined
      ? { hint: "weightName (sample's --lora-weight-name) says which" }
      : {}),
  });
}
