/** Models' folders as others keep them: variants, other names, the Hugging Face cache, parts missing, quantised weights. */
import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { T5EncoderModel } from "../../../src/models/text/t5-encoder.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import { chooseWeights } from "../../../src/weights/checkpoint.js";
import { saveFile } from "../../../src/weights/safetensors.js";
import { tinyPipeline } from "../diffusion/tiny.js";

let root = "";
let folder = "";
const at = (...parts: string[]) => join(folder, ...parts);
const warnings: string[] = [];
const listen = (warning: Error) => warnings.push(warning.message);

before(async () => {
  await useEngine("cpu");
  root = await mkdtemp(join(tmpdir(), "firstframe-folders-"));
  const pipe = tinyPipeline();
  await pipe.savePretrained(join(root, "whole"));
  await pipe.transformer.savePretrained(join(root, "shards"), { maxShardSize: "20KB", variant: "fp16" });
  pipe.dispose();
  process.on("warning", listen);
});
let count = 0;
beforeEach(async () => {
  folder = join(root, `model-${count++}`);
  await cp(join(root, "whole"), folder, { recursive: true });
});
after(async () => {
  process.off("warning", listen);
  await rm(root, { recursive: true });
});

const WEIGHTS = ["transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"];
const move = (from: string, to: string) => rename(at(from), at(to));

async function loads(options: { variant?: string } = {}): Promise<string[]> {
  warnings.length = 0;
  const before = tf.memory().numTensors;
  (await CogVideoXImageToVideoPipeline.fromPretrained(folder, options)).dispose();
  assert.equal(tf.memory().numTensors, before);
  await new Promise(setImmediate);
  return warnings.map((text) => text.replace(`${folder}/`, ""));
}

test("which of a folder's files are a model's weights", () => {
  const name = "diffusion_pytorch_model";
  for (const [names, location, expected] of [
    [[`${name}.safetensors`, `${name}.fp16.safetensors`], {}, `${name}.safetensors`],
    [[`${name}.safetensors`, `${name}.fp16.safetensors`], { variant: "fp16" }, `${name}.fp16.safetensors`],
    [[`${name}.safetensors`], { variant: "fp16" }, `${name}.safetensors`],
    [[`${name}.fp16.safetensors`], {}, `${name}.fp16.safetensors`],
    [[`${name}.fp16.safetensors`, `${name}.bf16.safetensors`], {}, undefined],
    [[`${name}.fp16.safetensors`, `${name}.bf16.safetensors`], { variant: "fp8" }, undefined],
    [
      [`${name}.safetensors.index.fp16.json`, `${name}.fp16-00001-of-00001.safetensors`],
      {},
      `${name}.safetensors.index.fp16.json`,
    ],
    [
      [`${name}.safetensors.index.fp16.json`, `${name}-00001-of-00001.fp16.safetensors`],
      { variant: "fp16" },
      `${name}.safetensors.index.fp16.json`,
    ],
    [["model.safetensors"], {}, "model.safetensors"],
    [["one.safetensors", "two.safetensors"], {}, undefined],
    [[`${name}-00001-of-00002.safetensors`], {}, undefined],
    [[`${name}.bin`], {}, `${name}.bin`],
    [[`${name}.fp16.bin`, `${name}.bin`], { variant: "fp16" }, `${name}.fp16.bin`],
    [["pytorch_model.bin"], { weightsName: "model" }, "pytorch_model.bin"],
    [[`${name}.bin`, `${name}.safetensors`], {}, `${name}.safetensors`],
    [["model.gguf", "config.json"], {}, undefined],
  ] as const)
    assert.equal(chooseWeights(names, location)?.file, expected, `${names} ${JSON.stringify(location)}`);
});

