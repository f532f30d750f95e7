/** A whole training as the recipe's arguments describe it: models, data, cache, trainer, trackers, validation. */
import { join } from "node:path";
import type { CogVideoXDDIMScheduler } from "../diffusion/ddim.js";
import type { CogVideoXDPMScheduler } from "../diffusion/dpm.js";
import { pipelineFiles } from "../diffusion/pipeline.js";
import { currentEngine } from "../engine/index.js";
import { RandomGenerator } from "../engine/random.js";
import { describeBfloat16 } from "../engine/running.js";
import * as tf from "../engine/tf.js";
import { CogVideoXTransformer3DModel } from "../models/transformer/transformer.js";
import { latentFrames } from "../recipe/geometry.js";
import { resolvePipeline } from "../weights/hub.js";
import { assertConsistent, COMMAND_SPELLING, type TrainArguments, trainerOptions } from "./arguments.js";
import { checkpointsToResume } from "./checkpoint.js";
import { MemoryData } from "./data.js";
import { type Bucket, bucketName, DatasetError } from "./dataset.js";
import { assertSame } from "./distributed/agree.js";
import type { Group, RankCosts } from "./distributed/group.js";
import {
  type AssignedEntry,
  type ClipReport,
  contentDir,
  fillCache,
  frozenDtype,
  openCache,
  openVae,
  readTransformerConfig,
} from "./fill-cache.js";
import { fingerprint, fingerprintComponent } from "./fingerprint.js";
import { CachedData, type LatentCache } from "./latent-cache.js";
import { assertLockable, lockOutput } from "./output-lock.js";
import {
  countTokens,
  estimateMemory,
  formatBytes,
  formatCount,
  formatDuration,
  memoryInUse,
} from "./plan.js";
import { type CheckedRun, checkRun, samplesFolder, validationLocation } from "./preflight.js";
import { type DataFingerprint, fixedArguments, type RunFingerprint, resumeFrom } from "./resume.js";
import { makeTrackers, stepValues, type Tracker } from "./trackers.js";
import { Trainer, type TrainingModels } from "./trainer.js";
import {
  readValidationSet,
  type ValidationMeasure,
  type ValidationOptions,
  type ValidationSample,
  validate,
} from "./validation.js";

export interface RunOptions {
  /** Takes lines for people to read. Default: standard output. */
  readonly log?: (line: string) => void;
  /** Ends the run after the current clip or step. */
  readonly signal?: AbortSignal;
  /** Besides those that `report_to` names. */
  readonly trackers?: readonly Tracker[];
  /** Measured at each validation, besides psnr, ssim and its other figures. */
  readonly measures?: readonly ValidationMeasure[];
  /**
   * The processes that train as one, each of which calls this alike. The first one writes, tracks and validates. The caller ends
   * the group. Default: this process alone.
   */
  readonly group?: Group;
}

export interface RunResult {
  readonly step: number;
  readonly totalSteps: number;
  /** False if it was aborted. */
  readonly finished: boolean;
  /** Those of the last validation. */
  readonly metrics?: Readonly<Record<string, number>>;
}

type Models = TrainingModels & { readonly scheduler: CogVideoXDDIMScheduler | CogVideoXDPMScheduler };

/** Trains as `firstframe train` does. The engine must be running. */
export async function runTraining(args: TrainArguments, options: RunOptions = {}): Promise<RunResult> {
  const { log = console.log, group } = options;
  assertConsistent(args);
  if (group)
    await assertSame(group, "the start", {
      // A checkpoint may go on with other buckets, but ranks have to send the same ones.
      arguments: { ...fixedArguments(args), bucket_cap_mb: args.bucket_cap_mb },
    });
  // The others read the folder, but only this rank writes to it.
  if (!isFirst(group)) return await runInOwnFolder(args, { ...options, log });
  const lock = await lockOutput(args.output_dir, log);
  try {
    await assertResumable(args);
    return await runInOwnFolder(args, { ...options, log });
  } finally {
    lock.release();
  }
}

const spelling = COMMAND_SPELLING;

const isFirst = (group: Group | undefined): boolean => group === undefined || group.rank === 0;

/** Refuses what the arguments alone give away, before hours of encoding; the trainer checks everything. */
async function assertResumable(
  args: TrainArguments,
  {
    readOnly = false,
    data,
  }: { readonly readOnly?: boolean; readonly data?: DataFingerprint | undefined } = {},
): Promise<void> {
  const { outputDir, allowChangedArguments: allowed, ...use } = trainerOptions(args);
  const places = await checkpointsToResume(outputDir, use, { spelling, readOnly });
  const named = args.resume_from_checkpoint !== "latest";
  const now = { arguments: fixedArguments(args), ...(data === undefined ? {} : { data }) };
  await resumeFrom(places, now, { allowed, named, spelling }, async () => {});
}

