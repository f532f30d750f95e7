import assert from "node:assert/strict";
import { before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";

before(async () => {
  await useEngine("wasm");
});

const shape = [3, 70, 40, 5] as const;
const generator = new RandomGenerator(5);
const values = Float32Array.from({ length: 3 * 70 * 40 * 5 }, () => 1 + generator.normal());

/** Sums in double precision over some axes of the values, or of their sizes. */
function reference(axes: readonly number[], of: (value: number) => number = (value) => value): number[] {
  const kept = [0, 1, 2, 3].filter((axis) => !axes.includes(axis));
  const sums: number[] = Array(kept.reduce((n, axis) => n * shape[axis]!, 1)).fill(0);
  for (const [i, value] of values.entries()) {
    const at = [Math.floor(i / 14000), Math.floor(i / 200) % 70, Math.floor(i / 5) % 40, i % 5];
    sums[kept.reduce((index, axis) => index * shape[axis]! + at[axis]!, 0)]! += of(value);
  }
  return sums;
}

for (const axes of [[0, 1, 2, 3], [1, 2], [0, 2], [2, 3], [1], [0, 3]]) {
  test(`long sums and means over axes ${axes} are right to float32's precision`, () => {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const x = tf.tensor4d(values, [...shape]);
      const expected = reference(axes);
      const sizes = reference(axes, Math.abs);
      const length = values.length / expected.length;
      for (const [name, found, factor] of [
        ["sum", tf.sum(x, axes), 1],
        ["mean", tf.mean(x, axes), length],
      ] as const) {
        assert.deepEqual(
          found.shape,
          [0, 1, 2, 3].filter((axis) => !axes.includes(axis)).map((axis) => shape[axis]!),
        );
        for (const [i, value] of found.dataSync().entries()) {
          const error = Math.abs(value * factor - expected[i]!) / sizes[i]!;
          assert.ok(error < 5e-7, `${name} at ${i}: error ${error} of the sizes' sum`);
        }
      }
      assert.deepEqual(
        tf.sum(x, axes, true).shape,
        shape.map((n, axis) => (axes.includes(axis) ? 1 : n)),
      );
    });
    assert.equal(tf.memory().numTensors, before);
  });
}

test("sums of whole numbers stay whole", () => {
  const [sum] = tf.tidy(() => tf.sum(tf.ones([1000], "int32")).dataSync());
  assert.equal(sum, 1000);
});
