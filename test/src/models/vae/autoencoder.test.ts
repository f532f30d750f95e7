import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { useEngine } from "../../../../src/engine/index.js";
import { RandomGenerator } from "../../../../src/engine/random.js";
import * as tf from "../../../../src/engine/tf.js";
import {
  AutoencoderKLCogVideoX,
  type AutoencoderKLCogVideoXConfig,
} from "../../../../src/models/vae/autoencoder.js";
import { DiagonalGaussianDistribution } from "../../../../src/models/vae/distribution.js";
import { saveFile } from "../../../../src/weights/safetensors.js";
import { close } from "../../engine/agree.js";

const tiny: Partial<AutoencoderKLCogVideoXConfig> = {
  block_out_channels: [4, 4, 8],
  down_block_types: Array(3).fill("CogVideoXDownBlock3D"),
  up_block_types: Array(3).fill("CogVideoXUpBlock3D"),
  latent_channels: 2,
  layers_per_block: 1,
  norm_num_groups: 2,
  sample_height: 32,
  sample_width: 32,
};

const folder = mkdtempSync(join(tmpdir(), "firstframe-vae-"));
const generator = new RandomGenerator(3);
const randn = (...shape: [number, number, number, number, number]) => generator.randn<tf.Rank.R5>(shape);
let vae: AutoencoderKLCogVideoX;
let tensors = 0;

before(async () => {
  await useEngine();
  vae = AutoencoderKLCogVideoX.fromConfig(tiny, new RandomGenerator(1));
  tensors = tf.memory().numTensors;
});
after(() => {
  assert.equal(tf.memory().numTensors, tensors, "tensors left behind");
  rmSync(folder, { recursive: true });
});

function moments(vae: AutoencoderKLCogVideoX, video: tf.Tensor5D): tf.Tensor5D {
  return tf.tidy(() => vae.encode(video).latentDist.parameters);
}

/** The frames of a clip in pieces of these sizes, each made when it is asked for. */
function* pieces(video: tf.Tensor5D, sizes: readonly number[]): Generator_ {
  let start = 0;
  for (const size of sizes) {
    yield tf.slice(video, [0, 0, start, 0, 0], [-1, -1, size, -1, -1]);
    start += size;
  }
}
type Generator_ = globalThis.Generator<tf.Tensor5D, void, undefined>;

for (const [sizes, slicing, tiling] of [
  [[17], false, false],
  [[1, 3, 5, 8, 2, 1], true, false],
  [Array<number>(20).fill(1), false, true],
] as const)
  test(`streams of pieces of ${sizes} frames equal the whole${slicing ? ", sliced" : ""}${tiling ? ", tiled" : ""}`, async () => {
    const numFrames = sizes.reduce((sum: number, n) => sum + n, 0);
    const video = randn(2, 3, numFrames, 16, 24);
    if (slicing) vae.enableSlicing();
    if (tiling)
      vae.enableTiling({
        tileSampleMinHeight: 16,
        tileSampleMinWidth: 16,
        tileOverlapFactorHeight: 0.25,
        tileOverlapFactorWidth: 0.25,
      });
    const whole = moments(vae, video);
    const groups: tf.Tensor5D[] = [];
    for await (const part of vae.encodeStream(pieces(video, sizes), { numFrames })) {
      groups.push(part.parameters.clone());
      part.dispose();
    }
    assert.equal(groups.length, 2);
    tf.tidy(() => close(tf.concat(groups, 2), whole, "moments"));

    const latents = randn(2, 2, 5, 4, 6);
    const { sample } = vae.decode(latents);
    const frames: tf.Tensor5D[] = [];
    for await (const part of vae.decodeStream(pieces(latents, [1, 3, 1]), { numFrames: 5 }))
      frames.push(part);
    assert.deepEqual(
      frames.map((part) => part.shape[2]),
      [9, 8],
    );
    tf.tidy(() => close(tf.concat(frames, 2), sample, "decoded"));
    tf.dispose([video, whole, groups, latents, sample, frames]);
    vae.disableSlicing();
    vae.disableTiling();
  });

