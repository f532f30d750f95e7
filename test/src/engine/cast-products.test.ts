/**
 * How CUDA multiplies in bfloat16 and holds weights, on TensorFlow's own operations, which the processor has as well: without the
 * fused operations, which CUDA has none of.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { castProducts } from "../../../src/engine/backends/cast-products.js";
import { describeTf32 } from "../../../src/engine/backends/tensorflow.js";
import { cacheDirectory } from "../../../src/engine/cache.js";
import { useEngine } from "../../../src/engine/index.js";
import { multiHeadAttention } from "../../../src/engine/ops/attention/attention.js";
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
import { holdInt8, releaseInt8 } from "../../../src/engine/ops/linear/int8.js";
import { linear } from "../../../src/engine/ops/linear/linear.js";
import { withPrecision } from "../../../src/engine/precision.js";
import { setCurrentEngine } from "../../../src/engine/running.js";
import * as tf from "../../../src/engine/tf.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import type { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import { tinyModels } from "../train/tiny.js";
import { distance, randn, rounded } from "./rounded.js";

let cache: string;
before(async () => {
  cache = mkdtempSync(join(tmpdir(), "firstframe-cast-"));
  withoutOperations(cacheDirectory(), join(cache, "firstframe"));
  process.env.XDG_CACHE_HOME = cache;
  const lines: string[] = [];
  const engine = await useEngine("tensorflow", { log: (line) => lines.push(line) });
  assert.doesNotMatch(engine.version, /fused/);
  assert.deepEqual(lines, []);
  castProducts();
  setCurrentEngine({ ...engine, bfloat16: "cuda" });
});
after(() => rmSync(cache, { recursive: true, force: true }));

/** Links to all that is installed but the fused operations. */
function withoutOperations(from: string, to: string): void {
  mkdirSync(to);
  for (const each of readdirSync(from)) {
    if (!each.startsWith("tensorflow-")) symlinkSync(join(from, each), join(to, each));
    else {
      mkdirSync(join(to, each));
      for (const part of readdirSync(join(from, each)))
        if (!part.includes("-operations-")) symlinkSync(join(from, each, part), join(to, each, part));
    }
  }
}

const inBfloat16 = <T>(run: () => T): T => withPrecision("bfloat16", run);

/** Fails unless `found` is `expected` rounded to bfloat16, as far as the processor's sums are those of float32. */
function assertRounded(expected: tf.Tensor, found: tf.Tensor, what: string, most = 6e-3): void {
  assert.deepEqual(found.shape, expected.shape, what);
  assert.ok(distance(expected, found) < most, `${what}: ${distance(expected, found)}`);
  assert.deepEqual(rounded(found).dataSync(), found.dataSync(), `${what} is not rounded`);
}

test("products, convolutions and their gradients are those of rounded factors", () => {
  const [a, b] = [randn(1, [3, 40, 70]), randn(2, [3, 70, 33])] as [tf.Tensor3D, tf.Tensor3D];
  const exact = tf.matMul(rounded(a), rounded(b));
  assertRounded(
    exact,
    inBfloat16(() => tf.matMul(a, b)),
    "product",
  );
  assert.ok(distance(tf.matMul(a, b), tf.matMul(a, b)) === 0);
  assert.ok(distance(exact, tf.matMul(a, b)) > 1e-4, "outside it is float32");
  const [x, kernel, dy] = [randn(3, [2, 9, 8, 5]), randn(4, [3, 3, 5, 6]), randn(5, [2, 9, 8, 6])] as [
    tf.Tensor4D,
    tf.Tensor4D,
    tf.Tensor4D,
  ];
  const conv = (x: tf.Tensor, kernel: tf.Tensor) =>
    tf.conv2d(x as tf.Tensor4D, kernel as tf.Tensor4D, 1, "same");
  assertRounded(
    conv(rounded(x), rounded(kernel)),
    inBfloat16(() => conv(x, kernel)),
    "convolution",
  );
  const gradients = (...[x, kernel, dy]: tf.Tensor[]) => tf.grads(conv)([x!, kernel!], dy);
  const found = inBfloat16(() => gradients(x, kernel, dy));
  // The processor adds up a kernel's gradient in bfloat16.
  for (const [i, gradient] of gradients(rounded(x), rounded(kernel), rounded(dy)).entries())
    assertRounded(gradient, found[i]!, `the convolution's gradient ${i}`, 0.02);
});

// Odd and even numbers of numbers.
for (const [rows, features, outputs] of [
  [1, 64, 96],
  [8, 16, 1],
  [15, 5, 7],
  [17, 33, 65],
  [40, 100, 70],
] as const) {
  test(`weights [${outputs}, ${features}] that are held as bfloat16 and int8 multiply ${rows} rows and their gradient`, () => {
    const weight = randn(2, [outputs, features]) as tf.Tensor2D;
    const [held, int8] = [holdWeight(weight), holdInt8(weight)];
    assert.equal(distance(rounded(weight), releaseWeight(held)), 0);
    const [x, dy] = [randn(1, [rows, features]), randn(4, [rows, outputs])] as [tf.Tensor2D, tf.Tensor2D];
    const bias = randn(3, [outputs]);
    const run = (weight: typeof held | typeof int8) => [
      linear(x, weight, null),
      tf.grad((a: tf.Tensor) => linear(a, weight, bias))(x, dy),
    ];
    const [y, dx] = run(held);
    assertRounded(tf.matMul(rounded(x), rounded(weight), false, true), y!, "y");
    assertRounded(tf.matMul(rounded(dy), rounded(weight)), dx!, "dx");
    assert.equal(distance(tf.add(y!, bias), linear(x, held, bias)), 0);
    const three = linear(tf.reshape(x, [1, rows, features]), held, bias);
    assert.deepEqual(three.shape, [1, rows, outputs]);

    const wide = releaseInt8(int8);
    const step = tf.div(tf.max(tf.abs(weight), 1, true), 127);
    const units = tf.div(wide, step).dataSync();
    assert.ok(
      units.every((unit) => Math.abs(unit - Math.round(unit)) < 1e-4),
      "whole numbers",
    );
    assert.ok(tf.max(tf.div(tf.abs(tf.sub(weight, wide)), step)).dataSync()[0]! <= 0.5 + 1e-5);
    const [y8, dx8] = run(int8);
    assert.ok(distance(tf.matMul(x, wide, false, true), y8!) < 1e-6);
    assert.ok(distance(tf.matMul(dy, wide), dx8!) < 1e-6);
    for (const [i, each] of inBfloat16(() => run(int8)).entries())
      assert.ok(distance([y8!, dx8!][i]!, each) < 8e-3 && distance([y8!, dx8!][i]!, each) > 0);
  });
}

