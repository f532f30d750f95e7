import "@tensorflow/tfjs-backend-cpu";
import assert from "node:assert/strict";
import { test } from "node:test";
import * as tf from "../../../src/engine/tf.js";
import { dropDuplicatedFrames, duplicateFirstFrame } from "../../../src/recipe/first-frame.js";
import { firstFrameCopies } from "../../../src/recipe/geometry.js";

test("the number of copies is the smallest that makes the count divisible", () => {
  for (const patchSizeT of [1, 2, 3, 4, 5]) {
    for (let frames = 1; frames <= 24; frames++) {
      let copies = 0;
      while ((frames + copies) % patchSizeT !== 0) copies++;
      assert.equal(
        firstFrameCopies(frames, patchSizeT),
        copies,
        `${frames} frames, patchSizeT ${patchSizeT}`,
      );
    }
  }
  assert.equal(firstFrameCopies(21, 2), 1);
  assert.equal(firstFrameCopies(20, 3), 1, "20 % 3 is 2, but one copy is enough");
  assert.equal(firstFrameCopies(13, null), 0);
});

/** Frame i of every channel holds the number i. */
const counting = (frames: number, frameAxis: 1 | 2) => {
  const shape: [number, number, number, number, number] = [2, 3, 3, 2, 2];
  shape[frameAxis] = frames;
  const view = [1, 1, 1, 1, 1];
  view[frameAxis] = frames;
  return tf.tidy(() => tf.broadcastTo<tf.Rank.R5>(tf.reshape(tf.range(0, frames), view), shape));
};

for (const [frames, patchSizeT, expected] of [
  [5, 1, [0, 1, 2, 3, 4]],
  [5, 2, [0, 0, 1, 2, 3, 4]],
  [4, 2, [0, 1, 2, 3]],
  [5, 3, [0, 0, 1, 2, 3, 4]],
  [4, 3, [0, 0, 0, 1, 2, 3]],
  [1, 3, [0, 0, 0]],
  [5, null, [0, 1, 2, 3, 4]],
] as const) {
  for (const frameAxis of [1, 2] as const) {
    test(`${frames} frames on axis ${frameAxis}, patchSizeT ${patchSizeT}: copies in front, and back`, () => {
      const before = tf.memory().numTensors;
      const latents = counting(frames, frameAxis);
      const padded = duplicateFirstFrame(latents, { patchSizeT, frameAxis });
      const order = frameAxis === 1 ? [1, 0, 2, 3, 4] : [2, 0, 1, 3, 4];
      const seen = tf.tidy(() => [
        ...tf.max(tf.reshape(tf.transpose(padded.latents, order), [expected.length, -1]), 1).dataSync(),
      ]);
      assert.deepEqual(seen, [...expected]);
      const restored = dropDuplicatedFrames(padded.latents, { copies: padded.copies, frameAxis });
      assert.deepEqual(restored.shape, latents.shape);
      assert.deepEqual(restored.dataSync(), latents.dataSync());
      tf.dispose([latents, padded.latents, restored]);
      assert.equal(tf.memory().numTensors, before);
    });
  }
}

test("impossible counts are refused by name", () => {
  assert.throws(() => firstFrameCopies(0, 2), /frames: expected a positive integer, found 0/);
  assert.throws(() => firstFrameCopies(5, 0), /patchSizeT: expected a positive integer or null, found 0/);
  const latents = counting(2, 2);
  assert.throws(
    () => dropDuplicatedFrames(latents, { copies: 2 }),
    /copies: expected an integer from 0 to 1 for 2 frames/,
  );
  latents.dispose();
});
