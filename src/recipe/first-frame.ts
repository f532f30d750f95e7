import { InputError } from "../engine/errors.js";
import * as tf from "../engine/tf.js";
import { firstFrameCopies } from "./geometry.js";
import type { Padding } from "./rules.js";

/** Where the frames are: axis 2 in the VAE's order [B, C, F, H, W], axis 1 in the transformer's [B, F, C, H, W]. */
export type FrameAxis = 1 | 2;

export interface DuplicateFirstFrameOptions {
  /** How many frames one patch of the transformer spans; null (CogVideoX 1.0) means frames are not patched. */
  patchSizeT: number | null;
  /** Default 2, the VAE's order. */
  frameAxis?: FrameAxis;
}

export interface DuplicatedFrames {
  /** The latents with the copies in front. */
  latents: tf.Tensor5D;
  /** How many copies were put in front, for {@link dropDuplicatedFrames} to remove. */
  copies: number;
}

export interface PadFramesOptions extends DuplicateFirstFrameOptions {
  /** Default "copy_first". */
  padding?: Padding;
}

/**
 * First-frame duplication: puts copies of the first latent frame in front until the transformer's temporal patches
 * come out even. The causal VAE turns 81 frames into 21 latent frames; with patchSizeT = 2 one copy makes them 22,
 * and latent 0 equals latent 1. The copy takes part in everything that follows (noise, attention, loss) and is
 * dropped after sampling with {@link dropDuplicatedFrames}.
 *
 * @param latents [B, C, F, H, W], or [B, F, C, H, W] with `frameAxis: 1`.
 */
export function duplicateFirstFrame(
  latents: tf.Tensor5D,
  options: DuplicateFirstFrameOptions,
): DuplicatedFrames {
  return padFrames(latents, { ...options, padding: "copy_first" });
}

/** Fills latent frames up to whole temporal patches by a rule; {@link duplicateFirstFrame} is the recipe's. */
export function padFrames(
  latents: tf.Tensor5D,
  { patchSizeT, frameAxis = 2, padding = "copy_first" }: PadFramesOptions,
): DuplicatedFrames {
  const frames = latents.shape[frameAxis];
  const copies = firstFrameCopies(frames, patchSizeT);
  return tf.tidy(() => {
    if (copies === 0) return { latents: latents.clone(), copies };
    const begin = [0, 0, 0, 0, 0] as [number, number, number, number, number];
    begin[frameAxis] = padding === "copy_last" ? frames - 1 : 0;
    const size = [...latents.shape] as [number, number, number, number, number];
    size[frameAxis] = 1;
    const frame = tf.slice(latents, begin, size);
    const added = Array<tf.Tensor5D>(copies).fill(padding === "zeros" ? tf.zerosLike(frame) : frame);
    const all = padding === "copy_last" ? [latents, ...added] : [...added, latents];
    return { latents: tf.concat(all, frameAxis), copies };
  });
}

/**
 * The inverse of {@link padFrames}, and so of {@link duplicateFirstFrame}: drops `copies` frames from the front, or from the end
 * if that is where they were added.
 *
 * @throws InputError if that would leave no frame.
 */
export function dropDuplicatedFrames(
  latents: tf.Tensor5D,
  {
    copies,
    frameAxis = 2,
    padding = "copy_first",
  }: { copies: number; frameAxis?: FrameAxis; padding?: Padding },
): tf.Tensor5D {
  const frames = latents.shape[frameAxis];
  if (!Number.isInteger(copies) || copies < 0 || copies >= frames) {
    throw new InputError(
      `copies: expected an integer from 0 to ${frames - 1} for ${frames} frames, found ${copies}`,
    );
  }
  const begin = [0, 0, 0, 0, 0] as [number, number, number, number, number];
  begin[frameAxis] = padding === "copy_last" ? 0 : copies;
  const size = [...latents.shape] as [number, number, number, number, number];
  size[frameAxis] = frames - copies;
  return tf.slice(latents, begin, size);
}
