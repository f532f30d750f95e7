import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { attentionBlocks, multiHeadAttention } from "../../../src/engine/ops/attention/attention.js";
import { gatedResidual } from "../../../src/engine/ops/gated-residual/gated-residual.js";
import { geluTanh } from "../../../src/engine/ops/gelu/gelu.js";
import { headNorm } from "../../../src/engine/ops/head-norm/head-norm.js";
import { layerNorm } from "../../../src/engine/ops/layer-norm/layer-norm.js";
import { linear } from "../../../src/engine/ops/linear/linear.js";
import { adaptedLinear, addLowRank } from "../../../src/engine/ops/low-rank/low-rank.js";
import { modulatedNorm } from "../../../src/engine/ops/modulated-norm/modulated-norm.js";
import { signedRotaryTables } from "../../../src/engine/ops/rotary/rotary.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { agree } from "./agree.js";
import { attend } from "./attend.js";

// Each operation is compared with its definition in plain tensor operations: values, and gradients for every input.

const generator = new RandomGenerator(11);
const randn = <R extends tf.Rank>(...shape: tf.ShapeMap[R]) => generator.randn<R>(shape);

before(async () => {
  await useEngine("cpu");
});

let tensorsBefore = 0;
before(() => {
  tensorsBefore = tf.memory().numTensors;
});
after(() => assert.equal(tf.memory().numTensors, tensorsBefore));

test("gelu (tanh)", () => {
  agree(
    generator,
    { x: tf.tidy(() => tf.mul(randn<tf.Rank.R2>(40, 7), 2)) },
    (x) => geluTanh(x!),
    (x) => {
      const inner = tf.mul(tf.add(x!, tf.mul(tf.pow(x!, 3), 0.044715)), Math.sqrt(2 / Math.PI));
      return tf.mul(tf.mul(x!, 0.5), tf.add(tf.tanh(inner), 1));
    },
  );
});

const plainNorm = (x: tf.Tensor, eps: number) => {
  const { mean, variance } = tf.moments(x, -1, true);
  return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, eps)));
};

for (const [batch, values] of [
  [2, 2],
  [3, 1],
] as const) {
  test(`layer norm with modulation: ${batch} samples, ${values} scales a segment`, () => {
    agree(
      generator,
      {
        x: randn<tf.Rank.R3>(batch, 5, 6),
        scale: randn<tf.Rank.R3>(values, 2, 6),
        shift: randn<tf.Rank.R3>(values, 2, 6),
      },
      (x, scale, shift) =>
        layerNorm(x as tf.Tensor3D, scale as tf.Tensor3D, shift as tf.Tensor3D, {
          eps: 1e-5,
          lengths: [2, 3],
        }),
      (x, scale, shift) => {
        const rows = tf.tensor1d([0, 0, 1, 1, 1], "int32");
        return tf.add(tf.mul(plainNorm(x!, 1e-5), tf.gather(scale!, rows, 1)), tf.gather(shift!, rows, 1));
      },
    );
  });
}

test("layer norm with one segment is PyTorch's", () => {
  agree(
    generator,
    { x: randn<tf.Rank.R3>(2, 5, 6), weight: randn<tf.Rank.R3>(1, 1, 6), bias: randn<tf.Rank.R3>(1, 1, 6) },
    (x, w, b) => layerNorm(x as tf.Tensor3D, w as tf.Tensor3D, b as tf.Tensor3D, { eps: 1e-6, lengths: [5] }),
    (x, w, b) => tf.add(tf.mul(plainNorm(x!, 1e-6), w!), b!),
  );
});

test("a frozen layer with a low-rank update is the layer and the update", () => {
  for (const inOut of [true, false]) {
    for (const withBias of [true, false]) {
      const weight = tf.tidy(() => tf.variable(inOut ? randn(6, 7) : randn(7, 6), false));
      const bias = withBias ? randn<tf.Rank.R1>(7) : null;
      agree(
        generator,
        { x: randn<tf.Rank.R3>(2, 5, 6), a: randn<tf.Rank.R2>(3, 6), b: randn<tf.Rank.R2>(7, 3) },
        (x, a, b) => {
          return adaptedLinear(x!, { weight, bias, inOut }, a as tf.Tensor2D, b as tf.Tensor2D, 0.7);
        },
        (x, a, b) => {
          const update = tf.mul(tf.dot(tf.transpose(a!), tf.transpose(b!)), 0.7);
          const whole = tf.add(inOut ? weight : tf.transpose(weight), update);
          const y = tf.reshape(tf.dot(tf.reshape(x!, [10, 6]), whole), [2, 5, 7]);
          return bias ? tf.add(y, bias) : y;
        },
      );
      const wrong = randn<tf.Rank.R2>(2, 5);
      const [a, b] = [randn<tf.Rank.R2>(3, 5), randn<tf.Rank.R2>(7, 3)];
      assert.throws(
        () => adaptedLinear(wrong, { weight, inOut }, a, b, 1),
        /linear: expected 6 features, found a tensor of shape \[2,5\]/,
      );
      tf.dispose([weight, wrong, a, b, ...(bias ? [bias] : [])]);
    }
  }
});

