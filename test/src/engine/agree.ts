/** Compares operations with their definition in plain tensor operations, and their gradients with finite differences. */
import assert from "node:assert/strict";
import type { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";

/** Fails unless the values differ by at most `tolerance` times the largest one. */
export function close(mine: tf.Tensor, reference: tf.Tensor, what: string, tolerance = 1e-5): void {
  assert.deepEqual(mine.shape, reference.shape, what);
  const [a, b] = [mine.dataSync(), reference.dataSync()];
  const largest = Math.max(...Array.from(b, Math.abs));
  assert.ok(largest > 0, `${what}: the reference is all zeros`);
  for (let i = 0; i < b.length; i++) {
    assert.ok(Math.abs(a[i]! - b[i]!) <= tolerance * largest, `${what} at ${i}: ${a[i]} instead of ${b[i]}`);
  }
}

/** Values and gradients of both, for a random direction; disposes the inputs. */
export function agree(
  generator: RandomGenerator,
  inputs: Record<string, tf.Tensor>,
  mine: (...inputs: tf.Tensor[]) => tf.Tensor,
  reference: (...inputs: tf.Tensor[]) => tf.Tensor,
): void {
  const names = Object.keys(inputs);
  const values = Object.values(inputs);
  tf.tidy(() => {
    const [y, expected] = [mine(...values), reference(...values)];
    close(y, expected, "value");
    const dy = generator.randn(expected.shape);
    const [dMine, dReference] = [tf.grads(mine)(values, dy), tf.grads(reference)(values, dy)];
    for (const [i, name] of names.entries()) {
      close(dMine[i]!, dReference[i]!, `gradient of ${name}`);
      const loss = (value: tf.Tensor) => dot(mine(...values.with(i, value)), dy);
      slopes(generator, values[i]!, loss, dMine[i]!, name);
    }
  });
  tf.dispose(inputs);
}

/** Half of what the values are moved by. */
const STEP = 4e-3;

/** Fails unless a loss changes as its gradient says when every value goes up or down by the same, at random. */
function slopes(
  generator: RandomGenerator,
  x: tf.Tensor,
  loss: (x: tf.Tensor) => number,
  gradient: tf.Tensor,
  name: string,
): void {
  const signs = tf.sign(generator.randn(x.shape));
  const at = (step: number) => loss(tf.add(x, tf.mul(signs, step)));
  const found = (at(STEP) - at(-STEP)) / (2 * STEP);
  const expected = dot(gradient, signs);
  const size = Math.sqrt(dot(gradient, gradient));
  assert.ok(
    Math.abs(found - expected) <= 0.02 * size,
    `slope along ${name}: ${expected}, but differences give ${found}`,
  );
}

/** Summed in float64. */
function dot(a: tf.Tensor, b: tf.Tensor): number {
  const [left, right] = [a.dataSync(), b.dataSync()];
  let sum = 0;
  for (let i = 0; i < left.length; i++) sum += left[i]! * right[i]!;
  return sum;
}
