import { writeProceduralDataset } from "../procedural/dataset.js";
import { overfitClip } from "../procedural/overfit-clip.js";
import { makeSmallPipeline } from "../procedural/pipeline.js";
import { storeTransformer } from "../procedural/store-transformer.js";
import { trainSmallVae } from "../procedural/train-vae.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { UsageError } from "./errors.js";
import { startEngine } from "./models.js";

const log = (line: string) => console.log(line);

/** `firstframe procedural dataset`: see the table of commands for what these do. */
export async function datasetCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("procedural dataset", commands["procedural dataset"], argv);
  const { out, clips, seed, frames: numFrames, height, width, fps, sprites: numSprites } = values;
  const scene = { numFrames, height, width, fps, ...(numSprites === undefined ? {} : { numSprites }) };
  await writeProceduralDataset({ out, clips, heldOut: values["held-out"], seed, scene, log });
}

export async function pipelineCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("procedural pipeline", commands["procedural pipeline"], argv);
  await startEngine();
  await makeSmallPipeline({ ...values, log });
}

export async function trainVaeCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("procedural train-vae", commands["procedural train-vae"], argv);
  const { steps: trainSteps, export: exportOnly, seed, work, out } = values;
  await startEngine();
  const [imageSteps, decaySteps] = [values["image-steps"], values["decay-steps"]];
  await trainSmallVae({ seed, trainSteps, imageSteps, decaySteps, work, out, exportOnly, log });
}

export async function storeTransformerCommand(argv: string[]): Promise<void> {
  const name = "procedural store-transformer";
  const { values } = parseCommand(name, commands[name], argv);
  await startEngine();
  await storeTransformer({ ...values, log });
}

export async function overfitClipCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("procedural overfit-clip", commands["procedural overfit-clip"], argv);
  const { clip, "learning-rate": learningRate, "sampling-steps": samplingSteps, ...rest } = values;
  if (clip === undefined) throw new UsageError("--clip FILE is missing");
  await startEngine();
  await overfitClip({ ...rest, clip, learningRate, samplingSteps, log });
}
