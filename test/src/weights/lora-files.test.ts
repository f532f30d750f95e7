/** LoRA files as other programs name their keys, and what they say of rank and alpha. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { patternValue } from "../../../src/weights/lora-settings.js";
import { saveFile } from "../../../src/weights/safetensors.js";
import { TINY_TRANSFORMER } from "../diffusion/tiny.js";

const QUERIES = [0, 1].map((block) => `transformer_blocks.${block}.attn1.to_q`);
const OUTPUT = "transformer_blocks.0.attn1.to_out.0";

let folder = "";
let model: CogVideoXTransformer3DModel;

before(async () => {
  await useEngine("cpu");
  folder = await mkdtemp(join(tmpdir(), "firstframe-lora-files-"));
});
beforeEach(() => {
  model = CogVideoXTransformer3DModel.fromConfig(TINY_TRANSFORMER, new RandomGenerator(1));
});
after(() => rm(folder, { recursive: true }));

type Tensors = Record<string, tf.Tensor>;

/** A file of rank 2 (or as given) for each module; keys by `name`. */
async function write(
  file: string,
  name: (module: string, matrix: "A" | "B") => string,
  {
    modules = QUERIES,
    ranks = {},
    alphas = {},
    extra = {},
    header = {},
  }: {
    modules?: readonly string[];
    ranks?: Record<string, number>;
    /** By key. */
    alphas?: Record<string, number>;
    extra?: Tensors;
    header?: Record<string, string>;
  } = {},
): Promise<string> {
  const tensors: Tensors = { ...extra };
  for (const module of modules) {
    const rank = ranks[module] ?? 2;
    tensors[name(module, "A")] = tf.fill([rank, 32], 0.1);
    tensors[name(module, "B")] = tf.fill([32, rank], 0.2);
  }
  for (const [key, alpha] of Object.entries(alphas)) tensors[key] = tf.scalar(alpha);
  const path = join(folder, file);
  await saveFile(tensors, path, { format: "pt", ...header });
  tf.dispose(tensors);
  return path;
}

const plain = (module: string, matrix: string) => `transformer.${module}.lora_${matrix}.weight`;
const way = { A: "down", B: "up" } as const;

async function scalings(path: string): Promise<Record<string, number>> {
  model.deleteAdapters();
  const { layers } = await model.loadLoraAdapter(path);
  return Object.fromEntries([...layers].map(([module, { scaling }]) => [module, scaling]));
}

const every = (scaling: number, modules: readonly string[] = QUERIES) =>
  Object.fromEntries(modules.map((module) => [module, scaling]));

test("keys of all trainers mean the same weights", async () => {
  for (const [file, name] of Object.entries<(module: string, matrix: "A" | "B") => string>({
    diffusers: plain,
    bare: (module, matrix) => `${module}.lora_${matrix}.weight`,
    peft: (module, matrix) => `base_model.model.${module}.lora_${matrix}.weight`,
    peftState: (module, matrix) => `base_model.model.${module}.lora_${matrix}.default.weight`,
    pipelineInPeft: (module, matrix) => `base_model.model.transformer.${module}.lora_${matrix}.weight`,
    comfy: (module, matrix) => `diffusion_model.${module}.lora_${matrix}.weight`,
    comfyDown: (module, matrix) => `diffusion_model.${module}.lora_${way[matrix]}.weight`,
    comfyModel: (module, matrix) => `model.diffusion_model.${module}.lora_${matrix}.weight`,
    kohya: (module, matrix) => `lora_unet_${module.replaceAll(".", "_")}.lora_${way[matrix]}.weight`,
    musubi: (module, matrix) => `lora_unet__${module.replaceAll(".", "_")}.lora_${way[matrix]}.weight`,
    lycoris: (module, matrix) => `lycoris_${module.replaceAll(".", "_")}.lora_${way[matrix]}.weight`,
    oldDiffusers: (module, matrix) => `transformer.${module}.lora.${way[matrix]}.weight`,
    oldest: (module, matrix) =>
      `${module.replace("attn1.", "attn1.processor.").replace(/\.0$/, "")}_lora.${way[matrix]}.weight`,
    text: (module, matrix) => `${module}.lora_linear_layer.${way[matrix]}.weight`,
    compiled: (module, matrix) => `_orig_mod.${module}.lora_${matrix}.weight`,
    compiledBlocks: (module, matrix) =>
      `transformer.${module.replace(/blocks\.\d/, "$&._orig_mod")}.lora_${matrix}.weight`,
    distributed: (module, matrix) => `module.${module}.lora_${matrix}.weight`,
    distributedCompiled: (module, matrix) => `module._orig_mod.transformer.${module}.lora_${matrix}.weight`,
    checkpointed: (module, matrix) =>
      `${module.replace(/blocks\.\d/, "$&._checkpoint_wrapped_module")}.lora_${matrix}.weight`,
  })) {
    const modules = [...QUERIES, OUTPUT];
    const path = await write(`${file}.safetensors`, name, { modules });
    assert.deepEqual(await scalings(path), every(1, modules), file);
  }
});