test("a low-rank update", () => {
  agree(
    generator,
    {
      y: randn<tf.Rank.R3>(2, 5, 7),
      x: randn<tf.Rank.R3>(2, 5, 6),
      a: randn<tf.Rank.R2>(3, 6),
      b: randn<tf.Rank.R2>(7, 3),
    },
    (y, x, a, b) => addLowRank(y!, x!, a as tf.Tensor2D, b as tf.Tensor2D, 0.7),
    (y, x, a, b) => {
      const weight = tf.dot(tf.transpose(a!), tf.transpose(b!));
      return tf.add(y!, tf.mul(tf.reshape(tf.dot(tf.reshape(x!, [10, 6]), weight), y!.shape), 0.7));
    },
  );
});

/** One chunk of a modulation for each token of segments of two and three. */
const chunkOf = (modulation: tf.Tensor, features: number, [first, second]: [number, number]) =>
  tf.gather(
    tf.reshape(modulation, [modulation.shape[0]!, -1, features]),
    tf.tensor1d([first, first, second, second, second], "int32"),
    1,
  );

for (const trained of [true, false]) {
  test(`modulated norm, gradients of its parameters ${trained ? "together" : "each for itself"}`, () => {
    agree(
      generator,
      {
        x: randn<tf.Rank.R3>(2, 5, 6),
        modulation: randn<tf.Rank.R2>(2, 24),
        weight: randn<tf.Rank.R1>(6),
        bias: randn<tf.Rank.R1>(6),
      },
      (x, modulation, weight, bias) =>
        modulatedNorm(
          x as tf.Tensor3D,
          modulation as tf.Tensor2D,
          weight as tf.Tensor1D,
          bias as tf.Tensor1D,
          { eps: 1e-5, lengths: [2, 3], chunks: [2, 0], trained },
        ),
      (x, modulation, weight, bias) => {
        const normal = tf.add(tf.mul(plainNorm(x!, 1e-5), weight!), bias!);
        const factor = tf.add(chunkOf(modulation!, 6, [3, 1]), 1);
        return tf.add(tf.mul(normal, factor), chunkOf(modulation!, 6, [2, 0]));
      },
    );
  });
}

test("gated residual", () => {
  agree(
    generator,
    {
      x: randn<tf.Rank.R3>(2, 5, 6),
      branch: randn<tf.Rank.R3>(2, 5, 6),
      modulation: randn<tf.Rank.R2>(2, 24),
    },
    (x, branch, modulation) =>
      gatedResidual(x as tf.Tensor3D, branch as tf.Tensor3D, modulation as tf.Tensor2D, {
        lengths: [2, 3],
        chunks: [3, 1],
      }),
    (x, branch, modulation) => tf.add(x!, tf.mul(branch!, chunkOf(modulation!, 6, [3, 1]))),
  );
});

for (const inOut of [false, true]) {
  test(`linear, weight ${inOut ? "[in, out]" : "[out, in]"}`, () => {
    const weight = inOut ? randn<tf.Rank.R2>(6, 4) : randn<tf.Rank.R2>(4, 6);
    agree(
      generator,
      { x: randn<tf.Rank.R3>(2, 5, 6), weight, bias: randn<tf.Rank.R1>(4) },
      (x, w, b) => linear(x!, w as tf.Tensor2D, b as tf.Tensor1D, { inOut }),
      (x, w, b) =>
        tf.add(tf.reshape(tf.dot(tf.reshape(x!, [10, 6]), inOut ? w! : tf.transpose(w!)), [2, 5, 4]), b!),
    );
  });
}

test("a frozen linear layer passes the gradient on to its input", () => {
  const weight = randn<tf.Rank.R2>(4, 6);
  agree(
    generator,
    { x: randn<tf.Rank.R3>(2, 5, 6) },
    (x) => linear(x!, weight, null, { frozen: true }),
    (x) => tf.reshape(tf.dot(tf.reshape(x!, [10, 6]), tf.transpose(weight)), [2, 5, 4]),
  );
  const before = tf.memory().numTensors;
  const x = randn<tf.Rank.R2>(3, 5);
  assert.throws(
    () => linear(x, weight, null),
    /linear: expected 6 features, found a tensor of shape \[3,5\]/,
  );
  tf.dispose(x);
  assert.equal(tf.memory().numTensors, before);
  weight.dispose();
});