/** What is known of the data before it is encoded: all but the clips' content. Clips that turn out to be broken may change it. */
function dataOf(args: TrainArguments, { assigned }: CheckedRun): DataFingerprint | undefined {
  if (args.broken_clips === "skip") return undefined;
  return { samples: assigned.length, captions: captionsOf(assigned) };
}

const captionsOf = (clips: readonly AssignedEntry[]): string =>
  fingerprint(clips.map(({ entry }) => entry.prompt));

async function runInOwnFolder(
  given: TrainArguments,
  options: RunOptions & Required<Pick<RunOptions, "log">>,
): Promise<RunResult> {
  const { signal, group } = options;
  const first = isFirst(group);
  const log = first ? options.log : () => {};
  const args = await withLocalModel(given);
  const checked = await checkRun(args, log);
  if (first) await assertResumable(given, { data: dataOf(args, checked) });
  const models = await openModels(args, checked);
  let trainer: Trainer | undefined;
  let validation: Validation | undefined;
  const trackers: Tracker[] = first
    ? [...makeTrackers(args.report_to, args.output_dir, args.tracker_name), ...(options.trackers ?? [])]
    : [];
  try {
    const prepared = await prepareData(args, models, checked, options);
    validation = prepared.validation;
    const { data, fingerprint } = prepared;
    if (data === undefined) return { step: 0, totalSteps: 0, finished: false };
    if (group) await assertSame(group, "the data", { data: fingerprint!.data, model: fingerprint!.model });
    const own = { ...trainerOptions(args), fingerprint, log };
    trainer = await Trainer.create(models, data, own, { spelling, group });
    if (trainer.step > 0) log(`resumed from ${trainer.lastCheckpoint!.path}`);
    for (const line of describeTraining(args, models, trainer, data, checked.buckets, group)) log(line);
    for (const tracker of trackers) await tracker.start({ ...given }, trainer.step);
    return await trainLoop(args, models, trainer, trackers, validation, { log, signal, group });
  } finally {
    for (const tracker of trackers) await tracker.finish();
    if (validation) disposeValidation(validation);
    trainer?.dispose();
    models.vae.dispose();
    models.transformer.dispose();
  }
}

interface Validation {
  readonly samples: readonly ValidationSample[];
  readonly options: ValidationOptions;
}

async function trainLoop(
  args: TrainArguments,
  models: Models,
  trainer: Trainer,
  trackers: readonly Tracker[],
  validation: Validation | undefined,
  { log, signal, group }: Required<Pick<RunOptions, "log">> & RunOptions,
): Promise<RunResult> {
  const started = performance.now();
  const firstStep = trainer.step;
  const costs = group?.costs;
  const { totalSteps } = trainer;
  let shown = Number.NEGATIVE_INFINITY;
  let metrics: Readonly<Record<string, number>> | undefined;
  const measure = async (step: number) => {
    if (!args.do_validation) return;
    if (validation) await measureBy(validation, step);
    await group?.gather(`the end of validation ${step}`, null, { unhurried: true });
  };
  const measureBy = async (validation: Validation, step: number) => {
    const { samples, options } = validation;
    const result = await trainer.withEma(() => validate(models, samples, options, step));
    metrics = result.metrics;
    const named = Object.fromEntries(
      Object.entries(metrics).map(([key, value]) => [`validation/${key}`, value]),
    );
    for (const tracker of trackers) {
      await tracker.log(named, step);
      for (const [i, clip] of result.clips.entries()) await tracker.sample?.(`validation/${i}`, clip, step);
    }
    const figures = Object.entries(metrics).map(([key, value]) => `${key} ${value.toFixed(3)}`);
    log(`validation at step ${step}: ${figures.join("  ")}`);
  };
  for await (const report of trainer.steps({ signal })) {
    const { step, loss, gradNorm, learningRate } = report;
    const values = stepValues(report, { numTrainTimesteps: models.scheduler.length });
    for (const tracker of trackers) await tracker.log(values, step);
    const now = performance.now();
    if (now - shown > 5000 || step === totalSteps) {
      shown = now;
      const rate = (now - started) / 1000 / (step - firstStep);
      log(
        `step ${step}/${totalSteps}  loss ${loss.toFixed(4)}  grad_norm ${gradNorm.toPrecision(3)}  lr ${learningRate.toExponential(2)}  ${rate.toPrecision(3)} s/step  ${formatDuration(rate * (totalSteps - step))} left  ${formatBytes(memoryInUse().process)}`,
      );
    }
    const due = args.validation_steps !== undefined && step % args.validation_steps === 0;
    if (due && step < totalSteps) await measure(step);
  }
  const finished = trainer.step === totalSteps;
  if (finished && trainer.step > firstStep) await measure(trainer.step);
  if (group && costs && trainer.step > firstStep)
    log(describeCosts(costs, group.costs, trainer.step - firstStep));
  if (trainer.lastCheckpoint) log(`saved ${trainer.lastCheckpoint.path}`);
  return { step: trainer.step, totalSteps, finished, metrics };
}

