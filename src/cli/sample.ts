import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { SingleBar } from "cli-progress";
import { CogVideoXDDIMScheduler } from "../diffusion/ddim.js";
import { CogVideoXDPMScheduler } from "../diffusion/dpm.js";
import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import { estimateSamplingMemory } from "../diffusion/memory.js";
import {
  type CogVideoXPipelineBase,
  embedTexts,
  type GenerateOptions,
  pipelineFiles,
  pipelineIndexFiles,
} from "../diffusion/pipeline.js";
import { CogVideoXPipeline } from "../diffusion/text-to-video.js";
import { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import { T5EncoderModel } from "../models/text/t5-encoder.js";
import { T5Tokenizer } from "../models/text/tokenizer.js";
import {
  CogVideoXTransformer3DModel,
  type CogVideoXTransformer3DModelConfig,
} from "../models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../models/vae/autoencoder.js";
import type { OffloadMode } from "../nn/module.js";
import { assertFrameRule } from "../recipe/geometry.js";
import type { ImagePlace, Padding } from "../recipe/rules.js";
import { CACHE_PARTS, PromptCache } from "../train/latent-cache.js";
import { formatBytes } from "../train/plan.js";
import {
  describeTruncation,
  type HeldText,
  readTextEncoder,
  T5PromptEncoder,
} from "../train/prompt-encoder.js";
import type { Clip, Size } from "../video/clip.js";
import { readClip } from "../video/read.js";
import { writeClip } from "../video/write.js";
import { CheckpointError } from "../weights/checkpoint.js";
import { MODEL_CONFIG, readJsonObject, readModelIndex } from "../weights/config.js";
import type { ModelDtype, Quantization } from "../weights/dtype.js";
import { namedFiles, resolveModel, resolvePipeline } from "../weights/hub.js";
import { type LoadLoraOptions, openLora } from "../weights/lora-files.js";
import { type SafetensorsFile, safeOpen } from "../weights/safetensors.js";
import { type Arguments, parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { CommandFailure, UsageError } from "./errors.js";
import { modelFolder, startEngine } from "./models.js";
import { duration } from "./progress.js";
import { checkOutput, videoSize } from "./sample-checks.js";

const [, , CONTENT] = CACHE_PARTS;

type Values = Arguments<typeof commands.sample>["values"];

/** `firstframe sample`: see the table of commands for what it does. */
export async function sampleCommand(argv: string[]): Promise<number> {
  const { values } = parseCommand("sample", commands.sample, argv);
  const { model, image: imagePath } = await checkValues(values);
  await describeLoras(values);
  if (!values["dry-run"]) await startEngine(values.dtype as ModelDtype);

  const image = imagePath === undefined ? null : await readClip(imagePath, { select: () => [0] });
  const size = await decideSize(model, image, values);
  if (values["dry-run"]) {
    console.log(await describeMemory(model, size, values));
    return 0;
  }
  const embeds = await promptTensors(model, values);
  let pipe: Pipeline | undefined;
  try {
    pipe = await loadPipeline(model, values);
    const started = performance.now();
    const options = { ...pipelineOptions(pipe, size, values), ...embeds };
    const sampling = pipe;
    const frames = await withProgress(pipe, (callbackOnStepEnd) =>
      generate(sampling, image, values.image_place as ImagePlace, { ...options, callbackOnStepEnd }),
    );
    await writeClip(values.out, frames[0]!).catch((error: Error) => {
      throw new CommandFailure(error.message, { file: values.out });
    });
    const { numFrames, width, height } = frames[0]!;
    const seconds = (performance.now() - started) / 1000;
    console.log(`${values.out}: ${numFrames} frames ${width}x${height} in ${duration(seconds)}`);
  } finally {
    tf.dispose(Object.values(embeds));
    pipe?.dispose();
  }
  return 0;
}

/** Finds what can be found wrong without loading a model. */
async function checkValues(values: Values): Promise<{ model: string; image: string | undefined }> {
  const { image, out, prompt } = values;
  const model = modelFolder(values);
  if (model === undefined)
    throw new UsageError(
      "--model MODEL is missing: a folder with model_index.json, or an id on the Hugging Face Hub",
    );
  const index = await readModelIndex(
    await resolveModel(model, { revision: values.revision }, pipelineIndexFiles),
  );
  const fromImage = index.className === "CogVideoXImageToVideoPipeline";
  if (!fromImage && index.className !== "CogVideoXPipeline") {
    throw new UsageError(
      `${model}: expected CogVideoXImageToVideoPipeline or CogVideoXPipeline, found ${index.className}`,
    );
  }
  if (fromImage && image === undefined)
    throw new UsageError("--image FILE is missing: this model starts from an image");
  if (!fromImage && image !== undefined)
    throw new UsageError("--image: this model makes videos from text alone");
  if ((prompt === undefined) === (values["prompt-embeds"] === undefined)) {
    const found = prompt === undefined ? "neither" : "both";
    throw new UsageError(`expected one of --prompt TEXT and --prompt-embeds FILE, found ${found}`);
  }
  offloadOf(values);
  const replaced = await checkOutput(out);
  if (replaced !== undefined) console.error(replaced);
  if (values["num-frames"] !== undefined) assertFrameRule(values["num-frames"]!);
  return { model, image };
}

const locationOf = ({ variant, revision, dtype }: Values) => ({
  variant,
  revision,
  dtype: dtype as ModelDtype,
});

/** @throws UsageError if both ways are asked for. */
function offloadOf(values: Values): OffloadMode | undefined {
  const [model, sequential] = [values["enable-model-cpu-offload"], values["enable-sequential-cpu-offload"]];
  if (model && sequential)
    throw new UsageError(
      "--enable-model-cpu-offload, --enable-sequential-cpu-offload: expected one of the two, found both",
    );
  return model ? "model" : sequential ? "sequential" : undefined;
}

/** How weights are held in memory. */
const heldAs = (values: Values) => ({
  quantization: values.quantization as Quantization | undefined,
  offload: offloadOf(values),
});

/** Everything but what makes embeddings of prompts: {@link promptTensors}. */
async function loadPipeline(model: string, values: Values): Promise<Pipeline> {
  const location = { ...locationOf(values), ...heldAs(values), tokenizer: null, textEncoder: null };
  const pipe =
    values.image === undefined
      ? await CogVideoXPipeline.fromPretrained(model, location)
      : await CogVideoXImageToVideoPipeline.fromPretrained(model, location);
  try {
    if (values.scheduler !== undefined) {
      const Scheduler = values.scheduler === "dpm" ? CogVideoXDPMScheduler : CogVideoXDDIMScheduler;
      pipe.scheduler = Scheduler.fromConfig(pipe.scheduler.config, { timestep_spacing: "trailing" });
    }
    if (values.tiling) pipe.vae.enableTiling();
    // Not fused into the weights: these would be rounded once more, and validation's clips come from the sum.
    const loras = lorasOf(values);
    for (const { path, name, options } of loras)
      await pipe.loadLoraWeights(path, { ...options, adapterName: name });
    if (loras.length > 0)
      pipe.setAdapters(
        loras.map(({ name }) => name),
        loras.map(({ scale }) => scale),
      );
  } catch (error) {
    pipe.dispose();
    throw error;
  }
  return pipe;
}

/** A LoRA as its flags ask for it. */
interface Lora {
  readonly path: string;
  /** The adapter's name. */
  readonly name: string;
  readonly scale: number;
  readonly options: LoadLoraOptions;
}

/** @throws UsageError where there are neither one value for all LoRAs nor one for each. */
function lorasOf(values: Values): Lora[] {
  const paths = values.lora;
  const each = <T>(
    flag: "lora-weight-name" | "lora_alpha" | "lora-scale",
    given: readonly T[],
  ): ((i: number) => T | undefined) => {
    if (given.length > 0 && paths.length === 0) throw new UsageError(`--${flag}: there is no --lora`);
    if (given.length > 1 && given.length !== paths.length)
      throw new UsageError(
        `--${flag}: expected one for all LoRAs or ${paths.length} (one each), found ${given.length}`,
      );
    return (i) => (given.length === 1 ? given[0] : given[i]);
  };
  const weightName = each("lora-weight-name", values["lora-weight-name"]);
  const alpha = each("lora_alpha", values.lora_alpha);
  const scale = each("lora-scale", values["lora-scale"]);
  return paths.map((path, i) => ({
    path,
    name: `default_${i}`,
    scale: scale(i) ?? 1,
    options: { weightName: weightName(i), loraAlpha: alpha(i) },
  }));
}

/** Looks into the LoRAs' files, so that a wrong one is known before the models are read, and says how each is applied. */
async function describeLoras(values: Values): Promise<void> {
  for (const { path, scale, options } of lorasOf(values)) {
    const { path: file, source, layers } = await openLora(path, options);
    await source.close();
    const kinds = [...layers.values()];
    const spread = (numbers: readonly number[]) => [...new Set(numbers)].sort((a, b) => a - b).join(", ");
    const ranks = spread(kinds.map(({ rank }) => rank));
    const says = kinds.every(({ alpha }) => alpha !== undefined);
    const alphas = spread(kinds.map(({ rank, alpha }) => alpha ?? options.loraAlpha ?? rank));
    const assumed =
      says || options.loraAlpha !== undefined
        ? ""
        : " (its file does not say; --lora_alpha, if it was trained with another)";
    console.error(
      `lora: ${file}: ${layers.size} layers, rank ${ranks}, alpha ${alphas}${assumed}, scale ${scale}`,
    );
  }
}

type Pipeline = CogVideoXPipeline | CogVideoXImageToVideoPipeline;
type Options = Omit<GenerateOptions<CogVideoXPipelineBase>, "outputType">;
type PromptTensors = { promptEmbeds?: tf.Tensor3D; negativePromptEmbeds?: tf.Tensor3D };

async function generate(
  pipe: Pipeline,
  image: Clip | null,
  imagePlace: ImagePlace,
  options: Options,
): Promise<Clip[]> {
  const { frames } =
    pipe instanceof CogVideoXImageToVideoPipeline
      ? await pipe.generate({ ...options, image: image!, imagePlace })
      : await pipe.generate(options);
  return frames;
}

/** Decides the video's size from the configurations alone, and says it. */
async function decideSize(model: string, image: Clip | null, values: Values): Promise<Size> {
  const names = { transformer: namedFiles(MODEL_CONFIG), vae: namedFiles(MODEL_CONFIG) };
  const folder = await resolvePipeline(model, { revision: values.revision }, names);
  const config = await CogVideoXTransformer3DModel.loadConfig(join(folder, "transformer"));
  const vae = await AutoencoderKLCogVideoX.loadConfig(join(folder, "vae"));
  await checkText(config, values);
  const ratio = 2 ** (vae.block_out_channels.length - 1);
  const { reason, ...size } = videoSize(values, image, config, ratio);
  const numFrames = values["num-frames"] ?? config.sample_frames;
  const from = image === null ? "" : `, of a picture of height ${image.height}, width ${image.width}`;
  const flags = values.height === undefined || values.width === undefined;
  console.error(
    `size: ${numFrames} frames of height ${size.height}, width ${size.width}: ${reason}${from}${flags ? "; --height and --width ask for another" : ""}`,
  );
  return size;
}

function pipelineOptions({ transformer }: Pipeline, size: Size, values: Values): Options {
  return {
    ...size,
    numFrames: values["num-frames"] ?? transformer.config.sample_frames,
    numInferenceSteps: values.num_inference_steps,
    guidanceScale: values.guidance_scale,
    useDynamicCfg: values["use-dynamic-cfg"],
    padding: values.padding as Padding,
    generator: new RandomGenerator(values.seed),
    ...(values.fps === undefined ? {} : { fps: values.fps }),
  };
}

/** The prompts' embeddings, from a file or from T5, which is as large as the rest and gone before that is read. */
async function promptTensors(model: string, values: Values): Promise<PromptTensors> {
  const { prompt, "prompt-embeds": path } = values;
  const given = path === undefined ? {} : await readPromptEmbeds(path);
  const guided = values.guidance_scale > 1;
  const texts = {
    ...(given.promptEmbeds || prompt === undefined ? {} : { promptEmbeds: prompt }),
    ...(guided && !given.negativePromptEmbeds
      ? { negativePromptEmbeds: values["negative-prompt"] ?? "" }
      : {}),
  };
  if (Object.keys(texts).length === 0) return given;
  try {
    const location = locationOf(values);
    // All of it, so that what is missing is known before T5 has done its work.
    const folder = await resolvePipeline(model, location, pipelineFiles(location));
    const { max_text_seq_length: most } = await CogVideoXTransformer3DModel.loadConfig(
      join(folder, "transformer"),
    );
    const maxLength = given.promptEmbeds?.shape[1] ?? values["max-sequence-length"] ?? most;
    const held = { ...heldAs(values), dtype: values.dtype as ModelDtype, variant: values.variant };
    const entries = Object.entries(texts);
    const embeds =
      values.cache_dir === undefined
        ? await embedInMemory(folder, entries, maxLength, held)
        : await embedFromCache(folder, entries, maxLength, held, values.cache_dir);
    return { ...given, ...embeds };
  } catch (error) {
    tf.dispose(Object.values(given));
    throw error;
  }
}

async function embedInMemory(
  folder: string,
  texts: readonly [name: string, text: string][],
  maxLength: number,
  held: HeldText,
): Promise<PromptTensors> {
  const tokenizer = await T5Tokenizer.fromPretrained(join(folder, "tokenizer"));
  const textEncoder = await readTextEncoder(folder, held);
  try {
    return Object.fromEntries(
      texts.map(([name, text]) => [name, embedTexts(tokenizer, textEncoder, [text], maxLength)]),
    );
  } finally {
    textEncoder.dispose();
  }
}

/** The same from a training's cache; T5 is read only for what is not in it. */
async function embedFromCache(
  folder: string,
  texts: readonly [name: string, text: string][],
  maxLength: number,
  held: HeldText,
  cacheDir: string,
): Promise<PromptTensors> {
  await mkdir(cacheDir, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`--cache_dir: expected a folder to write to, found ${cacheDir} (${error.code})`);
  });
  const cut = await describeTruncation(
    folder,
    texts.map(([, text]) => text),
    maxLength,
  );
  if (cut !== undefined) console.error(cut);
  const promptEncoder = await T5PromptEncoder.open(folder, maxLength, join(cacheDir, CONTENT), held);
  const cache = new PromptCache({ cacheDir, promptEncoder });
  const embeds: Record<string, tf.Tensor3D> = {};
  try {
    for (const [name, text] of texts) {
      console.error(`prompt: ${(await cache.has(text)) ? "from" : "into"} ${cache.path(text)}`);
      const embedding = await cache.embed(text);
      embeds[name] = tf.expandDims(embedding, 0);
      embedding.dispose();
    }
    return embeds;
  } catch (error) {
    tf.dispose(embeds);
    throw error;
  } finally {
    await promptEncoder.dispose();
  }
}

