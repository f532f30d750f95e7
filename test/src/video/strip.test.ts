import assert from "node:assert/strict";
import { test } from "node:test";
import { Clip } from "../../../src/video/clip.js";
import { cutStrip, filmGrid, filmStrip, spread } from "../../../src/video/strip.js";

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
  const back = cutStrip(strip, { rows: 2, columns: 2 });
  assert.deepEqual(
    back.map(({ data }) => [...data]),
    [clip(1), clip(2)].map((whole) => [...whole.select([0, 2]).data]),
  );
  assert.deepEqual([back[0]!.width, back[0]!.height, back[0]!.fps], [2, 1, 8]);
  assert.throws(
    () => cutStrip(strip, { rows: 2, columns: 3 }),
    /cutStrip: expected a picture of 2 rows and 3 columns, found 4x2/,
  );
});

test("a grid's clips play side by side, and all are of one size", () => {
  const clip = (red: number, numFrames = 2) => {
    const data = new Uint8Array(numFrames * 2 * 1 * 3);
    for (let f = 0; f < numFrames; f++) for (let x = 0; x < 2; x++) data[(f * 2 + x) * 3] = red + 10 * f + x;
    return new Clip({ data, width: 2, height: 1, fps: 8 });
  };
  const grid = filmGrid([
    [clip(0), clip(100)],
    [clip(50), clip(150)],
  ]);
  assert.deepEqual([grid.width, grid.height, grid.numFrames, grid.fps], [4, 2, 2, 8]);
  const red = (f: number) => Array.from(grid.frame(f)).filter((_, i) => i % 3 === 0);
  assert.deepEqual(red(0), [0, 1, 100, 101, 50, 51, 150, 151]);
  assert.deepEqual(red(1), [10, 11, 110, 111, 60, 61, 160, 161]);
  assert.throws(() => filmGrid([[clip(0)], [clip(0), clip(1)]]), {
    name: "InputError",
    message: "filmGrid: expected rows of equal lengths, found 1,2",
  });
  assert.throws(() => filmGrid([[clip(0), clip(0, 3)]]), {
    name: "InputError",
    message: "filmGrid: expected clips of 2x1x2, found 3x1x2",
  });
});
