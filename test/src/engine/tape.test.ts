import assert from "node:assert/strict";
import { before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { checkpoint } from "../../../src/engine/ops/checkpoint.js";
import { linear } from "../../../src/engine/ops/linear/linear.js";
import { variableGrads } from "../../../src/engine/ops/tape.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";

type Computed = ReturnType<typeof tf.variableGrads>;

before(async () => {
  await useEngine("cpu");
});

/** A chain of layers, some of which give the same tensor to several inputs or pass it on as it is. */
function network(layers: number, checkpointed: boolean) {
  const generator = new RandomGenerator(5);
  const weights = Array.from({ length: layers }, () => tf.tidy(() => tf.variable(generator.randn([8, 8]))));
  const x = tf.keep(generator.randn([32, 8]));
  const layer = (h: tf.Tensor, weight: tf.Variable) => {
    const y = tf.tanh(linear(h, weight, null));
    return tf.add(tf.addN([y, h, y]), tf.reshape(tf.mul(y, y), h.shape));
  };
  const loss = () =>
    tf.mean(
      weights.reduce<tf.Tensor>(
        (h, weight) =>
          checkpointed
            ? checkpoint((given) => layer(given!, weight), [h], { variables: [weight] })
            : layer(h, weight),
        x,
      ),
    ) as tf.Scalar;
  return { weights, loss, dispose: () => tf.dispose([x, ...weights]) };
}

for (const checkpointed of [false, true]) {
  test(`gradients that give memory back are the same${checkpointed ? ", with checkpoints" : ""}`, () => {
    const before = tf.memory().numTensors;
    const { weights, loss, dispose } = network(6, checkpointed);
    const plain = tf.variableGrads(loss, weights);
    const released = variableGrads(loss, weights);
    assert.equal(released.value.dataSync()[0], plain.value.dataSync()[0]);
    for (const { name } of weights)
      assert.deepEqual(released.grads[name]!.dataSync(), plain.grads[name]!.dataSync());
    tf.dispose([plain, released]);
    dispose();
    assert.equal(tf.memory().numTensors, before);
  });
}

test("the backward pass holds less and less", () => {
  const most = (compute: (f: () => tf.Scalar, weights: tf.Variable[]) => Computed) => {
    const { weights, loss, dispose } = network(20, false);
    let bytes = 0;
    const watched = tf.customGrad((x: tf.Tensor | tf.GradSaveFunc) => ({
      value: (x as tf.Tensor).clone(),
      gradFunc: (dy: tf.Tensor) => {
        bytes = tf.memory().numBytes;
        return dy.clone();
      },
    }));
    // what comes first on the tape has its gradient computed last
    const { value, grads } = compute(
      () => tf.tidy(() => tf.add(tf.mul(0, tf.sum(watched(weights[0]!))), loss())) as tf.Scalar,
      weights,
    );
    tf.dispose([value, grads]);
    dispose();
    return bytes;
  };
  const [plain, released] = [most(tf.variableGrads), most(variableGrads)];
  assert.ok(released < plain / 3, `${released} bytes at the end, ${plain} without`);
});

for (const checkpointed of [false, true]) {
  test(`gradients are handed over as soon as they are final${checkpointed ? ", with checkpoints" : ""}`, () => {
    const before = tf.memory().numTensors;
    const { weights, loss, dispose } = network(6, checkpointed);
    const [scale, unused] = tf.tidy(() => [tf.variable(tf.scalar(0.5)), tf.variable(tf.zeros([3]))]);
    // The scale comes in at both ends, so that its gradient is the last to be final.
    const scaled = () => tf.mul(loss(), tf.mul(scale, tf.sum(tf.mul(scale, weights[0]!)))) as tf.Scalar;
    const variables = [unused, ...weights, scale];
    const plain = tf.variableGrads(scaled, variables);
    const wanted = variables.map(({ name }) => plain.grads[name]?.dataSync());
    tf.dispose(plain);
    const held: number[] = [];
    const order: number[] = [];
    const result = variableGrads(scaled, variables, (index, gradient) => {
      order.push(index);
      assert.deepEqual(gradient?.dataSync(), wanted[index], `gradient ${index}`);
      gradient?.dispose();
      held.push(tf.memory().numTensors);
    });
    assert.deepEqual(result.grads, {}, "they are not returned, too");
    assert.deepEqual([...order].sort(), [0, 1, 2, 3, 4, 5, 6, 7], "each once");
    assert.equal(order[0], 0, "one without influence is known at once");
    const layers = order.filter((index) => index >= 1 && index <= 6);
    assert.deepEqual(layers, [6, 5, 4, 3, 2, 1], "the last layer's comes first");
    assert.ok(held.at(-1)! <= held[1]!, `${held} tensors`);
    tf.dispose(result.value);
    tf.dispose([scale, unused]);
    dispose();
    assert.equal(tf.memory().numTensors, before);
  });
}

test("an error in the backward pass leaves no tensors behind", () => {
  const x = tf.tidy(() => tf.variable(tf.scalar(2)));
  const before = tf.memory().numTensors;
  const failing = tf.customGrad((...given: (tf.Tensor | tf.GradSaveFunc)[]) => {
    const [y] = given as [tf.Tensor];
    (given.at(-1) as tf.GradSaveFunc)([y]);
    return {
      value: y.clone(),
      gradFunc: () => {
        throw new Error("no gradient today");
      },
    };
  });
  tf.tidy(() =>
    assert.throws(
      () => variableGrads(() => tf.square(failing(tf.mul(x, x))).asScalar(), [x]),
      /no gradient today/,
    ),
  );
  assert.equal(tf.memory().numTensors, before);
  const { value, grads } = variableGrads(() => tf.square(x), [x]);
  assert.equal(grads[x.name]!.dataSync()[0], 4, "and the next one works");
  tf.dispose([value, grads, x]);
});
