/**
 * The one table of a training's arguments: those of zai-org/CogVideo's fine-tuning under the same names, and some of our
 * own. YAML keys, command-line flags and their help, the trainer's options, the schema for editors, and all checks come from
 * it. Values come from a YAML file, from flags, or both; a flag wins.
 */

import { readFile } from "node:fs/promises";
import { isAbsolute } from "node:path";
import { fileProblem, InputError, quote } from "../engine/errors.js";
import { didYouMean } from "../engine/suggestion.js";
import {
  IMAGE_NOISE_DISTRIBUTIONS,
  IMAGE_NOISE_LOG_MEAN,
  IMAGE_NOISE_LOG_STD,
  IMAGE_PLACES,
  PADDINGS,
} from "../recipe/rules.js";
import { FRAME_EXTRACTIONS } from "../video/frames.js";
import { expectation, fileSchema, fits, type Rule } from "./argument-schema.js";
import { LR_SCHEDULERS, POLYNOMIAL_END } from "./lr-scheduler.js";
import { parseYaml } from "./yaml-text.js";

/** An argument that can't be used; the message names the file or the flag. */
export class ArgumentError extends InputError {
  override get kind() {
    return "argument" as const;
  }
}

/** The modules that CogVideoX's trainers adapt. */
export const LORA_TARGET_MODULES = ["to_q", "to_k", "to_v", "to_out.0"] as const;

/** Among `allow_changed_arguments`: every name, and checkpoints that don't say what they were made with. */
export const ALLOW_ALL = "all";

/**
 * What a changed argument means for a checkpoint made with another value. "free": nothing. "fixed": it belongs to another run,
 * unless `allow_changed_arguments` says otherwise. "never": its weights no longer fit. "content": what counts is not the name
 * but what it leads to, the data set or the model.
 */
type Resume = "free" | "fixed" | "never" | "content";

interface Argument extends Rule {
  readonly resume: Resume;
  readonly help: string;
  /** What stands for the value in the help text. */
  readonly value?: string;
  readonly default?: string | number | boolean | readonly string[];
}

type Extra = Omit<Argument, "kind" | "resume" | "help">;

const kinds = <const R extends Resume>(resume: R) => {
  const text = <const E extends Extra>(help: string, value: string, extra?: E) =>
    ({ kind: "string", resume, help, value, ...(extra as E) }) as const;
  return {
    text,
    path: <const E extends Extra>(help: string, extra?: E) => text(help, "PATH", extra),
    integer: <const E extends Extra>(help: string, min: number, extra?: E) =>
      ({ kind: "integer", resume, help, value: "N", min, ...(extra as E) }) as const,
    number: <const E extends Extra>(help: string, extra?: E) =>
      ({ kind: "number", resume, help, value: "X", min: 0, ...(extra as E) }) as const,
    /** Of either sign. */
    real: (help: string, value: number) =>
      ({ kind: "number", resume, help, value: "X", default: value }) as const,
    choice: <const C extends readonly string[]>(help: string, choices: C, value: C[number]) =>
      ({ kind: "string", resume, help, choices, default: value }) as const,
    flag: (help: string, value: boolean) =>
      ({ kind: "boolean", resume, help, value: "true|false", default: value }) as const,
    list: <const E extends Extra>(help: string, value: string, extra?: E) =>
      ({ kind: "list", resume, help, value, ...(extra as E) }) as const,
  };
};
const free = kinds("free");
const fixed = kinds("fixed");
const never = kinds("never");
const content = kinds("content");

