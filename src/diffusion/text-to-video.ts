import {
  CogVideoXPipelineBase,
  type GenerateOptions,
  type LoadPipelineOptions,
  loadComponents,
  type OutputType,
  type PipelineComponents,
  type PipelineFrames,
} from "./pipeline.js";

/**
 * Video from text (CogVideoX, arXiv 2408.06072), after diffusers' class of the same name.
 *
 * ```ts
 * const pipe = await CogVideoXPipeline.fromPretrained("zai-org/CogVideoX-2b");
 * const { frames } = await pipe.generate({ prompt: "a kitten yawns", generator: new RandomGenerator(42) });
 * await writeClip("kitten.mp4", frames[0]);
 * ```
 */
export class CogVideoXPipeline extends CogVideoXPipelineBase {
  constructor(components: PipelineComponents) {
    super("CogVideoXPipeline", components);
  }

  /**
   * Reads a folder that diffusers' or this class's `savePretrained` wrote, or a model by its id on the Hugging Face Hub;
   * image-to-video models, too.
   * @throws ConfigError, CheckpointError or SafetensorsError naming the file and what is wrong with it; HubError.
   */
  static async fromPretrained(
    idOrFolder: string,
    options: LoadPipelineOptions = {},
  ): Promise<CogVideoXPipeline> {
    const classNames = ["CogVideoXPipeline", "CogVideoXImageToVideoPipeline"];
    const components = await loadComponents(idOrFolder, classNames, options);
    return new CogVideoXPipeline(components).offloadedAs(options.offload);
  }

  /**
   * Samples videos for prompts.
   * @throws InputError naming the invalid option.
   */
  generate<O extends OutputType = "clip">(
    options: GenerateOptions<CogVideoXPipeline, O>,
  ): Promise<{ frames: PipelineFrames[O] }> {
    const { sample_frames: numFrames, in_channels: latentChannels } = this.transformer.config;
    return this.sample(options, { numFrames, latentChannels }, () => null);
  }
}
