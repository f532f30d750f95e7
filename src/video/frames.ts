import { InputError } from "../engine/errors.js";

/**
 * Which frames the training data set takes from a clip. If there are fewer than wanted: all of them, with the last one
 * repeated. Otherwise every `floor(numFrames / wanted)`-th, the first `wanted` of those.
 */
export function selectFrames(numFrames: number, wanted: number): number[] {
  for (const [name, value] of Object.entries({ numFrames, wanted })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new InputError(`selectFrames: expected ${name} to be a positive integer, found ${value}`);
    }
  }
  const stride = numFrames < wanted ? 1 : Math.floor(numFrames / wanted);
  return Array.from({ length: wanted }, (_, i) => Math.min(i * stride, numFrames - 1));
}

/** How frames of a clip with more than wanted are taken; see {@link extractFrames}. */
export const FRAME_EXTRACTIONS = ["spread", "head", "middle", "chunk"] as const;
export type FrameExtraction = (typeof FRAME_EXTRACTIONS)[number];

/**
 * Which frames are taken of a clip: `spread` as {@link selectFrames} does, which is the recipe's way; `head` the first ones;
 * `middle` those around the middle; `chunk` the ones of one part after another, each `wanted` long (a rest is left out). If there
 * are fewer than wanted: all of them, with the last one repeated.
 *
 * @param part of `chunk`, from 0 to {@link countParts} - 1
 */
export function extractFrames(
  numFrames: number,
  wanted: number,
  how: FrameExtraction = "spread",
  part = 0,
): number[] {
  if (how === "spread" || numFrames <= wanted) return selectFrames(numFrames, wanted);
  const first = { head: 0, middle: Math.floor((numFrames - wanted) / 2), chunk: part * wanted }[how];
  return Array.from({ length: wanted }, (_, i) => first + i);
}

/** How many samples {@link extractFrames} makes of a clip. */
export function countParts(numFrames: number, wanted: number, how: FrameExtraction = "spread"): number {
  return how === "chunk" ? Math.max(1, Math.floor(numFrames / wanted)) : 1;
}

/**
 * Which frames make a clip of another rate: for each moment of it the frame that is shown then. From 30 to 8 frames per second
 * these are 0, 3, 7, 11, 15 ... A lower rate than wanted repeats frames. Frames are taken to be evenly apart.
 *
 * @param from frames per second of the clip, the mean if it varies
 * @param to frames per second wanted
 * @returns indices of frames, in order
 * @throws InputError unless both rates are above 0
 */
export function resampleFrames(numFrames: number, from: number, to: number): number[] {
  for (const [name, value] of Object.entries({ from, to }))
    if (!(value > 0 && Number.isFinite(value)))
      throw new InputError(`resampleFrames: expected ${name} > 0, found ${value}`);
  // Rates that are all but equal, such as 29.97 and 30, take every frame; rounded rates may be off by a hair.
  if (Math.abs(from / to - 1) < 2e-3) return Array.from({ length: numFrames }, (_, i) => i);
  const length = Math.max(1, Math.floor((numFrames * to) / from + 1e-3));
  return Array.from({ length }, (_, i) => Math.min(Math.floor((i * from) / to + 1e-3), numFrames - 1));
}
