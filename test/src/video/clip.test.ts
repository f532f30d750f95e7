import assert from "node:assert/strict";
import { test } from "node:test";
import * as tf from "../../../src/engine/tf.js";
import { assertFrameRule } from "../../../src/recipe/geometry.js";
import { Clip } from "../../../src/video/clip.js";

const clip = new Clip({
  data: Uint8Array.from({ length: 3 * 4 * 6 * 3 }, (_, i) => (i * 37) % 256),
  width: 6,
  height: 4,
  fps: 8,
});

test("a tensor is [1, 3, F, H, W] and goes back to the same bytes", async () => {
  const before = tf.memory().numTensors;
  const video = clip.toTensor();
  assert.deepEqual(video.shape, [1, 3, 3, 4, 6]);
  const values = await video.array();
  // Frame 2, row 1, column 5, green.
  assert.ok(
    Math.abs(values[0]![1]![2]![1]![5]! - ((clip.frame(2)[(1 * 6 + 5) * 3 + 1]! / 255) * 2 - 1)) < 1e-6,
  );
  assert.deepEqual(Clip.fromTensor(video, { fps: 8 }), clip);
  video.dispose();
  assert.equal(tf.memory().numTensors, before);
});

test("values outside [-1, 1] are clamped", () => {
  const video = tf.tensor5d([-3, 0, 3], [1, 3, 1, 1, 1]);
  assert.deepEqual([...Clip.fromTensor(video, { fps: 1 }).data], [0, 128, 255]);
  video.dispose();
});

test("frames, slices and crops are the ones asked for", () => {
  assert.deepEqual(clip.frame(-1), clip.frame(2));
  assert.deepEqual(clip.slice(1).data, clip.data.slice(72));
  assert.deepEqual(clip.slice(0, -2).data, clip.data.slice(0, 72));
  const cropped = clip.crop({ top: 1, left: 2, height: 2, width: 3 });
  assert.deepEqual([cropped.width, cropped.height, cropped.numFrames], [3, 2, 3]);
  assert.deepEqual(
    [...cropped.frame(1).subarray(9, 12)],
    [...clip.frame(1).subarray((2 * 6 + 2) * 3, (2 * 6 + 3) * 3)],
  );
  assert.equal(clip.resize({ height: 8, width: 3 }).data.length, 3 * 8 * 3 * 3);
});

test("what can't be a clip is refused", () => {
  assert.throws(
    () => new Clip({ data: new Uint8Array(10), width: 2, height: 2, fps: 8 }),
    /multiple of 2 x 2 x 3/,
  );
  assert.throws(() => new Clip({ data: new Uint8Array(0), width: 2, height: 2, fps: 8 }), /found 0/);
  assert.throws(
    () => new Clip({ data: new Uint8Array(12), width: 2, height: 2, fps: 0 }),
    /fps > 0, found 0/,
  );
  assert.throws(() => clip.frame(3), /below 3, found 3/);
  assert.throws(() => clip.crop({ top: 3, left: 0, height: 2, width: 2 }), /inside 6x4/);
  const flat = tf.zeros([2, 2]);
  assert.throws(() => Clip.fromTensor(flat, { fps: 1 }), /found \[2,2\]/);
  flat.dispose();
});

test("the frame rule is 8 N + 1", () => {
  for (const good of [1, 9, 49, 81]) assertFrameRule(good);
  assert.throws(() => assertFrameRule(80), /8 N \+ 1 \(such as 73 or 81\), found 80/);
  assert.throws(() => assertFrameRule(0), /found 0/);
});
