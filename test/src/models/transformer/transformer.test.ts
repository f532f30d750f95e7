import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { useEngine } from "../../../../src/engine/index.js";
import { RandomGenerator } from "../../../../src/engine/random.js";
import * as tf from "../../../../src/engine/tf.js";
import { patchify, unpatchify } from "../../../../src/models/transformer/patch-embed.js";
import {
  get3dRotaryPosEmbed,
  trainingRotaryTables,
} from "../../../../src/models/transformer/rotary-positions.js";
import {
  CogVideoXTransformer3DModel,
  type TransformerInputs,
} from "../../../../src/models/transformer/transformer.js";
import { safeOpen, saveFile } from "../../../../src/weights/safetensors.js";
import { TINY_TRANSFORMER } from "../../diffusion/tiny.js";

let folder: string;
let model: CogVideoXTransformer3DModel;
let tensors: number;

before(async () => {
  await useEngine("cpu");
  folder = await mkdtemp(join(tmpdir(), "firstframe-transformer-"));
  model = CogVideoXTransformer3DModel.fromConfig(TINY_TRANSFORMER, new RandomGenerator(1));
});
beforeEach(() => {
  tensors = tf.memory().numTensors;
});
after(() => rm(folder, { recursive: true }));

function inputsFor(model: CogVideoXTransformer3DModel, seed = 2): TransformerInputs {
  const generator = new RandomGenerator(seed);
  const { in_channels, max_text_seq_length, text_embed_dim } = model.config;
  return {
    hiddenStates: generator.randn([2, 4, in_channels, 4, 6]),
    encoderHiddenStates: generator.randn([2, max_text_seq_length, text_embed_dim]),
    timestep: [999, 3],
    ofs: 2,
    imageRotaryEmb: trainingRotaryTables(model.config, { frames: 4, height: 4, width: 6 }),
  };
}

const output = (model: CogVideoXTransformer3DModel, changes: Partial<TransformerInputs> = {}): number[] =>
  tf.tidy(() => [...model.forward({ ...inputsFor(model), ...changes }).sample.dataSync()]);

const noLeak = () => assert.equal(tf.memory().numTensors, tensors, "tensors left behind");

test("a configuration and a seed make the same model everywhere; weights are drawn as PyTorch does", () => {
  const again = CogVideoXTransformer3DModel.fromConfig(TINY_TRANSFORMER, new RandomGenerator(1));
  assert.deepEqual(output(again), output(model));
  const range = (name: string) => {
    const values = model.parameter(name).value.dataSync();
    return [Math.min(...values), Math.max(...values)] as const;
  };
  const bound = 1 / Math.sqrt(32);
  for (const name of [
    "transformer_blocks.0.attn1.to_q.weight",
    "transformer_blocks.1.ff.net.0.proj.weight",
  ]) {
    const [low, high] = range(name);
    assert.ok(low >= -bound && high <= bound && high - low > 1.8 * bound, `${name}: ${low} to ${high}`);
  }
  assert.deepEqual(range("norm_final.weight"), [1, 1]);
  assert.deepEqual(range("transformer_blocks.0.norm1.norm.bias"), [0, 0]);
  assert.ok(range("proj_out.bias")[1] !== 0);
  again.dispose();
});

test("a model saved in float32, float16 or bfloat16, whole or in shards, loads again", async () => {
  for (const [dtype, tolerance] of [
    ["float32", 0],
    ["float16", 2e-2],
    ["bfloat16", 2e-1],
  ] as const) {
    const path = join(folder, dtype);
    await model.savePretrained(path, { dtype, maxShardSize: "40KB" });
    const loaded = await CogVideoXTransformer3DModel.fromPretrained(path);
    assert.deepEqual(loaded.config, model.config);
    const [a, b] = [output(loaded), output(model)];
    assert.ok(Math.max(...a.map((v, i) => Math.abs(v - b[i]!))) <= tolerance, dtype);
    loaded.dispose();
  }
  noLeak();
});

test("patches and back, for every temporal size", () => {
  for (const patchSizeT of [null, 1, 2, 3]) {
    tf.tidy(() => {
      const latents = new RandomGenerator(1).randn<tf.Rank.R5>([2, 6, 3, 4, 8]);
      const patches = patchify(latents, 2, patchSizeT);
      const frames = 6 / (patchSizeT ?? 1);
      assert.deepEqual(patches.shape, [2, frames * 2 * 4, 3 * (patchSizeT ?? 1) * 4]);
      assert.deepEqual(unpatchify(patches, [6, 4, 8], 2, patchSizeT).dataSync(), latents.dataSync());
      if (patchSizeT !== 2) return;
      // The first patch: channel, frame, row, column.
      const expected: number[] = [];
      const values = latents.arraySync();
      for (let c = 0; c < 3; c++)
        for (let t = 0; t < 2; t++)
          for (let y = 0; y < 2; y++) for (let x = 0; x < 2; x++) expected.push(values[0]![t]![c]![y]![x]!);
      assert.deepEqual([...tf.slice(patches, [0, 0, 0], [1, 1, -1]).dataSync()], expected);
    });
  }
});

