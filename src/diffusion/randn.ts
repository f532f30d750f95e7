import { InputError } from "../engine/errors.js";
import type { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";

/**
 * Standard normal draws, like diffusers' `randn_tensor`: from one generator, or sample by sample from a list of them, so
 * that each sample of a batch is the same as when drawn on its own.
 *
 * @throws InputError if a list of several generators is not as long as the batch (`shape[0]`).
 */
export function randnTensor<R extends tf.Rank>(
  shape: tf.ShapeMap[R],
  generator: RandomGenerator | readonly RandomGenerator[],
): tf.Tensor<R> {
  if (!isList(generator)) return generator.randn<R>(shape);
  if (generator.length === 1) return generator[0]!.randn<R>(shape);
  const [batch, ...rest] = shape as number[];
  if (generator.length !== batch) {
    throw new InputError(
      `generator: expected ${batch} (one a sample of the batch), found ${generator.length}`,
    );
  }
  return tf.tidy(() =>
    tf.concat(
      generator.map((one) => one.randn([1, ...rest] as tf.ShapeMap[R])),
      0,
    ),
  );
}

export type GeneratorInput = RandomGenerator | readonly RandomGenerator[] | undefined;

/** @throws InputError if noise has to be drawn and there is no generator. */
export function needed(generator: GeneratorInput): RandomGenerator | readonly RandomGenerator[] {
  if (generator === undefined) {
    throw new InputError(
      "generator: expected a RandomGenerator, such as new RandomGenerator(42), found none",
    );
  }
  return generator;
}

function isList(
  generator: RandomGenerator | readonly RandomGenerator[],
): generator is readonly RandomGenerator[] {
  return Array.isArray(generator);
}
