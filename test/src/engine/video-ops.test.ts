import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { causalConv3d, downsample2d, historyAfter, upsample2d } from "../../../src/engine/ops/conv/conv.js";
import { groupNorm } from "../../../src/engine/ops/group-norm/group-norm.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { agree, close } from "./agree.js";

// Each operation is compared with its definition in plain tensor operations: values, and gradients for every input.

const generator = new RandomGenerator(12);
const randn = <R extends tf.Rank>(...shape: tf.ShapeMap[R]) => generator.randn<R>(shape);

let tensorsBefore = 0;
before(async () => {
  await useEngine();
  tensorsBefore = tf.memory().numTensors;
});
after(() => assert.equal(tf.memory().numTensors, tensorsBefore));

/**
 * The definition: with the history in front and zeros around each frame, the sum over the kernel's places of the pixels
 * there times the kernel. (tf.conv3d would not do: its gradient is wrong on wasm.)
 */
function plainCausalConv(
  x: tf.Tensor,
  kernel: tf.Tensor,
  bias: tf.Tensor,
  batch: number,
  history?: tf.Tensor,
): tf.Tensor {
  const [times, size, , channels, outputs] = kernel.shape as [number, number, number, number, number];
  const [rows, height, width] = x.shape as [number, number, number];
  const first = tf.slice(x, [0], [batch]);
  const before = history ? [history] : Array.from({ length: times - 1 }, () => first);
  const edge = (size - 1) / 2;
  const padded = tf.pad(tf.concat([...before, x]), [
    [0, 0],
    [edge, edge],
    [edge, edge],
    [0, 0],
  ]);
  let y: tf.Tensor = tf.reshape(bias, [1, outputs]);
  for (let t = 0; t < times; t++)
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++) {
        const pixels = tf.reshape(tf.slice(padded, [t * batch, i, j], [rows, height, width]), [-1, channels]);
        const weights = tf.reshape(tf.slice(kernel, [t, i, j], [1, 1, 1]), [channels, outputs]);
        y = tf.add(y, tf.matMul(pixels, weights));
      }
  return tf.reshape(y, [rows, height, width, outputs]);
}

for (const [frames, batch, size, withHistory] of [
  [1, 1, 3, false],
  [1, 2, 3, false],
  [1, 2, 3, true],
  [2, 1, 3, false],
  [5, 2, 3, false],
  [4, 2, 3, true],
  [3, 1, 1, true],
] as const)
  test(`causal convolution of size ${size}: ${frames} frames, batch ${batch}, ${withHistory ? "a" : "no"} history`, () => {
    agree(
      generator,
      {
        x: randn<tf.Rank.R4>(frames * batch, 4, 5, 3),
        kernel: randn<tf.Rank.R5>(3, size, size, 3, 2),
        bias: randn<tf.Rank.R1>(2),
        ...(withHistory ? { history: randn<tf.Rank.R4>(2 * batch, 4, 5, 3) } : {}),
      },
      (x, kernel, bias, history) =>
        causalConv3d(x as tf.Tensor4D, kernel as tf.Tensor5D, bias as tf.Tensor1D, {
          batch,
          history: history as tf.Tensor4D,
        }),
      (x, kernel, bias, history) => plainCausalConv(x!, kernel!, bias!, batch, history),
    );
  });

test("a causal convolution over groups of frames, each with the history the last one left, is one over all", () => {
  const batch = 2;
  for (const groups of [
    [3, 2, 2],
    [1, 1, 1, 4],
    [2, 1, 2],
  ]) {
    const frames = groups.reduce((sum, n) => sum + n, 0);
    tf.tidy(() => {
      const x = randn<tf.Rank.R4>(frames * batch, 3, 4, 2);
      const kernel = randn<tf.Rank.R5>(3, 3, 3, 2, 3);
      const bias = randn<tf.Rank.R1>(3);
      const parts: tf.Tensor4D[] = [];
      let history: tf.Tensor4D | undefined;
      for (const part of tf.split<tf.Tensor4D>(
        x,
        groups.map((n) => n * batch),
      )) {
        parts.push(causalConv3d(part, kernel, bias, { batch, history }));
        history = historyAfter(part, 2, { batch, history });
      }
      close(tf.concat(parts), causalConv3d(x, kernel, bias, { batch }), groups.join(" + "));
      close(history!, tf.slice(x, [(frames - 2) * batch]), "history");
    });
  }
});

