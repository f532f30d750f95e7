import assert from "node:assert/strict";
import { test } from "node:test";
import { CogVideoXDPMScheduler } from "../../../src/diffusion/dpm.js";
import { useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import {
  computeLoss,
  disposeLossInputs,
  type LossDraws,
  lossValues,
  prepareLoss,
  type TrainingBatch,
} from "../../../src/recipe/loss.js";
import { clipGradNorm } from "../../../src/train/optimizer.js";
import { casesOf } from "./case.js";

await useEngine();

for (const golden of await casesOf("loss")) {
  test(`${golden.name}: ${golden.title}`, async () => {
    const transformerName = golden.components.find((name) => /^t\d/.test(name))!;
    const vae = await AutoencoderKLCogVideoX.fromPretrained(golden.component("vae"));
    const transformer = await CogVideoXTransformer3DModel.fromPretrained(golden.component(transformerName));
    const schedulerFolder = golden.component(
      golden.components.find((name) => name.startsWith("scheduler_"))!,
    );
    const scheduler = await CogVideoXDPMScheduler.fromPretrained(schedulerFolder);
    if (golden.params.vae_slicing_and_tiling === true) {
      vae.enableSlicing();
      vae.enableTiling();
    }
    const video = await golden.tensor<tf.Rank.R5>("video");
    const posteriorNoise = await golden.tensor<tf.Rank.R5>("video_posterior_noise");
    const before = tf.memory().numTensors;

    // The data set encodes one clip at a time.
    const encodedVideos = tf.tidy(() => {
      const noises = tf.split<tf.Tensor5D>(posteriorNoise as tf.Tensor5D, video.shape[0]);
      return tf.concat(
        tf.split<tf.Tensor5D>(video as tf.Tensor5D, video.shape[0]).map((clip, i) => {
          const { latentDist } = vae.encode(clip);
          return tf.mul(latentDist.sample({ noise: noises[i]! }), vae.config.scaling_factor) as tf.Tensor5D;
        }),
      );
    });
    await golden.compare("latent", encodedVideos);
    const batch: TrainingBatch = {
      encodedVideos,
      promptEmbedding: await golden.tensor<tf.Rank.R3>("prompt_embedding"),
      images: await golden.tensor<tf.Rank.R4>("images"),
    };
    const draws: LossDraws = {
      imageNoiseSigmaNormal: (await golden.values("image_noise_sigma_normal")).data[0]!,
      imageNoise: await golden.tensor<tf.Rank.R5>("image_noise"),
      imagePosteriorNoise: await golden.tensor<tf.Rank.R5>("image_posterior_noise"),
      timesteps: Array.from((await golden.values("timesteps")).data),
      diffusionNoise: await golden.tensor<tf.Rank.R5>("diffusion_noise"),
    };
    const inputs = prepareLoss({ vae, transformer, scheduler }, batch, draws);
    await golden.compare("latent_padded", inputs.latentPadded);
    await golden.compare("image_noise_sigma", { shape: [1], data: [inputs.imageNoiseSigma] });
    await golden.compare("noisy_image", inputs.noisyImage);
    await golden.compare("image_moments", inputs.imageMoments);
    await golden.compare("image_latent", inputs.imageLatent);
    await golden.compare("image_latents_padded", inputs.imageLatentsPadded);
    await golden.compare("latent_noisy", inputs.latentNoisy);
    await golden.compare("model_input", inputs.modelInput);
    await golden.compare("weights", { shape: [inputs.weights.length], data: inputs.weights });
    if ("rope_cos" in golden.tensors) {
      await golden.compare("rope_cos", inputs.rotary!.cos);
      await golden.compare("rope_sin", inputs.rotary!.sin);
    } else {
      assert.equal(inputs.rotary, null);
    }

    const parameters = [...transformer.parameters].filter(([, { trainable }]) => trainable);
    const variables = parameters.map(([, { value }]) => value);
    let terms: ReturnType<typeof computeLoss> | undefined;
    const { value, grads } = tf.variableGrads(() => {
      terms = computeLoss({ transformer, scheduler }, inputs, batch.promptEmbedding);
      for (const tensor of Object.values(terms)) tf.keep(tensor);
      return terms.loss;
    }, variables);
    await golden.compare("prediction", terms!.prediction);
    await golden.compare("latent_pred", terms!.latentPred);
    const { perSample, loss } = lossValues(await terms!.squaredError.data(), inputs.weights);
    await golden.compare("loss_per_sample", { shape: [perSample.length], data: perSample });
    await golden.compare("loss", { shape: [1], data: [loss] });
    assert.ok(Math.abs(value.dataSync()[0]! - loss) < 1e-5 * loss);

    for (const [name, parameter] of parameters) {
      if (!(`grad.${name}` in golden.tensors)) continue;
      const gradient = parameter.toFileLayout(grads[parameter.value.name]!);
      await golden.compare(`grad.${name}`, gradient);
      gradient.dispose();
    }
    const clipped = clipGradNorm(
      variables.map(({ name }) => grads[name]!),
      1,
    );
    await golden.compare("grad_norm", { shape: [1], data: [clipped.norm] });
    golden.assertAllCompared();

    tf.dispose([clipped.gradients, grads, value, Object.values(terms!)]);
    disposeLossInputs(inputs);
    tf.dispose([
      encodedVideos,
      batch.promptEmbedding,
      batch.images,
      draws.imageNoise,
      draws.imagePosteriorNoise,
      draws.diffusionNoise,
    ]);
    assert.equal(tf.memory().numTensors, before, "tensors left behind");
    tf.dispose([video, posteriorNoise]);
    vae.dispose();
    transformer.dispose();
  });
}
