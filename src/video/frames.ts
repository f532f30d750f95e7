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