test("dropout needs a generator, and checkpointing draws the same masks twice", () => {
  const dropping = CogVideoXTransformer3DModel.fromConfig(
    { ...TINY_TRANSFORMER, dropout: 0.3 },
    new RandomGenerator(1),
  );
  assert.deepEqual(output(dropping), output(model));
  const trained = output(dropping, { generator: new RandomGenerator(4) });
  assert.notDeepEqual(trained, output(dropping));
  assert.deepEqual(output(dropping, { generator: new RandomGenerator(4) }), trained);

  const name = "transformer_blocks.0.ff.net.0.proj.weight";
  const gradients = () => {
    const inputs = { ...inputsFor(dropping), generator: new RandomGenerator(4) };
    const { value, grads } = tf.variableGrads(
      () => tf.mean(tf.square(dropping.forward(inputs).sample)),
      [dropping.parameter(name).value],
    );
    const result = [value.dataSync()[0]!, ...Object.values(grads)[0]!.dataSync()];
    tf.dispose([value, grads, inputs.hiddenStates, inputs.encoderHiddenStates, { ...inputs.imageRotaryEmb }]);
    return result;
  };
  dropping.enableGradientCheckpointing();
  const [first, second] = [gradients(), gradients()];
  assert.deepEqual(first, second);
  // The loss is computed in the first pass and the gradient in the second: a small step along it must lower the loss.
  const { value } = dropping.parameter(name);
  const step = 1e-2;
  value.assign(tf.tidy(() => tf.sub(value, tf.mul(tf.tensor(first.slice(1), value.shape), step))));
  const squares = first.slice(1).reduce((sum, g) => sum + g * g, 0);
  const fall = first[0]! - gradients()[0]!;
  assert.ok(Math.abs(fall - step * squares) < 0.2 * step * squares, `${fall} instead of ${step * squares}`);
  dropping.dispose();
});

test("checkpointing holds on to fewer tensors between forward and backward", () => {
  const held = (checkpointing: boolean) => {
    model.gradientCheckpointing = checkpointing;
    const inputs = inputsFor(model);
    let peak = 0;
    const result = tf.variableGrads(() => {
      const { sample } = model.forward(inputs);
      peak = tf.memory().numBytes;
      return tf.mean(tf.square(sample));
    }, model.trainableVariables());
    tf.dispose([result, inputs.hiddenStates, inputs.encoderHiddenStates, { ...inputs.imageRotaryEmb }]);
    model.gradientCheckpointing = false;
    return peak - tf.memory().numBytes;
  };
  const [plain, checkpointed] = [held(false), held(true)];
  assert.ok(checkpointed < plain / 2, `${checkpointed} of ${plain} bytes`);
  noLeak();
});

test("frozen weights have no gradient; their inputs still do", () => {
  model.requiresGrad(false);
  assert.deepEqual(model.trainableVariables(), []);
  tf.tidy(() => {
    const inputs = inputsFor(model);
    const [gradient] = tf.grads((hiddenStates) =>
      tf.mean(tf.square(model.forward({ ...inputs, hiddenStates: hiddenStates as tf.Tensor5D }).sample)),
    )([inputs.hiddenStates]);
    assert.ok(Math.max(...gradient!.dataSync()) > 0);
  });
  model.requiresGrad(true);
  assert.equal(model.trainableVariables().length, model.parameters.size);
});

test("a stored position table is used at exactly the configured size, and not trained", async () => {
  const learned = CogVideoXTransformer3DModel.fromConfig(
    {
      ...TINY_TRANSFORMER,
      patch_size_t: null,
      ofs_embed_dim: null,
      sample_height: 4,
      sample_width: 6,
      sample_frames: 13,
      use_learned_positional_embeddings: true,
    },
    new RandomGenerator(1),
  );
  const table = learned.parameter("patch_embed.pos_embedding");
  assert.deepEqual(table.shape, [1, 8 + 4 * 2 * 3, 32]);
  assert.ok(!learned.trainableVariables().includes(table.value));
  const same = output(learned);
  const inputs = (frames: number) => ({
    hiddenStates: new RandomGenerator(2).randn<tf.Rank.R5>([2, frames, 8, 4, 6]),
    imageRotaryEmb: trainingRotaryTables(learned.config, { frames, height: 4, width: 6 }),
  });
  const shorter = output(learned, inputs(3));
  table.set(new Float32Array(table.size));
  assert.notDeepEqual(output(learned), same, "4 latent frames use the table");
  assert.deepEqual(output(learned, inputs(3)), shorter, "3 latent frames do not");
  assert.throws(
    () => output(learned, { hiddenStates: tf.zeros([2, 4, 8, 8, 6]), imageRotaryEmb: null }),
    /hiddenStates: this model's learned positions are for 4 x 6 latents .* found 8 x 6/,
  );
  learned.dispose();
});