test("alpha comes from its own key, module by module, whatever the trainer", async () => {
  const flat = QUERIES.map((module) => `lora_unet_${module.replaceAll(".", "_")}`);
  const kohya = (module: string, matrix: "A" | "B") =>
    `lora_unet_${module.replaceAll(".", "_")}.lora_${way[matrix]}.weight`;
  const path = await write("kohya-alpha.safetensors", kohya, {
    alphas: { [`${flat[0]}.alpha`]: 1, [`${flat[1]}.alpha`]: 8 },
  });
  assert.deepEqual(await scalings(path), { [QUERIES[0]!]: 0.5, [QUERIES[1]!]: 4 });
  const comfy = await write(
    "comfy-alpha.safetensors",
    (module, matrix) => `diffusion_model.${module}.lora_${matrix}.weight`,
    {
      alphas: { [`diffusion_model.${QUERIES[0]}.alpha`]: 3 },
    },
  );
  assert.deepEqual(await scalings(comfy), { [QUERIES[0]!]: 1.5, [QUERIES[1]!]: 1 });
  model.deleteAdapters();
  await assert.rejects(
    model.loadLoraAdapter(path, { loraAlpha: 2 }),
    /kohya-alpha\.safetensors: says alpha 1 for transformer_blocks\.0\.attn1\.to_q, loraAlpha is 2; leave it out/,
  );
  assert.deepEqual(model.adapterNames, []);
  // For the modules of which the file says nothing.
  await assert.rejects(model.loadLoraAdapter(comfy, { loraAlpha: 4 }), /says alpha 3 .* loraAlpha is 4/);
});

test("rank_pattern and alpha_pattern match as PEFT's do: by an end of the name, the first that fits, or its regular expression", async () => {
  const modules = [...QUERIES, OUTPUT];
  const settings = (fields: object, prefix = "transformer.") => ({
    lora_adapter_metadata: JSON.stringify(
      Object.fromEntries(Object.entries(fields).map(([key, value]) => [prefix + key, value])),
    ),
  });
  const [q0, q1] = QUERIES as [string, string];
  for (const [name, fields, ranks, expected] of [
    ["none", { r: 2, lora_alpha: 1 }, {}, [0.5, 0.5, 0.5]],
    ["by end", { r: 2, lora_alpha: 1, alpha_pattern: { to_q: 4 } }, {}, [2, 2, 0.5]],
    [
      "not within a word",
      { r: 2, lora_alpha: 1, alpha_pattern: { o_q: 4, "1.to_q": 4 } },
      {},
      [0.5, 0.5, 0.5],
    ],
    ["whole name", { r: 2, lora_alpha: 1, alpha_pattern: { [q1]: 8 } }, {}, [0.5, 4, 0.5]],
    ["diffusers' ^", { r: 2, lora_alpha: 1, alpha_pattern: { [`^${q1}`]: 8 } }, {}, [0.5, 4, 0.5]],
    ["^ is the start", { r: 2, lora_alpha: 1, alpha_pattern: { "^to_q": 8 } }, {}, [0.5, 0.5, 0.5]],
    [
      "expression",
      { r: 2, lora_alpha: 1, alpha_pattern: { "blocks\\.[01].*|to_out.0": 8 } },
      {},
      [0.5, 0.5, 4],
    ],
    ["the first", { r: 2, lora_alpha: 1, alpha_pattern: { "attn1.to_q": 2, to_q: 8 } }, {}, [1, 1, 0.5]],
    ["ranks", { r: 2, lora_alpha: 4, rank_pattern: { to_q: 4 } }, { [q0]: 4, [q1]: 4 }, [1, 1, 2]],
    [
      "rank and alpha",
      { r: 2, lora_alpha: 4, rank_pattern: { to_q: 4 }, alpha_pattern: { "0.attn1.to_q": 2 } },
      { [q0]: 4, [q1]: 4 },
      [0.5, 1, 2],
    ],
    ["rslora", { r: 4, lora_alpha: 4, use_rslora: true }, { [q0]: 4, [q1]: 4, [OUTPUT]: 4 }, [2, 2, 2]],
    ["PEFT's default alpha is 8", { r: 2 }, {}, [4, 4, 4]],
    [
      "nulls",
      { r: 2, lora_alpha: 1, alpha_pattern: null, rank_pattern: null, use_dora: null },
      {},
      [0.5, 0.5, 0.5],
    ],
  ] as const) {
    for (const prefix of ["transformer.", ""]) {
      const header = settings(fields, prefix);
      const path = await write("pattern.safetensors", plain, { modules, ranks, header });
      const found = await scalings(path);
      assert.deepEqual(
        modules.map((module) => found[module]),
        expected,
        name,
      );
    }
  }
  assert.equal(patternValue({ "b.c": 1 }, "a.b.c"), 1);
  assert.equal(patternValue({ "b.c": 1 }, "ab.c"), undefined);
  assert.equal(patternValue({ "0": 1 }, OUTPUT), 1);
  assert.equal(patternValue({ "to_.*": 2, "0$": 1 }, OUTPUT), 2);
  assert.throws(
    () => patternValue({ "to_.*": 2, "0": 1 }, OUTPUT),
    /both "0" and "to_\.\*" match .*to_out\.0; the order of keys that are numbers gets lost, so write "0\$"/,
  );

  // The same rules for a new adapter, and what is saved of it comes back.
  model.deleteAdapters();
  const adapter = {
    r: 2,
    loraAlpha: 4,
    targetModules: modules,
    rankPattern: { to_q: 4 },
    alphaPattern: { "0.attn1.to_q": 2 },
  };
  const made = model.addAdapter(adapter, { generator: new RandomGenerator(1) });
  const shown = [...made.layers.values()].map(({ rank, scaling }) => [rank, scaling]);
  assert.deepEqual(shown, [
    [4, 0.5],
    [2, 2],
    [4, 1],
  ]);
  for (const format of ["diffusers", "peft"] as const) {
    await model.saveLoraAdapter(join(folder, format), { format });
    assert.deepEqual(Object.values(await scalings(join(folder, format))), [0.5, 2, 1], format);
    model.deleteAdapters();
    model.addAdapter(adapter, { generator: new RandomGenerator(1) });
  }
  assert.throws(
    () =>
      model.addAdapter(
        { r: 2, loraAlpha: 4, targetModules: modules, alphaPattern: { "to_(q": 2 } },
        { adapterName: "x", generator: new RandomGenerator(1) },
      ),
    /alphaPattern: "to_\(q" is not a regular expression/,
  );
});

