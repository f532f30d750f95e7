import { join } from "node:path";
import { InputError } from "../engine/errors.js";
import type { RandomGenerator } from "../engine/random.js";
import { grouped, showAs } from "../engine/shown.js";
import * as tf from "../engine/tf.js";
import { makeFolder } from "../weights/checkpoint.js";
import {
  ConfigError,
  type ConfigOrigin,
  completeConfig,
  configText,
  readJsonObject,
  writeConfig,
} from "../weights/config.js";
import { type HubOptions, type Needs, namedFiles, resolveModel } from "../weights/hub.js";
import {
  type CogVideoXSchedulerConfig,
  inferenceTimesteps,
  type NoiseSchedule,
  noiseSchedule,
  SCHEDULER_FIELDS,
} from "./noise-schedule.js";

/** The file in a scheduler's folder, as diffusers names it. */
const SCHEDULER_CONFIG = "scheduler_config.json";

/** Classes that read each other's files. */
const COMPATIBLES = ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"];

/** Timesteps of a batch: one number for all samples, or one per sample. */
export type Timesteps = number | ArrayLike<number> | tf.Tensor1D;

export interface SchedulerStepOutput<T extends tf.Tensor> {
  /** The sample of the previous timestep: the next model input. */
  prevSample: T;
  /** The predicted clean sample, x0. */
  predOriginalSample: T;
}

/** What a step back in time takes; a scheduler ignores what it does not need. */
export interface SchedulerStep<T extends tf.Tensor> {
  /** The model's prediction: noise, sample or velocity, by config.prediction_type; the sample's shape. */
  readonly modelOutput: T;
  readonly timestep: number;
  readonly sample: T;
  /** The step before: its timestep, and its `predOriginalSample`. Null or left out in the first step. */
  readonly timestepBack?: number | null;
  readonly oldPredOriginalSample?: T | null;
  /** Standard normal noise of the sample's shape, or the generator to draw it from. Only stochastic schedulers need it. */
  readonly noise?: T;
  readonly generator?: RandomGenerator | readonly RandomGenerator[];
}

/** What CogVideoX's DDIM and DPM schedulers share: the tables, the timesteps, noise and velocity. */
export abstract class CogVideoXScheduler {
  readonly config: CogVideoXSchedulerConfig;
  /** Noise levels before the SNR shift, one per training timestep. */
  readonly betas: Float64Array;
  /** Cumulative products of (1 - beta), after SNR shift and zero-SNR rescale. */
  readonly alphasCumprod: Float64Array;
  /** The cumulative alpha of the step below timestep 0. */
  readonly finalAlphaCumprod: number;
  /** The standard deviation of the starting noise. */
  readonly initNoiseSigma = 1.0;
  /** Model evaluations per step; pipelines count progress by it. */
  readonly order = 1;
  readonly #dtype: NoiseSchedule["dtype"];
  #numInferenceSteps: number | null = null;
  #timesteps: Int32Array;

  protected constructor(
    readonly className: string,
    config: Partial<CogVideoXSchedulerConfig>,
    where: ConfigOrigin = { subject: className },
    unknownKeys: "refuse" | "warn" = "refuse",
  ) {
    this.config = completeConfig(SCHEDULER_FIELDS, config, where, unknownKeys);
    const { num_train_timesteps: count, trained_betas: given } = this.config;
    if (given !== null && given.length !== count) {
      throw new ConfigError(
        `trained_betas must be ${count} numbers (num_train_timesteps), found ${given.length}`,
        where,
      );
    }
    const { betas, alphasCumprod, dtype } = noiseSchedule(this.config);
    this.betas = betas;
    this.alphasCumprod = alphasCumprod;
    this.#dtype = dtype;
    this.finalAlphaCumprod = this.config.set_alpha_to_one ? 1 : alphasCumprod[0]!;
    const total = this.config.num_train_timesteps;
    this.#timesteps = Int32Array.from({ length: total }, (_, i) => total - 1 - i);
  }

  /** Writes `scheduler_config.json` into a folder that diffusers reads. */
  async savePretrained(folder: string): Promise<void> {
    await makeFolder(folder);
    await writeConfig(folder, this.className, this.config, SCHEDULER_CONFIG);
  }

  /** Timesteps of the run, largest first; all training timesteps until {@link setTimesteps} is called. */
  get timesteps(): Int32Array {
    return this.#timesteps;
  }

  /** The number given to {@link setTimesteps}, or null. */
  get numInferenceSteps(): number | null {
    return this.#numInferenceSteps;
  }

  /** The type diffusers holds `alphas_cumprod` in for this configuration. */
  get dtype(): NoiseSchedule["dtype"] {
    return this.#dtype;
  }

  /** How many training timesteps there are. */
  get length(): number {
    return this.config.num_train_timesteps;
  }

  /**
   * Chooses the timesteps of a run. Some counts (61 and 103 of 1000, trailing) give one entry more than asked for.
   *
   * @throws InputError if the count is not an integer from 1 to num_train_timesteps.
   */
  setTimesteps(numInferenceSteps: number): void {
    this.#timesteps = inferenceTimesteps(this.config, numInferenceSteps);
    this.#numInferenceSteps = numInferenceSteps;
  }

  /** These schedulers have nothing to scale; it exists so that they can replace others. */
  scaleModelInput<T extends tf.Tensor>(sample: T, _timestep?: number): T {
    return sample;
  }