test("a variant, and folders that have only one: fp16 alone, some parts without it", async () => {
  for (const name of WEIGHTS) await move(`${name}.safetensors`, `${name}.fp16.safetensors`);
  assert.deepEqual(await loads({ variant: "fp16" }), []);
  assert.deepEqual(await loads(), [
    "text_encoder: has only model.fp16.safetensors, which is read",
    "vae: has only diffusion_pytorch_model.fp16.safetensors, which is read",
    "transformer: has only diffusion_pytorch_model.fp16.safetensors, which is read",
  ]);
  await move("vae/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors");
  assert.deepEqual(await loads({ variant: "fp16" }), [
    "vae: has no weights of the variant fp16, but diffusion_pytorch_model.safetensors, which is read",
  ]);
  await rm(at("transformer"), { recursive: true });
  await cp(join(root, "shards"), at("transformer"), { recursive: true });
  assert.deepEqual(await loads({ variant: "fp16" }), [], "in shards");
});

test("a single file under another name; a file's path instead of a folder", async () => {
  await move("transformer/diffusion_pytorch_model.safetensors", "transformer/mine.safetensors");
  assert.deepEqual(await loads(), ["transformer: has only mine.safetensors, which is read"]);
  const file = at("transformer", "mine.safetensors");
  (await CogVideoXTransformer3DModel.fromPretrained(file)).dispose();
  (await AutoencoderKLCogVideoX.fromPretrained(at("vae/diffusion_pytorch_model.safetensors"))).dispose();
  (await T5EncoderModel.fromPretrained(at("text_encoder/model.safetensors"))).dispose();
  await rm(at("transformer/config.json"));
  await assert.rejects(
    CogVideoXTransformer3DModel.fromPretrained(file),
    /mine\.safetensors: a single file, without the model's config\.json beside it; expected a folder/,
  );
  await assert.rejects(
    CogVideoXImageToVideoPipeline.fromPretrained(file),
    /mine\.safetensors: expected a folder, found a file$/,
  );
  await assert.rejects(
    CogVideoXImageToVideoPipeline.fromPretrained(at("vae")),
    /vae\/model_index\.json: no such file; .*vae has the config\.json of one model/,
  );
});

test("a folder of the Hugging Face cache is its snapshot", async () => {
  const [first, second] = ["1".repeat(40), "2".repeat(40)];
  const storage = join(root, "hub/models--org--tiny");
  await mkdir(join(storage, "refs"), { recursive: true });
  await cp(folder, join(storage, "snapshots", first), { recursive: true });
  const load = async (path: string, revision?: string) =>
    (
      await CogVideoXImageToVideoPipeline.fromPretrained(path, { ...(revision ? { revision } : {}) })
    ).dispose();
  await load(storage);
  await cp(folder, join(storage, "snapshots", second), { recursive: true });
  await assert.rejects(
    load(storage),
    /models--org--tiny: a folder of the Hugging Face cache without revision main, with the snapshots 1{40}, 2{40}; name one/,
  );
  await load(storage, second);
  await writeFile(join(storage, "refs", "main"), `${first}\n`);
  await load(storage);
  await assert.rejects(load(storage, "v2"), /without revision v2/);
  await assert.rejects(
    load(join(root, "hub")),
    /hub: expected a model, found the Hugging Face cache itself, with org\/tiny; set HF_HUB_CACHE=.*hub and give the model's id/,
  );
  (await AutoencoderKLCogVideoX.fromPretrained(storage, { subfolder: "vae" })).dispose();
});

test("all parts that a pipeline's folder lacks are named, and no server is asked for them", async () => {
  await rm(at("text_encoder"), { recursive: true });
  await rm(at("vae/config.json"));
  await rm(at("transformer/diffusion_pytorch_model.safetensors"));
  await assert.rejects(loads(), (error: Error) => {
    assert.equal(
      error.message.replace(folder, ""),
      ": parts of the pipeline are missing: text_encoder: no such folder; vae: it has no vae/config.json, only vae/diffusion_pytorch_model.safetensors; transformer: it has neither transformer/diffusion_pytorch_model.safetensors.index.json nor transformer/diffusion_pytorch_model.safetensors",
    );
    return true;
  });
});

