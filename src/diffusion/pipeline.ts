/** What CogVideoX's pipelines share (diffusers' CogVideoXPipeline and CogVideoXImageToVideoPipeline). */

import { join } from "node:path";
import { InputError } from "../engine/errors.js";
import type { RandomGenerator } from "../engine/random.js";
import { lineOf, showAs } from "../engine/shown.js";
import * as tf from "../engine/tf.js";
import { T5EncoderModel, textEncoderFiles } from "../models/text/t5-encoder.js";
import { T5Tokenizer, tokenizerFiles } from "../models/text/tokenizer.js";
import { CogVideoXTransformer3DModel } from "../models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import type { AdapterWeights, LoraAdapter } from "../nn/lora.js";
import { OFFLOAD_MODES, type OffloadMode, type SaveOptions } from "../nn/module.js";
import { concatImageLatents, ofsFor } from "../recipe/conditioning.js";
import { dropDuplicatedFrames } from "../recipe/first-frame.js";
import { firstFrameCopies, type LatentSize, latentFrames, latentSize } from "../recipe/geometry.js";
import type { Padding } from "../recipe/rules.js";
import { Clip } from "../video/clip.js";
import type { WeightsLocation } from "../weights/checkpoint.js";
import {
  ConfigError,
  MODEL_INDEX,
  type ModelIndex,
  readModelIndex,
  writeModelIndex,
} from "../weights/config.js";
import type { ModelDtype, Quantization } from "../weights/dtype.js";
import {
  type HubOptions,
  modelFiles,
  type Needs,
  namedFiles,
  resolveModel,
  resolvePipeline,
} from "../weights/hub.js";
import type { LoadLoraOptions, SaveLoraOptions } from "../weights/lora-files.js";
import { CogVideoXDDIMScheduler } from "./ddim.js";
import { CogVideoXDPMScheduler } from "./dpm.js";
import { dynamicGuidanceScale } from "./guidance.js";
import { postprocessVideo } from "./image-processor.js";
import { embedTokens } from "./prompt-cache.js";
import { type GeneratorInput, needed, randnTensor } from "./randn.js";
import { schedulerFiles } from "./scheduler.js";

/** The parts of a pipeline. Without text encoder and tokenizer it takes prompt embeddings only. */
export interface PipelineComponents {
  readonly tokenizer: T5Tokenizer | null;
  readonly textEncoder: T5EncoderModel | null;
  readonly vae: AutoencoderKLCogVideoX;
  readonly transformer: CogVideoXTransformer3DModel;
  readonly scheduler: CogVideoXDDIMScheduler | CogVideoXDPMScheduler;
}

/** Components to use instead of those in a folder; null leaves one out without fetching it. */
export interface LoadPipelineOptions extends Partial<PipelineComponents>, HubOptions {
  /** E.g. "fp16", for weights named so. */
  readonly variant?: string;
  /** Format of the weights in memory, as of {@link LoadModelOptions}; not of components that are given. */
  readonly dtype?: ModelDtype | undefined;
  /** Of text encoder and transformer, as of {@link LoadQuantizedOptions}; not of components that are given. */
  readonly quantization?: Quantization | undefined;
  /**
   * Calls {@link CogVideoXPipelineBase.enableModelCpuOffload} ("model") or
   * {@link CogVideoXPipelineBase.enableSequentialCpuOffload} ("sequential") before anything is read, so that the whole pipeline is
   * never in memory.
   */
  readonly offload?: OffloadMode | undefined;
}

/** What the frames are returned as. */
export interface PipelineFrames {
  /** One clip per sample: what `writeClip` writes and notebooks show. */
  clip: Clip[];
  /** [B, F, 3, H, W] in [0, 1] */
  pt: tf.Tensor5D;
  /** [B, F, H, W, 3] in [0, 1] */
  np: tf.Tensor5D;
  /** The latents as they are after the last step, padding frames included: [B, F, C, h, w]. */
  latent: tf.Tensor5D;
}

export type OutputType = keyof PipelineFrames;

/** What a callback sees, and may replace. The tensors belong to the pipeline. */
export interface StepTensors {
  readonly latents: tf.Tensor5D;
  readonly promptEmbeds: tf.Tensor3D;
  readonly negativePromptEmbeds: tf.Tensor3D | null;
}

