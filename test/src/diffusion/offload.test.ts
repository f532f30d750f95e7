import assert from "node:assert/strict";
import { appendFile, cp, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import type { LoadPipelineOptions } from "../../../src/diffusion/pipeline.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { T5EncoderModel } from "../../../src/models/text/t5-encoder.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import type { Model, OffloadMode } from "../../../src/nn/module.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { TINY_TRANSFORMER, tinyPipeline, tinyTokenizer } from "./tiny.js";

const MODES = ["model", "sequential"] as const;
const LAYERS = 6;

let folder: string;
let lora: string;
const image = proceduralClip({ seed: 3, numFrames: 9, height: 40, width: 40 }).clip.slice(0, 1);

/** A tiny pipeline with several blocks, in shards. */
before(async () => {
  await useEngine("tensorflow");
  folder = await mkdtemp(join(tmpdir(), "firstframe-offload-"));
  const { vae, scheduler } = tinyPipeline();
  const generator = new RandomGenerator(1);
  const tokenizer = tinyTokenizer();
  const textEncoder = T5EncoderModel.fromConfig(
    { vocab_size: tokenizer.vocabSize, d_model: 12, d_kv: 5, d_ff: 20, num_layers: LAYERS, num_heads: 3 },
    generator,
  );
  const transformer = CogVideoXTransformer3DModel.fromConfig(
    { ...TINY_TRANSFORMER, num_layers: LAYERS },
    generator,
  );
  const pipe = new CogVideoXImageToVideoPipeline({ tokenizer, textEncoder, vae, transformer, scheduler });
  await pipe.savePretrained(folder, { maxShardSize: "60KB" });
  lora = join(folder, "lora");
  transformer.addAdapter(
    { r: 2, loraAlpha: 2, targetModules: ["to_q", "proj"], initLoraWeights: false },
    { generator },
  );
  await pipe.saveLoraWeights(lora);
  pipe.dispose();
});
after(() => rm(folder, { recursive: true }));

const load = (options: LoadPipelineOptions = {}) =>
  CogVideoXImageToVideoPipeline.fromPretrained(folder, options);

const options = {
  image,
  ...{ height: 32, width: 48, numFrames: 9, numInferenceSteps: 2 },
  outputType: "pt" as const,
};

/** A prompt is embedded once by the same weights: each run that is to use T5 takes another. */
let prompts = 0;
const newPrompt = () => `a red ball moves left ${"abcdefghijklmnopqrstuvwxyz"[prompts++]}`;

async function pixels(pipe: CogVideoXImageToVideoPipeline, prompt: string): Promise<Float32Array> {
  const { frames } = await pipe.generate({ ...options, prompt, generator: new RandomGenerator(1) });
  const values = frames.dataSync<"float32">();
  frames.dispose();
  return values;
}

const inMemory = (...models: Model[]) =>
  models.reduce(
    (sum, model) => [...model.parameters.values()].reduce((sum, { bytesInMemory: n }) => sum + n, sum),
    0,
  );
const partsOf = ({ textEncoder, vae, transformer }: CogVideoXImageToVideoPipeline) =>
  [textEncoder!, vae, transformer] as const;

/** The pipeline's frames without any offloading, by a prompt that others embed anew. */
async function reference(prompt: string, options: LoadPipelineOptions = {}) {
  const copy = await mkdtemp(join(tmpdir(), "firstframe-offload-"));
  await cp(folder, copy, { recursive: true });
  const pipe = await CogVideoXImageToVideoPipeline.fromPretrained(copy, options);
  try {
    return await pixels(pipe, prompt);
  } finally {
    pipe.dispose();
    await rm(copy, { recursive: true });
  }
}

/** What is warned of while `run` is running. */
async function warnings(run: () => Promise<unknown>): Promise<string[]> {
  const found: string[] = [];
  const hear = ({ message }: Error) => found.push(message);
  process.on("warning", hear);
  await run();
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", hear);
  return found;
}

for (const mode of MODES) {
  for (const held of [{}, { dtype: "bfloat16" }, { quantization: "int8" }] as const) {
    const title = JSON.stringify({ offload: mode, ...held });
    test(`${title}: the same frames, and no weights in memory before and after`, async () => {
      const prompt = newPrompt();
      const expected = await reference(prompt, held);
      const tensors = tf.memory().numTensors;
      const pipe = await load({ offload: mode, ...held });
      assert.equal(tf.memory().numTensors, tensors, "nothing is read before it is needed");
      assert.deepEqual(await pixels(pipe, prompt), expected);
      assert.equal(inMemory(...partsOf(pipe)), 0);
      assert.deepEqual(await pixels(pipe, prompt), expected, "read again");
      pipe.dispose();
      assert.equal(tf.memory().numTensors, tensors);
    });
  }
}

test("enableModelCpuOffload: one part is in memory at a time", async () => {
  const pipe = await load();
  const [textEncoder, vae, transformer] = partsOf(pipe);
  const whole = inMemory(textEncoder, vae, transformer);
  assert.equal(whole, 4 * partsOf(pipe).reduce((sum, model) => sum + model.numParameters(), 0));
  await pipe.enableModelCpuOffload();
  assert.equal(inMemory(textEncoder, vae, transformer), 0);
  const seen: number[][] = [];
  const look = () => seen.push(partsOf(pipe).map((model) => inMemory(model)));
  const removeHooks = [transformer.registerForwardHook(look), vae.registerForwardHook(look)];
  await pixels(pipe, newPrompt());
  for (const remove of removeHooks) remove();
  assert.ok(seen.length > 10);
  for (const [t5, vaeBytes, transformerBytes] of seen) {
    assert.equal(t5, 0);
    assert.ok(vaeBytes === 0 || transformerBytes === 0, `${vaeBytes} and ${transformerBytes}`);
  }
  assert.ok(seen.some(([, bytes]) => bytes! > 0) && seen.some(([, , bytes]) => bytes! > 0));
  pipe.dispose();
});

test("enableSequentialCpuOffload: one block is in memory at a time, in every step", async () => {
  const pipe = await load();
  await pipe.enableSequentialCpuOffload();
  const { transformer } = pipe;
  const blockBytes = [...transformer.parameters.values()]
    .filter(({ name }) => name.startsWith("transformer_blocks.0."))
    .reduce((sum, { size }) => sum + 4 * size, 0);
  const blocksIn = () =>
    new Set(
      [...transformer.parameters.values()]
        .filter(({ name, bytesInMemory }) => name.startsWith("transformer_blocks.") && bytesInMemory > 0)
        .map(({ name }) => name.split(".")[1]),
    );
  const seen: string[] = [];
  const remove = transformer.registerForwardHook((module) => {
    if (/^transformer_blocks\.\d+$/.test(module)) {
      assert.ok(inMemory(transformer) < 2 * blockBytes + 50_000);
      seen.push([...blocksIn()].join());
    }
  });
  await pixels(pipe, newPrompt());
  remove();
  const each = Array.from({ length: LAYERS }, (_, i) => String(i));
  assert.deepEqual(seen, [...each, ...each]);
  // T5 as well: called by itself, it keeps nothing.
  const { lastHiddenState } = pipe.textEncoder!.forward({ inputIds: [[3, 4, 5]] });
  assert.equal(inMemory(pipe.textEncoder!), 0);
  lastHiddenState.dispose();
  pipe.dispose();
});

for (const mode of MODES) {
  test(`${mode}: LoRA adapters that were read before or after work; fused ones stay in the weights`, async () => {
    const prompt = newPrompt();
    const enable = (pipe: CogVideoXImageToVideoPipeline) =>
      mode === "model" ? pipe.enableModelCpuOffload() : pipe.enableSequentialCpuOffload();
    const plain = await load();
    const without = await pixels(plain, prompt);
    await plain.loadLoraWeights(lora);
    const expected = await pixels(plain, prompt);
    assert.notDeepEqual(expected, without);
    await enable(plain);
    assert.deepEqual(await pixels(plain, prompt), expected, "before");
    plain.unloadLoraWeights();
    assert.deepEqual(await pixels(plain, prompt), without, "removed");
    await plain.loadLoraWeights(lora);
    assert.deepEqual(await pixels(plain, prompt), expected, "after");
    plain.fuseLora();
    const fused = await pixels(plain, prompt);
    assert.notDeepEqual(fused, without);
    assert.deepEqual(await pixels(plain, prompt), fused, "what was fused is not lost");
    plain.dispose();
    const other = await load();
    await other.loadLoraWeights(lora);
    other.fuseLora();
    await enable(other);
    assert.deepEqual(await pixels(other, prompt), fused, "nor what was fused before");
    other.dispose();
  });

  test(`${mode}: weights that training changed stay, and LoRA trains on weights that are read when needed`, async () => {
    const pipe = await load({ offload: mode });
    const { transformer } = pipe;
    const bias = transformer.parameter("proj_out.bias");
    bias.value.assign(tf.onesLike(bias.value));
    transformer.offload();
    assert.deepEqual([...(await bias.values())].slice(0, 3), [1, 1, 1]);
    assert.equal(inMemory(transformer), 4 * bias.size);
    const adapter = await pipe.loadLoraWeights(lora);
    const variables = [...adapter.parameters.values()].map(({ value }) => value);
    const inputs = {
      hiddenStates: tf.randomNormal<tf.Rank.R5>([1, 2, 8, 4, 6], 0, 1, "float32", 3),
      encoderHiddenStates: tf.randomNormal<tf.Rank.R3>([1, 8, 12], 0, 1, "float32", 4),
      timestep: 500,
      ofs: 2,
    };
    const gradients = () => {
      const loss = () => tf.mean(tf.square(transformer.forward(inputs).sample)) as tf.Scalar;
      const { value, grads } = tf.variableGrads(loss, variables);
      return [value.dataSync()[0]!, ...Object.values(grads).map((gradient) => [...gradient.dataSync()])];
    };
    const streamed = gradients();
    const whole = await load();
    whole.transformer.parameter("proj_out.bias").value.assign(tf.onesLike(bias.value));
    const other = await whole.loadLoraWeights(lora);
    variables.splice(0, variables.length, ...[...other.parameters.values()].map(({ value }) => value));
    const loss = () => tf.mean(tf.square(whole.transformer.forward(inputs).sample)) as tf.Scalar;
    const { value, grads } = tf.variableGrads(loss, variables);
    assert.deepEqual(
      [value.dataSync()[0]!, ...Object.values(grads).map((gradient) => [...gradient.dataSync()])],
      streamed,
    );
    pipe.dispose();
    whole.dispose();
  });
}

test("parts that can't be read again stay in memory, and a warning names them", async () => {
  const pipe = tinyPipeline();
  const found = await warnings(() => pipe.enableSequentialCpuOffload());
  for (const [i, name] of ["textEncoder", "vae", "transformer"].entries()) {
    assert.equal(
      found[i],
      `enableSequentialCpuOffload: ${name} stays in memory: its weights were not read from safetensors files`,
    );
  }
  const prompt = newPrompt();
  const expected = await pixels(pipe, prompt);
  assert.deepEqual(await pixels(pipe, prompt), expected);
  assert.equal(inMemory(pipe.transformer), 4 * pipe.transformer.numParameters());
  pipe.dispose();
});

test("a file that was changed since it was read is never read in the place of the other", async () => {
  const copy = await mkdtemp(join(tmpdir(), "firstframe-offload-"));
  await cp(folder, copy, { recursive: true });
  const shard = join(
    copy,
    "transformer",
    (await readdir(join(copy, "transformer"))).find((name) => name.endsWith(".safetensors"))!,
  );
  const loaded = await CogVideoXImageToVideoPipeline.fromPretrained(copy);
  const streamed = await CogVideoXImageToVideoPipeline.fromPretrained(copy, { offload: "sequential" });
  // Replaced, as by savePretrained: what is open is still the former one.
  const prompt = newPrompt();
  const expected = await pixels(loaded, prompt);
  await cp(shard, `${shard}.new`);
  await rename(`${shard}.new`, shard);
  assert.deepEqual(await pixels(streamed, prompt), expected);
  const found = await warnings(() => loaded.enableModelCpuOffload());
  assert.equal(found.length, 1);
  assert.match(found[0]!, /transformer stays in memory: .*its files were changed since they were read/);
  assert.deepEqual(await pixels(loaded, prompt), expected);
  // Written to in place.
  const open = await CogVideoXImageToVideoPipeline.fromPretrained(copy, { offload: "model" });
  await appendFile(shard, "x");
  await assert.rejects(pixels(open, prompt), /the file was written to since it was opened/);
  for (const pipe of [loaded, streamed, open]) pipe.dispose();
  await rm(copy, { recursive: true });
});

test("an offloaded pipeline is saved whole, over its own files, too", async () => {
  const copy = await mkdtemp(join(tmpdir(), "firstframe-offload-"));
  await cp(folder, copy, { recursive: true });
  const pipe = await CogVideoXImageToVideoPipeline.fromPretrained(copy, { offload: "model" });
  await pipe.savePretrained(copy, { maxShardSize: "60KB" });
  assert.equal(inMemory(...partsOf(pipe)), 0);
  for (const part of ["transformer", "vae", "text_encoder"]) {
    for (const name of await readdir(join(folder, part))) {
      if (!name.endsWith(".safetensors")) continue;
      assert.deepEqual(await readFile(join(copy, part, name)), await readFile(join(folder, part, name)));
    }
  }
  pipe.dispose();
  await rm(copy, { recursive: true });
});

test("a prompt that the same text encoder has embedded before needs it no more", async () => {
  const prompt = newPrompt();
  const first = await load({ offload: "model" });
  const embed = (pipe: CogVideoXImageToVideoPipeline, text: string, length?: number) => {
    const { promptEmbeds, negativePromptEmbeds } = pipe.encodePrompt({
      prompt: text,
      maxSequenceLength: length,
    });
    const values = [promptEmbeds.arraySync(), negativePromptEmbeds!.arraySync()];
    tf.dispose([promptEmbeds, negativePromptEmbeds!]);
    return values;
  };
  const countForwards = (pipe: CogVideoXImageToVideoPipeline) => {
    const encoder = pipe.textEncoder!;
    let reads = 0;
    const read = encoder.parameter("encoder.block.0.layer.0.layer_norm.weight");
    const readFrom = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(read), "value")!;
    Object.defineProperty(read, "value", {
      get() {
        reads++;
        return readFrom.get!.call(this);
      },
    });
    return () => reads;
  };
  const uses = countForwards(first);
  const expected = embed(first, prompt);
  assert.ok(uses() > 0);
  const after = uses();
  assert.deepEqual(embed(first, prompt), expected);
  assert.equal(uses(), after, "the same pipeline");
  const second = await load({ offload: "model" });
  const secondUses = countForwards(second);
  assert.deepEqual(embed(second, prompt), expected);
  assert.equal(secondUses(), 0, "another pipeline of the same files");
  assert.equal(embed(second, prompt, 4)[0]![0]!.length, 4);
  assert.ok(secondUses() > 0, "another length");
  const rounded = await load({ dtype: "bfloat16" });
  assert.notDeepEqual(embed(rounded, prompt), expected);
  const changed = await load();
  const norm = changed.textEncoder!.parameter("encoder.final_layer_norm.weight");
  norm.value.assign(tf.mul(norm.value, 2));
  assert.notDeepEqual(embed(changed, prompt), expected);
  for (const pipe of [first, second, rounded, changed]) pipe.dispose();
});

