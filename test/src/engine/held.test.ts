import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { before, test } from "node:test";
import { type Engine, useEngine } from "../../../src/engine/index.js";
import { causalConv3d } from "../../../src/engine/ops/conv/conv.js";
import { heldConv3d } from "../../../src/engine/ops/conv/held-conv.js";
import {
  holdKernel,
  holdWeight,
  releaseKernel,
  releaseWeight,
  roundToBfloat16,
  widenBfloat16,
} from "../../../src/engine/ops/linear/held.js";
import { linear } from "../../../src/engine/ops/linear/linear.js";
import { adaptedLinear, addLowRank } from "../../../src/engine/ops/low-rank/low-rank.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { distance, randn, rounded } from "./rounded.js";

let engine: Engine;
before(async () => {
  engine = await useEngine("tensorflow");
});

// About the tiles' 16 and 32, the pieces' 256 and 1,024, and the 448 rows up to which threads part columns.
const SHAPES = [
  [1, 64, 96],
  [8, 16, 1],
  [15, 5, 7],
  [17, 33, 65],
  [40, 100, 70],
  [257, 96, 31],
  [450, 1030, 65],
  [1100, 33, 520],
] as const;

for (const [rows, features, outputs] of SHAPES) {
  test(`a held weight [${outputs}, ${features}] is the rounded one, and multiplies ${rows} rows and their gradient`, () => {
    const weight = randn(2, [outputs, features]) as tf.Tensor2D;
    const held = holdWeight(weight);
    assert.equal(distance(rounded(weight), releaseWeight(held)), 0);
    const [x, bias, dy] = [randn(1, [rows, features]), randn(3, [outputs]), randn(4, [rows, outputs])];
    const factor = (a: tf.Tensor) => (engine.bfloat16 ? rounded(a) : a) as tf.Tensor2D;
    const expected = tf.add(tf.matMul(factor(x), rounded(weight), false, true), bias);
    const [y, gradient] = [linear(x, held, bias), tf.grad((a: tf.Tensor) => linear(a, held, bias))(x, dy)];
    assert.ok(distance(expected, y) < 2e-6, `y: ${distance(expected, y)}`);
    const dx = tf.matMul(factor(dy), rounded(weight));
    assert.ok(distance(dx, gradient) < 2e-6, `dx: ${distance(dx, gradient)}`);
    const three = linear(tf.reshape(x, [1, rows, features]), held, null);
    assert.deepEqual(three.shape, [1, rows, outputs]);
    assert.throws(() => linear(randn(1, [2, features + 1]), held, null), /expected \d+ features/);
  });
}

test("held weights and kernels take two bytes a number, and large ones lose nothing to the panels", () => {
  const weight = randn(1, [512, 1024]) as tf.Tensor2D;
  const kernel = randn(1, [3, 3, 3, 64, 96]) as tf.Tensor5D;
  const before = tf.memory().numBytes;
  const [a, b] = [holdWeight(weight), holdKernel(kernel)];
  assert.equal(tf.memory().numBytes - before, 2 * (weight.size + kernel.size));
  assert.equal(distance(rounded(kernel), releaseKernel(b)), 0);
  tf.dispose([a.held, b.held]);
});

test("a convolution with a held kernel has the gradient of the one in float32", () => {
  const [kernel, bias] = [randn(1, [3, 3, 3, 16, 24]) as tf.Tensor5D, randn(2, [24]) as tf.Tensor1D];
  const [history, x] = [randn(3, [2, 6, 8, 16]), randn(4, [3, 6, 8, 16])] as [tf.Tensor4D, tf.Tensor4D];
  const [held, dy] = [holdKernel(kernel), randn(5, [3, 6, 8, 24])];
  for (const options of [{ batch: 1 }, { batch: 1, history }]) {
    const mine = (x: tf.Tensor) => heldConv3d(x as tf.Tensor4D, held, bias, options);
    const exact = (x: tf.Tensor) => causalConv3d(x as tf.Tensor4D, releaseKernel(held), bias, options);
    assert.ok(distance(exact(x), mine(x)) < 5e-3);
    const [found, expected] = [tf.grad(mine)(x, dy), tf.grad(exact)(x, dy)];
    assert.ok(distance(expected, found) < 1e-6, `${distance(expected, found)}`);
  }
});

test("numbers are rounded to nearest, ties to even, at every size of exponent", () => {
  const generator = new RandomGenerator(5);
  const values = Float32Array.from({ length: 4096 }, (_, i) => {
    const size = 2 ** ((i % 250) - 125);
    return i % 3 === 0
      ? size * (1 + 2 ** -8)
      : i % 3 === 1
        ? -size * (1 + 3 * 2 ** -8)
        : generator.normal(0, size);
  });
  const x = tf.tensor(values, [64, 64]);
  const kept = roundToBfloat16(x);
  assert.deepEqual(kept.shape, [64, 32]);
  assert.deepEqual(widenBfloat16(kept).dataSync(), rounded(x).dataSync());
});

