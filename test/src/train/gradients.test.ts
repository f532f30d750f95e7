/** The backward pass that frees memory and says what is final has the bits of TensorFlow.js's own. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { variableGrads } from "../../../src/engine/ops/tape.js";
import { withPrecision } from "../../../src/engine/precision.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { computeLoss, disposeLossInputs, drawLoss, prepareLoss } from "../../../src/recipe/loss.js";
import { LORA_TARGET_MODULES } from "../../../src/train/arguments.js";
import { collate } from "../../../src/train/data.js";
import { tinyData, tinyModels } from "./tiny.js";

before(async () => {
  await useEngine();
});

for (const kind of ["lora", "sft"] as const) {
  for (const checkpointing of [false, true]) {
    for (const precision of ["float32", "bfloat16"] as const) {
      const name = `${kind}, ${precision}${checkpointing ? ", gradient checkpointing" : ""}`;
      test(`each gradient is handed over once, with the bits of tf.variableGrads: ${name}`, async () => {
        const models = tinyModels();
        const data = await tinyData(models.vae);
        const { transformer } = models;
        models.vae.requiresGrad(false);
        transformer.gradientCheckpointing = checkpointing;
        const generator = new RandomGenerator(4);
        const config = { r: 4, loraAlpha: 4, targetModules: LORA_TARGET_MODULES };
        if (kind === "lora") {
          const adapter = transformer.addAdapter(config, { generator });
          // B starts at zero, and A would have no gradient.
          for (const { value } of adapter.parameters.values())
            tf.tidy(() => value.assign(generator.randn(value.shape)));
        } else transformer.requiresGrad(true);
        const variables = transformer.trainableVariables();
        assert.ok(variables.length > 8);
        const batch = collate([await data.load(0), await data.load(1)]);
        const draws = drawLoss(generator, batch, models, { imageDropout: 0 });
        const inputs = prepareLoss(models, batch, draws, {});
        const loss = () => computeLoss(models, inputs, batch.promptEmbedding, {}).loss;
        const begun = tf.memory().numTensors;

        const wanted = withPrecision(precision, () => tf.variableGrads(loss, [...variables]));
        const bits = variables.map(({ name }) => wanted.grads[name]?.dataSync());
        assert.ok(bits.some((values) => values?.some((value) => value !== 0)));
        const expected = wanted.value.dataSync()[0];
        tf.dispose(wanted);

        const seen: number[] = [];
        const { value } = withPrecision(precision, () =>
          variableGrads(loss, variables, (index, gradient) => {
            seen.push(index);
            assert.deepEqual(gradient?.dataSync(), bits[index], variables[index]!.name);
            gradient?.dispose();
          }),
        );
        assert.equal(value.dataSync()[0], expected);
        assert.deepEqual(
          [...seen].sort((a, b) => a - b),
          variables.map((_, i) => i),
        );
        // As buckets want them: the last block's before the first block's.
        const half = seen.slice(0, seen.length >> 1);
        const mean = (values: number[]) => values.reduce((sum, i) => sum + i, 0) / values.length;
        assert.ok(mean(half) > mean(seen), `${seen}`);
        value.dispose();
        assert.equal(tf.memory().numTensors, begun, "nothing is left");
        disposeLossInputs(inputs);
        data.dispose();
        models.dispose();
      });
    }
  }
}