test("the norm of heads; rotary positions turn pairs of the video tokens, not the text", () => {
  const [text, video, features] = [2, 3, 8];
  const angles = tf.tidy(() =>
    tf.reshape(
      tf.tile(tf.reshape(randn<tf.Rank.R2>(video, features / 2), [video, features / 2, 1]), [1, 1, 2]),
      [video, features],
    ),
  );
  const [cos, sin] = [tf.cos(angles) as tf.Tensor2D, tf.sin(angles) as tf.Tensor2D];
  const tables = signedRotaryTables({ cos, sin }, { textTokens: text, videoTokens: video, features });
  const turned = (x: tf.Tensor) => {
    const [textPart, videoPart] = tf.split(x, [text, video], 2);
    const pairs = tf.reshape(videoPart!, [2, 3, video, features / 2, 2]);
    const [even, odd] = tf.unstack(pairs, -1);
    const quarter = tf.reshape(tf.stack([tf.neg(odd!), even!], -1), videoPart!.shape);
    return tf.concat([textPart!, tf.add(tf.mul(videoPart!, cos), tf.mul(quarter, sin))], 2);
  };
  for (const rotary of [tables, null]) {
    for (const trained of [true, false]) {
      agree(
        generator,
        {
          x: randn<tf.Rank.R3>(2, text + video, 3 * features),
          weight: randn<tf.Rank.R1>(features),
          bias: randn<tf.Rank.R1>(features),
        },
        (x, weight, bias) =>
          headNorm(x as tf.Tensor3D, weight as tf.Tensor1D, bias as tf.Tensor1D, rotary, {
            eps: 1e-6,
            trained,
          }),
        (x, weight, bias) => {
          const apart = tf.reshape(x!, [2, text + video, 3, features]);
          const normal = tf.add(tf.mul(plainNorm(apart, 1e-6), weight!), bias!);
          const byHead = tf.transpose(normal, [0, 2, 1, 3]);
          const placed = rotary ? turned(byHead) : byHead;
          return tf.reshape(tf.transpose(placed, [0, 2, 1, 3]), x!.shape);
        },
      );
    }
  }
  assert.throws(
    () => signedRotaryTables({ cos, sin }, { textTokens: 0, videoTokens: 4, features }),
    /rotary table cos: expected \[4, 8\] \(video tokens, head dimension\), found \[3,8\]/,
  );
  tf.dispose([angles, cos, sin, tables.cos, tables.sin]);
});

const plainAttention = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) =>
  tf.matMul(tf.softmax(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(q.shape[3]!))), v);

test("attention of one block", () => {
  agree(
    generator,
    { q: randn<tf.Rank.R4>(2, 3, 5, 4), k: randn<tf.Rank.R4>(2, 3, 7, 4), v: randn<tf.Rank.R4>(2, 3, 7, 4) },
    (q, k, v) => attend(q!, k!, v!),
    (q, k, v) => plainAttention(q!, k!, v!),
  );
});

test("attention of packed heads", () => {
  const apart = (x: tf.Tensor) => tf.transpose(tf.reshape(x, [2, -1, 3, 4]), [0, 2, 1, 3]);
  agree(
    generator,
    { q: randn<tf.Rank.R3>(2, 5, 12), k: randn<tf.Rank.R3>(2, 7, 12), v: randn<tf.Rank.R3>(2, 7, 12) },
    (q, k, v) => multiHeadAttention(q as tf.Tensor3D, k as tf.Tensor3D, v as tf.Tensor3D, 3),
    (q, k, v) =>
      tf.reshape(tf.transpose(plainAttention(apart(q!), apart(k!), apart(v!)), [0, 2, 1, 3]), [2, 5, 12]),
  );
});

for (const [maxScores, rows, heads] of [
  [7000, 67, 1],
  [2 ** 14, 100, 1],
  [50_000, 200, 2],
] as const) {
  test(`attention in blocks of ${heads} of 3 heads and ${rows} of 200 queries`, () => {
    assert.deepEqual(attentionBlocks(3, 200, 100, maxScores), { rows, heads });
    agree(
      generator,
      {
        q: randn<tf.Rank.R4>(1, 3, 200, 4),
        k: randn<tf.Rank.R4>(1, 3, 100, 4),
        v: randn<tf.Rank.R4>(1, 3, 100, 4),
      },
      (q, k, v) => attend(q!, k!, v!, { maxScores }),
      (q, k, v) => plainAttention(q!, k!, v!),
    );
  });
}

test("no block of scores exceeds its limit, but for 64 queries of one head", () => {
  for (const [heads, queries, keys] of [
    [48, 45106, 45106],
    [8, 1600, 1600],
    [1, 10, 10],
    [2, 300, 50000],
  ] as const) {
    const limit = 2 ** 21;
    const block = attentionBlocks(heads, queries, keys, limit);
    assert.ok(block.heads * block.rows * keys <= Math.max(limit, 64 * keys), JSON.stringify(block));
    assert.ok(block.heads >= 1 && block.rows >= 1);
  }
});