/** By name, in the order of the help text. */
export const ARGUMENTS = {
  // Model
  model_path: content.path("a pipeline's folder (vae, transformer, ...), or its id on the Hugging Face Hub"),
  revision: content.text("of a model on the Hub: a branch, tag or commit (default: main)", "NAME"),
  model_name: free.text(
    "names the model in the latent cache (default: cogvideox1.5-i2v, or cogvideox-i2v for 1.0; -t2v for text to video)",
    "NAME",
  ),
  model_type: fixed.choice(
    "what is trained: video from an image and text, or from text",
    ["i2v", "t2v"],
    "i2v",
  ),
  training_type: never.choice("an adapter, or all weights", ["lora", "sft"], "lora"),
  transformer_config: content.path(
    "train a new transformer of this configuration (JSON or YAML), from random weights",
  ),
  // Output
  output_dir: free.path("where checkpoints, logs and validation go", { default: "train_results" }),
  overwrite_output_dir: free.flag("remove the checkpoints of the run that output_dir holds", false),
  report_to: free.choice("trackers", ["tensorboard", "jsonl", "all", "none"], "all"),
  tracker_name: free.text("names the run in TensorBoard", "NAME", { default: "finetrainer-cogvideo" }),
  // Data
  data_root: content.path("the data set's folder"),
  caption_column: content.text(
    "file of prompts below data_root, one per line; or the key in metadata.jsonl, .csv or .json",
    "NAME",
  ),
  video_column: content.text(
    "file of clips' paths, absolute or from its folder, one per line; or the key",
    "NAME",
  ),
  image_column: content.text(
    "file of images' paths, one per line; or the key. Without it a clip's first frame is its image",
    "NAME",
  ),
  id_token: content.text(
    "a word or words put before each caption, for the training to give them a meaning",
    "TEXT",
  ),
  train_resolution: fixed.text("size that clips are brought to: 8N+1 frames, height, width", "FxHxW"),
  video_resolution_buckets: fixed.list("several such sizes; each clip takes the nearest", "FxHxW..."),
  fit: fixed.choice(
    "how clips are brought to that shape: squeezed as a whole, or the middle cut out",
    ["resize", "crop"],
    "resize",
  ),
  short_clips: fixed.choice("clips with too few frames", ["repeat", "refuse"], "repeat"),
  fps: fixed.number("frames per second that clips are brought to first (default: each clip's own)", {
    above: 0,
  }),
  frame_extraction: fixed.choice(
    "which frames of longer clips: evenly spread, the first, those in the middle, or a sample for each run of them",
    FRAME_EXTRACTIONS,
    "spread",
  ),
  broken_clips: free.choice("clips that can't be read", ["error", "skip"], "error"),
  cache_dir: free.path("the latent cache (default: cache below data_root)"),
  // Training
  resume_from_checkpoint: free.text('"latest", or a checkpoint\'s folder', "PATH"),
  allow_changed_arguments: free.list(
    "arguments that may differ from the checkpoint's (data_root for its clips, model_path for its model), or all",
    "NAME...",
    { empty: true },
  ),
  seed: fixed.integer("seed of all random draws", 0, { default: 42 }),
  train_epochs: free.integer("how many times each clip is seen", 1, { default: 10 }),
  train_steps: free.integer("optimizer steps; overrides train_epochs", 1),
  checkpointing_steps: free.integer("optimizer steps between checkpoints", 1, { default: 200 }),
  checkpointing_limit: free.integer("how many checkpoints are kept", 1, { default: 10 }),
  batch_size: fixed.integer("clips per batch", 1, { default: 1 }),
  gradient_accumulation_steps: fixed.integer("batches per optimizer step", 1, { default: 1 }),
  mixed_precision: fixed.choice(
    "bf16: frozen weights and the factors of products in bfloat16, sums and trained weights in float32; fp16 computes in float32",
    ["no", "fp16", "bf16"],
    "no",
  ),
  learning_rate: fixed.number("learning rate after warm-up", { default: 2e-5 }),
  optimizer: fixed.choice(
    "optimizer; muon is for the blocks' matrices, with AdamW for the rest",
    ["adamw", "adam", "muon"],
    "adamw",
  ),
  beta1: fixed.number("decay of the gradient's mean", { default: 0.9, below: 1 }),
  beta2: fixed.number("decay of the gradient's square", { default: 0.95, below: 1 }),
  beta3: fixed.number("accepted for the recipe's scripts; neither optimizer has it", {
    default: 0.98,
    below: 1,
  }),
  epsilon: fixed.number("optimizer's epsilon", { default: 1e-8 }),
  weight_decay: fixed.number("weight decay", { default: 1e-4 }),
  max_grad_norm: fixed.number("largest norm of the gradient; 0 turns clipping off", { default: 1 }),
  lr_scheduler: fixed.choice("learning-rate schedule", LR_SCHEDULERS, "constant_with_warmup"),
  lr_warmup_steps: fixed.integer("optimizer steps of warm-up", 0, { default: 100 }),
  lr_num_cycles: fixed.integer("restarts of cosine_with_restarts", 1, { default: 1 }),
  lr_power: fixed.number("exponent of polynomial", { default: 1 }),
  num_workers: free.integer("accepted for the recipe's scripts", 0, {
    default: 8,
  }),
  pin_memory: free.flag("accepted for the recipe's scripts", true),
  gradient_checkpointing: free.flag(
    "compute activations again for the gradient, to hold fewer in memory",
    true,
  ),
  enable_slicing: free.flag("VAE: one clip at a time", true),
  enable_tiling: fixed.flag("VAE: large frames in tiles, which changes latents a little", true),
  noised_image_dropout: fixed.number("probability that a clip's image latent is replaced by zeros", {
    default: 0,
    max: 1,
  }),
  caption_dropout: fixed.number(
    "probability that a clip's caption is replaced by the empty one, which guidance starts from",
    { default: 0, max: 1 },
  ),
  timestep_bias_strategy: fixed.choice(
    "which timesteps are drawn more or less often: the first, the last (most noise), or begin to end",
    ["none", "earlier", "later", "range"],
    "none",
  ),
  timestep_bias_multiplier: fixed.number("how many times as often", { default: 1, above: 0 }),
  timestep_bias_portion: fixed.number("share of the timesteps that earlier and later cover", {
    default: 0.25,
    max: 1,
  }),
  timestep_bias_begin: fixed.integer("first timestep of range", 0, { default: 0 }),
  timestep_bias_end: fixed.integer("end of range, exclusive", 1, { default: 1000 }),
  snr_gamma: fixed.number(
    "min-SNR weighting with this gamma, often 5; pure noise then counts for nothing (default: every velocity counts the same)",
    { above: 0 },
  ),
  image_noise: fixed.flag("noise on the image before it is encoded", true),
  image_noise_distribution: fixed.choice(
    "how its level is drawn: one a batch, or the higher the later a sample's timestep (arXiv 2406.15735)",
    IMAGE_NOISE_DISTRIBUTIONS,
    "log_normal",
  ),
  image_noise_log_mean: fixed.real("log_normal: mean of the level's logarithm", IMAGE_NOISE_LOG_MEAN),
  image_noise_log_std: fixed.number("log_normal: standard deviation of that logarithm", {
    default: IMAGE_NOISE_LOG_STD,
  }),
  image_noise_max: fixed.number("time_dependent: a level that none reaches; pixels go from -1 to 1", {
    default: 1,
    above: 0,
  }),
  image_place: fixed.choice(
    "at which latent frames the image lies; sampling has to do the same",
    IMAGE_PLACES,
    "first",
  ),
  padding: fixed.choice(
    "what fills the latent frames up to whole patches; sampling has to do the same",
    PADDINGS,
    "copy_first",
  ),
  padding_in_loss: fixed.flag("count the first frame's copies in the loss", true),
  use_ema: fixed.flag("keep a moving average of the weights, and validate with it", false),
  ema_decay: fixed.number("largest decay of that average", { default: 0.9999, below: 1 }),
  divergence_factor: free.number("stop when the mean loss is this many times its best", {
    default: 10,
    above: 1,
    infinite: true,
  }),
  // Several processes
  hosts: free.list(
    "addresses of all processes that train as one, rank 0's first; TF_CONFIG and srun's variables name them, too",
    "HOST:PORT...",
  ),
  machine_rank: free.integer("this process's place among hosts, from 0", 0),
  peer_timeout: free.number("seconds without a sign of life after which a rank counts as lost", {
    default: 60,
    min: 1,
  }),
  nccl_timeout: free.integer("seconds that ranks wait for one that lives but does not come; 0: for ever", 0, {
    default: 1800,
  }),
  reduce_dtype: fixed.choice(
    "how gradients travel between ranks; they are added in float32",
    ["float32", "bfloat16"],
    "float32",
  ),
  bucket_cap_mb: free.number(
    "gradients are reduced in buckets of so many MB, the first of 1, while the backward pass goes on, as in PyTorch's DDP: for slow networks, with little to gain on one machine; Infinity: all at once, after it",
    { default: 25, above: 0, infinite: true },
  ),
  local_steps: fixed.integer(
    "optimizer steps that each rank takes by itself before the ranks meet (DiLoCo); 1: gradients are reduced in every step",
    1,
    { default: 1 },
  ),
  outer_learning_rate: fixed.number("local_steps: of the step that the ranks' mean then makes", {
    default: 0.7,
    above: 0,
  }),
  outer_momentum: fixed.number("local_steps: Nesterov momentum of those steps", { default: 0.9, below: 1 }),
  // LoRA
  rank: never.integer("LoRA: rank", 1, { default: 128 }),
  lora_alpha: fixed.number("LoRA: updates are scaled by lora_alpha / rank", { default: 64 }),
  target_modules: never.list("LoRA: names of the adapted layers", "NAME...", {
    default: LORA_TARGET_MODULES,
  }),
  // Validation
  do_validation: free.flag("generate samples at intervals and measure them", false),
  validation_steps: free.integer("optimizer steps between validations; a multiple of checkpointing_steps", 1),
  validation_dir: free.path("folder of the validation set"),
  validation_prompts: free.text("file of prompts in it, one per line", "NAME"),
  validation_images: free.text("file of images' paths, one per line", "NAME"),
  validation_videos: free.text(
    "file of paths of clips to compare samples with; without images, their first frames are used",
    "NAME",
  ),
  gen_fps: free.number("frames per second of saved samples", { default: 15, above: 0 }),
  num_inference_steps: free.integer("validation: sampling steps", 1, { default: 50 }),
  guidance_scale: free.number("validation: classifier-free guidance; 1 turns it off", { default: 6 }),
} as const satisfies Record<string, Argument>;

