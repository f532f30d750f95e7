/** A transformer with the shapes of CogVideoX-1.5-5B-I2V, a few of its 42 layers kept, loads without a second copy of itself. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { RandomGenerator } from "../../../src/engine/random.js";
import { saveWeights } from "../../../src/weights/checkpoint.js";
import { writeConfig } from "../../../src/weights/config.js";
import { toFloat32 } from "../../../src/weights/dtype.js";
import type { DeferredTensor } from "../../../src/weights/safetensors.js";

const LAYERS = 6;
const DIM = 3072;

/** As the published config.json has it, but for the layers. */
const CONFIG = {
  num_attention_heads: 48,
  attention_head_dim: 64,
  in_channels: 32,
  out_channels: 16,
  flip_sin_to_cos: true,
  freq_shift: 0,
  time_embed_dim: 512,
  ofs_embed_dim: 512,
  text_embed_dim: 4096,
  num_layers: LAYERS,
  dropout: 0,
  attention_bias: true,
  sample_width: 170,
  sample_height: 96,
  sample_frames: 81,
  patch_size: 2,
  patch_size_t: 2,
  temporal_compression_ratio: 4,
  max_text_seq_length: 226,
  activation_fn: "gelu-approximate",
  timestep_activation_fn: "silu",
  norm_elementwise_affine: true,
  norm_eps: 1e-5,
  spatial_interpolation_scale: 1.875,
  temporal_interpolation_scale: 1,
  use_rotary_positional_embeddings: true,
  use_learned_positional_embeddings: false,
  patch_bias: true,
};

const linear = (name: string, out: number, from: number): [string, number[]][] => [
  [`${name}.weight`, [out, from]],
  [`${name}.bias`, [out]],
];
const norm = (name: string, size: number): [string, number[]][] => [
  [`${name}.weight`, [size]],
  [`${name}.bias`, [size]],
];
const block = (name: string): [string, number[]][] => [
  ...linear(`${name}.norm1.linear`, 6 * DIM, 512),
  ...norm(`${name}.norm1.norm`, DIM),
  ...norm(`${name}.attn1.norm_q`, 64),
  ...norm(`${name}.attn1.norm_k`, 64),
  ...["to_q", "to_k", "to_v", "to_out.0"].flatMap((part) => linear(`${name}.attn1.${part}`, DIM, DIM)),
  ...linear(`${name}.norm2.linear`, 6 * DIM, 512),
  ...norm(`${name}.norm2.norm`, DIM),
  ...linear(`${name}.ff.net.0.proj`, 4 * DIM, DIM),
  ...linear(`${name}.ff.net.2`, DIM, 4 * DIM),
];
const SHAPES: [string, number[]][] = [
  ...linear("patch_embed.proj", DIM, 32 * 2 * 2 * 2),
  ...linear("patch_embed.text_proj", DIM, 4096),
  ...linear("time_embedding.linear_1", 512, DIM),
  ...linear("time_embedding.linear_2", 512, 512),
  ...linear("ofs_embedding.linear_1", 512, 512),
  ...linear("ofs_embedding.linear_2", 512, 512),
  ...Array.from({ length: LAYERS }, (_, i) => block(`transformer_blocks.${i}`)).flat(),
  ...norm("norm_final", DIM),
  ...linear("norm_out.linear", 2 * DIM, 512),
  ...norm("norm_out.norm", DIM),
  ...linear("proj_out", 16 * 2 * 2 * 2, DIM),
];

const folder = await mkdtemp(join(tmpdir(), "firstframe-5b-"));
after(() => rm(folder, { recursive: true }));

/** Random bfloat16 of magnitudes around 0.01: sign and mantissa are random, the exponent nearly so. */
function weights(size: number, generator: RandomGenerator): Uint16Array {
  const values = new Uint16Array(size);
  const some = Uint16Array.from({ length: Math.min(size, 65_521) }, () => generator.integer(0, 65_536));
  for (let i = 0; i < size; i++) values[i] = (some[i % some.length]! & 0x80ff) | 0x3c00;
  return values;
}

test("the 5B configuration loads from bfloat16 shards with less than 1.3 times its float32 size", async () => {
  const generator = new RandomGenerator(5);
  const sums = new Map<string, number>();
  const tensors = SHAPES.map(([name, shape]): [string, DeferredTensor] => {
    const load = async () => {
      const data = weights(
        shape.reduce((a, b) => a * b, 1),
        generator,
      );
      if (/^(patch_embed.proj|proj_out).weight/.test(name))
        sums.set(
          name,
          toFloat32("BF16", data).reduce((a, b) => a + b, 0),
        );
      return data;
    };
    return [name, { dtype: "BF16", shape, load }];
  });
  await writeConfig(folder, "CogVideoXTransformer3DModel", CONFIG);
  await saveWeights(folder, tensors, { maxShardSize: "500MB" });
  const shards = (await readdir(folder)).filter((name) => name.endsWith(".safetensors"));
  assert.ok(shards.length > 2, "several shards");

  const script = fileURLToPath(new URL("load-model.js", import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, folder], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  const found = JSON.parse(stdout.trim().split("\n").at(-1)!) as {
    engine: string;
    before: number;
    peak: number;
    float32: number;
    sums: number[];
  };
  const share = (bytes: number) => (bytes / found.float32).toFixed(2);
  console.log(
    `${found.engine}: ${(found.float32 / 2 ** 30).toFixed(2)} GiB in float32, peak ${share(found.peak)} times that, ` +
      `${share(found.peak - found.before)} times without what the process took before`,
  );
  [...sums.values()].forEach((sum, i) => {
    assert.ok(
      Math.abs(found.sums[i]! - sum) <= 1e-3 * Math.max(1, Math.abs(sum)),
      `${found.sums[i]}, not ${sum}`,
    );
  });
  assert.ok(found.peak < 1.3 * found.float32, `peak is ${share(found.peak)} times the float32 size`);
});
