/**
 * A LoRA learns one clip by heart: from the first frame alone the small model then generates what followed.
 *
 *     node dist/src/procedural/overfit-clip.js --clip kitten.mp4 --caption "a kitten" --out out/overfit [--steps 300]
 *
 * Writes `strip.png` (the clip; what encoding and decoding leave of it; sampled without and with the LoRA), `figures.json`
 * with PSNR and SSIM of the frames after the first, and the training's folder with the LoRA for diffusers.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { basename, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import { useEngine } from "../engine/index.js";
import { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import { readArguments } from "../train/arguments.js";
import { listCheckpoints } from "../train/checkpoint.js";
import { parseBucket, prepareClip } from "../train/dataset.js";
import { psnr, ssim } from "../train/metrics.js";
import { runTraining } from "../train/run.js";
import { repeatFirstFrame } from "../train/validation.js";
import { Clip } from "../video/clip.js";
import { writeClip } from "../video/write.js";

/** The clip stands so often in the data set, so that a batch sees it at several timesteps. */
const COPIES = 8;
const SHOWN = 6;

const { values } = parseArgs({
  options: {
    clip: { type: "string" },
    caption: { type: "string" },
    model: { type: "string", default: "notebooks/models/procedural" },
    out: { type: "string", default: "out/overfit" },
    resolution: { type: "string", default: "17x64x96" },
    steps: { type: "string", default: "300" },
    rank: { type: "string", default: "32" },
    "learning-rate": { type: "string", default: "5e-3" },
    "sampling-steps": { type: "string", default: "4" },
    seed: { type: "string", default: "0" },
  },
});
if (values.clip === undefined) throw new Error("--clip FILE is missing");
const path = resolve(values.clip);
const caption = values.caption ?? basename(path);
const bucket = parseBucket(values.resolution);
const dataRoot = join(values.out, "data");
await mkdir(dataRoot, { recursive: true });
const lines = (line: string) => `${line}\n`.repeat(COPIES);
await writeFile(join(dataRoot, "prompts.txt"), lines(caption));
await writeFile(join(dataRoot, "videos.txt"), lines(relative(dataRoot, path)));

const outputDir = join(values.out, "lora");
await rm(outputDir, { recursive: true, force: true });
await useEngine();
const { video } = await prepareClip({ prompt: caption, video: path }, bucket);
const pipeline = await CogVideoXImageToVideoPipeline.fromPretrained(values.model);
const before = await sample();
const args = await readArguments({
  flags: {
    model_path: values.model,
    data_root: dataRoot,
    output_dir: outputDir,
    train_resolution: values.resolution,
    training_type: "lora",
    rank: values.rank,
    lora_alpha: values.rank,
    target_modules: ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"],
    train_steps: values.steps,
    batch_size: "4",
    learning_rate: values["learning-rate"],
    lr_scheduler: "cosine",
    lr_warmup_steps: "10",
    checkpointing_steps: values.steps,
    gradient_checkpointing: "false",
    enable_slicing: "false",
    enable_tiling: "false",
    report_to: "jsonl",
    seed: values.seed,
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
const columns = Array.from({ length: SHOWN }, (_, i) =>
  Math.round((i * (video.numFrames - 1)) / (SHOWN - 1)),
);
await writeClip(join(values.out, "strip.png"), mosaic(rows.map((row) => row.select(columns))));
const figures = {
  clip: basename(path),
  resolution: values.resolution,
  steps: args.train_steps,
  rank: args.rank,
  first_frame_repeated: repeatFirstFrame(video),
  vae_reconstruction: score(reconstruction),
  without_lora: score(before),
  with_lora: score(after),
};
await writeFile(join(values.out, "figures.json"), `${JSON.stringify(figures, null, 1)}\n`);
console.log(figures);

/** What the pipeline makes of the clip's first frame. */
async function sample(): Promise<Clip> {
  const { frames } = await pipeline.generate({
    image: video.slice(0, 1),
    prompt: caption,
    ...bucket,
    numInferenceSteps: Number(values["sampling-steps"]),
    guidanceScale: 1,
    generator: new RandomGenerator(Number(values.seed)),
    fps: video.fps,
  });
  return frames[0]!;
}

function score(clip: Clip): { psnr: number; ssim: number } {
  return { psnr: psnr(clip.slice(1), video.slice(1)), ssim: ssim(clip.slice(1), video.slice(1)) };
}

/** Clips below each other, their frames side by side. */
function mosaic(clips: readonly Clip[]): Clip {
  const { width, height, numFrames, fps } = clips[0]!;
  const data = new Uint8Array(clips.length * height * numFrames * width * 3);
  for (const [row, clip] of clips.entries()) {
    for (const [column, frame] of clip.frames().entries()) {
      for (let y = 0; y < height; y++) {
        const to = ((row * height + y) * numFrames + column) * width * 3;
        data.set(frame.subarray(y * width * 3, (y + 1) * width * 3), to);
      }
    }
  }
  return new Clip({ data, width: width * numFrames, height: height * clips.length, fps });
}