export type ArgumentName = keyof typeof ARGUMENTS;

/** What the trainers of diffusers, finetrainers and accelerate call arguments of the same meaning; accepted everywhere. */
export const ALIASES = {
  pretrained_model_name_or_path: "model_path",
  instance_data_root: "data_root",
  lr: "learning_rate",
  train_batch_size: "batch_size",
  num_train_epochs: "train_epochs",
  max_train_steps: "train_steps",
  checkpoints_total_limit: "checkpointing_limit",
  adam_beta1: "beta1",
  adam_beta2: "beta2",
  adam_epsilon: "epsilon",
  adam_weight_decay: "weight_decay",
  caption_dropout_p: "caption_dropout",
  dataloader_num_workers: "num_workers",
  log_with: "report_to",
} as const satisfies Readonly<Record<string, ArgumentName>>;

const aliasesOf = (name: string): string[] =>
  Object.entries(ALIASES).flatMap(([alias, argument]) => (argument === name ? [alias] : []));

/** Their values of the same meaning. */
const VALUE_ALIASES: { readonly [K in ArgumentName]?: Readonly<Record<string, string>> } = {
  training_type: { "full-finetune": "sft", full: "sft" },
};

const EIGHT_BIT =
  "8-bit moments need bitsandbytes on a GPU; adamw's take 8 bytes for each trained number, a LoRA's few";
