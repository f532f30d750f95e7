import { InputError } from "../engine/errors.js";
import type { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";

/** The draws of {@link addImageNoise}: given, or taken from a generator. */
export type ImageNoiseDraws<T extends tf.Tensor = tf.Tensor> =
  | {
      /** A standard normal draw z; sigma = exp(-3 + 0.5 z). */
      sigmaNormal: number;
      /** Standard normal noise of the image's shape. */
      noise: T;
    }
  | { generator: RandomGenerator };

/** Mean and standard deviation of log(sigma), the CogVideoX image-to-video trainer's. */
export const IMAGE_NOISE_LOG_MEAN = -3.0;
export const IMAGE_NOISE_LOG_STD = 0.5;

/** The noise level that belongs to a standard normal draw: exp(-3 + 0.5 z), a median of about 0.05. */
export function imageNoiseSigma(sigmaNormal: number): number {
  return Math.exp(IMAGE_NOISE_LOG_MEAN + IMAGE_NOISE_LOG_STD * sigmaNormal);
}

/**
 * Training's view of the conditioning image: `image + sigma * noise`, sigma drawn once for the whole batch from
 * exp(normal(-3, 0.5)). It is added to the pixels before the VAE encodes them, so that the model learns not to rely on
 * every detail of the image. At inference the image is encoded as it is.
 *
 * @param image pixels in [-1, 1], any shape whose first axis is the batch.
 * @throws InputError if given noise has another shape than the image.
 */
export function addImageNoise<T extends tf.Tensor>(
  image: T,
  draws: ImageNoiseDraws<T>,
): { image: T; sigma: number } {
  if ("noise" in draws) {
    if (!tf.util.arraysEqual(draws.noise.shape, image.shape)) {
      throw new InputError(
        `noise: expected the image's shape [${image.shape}], found [${draws.noise.shape}]`,
      );
    }
    const sigma = imageNoiseSigma(draws.sigmaNormal);
    return { image: tf.tidy(() => tf.add(image, tf.mul(draws.noise, sigma)) as T), sigma };
  }
  const sigma = imageNoiseSigma(draws.generator.normal());
  return {
    image: tf.tidy(() => tf.add(image, tf.mul(draws.generator.randn(image.shape), sigma)) as T),
    sigma,
  };
}