test("a LoRA on a held weight has the low-rank update's output and gradients", () => {
  const [x, weight] = [randn(1, [70, 48]), randn(2, [40, 48]) as tf.Tensor2D];
  const [a, b] = [randn(3, [8, 48]) as tf.Tensor2D, randn(4, [40, 8]) as tf.Tensor2D];
  const layer = { weight: holdWeight(weight), bias: null, inOut: true };
  const mine = (...[x, a, b]: tf.Tensor[]) =>
    adaptedLinear(x!, layer, a as tf.Tensor2D, b as tf.Tensor2D, 0.5);
  const reference = (...[x, a, b]: tf.Tensor[]) =>
    addLowRank(
      tf.matMul(x as tf.Tensor2D, rounded(weight), false, true),
      x!,
      a as tf.Tensor2D,
      b as tf.Tensor2D,
      0.5,
    );
  assert.ok(distance(reference(x, a, b), mine(x, a, b)) < 5e-3);
  const dy = randn(5, [70, 40]);
  const [found, expected] = [tf.grads(mine)([x, a, b], dy), tf.grads(reference)([x, a, b], dy)];
  for (const [i, gradient] of expected.entries()) {
    assert.ok(distance(gradient, found[i]!) < (engine.bfloat16 ? 5e-3 : 2e-6), `gradient ${i}`);
  }
});

/** What a process with less than this processor has prints. */
const PROGRAM = `
import { useEngine } from "./src/engine/index.js";
import { heldProduct, holdKernel, holdWeight, releaseKernel } from "./src/engine/ops/linear/held.js";
import { heldConv3d } from "./src/engine/ops/conv/held-conv.js";
import { linear } from "./src/engine/ops/linear/linear.js";
import { withPrecision } from "./src/engine/precision.js";
import { causalConv3d } from "./src/engine/ops/conv/conv.js";
import { RandomGenerator } from "./src/engine/random.js";
const engine = await useEngine("tensorflow");
const randn = (seed, shape) => new RandomGenerator(seed).randn(shape);
const [x, weight] = [randn(1, [300, 130]), randn(2, [70, 130])];
const held = holdWeight(weight);
const y = [heldProduct(x, held, null, false), heldProduct(randn(3, [300, 70]), held, null, true)];
y.push(withPrecision("bfloat16", () => linear(x, weight, null)));
const kernel = holdKernel(randn(4, [3, 3, 3, 40, 24]));
const conv = engine.bfloat16 ? (...given) => heldConv3d(...given) : (x, kernel, bias, options) => causalConv3d(x, releaseKernel(kernel), bias, options);
y.push(conv(randn(5, [3, 10, 12, 40]), kernel, randn(6, [24]), { batch: 1 }));
console.log(JSON.stringify({ with: engine.bfloat16, y: y.map((each) => [...each.dataSync()]) }));
`;

test("AMX, AVX512-BF16 and plain arithmetic agree within rounding", () => {
  const run = (most: string) => {
    const env: NodeJS.ProcessEnv = { ...process.env, FIRSTFRAME_BFLOAT16: most };
    delete env.TF_CPP_MIN_LOG_LEVEL; // set here by the engine, for this process only
    const cwd = new URL("../../../", import.meta.url);
    const text = execFileSync(process.execPath, ["--input-type=module", "-e", PROGRAM], {
      ...{ cwd, env },
      maxBuffer: 1e8,
    });
    return JSON.parse(String(text)) as { with: string | null; y: number[][] };
  };
  const [fastest, vectors, plain] = [run(""), run("avx512_bf16"), run("none")];
  assert.equal(fastest.with, engine.bfloat16);
  assert.equal(vectors.with, engine.bfloat16 && "avx512_bf16");
  assert.equal(plain.with, null);
  for (const [i, exact] of plain.y.entries()) {
    const apart = (a: number[], b: number[]) => distance(tf.tensor1d(a), tf.tensor1d(b));
    // Here only the order of the sums differs, and what is below float32's normal numbers.
    assert.ok(apart(fastest.y[i]!, vectors.y[i]!) < 1e-6, `${i}: ${apart(fastest.y[i]!, vectors.y[i]!)}`);
    // Here the other factor is rounded, or not.
    const rough = apart(exact, vectors.y[i]!);
    assert.ok(engine.bfloat16 ? rough > 0 && rough < 5e-3 : rough === 0, `${i}: ${rough}`);
  }
});