/** Flags and keys of theirs that there is nothing like here, with what to do instead. */
export const REFUSED_ARGUMENTS: Readonly<Record<string, string>> = {
  use_8bit: EIGHT_BIT,
  use_8bit_adam: EIGHT_BIT,
  use_dora: "adapters are LoRAs alone",
  use_prodigy: "optimizer adamw or muon, with a learning_rate of your own",
};

/** What others' values of an argument would mean, and what to take instead. */
const REFUSED_VALUES: { readonly [K in ArgumentName]?: readonly (readonly [value: RegExp, hint: string])[] } =
  {
    optimizer: [
      [/8[-_]?bit|bnb/i, EIGHT_BIT],
      [
        /prodigy/i,
        "Prodigy is not there; adamw and muon need a learning_rate of their own, Prodigy's 1 is far too high",
      ],
      [/lion/i, "Lion is not there; adamw takes 3 to 10 times its learning_rate"],
      [/adafactor|came|sgd|schedule|ademamix|galore/i, "adamw takes its place"],
    ],
    report_to: [
      [
        /wandb|comet|mlflow|clearml|swanlab|aim|dvclive/i,
        "it needs its own service; logs/metrics.jsonl has a line a step, which its Python SDK can send",
      ],
    ],
  };

/** The arguments as command-line flags. All are text, so that a flag that was given can be told from a default. */
export const trainOptions = Object.fromEntries(
  Object.entries(ARGUMENTS).map(([name, argument]: [string, Argument]) => {
    const { kind, help, value, choices, default: preset } = argument;
    const aliases = aliasesOf(name);
    const notes = [
      aliases.length > 0 ? `also ${aliases.join(", ")}` : "",
      choices && kind !== "boolean" ? `one of ${choices.join(", ")}` : "",
      preset === undefined ? "" : `default ${Array.isArray(preset) ? preset.join(" ") : preset}`,
    ].filter(Boolean);
    const option = {
      type: "string",
      value: value ?? "NAME",
      help: notes.length > 0 ? `${help} (${notes.join("; ")})` : help,
      ...(kind === "list" ? { multiple: true, spread: kind } : {}),
      ...(kind === "boolean" ? { spread: kind } : {}),
      ...(aliases.length > 0 ? { aliases } : {}),
    };
    return [name, option];
  }),
) as { readonly [K in ArgumentName]: TrainOption<(typeof ARGUMENTS)[K]["kind"]> };

