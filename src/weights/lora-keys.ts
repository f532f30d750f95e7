/** What the keys of a LoRA file name: each trainer writes them in its own way, all of them mean PEFT's. */

import { CheckpointError, type WeightSource } from "./checkpoint.js";

/** The weights of one adapted layer, by the keys that hold them. */
export interface LoraKeys {
  /** The parameter ("to_q.lora_A.weight" after its module's name) that a key holds. */
  readonly parameters: ReadonlyMap<string, string>;
  /** The rank of each module's weights. */
  readonly ranks: ReadonlyMap<string, number>;
  /** Keys of the numbers that are a module's alpha, by module. */
  readonly alphas: ReadonlyMap<string, string>;
}

/**
 * What may stand before a module's name: a pipeline's component, the wrappers of PEFT, ComfyUI, DistributedDataParallel and
 * `torch.compile`, in any order.
 */
const PREFIX = /^(?:transformer|base_model\.model|model\.diffusion_model|diffusion_model|module|model)\./;
/** What `torch.compile`, activation checkpointing, FSDP and diffusers' old attention processors put within names. */
const WITHIN = /(?<=^|\.)(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|processor)\./g;
/** Modules' names with _ for dots, after one of these: kohya's scripts, musubi-tuner, LyCORIS. */
const FLAT_PREFIX = /^(?:lora_unet|lora_transformer|lycoris)_+/;

/** How a key ends, and which of PEFT's two matrices that is: `down` is A, `up` is B. */
const ENDS: readonly RegExp[] = [
  /\.lora_(A|B)(?:\.[^.]+)?\.weight$/, // PEFT's own state dict names the adapter, too
  /\.lora_(down|up)\.weight$/, // kohya, musubi-tuner, ComfyUI
  /\.lora\.(down|up)\.weight$/, // diffusers' former layers
  /_lora\.(down|up)\.weight$/, // diffusers' former attention processors
  /\.lora_linear_layer\.(down|up)\.weight$/,
];
const ALPHA = /\.alpha$/;

const MERGE =
  "load it in diffusers, merge it (pipe.fuse_lora(), then pipe.transformer.save_pretrained(FOLDER)) and use that transformer";
/** Adapters that are no LoRA, or more than one, by their keys; and what to do about them. */
const OTHERS: readonly (readonly [keys: RegExp, what: string, hint: string])[] = [
  [
    /lora_magnitude_vector|dora_scale/,
    "a DoRA: magnitudes that rescale the whole weight",
    `not supported; ${MERGE}`,
  ],
  [
    /\.hada_|\.lokr_|\.oft_|\.on_input$|\.ia3_|\.vera_|\.boft_/,
    "LoHa, LoKr, OFT or IA3",
    `not supported; ${MERGE}`,
  ],
  [/\.lora_mid\./, "a convolution in three parts (lora_mid)", `not supported; ${MERGE}`],
  [/\.(?:lora_[AB](?:\.[^.]+)?|lora_(?:up|down))\.bias$/, "biases (lora_bias)", `not supported; ${MERGE}`],
  [/\.diff(?:_b)?$|\.modules_to_save\./, "whole weights beside the LoRA's", `not supported; ${MERGE}`],
  [/lora_embedding_[AB]/, "a LoRA of an embedding", `not supported; ${MERGE}`],
  [
    /\.matrix_[AB]\./,
    "a LoRA of CogVideo's SAT code",
    "its tools/export_sat_lora_weight.py makes it diffusers'",
  ],
  [
    /^(?:text_encoder|text_encoders|lora_te\d?|te\d?)[._]/,
    "a LoRA of the text encoder, too",
    "CogVideoX's LoRAs are of the transformer alone: take these keys out of the file",
  ],
];

/**
 * Finds out what each key holds.
 *
 * @param modules the model's linear layers, for files that write names with _ for dots; without them such names stay as they are.
 * @throws CheckpointError naming the keys that are no LoRA's, and what to do.
 */
export function readLoraKeys(source: WeightSource, modules: Iterable<string> = []): LoraKeys {
  const keys = source.keys();
  for (const [pattern, what, hint] of OTHERS) {
    const found = keys.filter((key) => pattern.test(key));
    if (found.length > 0)
      throw new CheckpointError(`holds ${what} (${some(found)})`, { file: source.path, hint });
  }
  const dotted = new Map([...modules].map((name) => [name.replaceAll(".", "_"), name]));
  const parameters = new Map<string, string>();
  const keyOf = new Map<string, string>();
  const ranks = new Map<string, number>();
  const alphas = new Map<string, string>();
  const strange: string[] = [];
  const twice: string[] = [];
  for (const key of keys) {
    const { module, part } = splitKey(key, dotted);
    if (part === undefined) {
      strange.push(key);
      continue;
    }
    const name = part === "alpha" ? `${module}.alpha` : `${module}.lora_${part}.weight`;
    if (keyOf.has(name)) twice.push(`${keyOf.get(name)} and ${key}`);
    keyOf.set(name, key);
    if (part === "alpha") {
      alphas.set(module, key);
      continue;
    }
    parameters.set(key, name);
    // B's, if it is there; a missing or transposed one is told when the weights are read.
    const rank = source.info(key).shape[part === "B" ? 1 : 0] ?? 0;
    if (part === "B" || !ranks.has(module)) ranks.set(module, rank);
  }
  if (strange.length > 0 || ranks.size === 0) {
    const found = strange.length > 0 ? some(strange) : "none of them";
    throw new CheckpointError(
      `expected LoRA weights, named MODULE.lora_A.weight and MODULE.lora_B.weight or as kohya, musubi-tuner and ComfyUI do, found ${found}`,
      { file: source.path },
    );
  }
  if (twice.length > 0)
    throw new CheckpointError(`the same weights twice: ${some(twice)}`, { file: source.path });
  const alone = [...alphas].filter(([module]) => !ranks.has(module)).map(([, key]) => key);
  if (alone.length > 0)
    throw new CheckpointError(`alpha of a module that has no weights: ${some(alone)}`, { file: source.path });
  return { parameters, ranks, alphas };
}

/** A key's module, by the model's name, and what the key holds of it. */
function splitKey(
  key: string,
  dotted: ReadonlyMap<string, string>,
): { readonly module: string; readonly part: "A" | "B" | "alpha" | undefined } {
  for (const end of ENDS) {
    const match = end.exec(key);
    if (!match) continue;
    const part = match[1] === "A" || match[1] === "down" ? "A" : "B";
    return { module: moduleName(key.slice(0, match.index), dotted), part };
  }
  const part = ALPHA.test(key) ? "alpha" : undefined;
  return { module: moduleName(key.replace(ALPHA, ""), dotted), part };
}

function moduleName(stem: string, dotted: ReadonlyMap<string, string>): string {
  if (FLAT_PREFIX.test(stem)) {
    const flat = stem.replace(FLAT_PREFIX, "");
    return dotted.get(flat) ?? flat;
  }
  let name = stem.replace(WITHIN, "");
  while (PREFIX.test(name)) name = name.replace(PREFIX, "");
  // An attention processor's to_out_lora is of the first of the output's two modules.
  return name.replace(/\.to_out(?:_lora)?$/, ".to_out.0").replace(/\.(to_[qkv])_lora$/, ".$1");
}

const SHOWN = 5;

/** The first few names. */
function some(names: readonly string[]): string {
  const more = names.length - SHOWN;
  return names.slice(0, SHOWN).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
