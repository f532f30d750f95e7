import assert from "node:assert/strict";
import { before, test } from "node:test";
import { useEngine } from "../../../../src/engine/index.js";
import { attentionBlocks, multiHeadAttention } from "../../../../src/engine/ops/attention/attention.js";
import { RandomGenerator } from "../../../../src/engine/random.js";
import * as tf from "../../../../src/engine/tf.js";

before(async () => {
  await useEngine("cpu");
});

test("attention and its gradient hold no score matrix above the limit", async () => {
  // Few features: unpacked copies of the inputs are small beside the scores.
  const [heads, tokens, features, maxScores] = [2, 512, 2, 2 ** 15];
  const generator = new RandomGenerator(1);
  const make = () => generator.randn<tf.Rank.R3>([1, tokens, heads * features]);
  const [q, k, v] = [make(), make(), make()];
  const block = attentionBlocks(heads, tokens, tokens, maxScores);
  const scores = 4 * block.heads * block.rows * tokens;
  assert.equal(scores, 4 * maxScores);

  const limited = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) =>
    multiHeadAttention(q as tf.Tensor3D, k as tf.Tensor3D, v as tf.Tensor3D, heads, { maxScores });
  const before = tf.memory().numBytes;
  let peak = 0;
  // Every kernel's outputs pass through here.
  const engine = tf.engine() as unknown as { makeTensorFromTensorInfo(...given: unknown[]): tf.Tensor };
  const original = engine.makeTensorFromTensorInfo;
  engine.makeTensorFromTensorInfo = function (...given) {
    const tensor = original.apply(this, given);
    peak = Math.max(peak, tf.memory().numBytes - before);
    return tensor;
  };
  try {
    tf.dispose(limited(q, k, v));
    const forward = peak;
    // The scores, their softmax and what it goes through; the whole matrix would be 16 times as large.
    assert.ok(forward < 5 * scores, `${forward} bytes forward`);
    tf.dispose(tf.grads(limited)([q, k, v]));
    assert.ok(peak < 8 * scores, `${peak} bytes with the gradient`);
    assert.ok(peak > scores);
  } finally {
    engine.makeTensorFromTensorInfo = original;
  }
  tf.dispose([q, k, v]);
});
