import { SingleBar } from "cli-progress";
import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import { writeProceduralDataset } from "../procedural/dataset.js";
import { type EvaluationReport, evaluateMotion, YARDSTICKS } from "../procedural/evaluate.js";
import { overfitClip } from "../procedural/overfit-clip.js";
import { makeSmallPipeline } from "../procedural/pipeline.js";
import { makeRealSizePipeline } from "../procedural/real-size.js";
import { WORLD_NAMES, type WorldName } from "../procedural/scene.js";
import { storeTransformer } from "../procedural/store-transformer.js";
import { trainPipeline } from "../procedural/train-pipeline.js";
import { type TrainTransformerOptions, trainTransformer } from "../procedural/train-transformer.js";
import { type SpatialRatio, trainSmallVae } from "../procedural/train-vae.js";
import type { Clip } from "../video/clip.js";
import { filmGrid, filmStrip } from "../video/strip.js";
import { writeClip } from "../video/write.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { UsageError } from "./errors.js";
import { startEngine } from "./models.js";

const log = (line: string) => console.log(line);

/** `firstframe procedural dataset`: see the table of commands for what these do. */
export async function datasetCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("procedural dataset", commands["procedural dataset"], argv);
  const { out, clips, seed, frames: numFrames, height, width, fps, sprites: numSprites } = values;
  const world = values.world as WorldName;
  const scene = { numFrames, height, width, fps, world, ...(numSprites === undefined ? {} : { numSprites }) };
  await writeProceduralDataset({ out, clips, heldOut: values["held-out"], seed, scene, log });
}

export async function pipelineCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("procedural pipeline", commands["procedural pipeline"], argv);
  const { out, seed, layers, heads, vae } = values;
  const worlds = worldsOf(values.worlds);
  await startEngine();
  await makeSmallPipeline({
    ...{ out, seed, worlds, layers, heads, log, vae },
    textLayers: values["text-layers"],
    textSteps: values["text-steps"],
    patchSize: values["patch-size"],
  });
}

export async function trainTransformerCommand(argv: string[]): Promise<void> {
  const name = "procedural train-transformer";
  const { values } = parseCommand(name, commands[name], argv);
  const { frames: numFrames, ...rest } = values;
  const world = values.world as WorldName;
  await startEngine();
  await trainTransformer({
    ...{ ...rest, numFrames, world, log },
    worlds: values.worlds === undefined ? [world] : worldsOf(values.worlds),
    batchSize: values["batch-size"],
    learningRate: values["learning-rate"],
    lrScheduler: values["lr-scheduler"] as TrainTransformerOptions["lrScheduler"],
    mixedPrecision: values["mixed-precision"] as TrainTransformerOptions["mixedPrecision"],
    evaluationSteps: values["evaluation-steps"],
    evaluationClips: values["evaluation-clips"],
  });
}

const worldsOf = (list: string): readonly WorldName[] =>
  list === "all" ? WORLD_NAMES : list.split(",").map(worldOf);

function worldOf(name: string): WorldName {
  const found = WORLD_NAMES.find((each) => each === name);
  if (found === undefined)
    throw new UsageError(
      `--worlds: expected ${WORLD_NAMES.join(", ")} or all, found ${JSON.stringify(name)}`,
    );
  return found;
}

export async function trainPipelineCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("procedural train", commands["procedural train"], argv);
  const { out, work, seed, steps } = values;
  await startEngine();
  await trainPipeline({
    ...{ out, work, seed, steps, log },
    vaeSteps: values["vae-steps"],
    textSteps: values["text-steps"],
    evaluationClips: values["evaluation-clips"],
  });
}

export async function trainVaeCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("procedural train-vae", commands["procedural train-vae"], argv);
  const { steps: trainSteps, export: exportOnly, seed, from, work, out } = values;
  await startEngine();
  const [imageSteps, decaySteps] = [values["image-steps"], values["decay-steps"]];
  const ratio = Number(values.ratio) as SpatialRatio;
  await trainSmallVae({ seed, ratio, from, trainSteps, imageSteps, decaySteps, work, out, exportOnly, log });
}

export async function storeTransformerCommand(argv: string[]): Promise<void> {
  const name = "procedural store-transformer";
  const { values } = parseCommand(name, commands[name], argv);
  await startEngine();
  await storeTransformer({ ...values, log });
}

