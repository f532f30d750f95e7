import assert from "node:assert/strict";
import { test } from "node:test";
import { resizeLanczos } from "../../../src/diffusion/lanczos.js";

/** Bytes with edges and ramps, different in every channel. */
function picture(height: number, width: number): Uint8Array {
  const bytes: number[] = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        const edge = (x + y) % 3 === 0 ? 255 : 0;
        bytes.push((37 * y * y + 91 * x + 53 * c * x + 17 * y * c + edge) % 256);
      }
    }
  }
  return Uint8Array.from(bytes);
}

// Pillow 12's Image.resize((width, height), Image.LANCZOS) of the same pictures.
const CASES: [size: [number, number, number, number], bytes: number[]][] = [
  [
    [5, 7, 8, 4],
    [
      206, 208, 255, 91, 72, 115, 102, 136, 67, 113, 148, 193, 142, 161, 147, 118, 116, 146, 110, 121, 67,
      131, 117, 164, 88, 107, 40, 155, 172, 165, 142, 127, 93, 156, 70, 133, 159, 128, 144, 152, 164, 109,
      190, 183, 155, 158, 62, 152, 182, 125, 208, 111, 123, 50, 181, 183, 166, 121, 103, 148, 120, 84, 162,
      66, 95, 37, 129, 127, 135, 74, 161, 120, 110, 90, 177, 59, 102, 59, 119, 129, 152, 66, 186, 139, 122,
      107, 203, 69, 118, 79, 130, 148, 176, 77, 185, 162,
    ],
  ],
  [
    [9, 6, 4, 3],
    [
      153, 146, 148, 123, 139, 123, 163, 126, 102, 124, 102, 147, 107, 131, 76, 125, 141, 174, 142, 127, 147,
      117, 98, 116, 114, 146, 111, 109, 124, 116, 154, 131, 132, 132, 115, 92,
    ],
  ],
  [
    [3, 4, 6, 8],
    [
      255, 255, 255, 245, 255, 255, 128, 185, 250, 91, 80, 202, 162, 22, 151, 145, 59, 101, 51, 133, 71, 2,
      184, 60, 207, 203, 215, 179, 209, 201, 105, 191, 167, 110, 117, 151, 192, 35, 162, 165, 64, 145, 58,
      156, 111, 0, 219, 90, 75, 68, 113, 76, 121, 81, 80, 191, 39, 147, 172, 72, 230, 68, 174, 188, 82, 206,
      74, 189, 166, 1, 255, 131, 26, 47, 100, 59, 86, 65, 125, 150, 23, 190, 171, 56, 202, 132, 158, 159, 138,
      191, 107, 185, 150, 73, 215, 117, 97, 156, 186, 141, 131, 165, 206, 98, 131, 206, 115, 115, 129, 178,
      126, 100, 188, 110, 131, 147, 75, 156, 117, 57, 152, 233, 246, 198, 166, 235, 254, 69, 205, 211, 77,
      157, 83, 200, 106, 64, 214, 58, 143, 122, 27, 202, 58, 18,
    ],
  ],
];

for (const [[height, width, toHeight, toWidth], expected] of CASES) {
  test(`${height}x${width} to ${toHeight}x${toWidth} gives Pillow's bytes`, () => {
    const out = resizeLanczos(
      picture(height, width),
      { height, width },
      { height: toHeight, width: toWidth },
    );
    assert.deepEqual([...out], expected);
  });
}

test("the same size gives the same bytes, in an array of their own", () => {
  const bytes = picture(4, 5);
  const out = resizeLanczos(bytes, { height: 4, width: 5 }, { height: 4, width: 5 });
  assert.deepEqual(out, bytes);
  assert.notEqual(out, bytes);
});
