import assert from "node:assert/strict";
import { before, test } from "node:test";
import { type Engine, useEngine } from "../../../src/engine/index.js";
import { holdInt8, releaseInt8 } from "../../../src/engine/ops/linear/int8.js";
import { linear } from "../../../src/engine/ops/linear/linear.js";
import { adaptedLinear } from "../../../src/engine/ops/low-rank/low-rank.js";
import { withPrecision } from "../../../src/engine/precision.js";
import * as tf from "../../../src/engine/tf.js";
import { distance, randn } from "./rounded.js";

let engine: Engine;
before(async () => {
  engine = await useEngine("tensorflow");
});

test("each output's numbers are multiples of max|w| / 127, the nearest ones, ties to even", () => {
  const rows = [
    [127, 0.5, 1.5, 2.5, -0.5, -1.5, -126.4],
    [0, 0, 0, 0, 0, 0, 0],
    [-0.254, 0.001, 0.002, 0.003, 0.127, -0.13, 0.2],
  ];
  const weight = tf.tensor2d(rows);
  const held = holdInt8(weight);
  assert.equal(held.held.dtype, "int32");
  assert.deepEqual([...held.scale.dataSync()], [1, 1, Math.fround(Math.fround(0.254) / 127)]);
  const [first, second, third] = releaseInt8(held).arraySync();
  assert.deepEqual(first, [127, 0, 2, 2, 0, -2, -126]);
  assert.deepEqual(second, rows[1]);
  const units = third!.map((value) => Math.round(value / 0.002));
  assert.deepEqual(units, [-127, 0, 1, 2, 64, -65, 100]);
});

test("weights of any spread are off by at most half a scale, and take a byte each", () => {
  const weight = tf.mul(randn(1, [64, 128]), tf.exp(randn(2, [64, 1]))) as tf.Tensor2D;
  const before = tf.memory().numBytes;
  const held = holdInt8(weight);
  assert.equal(tf.memory().numBytes - before, 64 * 128 + 64 * 4);
  const most = tf.max(tf.div(tf.abs(tf.sub(weight, releaseInt8(held))), tf.reshape(held.scale, [64, 1])));
  const scales = most.dataSync()[0]!;
  assert.ok(scales <= 0.5 + 1e-5 && scales > 0.49, `${scales}`);
});

// About a panel's 16 or 32 columns, the 512 that are wide together, and the 448 rows up to which threads part columns.
const SHAPES = [
  [1, 64, 96],
  [8, 16, 1],
  [15, 5, 7],
  [17, 33, 65],
  [257, 96, 31],
  [450, 1030, 65],
  [1100, 33, 1030],
] as const;

for (const [rows, features, outputs] of SHAPES) {
  test(`an int8 weight [${outputs}, ${features}] multiplies ${rows} rows and their gradient, in either precision`, () => {
    const held = holdInt8(randn(2, [outputs, features]) as tf.Tensor2D);
    const wide = releaseInt8(held);
    const [x, bias, dy] = [randn(1, [rows, features]), randn(3, [outputs]), randn(4, [rows, outputs])];
    const expected = tf.add(tf.matMul(x as tf.Tensor2D, wide, false, true), bias);
    const dx = tf.matMul(dy as tf.Tensor2D, wide);
    const run = () => [
      linear(x, held, bias),
      tf.grad((a: tf.Tensor) => linear(a, held, bias))(x, dy),
      linear(x, held, null),
    ];
    const [y, gradient, plain] = run();
    assert.ok(distance(expected, y!) < 2e-6, `y: ${distance(expected, y!)}`);
    assert.ok(distance(dx, gradient!) < 2e-6, `dx: ${distance(dx, gradient!)}`);
    assert.ok(distance(expected, tf.add(plain!, bias)) < 2e-6);
    const [yRounded, gradientRounded] = withPrecision("bfloat16", run);
    // Without instructions for bfloat16 nothing is rounded.
    const most = engine.bfloat16 ? 8e-3 : 2e-6;
    assert.ok(distance(expected, yRounded!) < most, `${distance(expected, yRounded!)}`);
    assert.ok(distance(dx, gradientRounded!) < most, `${distance(dx, gradientRounded!)}`);
    const three = linear(tf.reshape(x, [1, rows, features]), held, null);
    assert.deepEqual(three.shape, [1, rows, outputs]);
    assert.throws(() => linear(randn(1, [2, features + 1]), held, null), /expected \d+ features/);
  });
}

test("a LoRA on an int8 weight has its gradients, and the base none", () => {
  const held = holdInt8(randn(2, [40, 48]) as tf.Tensor2D);
  const wide = tf.variable(releaseInt8(held));
  const [x, a, b] = [randn(1, [70, 48]), randn(3, [8, 48]), randn(4, [40, 8])];
  const dy = randn(5, [70, 40]);
  const gradients = (layer: { weight: typeof held | tf.Tensor2D; inOut: boolean }) =>
    tf.grads((...[x, a, b]) => adaptedLinear(x!, layer, a as tf.Tensor2D, b as tf.Tensor2D, 0.5))(
      [x, a, b],
      dy,
    );
  const expected = gradients({ weight: wide as tf.Tensor2D, inOut: false });
  for (const [i, gradient] of gradients({ weight: held, inOut: true }).entries())
    assert.ok(distance(expected[i]!, gradient) < 2e-6, `${i}: ${distance(expected[i]!, gradient)}`);
});
