/**
 * The recipe's rules that a training may change, each with the others that it can be compared with: what noise the image gets,
 * where its latent lies, and what fills the latent frames up. A model has to be sampled by the rules that it was trained with.
 */

/** Mean and standard deviation of log(sigma), the CogVideoX image-to-video trainer's. */
export const IMAGE_NOISE_LOG_MEAN = -3.0;
export const IMAGE_NOISE_LOG_STD = 0.5;

/**
 * How a training draws the noise level: one from a log-normal distribution for the whole batch, as the recipe, or one for each
 * sample that depends on its timestep (TimeNoise, arXiv 2406.15735): the noisier the video, the noisier the image, so that a
 * model can't answer every question about the video from its image.
 */
export const IMAGE_NOISE_DISTRIBUTIONS = ["log_normal", "time_dependent"] as const;

export interface ImageNoiseDistribution {
  /** Default "log_normal". */
  readonly distribution?: (typeof IMAGE_NOISE_DISTRIBUTIONS)[number];
  /** Of log(sigma), for "log_normal". Default -3. */
  readonly logMean?: number;
  /** Of log(sigma), for "log_normal". Default 0.5. */
  readonly logStd?: number;
  /** The level that no draw reaches, for "time_dependent". Default 1, half of the pixels' range. */
  readonly max?: number;
}

/**
 * At which latent frames the image latent lies; zeros lie at the others. Places count what was added to fill the patches, too.
 * The recipe's is "first", place 0. "none" leaves text alone to say what is to be seen.
 */
export const IMAGE_PLACES = ["first", "second", "first_two", "last", "all", "none"] as const;
export type ImagePlace = (typeof IMAGE_PLACES)[number];

/** The latent frames that hold the image, of so many. */
export function imageFrames(place: ImagePlace, frames: number): number[] {
  const all = Array.from({ length: frames }, (_, i) => i);
  switch (place) {
    case "first":
      return all.slice(0, 1);
    case "second":
      return all.slice(1, 2);
    case "first_two":
      return all.slice(0, 2);
    case "last":
      return all.slice(-1);
    case "all":
      return all;
    case "none":
      return [];
  }
}

/**
 * What fills the latent frames up to whole patches: copies of the first frame in front, as the recipe; zeros in front; or copies of
 * the last frame at the end. What was added is dropped after sampling, where it was added.
 */
export const PADDINGS = ["copy_first", "zeros", "copy_last"] as const;
export type Padding = (typeof PADDINGS)[number];