/** The memory that the run is going to take, from the configurations alone. */
async function describeMemory(model: string, size: Size, values: Values): Promise<string> {
  const needsText = values.prompt !== undefined || values.guidance_scale > 1;
  const names = {
    transformer: namedFiles(MODEL_CONFIG),
    vae: namedFiles(MODEL_CONFIG),
    ...(needsText ? { text_encoder: namedFiles(MODEL_CONFIG) } : {}),
  };
  const folder = await resolvePipeline(model, { revision: values.revision }, names);
  const part = (name: string) => join(folder, name);
  const transformer = CogVideoXTransformer3DModel.fromConfig(
    await CogVideoXTransformer3DModel.loadConfig(part("transformer")),
  );
  const vae = AutoencoderKLCogVideoX.fromConfig(await AutoencoderKLCogVideoX.loadConfig(part("vae")));
  if (values.tiling) vae.enableTiling();
  const memory = estimateSamplingMemory({
    textEncoder: needsText
      ? T5EncoderModel.fromConfig(await readJsonObject(join(part("text_encoder"), MODEL_CONFIG)))
      : null,
    vae,
    transformer,
    dtype: values.dtype as ModelDtype,
    ...heldAs(values),
    promptsFirst: true,
    numFrames: values["num-frames"] ?? transformer.config.sample_frames,
    ...size,
    guidance: values.guidance_scale > 1,
  });
  const parts = (["textEncoder", "vae", "transformer", "denoising", "decoding", "engine"] as const)
    .filter((name) => memory[name] > 0)
    .map((name) => `${name} ${formatBytes(memory[name])}`);
  return `memory: about ${formatBytes(memory.total)} at its peak; by itself: ${parts.join(", ")}`;
}