test("a stream's memory is that of one group, however long the clip; one left early gives everything back", async () => {
  const peakOf = async (numFrames: number): Promise<number> => {
    let peak = 0;
    const before = tf.memory().numBytes;
    const remove = vae.registerForwardHook(() => {
      peak = Math.max(peak, tf.memory().numBytes - before);
    });
    const frames = function* () {
      for (let i = 0; i < numFrames; i++) yield tf.zeros<tf.Rank.R5>([1, 3, 1, 16, 16]);
    };
    for await (const part of vae.encodeStream(frames(), { numFrames })) part.dispose();
    remove();
    return peak;
  };
  const [short, long] = [await peakOf(17), await peakOf(41)];
  assert.ok(short > 0);
  assert.equal(long, short);

  for await (const part of vae.encodeStream(
    (function* () {
      for (;;) yield tf.zeros<tf.Rank.R5>([1, 3, 5, 16, 16]);
    })(),
    { numFrames: 81 },
  )) {
    part.dispose();
    break;
  }
});

test("a stream that holds too few or too many frames is refused", async () => {
  const drain = async (sizes: number[], numFrames: number) => {
    const video = tf.zeros<tf.Rank.R5>([1, 3, 20, 8, 8]);
    try {
      for await (const part of vae.encodeStream(pieces(video, sizes), { numFrames })) part.dispose();
    } finally {
      video.dispose();
    }
  };
  await assert.rejects(drain([9, 7], 17), /numFrames is 17, but only 16 frames came/);
  await assert.rejects(drain([9, 9], 17), /numFrames is 17, but at least 18 frames came/);
  await assert.rejects(drain([1], 0), /at least 1 frame, found 0 frames/);
  await assert.rejects(drain([1], 1.5), /at least 1 frame, found 1.5 frames/);
});

test("inputs of another shape are refused", () => {
  tf.tidy(() => {
    const zeros = (...shape: number[]) => tf.zeros<tf.Rank.R5>(shape as tf.ShapeMap[tf.Rank.R5]);
    assert.throws(
      () => vae.encode(zeros(1, 4, 9, 16, 16)),
      /encode: x must be \[B, 3, F, H, W\], found \[1,4,9,16,16\]/,
    );
    assert.throws(() => vae.encode(zeros(3, 9, 16, 16)), /x must be \[B, 3, F, H, W\], found \[3,9,16,16\]/);
    assert.throws(() => vae.encode(zeros(1, 3, 0, 16, 16)), /at least 1 frame, found 0/);
    assert.throws(() => vae.encode(zeros(1, 3, 1, 16, 3)), /H and W of at least 4, found \[1,3,1,16,3\]/);
    assert.throws(() => vae.decode(zeros(1, 3, 1, 4, 4)), /decode: z must be \[B, 2, F, H, W\]/);
    assert.throws(() => vae.enableTiling({ tileSampleMinHeight: 3 }), /tileSampleMinHeight 3 .* too small/);
    assert.throws(
      () => vae.enableTiling({ tileSampleMinWidth: 8, tileOverlapFactorWidth: 0.9 }),
      /OverlapFactorWidth 0.9/,
    );
    assert.equal(vae.useTiling, false);
    vae.enableTiling({ tileSampleMinHeight: 16, tileSampleMinWidth: 16, tileOverlapFactorHeight: 1 / 6 });
    assert.throws(
      () => vae.encode(zeros(1, 3, 1, 16, 24)),
      /tiling leaves a tile of 3x16 pixels, smaller than 4x4/,
    );
    vae.disableTiling();
    assert.throws(
      () => new DiagonalGaussianDistribution(zeros(1, 3, 1, 2, 2)),
      /expected \[B, 2C, F, H, W\]/,
    );
  });
});

