/**
 * How the image gets into the model: encoded (noisy in training, clean in inference), put at latent frame 0 with zeros at
 * all others, and concatenated to the noisy latents along the channels. Training and sampling both come here.
 */
import type { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import { addImageNoise, type ImageNoiseDraws } from "./image-noise.js";
import { type ImagePlace, imageFrames } from "./rules.js";

/** The value that CogVideoX-1.5's image-to-video model gets beside the time, always the same in its authors' code. */
const OFS = 2;

/** The `ofs` input of a transformer: 2 for CogVideoX-1.5, null for models that take none. */
export function ofsFor(config: { readonly ofs_embed_dim: number | null }): number | null {
  return config.ofs_embed_dim === null ? null : OFS;
}

/** Where the posterior's draw comes from, or its mean instead of a draw. */
export type PosteriorDraw =
  | { readonly noise: tf.Tensor5D }
  | { readonly generator: RandomGenerator }
  | "mode";

/** What encodes images: the part of AutoencoderKLCogVideoX that is needed here. */
export interface ImageEncoder {
  readonly config: { readonly scaling_factor: number; readonly invert_scale_latents: boolean };
  encode(image: tf.Tensor5D): {
    readonly latentDist: {
      readonly parameters: tf.Tensor5D;
      mode(): tf.Tensor5D;
      sample(draw: Exclude<PosteriorDraw, "mode">): tf.Tensor5D;
    };
  };
}

/**
 * What image latents are multiplied by. Training takes `scaling_factor`. Pipelines divide by it where
 * `invert_scale_latents` is set, as it is for 1.5 (diffusers, pipeline_cogvideox_image2video.py).
 */
export function imageLatentScale(
  { scaling_factor: factor, invert_scale_latents: inverted }: ImageEncoder["config"],
  use: "training" | "inference",
): number {
  return use === "inference" && inverted ? 1 / factor : factor;
}

/** An image on its way to the model. */
export interface EncodedImage {
  /** What was encoded: [B, 3, 1, H, W]. */
  readonly image: tf.Tensor5D;
  /** The noise's standard deviation; 0 for the clean image. */
  readonly sigma: number;
  /** The posterior's means and log variances: [B, 2 C, 1, h, w]. */
  readonly moments: tf.Tensor5D;
  /** [B, C, 1, h, w], scaled. */
  readonly latent: tf.Tensor5D;
}

/**
 * Encodes conditioning images, with or without noise on them, and scales the posterior's draw. The caller disposes the
 * three tensors.
 *
 * @param image pixels in [-1, 1]: [B, 3, H, W].
 * @throws InputError if given noise has another shape than the image or its latent.
 */
export function encodeConditioningImage(
  vae: ImageEncoder,
  image: tf.Tensor4D,
  {
    imageNoise,
    posterior,
    scale,
  }: {
    readonly imageNoise: ImageNoiseDraws<tf.Tensor5D> | null;
    readonly posterior: PosteriorDraw;
    readonly scale: number;
  },
): EncodedImage {
  let sigma = 0;
  const tensors = tf.tidy(() => {
    let frame = tf.expandDims(image, 2) as tf.Tensor5D;
    if (imageNoise) {
      const noisy = addImageNoise(frame, imageNoise);
      frame = noisy.image;
      sigma = noisy.sigma;
    }
    const { latentDist } = vae.encode(frame);
    const draw = posterior === "mode" ? latentDist.mode() : latentDist.sample(posterior);
    return {
      image: frame,
      moments: latentDist.parameters,
      latent: tf.mul(draw, scale) as tf.Tensor5D,
    };
  });
  return { ...tensors, sigma };
}

/**
 * The conditioning image's latent, as used to train the transformer.
 *
 * Training takes noisy images, `imageNoise: { generator }`; inference clean ones, `imageNoise: null`. Either way the
 * posterior is sampled, unless its mode is asked for.
 *
 * @param image pixels in [-1, 1]: [B, 3, H, W].
 * @returns latent: [B, C, 1, H / 8, W / 8], times the VAE's scaling_factor; the caller disposes it. sigma: the noise
 *   level, 0 for the clean image.
 */
export function encodeImage(
  vae: ImageEncoder,
  image: tf.Tensor4D,
  options: {
    readonly imageNoise: ImageNoiseDraws<tf.Tensor5D> | null;
    readonly posterior: PosteriorDraw;
  },
): { latent: tf.Tensor5D; sigma: number } {
  const scale = imageLatentScale(vae.config, "training");
  const { image: seen, moments, latent, sigma } = encodeConditioningImage(vae, image, { ...options, scale });
  tf.dispose([seen, moments]);
  return { latent, sigma };
}

/**
 * The image latent at frame 0, zeros at the others, in the transformer's order; or at other frames.
 *
 * @param latent [B, C, 1, h, w]
 * @param frames latent frames of the clip, its copies included.
 * @returns [B, frames, C, h, w]; the caller disposes it.
 */
export function placeImageLatent(
  latent: tf.Tensor5D,
  frames: number,
  place: ImagePlace = "first",
): tf.Tensor5D {
  return tf.tidy(() => {
    const image = tf.transpose(latent, [0, 2, 1, 3, 4]) as tf.Tensor5D;
    const nothing = tf.zerosLike(image);
    const holds = new Set(imageFrames(place, frames));
    return tf.concat(
      Array.from({ length: frames }, (_, i) => (holds.has(i) ? image : nothing)),
      1,
    );
  });
}

/**
 * What the transformer sees: the noisy latents, followed by the image latents along the channel axis.
 *
 * @param latents [B, F, C, h, w]
 * @param imageLatents [B, F, C, h, w] of {@link placeImageLatent}; null for text to video.
 * @returns [B, F, 2 C, h, w]; the caller disposes it.
 */
export function concatImageLatents(latents: tf.Tensor5D, imageLatents: tf.Tensor5D | null): tf.Tensor5D {
  return imageLatents ? (tf.concat([latents, imageLatents], 2) as tf.Tensor5D) : latents.clone();
}