function describeCosts(before: RankCosts, after: RankCosts, steps: number): string {
  const each = (name: keyof RankCosts) => (after[name] - before[name]) / steps;
  const seconds = (name: "waiting" | "summing") => `${each(name).toPrecision(3)} s`;
  return `ranks: each sent ${formatBytes(each("bytesSent"))} a step; rank 0 waited ${seconds("waiting")} a step for the others, sums took ${seconds("summing")}`;
}

// -- models and data ---------------------------------------------------------------------------------------------

/** The arguments with the model's local folder, if they name one on the Hub. */
async function withLocalModel(args: TrainArguments): Promise<TrainArguments> {
  const { transformer, ...others } = pipelineFiles();
  const parts = args.transformer_config === undefined ? { ...others, transformer } : others;
  return { ...args, model_path: await resolvePipeline(args.model_path!, { revision: args.revision }, parts) };
}

async function openModels(args: TrainArguments, { scheduler }: CheckedRun): Promise<Models> {
  const vae = await openVae(args);
  try {
    return { vae, transformer: await openTransformer(args), scheduler };
  } catch (error) {
    vae.dispose();
    throw error;
  }
}

/** The folder's transformer, or a new one. */
async function openTransformer(args: TrainArguments): Promise<CogVideoXTransformer3DModel> {
  return args.transformer_config === undefined
    ? CogVideoXTransformer3DModel.fromPretrained(join(args.model_path!, "transformer"), {
        // A LoRA's model is frozen. What is trained is float32.
        dtype: args.training_type === "lora" ? frozenDtype(args) : "float32",
      })
    : CogVideoXTransformer3DModel.fromConfig(
        await readTransformerConfig(args),
        new RandomGenerator(args.seed),
      );
}

interface PreparedData {
  /** Undefined if encoding was aborted. */
  readonly data?: CachedData;
  readonly fingerprint?: RunFingerprint;
  readonly validation?: Validation;
}

/** Reads the data set, fills the latent cache and reads the validation set; afterwards the text encoder is disposed. */
async function prepareData(
  args: TrainArguments,
  { vae, transformer }: Models,
  { assigned, buckets }: CheckedRun,
  { log: say, signal, measures, group }: RunOptions & Required<Pick<RunOptions, "log">>,
): Promise<PreparedData> {
  const first = isFirst(group);
  const log = first ? say : () => {};
  const { cache, promptEncoder } = await openCache(args, vae, transformer.config, log);
  try {
    const report = ({ number, total, outcome, text }: ClipReport) => {
      if (outcome !== "was there") log(`${outcome} ${number}/${total}  ${text}`);
    };
    const options = { brokenClips: args.broken_clips, signal };
    let byAll = { finished: true, encoded: 0 };
    if (group) {
      // Each rank encodes its own clips; afterwards all of them find everything.
      const own = assigned.filter((_, i) => i % group.size === group.rank);
      const reportOwn = (clip: ClipReport) => {
        const { outcome, number, text } = clip;
        const place = (number - 1) * group.size + group.rank + 1;
        if (outcome === "encoded") say(`encoded ${place}/${assigned.length}  ${text}`);
      };
      const { finished, encoded } = await fillCache(cache, own, { ...options, report: reportOwn });
      if (args.caption_dropout > 0 && first) (await cache.embedPrompt("")).dispose();
      const { values } = await group.gather("the latent cache", { finished, encoded }, { unhurried: true });
      byAll = {
        finished: values.every(({ finished }) => finished),
        encoded: values.reduce((sum, { encoded }) => sum + encoded, 0),
      };
      if (!byAll.finished) {
        log("stopped before all clips were encoded; the next run goes on from there");
        return {};
      }
    }
    // What a rank has to do alone is little by now, and all have to do it.
    const filled = await fillCache(cache, assigned, {
      ...options,
      signal: group ? undefined : signal,
      report,
    });
    const { entries, taken } = filled;
    const encoded = filled.encoded + byAll.encoded;
    if (!filled.finished) {
      log(
        `stopped after encoding ${entries.length} of ${assigned.length} clips; the next run goes on from there`,
      );
      return {};
    }
    if (entries.length === 0) throw new DatasetError("no clip is left to train on", { file: args.data_root });
    log(`${entries.length} clips in the cache, ${encoded} of them encoded now`);
    const repair = async (index: number) => {
      const { entry, bucket } = taken[index]!;
      try {
        await cache.ensure(entry, bucket, { verify: true });
      } finally {
        await promptEncoder.dispose();
      }
    };
    // Now, while the text encoder may be loaded; later it is read from the cache.
    if (args.caption_dropout > 0) (await cache.embedPrompt("")).dispose();
    const emptyPrompt = async () => {
      try {
        return await cache.embedPrompt("");
      } finally {
        await promptEncoder.dispose();
      }
    };
    const clips = entries.map(({ content }) => content);
    return {
      data: new CachedData(entries, { repair, emptyPrompt }),
      fingerprint: {
        arguments: fixedArguments(args),
        data: { samples: entries.length, clips: fingerprint(clips), captions: captionsOf(taken) },
        model: await fingerprintPipeline(args, transformer),
      },
      validation:
        args.do_validation && first ? await openValidation(args, buckets, cache, measures) : undefined,
    };
  } finally {
    await promptEncoder.dispose();
  }
}

