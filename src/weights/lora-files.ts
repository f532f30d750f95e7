/** LoRA adapters in files: as diffusers' pipelines and models write them, and as PEFT does. */

import { existsSync } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { quote } from "../engine/errors.js";
import { CheckpointError, type WeightSource } from "./checkpoint.js";
import { ConfigError, readJsonObject, writeJson } from "./config.js";
import type { FloatDtype } from "./dtype.js";
import { type HubOptions, type Needs, resolveModel } from "./hub.js";
import { type DeferredTensor, type SafetensorsFile, safeOpen, saveFile } from "./safetensors.js";

/** The file that diffusers writes. */
export const LORA_WEIGHT_NAME = "pytorch_lora_weights.safetensors";
/** The files that PEFT writes. */
const PEFT_WEIGHT_NAME = "adapter_model.safetensors";
const PEFT_CONFIG_NAME = "adapter_config.json";
/** Where diffusers keeps an adapter's configuration, in the safetensors header. */
const METADATA_KEY = "lora_adapter_metadata";

/** What precedes modules' names in files: a pipeline's component, PEFT's wrapper, or nothing. */
const PREFIXES = ["transformer.", "base_model.model."];

export interface LoadLoraOptions extends HubOptions {
  /** Default "default". */
  readonly adapterName?: string;
  /** The file's name, if a folder or a model on the Hub does not use diffusers' or PEFT's. */
  readonly weightName?: string;
  /**
   * The update is scaled by loraAlpha / rank. Files from diffusers' trainers do not record it; it is then taken to be
   * the rank, a factor of 1, as in diffusers.
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
   * Writes rank and alpha into the file's header, where recent versions of diffusers find them. Default false, as in
   * CogVideo's trainers: whoever loads the file sets the scale.
   */
  readonly metadata?: boolean;
  /** Number format in the file. Default float32. */
  readonly dtype?: FloatDtype;
}

/** An open LoRA file: what it adapts, and where its numbers are. */
export interface LoraFile {
  readonly path: string;
  readonly source: SafetensorsFile & WeightSource;
  /** By module: the rank that its weights have, and the alpha that is written for it alone. */
  readonly layers: ReadonlyMap<string, { readonly rank: number; readonly alpha?: number }>;
  /** What its header, or the configuration beside it, says. */
  readonly r?: number;
  readonly loraAlpha?: number;
  readonly useRslora?: boolean;
  /** The parameter ("to_q.lora_A.weight" after its module's name) that a key of the file holds. */
  parameterOf(key: string): string | undefined;
}

/**
 * Opens a safetensors file, a folder of diffusers' or PEFT's, or a model of the Hugging Face Hub. The caller closes its
 * `source`.
 * @throws CheckpointError, ConfigError or SafetensorsError naming the file and what is wrong with it; HubError.
 */
export async function openLora(path: string, options: LoadLoraOptions = {}): Promise<LoraFile> {
  const names =
    options.weightName === undefined ? [LORA_WEIGHT_NAME, PEFT_WEIGHT_NAME] : [options.weightName];
  const needs: Needs = (repository, folder) => [
    repository.oneOf(folder, names),
    ...repository.present(folder, [PEFT_CONFIG_NAME]),
  ];
  const file = await findFile(await resolveModel(path, options, needs), names);
  const source = await safeOpen(file);
  try {
    const { moduleOf, ranks } = readKeys(source);
    const { alphaPattern, ...settings } = await storedSettings(source, file);
    const layers = new Map(
      [...ranks].map(([module, rank]) => [module, { rank, alpha: alphaPattern?.get(module) }] as const),
    );
    return { path: file, source, layers, ...settings, parameterOf: (key) => moduleOf.get(key) };
  } catch (error) {
    await source.close();
    throw error;
  }
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
  { format = "diffusers", weightName, metadata = false }: SaveLoraOptions,
): Promise<void> {
  const prefix = format === "peft" ? "base_model.model." : "transformer.";
  const named = [...tensors].map(([name, tensor]): [string, DeferredTensor] => [prefix + name, tensor]);
  const header = Object.fromEntries(Object.entries(config).map(([key, value]) => [prefix + key, value]));
  await mkdir(folder, { recursive: true });
  const file = join(folder, weightName ?? (format === "peft" ? PEFT_WEIGHT_NAME : LORA_WEIGHT_NAME));
  await saveFile(named, file, {
    format: "pt",
    ...(metadata && format === "diffusers" ? { [METADATA_KEY]: JSON.stringify(header) } : {}),
  });
  if (format === "peft") await writeJson(join(folder, PEFT_CONFIG_NAME), { ...config, peft_type: "LORA" });
}

