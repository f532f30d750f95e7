import assert from "node:assert/strict";
import { before, test } from "node:test";
import { type Engine, useEngine } from "../../../src/engine/index.js";
import { multiHeadAttention } from "../../../src/engine/ops/attention/attention.js";
import { linear } from "../../../src/engine/ops/linear/linear.js";
import { addLowRank } from "../../../src/engine/ops/low-rank/low-rank.js";
import { currentPrecision, withPrecision } from "../../../src/engine/precision.js";
import * as tf from "../../../src/engine/tf.js";
import { distance, randn, rounded } from "./rounded.js";

let engine: Engine;
before(async () => {
  engine = await useEngine();
});

const inBfloat16 = <T>(run: () => T): T => withPrecision("bfloat16", run);

// Rows, features and outputs about the tiles' 16 and 32, the panels' 32 and the pieces' 256 and 1,024; too few rows or too
// little depth for tiles at all.
const SHAPES = [
  [8, 16, 1],
  [9, 17, 33],
  [32, 32, 32],
  [40, 100, 70],
  [257, 96, 31],
  [450, 1030, 65],
  [1100, 33, 520],
  [7, 64, 64],
  [40, 15, 40],
] as const;

for (const [rows, features, outputs] of SHAPES) {
  test(`a product of [${rows}, ${features}] and [${features}, ${outputs}] in bfloat16 is that of rounded factors, its gradients too`, () => {
    const [x, weight] = [randn(1, [rows, features]), randn(2, [outputs, features])];
    const [bias, dy] = [randn(3, [outputs]), randn(4, [rows, outputs])];
    const inTiles = (depth: number, height: number) => engine.bfloat16 && depth >= 16 && height >= 8;
    const product = (left: tf.Tensor, right: tf.Tensor, transposeA: boolean, transposeB: boolean) => {
      const [height, depth] = transposeA
        ? [left.shape[1]!, left.shape[0]!]
        : [left.shape[0]!, left.shape[1]!];
      const [a, b] = inTiles(depth, height) ? [rounded(left), rounded(right)] : [left, right];
      return tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D, transposeA, transposeB);
    };
    const y = inBfloat16(() => linear(x, weight, bias));
    const expected = tf.add(product(x, weight, false, true), bias);
    assert.ok(distance(expected, y) < 2e-6, `y: ${distance(expected, y)}`);
    const [dx, dw, db] = inBfloat16(() =>
      tf.grads((...inputs) => {
        const [a, w, b] = inputs as [tf.Tensor, tf.Tensor, tf.Tensor];
        return linear(a, w, b);
      })([x, weight, bias], dy),
    );
    const wanted = [product(dy, weight, false, false), product(dy, x, true, false), tf.sum(dy, 0)];
    for (const [i, gradient] of [dx, dw, db].entries()) {
      const apart = distance(wanted[i]!, gradient!);
      assert.ok(apart < 2e-6, `gradient ${i}: ${apart}`);
    }
  });
}

test("the precision ends with the function that asked for it, even if that fails", () => {
  assert.equal(inBfloat16(currentPrecision), "bfloat16");
  assert.throws(
    () =>
      inBfloat16(() => {
        throw new Error("of the function");
      }),
    /of the function/,
  );
  assert.equal(currentPrecision(), "float32");
  const [x, weight] = [randn(1, [64, 64]), randn(2, [64, 64])];
  const before = linear(x, weight, null);
  const rough = inBfloat16(() => linear(x, weight, null));
  const after = linear(x, weight, null);
  assert.equal(distance(before, after), 0);
  assert.equal(distance(before, rough) > 0, engine.bfloat16 !== null);
});

test("attention and low-rank updates in bfloat16 are as far from float32 as rounding takes them", () => {
  for (const [tokens, heads, width] of [
    [5, 1, 16],
    [100, 2, 24],
    [530, 3, 64],
  ] as const) {
    const [q, k, v] = [1, 2, 3].map((seed) => randn(seed, [2, tokens, heads * width]) as tf.Tensor3D);
    const all = () => {
      const value = (...inputs: tf.Tensor[]) =>
        multiHeadAttention(...(inputs as [tf.Tensor3D, tf.Tensor3D, tf.Tensor3D]), heads);
      return [value(q!, k!, v!), ...tf.grads(value)([q!, k!, v!], randn(4, [2, tokens, heads * width]))];
    };
    const exact = all();
    for (const [i, rough] of inBfloat16(all).entries()) {
      const apart = distance(exact[i]!, rough);
      assert.ok(
        engine.bfloat16 ? apart > 0 && apart < 0.02 : apart === 0,
        `${tokens} tokens, ${i}: ${apart}`,
      );
    }
  }
  const [y, x, a, b] = [randn(1, [70, 48]), randn(2, [70, 40]), randn(3, [8, 40]), randn(4, [48, 8])];
  const update = () => addLowRank(y, x, a as tf.Tensor2D, b as tf.Tensor2D, 0.5);
  assert.ok(distance(update(), inBfloat16(update)) < 0.01);
});