test("finetrainers' header says rank and alpha, too", async () => {
  const header = { lora_config: JSON.stringify({ r: 2, lora_alpha: 1, target_modules: "to_q" }) };
  assert.deepEqual(await scalings(await write("fine.safetensors", plain, { header })), every(0.5));
});

test("settings that contradict the weights or that are not supported are refused by name", async () => {
  const refused = async (fields: unknown, message: RegExp) => {
    const header = { lora_adapter_metadata: typeof fields === "string" ? fields : JSON.stringify(fields) };
    const path = await write("settings.safetensors", plain, { header });
    await assert.rejects(model.loadLoraAdapter(path), message);
    assert.deepEqual(model.adapterNames, []);
  };
  await refused(
    { r: 4, lora_alpha: 4 },
    /settings\.safetensors: transformer_blocks\.0\.attn1\.to_q: rank 4 by lora_adapter_metadata in its header, 2 by its weights/,
  );
  await refused(
    { r: 2, rank_pattern: { "1.attn1.to_q": 8 } },
    /transformer_blocks\.1\.attn1\.to_q: rank 8 by/,
  );
  await refused({ r: 2, lora_alpha: "2" }, /lora_alpha must be a number, found "2"/);
  await refused({ r: 2.5 }, /r must be a whole number above 0, found 2.5/);
  await refused(
    { r: 2, alpha_pattern: { "to_(q": 2 } },
    /alpha_pattern: "to_\(q" is not a regular expression/,
  );
  await refused(
    { r: 2, alpha_pattern: { to_q: null } },
    /alpha_pattern: "to_q": expected a number, found null/,
  );
  await refused({ r: 2, rank_pattern: ["to_q"] }, /rank_pattern: expected numbers by modules' names/);
  await refused({ r: 2, use_dora: true }, /DoRA adapters \(use_dora\) are not supported; merge it/);
  await refused({ r: 2, lora_bias: true }, /LoRAs with biases \(lora_bias\) are not supported/);
  await refused({ r: 2, peft_type: "LOHA" }, /peft_type must be "LORA", found "LOHA"/);
  await refused("[1]", /lora_adapter_metadata in its header must be a JSON object/);
  await refused("{", /lora_adapter_metadata in its header is not valid JSON/);
});

test("what is no LoRA of this model is refused by name, with what to do", async () => {
  const refused = async (keys: Record<string, number[]>, message: RegExp) => {
    const extra = Object.fromEntries(Object.entries(keys).map(([key, shape]) => [key, tf.ones(shape)]));
    const path = await write("other.safetensors", plain, { extra });
    await assert.rejects(model.loadLoraAdapter(path), message);
    assert.deepEqual(model.adapterNames, []);
  };
  const [q] = QUERIES as [string];
  const merge = "not supported; load it in diffusers, merge it";
  await refused({ [`transformer.${q}.lora_magnitude_vector`]: [32] }, new RegExp(`holds a DoRA.*${merge}`));
  await refused({ "lora_unet_a.dora_scale": [32, 1] }, /holds a DoRA: .*lora_unet_a\.dora_scale/);
  await refused({ [`${q}.hada_w1_a`]: [2, 2] }, new RegExp(`holds LoHa, LoKr, OFT or IA3.*${merge}`));
  await refused({ [`${q}.lokr_w1`]: [2, 2] }, /holds LoHa, LoKr/);
  await refused({ [`${q}.lora_B.bias`]: [32] }, /holds biases \(lora_bias\)/);
  await refused({ [`diffusion_model.${q}.diff`]: [32, 32] }, /holds whole weights beside the LoRA's/);
  await refused(
    { "text_encoder.a.lora_A.weight": [2, 2] },
    /holds a LoRA of the text encoder.*take these keys out/,
  );
  await refused({ "lora_te1_a.lora_down.weight": [2, 2] }, /holds a LoRA of the text encoder/);
  await refused(
    { "transformer.layers.0.attention.dense.matrix_A.0": [2, 2] },
    /SAT code.*export_sat_lora_weight\.py/,
  );
  await refused({ [`${q}.lora_A.weight`]: [2, 32] }, /the same weights twice: .* and /);
  await refused(
    { "transformer.proj_out.alpha": [] },
    /alpha of a module that has no weights: transformer\.proj_out\.alpha/,
  );
  await refused({ [`${q}.alpha`]: [2] }, /to_q\.alpha: expected a single number, found shape \[2\]/);
  const names = (module: string, matrix: "A" | "B") =>
    `lora_unet_${module.replaceAll(".", "_")}.lora_${way[matrix]}.weight`;
  const sdxl = await write("sdxl.safetensors", names, { modules: ["down_blocks.0.attentions.0.proj_in"] });
  await assert.rejects(
    model.loadLoraAdapter(sdxl),
    /the model has no linear layers of these names: down_blocks_0_attentions_0_proj_in/,
  );
});

test("a folder's only file is meant, whatever its name; of several, one has to be named", async () => {
  const path = join(folder, "many");
  await mkdir(path);
  await writeFile(join(path, "README.md"), "");
  await write("many/one.safetensors", plain);
  assert.deepEqual(await scalings(path), every(1));
  await write("many/two.safetensors", plain);
  model.deleteAdapters();
  await assert.rejects(
    model.loadLoraAdapter(path),
    /found neither .*, only one\.safetensors, two\.safetensors; weightName \(sample's --lora-weight-name\) says which/,
  );
  await model.loadLoraAdapter(path, { weightName: "two.safetensors" });
});

test("several adapters with weights, as diffusers' set_adapters takes them", async () => {
  const path = await write("several.safetensors", plain);
  for (const adapterName of ["a", "b"]) await model.loadLoraAdapter(path, { adapterName });
  const weights = () => ["a", "b"].map((name) => [...model.adapter(name).layers.values()][0]!.weight);
  assert.deepEqual(weights(), [0, 1], "the last one loaded");
  model.setAdapters(["a", "b"]);
  assert.deepEqual(weights(), [1, 1]);
  model.setAdapters(["b", "a"], [0.5, null]);
  assert.deepEqual(weights(), [1, 0.5]);
  model.setAdapters(["a", "b"], -2);
  assert.deepEqual(weights(), [-2, -2]);
  model.setAdapters("a", 3);
  assert.deepEqual(weights(), [3, 0]);
  assert.throws(() => model.setAdapters(["a", "a"]), /adapter "a" is named twice/);
  assert.throws(
    () => model.setAdapters(["a"], [Number.NaN]),
    /adapterWeights: expected numbers, found NaN for "a"/,
  );
  assert.throws(() => model.setAdapters(["a", "b"], [1]), /expected 2 \(one an adapter\), found 1/);
  assert.deepEqual(weights(), [3, 0], "what is refused changes nothing");
});
