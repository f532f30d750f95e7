import { InputError } from "../engine/errors.js";
import type { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import { IMAGE_NOISE_LOG_MEAN, IMAGE_NOISE_LOG_STD, type ImageNoiseDistribution } from "./rules.js";

/** The draws of {@link addImageNoise}: given, or taken from a generator. */
export type ImageNoiseDraws<T extends tf.Tensor = tf.Tensor> =
  | {
      /** A standard normal draw z; sigma = exp(-3 + 0.5 z). */
      sigmaNormal: number;
      /** Standard normal noise of the image's shape. */
      noise: T;
    }
  | {
      /** One for each image of the batch: {@link imageNoiseSigmas}. */
      sigmas: readonly number[];
      /** Standard normal noise of the image's shape. */
      noise: T;
    }
  | { generator: RandomGenerator };

/** How steeply TimeNoise's levels rise towards the last timesteps: the exponent of its authors' code. */
const TIME_EXPONENT = 5;

/** The noise level that belongs to a standard normal draw: exp(-3 + 0.5 z), a median of about 0.05. */
export function imageNoiseSigma(
  sigmaNormal: number,
  { logMean = IMAGE_NOISE_LOG_MEAN, logStd = IMAGE_NOISE_LOG_STD }: ImageNoiseDistribution = {},
): number {
  return Math.exp(logMean + logStd * sigmaNormal);
}

/**
 * The noise level of each image of a batch, from a single standard normal draw z. "log_normal": the same for all, whatever the
 * timestep. "time_dependent": max / (1 + exp(-(mu + z))) with mu = 2 t^5 - 1, where t goes from 0 to 1 with the timestep; the median
 * rises from 0.27 to 0.73 of `max`, most of it in the last fifth.
 *
 * @param timesteps one a sample.
 * @param numTrainTimesteps of the schedule.
 */
export function imageNoiseSigmas(
  sigmaNormal: number,
  timesteps: readonly number[],
  numTrainTimesteps: number,
  options: ImageNoiseDistribution = {},
): number[] {
  if (options.distribution !== "time_dependent") {
    const sigma = imageNoiseSigma(sigmaNormal, options);
    return timesteps.map(() => sigma);
  }
  const { max = 1 } = options;
  const last = Math.max(1, numTrainTimesteps - 1);
  return timesteps.map((timestep) => {
    const centre = 2 * (timestep / last) ** TIME_EXPONENT - 1;
    return max / (1 + Math.exp(-(centre + sigmaNormal)));
  });
}

/**
 * Training's view of the conditioning image: `image + sigma * noise`, sigma drawn once for the whole batch from
 * exp(normal(-3, 0.5)), unless levels are given for each image. It is added to the pixels before the VAE encodes them, so that
 * the model learns not to rely on every detail of the image. At inference the image is encoded as it is.
 *
 * @param image pixels in [-1, 1], any shape whose first axis is the batch.
 * @returns sigma: of given levels their mean.
 * @throws InputError if given noise has another shape than the image, or there are not as many levels as images.
 */
export function addImageNoise<T extends tf.Tensor>(
  image: T,
  draws: ImageNoiseDraws<T>,
): { image: T; sigma: number } {
  if ("generator" in draws) {
    const sigma = imageNoiseSigma(draws.generator.normal());
    return {
      image: tf.tidy(() => tf.add(image, tf.mul(draws.generator.randn(image.shape), sigma)) as T),
      sigma,
    };
  }
  if (!tf.util.arraysEqual(draws.noise.shape, image.shape)) {
    throw new InputError(`noise: expected the image's shape [${image.shape}], found [${draws.noise.shape}]`);
  }
  if ("sigmaNormal" in draws) {
    const sigma = imageNoiseSigma(draws.sigmaNormal);
    return { image: tf.tidy(() => tf.add(image, tf.mul(draws.noise, sigma)) as T), sigma };
  }
  const { sigmas, noise } = draws;
  const [count, ...rest] = image.shape as number[];
  if (sigmas.length !== count) {
    throw new InputError(`sigmas: expected ${count} (one an image), found ${sigmas.length}`);
  }
  const levels = [count, ...rest.map(() => 1)];
  return {
    image: tf.tidy(() => tf.add(image, tf.mul(noise, tf.tensor([...sigmas], levels))) as T),
    sigma: sigmas.reduce((sum, sigma) => sum + sigma, 0) / count,
  };
}
