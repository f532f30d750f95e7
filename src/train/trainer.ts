/**
 * The training loop of CogVideoX image-to-video: what zai-org/CogVideo's fine-tuning does, SFT and LoRA, with options of
 * the same names. A run that is killed and resumed ends with the same weights, bit for bit, on the same engine.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTick } from "node:timers/promises";
import { currentEngine } from "../engine/index.js";
import { releasing } from "../engine/ops/tape.js";
import { Generator, type GeneratorState } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import { LORA_TARGET_MODULES } from "../transformer/lora.js";
import { LORA_WEIGHT_NAME } from "../transformer/lora-files.js";
import { openWeights } from "../weights/checkpoint.js";
import { loadParameters, type Parameter } from "../weights/module.js";
import { loadFile, safeOpen, saveFile } from "../weights/safetensors.js";
import { type CheckpointPlace, findCheckpoint, ResumeError, saveCheckpoint } from "./checkpoint.js";
import { collate, type TrainingData } from "./data.js";
import { Ema } from "./ema.js";
import { DivergenceError, DivergenceGuard, type GuardState } from "./guard.js";
import {
  computeLoss,
  disposeLossInputs,
  drawLoss,
  type LossModels,
  type LossOptions,
  lossValues,
  prepareLoss,
} from "./loss.js";
import { getScheduler, type LrSchedulerName } from "./lr-scheduler.js";
import { MuonAdamW } from "./muon-adamw.js";
import { Adam, clipFactor, gradNorm, type Optimizer, type OptimizerName } from "./optimizer.js";
import { BatchSampler, type SamplerState } from "./sampler.js";

/** The recipe's options, with its defaults. */
export interface TrainerOptions {
  /** "sft" trains all weights, "lora" an adapter. Default "lora". */
  readonly trainingType?: "sft" | "lora";
  /** Where checkpoints go; without it nothing is written. */
  readonly outputDir?: string;
  /** Default 42. */
  readonly seed?: number;
  /** Optimizer steps; default: as many as `trainEpochs` takes. */
  readonly trainSteps?: number;
  /** Default 10. */
  readonly trainEpochs?: number;
  /** Default 1. */
  readonly batchSize?: number;
  /** Batches an optimizer step. Default 1. */
  readonly gradientAccumulationSteps?: number;
  /** Default 2e-5. */
  readonly learningRate?: number;
  /** Default "adamw". */
  readonly optimizer?: OptimizerName;
  /** Default 0.9. */
  readonly beta1?: number;
  /** Default 0.95. */
  readonly beta2?: number;
  /** Default 1e-8. */
  readonly epsilon?: number;
  /** Default 1e-4. */
  readonly weightDecay?: number;
  /** Default 1. */
  readonly maxGradNorm?: number;
  /** Default "constant_with_warmup". */
  readonly lrScheduler?: LrSchedulerName;
  /** Default 100. */
  readonly lrWarmupSteps?: number;
  /** Default 1. */
  readonly lrNumCycles?: number;
  /** Default 1. */
  readonly lrPower?: number;
  /** Optimizer steps between checkpoints. Default 200. */
  readonly checkpointingSteps?: number;
  /** How many checkpoints are kept. Default 10. */
  readonly checkpointingLimit?: number;
  /** "latest", or a checkpoint's folder. "latest" starts anew where there is none. */
  readonly resumeFromCheckpoint?: string;
  /** Compute activations again for the gradient instead of keeping them. Default true. */
  readonly gradientCheckpointing?: boolean;
  /** LoRA: rank. Default 128. */
  readonly rank?: number;
  /** LoRA: the update is scaled by loraAlpha / rank. Default 64. */
  readonly loraAlpha?: number;
  /** LoRA: names of the adapted layers. Default to_q, to_k, to_v, to_out.0. */
  readonly targetModules?: readonly string[];
  /** Noise on the image before it is encoded. Default true. */
  readonly imageNoise?: boolean;
  /** Count the first frame's copies in the loss. Default true. */
  readonly paddingInLoss?: boolean;
  /** Probability with which a sample's image latent is replaced by zeros. Default 0. */
  readonly noisedImageDropout?: number;
  /** Keep a moving average of the weights, with this largest decay. Default: none is kept. */
  readonly emaDecay?: number;
  /** Stop when the mean loss is so many times the best it was. Default 10. */
  readonly divergenceFactor?: number;
}

/** One optimizer step. */
export interface StepReport {
  /** Counted from 1. */
  readonly step: number;
  readonly epoch: number;
  /** Mean over the step's samples. */
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Diffusion steps of the samples, and their losses. */
  readonly timesteps: readonly number[];
  readonly sampleLosses: readonly number[];
  readonly seconds: number;
}

