import assert from "node:assert/strict";
import { before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import { AutoencoderKLCogVideoX, type TilingOptions } from "../../../src/models/vae/autoencoder.js";
import { DiagonalGaussianDistribution } from "../../../src/models/vae/distribution.js";
import { casesOf, type GoldenCase } from "./case.js";

before(() => useEngine());

/** Each form of case by the tensors it holds, and the check for it. */
const checks: [applies: (golden: GoldenCase) => boolean, check: (golden: GoldenCase) => Promise<void>][] = [
  [(golden) => golden.components.length === 0, checkPosterior],
  [(golden) => "enable_tiling" in golden.params, checkTiling],
  [(golden) => has(golden, "moments_unsliced"), checkSlicing],
  [(golden) => golden.names("intermediate").length > 0, checkIntermediates],
  [(golden) => has(golden, /_f\d+$/), checkFrameCounts],
  [(golden) => has(golden, "posterior_noise"), checkEncode],
  [(golden) => has(golden, "latents"), checkDecode],
];

/** How much of a clip the VAE takes at once while a test runs; undefined for its default. */
let wholeClipBytes: number | undefined;

for (const golden of await casesOf("vae")) {
  test(`${golden.name}: ${golden.title}`, async () => {
    const before = tf.memory().numTensors;
    const form = checks.find(([applies]) => applies(golden));
    assert.ok(form, `no check for a case of this form: ${golden.names()}`);
    // call by call, partly so, and (these clips are small) all calls at once
    for (wholeClipBytes of form[1] === checkIntermediates ? [undefined] : [0, 10_000, undefined])
      await form[1](golden);
    golden.assertAllCompared();
    assert.equal(tf.memory().numTensors, before, "tensors left behind");
  });
}

function has(golden: GoldenCase, name: string | RegExp): boolean {
  return golden.names().some((found) => (typeof name === "string" ? found === name : name.test(found)));
}

async function loadVae(golden: GoldenCase): Promise<AutoencoderKLCogVideoX> {
  const vae = await AutoencoderKLCogVideoX.fromPretrained(golden.component());
  vae.wholeClipBytes = wholeClipBytes ?? vae.wholeClipBytes;
  return vae;
}

/** Compares one tensor and disposes mine. */
async function take(golden: GoldenCase, name: string, mine: tf.Tensor): Promise<void> {
  await golden.compare(name, mine);
  mine.dispose();
}

async function compareDistribution(
  golden: GoldenCase,
  latentDist: DiagonalGaussianDistribution,
  scaling?: number,
) {
  const noise = await golden.tensor<tf.Rank.R5>("posterior_noise");
  const sample = latentDist.sample({ noise });
  const fields = { mean: latentDist.mean, logvar: latentDist.logvar, std: latentDist.std, sample };
  for (const [name, mine] of Object.entries(fields)) await golden.compare(name, mine);
  if (scaling !== undefined) await take(golden, "sample_scaled", tf.mul(sample, scaling));
  tf.dispose([noise, sample]);
}

async function checkPosterior(golden: GoldenCase): Promise<void> {
  const latentDist = new DiagonalGaussianDistribution(await golden.tensor<tf.Rank.R5>("moments"));
  await compareDistribution(golden, latentDist);
  await golden.compare("moments", latentDist.parameters);
  await golden.compare("var", latentDist.var);
  await take(golden, "mode", latentDist.mode());
  await take(
    golden,
    "kl_b0",
    tf.tidy(() => tf.slice(latentDist.kl(), [0], [1])),
  );
  latentDist.dispose();
}

async function checkEncode(golden: GoldenCase): Promise<void> {
  const vae = await loadVae(golden);
  const video = await golden.tensor<tf.Rank.R5>("video");
  const { latentDist } = vae.encode(video);
  await golden.compare("moments", latentDist.parameters);
  await compareDistribution(golden, latentDist, vae.config.scaling_factor);
  if (has(golden, "decoded")) {
    const mode = latentDist.mode();
    await take(golden, "decoded", vae.decode(mode).sample);
    mode.dispose();
  }
  latentDist.dispose();
  video.dispose();
  vae.dispose();
}

async function checkDecode(golden: GoldenCase): Promise<void> {
  const vae = await loadVae(golden);
  const latents = await golden.tensor<tf.Rank.R5>("latents");
  await take(golden, "video", vae.decode(latents).sample);
  latents.dispose();
  vae.dispose();
}

/** The first n frames of one clip, n from the tensors' names. */
async function checkFrameCounts(golden: GoldenCase): Promise<void> {
  const vae = await loadVae(golden);
  const encodes = has(golden, "video");
  const input = await golden.tensor<tf.Rank.R5>(encodes ? "video" : "latents");
  for (const name of golden.names("output")) {
    const frames = Number(/_f(\d+)$/.exec(name)![1]);
    const part = tf.slice(input, [0, 0, 0, 0, 0], [-1, -1, frames, -1, -1]);
    if (encodes) {
      const { latentDist } = vae.encode(part);
      await golden.compare(name, latentDist.parameters);
      latentDist.dispose();
    } else await take(golden, name, vae.decode(part).sample);
    part.dispose();
  }
  input.dispose();
  vae.dispose();
}

async function checkIntermediates(golden: GoldenCase): Promise<void> {
  const vae = await loadVae(golden);
  const seen = new Map<string, tf.Tensor5D[]>();
  const remove = vae.registerForwardHook((name, output, callFrames) => {
    const calls = tf.split(output, [...callFrames], 2);
    seen.set(name, [...(seen.get(name) ?? []), ...calls.map((call) => tf.keep(call) as tf.Tensor5D)]);
  });
  const decodes = has(golden, "latents");
  const input = await golden.tensor<tf.Rank.R5>(decodes ? "latents" : "video");
  if (decodes) await take(golden, "video", vae.decode(input).sample);
  else {
    const { latentDist } = vae.encode(input);
    await golden.compare("moments", latentDist.parameters);
    latentDist.dispose();
  }
  input.dispose();
  remove();
  for (const name of golden.names("intermediate")) {
    const [, call, module] = /^call(\d+)\.(.+)$/.exec(name)!;
    await golden.compare(
      name,
      seen.get(module!)?.[Number(call)] ?? assert.fail(`call ${call} of ${module} was not seen`),
    );
  }
  for (const outputs of seen.values()) tf.dispose(outputs);
  vae.dispose();
}

async function checkTiling(golden: GoldenCase): Promise<void> {
  const vae = await loadVae(golden);
  const video = await golden.tensor<tf.Rank.R5>("video");
  const latents = await golden.tensor<tf.Rank.R5>("latents");
  const plain = vae.encode(video).latentDist;
  await golden.compare("moments_untiled", plain.parameters);
  plain.dispose();
  vae.enableTiling(tilingOptions(golden.params.enable_tiling as Record<string, number>));
  const { latentDist } = vae.encode(video);
  await golden.compare("moments", latentDist.parameters);
  await take(golden, "decoded", vae.decode(latents).sample);
  latentDist.dispose();
  tf.dispose([video, latents]);
  vae.dispose();
}

/** diffusers' keyword arguments in camelCase. */
function tilingOptions(args: Readonly<Record<string, number>>): TilingOptions {
  const camelCase = (key: string) => key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(args).map(([key, value]) => [camelCase(key), value]));
}

async function checkSlicing(golden: GoldenCase): Promise<void> {
  const vae = await loadVae(golden);
  const video = await golden.tensor<tf.Rank.R5>("video");
  const latents = await golden.tensor<tf.Rank.R5>("latents");
  for (const suffix of ["_unsliced", ""]) {
    if (suffix === "") vae.enableSlicing();
    const { latentDist } = vae.encode(video);
    await golden.compare(`moments${suffix}`, latentDist.parameters);
    await take(golden, `decoded${suffix}`, vae.decode(latents).sample);
    latentDist.dispose();
  }
  tf.dispose([video, latents]);
  vae.dispose();
}