/** What a file of embeddings calls the prompt's: diffusers' argument, and the latent cache, as of CogVideo's trainers. */
const PROMPT_KEYS = ["prompt_embeds", "prompt_embedding"] as const;
const NEGATIVE_KEY = "negative_prompt_embeds";

/** The shape of a file's embeddings, without a batch axis: [tokens, features]. */
async function promptEmbedsShape(path: string): Promise<readonly [tokens: number, features: number]> {
  const file = await safeOpen(path);
  try {
    const shape = file.info(promptKey(file)).shape;
    const plain = shape.length === 3 && shape[0] === 1 ? shape.slice(1) : shape;
    if (plain.length !== 2)
      throw new CheckpointError(
        `${promptKey(file)}: expected shape [1, tokens, features] or [tokens, features], found [${shape}]`,
        { file: path },
      );
    return [plain[0]!, plain[1]!];
  } finally {
    await file.close();
  }
}

function promptKey(file: SafetensorsFile): string {
  const key = PROMPT_KEYS.find((name) => file.has(name));
  if (key === undefined)
    throw new CheckpointError(
      `expected ${PROMPT_KEYS.join(" or ")}, found ${file.keys().join(", ") || "nothing"}`,
      {
        file: file.path,
      },
    );
  return key;
}

async function readPromptEmbeds(path: string): Promise<PromptTensors> {
  const file = await safeOpen(path);
  const read = async (key: string) => {
    const tensor = await file.getTensor(key);
    if (tensor.rank === 3) return tensor as tf.Tensor3D;
    const batch = tf.expandDims(tensor, 0) as tf.Tensor3D;
    tensor.dispose();
    return batch;
  };
  try {
    const promptEmbeds = await read(promptKey(file));
    return file.has(NEGATIVE_KEY)
      ? { promptEmbeds, negativePromptEmbeds: await read(NEGATIVE_KEY) }
      : { promptEmbeds };
  } finally {
    await file.close();
  }
}

