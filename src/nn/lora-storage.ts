/** Reads and writes a model's LoRA adapters. */
import { CheckpointError } from "../weights/checkpoint.js";
import { FLOAT_DTYPES } from "../weights/dtype.js";
import {
  type LoadLoraOptions,
  type LoraFile,
  openLora,
  type SaveLoraOptions,
  writeLora,
} from "../weights/lora-files.js";
import type { DeferredTensor } from "../weights/safetensors.js";
import { type LayerPlan, type LoraAdapter, type LoraAdapters, type LoraConfig, loraScaling } from "./lora.js";
import { loadParameters } from "./module.js";

/**
 * Reads an adapter from a safetensors file, a folder of diffusers' or PEFT's, or the Hugging Face Hub.
 * @throws CheckpointError listing what is missing, unexpected or of another shape; ConfigError; SafetensorsError.
 */
export async function loadLora(
  adapters: LoraAdapters,
  path: string,
  options: LoadLoraOptions = {},
): Promise<LoraAdapter> {
  const { adapterName = "default", loraAlpha } = options;
  const file = await openLora(path, options, adapters.moduleNames);
  try {
    const { settings } = file;
    if (loraAlpha !== undefined) assertAlpha(file, loraAlpha);
    const alphaOf = ({ rank, alpha }: { rank: number; alpha?: number }) => alpha ?? loraAlpha ?? rank;
    const [first] = file.layers.values();
    const config: LoraConfig = {
      r: settings?.r ?? first!.rank,
      loraAlpha: settings?.loraAlpha ?? alphaOf(first!),
      targetModules: [...file.layers.keys()],
      useRslora: settings?.useRslora,
    };
    const plan = new Map(
      [...file.layers].map(([module, layer]): [string, LayerPlan] => [
        module,
        { rank: layer.rank, scaling: loraScaling(config, layer.rank, alphaOf(layer)) },
      ]),
    );
    const adapter = adapters.create(adapterName, config, plan);
    try {
      const unknown = [...plan.keys()].filter((module) => !adapter.layers.has(module));
      if (unknown.length > 0) {
        throw new CheckpointError(`the model has no linear layers of these names: ${unknown.join(", ")}`, {
          file: file.path,
        });
      }
      await loadParameters(adapter.parameters, file.source, { rename: (key) => file.parameterOf(key) });
    } catch (error) {
      adapters.delete([adapterName]);
      throw error;
    }
    return adapter;
  } finally {
    await file.source.close();
  }
}

/** A scale of one's own is what `setAdapters` is for; here a difference means that one of the two is wrong. */
function assertAlpha({ path, layers }: LoraFile, given: number): void {
  for (const [module, { alpha }] of layers)
    if (alpha !== undefined && alpha !== given)
      throw new CheckpointError(`says alpha ${alpha} for ${module}, loraAlpha is ${given}`, {
        file: path,
        hint: "leave it out; setAdapters (sample's --lora-scale) scales an adapter",
      });
}

/** Writes an adapter into a folder, which is created if need be. */
export async function saveLora(
  adapters: LoraAdapters,
  folder: string,
  { adapterName = "default", dtype = "float32", ...options }: SaveLoraOptions,
): Promise<void> {
  const adapter = adapters.get(adapterName);
  const tensors = [...adapter.parameters].map(([name, parameter]): [string, DeferredTensor] => [
    name,
    { dtype: FLOAT_DTYPES[dtype], shape: parameter.shape, load: () => parameter.values() },
  ]);
  await writeLora(folder, tensors, peftConfig(adapter), options);
}

/** PEFT's configuration of the adapter; layers with a different rank or alpha are in the patterns. */
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
