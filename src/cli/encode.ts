import { mkdir } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { pipelineFiles } from "../diffusion/pipeline.js";
import { Generator } from "../engine/random.js";
import { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import { assertFrameRule } from "../recipe/geometry.js";
import { encodeVideo } from "../train/data.js";
import { assignBuckets, bucketName, parseBucket, readDataset } from "../train/dataset.js";
import { LatentCache } from "../train/latent-cache.js";
import { T5PromptEncoder } from "../train/prompt-encoder.js";
import { readClip } from "../video/read.js";
import { MODEL_CONFIG, readJsonObject } from "../weights/config.js";
import { componentFiles, type Needs, namedFiles, resolveModel } from "../weights/hub.js";
import { saveFile } from "../weights/safetensors.js";
import { type Arguments, parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { UsageError } from "./errors.js";
import { checkingInput, startEngine } from "./models.js";

type Values = Arguments<typeof commands.encode>["values"];

/** `firstframe encode`: see the table of commands for what it does. */
export async function encodeCommand(argv: string[]): Promise<number> {
  const { values, positionals } = parseCommand("encode", commands.encode, argv);
  const { model } = values;
  if (model === undefined)
    throw new UsageError(
      "--model MODEL is missing: a pipeline's folder, with vae/ in it, or an id on the Hugging Face Hub",
    );
  if (positionals.length > 0 === (values["data-root"] !== undefined)) {
    const found = positionals.length > 0 ? "both" : "neither";
    throw new UsageError(`expected CLIP... or --data-root DIR, found ${found}`);
  }
  return positionals.length > 0
    ? encodeClips(model, positionals, values)
    : encodeDataset(model, values["data-root"]!, values);
}

/** The model's folder, with what is needed of it. */
function findModel(model: string, values: Values, needs: Needs): Promise<string> {
  return checkingInput(() => resolveModel(model, { revision: values.revision }, needs));
}

async function loadVae(model: string, values: Values): Promise<AutoencoderKLCogVideoX> {
  const vae = await checkingInput(() => AutoencoderKLCogVideoX.fromPretrained(join(model, "vae")));
  if (!values["no-slicing"]) vae.enableSlicing();
  if (!values["no-tiling"]) vae.enableTiling();
  return vae;
}

/** Each clip's latents into a file of its own. */
async function encodeClips(model: string, paths: readonly string[], values: Values): Promise<number> {
  const names = paths.map((path) => `${basename(path, extname(path))}.safetensors`);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new UsageError(`${values.out}: two clips would be written to ${twice}`);
  const folder = await findModel(model, values, componentFiles({ vae: pipelineFiles().vae }));
  await checkingInput(startEngine);
  const vae = await loadVae(folder, values);
  try {
    await mkdir(values.out, { recursive: true });
    for (const [i, path] of paths.entries()) {
      const clip = await checkingInput(async () => {
        const clip = await readClip(path);
        assertFrameRule(clip.numFrames);
        return clip;
      });
      const latents = await checkingInput(() => encodeVideo(vae, clip, new Generator(values.seed)));
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

/** A data set's clips and prompts into a latent cache. */
async function encodeDataset(model: string, dataRoot: string, values: Values): Promise<number> {
  const shard = parseShard(values.shard);
  if (values["train-resolution"].length === 0) {
    throw new UsageError("--train-resolution FRAMESxHEIGHTxWIDTH is missing, such as 81x768x1360");
  }
  const { buckets, entries } = await checkingInput(async () => ({
    buckets: values["train-resolution"].map((text) => parseBucket(text)),
    entries: await readDataset({
      dataRoot,
      captionColumn: values["caption-column"],
      videoColumn: values["video-column"],
      imageColumn: values["image-column"],
    }),
  }));
  const { vae: vaeFiles, tokenizer, text_encoder } = pipelineFiles();
  // Of the transformer only its sizes are of use here.
  const needs = { vae: vaeFiles, tokenizer, text_encoder, transformer: namedFiles(MODEL_CONFIG) };
  const folder = await findModel(model, values, componentFiles(needs));
  await checkingInput(startEngine);
  const vae = await loadVae(folder, values);
  const cacheDir = values["cache-dir"] ?? join(dataRoot, "cache");
  let promptEncoder: T5PromptEncoder | undefined;
  let failed = 0;
  try {
    const config = await checkingInput(() => readJsonObject(join(folder, "transformer", MODEL_CONFIG)));
    const maxLength = Number(config.max_text_seq_length ?? 226);
    promptEncoder = await checkingInput(() =>
      T5PromptEncoder.open(folder, maxLength, join(cacheDir, "content")),
    );
    const cache = await LatentCache.open({
      cacheDir,
      modelName: values["model-name"] ?? (config.patch_size_t == null ? "cogvideox-i2v" : "cogvideox1.5-i2v"),
      vae,
      promptEncoder,
      seed: values.seed,
      fit: values.fit as "resize" | "crop",
      shortClips: values["short-clips"] as "repeat" | "refuse",
    });
    const own = entries.filter((_, i) => i % shard.count === shard.index);
    const assigned = await assignBuckets(own, buckets);
    for (const [i, entry] of own.entries()) {
      const place = assigned[i]!;
      const head = `${String(i + 1).padStart(String(own.length).length)}/${own.length}`;
      try {
        if ("problem" in place) throw new UsageError(place.problem);
        const { encoded, report } = await checkingInput(() =>
          cache.ensure(entry, place.bucket, { verify: true }),
        );
        console.log(`${head} ${encoded ? "encoded" : "was there"}  ${report}`);
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        if (!values["skip-broken"]) throw error;
        failed++;
        console.log(`${head} skipped  ${error.message}`);
      }
    }
    console.log(`${own.length - failed} of ${own.length} clips are in the cache`);
  } finally {
    await promptEncoder?.dispose();
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
