import assert from "node:assert/strict";
import { before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { checkpoint } from "../../../src/engine/ops/checkpoint.js";
import { linear } from "../../../src/engine/ops/linear/linear.js";
import { releasing } from "../../../src/engine/ops/tape.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";

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
    const released = tf.variableGrads(releasing(loss), weights);
    assert.equal(released.value.dataSync()[0], plain.value.dataSync()[0]);
    for (const { name } of weights)
      assert.deepEqual(released.grads[name]!.dataSync(), plain.grads[name]!.dataSync());
    tf.dispose([plain, released]);
    dispose();
    assert.equal(tf.memory().numTensors, before);
  });
}

test("the backward pass holds less and less", () => {
  const most = (wrap: (f: () => tf.Scalar) => () => tf.Scalar) => {
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
    const { value, grads } = tf.variableGrads(
      wrap(() => tf.tidy(() => tf.add(tf.mul(0, tf.sum(watched(weights[0]!))), loss())) as tf.Scalar),
      weights,
    );
    tf.dispose([value, grads]);
    dispose();
    return bytes;
  };
  const [plain, released] = [most((f) => f), most((f) => releasing(f))];
  assert.ok(released < plain / 3, `${released} bytes at the end, ${plain} without`);
});