/** @throws UsageError or CheckpointError where the text's tokens or features are not the model's. */
async function checkText(config: CogVideoXTransformer3DModelConfig, values: Values): Promise<void> {
  const { "prompt-embeds": path, "max-sequence-length": asked } = values;
  const { max_text_seq_length: most, text_embed_dim: width } = config;
  // Positions that are added to the tokens are counted from the text's.
  const counted = config.use_learned_positional_embeddings || !config.use_rotary_positional_embeddings;
  if (counted && asked !== undefined && asked !== most)
    throw new UsageError(
      `--max-sequence-length: this model's positions are for ${most} tokens, found ${asked}`,
    );
  if (path === undefined) return;
  const [tokens, features] = await promptEmbedsShape(path);
  if (features !== width)
    throw new CheckpointError(`expected ${width} features (the model's text_embed_dim), found ${features}`, {
      file: path,
    });
  if (counted && tokens !== most)
    throw new CheckpointError(
      `expected ${most} tokens, which the model's positions are for, found ${tokens}`,
      {
        file: path,
      },
    );
}

/** A bar that shows the steps on a terminal; nothing elsewhere. */
async function withProgress<T>(pipe: Pipeline, run: (callback: () => void) => Promise<T>): Promise<T> {
  const bar = new SingleBar({
    format: "sampling {bar} step {value}/{total}, {eta_formatted} left",
    noTTYOutput: false,
  });
  let started = false;
  try {
    return await run(() => {
      if (!started) bar.start(pipe.numTimesteps, 0);
      started = true;
      bar.increment();
    });
  } finally {
    bar.stop();
  }
}