test("contradicting configurations are refused by key", () => {
  const refused = (config: Partial<AutoencoderKLCogVideoXConfig>, message: RegExp) =>
    assert.throws(() => AutoencoderKLCogVideoX.fromConfig({ ...tiny, ...config }), message);
  refused({ block_out_channels: [4, 8] }, /must be equally long, found 2, 3 and 3/);
  refused({ norm_num_groups: 3 }, /norm_num_groups 3 must divide block_out_channels, found 4/);
  refused({ temporal_compression_ratio: 0 }, /temporal_compression_ratio must be at least 1, found 0/);
  refused({ act_fn: "tanh" as "silu" }, /act_fn must be one of "silu"/);
  refused(
    { down_block_types: Array(3).fill("DownBlock3D") },
    /down_block_types must be .*CogVideoXDownBlock3D/,
  );
  refused({ widths: 1 } as object, /unknown configuration key widths/);
});

test("the published configuration has the published VAE's parameters", () => {
  const full = AutoencoderKLCogVideoX.fromConfig({});
  assert.equal(full.numParameters(), 215_583_907);
  assert.deepEqual(
    full.parameter("decoder.up_blocks.0.resnets.3.norm1.conv_y.conv.weight").shape,
    [512, 16, 1, 1, 1],
  );
  assert.deepEqual(full.parameter("encoder.conv_out.conv.weight").shape, [32, 512, 3, 3, 3]);
  assert.throws(() => full.parameter("encoder.conv_in.conv.bias").value, /has no values/);
});

/** Reconstruction of a sampled posterior, plus its divergence: what a VAE is trained on. */
function loss(vae: AutoencoderKLCogVideoX, video: tf.Tensor5D, noise: tf.Tensor5D): tf.Scalar {
  const { latentDist } = vae.encode(video);
  const { sample } = vae.decode(latentDist.sample({ noise }));
  return tf.add(
    tf.mean(tf.squaredDifference(sample, video)),
    tf.mul(tf.mean(latentDist.kl()), 0.01),
  ) as tf.Scalar;
}

test("gradients reach every parameter and agree with finite differences, through the convolutions' memory too", async () => {
  const model = AutoencoderKLCogVideoX.fromConfig(tiny, new RandomGenerator(4));
  const video = randn(1, 3, 17, 8, 8);
  const noise = randn(1, 2, 5, 2, 2);
  const variables = model.trainableVariables();
  const gradients = () => tf.variableGrads(() => loss(model, video, noise), variables);
  const whole = gradients();
  model.wholeClipBytes = 0;
  const byCall = gradients();
  let squares = 0;
  tf.tidy(() => {
    for (const [name, parameter] of model.parameters) {
      const gradient = whole.grads[parameter.value.name]!;
      // biases before a norm do not matter, but for rounding
      const size = tf.sum(tf.square(gradient)).dataSync()[0]!;
      if (Math.sqrt(size) > 1e-4)
        close(byCall.grads[parameter.value.name]!, gradient, `call by call: ${name}`, 1e-3);
      squares += size;
    }
  });
  assert.ok(Math.sqrt(squares) > 0.01);

  // Along the gradient the loss must change by its squared length.
  const step = 1e-3 / Math.sqrt(squares);
  const at = (factor: number): number =>
    tf.tidy(() => {
      for (const variable of variables)
        variable.assign(tf.add(variable, tf.mul(whole.grads[variable.name]!, factor)));
      return loss(model, video, noise).dataSync()[0]!;
    });
  const [above, below] = [at(step), at(-2 * step)];
  const slope = (above - below) / (2 * step);
  assert.ok(
    Math.abs(slope / squares - 1) < 0.02,
    `slope ${slope}, squared length of the gradient ${squares}`,
  );
  tf.dispose([video, noise, whole, byCall]);
  model.dispose();
});

