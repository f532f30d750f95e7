import assert from "node:assert/strict";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  promises,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { Model, normal, ones, torchDefault, zeros } from "../../../src/nn/module.js";
import { openWeights, parseSize } from "../../../src/weights/checkpoint.js";
import {
  boolean,
  completeConfig,
  list,
  nullable,
  number,
  oneOf,
  positiveInteger,
  readConfig,
  readModelIndex,
  writeConfig,
  writeModelIndex,
} from "../../../src/weights/config.js";
import { saveFile } from "../../../src/weights/safetensors.js";

const root = mkdtempSync(join(tmpdir(), "firstframe-checkpoint-"));
let next = 0;
const newFolder = (): string => join(root, String(next++));
before(() => useEngine("cpu"));
after(() => rmSync(root, { recursive: true }));

/** A model of a few parameters, one of them with its axes in another order in memory. */
class Small extends Model {
  constructor() {
    super();
    const inner = this.scope.child("layers").child(0);
    inner.parameter("weight", [2, 3, 4], { init: torchDefault(12), permutation: [2, 0, 1] });
    inner.parameter("bias", [2], { init: torchDefault(12) });
    this.scope.parameter("table", [5, 2], { init: normal(0.02), trainable: false });
    this.scope.parameter("scale", [], { init: ones });
    this.scope.parameter("shift", [3], { init: zeros });
  }
}

function small(seed = 1): Small {
  const model = new Small();
  model.initialize(new RandomGenerator(seed));
  return model;
}

async function valuesOf(model: Model): Promise<Record<string, number[]>> {
  const values: Record<string, number[]> = {};
  for (const [name, parameter] of model.parameters) values[name] = [...(await parameter.values())];
  return values;
}

test("initial values are PyTorch's kind, and the same for the same seed", async () => {
  const [a, b, c] = [small(1), small(1), small(2)];
  assert.deepEqual(await valuesOf(a), await valuesOf(b));
  assert.notDeepEqual(await valuesOf(a), await valuesOf(c));
  const { "layers.0.weight": weight, scale, shift } = await valuesOf(a);
  assert.ok(weight!.every((value) => Math.abs(value) <= 1 / Math.sqrt(12)));
  assert.ok(Math.max(...weight!.map(Math.abs)) > 0.5 / Math.sqrt(12));
  assert.deepEqual([scale, shift], [[1], [0, 0, 0]]);
  assert.deepEqual(a.parameter("layers.0.weight").value.shape, [4, 2, 3]);
  assert.equal(a.numParameters(), 24 + 2 + 10 + 1 + 3);
  assert.equal(a.trainableVariables().length, 4);
  for (const model of [a, b, c]) model.dispose();
  assert.equal(tf.memory().numTensors, 0);
});

test("a tensor goes from memory's layout to the file's and back", async () => {
  const model = small();
  const parameter = model.parameter("layers.0.weight");
  const inFile = parameter.toFileLayout(parameter.value);
  assert.deepEqual(inFile.shape, [2, 3, 4]);
  const again = parameter.toMemoryLayout(inFile);
  assert.deepEqual(await again.data(), await parameter.value.data());
  // [i, j, k] of the file is [k, i, j] in memory
  assert.equal((await inFile.data())[1 * 12 + 2 * 4 + 3], (await parameter.value.data())[3 * 6 + 1 * 3 + 2]);
  tf.dispose([inFile, again]);
  model.dispose();
});

for (const options of [
  {},
  { maxShardSize: 60 },
  { maxShardSize: "1KB", variant: "fp16" },
  { maxShardSize: 40, variant: "ema" },
] as const)
  test(`a model saved with ${JSON.stringify(options)} loads with the same values`, async () => {
    const folder = newFolder();
    const model = small();
    await model.saveWeights(folder, options);
    const other = small(2);
    const location = "variant" in options ? { variant: options.variant } : {};
    await other.loadWeights(folder, location);
    assert.deepEqual(await valuesOf(other), await valuesOf(model));
    model.dispose();
    other.dispose();
    assert.equal(tf.memory().numTensors, 0);
  });

test("cut short between two shards of another save, a folder is no mixture of both", async () => {
  const folder = newFolder();
  const [first, second] = [small(1), small(2)];
  await first.saveWeights(folder, { maxShardSize: 60 });
  const { rename } = promises;
  let renamed = 0;
  promises.rename = async (from, to) => {
    if (
      /-of-\d{5}\.safetensors$/.test(String(to)) &&
      /\d\.safetensors\.tmp$/.test(String(from)) &&
      ++renamed === 2
    )
      throw new Error("cut short");
    await rename(from, to);
  };
  syncBuiltinESMExports();
  try {
    await assert.rejects(second.saveWeights(folder, { maxShardSize: 60 }), /cut short/);
  } finally {
    promises.rename = rename;
    syncBuiltinESMExports();
  }
  assert.equal(renamed, 2);
  await assert.rejects(openWeights(folder), /found neither/);
  first.dispose();
  second.dispose();
});

