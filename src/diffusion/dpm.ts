import { InputError } from "../engine/errors.js";
import * as tf from "../engine/tf.js";
import type { ConfigOrigin } from "../weights/config.js";
import type { CogVideoXSchedulerConfig } from "./noise-schedule.js";
import { needed, randnTensor } from "./randn.js";
import {
  CogVideoXScheduler,
  type LoadSchedulerOptions,
  readSchedulerConfig,
  type SchedulerStep,
  type SchedulerStepOutput,
} from "./scheduler.js";

/** CogVideoX's stochastic second-order scheduler, SDE-DPM-Solver++ (2M) (Lu et al. 2022, arXiv 2211.01095). */
export class CogVideoXDPMScheduler extends CogVideoXScheduler {
  /**
   * @param config keys of diffusers' configuration; what is left out has diffusers' default.
   * @throws ConfigError naming the invalid key.
   */
  constructor(
    config: Partial<CogVideoXSchedulerConfig> = {},
    ...source: [where?: ConfigOrigin, unknownKeys?: "refuse" | "warn"]
  ) {
    super("CogVideoXDPMScheduler", config, ...source);
  }

  /** A scheduler with another one's configuration, or parts of it, plus changes. */
  static fromConfig(
    config: Partial<CogVideoXSchedulerConfig>,
    changes: Partial<CogVideoXSchedulerConfig> = {},
  ): CogVideoXDPMScheduler {
    return new CogVideoXDPMScheduler({ ...config, ...changes });
  }

  /**
   * Reads the `scheduler_config.json` of a folder or of a model of the Hugging Face Hub, of this class or its sibling.
   * @param options where it is, as in `{ subfolder: "scheduler" }`, and changes to the configuration.
   * @throws ConfigError naming the file and what is wrong with it, or HubError.
   */
  static async fromPretrained(
    idOrFolder: string,
    options: LoadSchedulerOptions = {},
  ): Promise<CogVideoXDPMScheduler> {
    const { path, config } = await readSchedulerConfig(idOrFolder, options);
    return new CogVideoXDPMScheduler(config, { file: path }, "warn");
  }

  /**
   * One step back in time, as in {@link CogVideoXDDIMScheduler.step}; from the second step on it also uses the
   * previous step's predicted clean sample.
   *
   * Each step takes one draw of the sample's shape. (diffusers draws twice in its middle steps and discards the first
   * draw; noise that is given replaces the one it keeps.)
   *
   * @throws InputError for a timestep outside the schedule, noise of another shape or none at all, and before
   *   setTimesteps.
   */
  override step<T extends tf.Tensor>({
    modelOutput,
    timestep,
    sample,
    timestepBack = null,
    oldPredOriginalSample = null,
    ...draws
  }: SchedulerStep<T>): SchedulerStepOutput<T> {
    return tf.tidy(() => {
      const { prevTimestep, alpha, alphaPrev } = this.stepAlphas(timestep);
      const predOriginalSample = this.predictOriginal(modelOutput, sample, alpha);

      const h = logSnr(alphaPrev) - logSnr(alpha);
      const keepSample = Math.sqrt((1 - alphaPrev) / (1 - alpha)) * Math.exp(-h);
      const addOriginal = -Math.expm1(-2 * h) * Math.sqrt(alphaPrev);
      const addNoise = Math.sqrt(1 - alphaPrev) * Math.sqrt(1 - Math.exp(-2 * h));

      let denoised: T = predOriginalSample;
      if (oldPredOriginalSample !== null && timestepBack !== null && prevTimestep >= 0) {
        // At zero terminal SNR the earlier lambda is -infinity: r is infinite and the correction vanishes.
        const r = (logSnr(alpha) - logSnr(this.alphaCumprod(timestepBack))) / h;
        const correction = 1 / (2 * r);
        denoised = tf.sub(
          tf.mul(predOriginalSample, 1 + correction),
          tf.mul(oldPredOriginalSample, correction),
        ) as T;
      }
      const noise = stepNoise(draws, sample);
      const prevSample = tf.addN([
        tf.mul(sample, keepSample),
        tf.mul(denoised, addOriginal),
        tf.mul(noise, addNoise),
      ]) as T;
      return { prevSample, predOriginalSample };
    });
  }
}

/** lambda of the papers: half the logarithm of a / (1 - a); -infinity at zero SNR, infinity without noise. */
function logSnr(alpha: number): number {
  return Math.log(Math.sqrt(alpha / (1 - alpha)));
}

function stepNoise<T extends tf.Tensor>(
  { noise, generator }: Pick<SchedulerStep<T>, "noise" | "generator">,
  sample: T,
): T {
  if (noise === undefined) return randnTensor(sample.shape, needed(generator)) as T;
  if (!tf.util.arraysEqual(noise.shape, sample.shape)) {
    throw new InputError(`noise: expected the sample's shape [${sample.shape}], found [${noise.shape}]`);
  }
  return noise;
}
