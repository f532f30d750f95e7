import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Engine, useEngine } from "../../../src/engine/index.js";
import "../../../src/engine/ops/attention/attention.js";
import "../../../src/engine/ops/conv/held-conv.js";
import "../../../src/engine/ops/adam/adam.js";
import "../../../src/engine/ops/gated-residual/gated-residual.js";
import "../../../src/engine/ops/gelu/gelu.js";
import "../../../src/engine/ops/group-norm/group-norm.js";
import "../../../src/engine/ops/head-norm/head-norm.js";
import "../../../src/engine/ops/layer-norm/layer-norm.js";
import { holdKernel } from "../../../src/engine/ops/linear/held.js";
import { holdInt8 } from "../../../src/engine/ops/linear/int8.js";
import "../../../src/engine/ops/linear/linear.js";
import "../../../src/engine/ops/low-rank/low-rank.js";
import "../../../src/engine/ops/modulated-norm/modulated-norm.js";
import { nativeKernels } from "../../../src/engine/ops/operation.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { fromFloat32, toFloat32 } from "../../../src/weights/dtype.js";
import { attend } from "./attend.js";

// Each fused operation on libtensorflow against its composite on the cpu engine, with the same inputs.

let engine: Engine;
const generator = new RandomGenerator(21);
let tensorsBefore = 0;

before(async () => {
  engine = await useEngine("tensorflow");
  tensorsBefore = tf.memory().numTensors;
});
after(() => assert.equal(tf.memory().numTensors, tensorsBefore));

const inBfloat16 = (values: Float32Array) => toFloat32("BF16", fromFloat32("BF16", values));

interface Case {
  kernel: string;
  shapes: Record<string, number[]>;
  attributes?: Record<string, unknown>;
  /** An input without negative numbers. */
  positive?: string;
  /** A weight that is held as bfloat16; all numbers are ones that bfloat16 has. */
  held?: { depth: number; columns: number; taps?: number };
  /** A weight that is held as int8. */
  int8?: { depth: number; columns: number };
  title?: string;
}

const groupNorm = (shape: number[], map: number[], calls: number[], batch: number, silu: boolean): Case => ({
  kernel: "FirstframeGroupNorm",
  shapes: { x: shape, scale: map, shift: map },
  attributes: { groups: 4, eps: 1e-6, batch, calls, silu },
  title: `[${shape}] by [${map}], calls ${calls.join(" + ")}, batch ${batch}${silu ? ", SiLU" : ""}`,
});

const groupNormGrad = (
  shape: number[],
  map: number[],
  calls: number[],
  batch: number,
  silu: boolean,
): Case => {
  const { shapes, attributes, title } = groupNorm(shape, map, calls, batch, silu);
  const { eps: _, ...rest } = attributes as Record<string, unknown>;
  const statistics = [shape[0]!, 1, 1, shape[3]!];
  return {
    kernel: "FirstframeGroupNormGrad",
    shapes: { ...shapes, mean: statistics, rstd: statistics, dy: shape },
    attributes: rest,
    title,
  };
};
/** Sizes around those of the tiles and blocks, and a few rows, which go another way. */
const products = [
  [1, 40, 70],
  [7, 33, 5],
  [8, 1, 1],
  [29, 300, 33],
  [113, 1100, 600],
].flatMap(([rows, depth, columns]) =>
  [0, 1, 2, 3].flatMap((which): Case[] => {
    const [transposeA, transposeB] = [which % 2 === 1, which > 1];
    const shapes = {
      a: transposeA ? [depth!, rows!] : [rows!, depth!],
      b: transposeB ? [columns!, depth!] : [depth!, columns!],
    };
    const given = {
      attributes: { transposeA, transposeB },
      title: `${rows} by ${depth} by ${columns}${transposeA ? ", a transposed" : ""}${transposeB ? ", b transposed" : ""}`,
    };
    return [
      { kernel: "FirstframeMatMul", shapes, ...given },
      { kernel: "FirstframeMatMulBias", shapes: { ...shapes, bias: [columns!] }, ...given },
    ];
  }),
);

