import { mkdir } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { pipelineFiles } from "../diffusion/pipeline.js";
import { RandomGenerator } from "../engine/random.js";
import { fitsFrameRule } from "../recipe/geometry.js";
import { flagsGiven, readArguments, type TrainArguments } from "../train/arguments.js";
import { encodeVideo } from "../train/data.js";
import { bucketName, parseBucket } from "../train/dataset.js";
import {
  type ClipReport,
  fillCache,
  openCache,
  openVae,
  readEntries,
  readTransformerConfig,
} from "../train/fill-cache.js";
import { describeTruncation } from "../train/prompt-encoder.js";
import { Clip } from "../video/clip.js";
import { extractFrames, resampleFrames, selectFrames } from "../video/frames.js";
import { ClipError, readClip } from "../video/read.js";
import { MODEL_CONFIG } from "../weights/config.js";
import { componentFiles, type Needs, namedFiles, resolveModel } from "../weights/hub.js";
import { saveFile } from "../weights/safetensors.js";
import { type Arguments, parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { UsageError, warn } from "./errors.js";
import { modelFolder, startEngine } from "./models.js";

type Values = Arguments<typeof commands.encode>["values"];

/** `firstframe encode`: see the table of commands for what it does. */
export async function encodeCommand(argv: string[]): Promise<number> {
  const { values, positionals } = parseCommand("encode", commands.encode, argv);
  const args = await readArguments({ config: values.config, flags: trainFlags(values) });
  if (args.model_path === undefined)
    throw new UsageError(
      "--model MODEL is missing: a pipeline's folder, with vae/ in it, or an id on the Hugging Face Hub",
    );
  const clips = positionals.length > 0;
  const data = clips ? values.data_root : args.data_root;
  if (clips === (data !== undefined)) {
    throw new UsageError(`expected CLIP... or --data_root DIR, found ${clips ? "both" : "neither"}`);
  }
  if (!clips && values.frames !== undefined)
    throw new UsageError("--frames is for single clips", {
      hint: "--train_resolution says how many frames a data set's clips have",
    });
  return clips ? encodeClips(args, positionals, values) : encodeDataset(args, values);
}

/** The arguments with the model's folder, if they name one on the Hub; only the files that are needed are fetched. */
async function withFolder(args: TrainArguments, needs: Needs): Promise<TrainArguments> {
  const { model_path, revision } = args;
  return { ...args, model_path: await resolveModel(model_path!, { revision }, needs) };
}

/** The flags by training's names for them. */
function trainFlags(values: Values): Record<string, unknown> {
  return {
    ...flagsGiven(values),
    model_path: modelFolder(values),
    seed: undefined, // here it is the clips' seed
    ...(values["skip-broken"] ? { broken_clips: "skip" } : {}),
    ...(values["no-slicing"] ? { enable_slicing: "false" } : {}),
    ...(values["no-tiling"] ? { enable_tiling: "false" } : {}),
  };
}

/** Writes each clip's latents to its own file. */
async function encodeClips(args: TrainArguments, paths: readonly string[], values: Values): Promise<number> {
  const names = paths.map((path) => `${basename(path, extname(path))}.safetensors`);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new UsageError(`two clips would be written to ${twice}`, { file: values.out });
  if (values.frames !== undefined) {
    if (!fitsFrameRule(values.frames))
      throw new UsageError(`--frames: expected 8 N + 1, such as 49 or 81, found ${values.frames}`);
    if (args.frame_extraction === "chunk")
      throw new UsageError("--frame_extraction chunk is for data sets, found single clips, of one file each");
  }
  const local = await withFolder(args, componentFiles({ vae: pipelineFiles().vae }));
  await startEngine();
  const vae = await openVae(local);
  try {
    await mkdir(values.out, { recursive: true });
    for (const [i, path] of paths.entries()) {
      const clip = await readFrames(path, args, values.frames);
      const latents = await encodeVideo(vae, clip, new RandomGenerator(values.seed ?? 0));
      const file = join(values.out, names[i]!);
      const { numFrames, height, width } = clip;
      await saveFile({ latents }, file, { source: path, frames: String(numFrames), fps: String(clip.fps) });
      console.log(
        `${path}: ${bucketName({ numFrames, height, width })} -> ${file} [${latents.shape.join(", ")}]`,
      );
      latents.dispose();
    }
  } finally {
    vae.dispose();
  }
  return 0;
}

/** The frames of a clip that are encoded. Whether their number will do is known before one is decoded. */
async function readFrames(
  path: string,
  { fps, frame_extraction }: TrainArguments,
  frames: number | undefined,
): Promise<Clip> {
  const clip = await readClip(path, {
    ...(fps === undefined ? {} : { fps }),
    select: (all, rate) => {
      const base = fps === undefined ? selectFrames(all, all) : resampleFrames(all, rate, fps);
      const taken = frames ?? base.length;
      const most = Math.floor((base.length - 1) / 8) * 8 + 1;
      const hint = `--frames ${most} takes ${most} of them`;
      if (taken > base.length)
        throw new ClipError(`expected at least ${taken} frames, found ${base.length}`, { file: path, hint });
      if (!fitsFrameRule(taken))
        throw new ClipError(`expected 8 N + 1 frames, found ${taken}`, { file: path, hint });
      return extractFrames(base.length, taken, frame_extraction).map((i) => base[i]!);
    },
  });
  return fps === undefined ? clip : new Clip({ ...clip, fps });
}

/** Encodes a data set's clips and prompts into a latent cache. */
async function encodeDataset(args: TrainArguments, values: Values): Promise<number> {
  const shard = parseShard(values.shard);
  const sizes = args.video_resolution_buckets ?? [args.train_resolution].filter((size) => size !== undefined);
  if (sizes.length === 0) {
    throw new UsageError("--train_resolution FRAMESxHEIGHTxWIDTH is missing, such as 81x768x1360");
  }
  if (values.seed !== undefined) {
    warn(
      "--seed is for single clips: a data set's latents do not depend on it, so that every training finds them",
    );
  }
  let failed = 0;
  const skipped = (problem: string) => {
    failed++;
    console.log(`skipped ${problem}`);
  };
  const buckets = sizes.map((text) => parseBucket(text));
  const assigned = await readEntries(args, buckets, { shard, skipped });
  const { vae: vaeFiles, tokenizer, text_encoder } = pipelineFiles();
  // Only the transformer's sizes are needed here.
  const needs: Record<string, Needs> = { vae: vaeFiles, tokenizer, text_encoder };
  if (args.transformer_config === undefined) needs.transformer = namedFiles(MODEL_CONFIG);
  const local = await withFolder(args, componentFiles(needs));
  const config = await readTransformerConfig(local);
  const captions = assigned.map(({ entry }) => entry.prompt);
  const cut = await describeTruncation(local.model_path!, captions, config.max_text_seq_length);
  if (cut !== undefined) console.log(cut);
  await startEngine();
  const vae = await openVae(local);
  try {
    const { cache, promptEncoder } = await openCache(local, vae, config);
    try {
      const report = ({ number, total, outcome, text }: ClipReport) => {
        if (outcome === "skipped") failed++;
        console.log(`${String(number).padStart(String(total).length)}/${total} ${outcome}  ${text}`);
      };
      const { entries } = await fillCache(cache, assigned, {
        brokenClips: args.broken_clips,
        verify: true,
        report,
      });
      console.log(`${entries.length} of ${entries.length + failed} clips are in the cache`);
    } finally {
      await promptEncoder.dispose();
    }
  } finally {
    vae.dispose();
  }
  return failed > 0 ? 1 : 0;
}

/** "2/8": the second of eight parts of the data set. */
function parseShard(text: string): { index: number; count: number } {
  const parts = /^(\d+)\/(\d+)$/.exec(text);
  const [part, count] = [Number(parts?.[1]), Number(parts?.[2])];
  if (!parts || part < 1 || part > count) {
    throw new UsageError(`--shard: expected I/N with I from 1 to N, such as 2/8, found ${text}`);
  }
  return { index: part - 1, count };
}