export async function realSizeCommand(argv: string[]): Promise<void> {
  const { values, positionals } = parseCommand(
    "procedural real-size",
    commands["procedural real-size"],
    argv,
  );
  const { seed, layers } = values;
  await makeRealSizePipeline({ out: positionals[0]!, seed, layers, textLayers: values["text-layers"], log });
}

export async function overfitClipCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("procedural overfit-clip", commands["procedural overfit-clip"], argv);
  const { clip, "learning-rate": learningRate, "sampling-steps": samplingSteps, ...rest } = values;
  if (clip === undefined) throw new UsageError("--clip FILE is missing");
  await startEngine();
  await overfitClip({ ...rest, clip, learningRate, samplingSteps, log });
}

/** How many clips the picture of samples shows, and how many frames of each. */
const [SHOWN_CLIPS, SHOWN_FRAMES] = [12, 6];

export async function evaluateCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("procedural evaluate", commands["procedural evaluate"], argv);
  const { model, clips, seed, frames: numFrames, height, width, fps } = values;
  const steps = numbers("--steps", values.steps, (value) => Number.isInteger(value) && value > 0);
  const guidance =
    values.guidance === undefined
      ? [undefined]
      : numbers("--guidance", values.guidance, (value) => value >= 0);
  const settings = steps.flatMap((count) =>
    guidance.map((scale) => ({ steps: count, ...(scale === undefined ? {} : { guidance: scale }) })),
  );
  const world = values.world as WorldName;
  await startEngine();
  const pipeline = await CogVideoXImageToVideoPipeline.fromPretrained(model);
  const bar = new SingleBar({
    format: "clip {value}/{total} {bar} {eta_formatted} left",
    noTTYOutput: false,
  });
  const shown: Clip[] = [];
  const films: Clip[][] = [];
  try {
    bar.start(clips, 0);
    const report = await evaluateMotion(pipeline, {
      ...{ clips, seed, settings, numFrames, height, width, fps, world },
      onClip: (done, samples, truth, turned) => {
        bar.update(done);
        if (done > SHOWN_CLIPS) return;
        shown.push(truth, ...samples);
        films.push([truth, ...samples, ...turned]);
      },
    });
    bar.stop();
    if (values.strip !== undefined) {
      await writeClip(values.strip, filmStrip(shown, SHOWN_FRAMES));
    }
    if (values.film !== undefined) {
      const rows = films[0]!.map((_, row) => films.map((column) => column[row]!));
      await writeClip(values.film, filmGrid(rows));
    }
    const { runs, ...rest } = report;
    const [only, ...others] = runs;
    const said = others.length === 0 ? { ...only, ...rest } : report;
    console.log(values.json ? JSON.stringify(said, null, 1) : table(report));
  } finally {
    bar.stop();
    pipeline.dispose();
  }
}

function numbers(flag: string, text: string, valid: (value: number) => boolean): number[] {
  return text.split(",").map((part) => {
    const value = part.trim() === "" ? Number.NaN : Number(part);
    if (!valid(value))
      throw new UsageError(`${flag}: expected numbers with commas between them, found ${text}`);
    return value;
  });
}

function table({ runs, yardsticks }: EvaluationReport): string {
  const head = ["", "left 0.5 s", "1 s", "2 s", "direction", "swap", "flicker", "seam", "PSNR", "SSIM"];
  const rows = [
    ...runs.map(({ steps, guidance, ...run }) => {
      const scale = guidance === null ? "" : `, guidance ${guidance}`;
      return { name: `${steps} step${steps === 1 ? "" : "s"}${scale}`, ...run };
    }),
    ...YARDSTICKS.map((name) => ({ name: name.replaceAll("_", " "), ...yardsticks[name] })),
  ].map(({ name, sprites_left: left, direction, swap, flicker_ratio, seam, psnr, ssim }) => [
    name,
    ...[left["0.5"], left["1"], left["2"], direction, swap].map((share) => share?.toFixed(2) ?? "-"),
    flicker_ratio?.toFixed(2) ?? "-",
    seam.toFixed(1),
    psnr.toFixed(2),
    ssim.toFixed(3),
  ]);
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ");
  return [head, ...rows].map(line).join("\n");
}