const manyAxes = [3, 40].map(
  (tokens): Case => ({
    kernel: "FirstframeMatMulBias",
    shapes: { a: [2, tokens, 3, 33], b: [33, 20], bias: [20] },
    attributes: { transposeA: false, transposeB: false },
    title: `[2, ${tokens}, 3, 33] by [33, 20]`,
  }),
);
const manyAxesTransposed: Case = {
  kernel: "FirstframeMatMul",
  shapes: { a: [2, 40, 33], b: [2, 40, 20] },
  attributes: { transposeA: true, transposeB: false },
  title: "[2, 40, 33], transposed, by [2, 40, 20]",
};

/** Two rows, which go another way, and many. */
const lowRank = [1, 60].flatMap((tokens): Case[] => [
  {
    kernel: "FirstframeLowRank",
    shapes: { y: [2, tokens, 70], x: [2, tokens, 33], a: [9, 33], b: [70, 9] },
    attributes: { scale: 0.7 },
    title: `${2 * tokens} rows`,
  },
  {
    kernel: "FirstframeLowRankGrad",
    shapes: {
      dy: [2, tokens, 70],
      x: [2, tokens, 33],
      low: [2 * tokens, 9],
      a: [9, 33],
      b: [70, 9],
      onto: [2, tokens, 33],
    },
    attributes: { scale: 0.7 },
    title: `${2 * tokens} rows`,
  },
]);

const modulated = { eps: 1e-5, lengths: [3, 8] };
// A tile and more, a panel that is not whole, and more rows than threads share a panel for.
const held = (
  [
    [70, 33],
    [32, 64],
    [100, 37],
  ] as const
).flatMap(([depth, columns]): Case[] => {
  const attributes = { depth, columns };
  const title = `[${columns}, ${depth}]`;
  const matMul = (transposeB: boolean, rows: number): Case => ({
    kernel: "FirstframeHeldMatMul",
    shapes: { a: [2, rows, transposeB ? columns : depth] },
    attributes: { ...attributes, transposeB },
    held: attributes,
    title: `${rows} rows, ${title}${transposeB ? " transposed" : ""}`,
  });
  const first = matMul(false, 9);
  return [
    ...(
      [
        [0, 2, 1],
        [0, 1, 2],
        [2, 1, 0],
      ] as const
    ).map((lengths): Case => {
      const shape = [2, 0, 0].with(lengths[1], depth).with(lengths[2], columns);
      return {
        kernel: "FirstframeHold",
        shapes: { weight: shape.with(lengths[0], 2) },
        attributes: { lengths: [...lengths] },
        title: `${title}, axes [${lengths}]`,
      };
    }),
    ...[true, false].flatMap((transposeB): Case[] => [
      {
        kernel: "FirstframeRelease",
        shapes: {},
        attributes: { ...attributes, transposeB },
        held: attributes,
        title,
      },
    ]),
    ...[3, 9, 300].flatMap((rows) => [matMul(false, rows), matMul(true, rows)]),
    { ...first, kernel: "FirstframeHeldMatMulBias", shapes: { ...first.shapes, bias: [columns] } },
    { kernel: "FirstframeRound", shapes: { x: [columns, 2 * depth] }, title },
    { kernel: "FirstframeWiden", shapes: {}, held: attributes, title },
  ];
});

const int8 = (
  [
    [70, 33],
    [33, 600],
  ] as const
).flatMap(([depth, columns]): Case[] => {
  const attributes = { depth, columns };
  const title = `[${columns}, ${depth}]`;
  const matMul = (transposeB: boolean, rows: number): Case => ({
    kernel: "FirstframeInt8MatMul",
    shapes: { a: [2, rows, transposeB ? columns : depth] },
    attributes: { ...attributes, transposeB },
    int8: attributes,
    title: `${rows} rows, ${title}${transposeB ? " transposed" : ""}`,
  });
  const first = matMul(false, 9);
  return [
    { kernel: "FirstframeInt8Hold", shapes: { weight: [columns, depth] }, title },
    { kernel: "FirstframeInt8Release", shapes: {}, attributes, int8: attributes, title },
    ...[3, 300].flatMap((rows) => [matMul(false, rows), matMul(true, rows)]),
    { ...first, kernel: "FirstframeInt8MatMulBias", shapes: { ...first.shapes, bias: [columns] } },
  ];
});