test("inputs that do not fit are refused by name", () => {
  const refused = (changes: Partial<TransformerInputs>, message: RegExp) =>
    assert.throws(() => output(model, changes), message);
  refused(
    { hiddenStates: tf.zeros([2, 4, 4, 4, 6]) },
    /hiddenStates: expected \[B, F, 8, H, W\], found \[2,4,4,4,6\]/,
  );
  refused(
    { hiddenStates: tf.zeros([2, 4, 8, 5, 6]) },
    /with H and W divisible by 2 \(patch_size\), found \[2,4,8,5,6\]/,
  );
  refused(
    { hiddenStates: tf.zeros([2, 5, 8, 4, 6]) },
    /with F divisible by 2 \(patch_size_t\), found 5 frames/,
  );
  refused(
    { encoderHiddenStates: tf.zeros([2, 8, 5]) },
    /encoderHiddenStates: expected \[2, tokens, 12\].*found \[2,8,5\]/,
  );
  refused({ encoderHiddenStates: tf.zeros([1, 8, 12]) }, /encoderHiddenStates: expected \[2, tokens, 12\]/);
  refused({ timestep: [1, 2, 3] }, /timestep: expected 1 or 2 values \(the batch\), found 3/);
  refused({ ofs: undefined }, /ofs: this model has an offset embedding \(ofs_embed_dim 16\)/);
  refused(
    {
      imageRotaryEmb: get3dRotaryPosEmbed({
        gridType: "slice",
        embedDim: 16,
        gridSize: [2, 2],
        maxSize: [2, 2],
        temporalSize: 2,
      }),
    },
    /rotary table cos: expected \[12, 16\] \(video tokens, head dimension\), found \[8,16\]/,
  );
});

test("configurations that can't be are refused by key", () => {
  const refused = (changes: object, message: RegExp) =>
    assert.throws(
      () =>
        CogVideoXTransformer3DModel.fromConfig({ ...TINY_TRANSFORMER, ...changes }, new RandomGenerator(1)),
      message,
    );
  refused({ num_layers: 0 }, /CogVideoXTransformer3DModel: num_layers must be a positive integer, found 0/);
  refused({ activation_fn: "swish" }, /activation_fn must be one of "gelu-approximate".*found "swish"/);
  refused({ layers: 3 }, /unknown configuration key layers/);
  refused({ dropout: 1 }, /dropout must be at least 0 and below 1, found 1/);
  refused({ ofs_embed_dim: 8 }, /ofs_embed_dim must equal time_embed_dim .* found 8 and 16/);
  refused(
    { use_rotary_positional_embeddings: false, use_learned_positional_embeddings: true },
    /use_learned_positional_embeddings needs use_rotary_positional_embeddings/,
  );
});

test("weights that are missing, of another shape or not finite are refused by name", async () => {
  const path = join(folder, "broken");
  await model.savePretrained(path);
  const file = join(path, "diffusion_pytorch_model.safetensors");
  const stored = await safeOpen(file);
  const all = Object.fromEntries(
    await Promise.all(stored.keys().map(async (key) => [key, await stored.getData(key)] as const)),
  );
  await stored.close();
  const load = () => CogVideoXTransformer3DModel.fromPretrained(path);
  const { "norm_final.weight": gone, ...others } = all;
  await saveFile({ ...others, "norm_final.gamma": gone! }, file);
  await assert.rejects(load(), /1 missing:\n {2}norm_final.weight\n1 unexpected:\n {2}norm_final.gamma/);
  const bias = all["proj_out.bias"]!;
  await saveFile({ ...all, "proj_out.bias": { ...bias, shape: [1, bias.shape[0]!] } }, file);
  await assert.rejects(load(), /proj_out.bias: expected shape \[32\], found \[1,32\]/);
  const values = Float32Array.from(bias.data as Float32Array);
  values[3] = Number.NaN;
  await saveFile({ ...all, "proj_out.bias": { ...bias, data: values } }, file);
  await assert.rejects(load(), /"proj_out.bias" holds NaN at index 3/);
  const config = JSON.parse(await readFile(join(path, "config.json"), "utf8"));
  await writeFile(join(path, "config.json"), JSON.stringify({ ...config, num_layers: 3 }));
  await assert.rejects(load(), /missing:\n {2}transformer_blocks.2.norm1.linear.weight/);
  noLeak();
});

