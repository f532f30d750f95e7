import { InputError } from "../engine/errors.js";
import { linspace, roundHalfEven } from "../engine/rounding.js";
import {
  boolean,
  type ConfigOf,
  integer,
  list,
  nullable,
  number,
  oneOf,
  positiveInteger,
} from "../weights/config.js";

/** Keys of diffusers' scheduler_config.json, with its defaults. */
export const SCHEDULER_FIELDS = {
  num_train_timesteps: positiveInteger(1000),
  beta_start: number(0.00085),
  beta_end: number(0.012),
  beta_schedule: oneOf("scaled_linear", ["linear", "scaled_linear", "squaredcos_cap_v2"]),
  /** Betas given directly; the three keys above are then ignored. */
  trained_betas: nullable(list([], number(0))),
  /** Kept in the file but without effect: these schedulers never clip, nor do they in diffusers. */
  clip_sample: boolean(true),
  /** Whether the step below timestep 0 has a cumulative alpha of 1, or that of timestep 0. */
  set_alpha_to_one: boolean(true),
  /** Added to the timesteps when timestep_spacing is "leading". */
  steps_offset: integer(0),
  prediction_type: oneOf("epsilon", ["epsilon", "sample", "v_prediction"]),
  /** Without effect, as clip_sample. */
  clip_sample_range: number(1),
  /** Without effect, as clip_sample. */
  sample_max_value: number(1),
  timestep_spacing: oneOf("leading", ["linspace", "leading", "trailing"]),
  rescale_betas_zero_snr: boolean(false),
  snr_shift_scale: number(3),
};

/** Configuration of CogVideoX's schedulers. */
export type CogVideoXSchedulerConfig = ConfigOf<typeof SCHEDULER_FIELDS>;

/** The tables of a schedule, one entry per training timestep. */
export interface NoiseSchedule {
  /** Before the SNR shift and the zero-SNR rescale: diffusers never recomputes them. */
  betas: Float64Array;
  /** After the SNR shift, then after the zero-SNR rescale. */
  alphasCumprod: Float64Array;
  /** The type diffusers holds the tables in: float64 for "scaled_linear" only. float32 tables are rounded as there. */
  dtype: "float32" | "float64";
}

/**
 * Betas and cumulative alphas of a configuration. SNR shift: Esser et al. 2024 (arXiv 2403.03206); zero terminal
 * SNR: Lin et al. 2023 (arXiv 2305.08891), algorithm 1.
 */
export function noiseSchedule(config: CogVideoXSchedulerConfig): NoiseSchedule {
  const float64 = config.trained_betas === null && config.beta_schedule === "scaled_linear";
  const round = float64 ? (value: number) => value : Math.fround;
  const betas = makeBetas(config).map(round);

  let product = 1;
  const alphasCumprod = betas.map((beta) => {
    product *= round(1 - beta);
    return round(product);
  });
  const scale = config.snr_shift_scale;
  for (const [i, a] of alphasCumprod.entries()) {
    alphasCumprod[i] = round(a / round(scale + round((1 - scale) * a)));
  }
  if (config.rescale_betas_zero_snr) rescaleZeroTerminalSnr(alphasCumprod, round);
  return { betas, alphasCumprod, dtype: float64 ? "float64" : "float32" };
}

function makeBetas(config: CogVideoXSchedulerConfig): Float64Array {
  const { num_train_timesteps: count, beta_start: start, beta_end: end } = config;
  if (config.trained_betas !== null) return Float64Array.from(config.trained_betas);
  switch (config.beta_schedule) {
    case "linear":
      return linspace(start, end, count);
    case "scaled_linear":
      return linspace(start ** 0.5, end ** 0.5, count).map((root) => root ** 2);
    case "squaredcos_cap_v2":
      return cosineBetas(count);
    default:
      throw new InputError(
        `beta_schedule: expected linear, scaled_linear or squaredcos_cap_v2, found ${config.beta_schedule}`,
      );
  }
}

/** The cosine schedule of Nichol and Dhariwal 2021 (arXiv 2102.09672), with betas capped at 0.999. */
function cosineBetas(count: number): Float64Array {
  const alphaBar = (t: number) => Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  return Float64Array.from({ length: count }, (_, i) =>
    Math.min(1 - alphaBar((i + 1) / count) / alphaBar(i / count), 0.999),
  );
}

/** Shifts and scales the square roots in place, so that the last is 0 and the first stays what it was. */
function rescaleZeroTerminalSnr(alphasCumprod: Float64Array, round: (value: number) => number): void {
  const roots = alphasCumprod.map((a) => round(Math.sqrt(a)));
  const first = roots[0]!;
  const last = roots[roots.length - 1]!;
  const scale = round(first / round(first - last));
  for (const [i, root] of roots.entries()) alphasCumprod[i] = round(round(round(root - last) * scale) ** 2);
}

/**
 * The timesteps of a sampling run, largest first, as diffusers' `set_timesteps` gives them.
 *
 * "trailing" follows `numpy.arange(T, 0, -T/n)`, whose float rounding gives some counts (61, 103, 121 ... of 1000)
 * one entry more than asked for: timestep -1, at the end.
 *
 * @throws InputError if n is not an integer from 1 to num_train_timesteps.
 */
export function inferenceTimesteps(config: CogVideoXSchedulerConfig, numInferenceSteps: number): Int32Array {
  const total = config.num_train_timesteps;
  if (!Number.isInteger(numInferenceSteps) || numInferenceSteps < 1 || numInferenceSteps > total) {
    throw new InputError(
      `numInferenceSteps: expected an integer from 1 to ${total} (num_train_timesteps), found ${numInferenceSteps}`,
    );
  }
  switch (config.timestep_spacing) {
    case "linspace": {
      const step = numInferenceSteps > 1 ? (total - 1) / (numInferenceSteps - 1) : 0;
      const last = numInferenceSteps - 1;
      const grid = (i: number) => (i === last && i > 0 ? total - 1 : i * step);
      return Int32Array.from({ length: numInferenceSteps }, (_, i) => roundHalfEven(grid(last - i)));
    }
    case "leading": {
      const ratio = Math.floor(total / numInferenceSteps);
      const last = numInferenceSteps - 1;
      return Int32Array.from(
        { length: numInferenceSteps },
        (_, i) => (last - i) * ratio + config.steps_offset,
      );
    }
    case "trailing": {
      const ratio = total / numInferenceSteps;
      const delta = total - ratio - total;
      const length = Math.ceil(-total / -ratio);
      return Int32Array.from({ length }, (_, i) => roundHalfEven(total + i * delta) - 1);
    }
    default:
      throw new InputError(
        `timestep_spacing: expected linspace, leading or trailing, found ${config.timestep_spacing}`,
      );
  }
}