// A single frame, one with history, several samples, kernels without time; positions and channels about 16 and 32, and more
// positions than are summed together.
const convolutions = (
  [
    { frames: 3, batch: 1, past: 0, size: [5, 7], channels: [16, 8], kernel: [3, 3, 3] },
    { frames: 1, batch: 1, past: 0, size: [9, 9], channels: [33, 40], kernel: [3, 3, 3] },
    { frames: 2, batch: 2, past: 2, size: [4, 30], channels: [64, 32], kernel: [3, 3, 3] },
    { frames: 5, batch: 1, past: 2, size: [33, 20], channels: [20, 70], kernel: [3, 3, 3] },
    { frames: 2, batch: 1, past: 0, size: [17, 16], channels: [32, 32], kernel: [1, 3, 3] },
  ] as const
).map(({ frames, batch, past, size, channels: [depth, columns], kernel }): Case => {
  const lengths = [...kernel];
  return {
    kernel: "FirstframeHeldConv",
    shapes: {
      history: [past * batch, ...size, depth],
      x: [frames * batch, ...size, depth],
      bias: [columns],
    },
    attributes: { depth, columns, lengths, batch },
    held: { depth, columns, taps: kernel[0] * kernel[1] * kernel[2] },
    title: `${frames} frames after ${past}, ${batch} samples of [${size}], ${depth} to ${columns} channels, [${kernel}]`,
  };
});

const cases: Case[] = [
  { kernel: "FirstframeGeluTanh", shapes: { x: [7, 333] } },
  { kernel: "FirstframeGeluTanhGrad", shapes: { x: [7, 333], dy: [7, 333] } },
  ...[1, 2].flatMap((values): Case[] => [
    {
      kernel: "FirstframeLayerNorm",
      shapes: { x: [2, 11, 52], scale: [values, 2, 52], shift: [values, 2, 52] },
      attributes: modulated,
      title: `${values} scales a segment`,
    },
    {
      kernel: "FirstframeLayerNormGrad",
      shapes: { x: [2, 11, 52], scale: [values, 2, 52], dy: [2, 11, 52] },
      attributes: modulated,
      title: `${values} scales a segment`,
    },
    {
      kernel: "FirstframeSegmentSums",
      shapes: { x: [2, 211, 52] },
      attributes: { lengths: [3, 208], batch: values },
      title: values === 1 ? "over all samples" : "of each sample",
    },
    {
      kernel: "FirstframeSegmentDots",
      shapes: { x: [2, 211, 52], y: [2, 211, 52] },
      attributes: { lengths: [3, 208], batch: values },
      title: values === 1 ? "over all samples" : "of each sample",
    },
  ]),
  ...Object.entries({
    FirstframeModulatedNorm: ["x", "modulation", "weight", "bias"],
    FirstframeModulatedNormGrad: ["x", "modulation", "weight", "dy"],
    FirstframeModulatedNormParameters: ["x", "modulation", "weight", "bias", "dy"],
    FirstframeGatedResidual: ["x", "branch", "modulation"],
    FirstframeGated: ["x", "modulation"],
    FirstframeGateGrad: ["branch", "modulation", "dy"],
  }).map(([kernel, inputs]): Case => {
    const shapes: Record<string, number[]> = { modulation: [2, 4 * 52], weight: [52], bias: [52] };
    return {
      kernel,
      shapes: Object.fromEntries(inputs.map((name) => [name, shapes[name] ?? [2, 111, 52]])),
      attributes: { eps: 1e-5, lengths: [31, 80], chunks: [2, 0] },
    };
  }),
  ...[90, 1].flatMap((positions) =>
    Object.entries({
      FirstframeHeadNorm: ["x", "weight", "bias", "cos", "sin"],
      FirstframeHeadNormGrad: ["x", "weight", "cos", "sin", "dy"],
      FirstframeHeadNormParameters: ["x", "cos", "sin", "dy"],
    }).map(([kernel, inputs]): Case => {
      const table = [positions, 16];
      const shapes: Record<string, number[]> = { weight: [16], bias: [16], cos: table, sin: table };
      return {
        kernel,
        shapes: Object.fromEntries(inputs.map((name) => [name, shapes[name] ?? [2, 90, 48]])),
        attributes: { eps: 1e-6 },
        title: `tables of ${positions} positions`,
      };
    }),
  ),
  groupNorm([1, 40, 36, 12], [1, 1, 1, 12], [1], 1, true),
  groupNorm([5, 6, 10, 12], [1, 1, 1, 12], [3, 2], 1, false),
  groupNorm([6, 8, 12, 12], [6, 2, 3, 12], [2, 1], 2, true),
  groupNorm([6, 8, 12, 12], [6, 8, 12, 12], [3], 2, true),
  groupNormGrad([1, 40, 36, 12], [1, 1, 1, 12], [1], 1, true),
  groupNormGrad([5, 6, 10, 12], [1, 1, 1, 12], [3, 2], 1, false),
  groupNormGrad([6, 8, 12, 12], [6, 2, 3, 12], [2, 1], 2, true),
  groupNormGrad([6, 8, 12, 12], [6, 8, 12, 12], [3], 2, true),
  ...products,
  ...manyAxes,
  manyAxesTransposed,
  ...lowRank,
  ...[0, 0.1].map(
    (decay): Case => ({
      kernel: "FirstframeAdam",
      shapes: { weight: [20011], gradient: [20011], expAvg: [20011], expAvgSq: [20011] },
      attributes: {
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        stepSize: 0.01,
        correction: 0.3,
        shrink: 1 - decay / 3,
        decay,
        scale: 0.7,
      },
      positive: "expAvgSq",
      title: `decay ${decay}`,
    }),
  ),
  ...held,
  ...int8,
  ...convolutions,
  { kernel: "Softmax", shapes: { logits: [3, 5, 77] }, attributes: { dim: 2 } },
];