test("a VAE learns from scratch, with no tensor more after each step", () => {
  const model = AutoencoderKLCogVideoX.fromConfig(tiny, new RandomGenerator(5));
  const x = tf.linspace(-1, 1, 8);
  const video = tf.tidy(() => tf.tile(tf.reshape(x, [1, 1, 1, 1, 8]), [1, 3, 9, 8, 1])) as tf.Tensor5D;
  const noise = randn(1, 2, 3, 2, 2);
  const optimizer = tf.train.adam(0.02);
  const losses: number[] = [];
  let held = 0;
  for (let step = 0; step < 6; step++) {
    const value = optimizer.minimize(() => loss(model, video, noise), true, model.trainableVariables())!;
    losses.push(value.dataSync()[0]!);
    value.dispose();
    if (step === 1) held = tf.memory().numTensors;
    if (step > 1) assert.equal(tf.memory().numTensors, held);
  }
  assert.ok(losses.at(-1)! < 0.7 * losses[0]!, `losses ${losses}`);
  optimizer.dispose();
  tf.dispose([x, video, noise]);
  model.dispose();
});

test("forward decodes the mode, or a sample where a generator is given", () => {
  tf.tidy(() => {
    const video = randn(1, 3, 5, 8, 8);
    const { latentDist } = vae.encode(video);
    close(vae.forward(video).sample, vae.decode(latentDist.mode()).sample, "mode");
    const sampled = vae.forward(video, { generator: new RandomGenerator(7) }).sample;
    close(sampled, vae.decode(latentDist.sample({ generator: new RandomGenerator(7) })).sample, "sample");
  });
});

test("a distribution's likelihood, divergence from another and its deterministic form", () => {
  tf.tidy(() => {
    const parameters = randn(2, 4, 1, 2, 3);
    const p = new DiagonalGaussianDistribution(parameters.clone());
    const q = new DiagonalGaussianDistribution(randn(2, 4, 1, 2, 3));
    const standard = new DiagonalGaussianDistribution(tf.zeros<tf.Rank.R5>([2, 4, 1, 2, 3]));
    close(p.kl(standard), p.kl(), "kl to the standard normal");
    assert.ok(Math.max(...q.kl(q).dataSync().map(Math.abs)) < 1e-5, "kl to itself");
    // log q(x) - log p(x), averaged over p, is the divergence; here in closed form through nll at the mean
    const expected = tf.add(p.nll(p.mean), tf.scalar(0));
    const plain = tf.mul(tf.sum(tf.add(p.logvar, Math.log(2 * Math.PI)), [1, 2, 3]), 0.5);
    close(expected, plain, "nll at the mean");
    const fixed = new DiagonalGaussianDistribution(parameters, { deterministic: true });
    close(fixed.sample({ generator }), fixed.mean, "a deterministic sample");
    assert.deepEqual([...fixed.kl().dataSync()], [0]);
    assert.throws(
      () => p.sample({ noise: randn(1, 2, 1, 2, 3) }),
      /noise: expected \[2,2,1,2,3\], found \[1,2,1,2,3\]/,
    );
  });
});

test("a saved VAE loads with the same numbers and configuration", async () => {
  const path = join(folder, "saved");
  await vae.savePretrained(path, { maxShardSize: "8KB" });
  assert.ok(readdirSync(path).length > 3, "in shards");
  const loaded = await AutoencoderKLCogVideoX.fromPretrained(path);
  assert.deepEqual(loaded.config, vae.config);
  tf.tidy(() => {
    const video = randn(1, 3, 9, 8, 8);
    close(moments(loaded, video), moments(vae, video), "moments", 0);
  });
  loaded.dispose();
});

