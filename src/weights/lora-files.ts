/** LoRA adapters in files: as diffusers' pipelines and models write them, and as PEFT does. */
import { existsSync } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  type LayerPlan,
  type LoraAdapter,
  type LoraAdapters,
  type LoraConfig,
  loraScaling,
} from "../nn/lora.js";
import { loadParameters } from "../nn/module.js";
import { CheckpointError, type WeightSource } from "./checkpoint.js";
import { ConfigError, readJsonObject, writeJson } from "./config.js";
import { FLOAT_DTYPES, type FloatDtype } from "./dtype.js";
import { type DeferredTensor, type SafetensorsFile, safeOpen, saveFile } from "./safetensors.js";

/** The file that diffusers writes. */
export const LORA_WEIGHT_NAME = "pytorch_lora_weights.safetensors";
/** The files that PEFT writes. */
const PEFT_WEIGHT_NAME = "adapter_model.safetensors";
const PEFT_CONFIG_NAME = "adapter_config.json";
/** Where diffusers keeps an adapter's configuration, in the safetensors header. */
const METADATA_KEY = "lora_adapter_metadata";

/** What stands before the modules' names in files: a pipeline's component, PEFT's wrapper, or nothing. */
const PREFIXES = ["transformer.", "base_model.model."];

export interface LoadLoraOptions {
  /** Default "default". */
  readonly adapterName?: string;
  /** The file's name, where the path is a folder that holds another than diffusers' or PEFT's. */
  readonly weightName?: string;
  /**
   * The update is scaled by loraAlpha / rank. Files of diffusers' trainers do not say what it was; then it is taken
   * to be the rank, a factor of 1, as diffusers does.
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
   * Writes rank and alpha into the file's header, where recent diffusers find them. Default false, as CogVideo's
   * trainers do: whoever loads the file sets the scale.
   */
  readonly metadata?: boolean;
  /** Number format in the file. Default float32. */
  readonly dtype?: FloatDtype;
}

/**
 * Reads an adapter from a safetensors file, or from a folder of diffusers' or PEFT's.
 * @throws CheckpointError listing what is missing, unexpected or of another shape; ConfigError; SafetensorsError.
 */
export async function loadLora(
  adapters: LoraAdapters,
  path: string,
  { adapterName = "default", weightName, loraAlpha }: LoadLoraOptions = {},
): Promise<LoraAdapter> {
  const file = await findFile(path, weightName);
  const source = await safeOpen(file);
  try {
    const { moduleOf, ranks } = readKeys(source);
    const settings = {
      ...(await storedSettings(source, file)),
      ...(loraAlpha === undefined ? {} : { loraAlpha }),
    };
    const [firstRank] = ranks.values();
    const config: LoraConfig = {
      r: settings.r ?? firstRank!,
      loraAlpha: settings.loraAlpha ?? settings.r ?? firstRank!,
      targetModules: [...ranks.keys()],
      useRslora: settings.useRslora,
    };
    const plan = new Map(
      [...ranks].map(([module, rank]): [string, LayerPlan] => {
        const alpha = settings.alphaPattern?.get(module) ?? settings.loraAlpha ?? rank;
        return [module, { rank, scaling: loraScaling(config, rank, alpha) }];
      }),
    );
    const adapter = adapters.create(adapterName, config, plan);
    try {
      const unknown = [...plan.keys()].filter((module) => !adapter.layers.has(module));
      if (unknown.length > 0) {
        throw new CheckpointError(
          `${file}: the model has no linear layers of these names: ${unknown.join(", ")}`,
        );
      }
      await loadParameters(adapter.parameters, source, { rename: (key) => moduleOf.get(key) });
    } catch (error) {
      adapters.delete([adapterName]);
      throw error;
    }
    return adapter;
  } finally {
    await source.close();
  }
}

/** Writes an adapter into a folder, which is made if need be. */
export async function saveLora(
  adapters: LoraAdapters,
  folder: string,
  {
    adapterName = "default",
    format = "diffusers",
    weightName,
    metadata = false,
    dtype = "float32",
  }: SaveLoraOptions,
): Promise<void> {
  const adapter = adapters.get(adapterName);
  const prefix = format === "peft" ? "base_model.model." : "transformer.";
  const tensors = [...adapter.parameters].map(([name, parameter]): [string, DeferredTensor] => [
    prefix + name,
    { dtype: FLOAT_DTYPES[dtype], shape: parameter.shape, load: () => parameter.values() },
  ]);
  const peft = peftConfig(adapter);
  const header = Object.fromEntries(Object.entries(peft).map(([key, value]) => [prefix + key, value]));
  await mkdir(folder, { recursive: true });
  const file = join(folder, weightName ?? (format === "peft" ? PEFT_WEIGHT_NAME : LORA_WEIGHT_NAME));
  await saveFile(tensors, file, {
    format: "pt",
    ...(metadata && format === "diffusers" ? { [METADATA_KEY]: JSON.stringify(header) } : {}),
  });
  if (format === "peft") await writeJson(join(folder, PEFT_CONFIG_NAME), { ...peft, peft_type: "LORA" });
}

async function findFile(path: string, weightName: string | undefined): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw new CheckpointError(`${path}: no such file or folder`);
  if (!found.isDirectory()) return path;
  const names = weightName === undefined ? [LORA_WEIGHT_NAME, PEFT_WEIGHT_NAME] : [weightName];
  const name = names.find((name) => existsSync(join(path, name)));
  if (name === undefined) throw new CheckpointError(`${path}: found neither ${names.join(" nor ")}`);
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
      `${source.path}: expected LoRA weights, named MODULE.lora_A.weight and MODULE.lora_B.weight, found ${found}`,
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
      throw new ConfigError(`${file}: ${METADATA_KEY} in its header is not valid JSON`);
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
    throw new ConfigError(`${file}: ${key} must be a number, found ${JSON.stringify(value)}`);
  };
  if (plain.use_dora === true) throw new ConfigError(`${file}: DoRA adapters (use_dora) are not supported`);
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

/** PEFT's configuration of the adapter; layers of another rank or alpha than its own are in the patterns. */
function peftConfig({ config, layers }: LoraAdapter): Record<string, unknown> {
  const ranks: Record<string, number> = {};
  const alphas: Record<string, number> = {};
  for (const [module, { rank, scaling }] of layers) {
    const alpha = scaling / loraScaling(config, rank, 1);
    if (rank !== config.r) ranks[module] = rank;
    if (Math.abs(alpha - config.loraAlpha) > 1e-9 * Math.abs(alpha)) alphas[module] = alpha;
  }
  return {
    r: config.r,
    lora_alpha: config.loraAlpha,
    lora_dropout: config.loraDropout ?? 0,
    target_modules: Array.isArray(config.targetModules) ? config.targetModules : [...layers.keys()],
    use_rslora: config.useRslora ?? false,
    rank_pattern: ranks,
    alpha_pattern: alphas,
  };
}