/** One of them. */
export interface TrainOption<K extends Rule["kind"]> {
  readonly type: "string";
  readonly value: string;
  readonly help: string;
  readonly multiple: K extends "list" ? true : false;
  readonly spread?: "list" | "boolean";
  readonly aliases?: readonly string[];
}

export type ValueOf<A> = A extends { kind: "boolean" }
  ? boolean
  : A extends { kind: "integer" | "number" }
    ? number
    : A extends { kind: "list" }
      ? readonly string[]
      : A extends { choices: readonly (infer C)[] }
        ? C
        : string;

/** All arguments, filled in; those without a default may be undefined. */
export type TrainArguments = {
  readonly [K in ArgumentName]:
    | ValueOf<(typeof ARGUMENTS)[K]>
    | ((typeof ARGUMENTS)[K] extends { readonly default: unknown } ? never : undefined);
};

/** Some of those flags, for other commands where they mean the same. */
export const pickOptions = <const N extends ArgumentName>(...names: N[]): Pick<typeof trainOptions, N> =>
  Object.fromEntries(names.map((name) => [name, trainOptions[name]])) as Pick<typeof trainOptions, N>;

/** The flags that were actually given. */
export const flagsGiven = (values: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(values).filter(
      ([name, value]) =>
        Object.hasOwn(ARGUMENTS, name) &&
        value !== undefined &&
        !(Array.isArray(value) && value.length === 0),
    ),
  );

