import assert from "node:assert/strict";
import { before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";

// On tensorflow a reshape runs nothing: tensors of several shapes share a buffer.

before(async () => {
  await useEngine("tensorflow");
});

test("reshaped tensors compute in their own shape", () => {
  tf.tidy(() => {
    const x = tf.tensor([1, 2, 3, 4, 5, 6], [2, 3]);
    const flat = tf.reshape(tf.reshape(x, [3, 2]), [-1]);
    assert.deepEqual(flat.shape, [6]);
    assert.deepEqual([...tf.sum(tf.reshape(x, [3, 2]), 0).dataSync()], [9, 12]);
    assert.deepEqual([...tf.sum(x, 0).dataSync()], [5, 7, 9]);
    assert.deepEqual(tf.add(flat, tf.scalar(1)).arraySync(), [2, 3, 4, 5, 6, 7]);
    assert.deepEqual(tf.transpose(tf.expandDims(x, -1), [2, 1, 0]).arraySync(), [
      [
        [1, 4],
        [2, 5],
        [3, 6],
      ],
    ]);
    assert.deepEqual(tf.expandDims(tf.scalar(7), 0).shape, [1]);
    assert.deepEqual(tf.concat([tf.reshape(x, [1, 6]), tf.ones([1, 6])], 0).shape, [2, 6]);
  });
});

test("the buffer lives as long as one of its tensors, and no longer", () => {
  const { numTensors, numBytes, numDataBuffers } = tf.memory();
  const x = tf.tensor([1, 2, 3, 4], [2, 2]);
  const column = tf.reshape(x, [4, 1]);
  const both = tf.matMul(column, column, true);
  assert.equal(tf.memory().numDataBuffers, numDataBuffers + 2);
  x.dispose();
  assert.deepEqual([...column.dataSync()], [1, 2, 3, 4]);
  assert.deepEqual([...tf.tidy(() => tf.sum(column, 0).dataSync())], [10]);
  tf.dispose([column, both]);
  assert.deepEqual(
    [tf.memory().numTensors, tf.memory().numBytes, tf.memory().numDataBuffers],
    [numTensors, numBytes, numDataBuffers],
  );
});

test("a variable takes a reshaped value", () => {
  const variable = tf.variable(tf.zeros([2, 2]));
  tf.tidy(() => variable.assign(tf.reshape(tf.tensor1d([1, 2, 3, 4]), [2, 2])));
  assert.deepEqual(
    tf.tidy(() => tf.matMul(variable as tf.Tensor2D, tf.ones([2, 1])).dataSync()),
    Float32Array.of(3, 7),
  );
  variable.dispose();
});

test("a shape of another size is refused", () => {
  tf.tidy(() => assert.throws(() => tf.reshape(tf.ones([2, 3]), [4]), /6|4/));
});
