import assert from "node:assert/strict";
import { before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { Parameter, zeros } from "../../../src/nn/module.js";
import { Muon, orthogonalize } from "../../../src/train/muon.js";
import { MuonAdamW } from "../../../src/train/muon-adamw.js";

before(() => useEngine());

const draw = (generator: RandomGenerator, shape: number[]) =>
  tf.tensor(
    Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => generator.normal()),
    shape,
  );

/** The iteration as it is published, on one matrix: x <- a x + (b x x' + c (x x')^2) x. */
function reference(matrix: tf.Tensor2D): tf.Tensor2D {
  const [rows, columns] = matrix.shape;
  let x = (rows > columns ? tf.transpose(matrix) : matrix) as tf.Tensor2D;
  x = tf.div(x, tf.add(tf.norm(x), 1e-7));
  for (let i = 0; i < 5; i++) {
    const gram = tf.matMul(x, x, false, true);
    const factor = tf.add(tf.mul(gram, -4.775), tf.mul(tf.matMul(gram, gram), 2.0315));
    x = tf.add(tf.mul(x, 3.4445), tf.matMul(factor as tf.Tensor2D, x));
  }
  return (rows > columns ? tf.transpose(x) : x) as tf.Tensor2D;
}

test("tall and wide matrices get singular values near 1, as the published iteration gives them", () => {
  for (const [rows, columns] of [
    [216, 8],
    [8, 24],
    [16, 16],
  ] as const) {
    const generator = new RandomGenerator(rows);
    tf.tidy(() => {
      const matrices = draw(generator, [3, rows, columns]) as tf.Tensor3D;
      const whole = orthogonalize(matrices);
      for (const [i, one] of tf.unstack(whole).entries()) {
        const expected = reference(tf.unstack(matrices)[i] as tf.Tensor2D);
        const difference = tf.max(tf.abs(tf.sub(one, expected))).dataSync()[0]!;
        assert.ok(difference < 1e-4, `[${rows}, ${columns}]: off by ${difference}`);
      }
      // The mean of the squared singular values.
      const energy = tf.sum(tf.square(whole)).dataSync()[0]! / 3 / Math.min(rows, columns);
      assert.ok(energy > 0.5 && energy < 1.5, `[${rows}, ${columns}]: mean square ${energy}`);
    });
  }
});

test("Muon reaches a linear map's weights, and goes on from its state with the same numbers", () => {
  const tensors = tf.memory().numTensors;
  const make = () => {
    const parameter = new Parameter("map.weight", [4, 6], { init: zeros, permutation: [1, 0] });
    parameter.initialize(new RandomGenerator(0));
    return parameter;
  };
  const generator = new RandomGenerator(1);
  const wanted = draw(generator, [6, 4]);
  const gradient = (parameter: Parameter) => tf.tidy(() => tf.sub(parameter.value, wanted));
  const distance = (parameter: Parameter) => tf.tidy(() => tf.norm(gradient(parameter)).dataSync()[0]!);
  const run = (muon: Muon, parameter: Parameter, from: number, to: number) => {
    for (let step = from; step < to; step++) {
      const slope = gradient(parameter);
      muon.step([slope], 0.1 * (1 - step / 100));
      slope.dispose();
    }
  };

  const parameter = make();
  const muon = new Muon([parameter], { momentum: 0.9 });
  const start = distance(parameter);
  run(muon, parameter, 0, 50);
  const state = muon.stateTensors();
  assert.deepEqual(state["map.weight.momentum_buffer"]?.shape, [4, 6]);
  const copy = make();
  copy.value.assign(parameter.value);
  const second = new Muon([copy], { momentum: 0.9 });
  second.loadState(state);
  assert.throws(() => second.loadState({}), /map\.weight\.momentum_buffer.*\[4,6\].*nothing/);
  run(muon, parameter, 50, 100);
  run(second, copy, 50, 100);
  assert.ok(distance(parameter) < 0.05 * start, `from ${start} to ${distance(parameter)}`);
  assert.deepEqual(copy.value.dataSync(), parameter.value.dataSync());
  tf.dispose([...Object.values(state), wanted, parameter.value, copy.value]);
  muon.dispose();
  second.dispose();
  assert.equal(tf.memory().numTensors, tensors);
});

test("steps like AdamW's are as large for every shape, and weight decay shrinks the weights apart from them", () => {
  for (const shape of [
    [96, 24],
    [24, 96],
  ]) {
    const parameter = new Parameter("map.weight", shape, { init: zeros });
    parameter.initialize(new RandomGenerator(0));
    const gradient = draw(new RandomGenerator(1), shape);
    const weights = () => parameter.value.dataSync() as Float32Array;
    const plain = new Muon([parameter], { adjustLr: "match_rms_adamw" });
    plain.step([gradient], 0.01);
    const update = weights().slice();
    const size = Math.sqrt(update.reduce((sum, value) => sum + value ** 2, 0) / update.length);
    assert.ok(size > 0.2 * 0.01 * 0.8 && size < 0.2 * 0.01 * 1.2, `[${shape}]: root mean square ${size}`);

    const decaying = new Muon([parameter], { adjustLr: "match_rms_adamw", weightDecay: 10 });
    parameter.value.assign(tf.tidy(() => tf.ones(shape)));
    decaying.step([gradient], 0.01);
    for (const [i, value] of weights().entries()) {
      assert.ok(Math.abs(value - (0.9 + update[i]!)) < 1e-6, `[${shape}] at ${i}: ${value}`);
    }
    tf.dispose([gradient, parameter.value]);
    plain.dispose();
    decaying.dispose();
  }
});

test("with AdamW it remembers one number a weight of the blocks' matrices, two of all others", () => {
  const parameters = [
    new Parameter("transformer_blocks.0.ff.weight", [4, 6], { init: zeros }),
    new Parameter("proj_out.weight", [2, 6], { init: zeros }),
    new Parameter("proj_out.bias", [2], { init: zeros }),
  ];
  for (const parameter of parameters) parameter.initialize(new RandomGenerator(0));
  const optimizer = new MuonAdamW(parameters);
  const state = Object.values(optimizer.stateTensors());
  assert.equal(
    state.reduce((sum, { size }) => sum + size, 0),
    24 + 2 * 14,
  );
  assert.equal(optimizer.stateSize, 24 + 2 * 14);
  tf.dispose([...state, ...parameters.map(({ value }) => value)]);
  optimizer.dispose();
});

test("vectors and missing gradients are refused", () => {
  const bias = new Parameter("bias", [3], { init: zeros });
  bias.initialize(new RandomGenerator(0));
  assert.throws(() => new Muon([bias]), /bias: expected a matrix or a kernel, found \[3\]/);
  const muon = new Muon([]);
  const one = tf.scalar(1);
  assert.throws(() => muon.step([one], 1), /expected 0 gradients, found 1/);
  tf.dispose([one, bias.value]);
});