test("the fused operations are built and in use", () => {
  assert.match(engine.version, /with fused operations$/);
});

test("each kernel in C++ has a definition, and is compared with its composite here", () => {
  const ops = fileURLToPath(new URL("../../../../src/engine/ops/", import.meta.url));
  const inSources = readdirSync(ops, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".cc"))
    .flatMap((file) =>
      [...readFileSync(join(ops, file), "utf8").matchAll(/^ {4}\{"(\w+)",/gm)].map(([, name]) => name!),
    );
  const defined = nativeKernels().map(({ name }) => name);
  assert.deepEqual(inSources.sort(), defined.sort());
  const compared = new Set(cases.map(({ kernel }) => kernel.replace(/^Softmax$/, "FirstframeSoftmax")));
  const indirectly = /Attention/; // below, through the functions that call them
  assert.deepEqual(
    defined.filter((name) => !compared.has(name) && !indirectly.test(name)),
    [],
  );
});

for (const { kernel, shapes, attributes = {}, positive, held, int8, title = "" } of cases) {
  test(`${kernel} ${title}`, async (t) => {
    if (kernel === "FirstframeHeldConv" && engine.bfloat16 === null) {
      t.skip("this processor has no instructions for bfloat16");
      return;
    }
    const values = Object.entries(shapes).map(([name, shape]) => {
      const size = tf.util.sizeFromShape(shape);
      // an offset that cancels badly where a mean is taken carelessly
      const draw = () => 3 + generator.normal();
      const values = Float32Array.from({ length: size }, name === positive ? () => draw() ** 2 : draw);
      return [name, shape, held ? inBfloat16(values) : values] as const;
    });
    const taps = held?.taps ?? 1;
    // A single frame sees the sum of the kernels of all times: small whole numbers, so that bfloat16 has it.
    const draw =
      held &&
      Array.from({ length: held.columns * held.depth }, () => {
        const value = generator.normal();
        return taps > 1 ? Math.max(-7, Math.min(7, Math.round(2.5 * value))) : value;
      });
    const weight =
      draw &&
      inBfloat16(
        Float32Array.from(
          { length: taps * draw.length },
          (_, i) => draw[i % draw.length]! * (1 + (Math.floor(i / draw.length) % 9)),
        ),
      );
    const quantised =
      int8 && Float32Array.from({ length: int8.columns * int8.depth }, () => generator.normal());
    const run = (): { shape: number[]; data: Float32Array }[] =>
      tf.tidy(() => {
        const inputs = Object.fromEntries(
          values.map(([name, shape, data]) => [name, tf.tensor(data, [...shape])]),
        );
        if (weight) {
          const given = holdKernel(tf.tensor5d(weight, [1, 1, taps, held.depth, held.columns])).held;
          inputs[kernel === "FirstframeWiden" ? "rounded" : "held"] = given;
        }
        if (int8) {
          const { held, scale } = holdInt8(tf.tensor2d(quantised!, [int8.columns, int8.depth]));
          Object.assign(inputs, { held, scale });
        }
        const outputs = tf.engine().runKernel(kernel, inputs, attributes as tf.NamedAttrMap);
        return (Array.isArray(outputs) ? outputs : [outputs]).map((output: tf.Tensor) => ({
          shape: output.shape,
          data: output.dataSync<"float32">(),
        }));
      });
    await useEngine("tensorflow");
    const fused = run();
    await useEngine("cpu");
    const composite = run();
    await useEngine("tensorflow");
    assert.equal(fused.length, composite.length);
    for (const [i, { shape, data }] of composite.entries()) {
      assert.deepEqual(fused[i]!.shape, shape);
      const largest = data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      assert.ok(largest > 0, "the reference is all zeros");
      for (const [j, value] of data.entries()) {
        const found = fused[i]!.data[j]!;
        assert.ok(
          Math.abs(found - value) <= 1e-5 * largest,
          `output ${i} at ${j}: ${found} instead of ${value}`,
        );
      }
    }
  });
}

