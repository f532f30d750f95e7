import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import type { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { encodeVideo } from "../../../src/train/data.js";
import { tinyModels } from "./tiny.js";

let models: ReturnType<typeof tinyModels>;
before(async () => {
  await useEngine();
  models = tinyModels();
});
after(() => models.dispose());

const clipOf = (numFrames: number) => proceduralClip({ seed: 3, numFrames, height: 32, width: 48 }).clip;

/** Encodes a clip, and watches how many bytes of tensors there are meanwhile. */
async function encode(vae: AutoencoderKLCogVideoX, numFrames: number, wholeClipBytes: number) {
  const before = tf.memory();
  const usual = vae.wholeClipBytes;
  let peak = 0;
  const unhook = vae.registerForwardHook(() => {
    peak = Math.max(peak, tf.memory().numBytes - before.numBytes);
  });
  try {
    vae.wholeClipBytes = wholeClipBytes;
    const latent = await encodeVideo(vae, clipOf(numFrames), new RandomGenerator(4));
    const found = { shape: latent.shape, values: await latent.data(), bytes: 4 * latent.size, peak };
    latent.dispose();
    assert.equal(tf.memory().numTensors, before.numTensors);
    return found;
  } finally {
    unhook();
    vae.wholeClipBytes = usual;
  }
}

test("a clip has the same latent whether it is encoded at once or a few frames at a time", async () => {
  for (const numFrames of [1, 9, 17, 33]) {
    const whole = await encode(models.vae, numFrames, Number.POSITIVE_INFINITY);
    const streamed = await encode(models.vae, numFrames, 0);
    assert.deepEqual(streamed.shape, whole.shape);
    const worst = Math.max(...whole.values.map((value, i) => Math.abs(value - streamed.values[i]!)));
    assert.ok(worst < 1e-4, `${numFrames} frames: the latents differ by ${worst}`);
  }
});

test("161 frames take no more memory than 81, but for the latents themselves", async () => {
  const [short, long] = [await encode(models.vae, 81, 0), await encode(models.vae, 161, 0)];
  // what is kept of each group are means and log variances
  const kept = 2 * (long.bytes - short.bytes);
  assert.ok(long.peak <= short.peak + kept, `${long.peak} bytes, but ${short.peak} for 81 frames`);
  const whole = await encode(models.vae, 161, Number.POSITIVE_INFINITY);
  assert.ok(long.peak < whole.peak / 4, `${long.peak} bytes, and ${whole.peak} at once`);
});
