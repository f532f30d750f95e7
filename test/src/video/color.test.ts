import assert from "node:assert/strict";
import { test } from "node:test";
import { pictureToRgb } from "../../../src/video/color.js";

type Rgb = readonly [red: number, green: number, blue: number];

const COLOURS: readonly Rgb[] = [
  [200, 90, 40],
  [12, 240, 200],
  [255, 255, 255],
  [0, 0, 0],
  [255, 0, 0],
  [0, 0, 255],
];

/** Luma and colour differences from 0 to 1 and -0.5 to 0.5, by the definition in ITU-T H.273. */
function toParts([r, g, b]: Rgb, matrix: number): readonly [number, number, number] {
  const weights: Record<number, readonly [number, number]> = {
    1: [0.2126, 0.0722],
    2: [0.299, 0.114],
    4: [0.3, 0.11],
    5: [0.299, 0.114],
    6: [0.299, 0.114],
    7: [0.212, 0.087],
    9: [0.2627, 0.0593],
  };
  if (matrix === 8) return [(r + 2 * g + b) / 4 / 255, (-r + 2 * g - b) / 4 / 255, (r - b) / 2 / 255];
  const [kr, kb] = weights[matrix]!;
  const luma = kr * r + (1 - kr - kb) * g + kb * b;
  return [luma / 255, (b - luma) / (2 * (1 - kb)) / 255, (r - luma) / (2 * (1 - kr)) / 255];
}

/** One colour as a picture in planes, rows padded, as a decoder stores it. */
function picture(
  colour: Rgb,
  format: string,
  width: number,
  height: number,
  matrix: number,
  fullRange: boolean,
) {
  const bits = Number(/P(\d+)$/.exec(format)?.[1] ?? 8);
  const most = 2 ** bits - 1;
  const unit = 2 ** (bits - 8);
  const [y, cb, cr] = matrix === 0 ? [colour[1] / 255, 0, 0] : toParts(colour, matrix);
  const luma = (value: number) => Math.round(fullRange ? value * most : (16 + 219 * value) * unit);
  const chroma = (value: number) =>
    Math.min(most, Math.round(fullRange ? value * most + 2 ** (bits - 1) : (128 + 224 * value) * unit));
  const values =
    matrix === 0
      ? [luma(y), luma(colour[2] / 255), luma(colour[0] / 255)]
      : [luma(y), chroma(cb), chroma(cr)];
  const [columns, rows] = [
    /420|422/.test(format) ? width >> 1 : width,
    /420/.test(format) ? height >> 1 : height,
  ];
  const numbers: number[] = [];
  const planes = values.map((value, i) => {
    const [across, down] = i === 0 ? [width, height] : [columns, rows];
    const plane = { offset: numbers.length, stride: across + 3 };
    for (let row = 0; row < down; row++)
      for (let x = 0; x < plane.stride; x++) numbers.push(x < across ? value : 77);
    return plane;
  });
  const wide = bits > 8;
  const data = wide ? new Uint8Array(Uint16Array.from(numbers).buffer) : Uint8Array.from(numbers);
  const scale = wide ? 2 : 1;
  return {
    bytes: data,
    planes: planes.map(({ offset, stride }) => ({ offset: offset * scale, stride: stride * scale })),
    format,
    width,
    height,
  };
}

function assertColour(rgb: Uint8Array, colour: Rgb, most: number, what: string) {
  rgb.forEach((value, i) => {
    assert.ok(Math.abs(value - colour[i % 3]!) <= most, `${what}, ${colour}: found ${value} at ${i}`);
  });
}

const FORMATS = [
  "I420",
  "I422",
  "I444",
  "I420P10",
  "I422P10",
  "I444P10",
  "I420P12",
  "I422P12",
  "I444P12",
  "I420A",
];
for (const format of FORMATS) {
  test(`${format}: colours come back with every matrix and range, of even and odd sizes`, () => {
    for (const matrix of [1, 2, 4, 5, 6, 7, 8, 9]) {
      for (const fullRange of [false, true]) {
        for (const [width, height] of [
          [8, 6],
          [7, 5],
        ] as const) {
          for (const colour of COLOURS) {
            const rgb = pictureToRgb(picture(colour, format, width, height, matrix, fullRange), {
              matrix,
              fullRange,
            });
            assert.equal(rgb.length, width * height * 3);
            assertColour(rgb, colour, format.includes("P1") ? 1 : 2, `matrix ${matrix}, full ${fullRange}`);
          }
        }
      }
    }
  });
}

test("RGB in planes comes back as it is, and only with all its pixels", () => {
  for (const format of ["I444", "I444P10", "I444P12"])
    for (const fullRange of [false, true])
      for (const colour of COLOURS)
        assertColour(
          pictureToRgb(picture(colour, format, 7, 5, 0, fullRange), { matrix: 0, fullRange }),
          colour,
          fullRange ? 0 : 1,
          format,
        );
  assert.throws(
    () =>
      pictureToRgb(
        { ...picture([1, 2, 3], "I420", 8, 6, 0, true), path: "a.mp4" },
        { matrix: 0, fullRange: true },
      ),
    { name: "ClipError", message: "a.mp4: expected RGB with all its pixels, found I420" },
  );
});

test("NV12, NV21 and packed pixels", () => {
  for (const format of ["NV12", "NV21"]) {
    const colour: Rgb = [200, 90, 40];
    const { bytes, planes } = picture(colour, "I420", 8, 6, 1, false);
    const [first, second] = format === "NV12" ? [1, 2] : [2, 1];
    const mixed = Array.from(
      { length: 24 },
      (_, i) => bytes[planes[i % 2 === 0 ? first! : second!]!.offset]!,
    );
    const luma = bytes.subarray(0, planes[1]!.offset);
    const rgb = pictureToRgb(
      {
        bytes: Uint8Array.from([...luma, ...mixed]),
        planes: [planes[0]!, { offset: luma.length, stride: 8 }],
        format,
        width: 8,
        height: 6,
      },
      { matrix: 1, fullRange: false },
    );
    assertColour(rgb, colour, 2, format);
  }
  const packed = { planes: [{ offset: 0, stride: 8 }], width: 2, height: 1 };
  const meaning = { matrix: 0, fullRange: true };
  const bytes = Uint8Array.from([1, 2, 3, 9, 4, 5, 6, 9]);
  assert.deepEqual([...pictureToRgb({ ...packed, bytes, format: "RGBA" }, meaning)], [1, 2, 3, 4, 5, 6]);
  assert.deepEqual([...pictureToRgb({ ...packed, bytes, format: "BGRX" }, meaning)], [3, 2, 1, 6, 5, 4]);
});

test("pixels and colours that are unknown are refused by name", () => {
  const known = picture([1, 2, 3], "I420", 8, 6, 1, false);
  assert.throws(
    () => pictureToRgb({ ...known, format: "GRAY8", path: "a.mp4" }, { matrix: 1, fullRange: true }),
    {
      name: "ClipError",
      message: "a.mp4: expected pixels in a known format, found GRAY8",
    },
  );
  assert.throws(() => pictureToRgb({ ...known, path: "a.mp4" }, { matrix: 14, fullRange: true }), {
    name: "ClipError",
    message: "a.mp4: colours with matrix coefficients 14 of ITU-T H.273 can't be converted",
  });
});