  /**
   * The forward process: sqrt(a) * original + sqrt(1 - a) * noise, with a = alphas_cumprod[timestep].
   *
   * @param originalSamples any shape, the batch first.
   * @throws InputError if a timestep is outside the schedule or their number is not the batch's.
   */
  addNoise<T extends tf.Tensor>(originalSamples: T, noise: T, timesteps: Timesteps): T {
    return tf.tidy(() => {
      const { signal, noise: level } = this.#levels(originalSamples, timesteps);
      return tf.add(tf.mul(signal, originalSamples), tf.mul(level, noise)) as T;
    });
  }

  /** One step back in time: from the sample at `timestep` to the one num_train_timesteps // numInferenceSteps earlier. */
  abstract step<T extends tf.Tensor>(step: SchedulerStep<T>): SchedulerStepOutput<T>;

  /**
   * Velocity (Salimans and Ho 2022, arXiv 2202.00512): sqrt(a) * noise - sqrt(1 - a) * sample. With a
   * v-prediction as `sample` and the noisy latent as `noise`, it is the predicted clean latent.
   *
   * @throws InputError as in {@link addNoise}.
   */
  getVelocity<T extends tf.Tensor>(sample: T, noise: T, timesteps: Timesteps): T {
    return tf.tidy(() => {
      const { signal, noise: level } = this.#levels(sample, timesteps);
      return tf.sub(tf.mul(signal, noise), tf.mul(level, sample)) as T;
    });
  }

  /** sqrt(a) and sqrt(1 - a), float32 as diffusers computes them, shaped to go with `like`. */
  #levels(like: tf.Tensor, timesteps: Timesteps): { signal: tf.Tensor; noise: tf.Tensor } {
    const batch = like.shape[0] ?? 1;
    const values =
      typeof timesteps === "number"
        ? [timesteps]
        : Array.from(timesteps instanceof tf.Tensor ? timesteps.dataSync() : timesteps);
    if (values.length !== 1 && values.length !== batch) {
      throw new InputError(`timesteps: expected 1 or ${batch} (the batch), found ${values.length}`);
    }
    const alphas = values.map((t) => Math.fround(this.alphaCumprod(t)));
    const shape = [values.length, ...Array<number>(like.rank - 1).fill(1)];
    return {
      signal: tf.tensor(alphas.map(Math.sqrt), shape, "float32"),
      noise: tf.tensor(
        alphas.map((a) => Math.sqrt(Math.fround(1 - a))),
        shape,
        "float32",
      ),
    };
  }

  /** alphas_cumprod of a timestep; -1 is the last one, like an index in Python. */
  protected alphaCumprod(timestep: number): number {
    const alpha = this.alphasCumprod.at(timestep);
    if (alpha === undefined || !Number.isInteger(timestep) || timestep < -1) {
      throw new InputError(`timestep: expected an integer from 0 to ${this.length - 1}, found ${timestep}`);
    }
    return alpha;
  }

  /**
   * The timestep that a step from `timestep` leads to, num_train_timesteps // n below it (not the next entry of
   * `timesteps`, when n does not divide num_train_timesteps), and the cumulative alphas of both.
   */
  protected stepAlphas(timestep: number): { prevTimestep: number; alpha: number; alphaPrev: number } {
    if (this.#numInferenceSteps === null) {
      throw new InputError("step: call setTimesteps(numInferenceSteps) before the first step");
    }
    const prevTimestep = timestep - Math.floor(this.length / this.#numInferenceSteps);
    return {
      prevTimestep,
      alpha: this.alphaCumprod(timestep),
      alphaPrev: prevTimestep >= 0 ? this.alphaCumprod(prevTimestep) : this.finalAlphaCumprod,
    };
  }

  /** The clean sample that belongs to a model output (v: Salimans and Ho 2022; epsilon: Ho et al. 2020). */
  protected predictOriginal<T extends tf.Tensor>(modelOutput: T, sample: T, alpha: number): T {
    switch (this.config.prediction_type) {
      case "epsilon":
        return tf.div(tf.sub(sample, tf.mul(modelOutput, Math.sqrt(1 - alpha))), Math.sqrt(alpha)) as T;
      case "sample":
        return tf.clone(modelOutput);
      case "v_prediction":
        return tf.sub(tf.mul(sample, Math.sqrt(alpha)), tf.mul(modelOutput, Math.sqrt(1 - alpha))) as T;
    }
  }

  static {
    showAs<CogVideoXScheduler>(CogVideoXScheduler, {
      line: ({ className, config, length }) =>
        `${className}, ${grouped(length)} training timesteps, ${config.prediction_type}`,
      text: ({ className, config }) => configText(className, config),
    });
  }
}

/** What is read from a scheduler's folder. */
export const schedulerFiles: Needs = namedFiles(SCHEDULER_CONFIG);

/** Where a scheduler is, and changes to its configuration. */
export interface LoadSchedulerOptions extends HubOptions, Partial<CogVideoXSchedulerConfig> {}

/**
 * Reads a scheduler's configuration, with changes. It may be of either class, since both have the same keys.
 * @throws ConfigError if it is missing, not a JSON object, or of another class; HubError.
 */
export async function readSchedulerConfig(
  idOrFolder: string,
  { revision, subfolder, cacheDir, localFilesOnly, token, ...changes }: LoadSchedulerOptions,
): Promise<{ path: string; config: Partial<CogVideoXSchedulerConfig> }> {
  const place = { revision, subfolder, cacheDir, localFilesOnly, token };
  const path = join(await resolveModel(idOrFolder, place, schedulerFiles), SCHEDULER_CONFIG);
  const config = await readJsonObject(path);
  if (!COMPATIBLES.includes(config._class_name as string)) {
    throw new ConfigError(
      `expected the configuration of ${COMPATIBLES.join(" or ")}, found _class_name ${JSON.stringify(config._class_name)}`,
      { file: path },
    );
  }
  return { path, config: { ...config, ...changes } };
}