export type StepCallback<P> = (
  pipeline: P,
  step: number,
  timestep: number,
  tensors: StepTensors,
  // biome-ignore lint/suspicious/noConfusingVoidType: a callback may return nothing at all
) => Partial<StepTensors> | void | Promise<Partial<StepTensors> | void>;

export interface GenerateOptions<P, O extends OutputType = "clip"> {
  readonly prompt?: string | readonly string[];
  /** What to steer away from; "" unless given. Used with guidance only. */
  readonly negativePrompt?: string | readonly string[];
  /** In pixels. Default: the transformer's sample_height times 8. */
  readonly height?: number;
  /** In pixels. Default: the transformer's sample_width times 8. */
  readonly width?: number;
  /**
   * Frames of the video: 8N + 1, such as 49, 81 and 161. Other counts work as in diffusers, but the VAE then returns
   * more or fewer frames.
   */
  readonly numFrames?: number;
  /** Default 50. */
  readonly numInferenceSteps?: number;
  /** Above 1: classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598). Default 6. */
  readonly guidanceScale?: number;
  /** Varies the guidance over the steps. Default false. */
  readonly useDynamicCfg?: boolean;
  /** The source of all noise: one per sample, or one for all. */
  readonly generator?: RandomGenerator | readonly RandomGenerator[];
  /** Starting noise [B, F, C, h, w], F padded for the temporal patches. Default: drawn. Not disposed. */
  readonly latents?: tf.Tensor5D;
  /** Embeddings instead of a prompt, [B, tokens, text_embed_dim]. Not disposed. */
  readonly promptEmbeds?: tf.Tensor3D;
  readonly negativePromptEmbeds?: tf.Tensor3D;
  /** Default "clip". */
  readonly outputType?: O;
  /** Of the clips. Default 16 for 1.5 models, 8 for 1.0. */
  readonly fps?: number;
  /** Number of tokens that prompts are truncated or padded to. Default: the transformer's max_text_seq_length. */
  readonly maxSequenceLength?: number;
  /** What fills the latent frames up to whole patches, the rule that the model was trained with. Default "copy_first". */
  readonly padding?: Padding;
  /** `scale` multiplies what LoRA adapters add. */
  readonly attentionKwargs?: { readonly scale?: number };
  /** Called after each step; what it returns replaces the tensors. */
  readonly callbackOnStepEnd?: StepCallback<P>;
}

export abstract class CogVideoXPipelineBase implements PipelineComponents {
  readonly tokenizer: T5Tokenizer | null;
  readonly textEncoder: T5EncoderModel | null;
  readonly vae: AutoencoderKLCogVideoX;
  readonly transformer: CogVideoXTransformer3DModel;
  scheduler: CogVideoXDDIMScheduler | CogVideoXDPMScheduler;
  /** Videos with more pixels than this are decoded in groups of frames, so that their features fit in memory. */
  streamPixels = 2 ** 22;
  /** Set to true in a callback to skip the remaining steps. */
  interrupt = false;
  #guidanceScale = 1;
  #numTimesteps = 0;
  #currentTimestep: number | null = null;

  protected constructor(
    readonly className: string,
    components: PipelineComponents,
  ) {
    this.tokenizer = components.tokenizer;
    this.textEncoder = components.textEncoder;
    this.vae = components.vae;
    this.transformer = components.transformer;
    this.scheduler = components.scheduler;
  }

  /** The guidance of the current step. */
  get guidanceScale(): number {
    return this.#guidanceScale;
  }

  /** Steps of the current or last run. */
  get numTimesteps(): number {
    return this.#numTimesteps;
  }

  /** The timestep of the current step; null between runs. */
  get currentTimestep(): number | null {
    return this.#currentTimestep;
  }

  /** Pixels to a latent, in height and width. */
  get vaeScaleFactorSpatial(): number {
    return this.vae.spatialCompressionRatio;
  }

  /** Frames to a latent frame. */
  get vaeScaleFactorTemporal(): number {
    return this.vae.config.temporal_compression_ratio;
  }

