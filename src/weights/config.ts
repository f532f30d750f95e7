/**
 * Configurations in diffusers' files: `config.json` of a model, `scheduler_config.json`, `model_index.json` of a pipeline.
 * A model lists its keys once, as a record of fields; defaults, types and checks all follow from it.
 */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { InputError, quote } from "../engine/errors.js";
import { didYouMean } from "../engine/suggestion.js";
import { writeAtomically } from "../files/atomic.js";
import { warnOnce } from "./warn-once.js";

/** The diffusers release whose file formats are written. */
export const DIFFUSERS_VERSION = "0.40.0";

/** One key of a configuration: its default, and the values it accepts. */
export interface Field<T> {
  readonly default: T;
  /** For messages, e.g. "a positive integer". */
  readonly expected: string;
  accepts(value: unknown): boolean;
}

export type Fields = Readonly<Record<string, Field<unknown>>>;

/** The configuration type that a record of fields describes. */
export type ConfigOf<F extends Fields> = { readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

export const positiveInteger = (value: number): Field<number> => ({
  default: value,
  expected: "a positive integer",
  accepts: (found) => Number.isSafeInteger(found) && (found as number) > 0,
});

export const integer = (value: number): Field<number> => ({
  default: value,
  expected: "an integer",
  accepts: (found) => Number.isSafeInteger(found),
});

export const number = (value: number): Field<number> => ({
  default: value,
  expected: "a number",
  accepts: (found) => typeof found === "number" && Number.isFinite(found),
});

export const boolean = (value: boolean): Field<boolean> => ({
  default: value,
  expected: "true or false",
  accepts: (found) => typeof found === "boolean",
});

export const oneOf = <const T extends string>(value: NoInfer<T>, choices: readonly T[]): Field<T> => ({
  default: value,
  expected: `one of ${choices.map((choice) => `"${choice}"`).join(", ")}`,
  accepts: (found) => (choices as readonly unknown[]).includes(found),
});

/** A list whose entries `entry` accepts. */
export const list = <T>(value: readonly T[], entry: Field<T>): Field<readonly T[]> => ({
  default: value,
  expected: `a list, each entry ${entry.expected}`,
  accepts: (found) => Array.isArray(found) && found.every((item) => entry.accepts(item)),
});

/** A field that may also be null, which is its default. */
export const nullable = <T>(field: Field<T>): Field<T | null> => ({
  default: null,
  expected: `${field.expected}, or null`,
  accepts: (found) => found === null || field.accepts(found),
});

/** A configuration that cannot be used; the message names the file (or class) and the key. */
export class ConfigError extends InputError {
  override get kind() {
    return "config" as const;
  }
}

/** The file that a configuration comes from, or the class that received it. */
export type ConfigOrigin =
  | { readonly file: string; readonly subject?: never }
  | { readonly subject: string; readonly file?: never };

/**
 * Completes a configuration with the fields' defaults and checks every value.
 * @param where what messages start with.
 * @param unknownKeys what to do with keys that are not fields. diffusers warns when they come from a file.
 * @throws ConfigError naming the key, what was expected and what was found.
 */
export function completeConfig<F extends Fields>(
  fields: F,
  given: Readonly<Record<string, unknown>>,
  where: ConfigOrigin,
  unknownKeys: "refuse" | "warn",
): ConfigOf<F> {
  const config: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(fields)) {
    const value = given[key] === undefined ? field.default : given[key];
    if (!field.accepts(value))
      throw new ConfigError(`${key} must be ${field.expected}, found ${quote(value)}`, {
        ...where,
        hint: value === null ? `without the key it is ${quote(field.default)}` : undefined,
      });
    config[key] = value;
  }
  // An unknown key that is null asks for nothing: newer versions write those of all their options.
  const unknown = Object.keys(given).filter(
    (key) => !Object.hasOwn(fields, key) && !key.startsWith("_") && given[key] !== null,
  );
  if (unknown.length > 0) {
    const problem = `unknown configuration ${unknown.length === 1 ? "key" : "keys"} ${unknown.join(", ")}`;
    if (unknownKeys === "refuse")
      throw new ConfigError(problem, { ...where, hint: `known are ${Object.keys(fields).join(", ")}` });
    const meant = unknown.flatMap((key) => didYouMean(key, Object.keys(fields)) ?? []).join(" ");
    warnOnce(`${where.file ?? where.subject}: ${problem} will be ignored${meant && `. ${meant}`}`);
  }
  return config as ConfigOf<F>;
}

/**
 * Reads a configuration file of a given class from a folder, as diffusers writes them.
 * @param filename `config.json` for models, `scheduler_config.json` for schedulers.
 * @throws ConfigError when it is missing, no JSON object, or of another class.
 */
export async function readConfig(
  folder: string,
  className: string,
  filename = "config.json",
): Promise<Record<string, unknown>> {
  const path = join(folder, filename);
  const json = await readJsonObject(path);
  if (json._class_name !== className)
    throw new ConfigError(
      `expected the configuration of ${className}, found _class_name ${JSON.stringify(json._class_name)}`,
      { file: path },
    );
  assertNotQuantized(json, path);
  return json;
}

