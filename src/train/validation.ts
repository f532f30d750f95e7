/** Samples from held-out images in the course of a training, and how close they come to what really happened. */

import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import type { PipelineComponents } from "../diffusion/pipeline.js";
import { CogVideoXPipeline } from "../diffusion/text-to-video.js";
import { InputError, quote } from "../engine/errors.js";
import { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import type { ImagePlace, Padding } from "../recipe/rules.js";
import type { Clip, Size } from "../video/clip.js";
import { filmStrip } from "../video/strip.js";
import { writeClip } from "../video/write.js";
import { type Bucket, DatasetError, type PreprocessOptions, prepareClip } from "./dataset.js";
import type { LatentCache } from "./latent-cache.js";
import { assertFiles, assertFolder, readLines, readPaths } from "./lists.js";
import { firstFrameFidelity, frameDifference, psnr, ssim } from "./metrics.js";

/** Frames of a sample in its picture. */
const SHOWN = 8;

/** A held-out image with its prompt, and the clip it comes from, if known. */
export interface ValidationSample {
  readonly prompt: string;
  /** One frame. Text to video has none. */
  readonly image?: Clip;
  /** What really followed. */
  readonly reference?: Clip;
  /** The file of that clip. */
  readonly video?: string;
  /** [1, tokens, text_embed_dim] */
  readonly promptEmbeds: tf.Tensor3D;
}

/** A generated clip, and what it should have been. */
export type GeneratedSample = Pick<ValidationSample, "prompt" | "image" | "reference" | "video"> & {
  readonly clip: Clip;
};

/** Measures the clips of one validation together: figures by name. */
export type ValidationMeasure = (
  samples: readonly GeneratedSample[],
) => Readonly<Record<string, number>> | Promise<Readonly<Record<string, number>>>;

export interface ValidationOptions {
  readonly numFrames: number;
  readonly numInferenceSteps: number;
  readonly guidanceScale: number;
  /** Every validation draws the same noise. */
  readonly seed: number;
  /** Samples are made of the text alone, in this size. Default: of each sample's image, in its size. */
  readonly textToVideo?: Size | undefined;
  /** Frame rate of saved samples. */
  readonly fps: number;
  /** Where samples are saved as MP4 and PNG. Default: nowhere. */
  readonly outputDir?: string;
  /** The rules that the training follows, for what is sampled to follow them too. Default: the recipe's. */
  readonly padding?: Padding;
  readonly imagePlace?: ImagePlace;
  /** The embedding of the empty prompt, for guidance: [1, tokens, text_embed_dim]. */
  readonly negativePromptEmbeds?: tf.Tensor3D;
  /** Taken besides the measures that every validation has. */
  readonly measures?: readonly ValidationMeasure[];
}

export interface ValidationResult {
  /** One per validation sample. */
  readonly clips: readonly Clip[];
  /**
   * Means over the samples: psnr and ssim (where there are references), first_frame_psnr, frame_difference; then what
   * {@link ValidationOptions.measures} found.
   */
  readonly metrics: Readonly<Record<string, number>>;
}

/**
 * Reads a validation set in the recipe's layout, each clip and image brought to `bucket`.
 *
 * @param preprocess which frames are taken of its clips: what the training does with its own
 *
 * @throws DatasetError or ClipError naming the file.
 */
export async function readValidationSet(
  location: ValidationLocation,
  bucket: Bucket,
  cache: Pick<LatentCache, "embedPrompt">,
  preprocess: Pick<PreprocessOptions, "fps" | "frameExtraction"> = {},
): Promise<ValidationSample[]> {
  const samples: ValidationSample[] = [];
  for (const { prompt, image: imagePath, video: videoPath } of await readValidationLists(location)) {
    const still: Bucket = { ...bucket, numFrames: 1 };
    const image = imagePath ? (await prepareClip({ prompt, video: imagePath }, still)).video : undefined;
    const reference = videoPath
      ? (await prepareClip({ prompt, video: videoPath }, bucket, preprocess)).video
      : undefined;
    const embedding = await cache.embedPrompt(prompt);
    const promptEmbeds = tf.tidy(() => tf.expandDims(embedding, 0) as tf.Tensor3D);
    embedding.dispose();
    samples.push({
      prompt,
      ...(location.textAlone ? {} : { image: image ?? reference!.slice(0, 1) }),
      reference,
      ...(videoPath === undefined ? {} : { video: videoPath }),
      promptEmbeds,
    });
  }
  return samples;
}

/** Where a validation set lies: a folder, and the lists in it; names may be absolute paths, too. */
export interface ValidationLocation {
  readonly validationDir: string;
  readonly validationPrompts: string;
  readonly validationImages?: string | undefined;
  readonly validationVideos?: string | undefined;
  /** Whether prompts are enough, as for text to video. Default false. */
  readonly textAlone?: boolean;
}

/** A prompt with its files; image to video has at least one. */
export interface ValidationEntry {
  readonly prompt: string;
  readonly image?: string;
  readonly video?: string;
}

/**
 * Reads the lists of a validation set and sees to it that all files are there, without decoding any.
 *
 * @throws DatasetError naming the list or the files that are missing.
 */
export async function readValidationLists(location: ValidationLocation): Promise<ValidationEntry[]> {
  const {
    validationDir: folder,
    validationPrompts,
    validationImages,
    validationVideos,
    textAlone,
  } = location;
  if (!textAlone && validationImages === undefined && validationVideos === undefined)
    throw new DatasetError("expected images or videos", { file: folder });
  await assertFolder(folder);
  const prompts = await readLines(resolve(folder, validationPrompts));
  const paths = async (name: string | undefined) =>
    name === undefined ? undefined : await readPaths(resolve(folder, name), name);
  const images = await paths(validationImages);
  const videos = await paths(validationVideos);
  for (const [name, files] of Object.entries({ images, videos })) {
    if (files && files.length !== prompts.length) {
      throw new DatasetError(`expected ${prompts.length} ${name} (one a prompt), found ${files.length}`, {
        file: folder,
      });
    }
  }
  await assertFiles(folder, [...(images ?? []), ...(videos ?? [])]);
  return prompts.map(({ text: prompt }, i) => ({
    prompt,
    ...(images ? { image: images[i]!.path } : {}),
    ...(videos ? { video: videos[i]!.path } : {}),
  }));
}

/**
 * Generates a clip from each image with the current weights, measures the clips and saves them.
 *
 * @param step names the files: `validation-STEP-INDEX.mp4`.
 */
export async function validate(
  components: Pick<PipelineComponents, "vae" | "transformer" | "scheduler">,
  samples: readonly ValidationSample[],
  options: ValidationOptions,
  step: number,
): Promise<ValidationResult> {
  const parts = { ...components, tokenizer: null, textEncoder: null };
  const clips: Clip[] = [];
  const sums: Record<string, number[]> = {};
  const record = (name: string, value: number) => {
    sums[name] = [...(sums[name] ?? []), value];
  };
  if (options.outputDir !== undefined) await mkdir(options.outputDir, { recursive: true });
  for (const [i, { prompt: sampled, image, reference, promptEmbeds }] of samples.entries()) {
    const common = {
      promptEmbeds,
      negativePromptEmbeds: options.guidanceScale > 1 ? options.negativePromptEmbeds : undefined,
      numFrames: options.numFrames,
      numInferenceSteps: options.numInferenceSteps,
      guidanceScale: options.guidanceScale,
      generator: new RandomGenerator(options.seed + i),
      fps: options.fps,
      padding: options.padding,
    };
    const { textToVideo: size, imagePlace } = options;
    if (size === undefined && image === undefined)
      throw new InputError(`validation: expected an image, found none with the prompt ${quote(sampled)}`);
    const { frames } = size
      ? await new CogVideoXPipeline(parts).generate({ ...common, height: size.height, width: size.width })
      : await new CogVideoXImageToVideoPipeline(parts).generate({
          ...common,
          image: image!,
          height: image!.height,
          width: image!.width,
          imagePlace,
        });
    const clip = frames[0]!;
    clips.push(clip);
    if (image) record("first_frame_psnr", firstFrameFidelity(clip, image));
    record("frame_difference", frameDifference(clip));
    if (reference && reference.numFrames === clip.numFrames) {
      record("psnr", continuation(psnr, clip, reference));
      record("ssim", continuation(ssim, clip, reference));
      record("frame_difference_reference", frameDifference(reference));
    }
    if (options.outputDir === undefined) continue;
    const stem = join(options.outputDir, `validation-${step}-${i}`);
    await writeClip(`${stem}.mp4`, clip);
    const isPair = reference && reference.numFrames === clip.numFrames;
    await writeClip(`${stem}.png`, filmStrip(isPair ? [clip, reference] : [clip], SHOWN));
  }
  const metrics = Object.entries(sums).map(([name, values]) => [
    name,
    values.reduce((a, b) => a + b, 0) / values.length,
  ]);
  const generated = samples.map(({ prompt, image, reference, video }, i) => {
    return { prompt, image, reference, video, clip: clips[i]! };
  });
  const further: Record<string, number> = {};
  for (const measure of options.measures ?? []) Object.assign(further, await measure(generated));
  return { clips, metrics: { ...Object.fromEntries(metrics), ...further } };
}

/** Compares only what was generated: the frames after the first, which was given. */
function continuation(metric: (a: Clip, b: Clip) => number, clip: Clip, reference: Clip): number {
  return clip.numFrames > 1 ? metric(clip.slice(1), reference.slice(1)) : metric(clip, reference);
}

/** What "the first frame, repeated" scores: the least a model has to beat. */
export function repeatFirstFrame(reference: Clip): { psnr: number; ssim: number } {
  const still = reference.select(Array<number>(reference.numFrames).fill(0));
  return { psnr: continuation(psnr, still, reference), ssim: continuation(ssim, still, reference) };
}