/** Those that are also options of `Trainer.create`, in camel case. */
const TRAINER_ARGUMENTS = [
  "model_type",
  "training_type",
  "output_dir",
  "overwrite_output_dir",
  "resume_from_checkpoint",
  "allow_changed_arguments",
  "seed",
  "train_epochs",
  "train_steps",
  "checkpointing_steps",
  "checkpointing_limit",
  "batch_size",
  "gradient_accumulation_steps",
  "mixed_precision",
  "learning_rate",
  "optimizer",
  "beta1",
  "beta2",
  "epsilon",
  "weight_decay",
  "max_grad_norm",
  "lr_scheduler",
  "lr_warmup_steps",
  "lr_num_cycles",
  "lr_power",
  "gradient_checkpointing",
  "noised_image_dropout",
  "caption_dropout",
  "timestep_bias_strategy",
  "timestep_bias_multiplier",
  "timestep_bias_portion",
  "timestep_bias_begin",
  "timestep_bias_end",
  "snr_gamma",
  "image_noise",
  "image_noise_distribution",
  "image_noise_log_mean",
  "image_noise_log_std",
  "image_noise_max",
  "image_place",
  "padding",
  "padding_in_loss",
  "use_ema",
  "ema_decay",
  "divergence_factor",
  "bucket_cap_mb",
  "local_steps",
  "outer_learning_rate",
  "outer_momentum",
  "rank",
  "lora_alpha",
  "target_modules",
] as const satisfies readonly ArgumentName[];

export type TrainerArgument = (typeof TRAINER_ARGUMENTS)[number];

/** Has a default in the command only: in code, nothing is written unless a folder is named. */
const WITHOUT_DEFAULT = "output_dir";

export type CamelCase<S extends string> = S extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : S;

const camelCase = (name: string): string =>
  name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** How messages name arguments: the way the user wrote them. */
export interface Spelling {
  name(argument: string): string;
  /** An argument with its value, ready to type. */
  set(argument: string, ...values: readonly string[]): string;
  /** What to do about another run's checkpoint, where arguments can't be allowed to change. */
  readonly otherRun?: string;
}

/** For arguments that came from flags or YAML. */
export const COMMAND_SPELLING: Spelling = {
  name: (argument) => argument,
  set: (argument, ...values) =>
    [argument === "resume_from_checkpoint" ? "--resume" : `--${argument}`, ...values].join(" "),
};

/** For commands that keep their checkpoints in `--work` and have flags of their own. */
export const WORK_SPELLING: Spelling = { ...COMMAND_SPELLING, otherRun: "use another --work folder" };

/** For options of `Trainer.create`. */
export const CODE_SPELLING: Spelling = {
  name: camelCase,
  set: (argument, ...values) => {
    const { kind }: Argument = ARGUMENTS[argument as ArgumentName];
    if (kind === "boolean") return `${camelCase(argument)}: true`;
    const shown = JSON.stringify(kind === "list" ? values.map(camelCase) : values[0]);
    return values.length === 0 ? camelCase(argument) : `${camelCase(argument)}: ${shown}`;
  },
};

/** The trainer's arguments, by their names in code. */
export type ArgumentOptions = {
  readonly [K in TrainerArgument as CamelCase<K>]?: ValueOf<(typeof ARGUMENTS)[K]>;
};

export type Preset = {
  [K in TrainerArgument]: (typeof ARGUMENTS)[K] extends { readonly default: unknown } ? K : never;
}[TrainerArgument];

/** The same, with the table's defaults filled in. */
export type CompleteOptions = ArgumentOptions & {
  readonly [K in Exclude<Preset, typeof WITHOUT_DEFAULT> as CamelCase<K>]: ValueOf<(typeof ARGUMENTS)[K]>;
};

/** A command's arguments as options of the trainer. */
export function trainerOptions(args: TrainArguments): ArgumentOptions {
  return Object.fromEntries(TRAINER_ARGUMENTS.map((name) => [camelCase(name), args[name]]));
}

/**
 * Checks options given in code and fills in the rest.
 *
 * @throws ArgumentError naming the option, what was expected, and what was found.
 */
export async function completeOptions(options: ArgumentOptions): Promise<CompleteOptions> {
  const values = options as Readonly<Record<string, unknown>>;
  const complete: Record<string, unknown> = {};
  for (const name of TRAINER_ARGUMENTS) {
    const [key, rule]: [string, Argument] = [camelCase(name), ARGUMENTS[name]];
    const value = values[key];
    if (value === undefined) complete[key] = name === WITHOUT_DEFAULT ? undefined : rule.default;
    else if (await fits(rule, value)) complete[key] = value;
    else throw misfit(rule, value, key);
  }
  return complete as CompleteOptions;
}

