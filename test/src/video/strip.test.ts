import assert from "node:assert/strict";
import { test } from "node:test";
import { Clip } from "../../../src/video/clip.js";
import { filmStrip, spread } from "../../../src/video/strip.js";

test("frames of a strip are as evenly apart as can be, with the first and the last", () => {
  assert.deepEqual(spread(17, 6), [0, 3, 6, 10, 13, 16]);
  assert.deepEqual(spread(3, 8), [0, 1, 2]);
  assert.deepEqual(spread(9, 1), [0]);
});

test("a strip has a row a clip, frames side by side", () => {
  // Frame f of clip c is 2x1 pixels of the colours 10 c + f and 100 + 10 c + f.
  const clip = (c: number) =>
    Clip.fromFrames(
      [0, 1, 2].map((f) => Uint8Array.from([10 * c + f, 100 + 10 * c + f].flatMap((v) => [v, v, v]))),
      { width: 2, height: 1, fps: 8 },
    );
  const strip = filmStrip([clip(1), clip(2)], 2);
  assert.deepEqual([strip.width, strip.height, strip.numFrames], [4, 2, 1]);
  const red = Array.from({ length: 8 }, (_, i) => strip.data[3 * i]);
  assert.deepEqual(red, [10, 110, 12, 112, 20, 120, 22, 122]);
});
