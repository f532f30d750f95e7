import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import {
  computeLoss,
  disposeLossInputs,
  drawLoss,
  prepareTextToVideoLoss,
} from "../../../src/recipe/loss.js";
import { readArguments } from "../../../src/train/arguments.js";
import { collate } from "../../../src/train/data.js";
import { planTraining, runTraining } from "../../../src/train/run.js";
import { probeClip } from "../../../src/video/read.js";
import { writeLoraTask } from "./command.js";
import { tinyData, tinyModels } from "./tiny.js";

let folder = "";
const config = async () => {
  const given = await CogVideoXTransformer3DModel.loadConfig(join(folder, "model/transformer"));
  return { ...given, in_channels: 4, ofs_embed_dim: null };
};
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-t2v-"));
  await writeLoraTask(folder);
  const transformer = CogVideoXTransformer3DModel.fromConfig(await config(), new RandomGenerator(1));
  await transformer.savePretrained(join(folder, "model/transformer"));
  transformer.dispose();
});
after(() => rm(folder, { recursive: true, force: true }));

test("text to video: the loss sees noisy latents and no image, and leaves no tensors", async () => {
  const { vae, scheduler, ...rest } = tinyModels();
  const transformer = CogVideoXTransformer3DModel.fromConfig(await config(), new RandomGenerator(1));
  const data = await tinyData(vae, 2);
  const samples = async () => Promise.all([data.load(0), data.load(1)]);
  const before = tf.memory().numTensors;
  const losses: number[] = [];
  for (const brightness of [0, 1]) {
    const batch = collate(await samples());
    const images = tf.fill(batch.images.shape, brightness) as tf.Tensor4D;
    const draws = drawLoss(new RandomGenerator(3), batch, { transformer, scheduler });
    const inputs = prepareTextToVideoLoss({ transformer, scheduler }, { ...batch, images }, draws);
    assert.deepEqual(inputs.modelInput.shape, [2, 4, 4, 4, 6]);
    assert.deepEqual(inputs.modelInput.dataSync(), inputs.latentNoisy.dataSync());
    const terms = computeLoss({ transformer, scheduler }, inputs, batch.promptEmbedding);
    losses.push(terms.loss.dataSync()[0]!);
    // The recipe's: mean((latent_pred - latent)^2 / (1 - alphas_cumprod)).
    const expected = tf.tidy(() => {
      const error = tf.mean(tf.square(tf.sub(terms.latentPred, inputs.target)), [1, 2, 3, 4]);
      const weights = draws.timesteps.map((t) => 1 / (1 - scheduler.alphasCumprod[t]!));
      return tf.mean(tf.mul(error, weights)).dataSync()[0]!;
    });
    assert.ok(Math.abs(losses.at(-1)! / expected - 1) < 1e-5);
    disposeLossInputs(inputs);
    tf.dispose([images, ...Object.values(batch), ...Object.values(terms)]);
    tf.dispose([draws.imageNoise, draws.imagePosteriorNoise, draws.diffusionNoise]);
  }
  assert.equal(tf.memory().numTensors, before);
  assert.ok(Number.isFinite(losses[0]) && losses[0] === losses[1], String(losses));
  data.dispose();
  transformer.dispose();
  rest.dispose();
});

const flags = () => ({
  model_type: "t2v",
  output_dir: join(folder, "run"),
  report_to: "none",
  train_steps: "3",
  do_validation: "true",
  validation_steps: "3",
  validation_dir: join(folder, "data"),
  validation_prompts: "held-out.txt",
  num_inference_steps: "2",
  caption_dropout: "0.5",
});

test("text to video trains, validates with prompts alone, and goes on from its checkpoint", async () => {
  await writeFile(join(folder, "data/held-out.txt"), "a red ball drifts left\na blue star turns\n");
  const lines: string[] = [];
  const log = (line: string) => lines.push(line);
  const run = async (own: Record<string, string>) =>
    runTraining(await readArguments({ config: join(folder, "lora.yaml"), flags: { ...flags(), ...own } }), {
      log,
    });
  await planTraining(await readArguments({ config: join(folder, "lora.yaml"), flags: flags() }), { log });
  const result = await run({});
  assert.equal(result.finished, true);
  assert.deepEqual(Object.keys(result.metrics!), ["frame_difference"]);
  const made = await probeClip(join(folder, "run/validation_res/validation-3-1.mp4"));
  assert.deepEqual([made.numFrames, made.width, made.height], [9, 48, 32]);
  assert.deepEqual(await readdir(join(folder, "data/cache/video_latent")), ["cogvideox1.5-t2v"]);
  const longer = await run({
    resume_from_checkpoint: "latest",
    train_steps: "6",
    validation_videos: "videos.txt",
    validation_prompts: "prompts.txt",
  });
  assert.equal(longer.step, 6);
  assert.ok(longer.metrics!.psnr! > 0);
  assert.equal(longer.metrics!.first_frame_psnr, undefined);
  assert.match(lines.join("\n"), /resumed from .*checkpoint-3/);
});

test("what belongs to images is refused", async () => {
  for (const [own, message] of [
    [{ image_column: "images.txt" }, /^image_column: model_type t2v has no images, found images\.txt$/],
    [{ validation_images: "images.txt" }, /^validation_images: model_type t2v has no images/],
    [{ noised_image_dropout: "0.1" }, /^noised_image_dropout: model_type t2v has no images, found 0.1$/],
    [{ image_place: "all" }, /^image_place: /],
    [{ model_type: "i2v", validation_videos: "videos.txt" }, /found 4; model_type t2v trains it$/],
  ] as const) {
    const given = async () => {
      const args = await readArguments({
        config: join(folder, "lora.yaml"),
        flags: { ...flags(), ...own, output_dir: join(folder, "no") },
      });
      await runTraining(args, { log: () => {} });
    };
    await assert.rejects(given, (error: Error) => {
      assert.match(error.message.replace(/^--/, ""), message);
      return true;
    });
  }
});