/** What a model's tensors are called, and how they are joined, in CogVideo's own checkpoints. */
async function satTensors(model: CogVideoXTransformer3DModel): Promise<Record<string, tf.Tensor>> {
  const prefix = "model.diffusion_model.";
  const out: Record<string, tf.Tensor> = {};
  const get = (name: string) => model.parameter(name).toFileLayout(model.parameter(name).value);
  const put = (name: string, ...parts: tf.Tensor[]) => {
    out[prefix + name] = parts.length === 1 ? parts[0]! : tf.concat(parts, 0);
  };
  for (const kind of ["weight", "bias"]) {
    for (const [sat, name] of [
      ["time_embed.0", "time_embedding.linear_1"],
      ["time_embed.2", "time_embedding.linear_2"],
      ["ofs_embed.0", "ofs_embedding.linear_1"],
      ["ofs_embed.2", "ofs_embedding.linear_2"],
      ["transformer.final_layernorm", "norm_final"],
      ["mixins.patch_embed.proj", "patch_embed.proj"],
      ["mixins.patch_embed.text_proj", "patch_embed.text_proj"],
      ["mixins.final_layer.norm_final", "norm_out.norm"],
      ["mixins.final_layer.linear", "proj_out"],
      ["mixins.final_layer.adaLN_modulation.1", "norm_out.linear"],
    ] as const) {
      put(`${sat}.${kind}`, get(`${name}.${kind}`));
    }
    for (let i = 0; i < model.config.num_layers; i++) {
      const block = `transformer_blocks.${i}`;
      const layer = `transformer.layers.${i}`;
      put(`${layer}.input_layernorm.${kind}`, get(`${block}.norm1.norm.${kind}`));
      put(`${layer}.post_attention_layernorm.${kind}`, get(`${block}.norm2.norm.${kind}`));
      put(`${layer}.attention.dense.${kind}`, get(`${block}.attn1.to_out.0.${kind}`));
      put(`${layer}.mlp.dense_h_to_4h.${kind}`, get(`${block}.ff.net.0.proj.${kind}`));
      put(`${layer}.mlp.dense_4h_to_h.${kind}`, get(`${block}.ff.net.2.${kind}`));
      put(
        `${layer}.attention.query_key_value.${kind}`,
        ...["to_q", "to_k", "to_v"].map((name) => get(`${block}.attn1.${name}.${kind}`)),
      );
      for (const [sat, name] of [
        ["query", "norm_q"],
        ["key", "norm_k"],
      ] as const) {
        put(`mixins.adaln_layer.${sat}_layernorm_list.${i}.${kind}`, get(`${block}.attn1.${name}.${kind}`));
      }
      // Attention's shift, scale and gate, then the feed-forward layer's; for video, then for text.
      const [one, two] = ["norm1", "norm2"].map((norm) =>
        tf.split(get(`${block}.${norm}.linear.${kind}`), 2, 0),
      );
      put(`mixins.adaln_layer.adaLN_modulations.${i}.1.${kind}`, one![0]!, two![0]!, one![1]!, two![1]!);
    }
  }
  put("mixins.pos_embed.freqs_sin", tf.zeros([2, 2]));
  put("transformer.position_embeddings.weight", tf.zeros([2, 2]));
  out["first_stage_model.encoder.conv_in.weight"] = tf.zeros([1]);
  return out;
}

test("checkpoints of CogVideo's own code base load, and nothing else under that name", async () => {
  const file = join(folder, "mp_rank_00_model_states.safetensors");
  const sat = await satTensors(model);
  await saveFile(sat, file);
  const loaded = await CogVideoXTransformer3DModel.fromOriginal(file, TINY_TRANSFORMER);
  assert.deepEqual(output(loaded), output(model));
  loaded.dispose();
  await saveFile(
    { ...sat, "model.diffusion_model.transformer.layers.0.attention.alpha": tf.zeros([1]) },
    file,
  );
  await assert.rejects(
    CogVideoXTransformer3DModel.fromOriginal(file, TINY_TRANSFORMER),
    /not the names of CogVideo's own transformer: model.diffusion_model.transformer.layers.0.attention.alpha/,
  );
  const { "model.diffusion_model.time_embed.0.weight": _, ...rest } = sat;
  await saveFile(rest, file);
  await assert.rejects(
    CogVideoXTransformer3DModel.fromOriginal(file, TINY_TRANSFORMER),
    /missing:\n {2}time_embedding.linear_1.weight/,
  );
  tf.dispose(sat);
});
