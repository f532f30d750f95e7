import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { float16ToNumber, fromFloat32, numberToFloat16, toFloat32 } from "../../../src/weights/dtype.js";

test("every float16 value survives the way to float32 and back", () => {
  for (let bits = 0; bits < 65536; bits++) {
    const value = float16ToNumber(bits);
    if (Number.isNaN(value)) assert.ok(Number.isNaN(float16ToNumber(numberToFloat16(value))));
    else assert.equal(numberToFloat16(value), bits);
  }
});

test("float16 rounds to nearest, ties to even, and overflows where PyTorch does", () => {
  const pairs: [number, number][] = [
    [1 + 2 ** -11, 0x3c00], // half way between 1 and the next: even is below
    [1 + 3 * 2 ** -11, 0x3c02], // half way, even is above
    [1 + 2 ** -11 + 2 ** -20, 0x3c01],
    [65519, 0x7bff],
    [65520, 0x7c00],
    [-65520, 0xfc00],
    [2 ** -25, 0x0000],
    [2 ** -25 * 1.5, 0x0001],
    [3 * 2 ** -25, 0x0002],
    [2 ** -14 - 2 ** -26, 0x0400],
    [1e-30, 0],
    [-1e-30, 0x8000],
    [0.1, 0x2e66],
    [Number.POSITIVE_INFINITY, 0x7c00],
  ];
  for (const [value, bits] of pairs)
    assert.equal(numberToFloat16(value).toString(16), bits.toString(16), `${value}`);
});

test("fuzz: float16 is the nearest of all float16 values", () => {
  fc.assert(
    fc.property(fc.float({ noNaN: true, min: -65519, max: 65519 }), (value) => {
      const bits = numberToFloat16(value);
      const error = Math.abs(float16ToNumber(bits) - value);
      for (const other of [bits - 1, bits + 1]) {
        const neighbour = float16ToNumber(other & 0xffff);
        if (Number.isFinite(neighbour)) assert.ok(error <= Math.abs(neighbour - value));
      }
    }),
  );
});

test("bfloat16 rounds to nearest, ties to even; NaN stays NaN, infinity infinity", () => {
  const float = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0]!;
  const inputs = [
    0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff, 0x7f800000, 0xff800001, 0x7fffffff, 0x00008000,
  ];
  const outputs = fromFloat32("BF16", Float32Array.from(inputs, float));
  assert.deepEqual([...outputs.slice(0, 5)], [0x3f80, 0x3f82, 0x3f81, 0x7f80, 0x7f80]);
  const widened = toFloat32("BF16", outputs as Uint16Array);
  assert.ok(Number.isNaN(widened[5]) && Number.isNaN(widened[6]));
  assert.equal(widened[7], 0);
});

test("fuzz: bfloat16 values survive the way to float32 and back", () => {
  fc.assert(
    fc.property(fc.uint16Array(), (bits) => {
      const values = toFloat32("BF16", bits);
      const back = fromFloat32("BF16", values);
      for (const [i, value] of values.entries()) if (!Number.isNaN(value)) assert.equal(back[i], bits[i]);
    }),
  );
});

test("64-bit integers and doubles round to the nearest float32", () => {
  assert.deepEqual([...toFloat32("I64", BigInt64Array.of(-3n, 2n ** 40n + 1n))], [-3, 2 ** 40]);
  assert.deepEqual([...toFloat32("F64", Float64Array.of(0.1))], [Math.fround(0.1)]);
});
