/**
 * Trains and measures arms one after another. Everything is kept in a folder on the way: a run that is cut off goes on from the
 * newest checkpoint, or from the last part that was measured, and ends with the same numbers.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { CogVideoXDDIMScheduler } from "../../../src/diffusion/ddim.js";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { writeFileAtomic } from "../../../src/files/atomic.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { DrawnClips } from "../../../src/procedural/drawn-clips.js";
import { makeSmallPipeline } from "../../../src/procedural/pipeline.js";
import { videoTokens } from "../../../src/recipe/geometry.js";
import { fingerprintContent } from "../../../src/train/fingerprint.js";
import { T5PromptEncoder } from "../../../src/train/prompt-encoder.js";
import { JsonlTracker } from "../../../src/train/trackers.js";
import { Trainer } from "../../../src/train/trainer.js";
import { Clip } from "../../../src/video/clip.js";
import { writeClip } from "../../../src/video/write.js";
import {
  ARMS,
  type Arm,
  type ArmName,
  CORRUPTION_NAMES,
  type Corruption,
  experimentsOf,
  MEASURES,
  ROLLS,
} from "./arms.js";
import type { Values } from "./bootstrap.js";
import { type ClipSettings, corrupt, type HeldOutClip, heldOutClip, laterRolls } from "./held-out.js";
import {
  type AttentionFound,
  attention,
  measures,
  type Request,
  type Sample,
  type Sampler,
  sample,
} from "./measure.js";

/** Everything that figures depend on; results of other settings are not mixed with these. */
export interface Settings {
  readonly clips: ClipSettings;
  /** Different clips that trainings draw from. */
  readonly trainingClips: number;
  readonly heldOut: number;
  readonly samplingSteps: number;
  readonly maxTextLength: number;
  readonly textLayers: number;
  readonly textSteps: number;
  readonly layers: number;
  readonly heads: number;
  /** Optimizer steps of the arms with the recipe's patches; others take as many as cost the same operations. */
  readonly steps: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly warmupSteps: number;
  readonly emaDecay: number;
  readonly lastTimestepMultiplier: number;
  readonly checkpointingSteps: number;
  /** Of the VAE's files. */
  readonly vae: string;
}

/** The smallest setting in which a sprite moves as it is told after minutes on two cores. */
export const SETTINGS: Omit<Settings, "vae"> = {
  clips: { world: "plain", numFrames: 9, height: 48, width: 48, fps: 8 },
  trainingClips: 1600,
  heldOut: 200,
  samplingSteps: 4,
  maxTextLength: 20,
  textLayers: 3,
  textSteps: 300,
  layers: 4,
  heads: 4,
  steps: 450,
  batchSize: 16,
  learningRate: 5e-3,
  warmupSteps: 40,
  emaDecay: 0.98,
  lastTimestepMultiplier: 1000, // half of the timesteps are the last one
  checkpointingSteps: 50,
};

/** What became of an arm with a seed. */
export interface RunResult {
  readonly arm: ArmName;
  readonly seed: number;
  readonly steps: number;
  /** Of the trained numbers. */
  readonly parameters: number;
  /** A value for each held-out clip, by measure; rounded. */
  readonly values: Readonly<Record<string, Values>>;
  /** Mean training loss of each {@link LOSS_WINDOW} steps. */
  readonly losses: readonly number[];
  readonly attention: AttentionFound;
  readonly trainingSeconds: number;
}

export interface RunnerOptions {
  /** Where everything is kept. */
  readonly work: string;
  /** The folder of the small VAE. */
  readonly vae: string;
  readonly settings: Omit<Settings, "vae">;
  readonly log: (line: string) => void;
}

/** Steps that a kept loss is the mean of. */
export const LOSS_WINDOW = 10;
/** Clips sampled at once, and measured before the next are. */
const BATCH = 20;
/** Held-out clips that attention is the mean of. */
const ATTENTION_CLIPS = 16;
/** The held-out clip that the strip of rolls shows. */
const SHOWN = 0;
/** Seeds of the noise of later rolls begin here. */
const ROLL_NOISE = 100_000;