test("a folder that is damaged or holds something else is refused, and nothing of it stays in memory", async () => {
  const path = join(folder, "damaged");
  await vae.savePretrained(path);
  const weights = join(path, "diffusion_pytorch_model.safetensors");
  const config = join(path, "config.json");
  const [goodWeights, goodConfig] = [readFileSync(weights), readFileSync(config, "utf8")];
  const refused = (message: RegExp) => assert.rejects(AutoencoderKLCogVideoX.fromPretrained(path), message);

  writeFileSync(config, goodConfig.replace("AutoencoderKLCogVideoX", "AutoencoderKL"));
  await refused(
    /config.json: expected the configuration of AutoencoderKLCogVideoX, found _class_name "AutoencoderKL"/,
  );
  writeFileSync(config, goodConfig.replace('"latent_channels": 2', '"latent_channels": 3'));
  await refused(
    /mismatched:\n(.*\n)* {2}decoder.conv_in.conv.weight: expected shape \[8,3,3,3,3\], found \[8,2,3,3,3\]/,
  );
  writeFileSync(config, goodConfig);

  truncateSync(weights, goodWeights.length - 5);
  await refused(/model.safetensors: .*is the file cut off\?/);
  const broken = Buffer.from(goodWeights);
  broken.writeFloatLE(Number.NaN, goodWeights.length - 8);
  writeFileSync(weights, broken);
  await refused(/"decoder.conv_out.conv.bias": its bytes do not match their checksum/);
  // as files of others are, which have no checksums
  broken.write("unknown", broken.indexOf("firstframe.crc32"));
  writeFileSync(weights, broken);
  await refused(/"decoder.conv_out.conv.bias" holds NaN at index 1/);
  rmSync(weights);
  await refused(/found neither diffusion_pytorch_model.safetensors/);
});

test("keys of a newer diffusers are ignored with a warning", async () => {
  const path = join(folder, "newer");
  await vae.savePretrained(path);
  const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8"));
  writeFileSync(join(path, "config.json"), JSON.stringify({ ...config, sharpness: 1 }));
  const warned = new Promise<Error>((resolve) => process.once("warning", resolve));
  (await AutoencoderKLCogVideoX.fromPretrained(path)).dispose();
  assert.match((await warned).message, /config.json: unknown configuration key sharpness will be ignored/);
});

test("weights under the original code's names load", async () => {
  const original = (name: string): string =>
    name
      .replace(/mid_block\.resnets\.(\d)/, (_, n) => `mid.block_${Number(n) + 1}`)
      .replace(/down_blocks\.(\d)\.resnets/, "down.$1.block")
      .replace(/down_blocks\.(\d)\.downsamplers\.0/, "down.$1.downsample")
      .replace(/up_blocks\.(\d)\.resnets/, (_, n) => `up.${2 - Number(n)}.block`)
      .replace(/up_blocks\.(\d)\.upsamplers\.0/, (_, n) => `up.${2 - Number(n)}.upsample`)
      .replace("conv_shortcut", "nin_shortcut");
  const entries: Record<string, { dtype: "F32"; shape: readonly number[]; data: Float32Array }> = {
    "loss.logvar": { dtype: "F32", shape: [], data: new Float32Array(1) },
  };
  for (const [name, parameter] of vae.parameters)
    entries[original(name)] = { dtype: "F32", shape: parameter.shape, data: await parameter.values() };
  assert.ok(
    "decoder.up.2.block.1.conv2.conv.weight" in entries && "encoder.mid.block_2.norm1.bias" in entries,
  );
  await saveFile(entries, join(folder, "original.safetensors"));
  const loaded = await AutoencoderKLCogVideoX.fromOriginal(join(folder, "original.safetensors"), tiny);
  tf.tidy(() => {
    const latents = randn(1, 2, 3, 2, 2);
    close(loaded.decode(latents).sample, vae.decode(latents).sample, "decoded", 0);
    const video = randn(1, 3, 1, 8, 8);
    close(moments(loaded, video), moments(vae, video), "moments", 0);
  });
  loaded.dispose();
});