export interface TrainingResult {
  /** Steps taken in all. */
  readonly step: number;
  readonly losses: readonly number[];
  /** False when it was aborted before the last step. */
  readonly finished: boolean;
  readonly checkpoint?: CheckpointPlace;
}

interface TrainerState {
  readonly format: 1;
  readonly step: number;
  readonly sampler: SamplerState;
  readonly draws: GeneratorState;
  readonly dropout: GeneratorState;
  readonly guard: GuardState;
  readonly samples: number;
  readonly trainingType: "sft" | "lora";
  readonly engine: string | undefined;
}

const DEFAULTS = {
  trainingType: "lora",
  seed: 42,
  trainEpochs: 10,
  batchSize: 1,
  gradientAccumulationSteps: 1,
  learningRate: 2e-5,
  optimizer: "adamw",
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 1e-4,
  maxGradNorm: 1,
  lrScheduler: "constant_with_warmup",
  lrWarmupSteps: 100,
  lrNumCycles: 1,
  lrPower: 1,
  checkpointingSteps: 200,
  checkpointingLimit: 10,
  gradientCheckpointing: true,
  rank: 128,
  loraAlpha: 64,
  targetModules: LORA_TARGET_MODULES,
  imageNoise: true,
  paddingInLoss: true,
  noisedImageDropout: 0,
  divergenceFactor: 10,
} as const satisfies TrainerOptions;