const misfit = (rule: Rule, value: unknown, where: string, hint?: string): ArgumentError => {
  const found = typeof value === "string" || typeof value === "number" ? String(value) : quote(value);
  return new ArgumentError(`${where}: expected ${expectation(rule)}, found ${found}`, { hint });
};

/** A JSON Schema of the YAML file that `firstframe train --config` takes, for editors. */
export function argumentsSchema(): object {
  const properties = Object.entries(ARGUMENTS).flatMap(([name, argument]: [string, Argument]) => {
    const values = Object.keys(VALUE_ALIASES[name as ArgumentName] ?? {});
    const { enum: choices, ...rest } = fileSchema(argument) as { readonly enum?: readonly unknown[] };
    const schema = { ...rest, ...(choices && { enum: [...choices, ...values] }) };
    return [
      [
        name,
        {
          description: argument.help,
          ...schema,
          ...(argument.default === undefined ? {} : { default: argument.default }),
        },
      ],
      ...aliasesOf(name).map((alias) => [alias, { description: `another name of ${name}`, ...schema }]),
    ];
  });
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Arguments of firstframe train",
    type: "object",
    properties: Object.fromEntries(properties),
    additionalProperties: false,
  };
}

/** Values as given, by argument, each with where it came from. */
type Given = Map<ArgumentName, { readonly value: unknown; readonly where: string }>;

/**
 * Combines a YAML file and flags.
 *
 * @param flags by argument name, as text from the command line.
 * @throws ArgumentError naming the file and key, or the flag, and what was expected.
 */
export async function readArguments({
  config,
  flags = {},
}: {
  readonly config?: string;
  readonly flags?: Readonly<Record<string, unknown>>;
}): Promise<TrainArguments> {
  const given: Given = new Map();
  const add = (key: string, value: unknown, where: string) => {
    if (Object.hasOwn(REFUSED_ARGUMENTS, key))
      throw new ArgumentError(`${where}: not supported`, { hint: REFUSED_ARGUMENTS[key] });
    const name = Object.hasOwn(ALIASES, key) ? ALIASES[key as keyof typeof ALIASES] : key;
    if (!Object.hasOwn(ARGUMENTS, name))
      throw new ArgumentError(`${where}: unknown argument`, { hint: meant(key) });
    given.set(name as ArgumentName, { value, where });
  };
  if (config !== undefined) {
    const keys = new Map<string, string>();
    for (const [key, value] of Object.entries(await readYaml(config))) {
      const name = Object.hasOwn(ALIASES, key) ? ALIASES[key as keyof typeof ALIASES] : key;
      if (keys.has(name))
        throw new ArgumentError(`${keys.get(name)} and ${key} are the same argument`, { file: config });
      keys.set(name, key);
      add(key, value, `${config}: ${key}`);
    }
  }
  for (const [key, value] of Object.entries(flags)) if (value !== undefined) add(key, value, `--${key}`);
  const values: Record<string, unknown> = {};
  for (const [name, argument] of Object.entries(ARGUMENTS) as [ArgumentName, Argument][]) {
    const entry = given.get(name);
    // In YAML a key without a value counts as not set.
    const isSet = entry !== undefined && entry.value !== null;
    values[name] = isSet ? await check(name, argument, entry.value, entry.where) : argument.default;
  }
  return values as TrainArguments;
}

async function readYaml(file: string): Promise<Record<string, unknown>> {
  const source = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    throw new ArgumentError(fileProblem(error), { file });
  });
  const parsed = await parseYaml(source).catch((error: unknown) => {
    throw error instanceof InputError ? new ArgumentError(error.problem, { file }) : error;
  });
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new ArgumentError("expected argument: value lines", { file });
  }
  return parsed as Record<string, unknown>;
}

