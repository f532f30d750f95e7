import assert from "node:assert/strict";
import { test } from "node:test";
import {
  countParts,
  extractFrames,
  FRAME_EXTRACTIONS,
  resampleFrames,
  selectFrames,
} from "../../../src/video/frames.js";

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

test("a clip of another rate has the frame that is shown at each moment", () => {
  assert.deepEqual(resampleFrames(16, 30, 8), [0, 3, 7, 11]);
  assert.deepEqual(resampleFrames(60, 60, 8), [0, 7, 15, 22, 30, 37, 45, 52]);
  assert.deepEqual(resampleFrames(12, 24, 8), [0, 3, 6, 9]);
  assert.deepEqual(
    resampleFrames(32, 32, 16),
    range(0, 16).map((i) => 2 * i),
  );
  assert.deepEqual(resampleFrames(4, 8, 16), [0, 0, 1, 1, 2, 2, 3, 3]);
  // A second has as many frames as the rate, also where a container rounds it.
  for (const rate of [23.976024, 24, 25, 29.97003, 29.989659, 30, 50, 59.94006, 60])
    for (const wanted of [8, 15, 16]) {
      const seconds = 10;
      const chosen = resampleFrames(Math.round(rate * seconds), rate, wanted);
      assert.ok(Math.abs(chosen.length - seconds * wanted) <= 1, `${rate} to ${wanted}: ${chosen.length}`);
      assert.ok(chosen.every((frame, i) => i === 0 || frame > chosen[i - 1]!));
      assert.ok(chosen.every((frame, i) => Math.abs(frame / rate - i / wanted) <= 1 / rate + 1e-3));
    }
});

test("a rate that is all but the wanted one takes every frame, and one picture stays one", () => {
  assert.deepEqual(resampleFrames(9, 29.97003, 30), range(0, 9));
  assert.deepEqual(resampleFrames(9, 15.99, 16), range(0, 9));
  assert.deepEqual(resampleFrames(1, 30, 8), [0]);
  assert.throws(() => resampleFrames(9, 30, 0), { message: "resampleFrames: expected to > 0, found 0" });
});

test("frames are spread, or a run of them is taken", () => {
  assert.deepEqual(extractFrames(20, 9), selectFrames(20, 9));
  assert.deepEqual(extractFrames(20, 9, "head"), range(0, 9));
  assert.deepEqual(extractFrames(20, 9, "middle"), range(5, 14));
  assert.deepEqual(extractFrames(20, 9, "chunk"), range(0, 9));
  assert.deepEqual(extractFrames(20, 9, "chunk", 1), range(9, 18));
  assert.deepEqual(
    [18, 17, 9, 5].map((length) => countParts(length, 9, "chunk")),
    [2, 1, 1, 1],
  );
  assert.equal(countParts(90, 9, "head"), 1);
  for (const how of FRAME_EXTRACTIONS) {
    assert.deepEqual(extractFrames(5, 9, how), [0, 1, 2, 3, 4, 4, 4, 4, 4], how);
    assert.deepEqual(extractFrames(9, 9, how), range(0, 9), how);
  }
});
