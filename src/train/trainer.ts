/**
 * The training loop of CogVideoX image-to-video: what zai-org/CogVideo's fine-tuning does, SFT and LoRA, with options of
 * the same names. A run that is killed and resumed ends with the same weights, bit for bit, on the same engine.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTick } from "node:timers/promises";
import { inspect } from "node:util";
import type { CogVideoXScheduler } from "../diffusion/scheduler.js";
import { currentEngine } from "../engine/index.js";
import { type GradientReady, variableGrads } from "../engine/ops/tape.js";
import { withPrecision } from "../engine/precision.js";
import { type GeneratorState, RandomGenerator } from "../engine/random.js";
import { grouped, showAs } from "../engine/shown.js";
import * as tf from "../engine/tf.js";
import type { CogVideoXTransformer3DModel } from "../models/transformer/transformer.js";
import type { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import { loadParameters, type Parameter } from "../nn/module.js";
import {
  computeLoss,
  disposeLossInputs,
  drawLoss,
  dropCaptions,
  type LossOptions,
  lossValues,
  prepareLoss,
  prepareTextToVideoLoss,
} from "../recipe/loss.js";
import { openWeights } from "../weights/checkpoint.js";
import { LORA_WEIGHT_NAME } from "../weights/lora-files.js";
import { loadFile, safeOpen, saveFile } from "../weights/safetensors.js";
import {
  ArgumentError,
  type ArgumentOptions,
  CODE_SPELLING,
  type CompleteOptions,
  completeOptions,
  type Spelling,
} from "./arguments.js";
import {
  type CheckpointPlace,
  checkpointsToResume,
  ResumeError,
  removeCheckpoints,
  saveCheckpoint,
} from "./checkpoint.js";
import { collate, type TrainingData, type TrainingSample } from "./data.js";
import { RankError } from "./distributed/errors.js";
import { BucketedSum, sumOverRanks } from "./distributed/gradients.js";
import type { Group } from "./distributed/group.js";
import { OuterOptimizer } from "./distributed/outer.js";
import { type RankStep, RankTimes, type Share, shareOf, wholeStep } from "./distributed/share.js";
import { Ema } from "./ema.js";
import { fingerprint, fingerprintModel } from "./fingerprint.js";
import { DivergenceError, DivergenceGuard, type GuardState } from "./guard.js";
import { getScheduler } from "./lr-scheduler.js";
import { MuonAdamW } from "./muon-adamw.js";
import { Adam, clipFactor, gradNorm, type Optimizer } from "./optimizer.js";
import { lockOutput, type OutputLock } from "./output-lock.js";
import {
  argumentName,
  type Difference,
  describeChanges,
  fixedArguments,
  type ResumableState,
  type RunFingerprint,
  resumeFrom,
} from "./resume.js";
import { BatchSampler, type SamplerState } from "./sampler.js";
import { timestepWeights } from "./timestep-bias.js";

/** What is trained, and what training needs besides. */
export interface TrainingModels {
  readonly vae: AutoencoderKLCogVideoX;
  readonly transformer: CogVideoXTransformer3DModel;
  readonly scheduler: CogVideoXScheduler;
}

/**
 * The recipe's options with its defaults, as `firstframe train --help` explains them: `learningRate` is its `learning_rate`.
 * Without `outputDir` nothing is written. Giving `emaDecay` implies `useEma`.
 */
export interface TrainerOptions extends ArgumentOptions {
  /**
   * What a checkpoint must agree with to be resumed from. Default: these options and the content of the data and models; the
   * transformer's weights only for a LoRA, since otherwise the checkpoint has them all.
   */
  readonly fingerprint?: RunFingerprint;
  /** Is told of checkpoints that are passed over, and of changes since the one resumed from. Default: `console.warn`. */
  readonly log?: (line: string) => void;
}

/** What a run of the command sets for the trainer inside it. */
export interface TrainerRun {
  /** How errors name options. */
  readonly spelling: Spelling;
  /** The processes that train as one; every one of them calls the trainer's methods alike. Default: this one alone. */
  readonly group?: Group;
}

/** One optimizer step. */
export interface StepReport {
  /** Counted from 1. */
  readonly step: number;
  readonly epoch: number;
  /** Mean over the step's samples, those of all ranks; with `localSteps` above 1, as all else here, over this rank's. */
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Diffusion steps of the samples, and their losses. */
  readonly timesteps: readonly number[];
  readonly sampleLosses: readonly number[];
  readonly seconds: number;
}

