/** A LoRA's rank and alpha as files say them: PEFT's configuration, in a header or beside the weights. */

import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { InputError, quote } from "../engine/errors.js";
import { ConfigError, readJsonObject } from "./config.js";

/** Where diffusers keeps an adapter's configuration, in the safetensors header. */
export const METADATA_KEY = "lora_adapter_metadata";
/** Where finetrainers keeps it. */
const FINETRAINERS_KEY = "lora_config";
/** PEFT's file beside the weights. */
export const PEFT_CONFIG_NAME = "adapter_config.json";
/** PEFT's name for weights, without the extension. */
export const PEFT_WEIGHTS = "adapter_model";
/** `LoraConfig.lora_alpha` of a configuration that leaves it out. */
const PEFT_ALPHA = 8;

/** Numbers by the modules that have another than the adapter's own: by their names, or by PEFT's regular expressions of these. */
export type LoraPattern = Readonly<Record<string, number>>;

/** The part of PEFT's `LoraConfig` that decides what the weights mean. */
export interface LoraSettings {
  readonly r?: number;
  readonly loraAlpha: number;
  readonly useRslora: boolean;
  readonly rankPattern: LoraPattern;
  readonly alphaPattern: LoraPattern;
  /** Where it was found, for messages. */
  readonly where: string;
}

/**
 * A module's number in PEFT's `rank_pattern` or `alpha_pattern`: that of the first key which matches the module's name or an
 * end of it after a dot. Keys are regular expressions; "^" pins one to the whole name, as diffusers writes it.
 *
 * @returns undefined where no key matches.
 * @throws InputError where the first of two keys is not known: JavaScript puts keys such as "0" before all others.
 */
export function patternValue(pattern: LoraPattern, module: string): number | undefined {
  const matches = Object.keys(pattern).filter((key) => new RegExp(`^(?:.*\\.)?(?:${key})$`).test(module));
  const [first, ...others] = matches;
  if (first === undefined) return pattern[module];
  const other = others.find((key) => pattern[key] !== pattern[first]);
  if (/^\d+$/.test(first) && other !== undefined)
    throw new InputError(`pattern: both ${quote(first)} and ${quote(other)} match ${module}`, {
      hint: `the order of keys that are numbers gets lost, so write ${quote(`${first}$`)}`,
    });
  return pattern[first];
}

/** @returns what is wrong with a pattern; undefined if nothing is. */
export function patternProblem(pattern: unknown, isValue: (value: number) => boolean): string | undefined {
  if (typeof pattern !== "object" || pattern === null || Array.isArray(pattern))
    return `expected numbers by modules' names, found ${quote(pattern)}`;
  for (const [key, value] of Object.entries(pattern)) {
    if (typeof value !== "number" || !isValue(value))
      return `${quote(key)}: expected a number, found ${quote(value)}`;
    try {
      new RegExp(key);
    } catch {
      return `${quote(key)} is not a regular expression that JavaScript knows`;
    }
  }
  return undefined;
}

/** Whether a number can be a rank. */
export const isRank = (value: number): boolean => Number.isInteger(value) && value > 0;

/**
 * Reads the settings of a LoRA file.
 *
 * @param header the safetensors header's strings.
 * @returns undefined if neither the header nor a configuration beside the file says anything.
 * @throws ConfigError naming the file and the key.
 */
export async function readLoraSettings(
  file: string,
  header: ReadonlyMap<string, string>,
): Promise<LoraSettings | undefined> {
  const key = [METADATA_KEY, FINETRAINERS_KEY].find((name) => header.has(name));
  if (key !== undefined)
    return parseSettings(parseHeader(file, key, header.get(key)!), file, `${key} in its header`);
  const beside = join(dirname(file), PEFT_CONFIG_NAME);
  if (!basename(file).startsWith(`${PEFT_WEIGHTS}.`) || !existsSync(beside)) return undefined;
  return parseSettings(await readJsonObject(beside), beside, PEFT_CONFIG_NAME);
}

function parseHeader(file: string, key: string, text: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ConfigError(`${key} in its header is not valid JSON`, { file });
  }
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new ConfigError(`${key} in its header must be a JSON object, found ${quote(json)}`, { file });
  // A pipeline's header has its components' settings side by side.
  return Object.fromEntries(
    Object.entries(json).map(([name, value]) => [name.replace(/^transformer\./, ""), value]),
  );
}

/** Settings that change what the weights mean and are not supported, with the values that mean nothing special. */
const UNSUPPORTED: Readonly<Record<string, string>> = {
  use_dora: "DoRA adapters",
  lora_bias: "LoRAs with biases",
  layer_replication: "replicated layers",
  modules_to_save: "modules trained in full beside the LoRA",
  use_qalora: "QALoRA adapters",
};

function parseSettings(given: Readonly<Record<string, unknown>>, file: string, where: string): LoraSettings {
  const fail = (problem: string, hint?: string): never => {
    throw new ConfigError(problem, { file, hint });
  };
  const number = (key: string, fits: (value: number) => boolean, expected: string): number | undefined => {
    const value = given[key] ?? undefined;
    if (value === undefined) return undefined;
    if (typeof value === "number" && fits(value)) return value;
    return fail(`${key} must be ${expected}, found ${quote(value)}`);
  };
  const pattern = (key: string, fits: (value: number) => boolean): LoraPattern => {
    const value = given[key] ?? {};
    const problem = patternProblem(value, fits);
    return problem === undefined ? (value as LoraPattern) : fail(`${key}: ${problem}`);
  };
  const type = given.peft_type ?? "LORA";
  if (type !== "LORA") fail(`peft_type must be "LORA", found ${quote(type)}`);
  for (const [key, what] of Object.entries(UNSUPPORTED)) {
    const value = given[key] ?? false;
    if (value !== false && !(Array.isArray(value) && value.length === 0))
      fail(
        `${what} (${key}) are not supported`,
        "merge it into the model in diffusers or PEFT, and use that",
      );
  }
  return {
    r: number("r", isRank, "a whole number above 0"),
    loraAlpha: number("lora_alpha", Number.isFinite, "a number") ?? PEFT_ALPHA,
    useRslora: given.use_rslora === true,
    rankPattern: pattern("rank_pattern", isRank),
    alphaPattern: pattern("alpha_pattern", Number.isFinite),
    where,
  };
}
