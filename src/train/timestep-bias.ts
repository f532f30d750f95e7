import { ArgumentError, type CompleteOptions, type Spelling } from "./arguments.js";

type TimestepBias = Pick<
  CompleteOptions,
  | "timestepBiasStrategy"
  | "timestepBiasMultiplier"
  | "timestepBiasPortion"
  | "timestepBiasBegin"
  | "timestepBiasEnd"
>;

/**
 * How likely each timestep is to be drawn, by diffusers' options of the same names (`train_text_to_image_sdxl.py`): those that the
 * strategy selects are `timestepBiasMultiplier` times as likely as the others. Portions are rounded down to whole timesteps.
 *
 * @returns probabilities, or undefined without a strategy, when all timesteps are equally likely.
 * @throws ArgumentError for a range that is not within the schedule's timesteps.
 */
export function timestepWeights(
  bias: TimestepBias,
  numTrainTimesteps: number,
  spelling: Spelling,
): Float64Array | undefined {
  const { timestepBiasStrategy: strategy, timestepBiasMultiplier: multiplier } = bias;
  if (strategy === "none") return undefined;
  const [begin, end] = range(bias, numTrainTimesteps, spelling);
  const weights = new Float64Array(numTrainTimesteps).fill(1);
  weights.fill(multiplier, begin, end);
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

function range(bias: TimestepBias, length: number, spelling: Spelling): [number, number] {
  const count = Math.floor(bias.timestepBiasPortion * length);
  if (bias.timestepBiasStrategy === "earlier") return [0, count];
  if (bias.timestepBiasStrategy === "later") return [length - count, length];
  const { timestepBiasBegin: begin, timestepBiasEnd: end } = bias;
  if (end > length) {
    throw new ArgumentError(
      `${spelling.name("timestep_bias_end")}: expected at most ${length} (num_train_timesteps), found ${end}`,
    );
  }
  if (begin >= end) {
    throw new ArgumentError(
      `${spelling.name("timestep_bias_begin")}: expected less than ${spelling.name("timestep_bias_end")} (${end}), found ${begin}`,
    );
  }
  return [begin, end];
}
