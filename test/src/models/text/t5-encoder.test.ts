import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { useEngine } from "../../../../src/engine/index.js";
import { RandomGenerator } from "../../../../src/engine/random.js";
import * as tf from "../../../../src/engine/tf.js";
import { T5EncoderModel } from "../../../../src/models/text/t5-encoder.js";
import { safeOpen, saveFile } from "../../../../src/weights/safetensors.js";

const CONFIG = { vocab_size: 20, d_model: 12, d_kv: 5, d_ff: 20, num_layers: 2, num_heads: 3 };
const IDS = [
  [3, 7, 9, 1, 0, 0],
  [4, 4, 18, 19, 2, 1],
];

let folder: string;
let encoder: T5EncoderModel;
let tensors: number;
before(async () => {
  await useEngine("cpu");
  folder = await mkdtemp(join(tmpdir(), "firstframe-t5-"));
  encoder = T5EncoderModel.fromConfig({ ...CONFIG, feed_forward_proj: "gated-gelu" }, new RandomGenerator(1));
});
beforeEach(() => {
  tensors = tf.memory().numTensors;
});
after(() => rm(folder, { recursive: true }));

const output = (model: T5EncoderModel, attentionMask?: number[][]): number[] =>
  tf.tidy(() => [...model.forward({ inputIds: IDS, attentionMask }).lastHiddenState.dataSync()]);

const noLeak = () => assert.equal(tf.memory().numTensors, tensors, "tensors left behind");

test("padding takes part unless a mask says otherwise", () => {
  const mask = IDS.map((row) => row.map((id) => (id === 0 ? 0 : 1)));
  const [plain, masked] = [output(encoder), output(encoder, mask)];
  assert.notDeepEqual(plain.slice(0, 12), masked.slice(0, 12));
  assert.deepEqual(plain.slice(72), masked.slice(72), "the second text has no padding");
  const other = tf.tidy(() => {
    const inputIds = [[3, 7, 9, 1, 5, 6], IDS[1]!];
    return [...encoder.forward({ inputIds, attentionMask: mask }).lastHiddenState.dataSync()];
  });
  assert.deepEqual(other.slice(0, 48), masked.slice(0, 48), "what is masked does not matter to the others");
  noLeak();
});

test("rows and tensors of ids give the same", () => {
  tf.tidy(() => {
    const { lastHiddenState, hiddenStates } = encoder.forward({
      inputIds: tf.tensor2d(IDS, [2, 6], "int32"),
      outputHiddenStates: true,
    });
    assert.deepEqual([...lastHiddenState.dataSync()], output(encoder));
    assert.equal(hiddenStates!.length, 3);
  });
  noLeak();
});

test("an encoder is written and read again; whole T5s give up their decoder, the embeddings either name", async () => {
  for (const feed_forward_proj of ["relu", "gated-silu"]) {
    const model = T5EncoderModel.fromConfig({ ...CONFIG, feed_forward_proj }, new RandomGenerator(2));
    const path = join(folder, feed_forward_proj);
    await model.savePretrained(path);
    const config = JSON.parse(await readFile(join(path, "config.json"), "utf8"));
    assert.deepEqual([config.architectures, config.model_type], [["T5EncoderModel"], "t5"]);
    assert.match(await readFile(join(path, "config.json"), "utf8"), /"initializer_factor": 1\.0,/);

    const file = join(path, "model.safetensors");
    const stored = await safeOpen(file);
    const all = Object.fromEntries(
      await Promise.all(stored.keys().map(async (key) => [key, await stored.getData(key)] as const)),
    );
    await stored.close();
    const { "shared.weight": shared, ...rest } = all;
    for (const tensors of [
      all,
      {
        ...all,
        "encoder.embed_tokens.weight": shared!,
        "decoder.final_layer_norm.weight": shared!,
        "lm_head.weight": shared!,
      },
      { ...rest, "encoder.embed_tokens.weight": shared! },
    ]) {
      await saveFile(tensors, file);
      const loaded = await T5EncoderModel.fromPretrained(path);
      assert.deepEqual(output(loaded), output(model));
      loaded.dispose();
    }
    await saveFile(rest, file);
    await assert.rejects(T5EncoderModel.fromPretrained(path), /1 missing:\n {2}shared.weight/);
    model.dispose();
  }
  noLeak();
});

test("what can't be is refused by name", async () => {
  const forward = (inputIds: number[][], attentionMask?: number[][]) => () =>
    tf.tidy(() => encoder.forward({ inputIds, attentionMask }).lastHiddenState);
  assert.throws(forward([[20]]), /inputIds: expected integers from 0 to 19 \(vocab_size\), found 20/);
  assert.throws(forward([[1, 2], [3]]), /inputIds: expected rows of one length, found \[2,1\]/);
  assert.throws(forward([]), /inputIds: expected rows of one length, found \[\]/);
  assert.throws(forward([[1, 2]], [[1]]), /attentionMask: expected \[1, 2\] as inputIds, found \[1,1\]/);
  noLeak();
  const make = (changes: object) => () =>
    T5EncoderModel.fromConfig({ ...CONFIG, ...changes }, new RandomGenerator(1));
  assert.throws(
    make({ feed_forward_proj: "gated-tanh" }),
    /feed_forward_proj must be an activation .*found "gated-tanh"/,
  );
  assert.throws(
    make({ relative_attention_num_buckets: 7 }),
    /relative_attention_num_buckets must be an even number/,
  );
  await writeFile(join(folder, "config.json"), JSON.stringify({ architectures: ["BertModel"] }));
  await assert.rejects(
    T5EncoderModel.fromPretrained(folder),
    /config.json: expected architectures with T5EncoderModel, found \["BertModel"\]/,
  );
});
