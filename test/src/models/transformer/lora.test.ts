import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { useEngine } from "../../../../src/engine/index.js";
import { RandomGenerator } from "../../../../src/engine/random.js";
import * as tf from "../../../../src/engine/tf.js";
import { trainingRotaryTables } from "../../../../src/models/transformer/rotary-positions.js";
import { CogVideoXTransformer3DModel } from "../../../../src/models/transformer/transformer.js";
import type { LoraConfig } from "../../../../src/nn/lora.js";
import { safeOpen, saveFile } from "../../../../src/weights/safetensors.js";
import { TINY_TRANSFORMER } from "../../diffusion/tiny.js";

let folder: string;
let model: CogVideoXTransformer3DModel;

before(async () => {
  await useEngine("cpu");
  folder = await mkdtemp(join(tmpdir(), "firstframe-lora-"));
});
beforeEach(() => {
  model = CogVideoXTransformer3DModel.fromConfig(TINY_TRANSFORMER, new RandomGenerator(1));
});
after(() => rm(folder, { recursive: true }));

function output(scale?: number): number[] {
  return tf.tidy(() => {
    const generator = new RandomGenerator(2);
    const { sample } = model.forward({
      hiddenStates: generator.randn([1, 4, 8, 4, 6]),
      encoderHiddenStates: generator.randn([1, 8, 12]),
      timestep: 500,
      ofs: 2,
      imageRotaryEmb: trainingRotaryTables(model.config, { frames: 4, height: 4, width: 6 }),
      attentionKwargs: scale === undefined ? null : { scale },
    });
    return [...sample.dataSync()];
  });
}

const near = (a: number[], b: number[]) => Math.max(...a.map((v, i) => Math.abs(v - b[i]!))) < 2e-5;

const config = (changes: Partial<LoraConfig> = {}): LoraConfig => ({
  r: 2,
  loraAlpha: 4,
  targetModules: ["to_q", "to_out.0"],
  initLoraWeights: false,
  ...changes,
});

const add = (adapterName: string, changes: Partial<LoraConfig> = {}, seed = 3) =>
  model.addAdapter(config(changes), { adapterName, generator: new RandomGenerator(seed) });

test("target modules are found as PEFT finds them", () => {
  const modules = (targetModules: LoraConfig["targetModules"]) => {
    const { layers } = add("default", { targetModules });
    model.deleteAdapters();
    return [...layers.keys()];
  };
  assert.deepEqual(modules(["to_q"]), ["transformer_blocks.0.attn1.to_q", "transformer_blocks.1.attn1.to_q"]);
  assert.deepEqual(modules(["transformer_blocks.1.attn1.to_v"]), ["transformer_blocks.1.attn1.to_v"]);
  assert.deepEqual(modules(/transformer_blocks\.0\..*\.to_[kv]/), [
    "transformer_blocks.0.attn1.to_k",
    "transformer_blocks.0.attn1.to_v",
  ]);
  assert.equal(modules("all-linear").length, model.linears.size);
  assert.throws(() => modules(["q"]), /targetModules: no linear layer of the model matches q/);
  assert.throws(() => modules(/to_q/), /no linear layer of the model matches/, "the whole name has to fit");
});

test("a new adapter has no effect; B starts at zero, A as asked", () => {
  const before = output();
  for (const initLoraWeights of [true, "gaussian"] as const) {
    const { parameters } = add("default", { initLoraWeights, r: 8, loraAlpha: 8 });
    assert.deepEqual(output(), before);
    const a = parameters
      .get("transformer_blocks.0.attn1.to_q.lora_A.weight")!
      .value.dataSync() as Float32Array;
    const deviation = Math.sqrt(a.reduce((sum, v) => sum + v * v, 0) / a.length);
    // Uniform within 1 / sqrt(32), or normal with a standard deviation of 1 / 8.
    const expected = initLoraWeights === true ? 1 / Math.sqrt(3 * 32) : 1 / 8;
    assert.ok(Math.abs(deviation / expected - 1) < 0.15, `${initLoraWeights}: ${deviation}`);
    model.deleteAdapters();
  }
  const { layers } = add("default", { useRslora: true, r: 4, loraAlpha: 8 });
  assert.equal([...layers.values()][0]!.scaling, 4);
});

test("several adapters add up, each with its factor; one alone is the last that came", () => {
  const plain = output();
  add("one", {}, 3);
  const one = output();
  add("two", { targetModules: ["to_q", "ff.net.2"] }, 4);
  const two = output();
  assert.notDeepEqual(one, two);
  model.setAdapters("one");
  assert.deepEqual(output(), one);
  model.setAdapters(["one", "two"], [0.5, 1]);
  const both = output();
  assert.ok(![plain, one, two].some((other) => near(both, other)));
  model.fuseLora();
  assert.ok(near(output(), both), "fused");
  model.unfuseLora();
  assert.ok(near(output(), both), "unfused");
  assert.ok(near(output(0), plain));
  model.setAdapters([]);
  assert.ok(near(output(), plain));
  model.deleteAdapters("two");
  assert.deepEqual(model.adapterNames, ["one"]);
  assert.throws(() => model.setAdapters("two"), /adapter: expected one of \["one"\], found "two"/);
  assert.throws(
    () => model.setAdapters(["one"], [1, 2]),
    /adapterWeights: expected 1 \(one an adapter\), found 2/,
  );
  assert.throws(() => add("one"), /adapter "one" exists already/);
});