export interface TrainingResult {
  /** Optimizer steps taken in total. */
  readonly step: number;
  readonly losses: readonly number[];
  /** False if it was aborted before the last step. */
  readonly finished: boolean;
  readonly checkpoint?: CheckpointPlace;
}

interface TrainerState extends ResumableState {
  readonly sampler: SamplerState;
  readonly draws: GeneratorState;
  readonly dropout: GeneratorState;
  readonly guard: GuardState;
  readonly samples: number;
  readonly totalSteps?: number;
  readonly trainingType: "sft" | "lora";
  readonly engine: string | undefined;
}

export type Options = CompleteOptions &
  Pick<TrainerOptions, "fingerprint"> &
  Required<Pick<TrainerOptions, "log">>;

/**
 * Trains a transformer.
 *
 * ```ts
 * const trainer = await Trainer.create({ vae, transformer, scheduler }, data, { trainingType: "lora", trainSteps: 200 });
 * for await (const { step, loss } of trainer.steps()) console.log(step, loss);
 * trainer.dispose();
 * ```
 */
export class Trainer {
  readonly options: Options;
  #totalSteps: number;
  readonly #models: TrainingModels;
  readonly #data: TrainingData;
  readonly #parameters: readonly Parameter[];
  readonly #optimizer: Optimizer;
  readonly #ema: Ema | undefined;
  readonly #sampler: BatchSampler;
  readonly #draws: RandomGenerator;
  readonly #dropout: RandomGenerator;
  readonly #guard: DivergenceGuard;
  #learningRate: (step: number) => number;
  readonly #group: Group | undefined;
  readonly #times: RankTimes | undefined;
  /** Set only if ranks take steps of their own. */
  readonly #outer: OuterOptimizer | undefined;
  /** Seconds of the steps since the ranks met. */
  #round: number[] = [];
  /** Whether a rank was asked to stop. */
  #stopping = false;
  #step = 0;
  #lastCheckpoint: CheckpointPlace | undefined;
  readonly #lock: OutputLock | undefined;
  readonly #spelling: Spelling;
  readonly #timestepWeights: Float64Array | undefined;
  /** Set only if captions are dropped. */
  #emptyPrompt: tf.Tensor2D | undefined;
  #fingerprint: RunFingerprint | undefined;
  #began: RunFingerprint | undefined;

