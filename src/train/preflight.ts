/** Everything about a run that can be refused before weights are read and clips decoded. */

import { join } from "node:path";
import { CogVideoXDDIMScheduler } from "../diffusion/ddim.js";
import { CogVideoXDPMScheduler } from "../diffusion/dpm.js";
import { didYouMean } from "../engine/suggestion.js";
import { completeT5Config } from "../models/text/t5-config.js";
import { learnedSizeProblem } from "../models/transformer/patch-embed.js";
import { samplingSizeProblem } from "../models/transformer/rotary-positions.js";
import {
  CogVideoXTransformer3DModel,
  type CogVideoXTransformer3DModelConfig,
} from "../models/transformer/transformer.js";
import {
  AutoencoderKLCogVideoX,
  type AutoencoderKLCogVideoXConfig,
  spatialCompressionRatioOf,
} from "../models/vae/autoencoder.js";
import { isTarget } from "../nn/lora.js";
import { latentSize } from "../recipe/geometry.js";
import { probeClip } from "../video/read.js";
import { ConfigError, readJsonObject } from "../weights/config.js";
import {
  ArgumentError,
  COMMAND_SPELLING,
  completeOptions,
  type TrainArguments,
  trainerOptions,
} from "./arguments.js";
import { type Bucket, bucketName, DatasetError, parseBucket } from "./dataset.js";
import { type AssignedEntry, cacheFolders, readEntries, readTransformerConfig } from "./fill-cache.js";
import { assertFolder } from "./lists.js";
import { assertWritable } from "./output-lock.js";
import { describeTruncation } from "./prompt-encoder.js";
import { timestepWeights } from "./timestep-bias.js";
import { readValidationLists, type ValidationLocation } from "./validation.js";

/** What the checks have found out, and the run goes on with. */
export interface CheckedRun {
  readonly scheduler: CogVideoXDDIMScheduler | CogVideoXDPMScheduler;
  readonly buckets: readonly Bucket[];
  /** The data set's clips that can be read; at least one. */
  readonly assigned: readonly AssignedEntry[];
}

/**
 * Refuses a run for whatever can be told from arguments, configurations, lists and the headers of clips. No weights are read,
 * no clip is decoded, nothing is written.
 *
 * @param args with a local `model_path`.
 * @param log is told of clips that are skipped, and of what is allowed but will surprise: captions that are cut, sizes that
 *   can't be sampled.
 * @throws ArgumentError, ConfigError, DatasetError, ClipError or ResumeError, naming the argument or the file.
 */
export async function checkRun(args: TrainArguments, log: (line: string) => void): Promise<CheckedRun> {
  await assertFolder(args.data_root!); // first, as the cache is in it
  for (const folder of outputFolders(args)) assertWritable(folder);
  for (const folder of cacheFolders(args)) assertWritable(folder, "cache_dir");
  const model = args.model_path!;
  const scheduler = await openScheduler(args);
  timestepWeights(await completeOptions(trainerOptions(args)), scheduler.length, COMMAND_SPELLING);
  const vae = await AutoencoderKLCogVideoX.loadConfig(join(model, "vae"));
  const transformer = await readTransformerConfig(args);
  await assertFitting(args, vae, transformer);
  if (args.training_type === "lora") assertTargets(transformer, args.target_modules);
  const buckets = readBuckets(args, vae, transformer, log);
  const assigned = await readEntries(args, buckets, { skipped: (problem) => log(`skipped ${problem}`) });
  if (assigned.length === 0) throw new DatasetError("no clip is left to train on", { file: args.data_root });
  const { max_text_seq_length: tokens } = transformer;
  const captions = assigned.map(({ entry }) => entry.prompt);
  const cut = await describeTruncation(model, captions, tokens);
  if (cut !== undefined) log(cut);
  if (args.do_validation) {
    const entries = await readValidationLists(validationLocation(args));
    for (const path of entries.flatMap(({ image, video }) => [image, video]))
      if (path !== undefined) await probeClip(path, args.fps === undefined ? {} : { fps: args.fps });
    const prompts = entries.map(({ prompt }) => prompt);
    const cutToo = await describeTruncation(model, prompts, tokens);
    if (cutToo !== undefined) log(`validation: ${cutToo}`);
  }
  return { scheduler, buckets, assigned };
}

/** Where the validation set of a run lies. */
export const validationLocation = (args: TrainArguments): ValidationLocation => ({
  validationDir: args.validation_dir!,
  validationPrompts: args.validation_prompts!,
  validationImages: args.validation_images,
  validationVideos: args.validation_videos,
  textAlone: args.model_type === "t2v",
});

/** Where a run saves its samples. */
export const samplesFolder = ({ output_dir }: TrainArguments): string => join(output_dir, "validation_res");