test("fusing with a scale is the same as running with it", () => {
  add("default");
  const half = output(0.5);
  model.fuseLora({ loraScale: 0.5 });
  assert.ok(near(output(), half));
  model.unfuseLora();
  assert.ok(near(output(0.5), half));
});

test("an adapter trains alone; dropout needs a generator", () => {
  const { parameters } = add("default", { loraDropout: 0.5 });
  assert.equal(model.trainableVariables().length, parameters.size);
  const plain = output();
  const dropped = tf.tidy(() => {
    const generator = new RandomGenerator(2);
    return model
      .forward({
        hiddenStates: generator.randn([1, 4, 8, 4, 6]),
        encoderHiddenStates: generator.randn([1, 8, 12]),
        timestep: 500,
        ofs: 2,
        imageRotaryEmb: trainingRotaryTables(model.config, { frames: 4, height: 4, width: 6 }),
        generator,
      })
      .sample.dataSync();
  });
  assert.ok(!near([...dropped], plain));
});

test("a convolution of patches (CogVideoX 1.0) takes an adapter of PEFT's shapes", async () => {
  model = CogVideoXTransformer3DModel.fromConfig(
    { ...TINY_TRANSFORMER, patch_size_t: null, ofs_embed_dim: null },
    new RandomGenerator(1),
  );
  const { parameters } = add("default", { targetModules: ["patch_embed.proj"] });
  assert.deepEqual(
    [...parameters.values()].map(({ shape }) => shape),
    [
      [2, 8, 2, 2],
      [32, 2, 1, 1],
    ],
  );
  const changed = output();
  model.fuseLora();
  assert.ok(near(output(), changed));
});

test("files of both formats hold the adapter; rank and alpha come back where the file says them", async () => {
  add("default", { targetModules: ["to_q"], r: 3, loraAlpha: 6 });
  const expected = output();
  for (const [name, options, settings] of [
    ["plain", { metadata: false }, { loraAlpha: 6 }],
    ["metadata", {}, {}],
    ["peft", { format: "peft" }, {}],
    ["named", { weightName: "mine.safetensors" }, { loraAlpha: 6, weightName: "mine.safetensors" }],
    ["half", { dtype: "float16" }, {}],
  ] as const) {
    const path = join(folder, name);
    await model.saveLoraAdapter(path, options);
    model.deleteAdapters();
    const { config } = await model.loadLoraAdapter(path, settings);
    assert.deepEqual([config.r, config.loraAlpha], [3, 6]);
    const tolerance = "dtype" in options ? 1e-2 : 0;
    assert.ok(Math.max(...output().map((v, i) => Math.abs(v - expected[i]!))) <= tolerance, name);
  }
  const peft = JSON.parse(await readFile(join(folder, "peft", "adapter_config.json"), "utf8"));
  assert.deepEqual(
    [peft.r, peft.lora_alpha, peft.peft_type, peft.target_modules],
    [3, 6, "LORA", ["transformer_blocks.0.attn1.to_q", "transformer_blocks.1.attn1.to_q"]],
  );
  model.deleteAdapters();
  const { layers } = await model.loadLoraAdapter(join(folder, "plain"));
  assert.equal([...layers.values()][0]!.scaling, 1, "without alpha the scale is 1");
});

test("files that are no LoRA, or another model's, are refused by key", async () => {
  add("default", { targetModules: ["to_q"] });
  await model.saveLoraAdapter(folder);
  model.deleteAdapters();
  const file = join(folder, "pytorch_lora_weights.safetensors");
  const stored = await safeOpen(file);
  const all = Object.fromEntries(
    await Promise.all(stored.keys().map(async (key) => [key, await stored.getData(key)] as const)),
  );
  await stored.close();
  const refused = async (tensors: typeof all, message: RegExp) => {
    await saveFile(tensors, file);
    await assert.rejects(model.loadLoraAdapter(folder), message);
    assert.deepEqual(model.adapterNames, []);
  };
  const key = "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight";
  const { [key]: a, ...rest } = all;
  await refused(rest, /1 missing:\n {2}transformer_blocks.0.attn1.to_q.lora_A.weight/);
  await refused({ ...all, [key]: { ...a!, shape: [32, 2] } }, /expected shape \[2,32\], found \[32,2\]/);
  await refused(
    { ...all, "transformer.proj_out.weight": a! },
    /expected LoRA weights.*found transformer.proj_out.weight/,
  );
  const moved = Object.fromEntries(
    Object.entries(all).map(([name, value]) => [name.replace("blocks.1", "blocks.7"), value]),
  );
  await refused(moved, /the model has no linear layers of these names: transformer_blocks.7.attn1.to_q/);
  await assert.rejects(model.loadLoraAdapter(join(folder, "nothing")), /nothing: no such file or folder/);
  await rm(file);
  await assert.rejects(
    model.loadLoraAdapter(folder),
    /found neither pytorch_lora_weights.safetensors nor adapter_model/,
  );
  assert.throws(() => add("x", { r: 0 }), /r: expected a positive integer, found 0/);
  assert.throws(
    () => add("x", { loraDropout: 1 }),
    /loraDropout: expected a number from 0 to below 1, found 1/,
  );
});