  private constructor(
    models: TrainingModels,
    data: TrainingData,
    options: Options,
    lock?: OutputLock,
    { spelling, group }: TrainerRun = { spelling: CODE_SPELLING },
  ) {
    this.#spelling = spelling;
    // One rank alone computes as a process without others does.
    this.#group = group && group.size > 1 ? group : undefined;
    this.#times = this.#group && new RankTimes(this.#group, options.log);
    this.options = options;
    this.#lock = lock;
    this.#models = models;
    this.#data = data;
    // Separate streams, so that none depends on how much another has drawn.
    const root = new RandomGenerator(options.seed);
    const seeds = Array.from({ length: 4 }, () => root.integer(0, 2 ** 31));
    const [adapterSeed, dataSeed, drawSeed, dropoutSeed] = seeds as [number, number, number, number];

    const { transformer, vae, scheduler } = models;
    this.#timestepWeights = timestepWeights(options, scheduler.length, spelling);
    vae.requiresGrad(false);
    transformer.gradientCheckpointing = options.gradientCheckpointing;
    if (options.trainingType === "lora") {
      const { rank: r, loraAlpha, targetModules } = options;
      const adapter = transformer.addAdapter(
        { r, loraAlpha, targetModules },
        { generator: new RandomGenerator(adapterSeed) },
      );
      this.#parameters = [...adapter.parameters.values()];
    } else {
      transformer.requiresGrad(true);
      this.#parameters = [...transformer.parameters.values()].filter(({ trainable }) => trainable);
    }
    const adam = {
      betas: [options.beta1, options.beta2],
      eps: options.epsilon,
      weightDecay: options.weightDecay,
    } as const;
    this.#optimizer =
      options.optimizer === "muon"
        ? new MuonAdamW(this.#parameters, adam)
        : new Adam(options.optimizer, this.#parameters, adam);
    if (options.localSteps > 1 && !this.#group)
      options.log(
        `${spelling.name("local_steps")}: one process alone has nobody to meet, and trains as without it`,
      );
    this.#outer =
      this.#group && options.localSteps > 1
        ? new OuterOptimizer(this.#parameters, {
            learningRate: options.outerLearningRate,
            momentum: options.outerMomentum,
          })
        : undefined;
    this.#ema = options.useEma ? new Ema(this.#parameters, options.emaDecay) : undefined;
    const buckets = Array.from({ length: data.length }, (_, i) => data.bucket(i));
    const batchSize = options.batchSize * (this.#group?.size ?? 1);
    this.#sampler = new BatchSampler(buckets, batchSize, new RandomGenerator(dataSeed));
    this.#draws = new RandomGenerator(drawSeed);
    this.#dropout = new RandomGenerator(dropoutSeed);
    this.#guard = new DivergenceGuard(options.divergenceFactor);
    this.#totalSteps = this.#countSteps();
    this.#learningRate = this.#makeSchedule();
  }

  /** Steps taken and those that are left, in batches of the size that they have now. */
  #countSteps(): number {
    const { trainSteps, trainEpochs, gradientAccumulationSteps: accumulation } = this.options;
    if (trainSteps !== undefined) return trainSteps;
    const { epoch, batchesLeft, length } = this.#sampler;
    const steps = (batches: number) => Math.ceil(batches / accumulation);
    return this.#step + steps(batchesLeft) + (trainEpochs - epoch - 1) * steps(length);
  }

  #makeSchedule(): (step: number) => number {
    const { lrScheduler, learningRate, lrWarmupSteps, lrNumCycles, lrPower } = this.options;
    return getScheduler(lrScheduler, {
      learningRate,
      numWarmupSteps: lrWarmupSteps,
      numTrainingSteps: this.#totalSteps,
      numCycles: lrNumCycles,
      power: lrPower,
    });
  }

  /**
   * Prepares a run, and resumes from a checkpoint if `resumeFromCheckpoint` names one.
   *
   * The models stay the caller's. A LoRA run puts an adapter called "default" on the transformer. `outputDir` belongs to this
   * run alone until {@link dispose}.
   *
   * @param run from `runTraining`, which has already locked the folder.
   * @throws ArgumentError naming an option; ResumeError naming a checkpoint that does not fit, or an `outputDir` that holds
   *   another run or is in use by one, in this process or another.
   */
  static async create(
    models: TrainingModels,
    data: TrainingData,
    options: TrainerOptions = {},
    run?: TrainerRun,
  ): Promise<Trainer> {
    const { fingerprint, log = (line: string) => console.warn(line) } = options;
    const useEma = options.useEma ?? options.emaDecay !== undefined;
    const complete: Options = { ...(await completeOptions({ ...options, useEma })), fingerprint, log };
    const { outputDir, resumeFromCheckpoint } = complete;
    const lock =
      outputDir === undefined || run !== undefined ? undefined : await lockOutput(outputDir, complete.log);
    let trainer: Trainer | undefined;
    try {
      trainer = new Trainer(models, data, complete, lock, run);
      if (complete.captionDropout > 0) trainer.#emptyPrompt = await emptyPromptOf(data, trainer.#spelling);
      if (outputDir !== undefined || resumeFromCheckpoint !== undefined) await trainer.#begin();
      await trainer.#compareWeights("the start");
      return trainer;
    } catch (error) {
      trainer?.dispose();
      if (trainer && complete.trainingType === "lora") models.transformer.deleteAdapters("default");
      lock?.release();
      throw error;
    }
  }

  /** Finds out where the run stands and takes over its folder. The first rank decides; the others follow. */
  async #begin(): Promise<void> {
    const group = this.#group;
    if (group === undefined) return this.#beginFrom();
    if (group.rank === 0) await this.#beginFrom();
    const begun = await group.gather("the start", this.#lastCheckpoint ?? null, { unhurried: true });
    if (group.rank > 0) await this.#beginFrom(begun.values[0] ?? null);
  }

  /** @param place what the first rank goes on from, null for nothing. Default: what the options name. */
  async #beginFrom(place?: CheckpointPlace | null): Promise<void> {
    const { outputDir, resumeFromCheckpoint, allowChangedArguments, overwriteOutputDir, log } = this.options;
    const spelling = this.#spelling;
    const first = place === undefined;
    const places = first
      ? await checkpointsToResume(outputDir, this.options, { spelling })
      : place === null
        ? []
        : [place];
    const now = this.options.fingerprint ?? (await this.#ownFingerprint());
    const named = !first || resumeFromCheckpoint !== "latest";
    const restore = async (place: CheckpointPlace, state: TrainerState, changed: readonly Difference[]) => {
      await this.#restore(place, state, new Set(changed.map(({ name }) => name)));
      this.#began = changed.length > 0 ? (state.began ?? state.fingerprint) : state.began;
      if (changed.length > 0) log(`changed since ${place.path}: ${describeChanges(changed, spelling)}`);
    };
    const allowed = allowChangedArguments?.map(argumentName);
    await resumeFrom<TrainerState>(places, now, { allowed, named, spelling, log }, restore);
    this.#fingerprint = now;
    if (first && overwriteOutputDir && outputDir !== undefined) await removeCheckpoints(outputDir);
  }

  /**
   * Ranks that began with other weights, or whose machines compute something else, would go their own ways without a word.
   *
   * @throws RankError naming the rank whose weights are not the first one's.
   */
  async #compareWeights(what: string): Promise<void> {
    const group = this.#group;
    if (group === undefined) return;
    const norm = gradNorm(this.#parameters.map(({ value }) => value));
    const { values } = await group.gather(what, { step: this.#step, norm }, { unhurried: true });
    const [first] = values;
    const apart = values.findIndex(
      (other) => other.step !== first!.step || !(Math.abs(other.norm - first!.norm) <= 1e-4 * first!.norm),
    );
    if (apart < 0) return;
    const show = ({ step, norm }: { step: number; norm: number }) => `norm ${norm} at step ${step}`;
    throw new RankError(
      `${group.describe(apart)} has other weights than ${group.describe(0)}: ${show(values[apart]!)} and ${show(first!)}`,
      { exitCode: 1 },
    );
  }

  async #ownFingerprint(): Promise<RunFingerprint> {
    const { vae, transformer, scheduler } = this.#models;
    const { trainingType } = this.options;
    const options = Object.entries(this.options).map(([key, value]) => [argumentName(key), value]);
    const lora = trainingType === "lora";
    return {
      arguments: fixedArguments(Object.fromEntries(options)),
      data: (await this.#data.fingerprint?.()) ?? { samples: this.#data.length },
      model: {
        transformer: lora ? await fingerprintModel(transformer) : fingerprint(transformer.config),
        vae: await fingerprintModel(vae),
        scheduler: fingerprint(scheduler.config),
      },
    };
  }

  static {
    const line = ({ options, step, totalSteps, numTrainableParameters }: Trainer) =>
      `Trainer, ${options.trainingType}, step ${step} of ${totalSteps}, ${grouped(numTrainableParameters)} parameters`;
    showAs<Trainer>(Trainer, {
      line,
      text: (trainer) => `${line(trainer)}\n${inspect(trainer.options)}`,
    });
  }

  /** Optimizer steps that make up the run. */
  get totalSteps(): number {
    return this.#totalSteps;
  }

  /** Optimizer steps taken. */
  get step(): number {
    return this.#step;
  }

  /** How many numbers are trained. */
  get numTrainableParameters(): number {
    return this.#parameters.reduce((sum, { size }) => sum + size, 0);
  }

  /** How many numbers the optimizers remember. */
  get optimizerStateSize(): number {
    return this.#optimizer.stateSize + (this.#outer?.stateSize ?? 0);
  }

  /** The checkpoint written or read last. */
  get lastCheckpoint(): CheckpointPlace | undefined {
    return this.#lastCheckpoint;
  }

  /**
   * Takes the remaining steps, saving checkpoints on the way and at the end.
   *
   * @throws DivergenceError if the loss is not finite or far above its best; RankError if another rank is gone.
   */
  async *steps({
    signal,
  }: {
    /** Stops after the current step, all ranks if one is told; a checkpoint is saved then, too. */
    signal?: AbortSignal;
  } = {}): AsyncGenerator<StepReport, void, undefined> {
    const group = this.#group;
    const stopped = () => (group ? this.#stopping : signal?.aborted === true);
    if (group) {
      const { values } = await group.gather("the first step", signal?.aborted === true, { unhurried: true });
      this.#stopping = values.includes(true);
    }
    while (this.#step < this.totalSteps && !stopped()) {
      const report = await this.#takeStep(signal);
      const last = this.#step === this.totalSteps;
      if (this.#step % this.options.checkpointingSteps === 0 || last) await this.save();
      yield report;
      await nextTick(); // lets signals and other events in
    }
    if (stopped() && this.#step > 0) await this.save();
  }

  /** Takes all remaining steps. */
  async train({
    signal,
    onStep,
  }: {
    signal?: AbortSignal;
    onStep?: (report: StepReport) => void | Promise<void>;
  } = {}): Promise<TrainingResult> {
    const losses: number[] = [];
    for await (const report of this.steps({ signal })) {
      losses.push(report.loss);
      await onStep?.(report);
    }
    const finished = this.#step === this.totalSteps;
    return { step: this.#step, losses, finished, checkpoint: this.#lastCheckpoint };
  }

  /** Runs `work` with the moving average in place of the weights, or with the weights themselves if none is kept. */
  async withEma<T>(work: () => Promise<T>): Promise<T> {
    return this.#ema ? this.#ema.apply(work) : work();
  }

  /** Frees what belongs to the run; models and data stay. */
  dispose(): void {
    this.#optimizer.dispose();
    this.#outer?.dispose();
    this.#ema?.dispose();
    this.#emptyPrompt?.dispose();
    this.#lock?.release();
  }

  async #takeStep(signal: AbortSignal | undefined): Promise<StepReport> {
    const started = performance.now();
    const { gradientAccumulationSteps: accumulation, maxGradNorm } = this.options;
    const epoch = this.#sampler.epoch;
    const batches: RankStep["batches"][number][] = [];
    let sums: tf.Tensor[] = [];
    // Tensors that the step has to dispose. They are counted only while nothing else runs: what a data set keeps as it loads,
    // or other code creates meanwhile, does not belong to the step.
    let held = 0;
    let counts = false;
    let last = false;
    let reduction: Promise<{ sums: tf.Tensor[]; values: readonly RankStep[] }> | undefined;
    for (let i = 0; !last; i++) {
      const share = this.#ownShare(this.#sampler.next());
      // As with accelerate in the recipe: an epoch's end completes the step, however many batches are missing.
      last = i + 1 === accumulation || this.#sampler.atEpochStart;
      const samples = await Promise.all(share.samples.map((index) => this.#data.load(index)));
      const before = tf.memory().numTensors - countTensors(samples);
      const summed = this.#group && !this.#outer && last ? this.#startReduction(this.#group) : undefined;
      const { timesteps, sampleLosses } = this.#gradients(samples, share, (index, gradient) => {
        const sum = sums[index] ? addAndDispose(sums[index], gradient) : tf.keep(gradient);
        if (summed) summed.add(index, sum);
        else sums[index] = sum;
      });
      counts ||= share.weight > 0;
      batches.push(
        share.weight > 0 || this.#outer ? { timesteps, sampleLosses } : { timesteps: [], sampleLosses: [] },
      );
      reduction = summed?.finish({
        batches,
        seconds: (performance.now() - started) / 1000,
        stop: signal?.aborted === true,
      });
      held += tf.memory().numTensors - before;
    }
    let ranks: readonly Pick<RankStep, "batches">[] = [{ batches }];
    if (reduction) {
      const { sums: reduced, values } = await reduction;
      sums = reduced;
      held += sums.length;
      this.#stopping = values.some(({ stop }) => stop);
      this.#times!.add(values.map(({ seconds }) => seconds));
      ranks = values;
    }
    const { timesteps, sampleLosses } = wholeStep(ranks);
    const before = tf.memory().numTensors - held;
    const norm = gradNorm(sums) / accumulation;
    const loss = sampleLosses.reduce((sum, value) => sum + value, 0) / sampleLosses.length;
    const problem = this.#guard.check(loss, norm);
    if (problem !== undefined) {
      tf.dispose(sums);
      const kept = this.#lastCheckpoint
        ? `the last good checkpoint is ${this.#lastCheckpoint.path}`
        : "no checkpoint was saved";
      throw new DivergenceError(`step ${this.#step + 1}: ${problem}; ${kept}`);
    }
    const learningRate = this.#learningRate(this.#step);
    // Where an epoch's end left nothing for this rank, its own weights stay.
    if (counts || !this.#outer)
      this.#optimizer.step(sums, learningRate, clipFactor(norm, maxGradNorm) / accumulation);
    tf.dispose(sums);
    if (!this.#outer) this.#ema?.update();
    this.#step++;
    const left = tf.memory().numTensors - before;
    if (left !== 0) throw new Error(`step ${this.#step} did not dispose ${left} of its tensors`);
    const seconds = (performance.now() - started) / 1000;
    if (this.#outer) {
      this.#round.push(seconds);
      const { localSteps } = this.options;
      if (this.#step % localSteps === 0 || this.#step === this.totalSteps)
        await this.#endRound(signal?.aborted === true);
    }
    return { step: this.#step, epoch, loss, gradNorm: norm, learningRate, timesteps, sampleLosses, seconds };
  }

  /** This rank's part of a batch. If ranks train by themselves, its mean is theirs alone. */
  #ownShare(batch: readonly number[]): Share {
    const share = shareOf(batch, this.#group);
    return this.#outer && share.weight > 0 ? { ...share, weight: 1 } : share;
  }

  /** The gradients' sums over all ranks, once a step. */
  #startReduction(group: Group): BucketedSum {
    const shapes = this.#parameters.map(({ value }) => value.shape);
    return new BucketedSum(group, `step ${this.#step + 1}`, shapes, this.options.bucketCapMb);
  }

  /** Brings together what the ranks have trained by themselves; nothing if they have not moved since they met. */
  async #endRound(stop = false): Promise<void> {
    if (!this.#outer || this.#round.length === 0) return;
    const steps = this.#round.length;
    const seconds = this.#round.reduce((sum, value) => sum + value, 0) / steps;
    this.#round = [];
    const values = await this.#outer.step(this.#group!, `step ${this.#step}`, { seconds, stop });
    this.#stopping = values.some((value) => value.stop);
    this.#times!.add(values.map((value) => value.seconds));
    // As often as it would have been updated, with the weights that all ranks have.
    for (let i = 0; i < steps; i++) this.#ema?.update();
  }

  /** Each rank remembers something else; a checkpoint has one memory, for any number of ranks. */
  async #averageMoments(): Promise<void> {
    const group = this.#group!;
    const state = this.#optimizer.stateTensors();
    const { sums } = await sumOverRanks(group, `checkpoint ${this.#step}`, Object.values(state), null);
    const means = sums.map((sum) => tf.tidy(() => tf.div(sum, group.size)));
    const named = Object.keys(state).map((name, i) => [name, means[i]!] as const);
    this.#optimizer.loadState(Object.fromEntries(named), this.#step);
    tf.dispose([...sums, ...means]);
  }

  /**
   * Gradients of one batch's loss, as far as they are this rank's. Disposes the samples.
   *
   * @param take is given each parameter's as soon as it is final, in the backward pass, whose scope it is in.
   */
  #gradients(
    samples: readonly TrainingSample[],
    { first, total, weight }: Share,
    take: (index: number, gradient: tf.Tensor) => void,
  ): {
    timesteps: readonly number[];
    sampleLosses: number[];
  } {
    const { noisedImageDropout, captionDropout, mixedPrecision } = this.options;
    const options = lossOptions(this.options);
    const batch = collate(samples);
    const draws = drawLoss(this.#draws, batch, this.#models, {
      imageDropout: noisedImageDropout,
      captionDropout,
      timestepWeights: this.#timestepWeights,
      share: { first, total },
    });
    // Each rank has its own numbers, all from one generator, so that a checkpoint does for all.
    const dropout = this.#group
      ? new RandomGenerator(this.#dropout.integer(0, 2 ** 31) + this.#group.rank)
      : this.#dropout;
    const prepare = this.options.modelType === "t2v" ? prepareTextToVideoLoss : prepareLoss;
    const inputs = prepare(this.#models, batch, draws, options);
    const emptyPrompt = this.#emptyPrompt;
    const captions = emptyPrompt
      ? dropCaptions(batch.promptEmbedding, draws, emptyPrompt)
      : batch.promptEmbedding;
    const variables = this.#parameters.map(({ value }) => value);
    let squaredError: Float32Array | undefined;
    const lossOf = () => {
      const terms = computeLoss(this.#models, inputs, captions, { ...options, generator: dropout });
      squaredError = terms.squaredError.dataSync() as Float32Array;
      return terms.loss;
    };
    const ready: GradientReady = (index, final) => {
      const gradient = final ?? tf.zerosLike(variables[index]!);
      if (weight === 1) {
        take(index, gradient);
        return;
      }
      take(index, tf.mul(gradient, weight));
      gradient.dispose();
    };
    const { value } = withPrecision(mixedPrecision === "bf16" ? "bfloat16" : "float32", () =>
      variableGrads(lossOf, variables, ready),
    );
    const { perSample } = lossValues(squaredError!, inputs.weights);
    disposeLossInputs(inputs);
    if (captions !== batch.promptEmbedding) captions.dispose();
    tf.dispose([value, batch.encodedVideos, batch.promptEmbedding, batch.images]);
    tf.dispose([draws.imageNoise, draws.imagePosteriorNoise, draws.diffusionNoise]);
    return { timesteps: draws.timesteps, sampleLosses: perSample };
  }

  /**
   * Saves a checkpoint of the current state; does nothing without an `outputDir`. Of several ranks the first one writes it, and
   * all have to ask for it.
   */
  async save(): Promise<CheckpointPlace | undefined> {
    const { outputDir } = this.options;
    if (outputDir === undefined || this.#lastCheckpoint?.step === this.#step) return this.#lastCheckpoint;
    await this.#endRound();
    await this.#compareWeights(`checkpoint ${this.#step}`);
    if (this.#outer) await this.#averageMoments();
    if (this.#group === undefined || this.#group.rank === 0) await this.#write(outputDir);
    else {
      const path = join(outputDir, `checkpoint-${this.#step}`);
      this.#lastCheckpoint = { path, step: this.#step };
    }
    await this.#group?.gather(`the end of checkpoint ${this.#step}`, null, { unhurried: true });
    return this.#lastCheckpoint;
  }

  async #write(outputDir: string): Promise<void> {
    const { checkpointingLimit, trainingType } = this.options;
    const state: TrainerState = {
      fingerprint: this.#fingerprint,
      began: this.#began,
      sampler: this.#sampler.getState(),
      draws: this.#draws.getState(),
      dropout: this.#dropout.getState(),
      guard: this.#guard.getState(),
      samples: this.#data.length,
      totalSteps: this.totalSteps,
      trainingType,
      engine: currentEngine()?.name,
    };
    this.#lastCheckpoint = await saveCheckpoint(
      outputDir,
      this.#step,
      state,
      async (folder) => {
        await this.#saveWeights(folder);
        await this.#ema?.apply(() => this.#saveWeights(join(folder, "ema")));
        const moments = { ...this.#optimizer.stateTensors(), ...this.#outer?.stateTensors() };
        await saveFile(moments, join(folder, "optimizer.safetensors"));
        tf.dispose(moments);
      },
      { limit: checkpointingLimit },
    );
  }

  /** SFT: a transformer's folder, as diffusers has it. LoRA: a file that its pipelines load. */
  async #saveWeights(folder: string): Promise<void> {
    const { transformer } = this.#models;
    if (this.options.trainingType === "lora") await transformer.saveLoraAdapter(folder);
    else await transformer.savePretrained(join(folder, "transformer"));
  }

  /** @param changed names of arguments that may differ. */
  async #restore(
    { path, step }: CheckpointPlace,
    state: TrainerState,
    changed: ReadonlySet<string>,
  ): Promise<void> {
    const { trainingType, lrScheduler, log } = this.options;
    if (state.trainingType !== trainingType) {
      throw new ResumeError(`a checkpoint of ${state.trainingType}, expected ${trainingType}`, {
        file: path,
      });
    }
    if (state.samples !== this.#data.length && !changed.has("data_root")) {
      throw new ResumeError(`made with ${state.samples} samples, the data set has ${this.#data.length}`, {
        file: path,
      });
    }
    // A position within an epoch means nothing for other data.
    const { epoch, generator } = state.sampler;
    // Earlier versions did not keep it, and had one rank.
    const before = state.fingerprint?.arguments.batch_size as number | undefined;
    const place = { batchSize: before ?? this.options.batchSize, ...state.sampler };
    this.#sampler.setState(changed.has("data_root") ? { epoch, generator, position: 0 } : place);
    this.#step = step;
    this.#totalSteps = this.#countSteps();
    this.#learningRate = this.#makeSchedule();
    if (step > this.totalSteps) {
      throw new ResumeError(
        `is at step ${step}, the run ends at ${this.totalSteps} (${this.#spelling.name("train_steps")})`,
        {
          file: path,
        },
      );
    }
    await this.#restoreWeights(path, state, step, changed);
    this.#draws.setState(state.draws);
    this.#dropout.setState(state.dropout);
    this.#guard.setState(state.guard);
    this.#lastCheckpoint = { path, step };
    const engine = currentEngine()?.name;
    if (state.engine !== engine) {
      log(`${path}: was made on ${state.engine}; the numbers differ slightly on ${engine}`);
    }
    const planned = state.totalSteps ?? this.totalSteps;
    if (planned !== this.totalSteps && !lrScheduler.startsWith("constant")) {
      log(
        `${path}: was meant to end at step ${planned}; the ${lrScheduler} schedule now ends at ${this.totalSteps}`,
      );
    }
  }

  async #restoreWeights(
    path: string,
    state: TrainerState,
    step: number,
    changed: ReadonlySet<string>,
  ): Promise<void> {
    const byName = new Map(this.#parameters.map((parameter) => [parameter.name, parameter]));
    if (state.trainingType === "lora") {
      const file = await safeOpen(join(path, LORA_WEIGHT_NAME));
      try {
        await loadParameters(byName, file, { rename: withoutPrefix });
      } finally {
        await file.close();
      }
    } else {
      await this.#models.transformer.loadWeights(join(path, "transformer"));
    }
    // Another optimizer remembers something else, so it starts from nothing.
    if (!changed.has("optimizer")) {
      const moments = await loadFile(join(path, "optimizer.safetensors"));
      try {
        const { outer, inner } = OuterOptimizer.split(moments);
        this.#optimizer.loadState(inner, step);
        this.#outer?.loadState(outer);
      } finally {
        tf.dispose(moments);
      }
    }
    this.#outer?.restart();
    if (!this.#ema) return;
    const folder = join(path, "ema");
    if (changed.has("use_ema") && !existsSync(folder)) this.#ema.restart();
    else await this.#restoreEma(this.#ema, folder, state.trainingType, step);
  }

  async #restoreEma(ema: Ema, folder: string, trainingType: "sft" | "lora", step: number): Promise<void> {
    const source = await openWeights(
      trainingType === "lora" ? join(folder, LORA_WEIGHT_NAME) : join(folder, "transformer"),
    );
    const shadows: Record<string, tf.Tensor> = {};
    try {
      for (const key of source.keys()) {
        const { shape } = source.info(key);
        shadows[withoutPrefix(key)] = tf.tensor((await source.getData(key)).data as Float32Array, [...shape]);
      }
      ema.loadState(shadows, step);
    } finally {
      tf.dispose(shadows);
      await source.close();
    }
  }
}

function lossOptions(options: Options): LossOptions {
  const { imageNoise, paddingInLoss, snrGamma, padding, imagePlace } = options;
  const noise = {
    distribution: options.imageNoiseDistribution,
    logMean: options.imageNoiseLogMean,
    logStd: options.imageNoiseLogStd,
    max: options.imageNoiseMax,
  };
  return { imageNoise: imageNoise && noise, paddingInLoss, snrGamma, padding, imagePlace };
}

async function emptyPromptOf(data: TrainingData, spelling: Spelling): Promise<tf.Tensor2D> {
  const embedding = await data.emptyPrompt?.();
  if (embedding !== undefined) return embedding;
  throw new ArgumentError(
    `${spelling.name("caption_dropout")}: expected data with the empty prompt's embedding (emptyPrompt), found none`,
  );
}

const withoutPrefix = (key: string): string => key.replace(/^transformer\./, "");

/** A tensor that several samples share counts once, as it is disposed once. */
function countTensors(samples: readonly TrainingSample[]): number {
  return new Set(samples.flatMap((sample) => [sample.encodedVideo, sample.promptEmbedding, sample.image]))
    .size;
}

/** Kept in whatever scope it is computed. */
function addAndDispose(sum: tf.Tensor, term: tf.Tensor): tf.Tensor {
  const added = tf.keep(tf.tidy(() => tf.add(sum, term)));
  tf.dispose([sum, term]);
  return added;
}