/** What all runs share. */
export class Runner {
  readonly settings: Settings;
  readonly #work: string;
  readonly #pipeline: CogVideoXImageToVideoPipeline;
  readonly #scheduler: CogVideoXDDIMScheduler;
  readonly #data: DrawnClips;
  readonly #promptEncoder: T5PromptEncoder;
  readonly #log: (line: string) => void;
  readonly #heldOut = new Map<number, HeldOutClip>();

  private constructor(
    settings: Settings,
    { work, log }: RunnerOptions,
    pipeline: CogVideoXImageToVideoPipeline,
    scheduler: CogVideoXDDIMScheduler,
    promptEncoder: T5PromptEncoder,
  ) {
    this.settings = settings;
    this.#work = work;
    this.#log = log;
    this.#pipeline = pipeline;
    this.#scheduler = scheduler;
    this.#promptEncoder = promptEncoder;
    this.#data = new DrawnClips({
      count: settings.trainingClips,
      clip: (seed) => proceduralClip({ ...settings.clips, seed }),
      vae: pipeline.vae,
      promptEncoder,
      cacheDir: join(work, "clips"),
    });
  }

  /**
   * Makes what all runs share: a pipeline with a trained text encoder, and the clips.
   *
   * @throws Error if the folder holds results of other settings.
   */
  static async open(options: RunnerOptions): Promise<Runner> {
    const { work, vae, log } = options;
    await mkdir(work, { recursive: true });
    const settings: Settings = { ...options.settings, vae: await fingerprintContent(vae, work) };
    const model = join(work, "model");
    const file = join(work, "settings.json");
    const text = `${JSON.stringify(settings, null, 1)}\n`;
    const before = await readFile(file, "utf8").catch(() => undefined);
    if (before !== undefined && before !== text) {
      throw new Error(`${file}: results of other settings are here; take another folder, or remove this one`);
    }
    if (before === undefined) {
      await rm(model, { recursive: true, force: true });
      await makeSmallPipeline({
        ...{ out: model, vae, seed: 0, worlds: [settings.clips.world], patchSize: 1, log },
        textLayers: settings.textLayers,
        textSteps: settings.textSteps,
        layers: settings.layers,
        heads: settings.heads,
      });
      await writeFileAtomic(file, text);
    }
    const pipeline = await CogVideoXImageToVideoPipeline.fromPretrained(model);
    const scheduler = await CogVideoXDDIMScheduler.fromPretrained(join(model, "scheduler"));
    const promptEncoder = await T5PromptEncoder.open(model, settings.maxTextLength, work);
    return new Runner(settings, options, pipeline, scheduler, promptEncoder);
  }

  async dispose(): Promise<void> {
    this.#pipeline.dispose();
    await this.#promptEncoder.dispose();
  }

  /** An arm's result if it is there already. */
  async result(arm: ArmName, seed: number): Promise<RunResult | undefined> {
    const text = await readFile(join(this.#folder(arm, seed), "result.json"), "utf8").catch(() => undefined);
    return text === undefined ? undefined : (JSON.parse(text) as RunResult);
  }

  /** How many steps an arm takes: as many as cost what the recipe's steps cost. */
  stepsOf(arm: ArmName): number {
    const tokens = (patchSizeT: number) =>
      this.settings.maxTextLength +
      videoTokens(
        this.settings.clips,
        { spatialRatio: 8, temporalRatio: 4 },
        { patch_size: 1, patch_size_t: patchSizeT },
      );
    const { patchSizeT = 2 }: Arm = ARMS[arm];
    return Math.round((this.settings.steps * tokens(2)) / tokens(patchSizeT));
  }

  /** Trains and measures an arm, from where it stands. */
  async run(arm: ArmName, seed: number): Promise<RunResult> {
    const done = await this.result(arm, seed);
    if (done !== undefined) return done;
    const folder = this.#folder(arm, seed);
    await mkdir(folder, { recursive: true });
    const { patchSizeT = 2, rules }: Arm = ARMS[arm];
    const { config, vae } = { config: this.#pipeline.transformer.config, vae: this.#pipeline.vae };
    const { settings } = this;
    const transformer = CogVideoXTransformer3DModel.fromConfig(
      { ...config, patch_size_t: patchSizeT, max_text_seq_length: settings.maxTextLength },
      new RandomGenerator(seed),
    );
    const steps = this.stepsOf(arm);
    const trainer = await Trainer.create({ vae, transformer, scheduler: this.#scheduler }, this.#data, {
      ...rules,
      trainingType: "sft",
      outputDir: folder,
      resumeFromCheckpoint: "latest",
      checkpointingSteps: steps, // the others are saved in #train
      checkpointingLimit: 1,
      seed,
      trainSteps: steps,
      batchSize: settings.batchSize,
      optimizer: "muon",
      learningRate: settings.learningRate,
      beta2: 0.99,
      lrScheduler: "cosine",
      lrWarmupSteps: settings.warmupSteps,
      gradientCheckpointing: false,
      timestepBiasStrategy: "later",
      timestepBiasPortion: 0.001,
      timestepBiasMultiplier: settings.lastTimestepMultiplier,
      useEma: true,
      emaDecay: settings.emaDecay,
      log: this.#log,
    });
    try {
      await this.#train(trainer, folder, `${arm}, seed ${seed}`);
      const log = await readLog(join(folder, "log.jsonl"));
      const { imagePlace = "first", padding = "copy_first" } = trainer.options;
      const { tokenizer, textEncoder, scheduler } = this.#pipeline;
      const sampler: Sampler = {
        pipeline: new CogVideoXImageToVideoPipeline({ tokenizer, textEncoder, vae, transformer, scheduler }),
        steps: settings.samplingSteps,
        maxTextLength: settings.maxTextLength,
        ...{ imagePlace, padding },
      };
      const measured = await trainer.withEma(() => this.#measure(sampler, arm, seed, folder));
      const result: RunResult = {
        ...{ arm, seed, steps, parameters: trainer.numTrainableParameters, ...measured },
        losses: windows(
          log.map(({ loss }) => loss),
          steps,
        ),
        trainingSeconds: Math.round(log.reduce((sum, { step_seconds: seconds }) => sum + seconds, 0)),
      };
      await writeFileAtomic(join(folder, "result.json"), `${JSON.stringify(result)}\n`);
      for (const name of await readdir(folder)) {
        if (name.startsWith("checkpoint-")) await rm(join(folder, name), { recursive: true });
      }
      return result;
    } finally {
      trainer.dispose();
      transformer.dispose();
    }
  }

  async #train(trainer: Trainer, folder: string, name: string): Promise<void> {
    const tracker = new JsonlTracker(join(folder, "log.jsonl"));
    await tracker.start({}, trainer.step);
    const recent: number[] = [];
    for await (const { step, loss, seconds } of trainer.steps()) {
      // Logged before it is saved: a checkpoint then never misses a loss from before it.
      await tracker.log({ loss, step_seconds: seconds }, step);
      recent.push(loss);
      if (step % this.settings.checkpointingSteps !== 0) continue;
      await trainer.save();
      const mean = recent.reduce((sum, value) => sum + value, 0) / recent.length;
      recent.length = 0;
      this.#log(`${name}: step ${step}, loss ${mean.toFixed(4)}, ${seconds.toFixed(2)} s a step`);
    }
  }

  async #measure(
    sampler: Sampler,
    arm: ArmName,
    seed: number,
    folder: string,
  ): Promise<Pick<RunResult, "values" | "attention">> {
    const parts: [string, () => Promise<Record<string, Values>>][] = [
      ["clean", () => this.#clean(sampler)],
      ["reversed", () => this.#reversed(sampler)],
    ];
    if (experimentsOf(arm).includes("E1")) {
      parts.push(["rolls", () => this.#rolls(sampler, this.stripOf(arm, seed))]);
      for (const how of CORRUPTION_NAMES) parts.push([how, () => this.#corrupted(sampler, how)]);
    }
    let values: Record<string, Values> = {};
    for (const [name, measure] of parts) {
      const file = join(folder, `measured-${name}.json`);
      if (!existsSync(file)) {
        const found = await measure();
        await writeFileAtomic(file, `${JSON.stringify(found)}\n`);
      }
      values = { ...values, ...(JSON.parse(await readFile(file, "utf8")) as Record<string, Values>) };
      const mean = (of: string) => summary(values[of]);
      if (name === "reversed") {
        this.#log(
          `${arm}, seed ${seed}: right way ${mean("direction")}, reversed ${mean("reversed")}, left ${mean("left")}, ` +
            `${mean("psnr")} dB, frame 0 ${mean("first")} dB, moved ${mean("moved")}`,
        );
      }
    }
    const clips = Array.from({ length: Math.min(ATTENTION_CLIPS, this.settings.heldOut) }, (_, i) =>
      this.#clip(i),
    );
    const { shares, map } = await attention(sampler, clips);
    const digits = (row: readonly number[]) => row.map((value) => rounded(value, 4));
    const found = { shares: shares.map((layer) => layer.map(digits)), map: map.map(digits) };
    return { values, attention: found };
  }

  #clean(sampler: Sampler): Promise<Record<string, Values>> {
    return this.#each(
      sampler,
      (clip) => ({ image: clip.image, prompt: clip.caption, noise: clip.index }),
      ({ clip, apart }, { truth }) => ({ ...measures(clip, truth), copy: apart }),
    );
  }

  #reversed(sampler: Sampler): Promise<Record<string, Values>> {
    return this.#each(
      sampler,
      (clip) => ({ image: clip.image, prompt: clip.reversedCaption, noise: clip.index }),
      ({ clip }, { reversedTruth }) => ({ reversed: measures(clip, reversedTruth).direction! }),
    );
  }

  #corrupted(sampler: Sampler, how: Corruption): Promise<Record<string, Values>> {
    return this.#each(
      sampler,
      async (clip) => ({ image: await corrupt(clip, how), prompt: clip.caption, noise: clip.index }),
      ({ clip }, { truth }) => {
        const { psnr, direction } = measures(clip, truth);
        return { [`psnr/${how}`]: psnr!, [`direction/${how}`]: direction! };
      },
    );
  }

  /** Each last frame back in as the image. */
  async #rolls(sampler: Sampler, strip: string): Promise<Record<string, Values>> {
    const values: Record<string, (number | null)[]> = {};
    for (const batch of this.#batches()) {
      const rolls = batch.map(laterRolls);
      const requests = batch.map(({ image, caption, index }) => ({ image, prompt: caption, noise: index }));
      let samples = await sample(sampler, requests, batch[0]!.truth.clip);
      const shown = batch.findIndex(({ index }) => index === SHOWN);
      const film = shown < 0 ? [] : samples[shown]!.clip.frames();
      for (let roll = 2; roll <= ROLLS; roll++) {
        const next = batch.map(({ index }, i): Request => {
          const { clip } = samples[i]!;
          const prompt = rolls[i]![roll - 2]!.caption;
          return { image: clip.slice(clip.numFrames - 1), prompt, noise: ROLL_NOISE * (roll - 1) + index };
        });
        samples = await sample(sampler, next, batch[0]!.truth.clip);
        if (shown >= 0) film.push(...samples[shown]!.clip.frames().slice(1));
        for (const [i, { clip }] of samples.entries()) {
          const { left, psnr } = measures(clip, rolls[i]![roll - 2]!.truth);
          add(values, { [`left/${roll}`]: left!, [`psnr/${roll}`]: psnr! });
        }
      }
      if (shown >= 0) await writeStrip(strip, film, batch[shown]!.image);
    }
    return values;
  }

  /** Where a run's strip of rolls is. */
  stripOf(arm: ArmName, seed: number): string {
    return join(this.#work, "strips", `${arm}-${seed}.png`);
  }

  /** The strip of the clip that the arms' strips show, as it should be. */
  async trueStrip(): Promise<string> {
    const file = join(this.#work, "strips", "truth.png");
    const clip = this.#clip(SHOWN);
    const frames = [
      ...clip.truth.clip.frames(),
      ...laterRolls(clip).flatMap(({ truth }) => truth.clip.frames().slice(1)),
    ];
    await writeStrip(file, frames, clip.image);
    return file;
  }

  /** What the VAE alone leaves, and what it is if nothing moves: by the same measures. Kept, too. */
  async yardsticks(): Promise<Record<"vae" | "still", Record<string, Values>>> {
    const file = join(this.#work, "yardsticks.json");
    const kept = await readFile(file, "utf8").catch(() => undefined);
    if (kept !== undefined) return JSON.parse(kept) as Record<"vae" | "still", Record<string, Values>>;
    const found: Record<"vae" | "still", Record<string, (number | null)[]>> = { vae: {}, still: {} };
    for (const batch of this.#batches()) {
      for (const { truth } of batch) {
        const decoded = tf.tidy(() => this.#pipeline.vae.forward(truth.clip.toTensor()).sample);
        add(found.vae, measures(Clip.fromTensor(decoded, truth.clip), truth));
        decoded.dispose();
        const still = truth.clip.select(Array.from({ length: truth.clip.numFrames }, () => 0));
        const { first: _, ...rest } = measures(still, truth); // the image itself: infinitely good
        add(found.still, rest);
      }
    }
    await writeFileAtomic(file, `${JSON.stringify(found)}\n`);
    return found;
  }

  async #each(
    sampler: Sampler,
    request: (clip: HeldOutClip) => Request | Promise<Request>,
    read: (sample: Sample, clip: HeldOutClip) => Record<string, number | null>,
  ): Promise<Record<string, Values>> {
    const values: Record<string, (number | null)[]> = {};
    for (const batch of this.#batches()) {
      const samples = await sample(sampler, await Promise.all(batch.map(request)), batch[0]!.truth.clip);
      for (const [i, each] of samples.entries()) add(values, read(each, batch[i]!));
    }
    return values;
  }

  *#batches(): Iterable<HeldOutClip[]> {
    const { heldOut } = this.settings;
    for (let from = 0; from < heldOut; from += BATCH) {
      yield Array.from({ length: Math.min(BATCH, heldOut - from) }, (_, i) => this.#clip(from + i));
    }
  }

  #clip(index: number): HeldOutClip {
    const made = this.#heldOut.get(index) ?? heldOutClip(index, this.settings.clips);
    this.#heldOut.set(index, made);
    return made;
  }

  #folder(arm: ArmName, seed: number): string {
    return join(this.#work, "runs", `${arm}-${seed}`);
  }
}

/** Every fourth frame, side by side. */
async function writeStrip(file: string, frames: readonly Uint8Array[], like: Clip): Promise<void> {
  const chosen = frames.filter((_, i) => i % 4 === 0);
  await mkdir(join(file, ".."), { recursive: true });
  const { width, height, fps } = like;
  const data = new Uint8Array(chosen.length * width * height * 3);
  for (const [i, frame] of chosen.entries()) {
    for (let y = 0; y < height; y++) {
      data.set(frame.subarray(y * width * 3, (y + 1) * width * 3), (y * chosen.length + i) * width * 3);
    }
  }
  await writeClip(file, new Clip({ data, width: width * chosen.length, height, fps }));
}

/** Adds a clip's values, rounded as their measures say. */
function add(values: Record<string, (number | null)[]>, found: Record<string, number | null>): void {
  for (const [name, value] of Object.entries(found)) {
    values[name] ??= [];
    values[name].push(value === null ? null : rounded(value, MEASURES[name]!.digits));
  }
}

function rounded(value: number, digits: number): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}

function summary(values: Values | undefined): string {
  const known = (values ?? []).filter((value) => value !== null);
  return known.length === 0 ? "-" : (known.reduce((sum, value) => sum + value, 0) / known.length).toFixed(2);
}

/** @param steps all that were taken; the last is saved before it is logged, so it does not count. */
function windows(losses: readonly number[], steps: number): number[] {
  const count = Math.floor((steps - 1) / LOSS_WINDOW);
  return Array.from({ length: count }, (_, i) => {
    const part = losses.slice(i * LOSS_WINDOW, (i + 1) * LOSS_WINDOW);
    return rounded(part.reduce((sum, loss) => sum + loss, 0) / LOSS_WINDOW, 4);
  });
}

async function readLog(file: string): Promise<{ loss: number; step_seconds: number }[]> {
  const lines = (await readFile(file, "utf8")).trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as { loss: number; step_seconds: number });
}