test("shards and their index are named and filled as diffusers does it", async () => {
  const folder = newFolder();
  const model = small();
  await model.saveWeights(folder, { maxShardSize: 60 });
  assert.deepEqual(readdirSync(folder).sort(), [
    "diffusion_pytorch_model-00001-of-00003.safetensors",
    "diffusion_pytorch_model-00002-of-00003.safetensors",
    "diffusion_pytorch_model-00003-of-00003.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
  ]);
  const index = JSON.parse(
    readFileSync(join(folder, "diffusion_pytorch_model.safetensors.index.json"), "utf8"),
  );
  assert.deepEqual(index.metadata, { total_size: 40 * 4 });
  assert.equal(index.weight_map["layers.0.weight"], "diffusion_pytorch_model-00001-of-00003.safetensors");
  assert.equal(index.weight_map.shift, "diffusion_pytorch_model-00003-of-00003.safetensors");

  await model.saveWeights(folder);
  assert.deepEqual(readdirSync(folder), ["diffusion_pytorch_model.safetensors"], "the shards are gone");
  await model.saveWeights(folder, { maxShardSize: 60 });
  assert.ok(!existsSync(join(folder, "diffusion_pytorch_model.safetensors")));
  model.dispose();
});

test("half-precision weights are rounded on the way out and widened on the way in", async () => {
  for (const [dtype, step] of [
    ["float16", 2 ** -11],
    ["bfloat16", 2 ** -8],
  ] as const) {
    const folder = newFolder();
    const model = small();
    await model.saveWeights(folder, { dtype });
    const source = await openWeights(folder);
    assert.equal(source.info("scale").dtype, dtype === "float16" ? "F16" : "BF16");
    await source.close();
    const other = small(2);
    await other.loadWeights(folder);
    const [mine, theirs] = [await valuesOf(model), await valuesOf(other)];
    let exact = true;
    for (const [name, values] of Object.entries(mine))
      for (const [i, value] of values.entries()) {
        const read = theirs[name]![i]!;
        assert.ok(
          Math.abs(read - value) <= step * Math.abs(value) + 2 ** -25,
          `${name}[${i}]: ${value}, ${read}`,
        );
        exact &&= read === value;
      }
    assert.ok(!exact, "something was rounded");
    model.dispose();
    other.dispose();
  }
});

test("keys that are missing, not wanted or of another shape or kind are all listed", async () => {
  const path = join(root, "wrong.safetensors");
  await saveFile(
    {
      "layers.0.weight": { dtype: "F32", shape: [4, 3, 2], data: new Float32Array(24) },
      "layers.0.bias": { dtype: "I32", shape: [2], data: new Int32Array(2) },
      "layers.1.bias": { dtype: "F32", shape: [2], data: new Float32Array(2) },
      shift: { dtype: "F32", shape: [3], data: new Float32Array(3) },
    },
    path,
  );
  const model = small();
  const kept = await valuesOf(model);
  await assert.rejects(model.loadWeights(path), (error: Error) => {
    assert.equal(
      error.message,
      `${path}: the weights do not fit the model.\n2 missing:\n  table\n  scale\n1 unexpected:\n  layers.1.bias\n2 mismatched:\n` +
        "  layers.0.weight: expected shape [2,3,4], found [4,3,2]\n  layers.0.bias: expected a float format, found I32",
    );
    return true;
  });
  assert.deepEqual(await valuesOf(model), kept, "nothing was loaded");
  model.dispose();
  assert.throws(() => model.parameter("shift").value, /parameter shift has no values/);
  assert.throws(() => model.parameter("other"), /no parameter other/);
});

test("a weight that is not a number is refused by name", async () => {
  const folder = newFolder();
  const model = small();
  model.parameter("shift").set(Float32Array.of(1, Number.NaN, 2));
  await model.saveWeights(folder);
  await assert.rejects(small().loadWeights(folder), /safetensors: "shift" holds NaN at index 1/);
  model.dispose();
});

test("keys can be renamed and left out", async () => {
  const path = join(root, "renamed.safetensors");
  const model = small();
  const entries = await Promise.all(
    [...model.parameters].map(async ([name, parameter]) => {
      const data = await parameter.values();
      return [`old.${name}`, { dtype: "F32", shape: parameter.shape, data }] as const;
    }),
  );
  await saveFile([...entries, ["loss", { dtype: "F32", shape: [1], data: new Float32Array(1) }]], path);
  const other = small(2);
  await other.loadWeights(path, { rename: (key) => (key === "loss" ? undefined : key.replace("old.", "")) });
  assert.deepEqual(await valuesOf(other), await valuesOf(model));
  model.dispose();
  other.dispose();
});