/** The parts of the pipeline that a training depends on. File hashes are kept with the cache. */
async function fingerprintPipeline(
  args: TrainArguments,
  transformer: CogVideoXTransformer3DModel,
): Promise<Record<string, string>> {
  const memoDir = contentDir(args);
  const parts: Record<string, string> = {};
  for (const name of ["vae", "scheduler", "tokenizer", "text_encoder", "transformer"]) {
    if (name === "transformer" && args.transformer_config !== undefined) {
      parts.transformer_config = fingerprint(transformer.config);
    } else parts[name] = await fingerprintComponent(join(args.model_path!, name), memoDir);
  }
  return parts;
}

async function openValidation(
  args: TrainArguments,
  buckets: readonly Bucket[],
  cache: LatentCache,
  measures: readonly ValidationMeasure[] | undefined,
): Promise<Validation> {
  const bucket = buckets[0]!;
  const samples = await readValidationSet(validationLocation(args), bucket, cache, {
    fps: args.fps,
    frameExtraction: args.frame_extraction,
  });
  let negativePromptEmbeds: tf.Tensor3D | undefined;
  if (args.guidance_scale > 1) {
    const embedding = await cache.embedPrompt("");
    negativePromptEmbeds = tf.tidy(() => tf.expandDims(embedding, 0) as tf.Tensor3D);
    embedding.dispose();
  }
  return {
    samples,
    options: {
      numFrames: bucket.numFrames,
      numInferenceSteps: args.num_inference_steps,
      guidanceScale: args.guidance_scale,
      seed: args.seed,
      fps: args.gen_fps,
      outputDir: samplesFolder(args),
      textToVideo: args.model_type === "t2v" ? bucket : undefined,
      padding: args.padding,
      imagePlace: args.image_place,
      negativePromptEmbeds,
      measures,
    },
  };
}

function disposeValidation({ samples, options }: Validation): void {
  tf.dispose(samples.map(({ promptEmbeds }) => promptEmbeds));
  options.negativePromptEmbeds?.dispose();
}

// -- what is going to happen -------------------------------------------------------------------------------------

/**
 * Says what a run would do, without encoding or writing anything: models, data, steps, memory, and how long a step takes,
 * measured on random latents of the largest size.
 *
 * @throws ResumeError, after saying all that, if the run would be refused its folder.
 */
