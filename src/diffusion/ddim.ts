import * as tf from "../engine/tf.js";
import type { ConfigOrigin } from "../weights/config.js";
import type { CogVideoXSchedulerConfig } from "./noise-schedule.js";
import {
  CogVideoXScheduler,
  type LoadSchedulerOptions,
  readSchedulerConfig,
  type SchedulerStep,
  type SchedulerStepOutput,
} from "./scheduler.js";

/** CogVideoX's deterministic DDIM scheduler (Song et al. 2020, arXiv 2010.02502, with eta = 0). */
export class CogVideoXDDIMScheduler extends CogVideoXScheduler {
  /**
   * @param config keys of diffusers' configuration; what is left out has diffusers' default.
   * @throws ConfigError naming the invalid key.
   */
  constructor(
    config: Partial<CogVideoXSchedulerConfig> = {},
    ...source: [where?: ConfigOrigin, unknownKeys?: "refuse" | "warn"]
  ) {
    super("CogVideoXDDIMScheduler", config, ...source);
  }

  /** A scheduler with another one's configuration, or parts of it, plus changes. */
  static fromConfig(
    config: Partial<CogVideoXSchedulerConfig>,
    changes: Partial<CogVideoXSchedulerConfig> = {},
  ): CogVideoXDDIMScheduler {
    return new CogVideoXDDIMScheduler({ ...config, ...changes });
  }

  /**
   * Reads the `scheduler_config.json` of a folder or of a model of the Hugging Face Hub, of this class or its sibling.
   * @param options where it is, as in `{ subfolder: "scheduler" }`, and changes to the configuration.
   * @throws ConfigError naming the file and what is wrong with it, or HubError.
   */
  static async fromPretrained(
    idOrFolder: string,
    options: LoadSchedulerOptions = {},
  ): Promise<CogVideoXDDIMScheduler> {
    const { path, config } = await readSchedulerConfig(idOrFolder, options);
    return new CogVideoXDDIMScheduler(config, { file: path }, "warn");
  }

  /**
   * One step back in time: from the sample at `timestep` to the one num_train_timesteps // numInferenceSteps
   * earlier. It draws nothing: diffusers' `eta`, `generator` and `variance_noise` have no effect in this scheduler.
   *
   * @throws InputError for a timestep outside the schedule, and before setTimesteps.
   */
  override step<T extends tf.Tensor>({
    modelOutput,
    timestep,
    sample,
  }: SchedulerStep<T>): SchedulerStepOutput<T> {
    return tf.tidy(() => {
      const { alpha, alphaPrev } = this.stepAlphas(timestep);
      const predOriginalSample = this.predictOriginal(modelOutput, sample, alpha);
      const a = Math.sqrt((1 - alphaPrev) / (1 - alpha));
      const b = Math.sqrt(alphaPrev) - Math.sqrt(alpha) * a;
      const prevSample = tf.add(tf.mul(sample, a), tf.mul(predOriginalSample, b)) as T;
      return { prevSample, predOriginalSample };
    });
  }
}
