import { InputError } from "../../engine/errors.js";
import type { RandomGenerator } from "../../engine/random.js";
import { showAs } from "../../engine/shown.js";
import * as tf from "../../engine/tf.js";

/**
 * The encoder's output: a normal distribution for each latent number, like diffusers' class of this name.
 * It holds its tensors until {@link dispose}; a `tf.tidy` around it disposes or returns them like others.
 */
export class DiagonalGaussianDistribution {
  /** The encoder's output, means and log variances along the channels: [B, 2C, F, H, W]. */
  readonly parameters: tf.Tensor5D;
  /** [B, C, F, H, W] */
  readonly mean: tf.Tensor5D;
  /** Clamped to [-30, 20]: [B, C, F, H, W]. */
  readonly logvar: tf.Tensor5D;
  readonly std: tf.Tensor5D;
  readonly var: tf.Tensor5D;
  readonly deterministic: boolean;

  /**
   * @param parameters [B, 2C, F, H, W]; belongs to the distribution from now on.
   * @throws InputError when the number of channels is odd.
   */
  constructor(
    parameters: tf.Tensor5D,
    {
      deterministic = false,
    }: {
      /** std and var are 0, so every sample is the mean. */
      deterministic?: boolean;
    } = {},
  ) {
    const [, channels] = parameters.shape;
    if (parameters.rank !== 5 || channels % 2 !== 0)
      throw new InputError(`parameters: expected [B, 2C, F, H, W], found [${parameters.shape}]`);
    this.parameters = parameters;
    this.deterministic = deterministic;
    const [mean, logvar, std, variance] = tf.tidy(() => {
      const [mean, raw] = tf.split(parameters, 2, 1) as [tf.Tensor5D, tf.Tensor5D];
      const logvar = tf.clipByValue(raw, -30, 20);
      if (deterministic) return [mean, logvar, tf.zerosLike(mean), tf.zerosLike(mean)];
      return [mean, logvar, tf.exp(tf.mul(logvar, 0.5)), tf.exp(logvar)];
    }) as [tf.Tensor5D, tf.Tensor5D, tf.Tensor5D, tf.Tensor5D];
    this.mean = mean;
    this.logvar = logvar;
    this.std = std;
    this.var = variance;
  }

  /**
   * mean + std * noise. The caller disposes it.
   * @param draw the standard normal noise, [B, C, F, H, W], or the generator it comes from.
   */
  sample(draw: { readonly noise: tf.Tensor5D } | { readonly generator: RandomGenerator }): tf.Tensor5D {
    return tf.tidy(() => {
      const noise = "noise" in draw ? draw.noise : draw.generator.randn<tf.Rank.R5>(this.mean.shape);
      if (!tf.util.arraysEqual(noise.shape, this.mean.shape))
        throw new InputError(`noise: expected [${this.mean.shape}], found [${noise.shape}]`);
      return tf.add(this.mean, tf.mul(this.std, noise));
    });
  }

  /** The most likely latent, which is the mean. The caller disposes it. */
  mode(): tf.Tensor5D {
    return this.mean.clone();
  }

  /**
   * The Kullback-Leibler divergence from `other`, by default the standard normal distribution, summed over axes 1 to 3 as
   * diffusers does (Kingma and Welling 2013, appendix B): [B, W]. For a deterministic distribution: 0.
   */
  kl(other?: DiagonalGaussianDistribution): tf.Tensor {
    if (this.deterministic) return tf.tensor1d([0]);
    return tf.tidy(() => {
      const terms = other
        ? tf.add(
            tf.div(tf.add(tf.squaredDifference(this.mean, other.mean), this.var), other.var),
            tf.sub(tf.sub(other.logvar, this.logvar), 1),
          )
        : tf.sub(tf.sub(tf.add(tf.square(this.mean), this.var), 1), this.logvar);
      return tf.mul(tf.sum(terms, [1, 2, 3]), 0.5);
    });
  }

  /** The negative log-likelihood of a sample, summed over `dims`. For a deterministic distribution: 0. */
  nll(sample: tf.Tensor5D, dims: readonly number[] = [1, 2, 3]): tf.Tensor {
    if (this.deterministic) return tf.tensor1d([0]);
    return tf.tidy(() => {
      const squared = tf.div(tf.squaredDifference(sample, this.mean), this.var);
      return tf.mul(tf.sum(tf.add(tf.add(this.logvar, Math.log(2 * Math.PI)), squared), [...dims]), 0.5);
    });
  }

  static {
    // torch.distributions prints normal distributions like this; the values are those of mean and std.
    showAs<DiagonalGaussianDistribution>(DiagonalGaussianDistribution, {
      line: ({ mean }) => `DiagonalGaussianDistribution [${mean.shape.join(", ")}]`,
      text: ({ mean, std, deterministic }) => {
        const sizes = `mean: [${mean.shape.join(", ")}], std: [${std.shape.join(", ")}]`;
        const notes = `${deterministic ? ", deterministic" : ""}${mean.isDisposed ? ", disposed" : ""}`;
        return `DiagonalGaussianDistribution(${sizes}${notes})`;
      },
    });
  }

  dispose(): void {
    for (const tensor of [this.parameters, this.mean, this.logvar, this.std, this.var]) tensor.dispose();
  }
}