for (const [heads, queries, keys, width, valueWidth] of [
  [[2, 3], 5, 7, 4, 6],
  [[1, 1], 130, 1, 16, 16],
  [[1, 3], 225, 1030, 20, 33],
  [[1, 1], 300, 600, 64, 64],
] as const) {
  test(`attention of ${queries} queries to ${keys} keys, ${heads.join(" x ")} heads of ${width}`, async () => {
    const normal = (...shape: number[]) =>
      Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => generator.normal());
    const shapes = {
      query: [...heads, queries, width],
      key: [...heads, keys, width],
      value: [...heads, keys, valueWidth],
      dy: [...heads, queries, valueWidth],
    } as const;
    const data = Object.values(shapes).map((shape) => normal(...shape));
    // scores up to some tens, so that weights differ by many powers of ten
    data[0] = data[0]!.map((value) => 4 * value);
    const run = () =>
      tf.tidy(() => {
        const [query, key, value, dy] = Object.values(shapes).map((shape, i) =>
          tf.tensor(data[i]!, [...shape]),
        ) as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D, tf.Tensor4D];
        return [
          attend(query, key, value),
          ...tf.grads((q, k, v) => attend(q!, k!, v!))([query, key, value], dy),
        ].map((y) => y.dataSync<"float32">());
      });
    await useEngine("tensorflow");
    const fused = run();
    await useEngine("cpu");
    const composite = run();
    await useEngine("tensorflow");
    const scale = Math.max(
      ...composite.slice(1).map((values) => values.reduce((m, v) => Math.max(m, Math.abs(v)), 0)),
    );
    for (const [i, name] of [
      "value",
      "gradient of query",
      "gradient of key",
      "gradient of value",
    ].entries()) {
      const largest = composite[i]!.reduce(
        (most, value) => Math.max(most, Math.abs(value)),
        i === 0 ? 0 : 0.1 * scale,
      );
      assert.equal(fused[i]!.length, composite[i]!.length);
      for (const [j, value] of composite[i]!.entries())
        assert.ok(
          Math.abs(fused[i]![j]! - value) <= 1e-5 * largest,
          `${name} at ${j}: ${fused[i]![j]} instead of ${value}`,
        );
    }
  });
}

test("numbers that are none stay visible, and the largest ones are finite", () => {
  tf.tidy(() => {
    const x = tf.tensor1d([Number.NaN, 1e4, -1e4, 0]);
    const y = tf.engine().runKernel("FirstframeGeluTanh", { x }) as tf.Tensor;
    assert.deepEqual([...y.dataSync()], [Number.NaN, 1e4, -0, 0]);
    const product = tf
      .engine()
      .runKernel(
        "FirstframeMatMul",
        { a: tf.tensor2d([Number.NaN, 1, ...Array<number>(22).fill(2)], [12, 2]), b: tf.ones([2, 3]) },
        { transposeA: false, transposeB: false },
      ) as tf.Tensor;
    assert.deepEqual([...product.dataSync()].slice(0, 4), [Number.NaN, Number.NaN, Number.NaN, 4]);
    const logits = tf.tensor2d([1e4, 0, -1e4, 1e4], [1, 4]);
    assert.deepEqual(
      [...tf.softmax(logits).dataSync()].map((p) => Math.round(p * 1e6) / 1e6),
      [0.5, 0, 0, 0.5],
    );
  });
});
