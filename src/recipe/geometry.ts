import { InputError } from "../engine/errors.js";

/** A clip's sizes along the way: pixels, latents, patches, tokens. Every count of frames in the package comes from here. */

/** How models shrink a clip, as their configurations say. */
export interface CompressionRatios {
  /** Pixels per latent in height and width: the VAE's. */
  readonly spatialRatio: number;
  /** Frames per latent frame: the VAE's `temporal_compression_ratio`. */
  readonly temporalRatio: number;
}

/** How the transformer cuts latents into patches. */
export interface PatchSizes {
  readonly patch_size: number;
  /** Latent frames in a patch; null (CogVideoX 1.0) means that time is not patched. */
  readonly patch_size_t: number | null;
}

/** A clip's size in pixels. */
export interface ClipSize {
  readonly numFrames: number;
  readonly height: number;
  readonly width: number;
}

/** A clip's size in latents. */
export interface LatentSize {
  /** The first frame's copies included. */
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

/** Whether `numFrames` is 8 N + 1, as the VAE's frame groups and the recipe require. */
export const fitsFrameRule = (numFrames: number): boolean =>
  Number.isInteger(numFrames) && numFrames >= 1 && (numFrames - 1) % 8 === 0;

/** Throws an InputError that begins with `name`, unless `numFrames` is 8 N + 1. */
export function assertFrameRule(numFrames: number, name = "frames"): void {
  if (fitsFrameRule(numFrames)) return;
  const below = Math.max(1, Math.floor((numFrames - 1) / 8) * 8 + 1);
  throw new InputError(`${name}: expected 8 N + 1 (such as ${below} or ${below + 8}), found ${numFrames}`);
}

/**
 * Latent frames that a causal VAE makes of a clip: one of the first frame alone, then one of every `temporalRatio` frames.
 * 81 frames become (81 - 1) / 4 + 1 = 21.
 */
export function latentFrames(numFrames: number, temporalRatio: number): number {
  return Math.floor((numFrames - 1) / temporalRatio) + 1;
}

/**
 * How many copies of the first frame make `frames` divisible by `patchSizeT`: the smallest n >= 0 with
 * (frames + n) mod patchSizeT = 0. (`frames % patchSizeT`, which the CogVideoX trainer computes, agrees for
 * patchSizeT 1 and 2 only.)
 *
 * @throws InputError if `frames` is not a positive integer or `patchSizeT` neither that nor null.
 */
export function firstFrameCopies(frames: number, patchSizeT: number | null): number {
  if (!Number.isInteger(frames) || frames < 1) {
    throw new InputError(`frames: expected a positive integer, found ${frames}`);
  }
  if (patchSizeT === null) return 0;
  if (!Number.isInteger(patchSizeT) || patchSizeT < 1) {
    throw new InputError(`patchSizeT: expected a positive integer or null, found ${patchSizeT}`);
  }
  return (patchSizeT - (frames % patchSizeT)) % patchSizeT;
}

/** Latent frames with the first one's copies: 21 become 22 where patches span two. */
export function paddedFrames(frames: number, patchSizeT: number | null): number {
  return frames + firstFrameCopies(frames, patchSizeT);
}

/** Patches of latents in time, height and width; only full patches count. */
export function patchGrid(
  { frames, height, width }: LatentSize,
  { patch_size: patch, patch_size_t: patchT }: PatchSizes,
): readonly [time: number, height: number, width: number] {
  return [
    paddedFrames(frames, patchT) / (patchT ?? 1),
    Math.floor(height / patch),
    Math.floor(width / patch),
  ];
}

/** A clip's size in latents, the first frame's copies included. */
export function latentSize(
  { numFrames, height, width }: ClipSize,
  { spatialRatio, temporalRatio }: CompressionRatios,
  patchSizeT: number | null,
): LatentSize {
  return {
    frames: paddedFrames(latentFrames(numFrames, temporalRatio), patchSizeT),
    height: height / spatialRatio,
    width: width / spatialRatio,
  };
}

/** Tokens of a clip's video part: one per patch. */
export function videoTokens(clip: ClipSize, ratios: CompressionRatios, patches: PatchSizes): number {
  const [time, height, width] = patchGrid(latentSize(clip, ratios, patches.patch_size_t), patches);
  return time * height * width;
}