function outputFolders(args: TrainArguments): string[] {
  return [
    args.output_dir,
    ...(args.report_to === "none" ? [] : [join(args.output_dir, "logs")]),
    ...(args.do_validation ? [samplesFolder(args)] : []),
  ];
}

async function openScheduler(args: TrainArguments): Promise<CheckedRun["scheduler"]> {
  const folder = join(args.model_path!, "scheduler");
  const config = await readJsonObject(join(folder, "scheduler_config.json"));
  const Scheduler =
    config._class_name === "CogVideoXDDIMScheduler" ? CogVideoXDDIMScheduler : CogVideoXDPMScheduler;
  return Scheduler.fromPretrained(folder);
}

/** The models' configurations have to fit each other. */
async function assertFitting(
  { model_path: model = "", model_type: type }: TrainArguments,
  vae: AutoencoderKLCogVideoXConfig,
  transformer: CogVideoXTransformer3DModelConfig,
): Promise<void> {
  const { latent_channels: channels } = vae;
  const [inputs, what] = type === "t2v" ? [channels, "video from text"] : [2 * channels, "images and video"];
  if (transformer.in_channels !== inputs) {
    const hint =
      transformer.in_channels === channels
        ? "model_type t2v trains it"
        : transformer.in_channels === 2 * channels
          ? "model_type i2v trains it"
          : undefined;
    throw new ConfigError(
      `${model}: expected a transformer for ${what}, with ${inputs} input channels, found ${transformer.in_channels}`,
      { hint },
    );
  }
  if (transformer.out_channels !== channels) {
    throw new ConfigError(
      `${model}: expected a transformer with the VAE's ${channels} latent_channels as out_channels, found ${transformer.out_channels}`,
    );
  }
  const file = join(model, "text_encoder", "config.json");
  const { d_model: features } = completeT5Config(await readJsonObject(file), { file });
  if (features !== transformer.text_embed_dim) {
    throw new ConfigError(
      `expected the transformer's text_embed_dim (${transformer.text_embed_dim}) as d_model, found ${features}`,
      { file },
    );
  }
}

/** Each name has to mean a layer: one that is misspelt would leave its layers as they are without a word. */
function assertTargets(config: CogVideoXTransformer3DModelConfig, targets: readonly string[]): void {
  const model = CogVideoXTransformer3DModel.fromConfig(config); // without values
  try {
    const layers = [...model.linears.values()];
    for (const target of targets) {
      if (layers.some((layer) => isTarget(layer, [target]))) continue;
      const parts = layers.flatMap(({ name }) => name.split(".").map((_, i, all) => all.slice(i).join(".")));
      const names = [...new Set(parts)].filter((name) => !/^\d/.test(name));
      throw new ArgumentError(`target_modules: expected names of linear layers, found ${target}`, {
        hint: didYouMean(target, names) ?? "such as to_q to_k to_v to_out.0, ff.net.0.proj ff.net.2",
      });
    }
  } finally {
    model.dispose();
  }
}

/** The sizes that clips are brought to; each needs positions. */
function readBuckets(
  args: TrainArguments,
  vae: AutoencoderKLCogVideoXConfig,
  transformer: CogVideoXTransformer3DModelConfig,
  log: (line: string) => void,
): Bucket[] {
  const several = args.video_resolution_buckets !== undefined;
  const name = several ? "video_resolution_buckets" : "train_resolution";
  const sizes = args.video_resolution_buckets ?? [args.train_resolution!];
  const ratios = {
    spatialRatio: spatialCompressionRatioOf(vae),
    temporalRatio: vae.temporal_compression_ratio,
  };
  const buckets = sizes.map((size) => parseBucket(size, ratios.spatialRatio * transformer.patch_size, name));
  for (const [i, bucket] of buckets.entries()) {
    const size = latentSize(bucket, ratios, transformer.patch_size_t);
    const { sample_height: sampleHeight, sample_width: sampleWidth } = transformer;
    const unfit = transformer.use_learned_positional_embeddings
      ? learnedSizeProblem({ sampleHeight, sampleWidth }, size)
      : undefined;
    if (unfit !== undefined) throw new ArgumentError(`${name}: ${bucketName(bucket)}: ${unfit}`);
    const unsampled = samplingSizeProblem(transformer, size);
    if (unsampled === undefined) continue;
    // Samples are of the first size.
    if (args.do_validation && i === 0)
      throw new ArgumentError(`${name}: ${bucketName(bucket)}: ${unsampled}`, {
        hint: "do_validation false trains without samples",
      });
    log(`${name}: ${bucketName(bucket)} can be trained, but ${unsampled}`);
  }
  return buckets;
}