export async function planTraining(
  given: TrainArguments,
  { log = console.log }: RunOptions = {},
): Promise<void> {
  assertConsistent(given);
  const args = await withLocalModel(given);
  const checked = await checkRun(args, log);
  const { assigned, buckets } = checked;
  const models = await openModels(args, checked);
  try {
    const counts = new Map<string, number>();
    for (const { bucket } of assigned)
      counts.set(bucketName(bucket), (counts.get(bucketName(bucket)) ?? 0) + 1);
    log(
      `data: ${assigned.length} clips: ${[...counts].map(([name, count]) => `${count} of ${name}`).join(", ")}`,
    );

    const size = (bucket: Bucket) => bucket.numFrames * bucket.height * bucket.width;
    const largest = buckets.reduce((best, bucket) => (size(bucket) > size(best) ? bucket : best));
    const data = randomData(models, largest, assigned.length);
    const options = { ...trainerOptions(args), outputDir: undefined, resumeFromCheckpoint: undefined };
    const trainer = await Trainer.create(models, data, options);
    try {
      for (const line of describeTraining(args, models, trainer, data, buckets)) log(line);
      const seconds: number[] = [];
      for await (const report of trainer.steps()) {
        seconds.push(report.seconds);
        if (seconds.length === 3) break;
      }
      const perStep = Math.min(...seconds);
      const hourly = Number((3600 / perStep).toPrecision(3));
      log(
        `speed: ${perStep.toPrecision(3)} s a step at ${bucketName(largest)}: ${hourly} steps an hour, ${formatDuration(perStep * trainer.totalSteps)} in all, not counting encoding and validation`,
      );
      log(`memory: the process took ${formatBytes(process.resourceUsage().maxRSS * 1024)} at its peak`);
    } finally {
      trainer.dispose();
      data.dispose();
    }
  } finally {
    models.vae.dispose();
    models.transformer.dispose();
  }
  // Last, so that what the run needs is said in any case.
  assertLockable(given.output_dir);
  await assertResumable(given, { readOnly: true, data: dataOf(args, checked) });
}

function describeTraining(
  args: TrainArguments,
  { vae, transformer }: Models,
  trainer: Trainer,
  data: { readonly length: number },
  buckets: readonly Bucket[],
  group?: Group,
): string[] {
  const trained = trainer.numTrainableParameters;
  const what =
    args.training_type === "lora"
      ? `a LoRA of rank ${args.rank}, alpha ${args.lora_alpha} on ${args.target_modules.join(", ")}`
      : "all weights";
  const parameters =
    transformer.numParameters() + vae.numParameters() + (args.training_type === "lora" ? trained : 0);
  const ratios = {
    spatialRatio: vae.spatialCompressionRatio,
    temporalRatio: vae.config.temporal_compression_ratio,
  };
  const estimates = buckets.map((bucket) =>
    estimateMemory({
      config: transformer.config,
      parameters,
      trainable: trained,
      optimizerState: trainer.optimizerStateSize,
      ema: args.use_ema,
      bucket,
      batchSize: args.batch_size,
      gradientCheckpointing: args.gradient_checkpointing,
      frozenDtype: frozenDtype(args),
      ...ratios,
    }),
  );
  const memory = estimates.reduce((most, estimate) => (estimate.total > most.total ? estimate : most));
  const parts = (["weights", "gradients", "optimizer", "ema", "activations"] as const)
    .filter((name) => memory[name] > 0)
    .map((name) => `${name} ${formatBytes(memory[name])}`);
  const tokens = buckets.map(
    (bucket) => `${countTokens(transformer.config, bucket, ratios)} at ${bucketName(bucket)}`,
  );
  const lines = [
    `model: transformer of ${formatCount(transformer.numParameters())} parameters; training ${what}: ${formatCount(trained)}; tokens ${tokens.join(", ")}`,
    `steps: ${trainer.totalSteps} of ${args.gradient_accumulation_steps} x ${args.batch_size} clips${group ? ` on each of ${group.size} ranks` : ""}, ${data.length} clips an epoch`,
    `memory: about ${formatBytes(memory.total)}: ${parts.join(", ")}`,
  ];
  if (args.mixed_precision !== "no") {
    const how = args.mixed_precision === "bf16" ? describeBfloat16(currentEngine()!) : "computed in float32";
    lines.push(`mixed_precision ${args.mixed_precision}: ${how}`);
  }
  return lines;
}

/** One sample of noise, repeated for every clip. */
function randomData({ vae, transformer }: Models, bucket: Bucket, length: number): MemoryData {
  const generator = new RandomGenerator(0);
  const { temporal_compression_ratio: temporal, latent_channels: channels } = vae.config;
  const spatial = vae.spatialCompressionRatio;
  const { max_text_seq_length: tokens, text_embed_dim: features } = transformer.config;
  const sample = {
    encodedVideo: generator.randn<tf.Rank.R4>([
      channels,
      latentFrames(bucket.numFrames, temporal),
      bucket.height / spatial,
      bucket.width / spatial,
    ]) as tf.Tensor4D,
    promptEmbedding: generator.randn<tf.Rank.R2>([tokens, features]) as tf.Tensor2D,
    image: generator.randn<tf.Rank.R3>([3, bucket.height, bucket.width]) as tf.Tensor3D,
  };
  return new MemoryData(Array(length).fill(sample), { emptyPrompt: sample.promptEmbedding.clone() });
}