/** @throws ConfigError if the weights beside a configuration are not the numbers themselves. */
export function assertNotQuantized(config: Readonly<Record<string, unknown>>, file: string): void {
  const found = config.quantization_config ?? undefined;
  if (found === undefined) return;
  const { quant_method: method } = found as Readonly<Record<string, unknown>>;
  throw new ConfigError(
    `its weights are quantised (quantization_config${method === undefined ? "" : `: quant_method ${quote(method)}`}), which is not supported`,
    { file, hint: DEQUANTIZE },
  );
}

/** What to do with quantised weights. */
export const DEQUANTIZE =
  "take the model's float16 or bfloat16 weights, or write them in Python: model.dequantize(), then model.save_pretrained(FOLDER)";

/** Writes a configuration as diffusers does: with its class and version, keys in alphabetical order. */
export async function writeConfig(
  folder: string,
  className: string,
  config: object,
  filename = "config.json",
): Promise<void> {
  await writeJson(join(folder, filename), storedConfig(className, config));
}

/** A scheduler as diffusers prints it: its class, then what {@link writeConfig} writes. */
export function configText(className: string, config: object): string {
  return `${className} ${jsonText(storedConfig(className, config))}`;
}

function storedConfig(className: string, config: object): Record<string, unknown> {
  return { ...config, _class_name: className, _diffusers_version: DIFFUSERS_VERSION };
}

/** The configuration file of a model. */
export const MODEL_CONFIG = "config.json";
/** A pipeline folder's {@link ModelIndex}. */
export const MODEL_INDEX = "model_index.json";

/** A pipeline folder's table of contents: which library and class each subfolder holds. */
export interface ModelIndex {
  readonly className: string;
  /** E.g. `vae: ["diffusers", "AutoencoderKLCogVideoX"]`; null for a component that the pipeline lacks. */
  readonly components: Readonly<Record<string, readonly [library: string, className: string] | null>>;
}

/** @throws ConfigError when `model_index.json` is missing or not of the form that diffusers writes. */
export async function readModelIndex(folder: string): Promise<ModelIndex> {
  const path = join(folder, MODEL_INDEX);
  if (!existsSync(path) && existsSync(join(folder, MODEL_CONFIG)))
    throw new ConfigError("no such file", {
      file: path,
      hint: `${folder} has the ${MODEL_CONFIG} of one model; a pipeline is the folder that its parts lie in`,
    });
  const { _class_name: className, ...entries } = await readJsonObject(path);
  if (typeof className !== "string")
    throw new ConfigError(`expected a _class_name, found ${quote(className)}`, { file: path });
  const components: Record<string, readonly [string, string] | null> = {};
  for (const [name, entry] of Object.entries(entries)) {
    if (name.startsWith("_") || !Array.isArray(entry)) continue; // a pipeline's plain settings are next to its components
    if (entry.length !== 2 || !entry.every((item) => typeof item === "string" || item === null))
      throw new ConfigError(`${name} must be [library, class], found ${quote(entry)}`, {
        file: path,
      });
    components[name] = entry[0] === null ? null : (entry as [string, string]);
  }
  return { className, components };
}

export async function writeModelIndex(folder: string, { className, components }: ModelIndex): Promise<void> {
  const entries = Object.entries(components).map(([name, entry]) => [name, entry ?? [null, null]]);
  await writeConfig(folder, className, Object.fromEntries(entries), MODEL_INDEX);
}

/** Reads a JSON file that holds an object. @throws ConfigError naming the file. */
export async function readJsonObject(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new ConfigError("no such file", { file: path });
    if (code === "ENOTDIR") throw new ConfigError("expected a folder, found a file", { file: dirname(path) });
    if (code === "EISDIR") throw new ConfigError("expected a file, found a folder", { file: path });
    throw error;
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new ConfigError(`not valid JSON (${(error as Error).message})`, { file: path });
  }
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new ConfigError(`expected a JSON object, found ${quote(json, 60)}`, {
      file: path,
    });
  return json as Record<string, unknown>;
}

/**
 * Writes an object with sorted keys, indented by two spaces, in one step.
 * @param floatKeys numbers to write with a decimal point even if whole: transformers tells 1.0 from 1.
 */
export async function writeJson(
  path: string,
  json: Readonly<Record<string, unknown>>,
  floatKeys: readonly string[] = [],
): Promise<void> {
  let text = jsonText(json);
  for (const key of floatKeys) text = text.replace(new RegExp(`^(  "${key}": -?\\d+)(,?)$`, "m"), "$1.0$2");
  await writeAtomically(path, (handle) => handle.writeFile(`${text}\n`));
}

/** An object's JSON with sorted keys, indented by two spaces. */
function jsonText(json: Readonly<Record<string, unknown>>): string {
  const sorted = Object.fromEntries(Object.entries(json).sort(([a], [b]) => (a < b ? -1 : 1)));
  return JSON.stringify(sorted, null, 2);
}
