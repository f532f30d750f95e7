import { mkdir, rm, writeFile } from "node:fs/promises";
import { basename, join, relative, resolve } from "node:path";
import { inspect } from "node:util";
import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import { readArguments } from "../train/arguments.js";
import { listCheckpoints } from "../train/checkpoint.js";
import { parseBucket, prepareClip } from "../train/dataset.js";
import { psnr, ssim } from "../train/metrics.js";
import { runTraining } from "../train/run.js";
import { repeatFirstFrame } from "../train/validation.js";
import { Clip } from "../video/clip.js";
import { filmStrip } from "../video/strip.js";
import { writeClip } from "../video/write.js";

/** The data set has the clip this many times, so that a batch sees it at several timesteps. */
const COPIES = 8;
const SHOWN = 6;

export interface OverfitOptions {
  readonly clip: string;
  /** Default: the clip's file name. */
  readonly caption?: string | undefined;
  readonly model: string;
  readonly out: string;
  /** FRAMESxHEIGHTxWIDTH. */
  readonly resolution: string;
  readonly steps: number;
  readonly rank: number;
  readonly learningRate: number;
  readonly samplingSteps: number;
  readonly seed: number;
  readonly log: (line: string) => void;
}

/**
 * Has a LoRA learn one clip by heart: from the first frame alone, the small model then generates what followed.
 *
 * Writes `strip.png` (the clip; what encoding and decoding leave of it; sampled without and with the LoRA), `figures.json`
 * with PSNR and SSIM of the frames after the first, and the training's folder with the LoRA for diffusers.
 */
export async function overfitClip(options: OverfitOptions): Promise<void> {
  const { model, out, resolution, steps, rank, learningRate, samplingSteps, seed } = options;
  const path = resolve(options.clip);
  const caption = options.caption ?? basename(path);
  const bucket = parseBucket(resolution);
  const dataRoot = join(out, "data");
  await mkdir(dataRoot, { recursive: true });
  const lines = (line: string) => `${line}\n`.repeat(COPIES);
  await writeFile(join(dataRoot, "prompts.txt"), lines(caption));
  await writeFile(join(dataRoot, "videos.txt"), lines(relative(dataRoot, path)));

  const outputDir = join(out, "lora");
  await rm(outputDir, { recursive: true, force: true });
  const { video } = await prepareClip({ prompt: caption, video: path }, bucket);
  const pipeline = await CogVideoXImageToVideoPipeline.fromPretrained(model);
  // What the pipeline makes of the clip's first frame.
  const sample = async (): Promise<Clip> => {
    const { frames } = await pipeline.generate({
      image: video.slice(0, 1),
      prompt: caption,
      ...bucket,
      numInferenceSteps: samplingSteps,
      guidanceScale: 1,
      generator: new RandomGenerator(seed),
      fps: video.fps,
    });
    return frames[0]!;
  };
  const score = (clip: Clip) => ({
    psnr: psnr(clip.slice(1), video.slice(1)),
    ssim: ssim(clip.slice(1), video.slice(1)),
  });
  const before = await sample();
  const args = await readArguments({
    flags: {
      model_path: model,
      data_root: dataRoot,
      output_dir: outputDir,
      train_resolution: resolution,
      training_type: "lora",
      rank: String(rank),
      lora_alpha: String(rank),
      target_modules: ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"],
      train_steps: String(steps),
      batch_size: "4",
      learning_rate: String(learningRate),
      lr_scheduler: "cosine",
      lr_warmup_steps: "10",
      checkpointing_steps: String(steps),
      gradient_checkpointing: "false",
      enable_slicing: "false",
      enable_tiling: "false",
      report_to: "jsonl",
      seed: String(seed),
    },
  });
  await runTraining(args);
  const [checkpoint] = await listCheckpoints(outputDir);
  await pipeline.loadLoraWeights(checkpoint!.path);
  const after = await sample();
  const decoded = tf.tidy(() => pipeline.vae.forward(video.toTensor()).sample);
  const reconstruction = Clip.fromTensor(decoded, video);
  decoded.dispose();

  const rows = [video, reconstruction, before, after];
  await writeClip(join(out, "strip.png"), filmStrip(rows, SHOWN));
  const figures = {
    clip: basename(path),
    resolution: resolution,
    steps: args.train_steps,
    rank: args.rank,
    first_frame_repeated: repeatFirstFrame(video),
    vae_reconstruction: score(reconstruction),
    without_lora: score(before),
    with_lora: score(after),
  };
  await writeFile(join(out, "figures.json"), `${JSON.stringify(figures, null, 1)}\n`);
  options.log(inspect(figures));
}