test("the history of a single first frame is that frame twice", () => {
  tf.tidy(() => {
    const x = randn<tf.Rank.R4>(2, 3, 4, 2);
    close(historyAfter(x, 2, { batch: 2 }), tf.concat([x, x]), "history");
  });
});

/** The definition, call by call on [frames, batch, height, width, groups, channels of a group]. */
function plainGroupNorm(
  x: tf.Tensor,
  calls: readonly number[],
  batch: number,
  groups: number,
  eps: number,
): tf.Tensor {
  const [rows, height, width, channels] = x.shape as [number, number, number, number];
  const grouped = tf.reshape(x, [rows / batch, batch, height * width, groups, channels / groups]);
  let start = 0;
  const normal = calls.map((n) => {
    const call = tf.slice(grouped, [start], [n]);
    start += n;
    const mean = tf.mean(call, [0, 2, 4], true);
    const centred = tf.sub(call, mean);
    return tf.div(centred, tf.sqrt(tf.add(tf.mean(tf.square(centred), [0, 2, 4], true), eps)));
  });
  return tf.reshape(tf.concat(normal), [rows, height, width, channels]);
}

const silu = (z: tf.Tensor): tf.Tensor => tf.mul(z, tf.sigmoid(z));

for (const [calls, batch, groups, withSilu] of [
  [[1], 1, 1, false],
  [[3], 2, 2, true],
  [[3, 2, 2], 1, 4, true],
  [[5, 1], 2, 2, false],
] as const)
  test(`group norm: calls of ${calls} frames, batch ${batch}, ${groups} groups${withSilu ? ", SiLU" : ""}`, () => {
    const rows = calls.reduce((sum: number, n) => sum + n, 0) * batch;
    agree(
      generator,
      {
        x: tf.tidy(() => tf.add(tf.mul(randn<tf.Rank.R4>(rows, 3, 5, 8), 3), 2)),
        scale: randn<tf.Rank.R1>(8),
        shift: randn<tf.Rank.R1>(8),
      },
      (x, scale, shift) =>
        groupNorm(x as tf.Tensor4D, scale as tf.Tensor1D, shift as tf.Tensor1D, {
          groups,
          eps: 1e-3,
          batch,
          calls,
          silu: withSilu,
        }),
      (x, scale, shift) => {
        const z = tf.add(tf.mul(plainGroupNorm(x!, calls, batch, groups, 1e-3), scale!), shift!);
        return withSilu ? silu(z) : z;
      },
    );
  });

for (const [enlarge, withSilu] of [
  [1, false],
  [2, true],
  [4, true],
] as const)
  test(`group norm scaled and shifted by maps ${enlarge} times smaller${withSilu ? ", SiLU" : ""}`, () => {
    const [calls, batch, groups] = [[3, 2], 2, 2];
    agree(
      generator,
      {
        x: randn<tf.Rank.R4>(10, 2 * enlarge, 3 * enlarge, 4),
        scale: randn<tf.Rank.R4>(10, 2, 3, 4),
        shift: randn<tf.Rank.R4>(10, 2, 3, 4),
      },
      (x, scale, shift) =>
        groupNorm(x as tf.Tensor4D, scale as tf.Tensor4D, shift as tf.Tensor4D, {
          groups,
          eps: 1e-3,
          batch,
          calls,
          silu: withSilu,
        }),
      (x, scale, shift) => {
        const resize = (map: tf.Tensor) => {
          const [rows, h, w, channels] = map.shape as [number, number, number, number];
          const tiled = tf.mul(
            tf.reshape(map, [rows * h, 1, w, 1, channels]),
            tf.ones([1, enlarge, 1, enlarge, 1]),
          );
          return tf.reshape(tiled, [rows, h * enlarge, w * enlarge, channels]);
        };
        const z = tf.add(
          tf.mul(plainGroupNorm(x!, calls, batch, groups, 1e-3), resize(scale!)),
          resize(shift!),
        );
        return withSilu ? silu(z) : z;
      },
    );
  });