  /** Writes all components and `model_index.json` into a folder that diffusers reads. */
  async savePretrained(folder: string, options: SaveOptions = {}): Promise<void> {
    const { tokenizer, textEncoder, vae, transformer, scheduler } = this;
    await tokenizer?.savePretrained(join(folder, "tokenizer"));
    await textEncoder?.savePretrained(join(folder, "text_encoder"), options);
    await vae.savePretrained(join(folder, "vae"), options);
    await transformer.savePretrained(join(folder, "transformer"), options);
    await scheduler.savePretrained(join(folder, "scheduler"));
    const components: ModelIndex["components"] = {
      tokenizer: tokenizer && ["transformers", "T5Tokenizer"],
      text_encoder: textEncoder && ["transformers", "T5EncoderModel"],
      vae: ["diffusers", "AutoencoderKLCogVideoX"],
      transformer: ["diffusers", "CogVideoXTransformer3DModel"],
      scheduler: ["diffusers", scheduler.className],
    };
    await writeModelIndex(folder, { className: this.className, components });
  }

  /**
   * Reads a LoRA adapter into the transformer; it becomes the only active one, until {@link setAdapters} says otherwise.
   * @param path a file, a folder, or the id of a model on the Hugging Face Hub; as of the transformer's `loadLoraAdapter`.
   * @throws CheckpointError, ConfigError or SafetensorsError naming the file and what is wrong with it; HubError.
   */
  loadLoraWeights(path: string, options: LoadLoraOptions = {}): Promise<LoraAdapter> {
    return this.transformer.loadLoraAdapter(path, options);
  }

  /** Writes a LoRA adapter of the transformer into a folder, as diffusers does. */
  saveLoraWeights(folder: string, options: SaveLoraOptions = {}): Promise<void> {
    return this.transformer.saveLoraAdapter(folder, options);
  }

  /** Removes all LoRA adapters. */
  unloadLoraWeights(): void {
    this.transformer.deleteAdapters();
  }

  /**
   * Makes these adapters the active ones, each with a factor: what they add to the weights is added up. All others are off.
   * @param adapterWeights one for all or one each; null is 1, the default.
   * @throws InputError for an unknown adapter, one named twice, or another number of factors.
   */
  setAdapters(adapterNames: string | readonly string[], adapterWeights?: AdapterWeights): void {
    this.transformer.setAdapters(adapterNames, adapterWeights);
  }

  fuseLora(options: Parameters<CogVideoXTransformer3DModel["fuseLora"]>[0] = {}): void {
    this.transformer.fuseLora(options);
  }

  unfuseLora(): void {
    this.transformer.unfuseLora();
  }

  static {
    showAs<CogVideoXPipelineBase>(CogVideoXPipelineBase, {
      line: ({ className }) => className,
      // diffusers' names, as in model_index.json
      text: ({ className, tokenizer, textEncoder, vae, transformer, scheduler }) => {
        const parts = Object.entries({ tokenizer, text_encoder: textEncoder, vae, transformer, scheduler });
        const lines = parts.map(([name, part]) => `  ${name}: ${part === null ? "null" : lineOf(part)}`);
        return [`${className} {`, ...lines, "}"].join("\n");
      },
    });
  }

  /**
   * From now on the text encoder, the VAE and the transformer are in memory only while they are used, one after the other: diffusers'
   * method of this name. Here the other place is not the processor's memory but the disk: weights are freed, and read from
   * their safetensors files again. Results stay the same. A part that can't be read again (made in memory, from torch's files, or files that
   * have changed) stays in memory, and a warning says so; weights that were changed after they were read (by training, or a fused LoRA)
   * stay, too.
   *
   * `fromPretrained(..., { offload: "model" })` does it before anything is read.
   */
  enableModelCpuOffload(): Promise<void> {
    return this.#enableOffload("enableModelCpuOffload", "model");
  }

  /**
   * The same in smaller pieces: of the text encoder and the transformer one block at a time is in memory, while the next one is read ahead.
   * Each pass reads all blocks, in every step, so it is slow where the files don't fit into the memory that is left. The VAE, which is small,
   * is freed as by {@link enableModelCpuOffload}. Results stay the same. While a gradient is computed, nothing is freed.
   */
  enableSequentialCpuOffload(): Promise<void> {
    return this.#enableOffload("enableSequentialCpuOffload", "sequential");
  }