test("held numbers take two bytes each, int8 ones one; kernels convolve", () => {
  const weight = randn(1, [64, 96]) as tf.Tensor2D;
  const kernel = randn(1, [3, 3, 3, 16, 24]) as tf.Tensor5D;
  const before = tf.memory().numBytes;
  const [a, b, c] = [holdWeight(weight), holdKernel(kernel), holdInt8(weight)];
  assert.equal(tf.memory().numBytes - before, 2 * (weight.size + kernel.size) + weight.size + 4 * 64);
  assert.equal(distance(rounded(kernel), releaseKernel(b)), 0);
  tf.dispose([a.held, c.held, c.scale]);
  const [x, history, bias] = [randn(4, [3, 6, 8, 16]), randn(3, [2, 6, 8, 16]), randn(2, [24])] as [
    tf.Tensor4D,
    tf.Tensor4D,
    tf.Tensor1D,
  ];
  const mine = inBfloat16(() => heldConv3d(x, b, bias, { batch: 1, history }));
  const apart = distance(causalConv3d(x, kernel, bias, { batch: 1, history }), mine);
  assert.ok(apart > 1e-4 && apart < 8e-3, `${apart}`);
  const values = Float32Array.from({ length: 64 }, (_, i) => 2 ** (i - 30) * (1 + 2 ** -8));
  const numbers = tf.tensor(values, [4, 16]);
  assert.deepEqual(widenBfloat16(roundToBfloat16(numbers)).dataSync(), rounded(numbers).dataSync());
});

test("attention and its gradients", () => {
  const [q, k, v, dy] = [1, 2, 3, 4].map((seed) => randn(seed, [2, 100, 48]) as tf.Tensor3D);
  const attend = (...[q, k, v]: tf.Tensor[]) =>
    multiHeadAttention(q as tf.Tensor3D, k as tf.Tensor3D, v as tf.Tensor3D, 2);
  const all = () => [attend(q!, k!, v!), ...tf.grads(attend)([q!, k!, v!], dy!)];
  const exact = all();
  for (const [i, rough] of inBfloat16(all).entries()) {
    const apart = distance(exact[i]!, rough);
    assert.ok(apart > 0 && apart < 0.02, `${i}: ${apart}`);
  }
});

test("models in bfloat16 and int8 compute nearly the same, in half the memory, and leave nothing behind", async () => {
  const folder = join(cache, "transformer");
  const exact = tinyModels().transformer;
  await exact.savePretrained(folder);
  const run = (model: CogVideoXTransformer3DModel) =>
    model.forward({
      hiddenStates: randn(1, [2, 4, 8, 4, 6]) as tf.Tensor5D,
      encoderHiddenStates: randn(2, [2, 4, 12]) as tf.Tensor3D,
      timestep: [10, 900],
      ofs: 2,
    }).sample;
  for (const [options, most] of [
    [{ dtype: "bfloat16" }, 0.03],
    [{ dtype: "bfloat16", quantization: "int8" }, 0.05],
  ] as const) {
    const before = tf.memory().numBytes;
    const model = await CogVideoXTransformer3DModel.fromPretrained(folder, options);
    assert.ok(tf.memory().numBytes - before < 0.55 * 4 * model.numParameters());
    const tensors = tf.memory().numTensors;
    tf.tidy(() => {
      const apart = distance(run(exact), run(model));
      assert.ok(apart > 0 && apart < most, `${apart}`);
    });
    assert.equal(tf.memory().numTensors, tensors);
    model.dispose();
  }
  const { vae } = tinyModels() as { vae: AutoencoderKLCogVideoX };
  const film = randn(3, [1, 3, 5, 16, 24]) as tf.Tensor5D;
  const [float32, rough] = [vae.forward(film).sample, inBfloat16(() => vae.forward(film).sample)];
  assert.ok(distance(float32, rough) > 0 && distance(float32, rough) < 0.03, `${distance(float32, rough)}`);
});

test("what is cast on the way is freed", () => {
  const [a, held] = [randn(1, [512, 512]) as tf.Tensor2D, holdWeight(randn(2, [512, 512]) as tf.Tensor2D)];
  const work = (times: number) => {
    for (let i = 0; i < times; i++)
      tf.tidy(() => {
        inBfloat16(() => [tf.matMul(a, a), linear(a, held, null), releaseWeight(held)]);
      });
  };
  work(20);
  const before = process.memoryUsage().rss;
  work(200);
  // Each round casts more than 3 MB.
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  assert.ok(grown < 300, `${grown} MB more`);
});

test("what CUDA does with float32 is said", () => {
  assert.deepEqual(["0", "1", undefined].map(describeTf32), ["TF32 off", "TF32 on", "TF32 on"]);
});
