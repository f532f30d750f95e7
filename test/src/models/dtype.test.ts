/** Models whose weights are held as bfloat16. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Engine, useEngine } from "../../../src/engine/index.js";
import { linear } from "../../../src/engine/ops/linear/linear.js";
import { currentPrecision } from "../../../src/engine/precision.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { T5EncoderModel } from "../../../src/models/text/t5-encoder.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import type { Model } from "../../../src/nn/module.js";
import { fromFloat32, toFloat32 } from "../../../src/weights/dtype.js";
import { safeOpen } from "../../../src/weights/safetensors.js";
import { distance, randn } from "../engine/rounded.js";
import { tinyModels } from "../train/tiny.js";

let engine: Engine;
let folder: string;
before(async () => {
  engine = await useEngine();
  folder = await mkdtemp(join(tmpdir(), "dtype-"));
});
after(() => rm(folder, { recursive: true, force: true }));

interface Case {
  readonly make: () => Model & { savePretrained(folder: string, options?: object): Promise<void> };
  readonly load: (folder: string, options: object) => Promise<Model>;
  readonly run: (model: Model) => tf.Tensor;
}

const CASES: Record<string, Case> = {
  transformer: {
    make: () => tinyModels().transformer,
    load: (path, options) => CogVideoXTransformer3DModel.fromPretrained(path, options),
    run: (model) =>
      (model as CogVideoXTransformer3DModel).forward({
        hiddenStates: randn(1, [2, 4, 8, 4, 6]) as tf.Tensor5D,
        encoderHiddenStates: randn(2, [2, 4, 12]) as tf.Tensor3D,
        timestep: [10, 900],
        ofs: 2,
      }).sample,
  },
  vae: {
    make: () => tinyModels().vae as AutoencoderKLCogVideoX,
    load: (path, options) => AutoencoderKLCogVideoX.fromPretrained(path, options),
    run: (model) =>
      (model as AutoencoderKLCogVideoX).forward(randn(3, [1, 3, 5, 16, 24]) as tf.Tensor5D).sample,
  },
  t5: {
    make: () =>
      T5EncoderModel.fromConfig(
        { vocab_size: 40, d_model: 32, d_kv: 8, d_ff: 64, num_layers: 2, num_heads: 4 },
        new RandomGenerator(4),
      ),
    load: (path, options) => T5EncoderModel.fromPretrained(path, options),
    run: (model) => (model as T5EncoderModel).forward({ inputIds: [[1, 2, 39, 0, 7]] }).lastHiddenState,
  },
};

for (const [name, { make, load, run }] of Object.entries(CASES)) {
  test(`${name}: in bfloat16 its weights are the rounded ones in half the memory, and it computes nearly the same`, async () => {
    const path = join(folder, name);
    const exact = make();
    await exact.savePretrained(path);
    const bytes = tf.memory().numBytes;
    const tensors = tf.memory().numTensors;
    const model = await load(path, { dtype: "bfloat16" });
    const taken = tf.memory().numBytes - bytes;
    assert.equal(model.dtype, "bfloat16");
    for (const [key, parameter] of exact.parameters) {
      const wanted = toFloat32("BF16", fromFloat32("BF16", await parameter.values()));
      assert.deepEqual(await model.parameter(key).values(), wanted, key);
    }
    // The VAE is all edges: its channels hardly fill panels of 32. Whole ones are tested where the engine holds them.
    if (engine.name === "tensorflow" && name !== "vae") {
      assert.ok(taken < 4 * model.numParameters(), `${taken} bytes of ${4 * model.numParameters()}`);
    }
    assert.equal(model.trainableVariables().length, 0);
    const left = tf.memory().numTensors;
    tf.tidy(() => {
      const apart = distance(run(exact), run(model));
      assert.ok(apart > 0 && apart < 3e-2, `${apart}`);
    });
    assert.equal(tf.memory().numTensors, left, "tensors are left behind");
    assert.equal(currentPrecision(), "float32");

    // Written as bfloat16, the files of both are the same.
    const [a, b] = [join(folder, `${name}-a`), join(folder, `${name}-b`)];
    await exact.savePretrained(a, { dtype: "bfloat16" });
    await (model as ReturnType<typeof make>).savePretrained(b, { dtype: "bfloat16" });
    const file = name === "t5" ? "model.safetensors" : "diffusion_pytorch_model.safetensors";
    const [first, second] = [await safeOpen(join(a, file)), await safeOpen(join(b, file))];
    for (const key of first.keys()) {
      assert.deepEqual((await first.getData(key)).data, (await second.getData(key)).data, key);
    }
    await Promise.all([first.close(), second.close()]);

    // What is to be trained is float32 again, with the rounded values.
    model.requiresGrad(true);
    assert.equal(model.dtype, "float32");
    assert.equal(model.trainableVariables().length, exact.trainableVariables().length);
    for (const [key, parameter] of exact.parameters) {
      const wanted = toFloat32("BF16", fromFloat32("BF16", await parameter.values()));
      assert.deepEqual(await model.parameter(key).values(), wanted, key);
    }
    model.dispose();
    assert.equal(tf.memory().numTensors, tensors);
    exact.dispose();
  });
}

test("a LoRA trains on a bfloat16 model, is fused into it and taken out again", async () => {
  const model = tinyModels().transformer.to({ dtype: "bfloat16" });
  const inputs = CASES.transformer!.run;
  model.addAdapter(
    { r: 4, loraAlpha: 4, targetModules: ["to_q", "to_k", "to_v", "to_out.0", "ff.net.2"] },
    { generator: new RandomGenerator(1) },
  );
  const adapter = model.adapter();
  const dy = randn(9, [2, 4, 4, 4, 6]);
  const variables = [...adapter.parameters.values()].map(({ value }) => value);
  // B is zero at first: a step gives it values, so that A has gradients, too.
  for (const parameter of adapter.parameters.values()) parameter.initialize(new RandomGenerator(2));
  for (const { b } of [...model.linears.values()].flatMap(({ lora }) => [...lora.values()]))
    b.set(new Float32Array(b.size).map((_, i) => 0.02 * Math.sin(i)));
  const { grads } = tf.variableGrads(() => tf.sum(tf.mul(inputs(model), dy)), variables);
  for (const [key, gradient] of Object.entries(grads)) {
    assert.ok(tf.norm(gradient).dataSync()[0]! > 0, `no gradient for ${key}`);
  }
  const before = inputs(model);
  model.fuseLora();
  const fused = inputs(model);
  assert.equal(model.dtype, "bfloat16");
  assert.ok(distance(before, fused) < 2e-2, `${distance(before, fused)}`);
  model.unfuseLora();
  assert.ok(distance(before, inputs(model)) < 2e-2);
  model.dispose();
});

test("another dtype is refused before anything is read", async () => {
  const path = join(folder, "transformer");
  await assert.rejects(
    CogVideoXTransformer3DModel.fromPretrained(path, { dtype: "float16" as "float32" }),
    /dtype: expected float32 or bfloat16, found "float16"/,
  );
  const model = tinyModels().transformer.to({ dtype: "bfloat16" });
  if (engine.name === "tensorflow") {
    assert.throws(() => model.parameter("proj_out.weight").value, /proj_out.weight is held as bfloat16/);
  }
  model.dispose();
  await assert.rejects(
    useEngine({ precision: "half" as "float32" }),
    /precision: expected float32 or bfloat16/,
  );
});

test("an engine that can't multiply bfloat16 says so, and computes in float32", async () => {
  const lines: string[] = [];
  const wasm = await useEngine("wasm", { precision: "bfloat16", log: (line) => lines.push(line) });
  assert.equal(wasm.bfloat16, null);
  assert.match(lines.join("\n"), /^firstframe: bfloat16: computed in float32/);
  const [x, weight] = [randn(1, [64, 64]), randn(2, [64, 64])];
  assert.ok(
    distance(tf.matMul(x as tf.Tensor2D, weight as tf.Tensor2D, false, true), linear(x, weight, null)) < 1e-6,
  );
  await useEngine(engine.name, { precision: "float32", log: (line) => lines.push(line) });
  assert.equal(currentPrecision(), "float32");
  assert.equal(lines.length, 1);
});

test("FIRSTFRAME_BFLOAT16 names what is there to choose", async () => {
  const before = process.env.FIRSTFRAME_BFLOAT16;
  process.env.FIRSTFRAME_BFLOAT16 = "avx512bf16";
  try {
    await assert.rejects(
      useEngine(),
      /FIRSTFRAME_BFLOAT16: expected one of amx, avx512_bf16, none, found "avx512bf16"/,
    );
  } finally {
    if (before === undefined) delete process.env.FIRSTFRAME_BFLOAT16;
    else process.env.FIRSTFRAME_BFLOAT16 = before;
  }
});