  async #enableOffload(method: string, mode: OffloadMode): Promise<void> {
    for (const [name, model] of Object.entries(this.#models)) {
      const reason = await model.enableOffload(mode);
      if (reason !== undefined) process.emitWarning(`${method}: ${name} stays in memory: ${reason}`);
    }
  }

  /** For `fromPretrained`; a pipeline that can't be offloaded is disposed. */
  protected async offloadedAs(mode: OffloadMode | undefined): Promise<this> {
    try {
      if (mode === "model") await this.enableModelCpuOffload();
      else if (mode === "sequential") await this.enableSequentialCpuOffload();
    } catch (error) {
      this.dispose();
      throw error;
    }
    return this;
  }

  get #models() {
    const { textEncoder, vae, transformer } = this;
    return { ...(textEncoder && { textEncoder }), vae, transformer };
  }

  /** Frees the memory of all models. */
  dispose(): void {
    this.textEncoder?.dispose();
    this.vae.dispose();
    this.transformer.dispose();
  }

  /**
   * Embeddings of prompts, from the text encoder. CogVideoX gives T5 no mask, so padding takes part.
   *
   * @returns negativePromptEmbeds: null without guidance. The caller disposes both.
   * @throws InputError if prompts and embeddings contradict each other, or there is no text encoder.
   */
  encodePrompt(options: {
    readonly prompt?: string | readonly string[];
    readonly negativePrompt?: string | readonly string[];
    readonly doClassifierFreeGuidance?: boolean;
    readonly promptEmbeds?: tf.Tensor3D;
    readonly negativePromptEmbeds?: tf.Tensor3D;
    readonly maxSequenceLength?: number;
  }): { promptEmbeds: tf.Tensor3D; negativePromptEmbeds: tf.Tensor3D | null } {
    const { prompt, negativePrompt = "", promptEmbeds, negativePromptEmbeds } = options;
    const { doClassifierFreeGuidance = true } = options;
    const { maxSequenceLength = this.transformer.config.max_text_seq_length } = options;
    checkPrompts(options);
    let positive: tf.Tensor3D | undefined;
    try {
      positive = promptEmbeds?.clone() ?? this.#embedText(asList(prompt!), maxSequenceLength);
      if (!doClassifierFreeGuidance) return { promptEmbeds: positive, negativePromptEmbeds: null };
      const batch = positive.shape[0];
      const negatives =
        typeof negativePrompt === "string" ? Array<string>(batch).fill(negativePrompt) : negativePrompt;
      if (negatives.length !== batch) {
        throw new InputError(`negativePrompt: expected ${batch} (one a prompt), found ${negatives.length}`);
      }
      const negative = negativePromptEmbeds?.clone() ?? this.#embedText(negatives, maxSequenceLength);
      return { promptEmbeds: positive, negativePromptEmbeds: negative };
    } catch (error) {
      positive?.dispose();
      throw error;
    } finally {
      this.textEncoder?.offload();
    }
  }

  /** Decodes latents [B, F, C, h, w], as the scheduler left them, to pixels about in [-1, 1]: [B, 3, F, H, W]. */
  async decodeLatents(latents: tf.Tensor5D): Promise<tf.Tensor5D> {
    const scaled = tf.tidy(() =>
      tf.mul(tf.transpose(latents, [0, 2, 1, 3, 4]), 1 / this.vae.config.scaling_factor),
    ) as tf.Tensor5D;
    const pieces: tf.Tensor5D[] = [];
    try {
      const [batch, , frames, height, width] = scaled.shape;
      const pixels =
        batch * frames * this.vaeScaleFactorTemporal * height * width * this.vaeScaleFactorSpatial ** 2;
      if (pixels <= this.streamPixels) return this.vae.decode(scaled).sample;
      const groups = this.vae.decodeStream([scaled.clone()], { numFrames: frames });
      for await (const piece of groups) pieces.push(piece);
      return pieces.length === 1 ? pieces[0]!.clone() : tf.concat(pieces, 2);
    } finally {
      tf.dispose([scaled, pieces]);
    }
  }

  /**
   * The denoising loop.
   * @param conditioning makes the image latents, [B, F, C, h, w], or null; before the starting noise is drawn.
   */
  protected async sample<P, O extends OutputType>(
    options: GenerateOptions<P, O>,
    defaults: { readonly numFrames: number; readonly latentChannels: number },
    conditioning: (size: LatentShape) => tf.Tensor5D | null,
  ): Promise<{ frames: PipelineFrames[O] }> {
    const { config } = this.transformer;
    const { numInferenceSteps = 50, guidanceScale = 6, useDynamicCfg = false, generator } = options;
    const { outputType = "clip" as O } = options;
    const height = options.height ?? config.sample_height * this.vaeScaleFactorSpatial;
    const width = options.width ?? config.sample_width * this.vaeScaleFactorSpatial;
    const numFrames = options.numFrames ?? defaults.numFrames;
    this.#checkSize(height, width, numFrames);
    const doClassifierFreeGuidance = guidanceScale > 1;
    this.interrupt = false;
    this.#guidanceScale = guidanceScale;

    using held = new Held();
    try {
      const embeds = this.encodePrompt({ ...options, doClassifierFreeGuidance });
      let promptEmbeds = held.add(embeds.promptEmbeds);
      let negativePromptEmbeds = embeds.negativePromptEmbeds && held.add(embeds.negativePromptEmbeds);
      const batch = promptEmbeds.shape[0];

      this.scheduler.setTimesteps(numInferenceSteps);
      const { timesteps } = this.scheduler;
      this.#numTimesteps = timesteps.length;

      // The frames are padded before there are latents, so nothing is duplicated here: see prepareLatents.
      const ratios = {
        spatialRatio: this.vaeScaleFactorSpatial,
        temporalRatio: this.vaeScaleFactorTemporal,
      };
      const copies = firstFrameCopies(latentFrames(numFrames, ratios.temporalRatio), config.patch_size_t);
      const size: LatentShape = {
        batch,
        channels: defaults.latentChannels,
        ...latentSize({ numFrames, height, width }, ratios, config.patch_size_t),
      };
      const imageLatents = conditioning(size);
      if (imageLatents) held.add(imageLatents);
      this.vae.offload();
      let latents = held.add(this.startingNoise(options.latents, size, generator));
      const tables = this.transformer.rotaryTables(size, "inference");
      if (tables) held.add(tables.cos, tables.sin);

      let oldPredOriginalSample = null as tf.Tensor5D | null;
      for (const [step, timestep] of timesteps.entries()) {
        if (this.interrupt) break;
        this.#currentTimestep = timestep;
        if (useDynamicCfg) {
          this.#guidanceScale = dynamicGuidanceScale(guidanceScale, timestep, numInferenceSteps);
        }
        const [prevSample, predOriginalSample] = tf.tidy((): [tf.Tensor5D, tf.Tensor5D] => {
          const prediction = this.#predict({
            latents,
            imageLatents,
            promptEmbeds,
            negativePromptEmbeds,
            timestep,
            imageRotaryEmb: tables,
            attentionKwargs: options.attentionKwargs,
          });
          const output = this.scheduler.step({
            modelOutput: prediction,
            timestep,
            sample: latents,
            timestepBack: step > 0 ? timesteps[step - 1]! : null,
            oldPredOriginalSample,
            generator,
          });
          return [output.prevSample, output.predOriginalSample];
        });
        latents = held.replace(latents, prevSample);
        if (oldPredOriginalSample) held.replace(oldPredOriginalSample, predOriginalSample);
        else held.add(predOriginalSample);
        oldPredOriginalSample = predOriginalSample;

        // Lets timers, interrupts and messages through between steps.
        await new Promise((resolve) => setImmediate(resolve));
        const changed = await options.callbackOnStepEnd?.(this as unknown as P, step, timestep, {
          latents,
          promptEmbeds,
          negativePromptEmbeds,
        });
        if (changed?.latents) latents = held.replace(latents, changed.latents);
        if (changed?.promptEmbeds) promptEmbeds = held.replace(promptEmbeds, changed.promptEmbeds);
        if (changed?.negativePromptEmbeds && negativePromptEmbeds) {
          negativePromptEmbeds = held.replace(negativePromptEmbeds, changed.negativePromptEmbeds);
        }
      }

      this.transformer.offload();
      if (outputType === "latent") return { frames: latents.clone() as PipelineFrames[O] };
      const { padding } = options;
      const kept = held.add(dropDuplicatedFrames(latents, { copies, frameAxis: 1, padding }));
      const video = held.add(await this.decodeLatents(kept));
      return { frames: toFrames(video, outputType, options.fps ?? this.#defaultFps) as PipelineFrames[O] };
    } finally {
      this.#currentTimestep = null;
      for (const model of Object.values(this.#models)) model.offload();
    }
  }

  /** 1.5 models were trained on 16 frames a second, 1.0 models on 8. */
  get #defaultFps(): number {
    return this.transformer.config.patch_size_t === null ? 8 : 16;
  }

  /** The transformer's velocity, with guidance if there are negative embeddings. */
  #predict(inputs: {
    latents: tf.Tensor5D;
    imageLatents: tf.Tensor5D | null;
    promptEmbeds: tf.Tensor3D;
    negativePromptEmbeds: tf.Tensor3D | null;
    timestep: number;
    imageRotaryEmb: { cos: tf.Tensor2D; sin: tf.Tensor2D } | null;
    attentionKwargs?: { readonly scale?: number };
  }): tf.Tensor5D {
    const { latents, imageLatents, promptEmbeds, negativePromptEmbeds, ...rest } = inputs;
    const ofs = ofsFor(this.transformer.config);
    const scaled = this.scheduler.scaleModelInput(latents, inputs.timestep);
    const input = concatImageLatents(scaled, imageLatents);
    if (!negativePromptEmbeds) {
      return this.transformer.forward({
        hiddenStates: input,
        encoderHiddenStates: promptEmbeds,
        ofs,
        ...rest,
      }).sample;
    }
    const { sample } = this.transformer.forward({
      hiddenStates: tf.concat([input, input], 0),
      encoderHiddenStates: tf.concat([negativePromptEmbeds, promptEmbeds], 0),
      ofs,
      ...rest,
    });
    const [without, withPrompt] = tf.split(sample, 2, 0) as [tf.Tensor5D, tf.Tensor5D];
    return tf.add(without, tf.mul(tf.sub(withPrompt, without), this.#guidanceScale));
  }

  /** Noise, given or drawn, as the scheduler wants it: [B, F, C, h, w]. */
  protected startingNoise(
    given: tf.Tensor5D | undefined,
    size: LatentShape,
    generator: GeneratorInput,
  ): tf.Tensor5D {
    const shape: [number, number, number, number, number] = [
      size.batch,
      size.frames,
      size.channels,
      size.height,
      size.width,
    ];
    if (given && !tf.util.arraysEqual(given.shape, shape)) {
      throw new InputError(`latents: expected [${shape}] (B, F, C, h, w), found [${given.shape}]`);
    }
    return tf.tidy(() =>
      tf.mul(given ?? randnTensor<tf.Rank.R5>(shape, needed(generator)), this.scheduler.initNoiseSigma),
    );
  }

  #embedText(texts: readonly string[], maxLength: number): tf.Tensor3D {
    if (!this.tokenizer || !this.textEncoder) {
      throw new InputError("prompt: this pipeline was loaded without tokenizer or text encoder", {
        hint: "pass promptEmbeds and negativePromptEmbeds",
      });
    }
    return embedTexts(this.tokenizer, this.textEncoder, texts, maxLength);
  }

  #checkSize(height: number, width: number, numFrames: number): void {
    const multiple = this.vaeScaleFactorSpatial * this.transformer.config.patch_size;
    for (const [name, value] of Object.entries({ height, width })) {
      if (!Number.isInteger(value) || value < 1 || value % multiple !== 0) {
        throw new InputError(
          `${name}: expected a multiple of ${multiple} (VAE times patch_size), found ${value}`,
        );
      }
    }
    if (!Number.isInteger(numFrames) || numFrames < 1) {
      throw new InputError(`numFrames: expected a positive integer, found ${numFrames}`);
    }
    const period = 2 * this.vaeScaleFactorTemporal;
    if (numFrames % period !== 1) {
      process.emitWarning(
        `numFrames ${numFrames} is not ${period}N + 1 (49, 81, 161): the video may have another number of frames`,
      );
    }
  }
}

