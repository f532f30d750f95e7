import { InputError } from "../engine/errors.js";

/** Learning-rate schedules, with the names and numbers of diffusers' `get_scheduler`. */
export const LR_SCHEDULERS = [
  "constant",
  "constant_with_warmup",
  "linear",
  "cosine",
  "cosine_with_restarts",
  "polynomial",
] as const;

export type LrSchedulerName = (typeof LR_SCHEDULERS)[number];

export interface LrSchedulerOptions {
  /** The learning rate after warm-up. */
  readonly learningRate: number;
  /** Optimizer steps in which the rate rises from 0; the first step's rate is then 0. Default 0. */
  readonly numWarmupSteps?: number;
  /** Optimizer steps until the end; needed by all but the constant schedules. */
  readonly numTrainingSteps?: number;
  /** Restarts of "cosine_with_restarts". Default 1. */
  readonly numCycles?: number;
  /** Exponent of "polynomial". Default 1. */
  readonly power?: number;
}

/** Where "polynomial" ends. */
export const POLYNOMIAL_END = 1e-7;

/**
 * The learning rate as a function of the optimizer step, counted from 0.
 *
 * @throws InputError naming an option that is unknown, missing or out of range.
 */
export function getScheduler(name: LrSchedulerName, options: LrSchedulerOptions): (step: number) => number {
  const { learningRate, numWarmupSteps: warmup = 0, numCycles = 1, power = 1 } = options;
  if (!LR_SCHEDULERS.includes(name)) {
    throw new InputError(`lrScheduler: expected one of ${LR_SCHEDULERS.join(", ")}, found ${name}`);
  }
  if (!(learningRate >= 0 && Number.isFinite(learningRate))) {
    throw new InputError(`learningRate: expected a number of at least 0, found ${learningRate}`);
  }
  if (!(Number.isInteger(warmup) && warmup >= 0)) {
    throw new InputError(`numWarmupSteps: expected a whole number of at least 0, found ${warmup}`);
  }
  if (name === "constant") return () => learningRate;
  const rising = (step: number) => (learningRate * step) / Math.max(1, warmup);
  if (name === "constant_with_warmup") return (step) => (step < warmup ? rising(step) : learningRate);

  const total = options.numTrainingSteps;
  if (total === undefined || !Number.isInteger(total) || total < 1) {
    throw new InputError(`lrScheduler ${name}: expected the number of training steps, found ${total}`);
  }
  if (name === "polynomial" && learningRate <= POLYNOMIAL_END) {
    throw new InputError(
      `learningRate: polynomial ends at ${POLYNOMIAL_END}, found a start of ${learningRate}`,
    );
  }
  const progress = (step: number) => (step - warmup) / Math.max(1, total - warmup);
  const falling = (step: number): number => {
    switch (name) {
      case "linear":
        return learningRate * Math.max(0, (total - step) / Math.max(1, total - warmup));
      case "cosine":
        return learningRate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress(step))));
      case "cosine_with_restarts":
        if (progress(step) >= 1) return 0;
        return learningRate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((numCycles * progress(step)) % 1))));
      case "polynomial":
        if (step > total) return POLYNOMIAL_END;
        return (learningRate - POLYNOMIAL_END) * (1 - progress(step)) ** power + POLYNOMIAL_END;
    }
  };
  return (step) => (step < warmup ? rising(step) : falling(step));
}