type Options = Omit<TrainerOptions, keyof typeof DEFAULTS> &
  Required<Pick<TrainerOptions, keyof typeof DEFAULTS>>;

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
  /** Optimizer steps that make up the run. */
  readonly totalSteps: number;
  readonly #models: LossModels;
  readonly #data: TrainingData;
  readonly #parameters: readonly Parameter[];
  readonly #optimizer: Optimizer;
  readonly #ema: Ema | undefined;
  readonly #sampler: BatchSampler;
  readonly #draws: Generator;
  readonly #dropout: Generator;
  readonly #guard: DivergenceGuard;
  readonly #learningRate: (step: number) => number;
  #step = 0;
  #lastCheckpoint: CheckpointPlace | undefined;

  private constructor(models: LossModels, data: TrainingData, options: Options) {
    this.options = options;
    this.#models = models;
    this.#data = data;
    for (const key of ["gradientAccumulationSteps", "checkpointingSteps", "checkpointingLimit"] as const) {
      if (!Number.isInteger(options[key]) || options[key] < 1) {
        throw new RangeError(`${key}: expected a positive integer, found ${options[key]}`);
      }
    }
    // Streams of their own, so that none depends on how much another has drawn.
    const root = new Generator(options.seed);
    const seeds = Array.from({ length: 4 }, () => root.integer(0, 2 ** 31));
    const [adapterSeed, dataSeed, drawSeed, dropoutSeed] = seeds as [number, number, number, number];

    const { transformer, vae } = models;
    vae.requiresGrad(false);
    transformer.gradientCheckpointing = options.gradientCheckpointing;
    if (options.trainingType === "lora") {
      const { rank: r, loraAlpha, targetModules } = options;
      const adapter = transformer.addAdapter(
        { r, loraAlpha, targetModules },
        { generator: new Generator(adapterSeed) },
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
    this.#ema =
      options.emaDecay === undefined ? undefined : new Ema(this.#parameters, { decay: options.emaDecay });
    const buckets = Array.from({ length: data.length }, (_, i) => data.bucket(i));
    this.#sampler = new BatchSampler(buckets, options.batchSize, new Generator(dataSeed));
    this.#draws = new Generator(drawSeed);
    this.#dropout = new Generator(dropoutSeed);
    this.#guard = new DivergenceGuard(options.divergenceFactor);
    this.totalSteps =
      options.trainSteps ??
      options.trainEpochs * Math.ceil(this.#sampler.length / options.gradientAccumulationSteps);
    this.#learningRate = getScheduler(options.lrScheduler, {
      learningRate: options.learningRate,
      numWarmupSteps: options.lrWarmupSteps,
      numTrainingSteps: this.totalSteps,
      numCycles: options.lrNumCycles,
      power: options.lrPower,
    });
  }

  /**
   * Prepares a run, and goes on from a checkpoint where `resumeFromCheckpoint` names one.
   *
   * The models stay the caller's. A LoRA run puts an adapter called "default" on the transformer.
   *
   * @throws RangeError naming an option; ResumeError naming a checkpoint that does not fit.
   */
  static async create(
    models: LossModels,
    data: TrainingData,
    options: TrainerOptions = {},
  ): Promise<Trainer> {
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    const trainer = new Trainer(models, data, { ...DEFAULTS, ...given } as Options);
    const { outputDir, resumeFromCheckpoint } = trainer.options;
    if (resumeFromCheckpoint !== undefined) {
      const found = await findCheckpoint(outputDir ?? "", resumeFromCheckpoint);
      if (found) await trainer.#restore(found);
    }
    return trainer;
  }

  /** Optimizer steps taken. */
  get step(): number {
    return this.#step;
  }

  /** How many numbers are trained. */
  get numTrainableParameters(): number {
    return this.#parameters.reduce((sum, { size }) => sum + size, 0);
  }

  /** How many numbers the optimizer remembers. */
  get optimizerStateSize(): number {
    return this.#optimizer.stateSize;
  }

  /** The newest checkpoint that was written or read. */
  get lastCheckpoint(): CheckpointPlace | undefined {
    return this.#lastCheckpoint;
  }

  /**
   * Takes the steps that are left, saving checkpoints on the way and at the end.
   *
   * @param options.signal stops after the current step; a checkpoint is saved then too.
   * @throws DivergenceError when the loss is not finite or far above its best.
   */
  async *steps({ signal }: { signal?: AbortSignal } = {}): AsyncGenerator<StepReport, void, undefined> {
    while (this.#step < this.totalSteps && !signal?.aborted) {
      const report = await this.#takeStep();
      const last = this.#step === this.totalSteps;
      if (this.#step % this.options.checkpointingSteps === 0 || last) await this.save();
      yield report;
      await nextTick(); // lets signals and other events in
    }
    if (signal?.aborted && this.#step > 0) await this.save();
  }

  /** Takes all steps that are left. */
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

  /** Runs `work` with the moving average in the weights' place; with the weights themselves where none is kept. */
  async withEma<T>(work: () => Promise<T>): Promise<T> {
    return this.#ema ? this.#ema.apply(work) : work();
  }

  /** Gives back what belongs to the run; models and data stay. */
  dispose(): void {
    this.#optimizer.dispose();
    this.#ema?.dispose();
  }

  async #takeStep(): Promise<StepReport> {
    const started = performance.now();
    const tensorsBefore = tf.memory().numTensors;
    const { gradientAccumulationSteps: accumulation, maxGradNorm } = this.options;
    const epoch = this.#sampler.epoch;
    const timesteps: number[] = [];
    const sampleLosses: number[] = [];
    let sums: tf.Tensor[] | undefined;
    for (let i = 0; i < accumulation; i++) {
      const batch = await this.#gradients();
      timesteps.push(...batch.timesteps);
      sampleLosses.push(...batch.sampleLosses);
      sums = sums ? addAndDispose(sums, batch.gradients) : batch.gradients;
      // As the recipe's accelerate: an epoch's end completes the step, whatever is missing.
      if (this.#sampler.atEpochStart) break;
    }
    const norm = gradNorm(sums!) / accumulation;
    const loss = sampleLosses.reduce((sum, value) => sum + value, 0) / sampleLosses.length;
    const problem = this.#guard.check(loss, norm);
    if (problem !== undefined) {
      tf.dispose(sums!);
      const kept = this.#lastCheckpoint
        ? `the last good checkpoint is ${this.#lastCheckpoint.path}`
        : "no checkpoint was saved";
      throw new DivergenceError(`step ${this.#step + 1}: ${problem}; ${kept}`);
    }
    const learningRate = this.#learningRate(this.#step);
    this.#optimizer.step(sums!, learningRate, clipFactor(norm, maxGradNorm) / accumulation);
    tf.dispose(sums!);
    this.#ema?.update();
    this.#step++;
    const left = tf.memory().numTensors - tensorsBefore;
    if (left !== 0) throw new Error(`step ${this.#step}: ${left} tensors more than before it`);
    const seconds = (performance.now() - started) / 1000;
    return { step: this.#step, epoch, loss, gradNorm: norm, learningRate, timesteps, sampleLosses, seconds };
  }

  /** Gradients of one batch's loss, in the parameters' order. */
  async #gradients(): Promise<{
    gradients: tf.Tensor[];
    timesteps: readonly number[];
    sampleLosses: number[];
  }> {
    const { imageNoise, paddingInLoss, noisedImageDropout } = this.options;
    const options: LossOptions = { imageNoise, paddingInLoss };
    const batch = collate(await Promise.all(this.#sampler.next().map((index) => this.#data.load(index))));
    const draws = drawLoss(this.#draws, batch, this.#models, { imageDropout: noisedImageDropout });
    const inputs = prepareLoss(this.#models, batch, draws, options);
    const variables = this.#parameters.map(({ value }) => value);
    let squaredError: Float32Array | undefined;
    const { value, grads } = tf.variableGrads(
      releasing(() => {
        const terms = computeLoss(this.#models, inputs, batch.promptEmbedding, {
          ...options,
          generator: this.#dropout,
        });
        squaredError = terms.squaredError.dataSync() as Float32Array;
        return terms.loss;
      }),
      variables,
    );
    const { perSample } = lossValues(squaredError!, inputs.weights);
    const gradients = variables.map((variable) => grads[variable.name] ?? tf.zerosLike(variable));
    disposeLossInputs(inputs);
    tf.dispose([value, batch.encodedVideos, batch.promptEmbedding, batch.images]);
    tf.dispose([draws.imageNoise, draws.imagePosteriorNoise, draws.diffusionNoise]);
    return { gradients, timesteps: draws.timesteps, sampleLosses: perSample };
  }

  /** Saves a checkpoint of where the run is; nothing without an `outputDir`. */
  async save(): Promise<CheckpointPlace | undefined> {
    const { outputDir, checkpointingLimit, trainingType } = this.options;
    if (outputDir === undefined || this.#lastCheckpoint?.step === this.#step) return this.#lastCheckpoint;
    this.#lastCheckpoint = await saveCheckpoint(
      outputDir,
      this.#step,
      async (folder) => {
        await this.#saveWeights(folder);
        await this.#ema?.apply(() => this.#saveWeights(join(folder, "ema")));
        const moments = this.#optimizer.stateTensors();
        await saveFile(moments, join(folder, "optimizer.safetensors"));
        tf.dispose(moments);
        const state: TrainerState = {
          format: 1,
          step: this.#step,
          sampler: this.#sampler.getState(),
          draws: this.#draws.getState(),
          dropout: this.#dropout.getState(),
          guard: this.#guard.getState(),
          samples: this.#data.length,
          trainingType,
          engine: currentEngine()?.name,
        };
        await writeFile(join(folder, "trainer_state.json"), `${JSON.stringify(state)}\n`);
      },
      { limit: checkpointingLimit },
    );
    return this.#lastCheckpoint;
  }

  /** SFT: a transformer's folder, as diffusers has it. LoRA: a file that its pipelines load. */
  async #saveWeights(folder: string): Promise<void> {
    const { transformer } = this.#models;
    if (this.options.trainingType === "lora") await transformer.saveLoraAdapter(folder);
    else await transformer.savePretrained(join(folder, "transformer"));
  }

  async #restore(place: CheckpointPlace): Promise<void> {
    const { path } = place;
    const state = await readState(path);
    if (state.trainingType !== this.options.trainingType) {
      throw new ResumeError(
        `${path}: a checkpoint of ${state.trainingType}, expected ${this.options.trainingType}`,
      );
    }
    if (state.samples !== this.#data.length) {
      throw new ResumeError(
        `${path}: made with ${state.samples} samples, the data set has ${this.#data.length}`,
      );
    }
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
    const moments = await loadFile(join(path, "optimizer.safetensors"));
    this.#optimizer.loadState(moments, state.step);
    tf.dispose(moments);
    if (this.#ema) await this.#restoreEma(this.#ema, join(path, "ema"), state);
    this.#sampler.setState(state.sampler);
    this.#draws.setState(state.draws);
    this.#dropout.setState(state.dropout);
    this.#guard.setState(state.guard);
    this.#step = state.step;
    this.#lastCheckpoint = place;
  }

  async #restoreEma(ema: Ema, folder: string, state: TrainerState): Promise<void> {
    const source = await openWeights(
      state.trainingType === "lora" ? join(folder, LORA_WEIGHT_NAME) : join(folder, "transformer"),
    );
    try {
      const shadows: Record<string, tf.Tensor> = {};
      for (const key of source.keys()) {
        const { shape } = source.info(key);
        shadows[withoutPrefix(key)] = tf.tensor((await source.getData(key)).data as Float32Array, [...shape]);
      }
      ema.loadState(shadows, state.step);
      tf.dispose(shadows);
    } finally {
      await source.close();
    }
  }
}

const withoutPrefix = (key: string): string => key.replace(/^transformer\./, "");

async function readState(path: string): Promise<TrainerState> {
  const file = join(path, "trainer_state.json");
  let state: TrainerState;
  try {
    state = JSON.parse(await readFile(file, "utf8")) as TrainerState;
  } catch (error) {
    throw new ResumeError(`${file}: not a trainer's state (${(error as Error).message})`);
  }
  if (state.format !== 1) throw new ResumeError(`${file}: expected format 1, found ${state.format}`);
  return state;
}

function addAndDispose(sums: tf.Tensor[], terms: tf.Tensor[]): tf.Tensor[] {
  const added = sums.map((sum, i) => tf.tidy(() => tf.add(sum, terms[i]!)));
  tf.dispose([...sums, ...terms]);
  return added;
}