/** The shape of a run's latents; the frames are padded for the temporal patches. */
export interface LatentShape extends LatentSize {
  readonly batch: number;
  readonly channels: number;
}

/** What is read first: which components a pipeline has. */
export const pipelineIndexFiles: Needs = namedFiles(MODEL_INDEX);

/** What is read from each component's folder. */
export const pipelineFiles = (location: WeightsLocation = {}) =>
  ({
    scheduler: schedulerFiles,
    tokenizer: tokenizerFiles,
    text_encoder: textEncoderFiles(location),
    vae: modelFiles(location),
    transformer: modelFiles(location),
  }) satisfies Record<string, Needs>;

/**
 * Reads a pipeline's components from a folder with `model_index.json`, or from the Hugging Face Hub.
 * @throws ConfigError when a component is missing or of another class; HubError.
 */
export async function loadComponents(
  idOrFolder: string,
  classNames: readonly string[],
  options: LoadPipelineOptions,
): Promise<PipelineComponents> {
  const top = await resolveModel(idOrFolder, options, pipelineIndexFiles);
  const index = await readModelIndex(top);
  const where = { file: join(top, MODEL_INDEX) };
  if (!classNames.includes(index.className)) {
    throw new ConfigError(`expected ${classNames.join(" or ")}, found ${index.className}`, where);
  }
  const { variant, dtype, quantization, offload } = options;
  if (offload !== undefined && !OFFLOAD_MODES.includes(offload))
    throw new InputError(`offload: expected ${OFFLOAD_MODES.join(" or ")}, found ${JSON.stringify(offload)}`);
  const location = { ...(variant === undefined ? {} : { variant }), dtype, lazy: offload !== undefined };
  const quantized = { ...location, quantization };
  const files = pipelineFiles(location);
  const wanted: Partial<typeof files> = {};
  let root = top;
  /** Checks that a component can be read before anything is fetched. @returns a function that reads it. */
  const component = <T>(
    name: keyof typeof files,
    given: T | undefined,
    classes: Readonly<Record<string, (folder: string) => Promise<T>>>,
  ): (() => Promise<T | null>) => {
    if (given !== undefined) return async () => given;
    const entry = index.components[name];
    if (entry === undefined) throw new ConfigError(`it has no ${name}`, where);
    if (entry === null) return async () => null;
    const reader = classes[entry[1]];
    if (!reader) {
      throw new ConfigError(`${name} must be ${Object.keys(classes).join(" or ")}, found ${entry[1]}`, where);
    }
    wanted[name] = files[name];
    return () => reader(join(root, name));
  };
  const required = <T>(name: string, component: T | null): T => {
    if (component === null) throw new ConfigError(`the pipeline can't do without ${name}`, where);
    return component;
  };

  const models: { dispose(): void }[] = [];
  const track = <T extends { dispose(): void }>(model: T): T => {
    models.push(model);
    return model;
  };
  const readTokenizer = (path: string) => T5Tokenizer.fromPretrained(path);
  const scheduler = component<PipelineComponents["scheduler"]>("scheduler", options.scheduler, {
    CogVideoXDDIMScheduler: (path) => CogVideoXDDIMScheduler.fromPretrained(path),
    CogVideoXDPMScheduler: (path) => CogVideoXDPMScheduler.fromPretrained(path),
  });
  const tokenizer = component<T5Tokenizer | null>("tokenizer", options.tokenizer, {
    T5Tokenizer: readTokenizer,
    T5TokenizerFast: readTokenizer,
  });
  const textEncoder = component<T5EncoderModel | null>("text_encoder", options.textEncoder, {
    T5EncoderModel: async (path) => track(await T5EncoderModel.fromPretrained(path, quantized)),
  });
  const vae = component("vae", options.vae, {
    AutoencoderKLCogVideoX: async (path) =>
      track(await AutoencoderKLCogVideoX.fromPretrained(path, location)),
  });
  const transformer = component("transformer", options.transformer, {
    CogVideoXTransformer3DModel: async (path) =>
      track(await CogVideoXTransformer3DModel.fromPretrained(path, quantized)),
  });
  root = await resolvePipeline(idOrFolder, options, wanted);
  try {
    return {
      scheduler: required("scheduler", await scheduler()),
      tokenizer: await tokenizer(),
      textEncoder: await textEncoder(),
      vae: required("vae", await vae()),
      transformer: required("transformer", await transformer()),
    };
  } catch (error) {
    for (const model of models) model.dispose();
    throw error;
  }
}