/** Turns a flag's text, or what YAML made of a word, into the value that was meant. */
async function check(
  name: ArgumentName,
  argument: Argument,
  given: unknown,
  where: string,
): Promise<unknown> {
  const synonyms = VALUE_ALIASES[name] ?? {};
  const value =
    typeof given === "string" && Object.hasOwn(synonyms, given) ? synonyms[given] : convert(argument, given);
  if (await fits(argument, value)) return value;
  const known = REFUSED_VALUES[name]?.find(([pattern]) => pattern.test(String(given)));
  throw misfit(argument, given, where, known?.[1]);
}

function convert({ kind }: Argument, value: unknown): unknown {
  if (kind === "string") return typeof value === "number" ? String(value) : value; // a name may look like a number
  if (typeof value !== "string") return value;
  if (kind === "list") return value.split(/[\s,]+/).filter(Boolean);
  if (kind === "boolean") return { true: true, false: false }[value.toLowerCase()];
  return value.trim() === "" ? value : Number(value);
}

/** A hint at the argument that was probably meant, with hyphens or underscores. */
const meant = (key: string): string | undefined =>
  didYouMean(key.replaceAll("-", "_"), [...Object.keys(ARGUMENTS), ...Object.keys(ALIASES)]);

/** Refuses arguments that contradict each other, before anything is loaded. */
export function assertConsistent(args: TrainArguments): void {
  const need = (name: ArgumentName, why = "") => {
    if (args[name] === undefined) throw new ArgumentError(`${name} is missing${why}`);
  };
  need("model_path");
  need("data_root");
  if (args.video_resolution_buckets === undefined) need("train_resolution");
  if (args.do_validation) {
    for (const name of ["validation_steps", "validation_dir", "validation_prompts"] as const)
      need(name, ": do_validation needs it");
    const fromText = args.model_type === "t2v";
    if (!fromText && args.validation_images === undefined && args.validation_videos === undefined) {
      throw new ArgumentError("validation_images is missing: do_validation needs it, or validation_videos");
    }
    if (args.validation_steps! % args.checkpointing_steps !== 0) {
      throw new ArgumentError(
        `validation_steps: expected a multiple of checkpointing_steps (${args.checkpointing_steps}), found ${args.validation_steps}`,
      );
    }
  }
  if (args.model_type === "t2v") {
    const { noised_image_dropout, image_place } = ARGUMENTS;
    const ofImages = {
      image_column: undefined,
      validation_images: undefined,
      noised_image_dropout: noised_image_dropout.default,
      image_place: image_place.default,
    };
    for (const [name, unused] of Object.entries(ofImages)) {
      const value = args[name as keyof typeof ofImages];
      if (value !== unused) throw new ArgumentError(`${name}: model_type t2v has no images, found ${value}`);
    }
  }
  if (args.overwrite_output_dir && args.resume_from_checkpoint === "latest") {
    throw new ArgumentError(
      "overwrite_output_dir: it removes what resume_from_checkpoint latest would resume from",
    );
  }
  for (const name of ["model_name", "tracker_name"] as const) {
    const value = args[name];
    // They become folders of the cache and of the logs, and may not lead out of these.
    if (value !== undefined && (isAbsolute(value) || value.split(/[/\\]/).some((part) => /^\.*$/.test(part))))
      throw new ArgumentError(`${name}: expected a name, found ${quote(value)}`);
  }
  const known = [...Object.keys(ARGUMENTS), ALLOW_ALL];
  const unknown = args.allow_changed_arguments?.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new ArgumentError(`allow_changed_arguments: expected arguments or all, found ${unknown}`, {
      hint: meant(unknown),
    });
  }
  if (args.training_type === "lora" && args.transformer_config !== undefined) {
    throw new ArgumentError("transformer_config: a new transformer needs training_type sft, found lora");
  }
  if (args.lr_scheduler === "polynomial" && args.learning_rate <= POLYNOMIAL_END) {
    throw new ArgumentError(
      `learning_rate: lr_scheduler polynomial ends at ${POLYNOMIAL_END}, found a start of ${args.learning_rate}`,
    );
  }
}