test("a part of a local pipeline is not looked for on the Hub; a file where a folder is to be written is named", async () => {
  await rm(at("vae"), { recursive: true });
  await assert.rejects(
    AutoencoderKLCogVideoX.fromPretrained(at("vae")),
    /^HubError: .*vae: no such folder in the pipeline's$/,
  );
  const file = at("a-file");
  await writeFile(file, "");
  const pipe = tinyPipeline();
  pipe.transformer.addAdapter(
    { r: 1, loraAlpha: 1, targetModules: ["to_q"] },
    { generator: new RandomGenerator(0) },
  );
  const refused = { name: "CheckpointError", message: /expected a folder to write to, found a file$/ };
  await assert.rejects(pipe.saveLoraWeights(file), refused);
  await assert.rejects(pipe.saveLoraWeights(join(file, "sub")), refused);
  await assert.rejects(pipe.savePretrained(file), refused);
  await assert.rejects(pipe.transformer.savePretrained(file), refused);
  await assert.rejects(pipe.scheduler.savePretrained(file), refused);
  pipe.dispose();
  await rm(at("transformer/diffusion_pytorch_model.safetensors"));
  await writeFile(at("transformer/model.gguf"), "");
  await assert.rejects(
    CogVideoXTransformer3DModel.fromPretrained(at("transformer")),
    /found neither .*, only model\.gguf; write them as safetensors in Python/,
  );
});

test("configurations with keys that are unknown, null, or of quantised weights", async () => {
  const file = at("transformer/config.json");
  const config = JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
  const write = (changes: object) => writeFile(file, JSON.stringify({ ...config, ...changes }));
  await write({ new_option: null });
  assert.deepEqual(await loads(), []);
  await write({ num_layer: 3 });
  assert.deepEqual(await loads(), [
    "transformer/config.json: unknown configuration key num_layer will be ignored. did you mean num_layers?",
  ]);
  await write({ num_layers: null });
  await assert.rejects(
    loads(),
    /transformer\/config\.json: num_layers must be a positive integer, found null; without the key it is 30/,
  );
  await write({ patch_size_t: null, ofs_embed_dim: null, quantization_config: null });
  await assert.rejects(loads(), /the weights do not fit the model/);
  await write({ quantization_config: { quant_method: "bitsandbytes", load_in_4bit: true } });
  await assert.rejects(
    loads(),
    /transformer\/config\.json: its weights are quantised \(quantization_config: quant_method "bitsandbytes"\), which is not supported; take the model's/,
  );
  await write({});
  const t5 = at("text_encoder/config.json");
  const text = JSON.parse(await readFile(t5, "utf8")) as object;
  await writeFile(t5, JSON.stringify({ ...text, quantization_config: { quant_method: "gptq" } }));
  await assert.rejects(loads(), /text_encoder\/config\.json: its weights are quantised .*gptq/);
});

test("quantised weights are named, whoever made them", async () => {
  const path = at("transformer/diffusion_pytorch_model.safetensors");
  const module = "transformer_blocks.0.attn1.to_q";
  const byte = { dtype: "U8", shape: [4, 1], data: new Uint8Array(4) } as const;
  const float = { dtype: "F32", shape: [1], data: new Float32Array(1) } as const;
  const fp8 = { dtype: "F8_E4M3", shape: [4, 1], data: new Uint8Array(4) } as const;
  for (const [tensors, message] of [
    [{ [`${module}.weight`]: byte, [`${module}.weight.absmax`]: float }, /to_q\.weight\.absmax: F32/],
    [{ [`${module}.weight`]: { ...byte, dtype: "I8" }, [`${module}.SCB`]: float }, /to_q\.SCB/],
    [{ [`${module}.qweight`]: byte }, /to_q\.qweight: U8/],
    [{ [`${module}.weight`]: fp8, [`${module}.weight_scale`]: float }, /to_q\.weight_scale/],
    [{ [`${module}.weight`]: fp8 }, /to_q\.weight: F8_E4M3/],
  ] as const) {
    await saveFile(tensors as Parameters<typeof saveFile>[0], path);
    await assert.rejects(loads(), (error: Error) => {
      assert.match(
        error.message,
        /its weights are quantised \(.*\), which is not supported; take the model's/,
      );
      assert.match(error.message, message);
      return true;
    });
  }
});
