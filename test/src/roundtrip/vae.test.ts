/** VAEs of unusual configurations go to diffusers and back, and give the same numbers and gradients there. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import {
  AutoencoderKLCogVideoX,
  type AutoencoderKLCogVideoXConfig,
} from "../../../src/models/vae/autoencoder.js";
import type { SaveOptions } from "../../../src/nn/module.js";
import { loadFile, saveFile } from "../../../src/weights/safetensors.js";
import { close } from "../engine/agree.js";
import { missingPython, runPython } from "./python.js";

const skip = missingPython("torch", "diffusers") ?? false;
if (skip) console.log(`skipped: ${skip}`);

interface Variant {
  readonly config: Partial<AutoencoderKLCogVideoXConfig>;
  readonly save: SaveOptions;
  readonly frames: number;
  readonly latentFrames: number;
}

const blocks = (channels: number[], groups: number): Partial<AutoencoderKLCogVideoXConfig> => ({
  block_out_channels: channels,
  down_block_types: channels.map(() => "CogVideoXDownBlock3D"),
  up_block_types: channels.map(() => "CogVideoXUpBlock3D"),
  norm_num_groups: groups,
});

const variants: Record<string, Variant> = {
  gelu: {
    config: {
      ...blocks([4, 8], 2),
      latent_channels: 2,
      layers_per_block: 2,
      act_fn: "gelu",
      temporal_compression_ratio: 2,
    },
    save: { maxShardSize: "8KB" },
    frames: 11,
    latentFrames: 3,
  },
  // each later call shrinks to a single frame, and the quantisation convolutions are there
  mish: {
    config: {
      ...blocks([4, 4, 8, 8], 4),
      latent_channels: 3,
      layers_per_block: 1,
      act_fn: "mish",
      norm_eps: 1e-4,
      temporal_compression_ratio: 8,
      use_quant_conv: true,
      use_post_quant_conv: true,
    },
    save: { dtype: "bfloat16", variant: undefined },
    frames: 17,
    latentFrames: 5,
  },
  relu: {
    config: {
      ...blocks([4, 8], 1),
      in_channels: 1,
      out_channels: 2,
      latent_channels: 2,
      act_fn: "relu",
      layers_per_block: 1,
      temporal_compression_ratio: 1,
    },
    save: { dtype: "float16" },
    frames: 10,
    latentFrames: 4,
  },
};

const folder = mkdtempSync(join(tmpdir(), "firstframe-vae-roundtrip-"));
after(() => rmSync(folder, { recursive: true }));

before(async () => {
  if (skip) return;
  await useEngine();
  const generator = new RandomGenerator(8);
  for (const [name, { config, save, frames, latentFrames }] of Object.entries(variants)) {
    const vae = AutoencoderKLCogVideoX.fromConfig(config, generator);
    // off their first values, so that each one matters
    for (const { shape, value } of vae.parameters.values())
      if (shape.length === 1)
        tf.tidy(() => value.assign(tf.add(value, tf.mul(generator.randn(value.shape), 0.2))));
    const { in_channels: channels, latent_channels: latents, block_out_channels: levels } = vae.config;
    const side = 2 ** (levels.length - 1) * 2;
    mkdirSync(join(folder, name));
    await vae.savePretrained(join(folder, name, "vae"), save);
    vae.dispose();
    const inputs = {
      video: generator.randn([2, channels, frames, side, side + 2 ** (levels.length - 1)]),
      latents: generator.randn([1, latents, latentFrames, 2, 3]),
    };
    await saveFile(inputs, join(folder, name, "inputs.safetensors"));
    tf.dispose(inputs);
  }
  runPython("vae.py", folder);
});

for (const name of Object.keys(variants))
  test(`${name}: the same moments, pixels and gradients in diffusers, and what it saves loads here`, {
    skip,
  }, async () => {
    const at = (...parts: string[]) => join(folder, name, ...parts);
    const vae = await AutoencoderKLCogVideoX.fromPretrained(at("vae"));
    const { video, latents } = (await loadFile(at("inputs.safetensors"))) as Record<string, tf.Tensor5D>;
    const theirs = await loadFile(at("outputs.safetensors"));
    const run = () => {
      const moments = vae.encode(video!).latentDist.parameters;
      const { sample } = vae.decode(latents!);
      return { moments, sample };
    };
    tf.tidy(() => {
      const { moments, sample } = run();
      close(moments, theirs.moments!, "moments", 2e-5);
      close(sample, theirs.decoded!, "decoded", 2e-5);
    });
    const { value, grads } = tf.variableGrads(() => {
      const { moments, sample } = run();
      return tf.add(tf.mean(tf.square(moments)), tf.mean(tf.square(sample))) as tf.Scalar;
    }, vae.trainableVariables());
    const largest = (x: tf.Tensor) => tf.tidy(() => tf.max(tf.abs(x)).dataSync()[0]!);
    const scale = Math.max(
      ...Object.keys(theirs)
        .filter((key) => key.startsWith("grad."))
        .map((key) => largest(theirs[key]!)),
    );
    tf.tidy(() => {
      for (const [key, parameter] of vae.parameters) {
        const mine = parameter.toFileLayout(grads[parameter.value.name]!);
        const difference = largest(tf.sub(mine, theirs[`grad.${key}`]!));
        assert.ok(
          difference <= 2e-5 * scale,
          `gradient of ${key}: difference ${difference}, largest of all ${scale}`,
        );
      }
    });

    const again = await AutoencoderKLCogVideoX.fromPretrained(at("again"));
    assert.deepEqual(again.config, vae.config);
    for (const [key, parameter] of vae.parameters) {
      const [before, after] = [await parameter.values(), await again.parameter(key).values()];
      for (const [i, x] of before.entries()) assert.ok(Math.abs(after[i]! - x) <= 2 ** -8 * Math.abs(x), key);
    }
    tf.dispose([video!, latents!, theirs, value, grads]);
    vae.dispose();
    again.dispose();
    assert.equal(tf.memory().numTensors, 0);
  });

test("the default configuration declares diffusers' parameters, in its order", { skip }, () => {
  const published = JSON.parse(readFileSync(join(folder, "published.json"), "utf8"));
  const { parameters } = AutoencoderKLCogVideoX.fromConfig({});
  assert.deepEqual(Object.fromEntries([...parameters].map(([name, { shape }]) => [name, shape])), published);
});
