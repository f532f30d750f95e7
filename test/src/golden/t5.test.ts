import assert from "node:assert/strict";
import { test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import { relativePositionBucket, T5EncoderModel } from "../../../src/models/text/t5-encoder.js";
import { casesOf } from "./case.js";

await useEngine();

for (const golden of await casesOf("t5")) {
  test(`${golden.name}: ${golden.title}`, async () => {
    const before = tf.memory().numTensors;
    const encoder = await T5EncoderModel.fromPretrained(golden.component());
    const inputIds = await golden.tensor<tf.Rank.R2>("input_ids");
    const attentionMask = await golden.tensor<tf.Rank.R2>("attention_mask");

    const plain = encoder.forward({ inputIds, outputHiddenStates: true });
    await golden.compare("no_mask", plain.lastHiddenState);
    for (const [i, state] of plain.hiddenStates!.slice(0, -1).entries())
      await golden.compare(`hidden${i}`, state);
    const masked = encoder.forward({ inputIds, attentionMask });
    await golden.compare("with_mask", masked.lastHiddenState);
    const bias = encoder.positionBias(inputIds.shape[1]);
    await golden.compare("position_bias", bias);

    const { relative_attention_num_buckets: buckets, relative_attention_max_distance: distance } =
      encoder.config;
    for (const [name, count, longest] of [
      ["buckets_32_128", 32, 128],
      ["buckets_config", buckets, distance],
    ] as const) {
      const [length] = golden.tensors[name]!.shape;
      const data = Array.from({ length: length! }, (_, i) =>
        relativePositionBucket(i - (length! - 1) / 2, count, longest),
      );
      await golden.compare(name, { shape: [length!], data });
    }
    golden.assertAllCompared();
    tf.dispose([inputIds, attentionMask, plain.hiddenStates!, masked.lastHiddenState, bias]);
    encoder.dispose();
    assert.equal(tf.memory().numTensors, before);
  });
}