test("a checkpoint with parts missing is refused, with their names", async () => {
  const folder = newFolder();
  const model = small();
  await assert.rejects(
    model.loadWeights(folder),
    /found neither diffusion_pytorch_model.safetensors nor diffusion_pytorch_model.safetensors.index.json/,
  );
  await model.saveWeights(folder, { maxShardSize: 60 });
  const shard = (n: number) => `diffusion_pytorch_model-0000${n}-of-00003.safetensors`;
  const index = join(folder, "diffusion_pytorch_model.safetensors.index.json");
  const text = readFileSync(index, "utf8");

  const damaged = newFolder();
  cpSync(folder, damaged, { recursive: true });
  rmSync(join(damaged, shard(2)));
  await assert.rejects(model.loadWeights(damaged), new RegExp(`1 of 3 files are missing: ${shard(2)}`));

  cpSync(folder, damaged, { recursive: true });
  truncateSync(join(damaged, shard(3)), 100);
  await assert.rejects(model.loadWeights(damaged), new RegExp(`${shard(3)}: .*`));

  for (const [change, message] of [
    [
      (map: Record<string, unknown>) => Object.assign(map, { shift: shard(1) }),
      /"shift" should be in .*00001-of-00003.safetensors, but is not/,
    ],
    [
      (map: Record<string, unknown>) => Object.assign(map, { shift: "../../etc/x.safetensors" }),
      /"shift" must be in a safetensors file of this folder/,
    ],
    [
      (map: Record<string, unknown>) => Object.assign(map, { shift: 3 }),
      /"shift" must be in a safetensors file of this folder, found 3/,
    ],
    [(map: Record<string, unknown>) => delete map.shift, /1 missing:\n {2}shift/],
  ] as const) {
    const json = JSON.parse(text);
    change(json.weight_map);
    writeFileSync(index, JSON.stringify(json));
    await assert.rejects(model.loadWeights(folder), message);
  }
  writeFileSync(index, '{"weight_map": []}');
  await assert.rejects(model.loadWeights(folder), /expected a weight_map/);
  model.dispose();
});

test("shard sizes are read as huggingface_hub reads them", () => {
  assert.deepEqual(["10GB", "5 MB", "40KB", "1.5KB", 123].map(parseSize), [10e9, 5e6, 40e3, 1500, 123]);
  for (const bad of ["10", "GB", "10XB", "-1GB", 0, Number.NaN])
    assert.throws(() => parseSize(bad), /maxShardSize/);
});

const FIELDS = {
  channels: list([8, 16], positiveInteger(1)),
  kind: oneOf("plain", ["plain", "fancy"]),
  rate: number(0.5),
  shift: nullable(number(0)),
  on: boolean(false),
};

test("a configuration is completed with defaults and checked key by key", () => {
  const complete = (given: Record<string, unknown>) => completeConfig(FIELDS, given, "here", "refuse");
  assert.deepEqual(complete({ _class_name: "X", rate: 2 }), {
    channels: [8, 16],
    kind: "plain",
    rate: 2,
    shift: null,
    on: false,
  });
  const wrong: [Record<string, unknown>, string][] = [
    [{ channels: [8, 1.5] }, "here: channels must be a list, each entry a positive integer, found [8,1.5]"],
    [{ kind: "other" }, 'here: kind must be one of "plain", "fancy", found "other"'],
    [{ rate: "1" }, 'here: rate must be a number, found "1"'],
    [{ shift: "1" }, 'here: shift must be a number, or null, found "1"'],
    [{ on: 1 }, "here: on must be true or false, found 1"],
    [{ of: 1 }, "here: unknown configuration key of; known are channels, kind, rate, shift, on"],
  ];
  for (const [given, message] of wrong)
    assert.throws(() => complete(given), { name: "ConfigError", message });
});

test("a configuration file is written as diffusers writes it, and read back for its class only", async () => {
  const folder = newFolder();
  await small().saveWeights(folder);
  await writeConfig(folder, "Thing", { width: 3, act_fn: "silu" });
  const text = readFileSync(join(folder, "config.json"), "utf8");
  assert.match(
    text,
    /^\{\n {2}"_class_name": "Thing",\n {2}"_diffusers_version": "[\d.]+",\n {2}"act_fn": "silu",\n {2}"width": 3\n\}\n$/,
  );
  assert.equal((await readConfig(folder, "Thing")).width, 3);
  await assert.rejects(
    readConfig(folder, "Other"),
    /config.json: expected the configuration of Other, found _class_name "Thing"/,
  );
  await assert.rejects(readConfig(join(folder, "no"), "Thing"), /config.json: no such file/);
  writeFileSync(join(folder, "config.json"), "{");
  await assert.rejects(readConfig(folder, "Thing"), /config.json: not valid JSON/);
  writeFileSync(join(folder, "config.json"), "[]");
  await assert.rejects(readConfig(folder, "Thing"), /config.json: expected a JSON object, found \[\]/);
});

test("a pipeline's index names the library and class of each component", async () => {
  const folder = newFolder();
  await small().saveWeights(folder);
  const index = {
    className: "CogVideoXImageToVideoPipeline",
    components: { vae: ["diffusers", "AutoencoderKLCogVideoX"] as const, tokenizer: null },
  };
  await writeModelIndex(folder, index);
  assert.deepEqual(await readModelIndex(folder), index);
  writeFileSync(join(folder, "model_index.json"), '{"_class_name":"P","vae":["diffusers"]}');
  await assert.rejects(readModelIndex(folder), /vae must be \[library, class\], found \["diffusers"\]/);
  writeFileSync(join(folder, "model_index.json"), "{}");
  await assert.rejects(readModelIndex(folder), /expected a _class_name/);
});
