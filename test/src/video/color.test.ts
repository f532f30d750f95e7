import assert from "node:assert/strict";
import { test } from "node:test";
import { bt709ToRgb } from "../../../src/video/color.js";

/** One colour as limited-range BT.709 planes, rows padded to `stride`. */
function planes(height: number, [r, g, b]: readonly [number, number, number], stride: number) {
  const luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  const values = [
    16 + (219 / 255) * luma,
    128 + ((224 / 255) * (b - luma)) / 1.8556,
    128 + ((224 / 255) * (r - luma)) / 1.5748,
  ].map(Math.round) as [number, number, number];
  const halfHeight = height >> 1;
  const bytes = new Uint8Array(stride * (height + 2 * halfHeight));
  bytes.fill(values[0], 0, stride * height);
  bytes.fill(values[1], stride * height, stride * (height + halfHeight));
  bytes.fill(values[2], stride * (height + halfHeight));
  const layout = [0, stride * height, stride * (height + halfHeight)].map((offset) => ({ offset, stride }));
  return { bytes, layout: layout as unknown as Parameters<typeof bt709ToRgb>[1] };
}

for (const [width, height] of [
  [8, 6],
  [7, 5],
] as const) {
  test(`BT.709 colours come back, ${width}x${height}`, () => {
    for (const colour of [
      [200, 90, 40],
      [12, 240, 200],
      [255, 255, 255],
      [0, 0, 0],
    ] as const) {
      const { bytes, layout } = planes(height, colour, 11);
      const rgb = bt709ToRgb(bytes, layout, { width, height }, false);
      assert.equal(rgb.length, width * height * 3);
      rgb.forEach((value, i) => {
        assert.ok(Math.abs(value - colour[i % 3]!) <= 2, `${colour}: found ${value} at ${i}`);
      });
    }
  });
}