test("group norm holds where the mean is a thousand times the deviation, and on large maps", async () => {
  const x = tf.tidy(() => tf.add<tf.Tensor4D>(randn<tf.Rank.R4>(2, 96, 110, 4), 1000));
  const [scale, shift] = [tf.tensor1d([1, 1, 1, 1]), tf.tensor1d([0, 0, 0, 0])];
  const y = groupNorm(x, scale, shift, {
    groups: 2,
    eps: 0,
    batch: 1,
    calls: [2],
  });
  const values = (await x.data()) as Float32Array;
  for (const group of [0, 1]) {
    let [sum, squares, count] = [0, 0, 0];
    for (let i = 0; i < values.length; i++)
      if (Math.floor((i % 4) / 2) === group) {
        sum += values[i]!;
        squares += (values[i]! - 1000) ** 2;
        count++;
      }
    const mean = sum / count;
    const std = Math.sqrt(squares / count - (mean - 1000) ** 2);
    const mine = (await y.data()) as Float32Array;
    for (let i = 0; i < values.length; i += 997)
      if (Math.floor((i % 4) / 2) === group)
        assert.ok(
          Math.abs(mine[i]! - (values[i]! - mean) / std) < 2e-4,
          `${mine[i]} instead of ${(values[i]! - mean) / std}`,
        );
  }
  tf.dispose([x, y, scale, shift]);
});

test("frames that do not add up to the rows are refused", () => {
  tf.tidy(() => {
    const [x, c] = [tf.zeros<tf.Rank.R4>([4, 2, 2, 2]), tf.zeros<tf.Rank.R1>([2])];
    assert.throws(
      () => groupNorm(x, c, c, { groups: 1, eps: 1, batch: 2, calls: [1, 2] }),
      /4 rows, but 2 samples of 1 \+ 2 frames/,
    );
  });
});

for (const [height, width] of [
  [4, 6],
  [5, 6],
  [7, 3],
] as const)
  test(`downsampling ${height}x${width} pads at the bottom and on the right`, () => {
    agree(
      generator,
      {
        x: randn<tf.Rank.R4>(2, height, width, 3),
        kernel: randn<tf.Rank.R4>(3, 3, 3, 2),
        bias: randn<tf.Rank.R1>(2),
      },
      (x, kernel, bias) => downsample2d(x as tf.Tensor4D, kernel as tf.Tensor4D, bias as tf.Tensor1D),
      (x, kernel, bias) => {
        const padded = tf.pad(x!, [
          [0, 0],
          [0, 1],
          [0, 1],
          [0, 0],
        ]) as tf.Tensor4D;
        return tf.add(tf.conv2d(padded, kernel as tf.Tensor4D, 2, "valid"), bias!);
      },
    );
  });

test("upsampling repeats each pixel, then convolves", () => {
  agree(
    generator,
    { x: randn<tf.Rank.R4>(2, 3, 4, 3), kernel: randn<tf.Rank.R4>(3, 3, 3, 2), bias: randn<tf.Rank.R1>(2) },
    (x, kernel, bias) => upsample2d(x as tf.Tensor4D, kernel as tf.Tensor4D, bias as tf.Tensor1D),
    (x, kernel, bias) => {
      const doubled = tf.mul(tf.reshape(x!, [6, 1, 4, 1, 3]), tf.ones([1, 2, 1, 2, 1]));
      return tf.add(
        tf.conv2d(tf.reshape(doubled, [2, 6, 8, 3]) as tf.Tensor4D, kernel as tf.Tensor4D, 1, "same"),
        bias!,
      );
    },
  );
});
