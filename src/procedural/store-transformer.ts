import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { inspect } from "node:util";
import { CogVideoXDDIMScheduler } from "../diffusion/ddim.js";
import { InputError } from "../engine/errors.js";
import { currentEngine } from "../engine/index.js";
import { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import { CogVideoXTransformer3DModel } from "../models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import { readArguments } from "../train/arguments.js";
import { listCheckpoints, readCheckpoint } from "../train/checkpoint.js";
import { parseBucket } from "../train/dataset.js";
import { psnr, ssim } from "../train/metrics.js";
import { T5PromptEncoder } from "../train/prompt-encoder.js";
import { readValidationSet, repeatFirstFrame, validate } from "../train/validation.js";
import { Clip } from "../video/clip.js";

/** More steps give sharper frames, which score a worse squared error where the future is uncertain. */
const SAMPLING_STEPS = [1, 4];
/** Steps that each point of the curve averages over. */
const CURVE_STEPS = 25;

export interface StoreTransformerOptions {
  /** The training's YAML file. */
  readonly config: string;
  /** The pipeline's folder. Default: the model that was trained. */
  readonly out?: string | undefined;
  /** What the command alone does not tell, such as that the run was stopped and resumed. */
  readonly note?: string | undefined;
  readonly log: (line: string) => void;
}

/**
 * Puts the transformer trained by a configuration into the small pipeline, and reports how good it is.
 *
 * The newest checkpoint's moving average is stored in float16 beside the model it was trained for, with
 * `transformer-training.json`: settings, curves, and what the stored weights score on the validation set, compared with an
 * untrained transformer, the first frame repeated, and the VAE's own reconstruction.
 */
export async function storeTransformer(options: StoreTransformerOptions): Promise<void> {
  const { config, note } = options;
  const args = await readArguments({ config });
  const out = options.out ?? args.model_path!;
  const engine = currentEngine()!;
  const newest = (await listCheckpoints(args.output_dir)).at(-1);
  if (newest === undefined) throw new InputError("no checkpoint to store", { file: args.output_dir });
  await readCheckpoint(newest);
  const averaged = join(newest.path, "ema", "transformer");
  const source = existsSync(averaged) ? averaged : join(newest.path, "transformer");
  const trained = await CogVideoXTransformer3DModel.fromPretrained(source);
  await trained.savePretrained(join(out, "transformer"), { dtype: "float16" });
  trained.dispose();

  const vae = await AutoencoderKLCogVideoX.fromPretrained(join(args.model_path!, "vae"));
  const scheduler = await CogVideoXDDIMScheduler.fromPretrained(join(args.model_path!, "scheduler"));
  const stored = await CogVideoXTransformer3DModel.fromPretrained(join(out, "transformer"));
  // What the training started from.
  const untrained = CogVideoXTransformer3DModel.fromConfig(stored.config, new RandomGenerator(args.seed));
  const bucket = parseBucket(args.train_resolution!);
  const prompts = await T5PromptEncoder.open(
    args.model_path!,
    stored.config.max_text_seq_length,
    join(args.output_dir, "content"),
  );
  const samples = await readValidationSet(
    {
      validationDir: args.validation_dir!,
      validationPrompts: args.validation_prompts!,
      validationVideos: args.validation_videos!,
    },
    bucket,
    { embedPrompt: (prompt) => prompts.encode(prompt) },
  );
  await prompts.dispose();
  const sampling = {
    numFrames: bucket.numFrames,
    numInferenceSteps: args.num_inference_steps,
    guidanceScale: args.guidance_scale,
    seed: args.seed,
    fps: args.gen_fps,
  };
  const score = async (transformer: CogVideoXTransformer3DModel, numInferenceSteps: number) => {
    const options = { ...sampling, numInferenceSteps };
    const { metrics } = await validate({ vae, transformer, scheduler }, samples, options, newest.step);
    return { psnr: metrics.psnr!, ssim: metrics.ssim! };
  };
  const references = samples.map(({ reference }) => reference!);
  const bySteps: Record<number, { psnr: number; ssim: number }> = {};
  for (const steps of new Set([args.num_inference_steps, ...SAMPLING_STEPS])) {
    bySteps[steps] = await score(stored, steps);
  }
  const heldOut = {
    clips: samples.length,
    ...bucket,
    fps: references[0]!.fps,
    trained: bySteps[args.num_inference_steps]!,
    untrained: await score(untrained, args.num_inference_steps),
    first_frame_repeated: means(references.map(repeatFirstFrame)),
    vae_reconstruction: means(references.map((clip) => reconstruction(vae, clip))),
    trained_by_sampling_steps: bySteps,
  };
  options.log(inspect(heldOut, { depth: null }));

  const rows = (await readFile(join(args.output_dir, "logs", "metrics.jsonl"), "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, number>);
  const losses = rows.filter(({ loss }) => loss !== undefined);
  const curve = Array.from({ length: Math.floor(losses.length / CURVE_STEPS) }, (_, i) => {
    const part = losses.slice(CURVE_STEPS * i, CURVE_STEPS * (i + 1));
    return {
      step: part.at(-1)!.step!,
      loss: rounded(part.reduce((sum, row) => sum + row.loss!, 0) / CURVE_STEPS),
    };
  });
  const validation = rows
    .filter((row) => row["validation/psnr"] !== undefined)
    .map((row) => ({
      step: row.step!,
      psnr: rounded(row["validation/psnr"]!),
      ssim: rounded(row["validation/ssim"]!),
    }));
  const report = {
    command: `firstframe train --config ${config}`,
    ...(note === undefined ? {} : { note: note }),
    seed: args.seed,
    steps_taken: newest.step,
    weights: source === averaged ? "moving average" : "as trained",
    engine: engine.name,
    sampling: { num_inference_steps: sampling.numInferenceSteps, guidance_scale: sampling.guidanceScale },
    held_out: heldOut,
    curve,
    validation,
  };
  await writeFile(join(out, "transformer-training.json"), `${JSON.stringify(report, null, 1)}\n`);
}

/** What encoding and decoding alone lose, on the frames after the first. */
function reconstruction(vae: AutoencoderKLCogVideoX, clip: Clip): { psnr: number; ssim: number } {
  const decoded = tf.tidy(() => vae.forward(clip.toTensor()).sample);
  const back = Clip.fromTensor(decoded, clip);
  decoded.dispose();
  return { psnr: psnr(back.slice(1), clip.slice(1)), ssim: ssim(back.slice(1), clip.slice(1)) };
}

function means(scores: readonly { psnr: number; ssim: number }[]): { psnr: number; ssim: number } {
  const mean = (key: "psnr" | "ssim") => scores.reduce((sum, score) => sum + score[key], 0) / scores.length;
  return { psnr: mean("psnr"), ssim: mean("ssim") };
}

function rounded(value: number): number {
  return Number(value.toPrecision(5));
}
