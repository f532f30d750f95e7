/** Samples held-out clips with a trained transformer and measures them, a number a clip. */
import type { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { headNorm } from "../../../src/engine/ops/head-norm/head-norm.js";
import { signedRotaryTables } from "../../../src/engine/ops/rotary/rotary.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import type { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { emptyCounts, type MotionTruth, measureMotion } from "../../../src/procedural/motion.js";
import { ofsFor, placeImageLatent } from "../../../src/recipe/conditioning.js";
import { dropDuplicatedFrames } from "../../../src/recipe/first-frame.js";
import { firstFrameCopies } from "../../../src/recipe/geometry.js";
import type { ImagePlace, Padding } from "../../../src/recipe/rules.js";
import { firstFrameFidelity } from "../../../src/train/metrics.js";
import { Clip } from "../../../src/video/clip.js";
import type { HeldOutClip } from "./held-out.js";

/** What is sampled with, by the rules that the model was trained with. */
export interface Sampler {
  readonly pipeline: CogVideoXImageToVideoPipeline;
  readonly steps: number;
  readonly maxTextLength: number;
  readonly padding: Padding;
  readonly imagePlace: ImagePlace;
}

export interface Request {
  readonly image: Clip;
  readonly prompt: string;
  /** Draws the noise: every arm gets the same for the same clip. */
  readonly noise: number;
}

/** A sampled clip, and how far apart its first two latent frames are, relative to the root mean square of the second. */
export interface Sample {
  readonly clip: Clip;
  readonly apart: number;
}

/** Samples clips of one size, a batch at a time. */
export async function sample(sampler: Sampler, requests: readonly Request[], like: Clip): Promise<Sample[]> {
  const { pipeline, steps, maxTextLength, padding, imagePlace } = sampler;
  const { frames: latents } = await pipeline.generate({
    image: requests.map(({ image }) => image),
    prompt: requests.map(({ prompt }) => prompt),
    generator: requests.map(({ noise }) => new RandomGenerator(noise)),
    ...{ numFrames: like.numFrames, height: like.height, width: like.width, padding, imagePlace },
    numInferenceSteps: steps,
    guidanceScale: 1,
    maxSequenceLength: maxTextLength,
    outputType: "latent",
  });
  const patch = pipeline.transformer.config.patch_size_t;
  const kept = Math.floor((like.numFrames - 1) / pipeline.vaeScaleFactorTemporal) + 1;
  const copies = firstFrameCopies(kept, patch);
  const real = dropDuplicatedFrames(latents, { copies, frameAxis: 1, padding });
  const video = await pipeline.decodeLatents(real);
  const apart = tf.tidy(() => {
    const [a, b] = [0, 1].map((i) => tf.slice(latents, [0, i], [-1, 1]));
    const size = (x: tf.Tensor) => tf.sqrt(tf.mean(tf.square(x), [1, 2, 3, 4]));
    return tf.div(size(tf.sub(a!, b!)), size(b!)).dataSync();
  });
  const samples = tf.unstack(video, 0);
  const made = samples.map((each, i) => ({ clip: Clip.fromTensor(each, like), apart: apart[i]! }));
  tf.dispose([latents, real, video, samples]);
  return made;
}

/** What a sampled clip is measured by, by the names of {@link MEASURES}. */
export function measures(made: Clip, truth: MotionTruth): Record<string, number | null> {
  const counts = emptyCounts();
  measureMotion(made, truth, counts, { similarity: false });
  const right = counts.direction[0];
  return {
    direction: right === undefined ? null : Number(right),
    left: counts.left["1"][0] ?? null,
    moved: moved(made, truth.clip),
    psnr: counts.psnr[0]!,
    first: firstFrameFidelity(made, truth.clip),
    seam: counts.seam[0]!,
    flicker: counts.flicker[0]!,
  };
}

/**
 * How much of what changes from the first frame to the last the sample changes, too: the slope of its difference over the true one.
 * 1: as the truth. 0: the image is copied, or what moves is elsewhere.
 */
export function moved(made: Clip, truth: Clip): number {
  const last = truth.numFrames - 1;
  const [image, end, found] = [truth.frame(0), truth.frame(last), made.frame(last)];
  let [product, square] = [0, 0];
  for (let i = 0; i < image.length; i++) {
    const change = end[i]! - image[i]!;
    product += change * (found[i]! - image[i]!);
    square += change * change;
  }
  return square === 0 ? 0 : product / square;
}

/** Where the video's tokens look when there is only noise, in the first sampling step; the mean of all heads and clips. */
export interface AttentionFound {
  /** By layer and temporal patch that looks: the share of its attention that goes to the text and to each temporal patch. */
  readonly shares: readonly (readonly (readonly number[])[])[];
  /**
   * From the last temporal patch to the first, the mean of all layers: attention to the token that lies so many rows and columns
   * away, from (1 - height, 1 - width) on. The middle is the same place.
   */
  readonly map: readonly (readonly number[])[];
}

/** Measures the attention in the first sampling step. */
export async function attention(
  { pipeline, maxTextLength, imagePlace }: Sampler,
  clips: readonly HeldOutClip[],
): Promise<AttentionFound> {
  const { transformer } = pipeline;
  const { config } = transformer;
  const first = clips[0]!.truth.clip;
  const images = tf.tidy(() =>
    tf.concat(clips.map(({ image }) => tf.squeeze(image.toTensor(), [2]) as tf.Tensor4D)),
  );
  const { latents, imageLatents: placed } = pipeline.prepareLatents({
    image: images,
    numFrames: first.numFrames,
    generator: clips.map(({ index }) => new RandomGenerator(index)),
  });
  const { promptEmbeds } = pipeline.encodePrompt({
    prompt: clips.map(({ caption }) => caption),
    doClassifierFreeGuidance: false,
    maxSequenceLength: maxTextLength,
  });
  const [, frames, , height, width] = latents.shape;
  const tables = transformer.rotaryTables({ frames, height, width }, "inference")!;
  const seen = new Map<string, tf.Tensor3D>();
  const unhook = transformer.registerForwardHook((name, output) => {
    if (/attn1\.to_[qk]$/.test(name)) seen.set(name, tf.keep(output.clone()) as tf.Tensor3D);
  });
  const weights = tf.tidy(() => {
    const image = tf.slice(placed, [0, 0], [-1, 1]);
    const latent = tf.transpose(image, [0, 2, 1, 3, 4]) as tf.Tensor5D;
    const { sample: prediction } = transformer.forward({
      hiddenStates: tf.concat([latents, placeImageLatent(latent, frames, imagePlace)], 2),
      encoderHiddenStates: promptEmbeds,
      timestep: pipeline.scheduler.config.num_train_timesteps - 1,
      ofs: ofsFor(config),
      imageRotaryEmb: tables,
    });
    prediction.dispose();
    return Array.from({ length: config.num_layers }, (_, layer) =>
      layerWeights(transformer, layer, seen, tables).arraySync(),
    );
  });
  unhook();
  const video = tables.cos.shape[0];
  tf.dispose([...seen.values(), images, latents, placed, promptEmbeds, tables.cos, tables.sin]);
  const slots = frames / (config.patch_size_t ?? 1);
  const grid = { slots, height: height / config.patch_size, width: width / config.patch_size };
  return {
    shares: weights.map((layer) => sharesOf(layer, layer.length - video, slots)),
    map: offsetMap(weights, weights[0]!.length - video, grid),
  };
}

/** By temporal patch: how much of its attention goes to the text, then to each temporal patch. */
function sharesOf(weights: readonly (readonly number[])[], text: number, slots: number): number[][] {
  const size = (weights.length - text) / slots;
  const slot = (i: number) => [text + i * size, text + (i + 1) * size] as const;
  const sum = (row: readonly number[]) => row.reduce((total, value) => total + value, 0);
  return Array.from({ length: slots }, (_, from) => {
    const rows = weights.slice(...slot(from));
    const share = (start: number, end: number) => sum(rows.map((row) => sum(row.slice(start, end)))) / size;
    return [share(0, text), ...Array.from({ length: slots }, (_, to) => share(...slot(to)))];
  });
}

function offsetMap(
  layers: readonly (readonly (readonly number[])[])[],
  text: number,
  { slots, height, width }: { readonly slots: number; readonly height: number; readonly width: number },
): number[][] {
  const zeros = () => Array.from({ length: 2 * height - 1 }, () => Array<number>(2 * width - 1).fill(0));
  const [sums, counts] = [zeros(), zeros()];
  const last = text + (slots - 1) * height * width;
  for (const weights of layers) {
    for (let from = 0; from < height * width; from++) {
      for (let to = 0; to < height * width; to++) {
        const row = Math.floor(to / width) - Math.floor(from / width) + height - 1;
        const column = (to % width) - (from % width) + width - 1;
        sums[row]![column]! += weights[last + from]![text + to]!;
        counts[row]![column]! += 1;
      }
    }
  }
  return sums.map((row, y) => row.map((sum, x) => sum / counts[y]![x]!));
}

/** From each token to each, the mean of heads and clips. */
function layerWeights(
  transformer: CogVideoXTransformer3DModel,
  layer: number,
  seen: ReadonlyMap<string, tf.Tensor3D>,
  tables: { cos: tf.Tensor2D; sin: tf.Tensor2D },
): tf.Tensor2D {
  const { num_attention_heads: heads, attention_head_dim: features } = transformer.config;
  const of = (which: "q" | "k"): tf.Tensor4D => {
    const name = `transformer_blocks.${layer}.attn1`;
    const x = seen.get(`${name}.to_${which}`)!;
    const [batch, tokens] = x.shape;
    const rotary = signedRotaryTables(tables, {
      textTokens: tokens - tables.cos.shape[0],
      videoTokens: tables.cos.shape[0],
      features,
    });
    const norm = (part: string) =>
      transformer.parameters.get(`${name}.norm_${which}.${part}`)!.value as unknown as tf.Tensor1D;
    const rotated = headNorm(x, norm("weight"), norm("bias"), rotary, { eps: 1e-6, trained: false });
    return tf.transpose(tf.reshape(rotated, [batch, tokens, heads, features]), [0, 2, 1, 3]);
  };
  const scores = tf.mul(tf.matMul(of("q"), of("k"), false, true), features ** -0.5);
  return tf.mean(tf.softmax(scores), [0, 1]) as tf.Tensor2D;
}