test("int8: a quarter of the memory, near the float32 result, frozen, never saved or fused", async () => {
  const prompt = newPrompt();
  const [plain, quantised] = [await load(), await load({ quantization: "int8" })];
  const { transformer } = quantised;
  assert.equal(transformer.quantization, "int8");
  const linears = [...transformer.linears.values()].filter(({ patchShape }) => patchShape === undefined);
  const sizes = linears.map(({ inFeatures, outFeatures }) => [
    4 * inFeatures * outFeatures,
    outFeatures * (4 * Math.ceil(inFeatures / 4) + 4),
  ]);
  const saved = sizes.reduce((sum, [wide, held]) => sum + wide! - held!, 0);
  assert.equal(inMemory(plain.transformer) - inMemory(transformer), saved);
  assert.ok(inMemory(quantised.textEncoder!) < 0.6 * inMemory(plain.textEncoder!));
  assert.equal(inMemory(quantised.vae), inMemory(plain.vae));
  const [expected, found] = [await pixels(plain, prompt), await pixels(quantised, prompt)];
  const off = Math.sqrt(expected.reduce((sum, value, i) => sum + (value - found[i]!) ** 2, 0));
  assert.ok(off > 0 && off / Math.hypot(...expected) < 0.02, `${off / Math.hypot(...expected)}`);
  assert.throws(() => transformer.requiresGrad(true), /held as int8 and can't be trained.*LoRA/s);
  assert.throws(() => {
    linears[0]!.weight.trainable = true;
  }, /held as int8 and can't be trained/);
  await assert.rejects(quantised.savePretrained(join(folder, "out")), /held as int8/);
  await quantised.loadLoraWeights(lora);
  assert.throws(() => quantised.fuseLora(), /fuseLora: .*weight is held as int8/);
  assert.notDeepEqual(await pixels(quantised, prompt), found);
  plain.dispose();
  quantised.dispose();
});

test("files in bfloat16 give the same weights as those in float32 with the same numbers, however they are held", async () => {
  const [half, wide] = [join(folder, "half"), join(folder, "wide")];
  const made = await load();
  await made.savePretrained(half, { dtype: "bfloat16" });
  const rounded = await CogVideoXImageToVideoPipeline.fromPretrained(half);
  await rounded.savePretrained(wide);
  for (const held of [{}, { dtype: "bfloat16" }, { quantization: "int8" }] as const) {
    for (const lazy of [undefined, "model"] as const) {
      const [a, b] = await Promise.all(
        [half, wide].map((path) =>
          CogVideoXImageToVideoPipeline.fromPretrained(path, { ...held, offload: lazy }),
        ),
      );
      for (const [i, model] of partsOf(a!).entries()) {
        const other = partsOf(b!)[i]!;
        for (const [name, parameter] of model.parameters) {
          assert.deepEqual(await parameter.values(), await other.parameter(name).values(), name);
        }
        assert.equal(inMemory(model), inMemory(other));
      }
      a!.dispose();
      b!.dispose();
    }
  }
  made.dispose();
  rounded.dispose();
});

test("what is no mode and no quantization is refused", async () => {
  await assert.rejects(
    load({ offload: "disk" as OffloadMode }),
    /offload: expected model or sequential, found "disk"/,
  );
  await assert.rejects(load({ quantization: "int4" as "int8" }), /quantization: expected int8, found "int4"/);
  await useEngine("cpu");
  await assert.rejects(
    load({ quantization: "int8" }),
    /int8 needs the tensorflow engine with its own operations, found cpu/,
  );
  await useEngine("tensorflow");
});
