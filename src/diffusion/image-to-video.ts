import { InputError } from "../engine/errors.js";
import * as tf from "../engine/tf.js";
import { encodeConditioningImage, imageLatentScale, placeImageLatent } from "../recipe/conditioning.js";
import { duplicateFirstFrame } from "../recipe/first-frame.js";
import { latentFrames, paddedFrames } from "../recipe/geometry.js";
import type { ImagePlace } from "../recipe/rules.js";
import { type ImageInput, preprocessImage } from "./image-processor.js";
import {
  CogVideoXPipelineBase,
  type GenerateOptions,
  type LatentShape,
  type LoadPipelineOptions,
  loadComponents,
  type OutputType,
  type PipelineComponents,
  type PipelineFrames,
} from "./pipeline.js";
import { type GeneratorInput, needed } from "./randn.js";

export interface ImageToVideoOptions<O extends OutputType = "clip">
  extends GenerateOptions<CogVideoXImageToVideoPipeline, O> {
  /** The first frame: one for all prompts, or one per prompt. */
  readonly image: ImageInput;
  /** Where the image's latent lies, the rule that the model was trained with. Default "first". */
  readonly imagePlace?: ImagePlace;
}

/**
 * Video from an image and text (CogVideoX, arXiv 2408.06072), after diffusers' class of the same name.
 *
 * ```ts
 * const pipe = await CogVideoXImageToVideoPipeline.fromPretrained("zai-org/CogVideoX1.5-5B-I2V");
 * const image = await readClip("kitten.png");
 * const generator = new RandomGenerator(42);
 * const { frames } = await pipe.generate({ image, prompt: "a kitten yawns", numFrames: 81, generator });
 * await writeClip("kitten.mp4", frames[0]);
 * ```
 */
export class CogVideoXImageToVideoPipeline extends CogVideoXPipelineBase {
  constructor(components: PipelineComponents) {
    super("CogVideoXImageToVideoPipeline", components);
  }

  /**
   * Reads a folder that diffusers' or this class's `savePretrained` wrote, or a model by its id on the Hugging Face Hub:
   * from the cache that Python's libraries use, else it is downloaded.
   * @throws ConfigError, CheckpointError or SafetensorsError naming the file and what is wrong with it; HubError.
   */
  static async fromPretrained(
    idOrFolder: string,
    options: LoadPipelineOptions = {},
  ): Promise<CogVideoXImageToVideoPipeline> {
    const components = await loadComponents(idOrFolder, ["CogVideoXImageToVideoPipeline"], options);
    return new CogVideoXImageToVideoPipeline(components).offloadedAs(options.offload);
  }

  /**
   * Samples videos that start from images.
   * @throws InputError naming the invalid option.
   */
  generate<O extends OutputType = "clip">(
    options: ImageToVideoOptions<O>,
  ): Promise<{ frames: PipelineFrames[O] }> {
    const latentChannels = Math.floor(this.transformer.config.in_channels / 2);
    return this.sample(options, { numFrames: 49, latentChannels }, (size) => {
      const factor = this.vaeScaleFactorSpatial;
      const image = preprocessImage(options.image, {
        height: size.height * factor,
        width: size.width * factor,
      });
      try {
        return this.#imageLatents(image, size, options.generator, options.imagePlace);
      } finally {
        image.dispose();
      }
    });
  }

  /**
   * Starting noise and image latents for a number of pixel frames, like diffusers' method of this name: if the latent
   * frames don't fill the temporal patches, the image latent is duplicated in front. (`generate` increases the number of
   * frames first, so that this does not happen.)
   *
   * @param options.image [B, 3, H, W] in [-1, 1], encoded clean.
   * @returns [B, F, C, h, w] both. The caller disposes them.
   */
  prepareLatents(options: {
    readonly image: tf.Tensor4D;
    readonly numFrames: number;
    readonly generator?: GeneratorInput;
    readonly latents?: tf.Tensor5D;
    readonly batchSize?: number;
  }): { latents: tf.Tensor5D; imageLatents: tf.Tensor5D } {
    const { image, numFrames, generator, batchSize = image.shape[0] } = options;
    const { patch_size_t: patchSizeT, in_channels: channels } = this.transformer.config;
    const frames = latentFrames(numFrames, this.vaeScaleFactorTemporal);
    const size: LatentShape = {
      batch: batchSize,
      channels: Math.floor(channels / 2),
      frames,
      height: Math.floor(image.shape[2] / this.vaeScaleFactorSpatial),
      width: Math.floor(image.shape[3] / this.vaeScaleFactorSpatial),
    };
    return tf.tidy(() => {
      const { latents: imageLatents } = duplicateFirstFrame(this.#imageLatents(image, size, generator), {
        patchSizeT,
        frameAxis: 1,
      });
      const padded = { ...size, frames: paddedFrames(frames, patchSizeT) };
      return { latents: this.startingNoise(options.latents, padded, generator), imageLatents };
    });
  }

  /** The images' latents at their place, the first frame, and zeros at the others: [B, F, C, h, w]. */
  #imageLatents(
    image: tf.Tensor4D,
    size: LatentShape,
    generator: GeneratorInput,
    place?: ImagePlace,
  ): tf.Tensor5D {
    const { batch, frames } = size;
    const images = image.shape[0];
    if (images !== batch && images !== 1) {
      throw new InputError(`image: expected 1 or ${batch} (one a prompt), found ${images}`);
    }
    const draw = needed(generator);
    const scale = imageLatentScale(this.vae.config, "inference");
    return tf.tidy(() => {
      const single = tf.split(image, images, 0) as tf.Tensor4D[];
      // As in diffusers: image by image, each with its sample's generator.
      const latents = Array.from({ length: batch }, (_, i) => {
        const posterior = { generator: "randn" in draw ? draw : draw[i % draw.length]! };
        return encodeConditioningImage(this.vae, single[i % images]!, { imageNoise: null, posterior, scale })
          .latent;
      });
      return placeImageLatent(tf.concat(latents, 0), frames, place);
    });
  }
}
