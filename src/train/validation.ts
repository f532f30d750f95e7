/** Samples from held-out images in the course of a training, and how close they come to what really happened. */

import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import type { PipelineComponents } from "../diffusion/pipeline.js";
import { fileProblem } from "../engine/errors.js";
import { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import type { ImagePlace, Padding } from "../recipe/rules.js";
import type { Clip } from "../video/clip.js";
import { filmStrip } from "../video/strip.js";
import { writeClip } from "../video/write.js";
import { type Bucket, DatasetError, type PreprocessOptions, prepareClip } from "./dataset.js";
import type { LatentCache } from "./latent-cache.js";
import { firstFrameFidelity, frameDifference, psnr, ssim } from "./metrics.js";

/** Frames of a sample in its picture. */
const SHOWN = 8;

/** A held-out image with its prompt, and the clip it comes from, if known. */
export interface ValidationSample {
  readonly prompt: string;
  /** One frame. */
  readonly image: Clip;
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
  location: {
    readonly validationDir: string;
    readonly validationPrompts: string;
    readonly validationImages?: string;
    readonly validationVideos?: string;
  },
  bucket: Bucket,
  cache: Pick<LatentCache, "embedPrompt">,
  preprocess: Pick<PreprocessOptions, "fps" | "frameExtraction"> = {},
): Promise<ValidationSample[]> {
  const list = async (name: string) => {
    const file = join(location.validationDir, name);
    const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
      throw new DatasetError(fileProblem(error), { file });
    });
    const lines = text.split("\n").map((line) => line.trim());
    return { folder: dirname(file), lines: lines.filter((line) => line !== "") };
  };
  const prompts = await list(location.validationPrompts);
  const images = location.validationImages === undefined ? undefined : await list(location.validationImages);
  const videos = location.validationVideos === undefined ? undefined : await list(location.validationVideos);
  for (const [name, paths] of Object.entries({ images, videos })) {
    if (paths && paths.lines.length !== prompts.lines.length) {
      throw new DatasetError(
        `expected ${prompts.lines.length} ${name} (one a prompt), found ${paths.lines.length}`,
        { file: location.validationDir },
      );
    }
  }
  const samples: ValidationSample[] = [];
  for (const [i, prompt] of prompts.lines.entries()) {
    const still: Bucket = { ...bucket, numFrames: 1 };
    const imagePath = images && join(images.folder, images.lines[i]!);
    const image = imagePath ? (await prepareClip({ prompt, video: imagePath }, still)).video : undefined;
    const videoPath = videos && join(videos.folder, videos.lines[i]!);
    const reference = videoPath
      ? (await prepareClip({ prompt, video: videoPath }, bucket, preprocess)).video
      : undefined;
    if (image === undefined && reference === undefined) {
      throw new DatasetError("expected images or videos", { file: location.validationDir });
    }
    const embedding = await cache.embedPrompt(prompt);
    const promptEmbeds = tf.tidy(() => tf.expandDims(embedding, 0) as tf.Tensor3D);
    embedding.dispose();
    samples.push({
      prompt,
      image: image ?? reference!.slice(0, 1),
      reference,
      ...(videoPath === undefined ? {} : { video: videoPath }),
      promptEmbeds,
    });
  }
  return samples;
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
  const pipeline = new CogVideoXImageToVideoPipeline({ ...components, tokenizer: null, textEncoder: null });
  const clips: Clip[] = [];
  const sums: Record<string, number[]> = {};
  const record = (name: string, value: number) => {
    sums[name] = [...(sums[name] ?? []), value];
  };
  if (options.outputDir !== undefined) await mkdir(options.outputDir, { recursive: true });
  for (const [i, { image, reference, promptEmbeds }] of samples.entries()) {
    const { frames } = await pipeline.generate({
      image,
      promptEmbeds,
      negativePromptEmbeds: options.guidanceScale > 1 ? options.negativePromptEmbeds : undefined,
      height: image.height,
      width: image.width,
      numFrames: options.numFrames,
      numInferenceSteps: options.numInferenceSteps,
      guidanceScale: options.guidanceScale,
      generator: new RandomGenerator(options.seed + i),
      fps: options.fps,
      padding: options.padding,
      imagePlace: options.imagePlace,
    });
    const clip = frames[0]!;
    clips.push(clip);
    record("first_frame_psnr", firstFrameFidelity(clip, image));
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
