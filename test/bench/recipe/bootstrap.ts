/** How sure a difference is: the paired bootstrap. */
import { RandomGenerator } from "../../../src/engine/random.js";

export interface Interval {
  readonly mean: number;
  /** Ends of the interval in which 95 % of the resampled means lie. */
  readonly low: number;
  readonly high: number;
}

/** A seed's values, one a clip; null where there is nothing to measure. */
export type Values = readonly (number | null)[];

/**
 * The mean of arm minus base over seeds and clips, with its 95 % percentile interval (Efron and Tibshirani 1993): seeds and clips
 * are drawn again with replacement, each of the two apart, and a pair of the same seed and clip stays together. With few seeds an
 * interval is too narrow rather than too wide, for three values say little about all seeds.
 *
 * @param arm a list for each seed, of the same seeds and clips as base.
 * @returns undefined if nothing can be compared.
 */
export function pairedBootstrap(
  arm: readonly Values[],
  base: readonly Values[],
  { resamples = 2000, seed = 0 }: { readonly resamples?: number; readonly seed?: number } = {},
): Interval | undefined {
  const seeds = arm.length;
  const clips = arm[0]?.length ?? 0;
  const differences = arm.map((values, s) =>
    values.map((value, c) => {
      const other = base[s]![c];
      return value === null || other === null || other === undefined ? null : value - other;
    }),
  );
  const all = differences.flat().filter((value) => value !== null);
  if (all.length === 0) return undefined;
  const random = new RandomGenerator(seed);
  const means: number[] = [];
  for (let i = 0; i < resamples; i++) {
    const times = new Uint16Array(clips);
    for (let c = 0; c < clips; c++) times[random.integer(0, clips)]!++;
    let [sum, count] = [0, 0];
    for (let s = 0; s < seeds; s++) {
      const drawn = differences[random.integer(0, seeds)]!;
      for (let c = 0; c < clips; c++) {
        const value = drawn[c];
        if (value === null || value === undefined) continue;
        sum += times[c]! * value;
        count += times[c]!;
      }
    }
    if (count > 0) means.push(sum / count);
  }
  means.sort((a, b) => a - b);
  const at = (share: number) => means[Math.min(means.length - 1, Math.floor(share * means.length))]!;
  return { mean: all.reduce((sum, value) => sum + value, 0) / all.length, low: at(0.025), high: at(0.975) };
}

/** What an interval says. */
export function verdict({ low, high }: Interval): "higher" | "lower" | "no difference shown" {
  if (low > 0) return "higher";
  if (high < 0) return "lower";
  return "no difference shown";
}