async function findFile(path: string, names: readonly string[]): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw new CheckpointError("no such file or folder", { file: path });
  if (!found.isDirectory()) return path;
  const name = names.find((name) => existsSync(join(path, name)));
  if (name === undefined) throw new CheckpointError(`found neither ${names.join(" nor ")}`, { file: path });
  return join(path, name);
}

/** The parameter's name for each key, and the rank of each module. */
function readKeys(source: SafetensorsFile): { moduleOf: Map<string, string>; ranks: Map<string, number> } {
  const moduleOf = new Map<string, string>();
  const ranks = new Map<string, number>();
  const strange: string[] = [];
  for (const key of source.keys()) {
    const prefix = PREFIXES.find((prefix) => key.startsWith(prefix)) ?? "";
    // PEFT's own state dict names the adapter after lora_A and lora_B.
    const name = key.slice(prefix.length).replace(/\.(lora_[AB])\.[^.]+\.weight$/, ".$1.weight");
    const match = /^(.+)\.lora_([AB])\.weight$/.exec(name);
    if (!match) {
      strange.push(key);
      continue;
    }
    moduleOf.set(key, name);
    const [, module, matrix] = match;
    if (matrix === "B") ranks.set(module!, source.info(key).shape[1] ?? 0);
  }
  if (strange.length > 0 || ranks.size === 0) {
    const found = strange.length > 0 ? strange.slice(0, 5).join(", ") : "no lora_B.weight at all";
    throw new CheckpointError(
      `expected LoRA weights, named MODULE.lora_A.weight and MODULE.lora_B.weight, found ${found}`,
      { file: source.path },
    );
  }
  return { moduleOf, ranks };
}

interface StoredSettings {
  readonly r?: number;
  readonly loraAlpha?: number;
  readonly useRslora?: boolean;
  readonly alphaPattern?: ReadonlyMap<string, number>;
}

/** Rank and alpha as diffusers' header or PEFT's configuration beside the file give them. */
async function storedSettings(source: WeightSource & SafetensorsFile, file: string): Promise<StoredSettings> {
  const text = source.metadata().get(METADATA_KEY);
  const beside = join(dirname(file), PEFT_CONFIG_NAME);
  let settings: Record<string, unknown> | undefined;
  if (text !== undefined) {
    try {
      settings = JSON.parse(text) as Record<string, unknown>;
    } catch {
      throw new ConfigError(`${METADATA_KEY} in its header is not valid JSON`, { file });
    }
  } else if (file.endsWith(PEFT_WEIGHT_NAME) && existsSync(beside)) {
    settings = await readJsonObject(beside);
  }
  if (settings === undefined) return {};

  const plain = Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [key.replace(/^transformer\./, ""), value]),
  );
  const number = (key: string): number | undefined => {
    const value = plain[key];
    if (value === undefined || value === null) return undefined;
    if (typeof value === "number") return value;
    throw new ConfigError(`${key} must be a number, found ${quote(value)}`, { file });
  };
  if (plain.use_dora === true) throw new ConfigError("DoRA adapters (use_dora) are not supported", { file });
  const pattern = (plain.alpha_pattern ?? {}) as Record<string, number>;
  return {
    r: number("r"),
    loraAlpha: number("lora_alpha"),
    useRslora: plain.use_rslora === true,
    alphaPattern: new Map(
      Object.entries(pattern).map(([module, alpha]) => [module.replace(/^\^/, ""), alpha]),
    ),
  };
}