/** T5's last states for prompts, [prompts, maxLength, features]; warns of what is cut off. */
export function embedTexts(
  tokenizer: T5Tokenizer,
  textEncoder: T5EncoderModel,
  texts: readonly string[],
  maxLength: number,
): tf.Tensor3D {
  const { inputIds, truncated } = tokenizer.encode(texts, { maxLength });
  for (const text of truncated.filter((text) => text !== "")) {
    process.emitWarning(`the prompt was cut off at ${maxLength} tokens; left out: ${JSON.stringify(text)}`);
  }
  return embedTokens(textEncoder, inputIds);
}

/** Tensors of a run that is spread over several turns of the event loop, where `tf.tidy` can't reach. */
class Held {
  readonly #tensors = new Set<tf.Tensor>();

  add<T extends tf.Tensor>(tensor: T, ...more: tf.Tensor[]): T {
    for (const each of [tensor, ...more]) this.#tensors.add(each);
    return tensor;
  }

  replace<T extends tf.Tensor>(old: tf.Tensor, tensor: T): T {
    if (tensor === old) return tensor;
    this.#tensors.delete(old);
    old.dispose();
    return this.add(tensor);
  }

  [Symbol.dispose](): void {
    tf.dispose([...this.#tensors]);
  }
}

function toFrames(
  video: tf.Tensor5D,
  outputType: Exclude<OutputType, "latent">,
  fps: number,
): Clip[] | tf.Tensor5D {
  switch (outputType) {
    case "clip": {
      const samples = tf.unstack(video, 0);
      try {
        return samples.map((sample) => Clip.fromTensor(sample, { fps }));
      } finally {
        tf.dispose(samples);
      }
    }
    case "pt":
      return postprocessVideo(video);
    case "np":
      return tf.tidy(() => tf.transpose(postprocessVideo(video), [0, 1, 3, 4, 2]));
    default:
      throw new InputError(`outputType: expected clip, pt, np or latent, found ${outputType}`);
  }
}

function asList(prompt: string | readonly string[]): readonly string[] {
  return typeof prompt === "string" ? [prompt] : prompt;
}

function checkPrompts({
  prompt,
  negativePrompt,
  promptEmbeds,
  negativePromptEmbeds,
}: {
  readonly prompt?: string | readonly string[];
  readonly negativePrompt?: string | readonly string[];
  readonly promptEmbeds?: tf.Tensor3D;
  readonly negativePromptEmbeds?: tf.Tensor3D;
}): void {
  if ((prompt === undefined) === (promptEmbeds === undefined)) {
    const found = prompt === undefined ? "neither" : "both";
    throw new InputError(`prompt, promptEmbeds: expected one of the two, found ${found}`);
  }
  if (Array.isArray(prompt) && prompt.length === 0) {
    throw new InputError("prompt: expected at least one, found an empty list");
  }
  if (negativePromptEmbeds !== undefined && (prompt !== undefined || negativePrompt !== undefined)) {
    const other = prompt !== undefined ? "prompt" : "negativePrompt";
    throw new InputError(`${other}, negativePromptEmbeds: expected one of the two, found both`);
  }
  if (
    promptEmbeds &&
    negativePromptEmbeds &&
    !tf.util.arraysEqual(promptEmbeds.shape, negativePromptEmbeds.shape)
  ) {
    throw new InputError(
      `negativePromptEmbeds: expected promptEmbeds' shape [${promptEmbeds.shape}], found [${negativePromptEmbeds.shape}]`,
    );
  }
}
