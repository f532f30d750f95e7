import { firstLine } from "../engine/errors.js";
import {
  type Engine,
  EngineError,
  type EngineName,
  type TensorflowName,
  useEngine,
} from "../engine/index.js";
import { isWanted } from "../engine/install.js";
import { describeBfloat16 } from "../engine/running.js";
import { type Survey, survey } from "../engine/survey.js";
import * as tf from "../engine/tf.js";
import { ffmpegVersion } from "../video/ffmpeg.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { printEngines } from "./engine.js";

/** `firstframe doctor`: what is there, what runs and why, and what to type to improve it. */
export async function doctorCommand(argv: string[]): Promise<number> {
  const { values } = parseCommand("doctor", commands.doctor, argv);
  const surveyed = await survey(true);
  const ffmpeg = (await ffmpegVersion()) ?? "none; AVI, ProRes, HEIC and other clips and pictures need it";
  const found: Survey = { ...surveyed, machine: { ...surveyed.machine, ffmpeg } };
  const trial = await tryEngine(found);
  if (values.json) {
    console.log(JSON.stringify({ ...found, trial }, null, 2));
    return "error" in trial ? 1 : 0;
  }
  const width = Math.max(...Object.keys(found.machine).map((name) => name.length));
  for (const [name, value] of Object.entries(found.machine)) console.log(`${name.padEnd(width)}  ${value}`);
  console.log();
  printEngines(found);
  console.log();
  if ("error" in trial) console.log(`no engine runs: ${trial.error}`);
  else {
    const { name, device, version, threads } = trial.engine;
    console.log(`runs: ${name} on ${device}, ${version}, ${threads} thread${threads === 1 ? "" : "s"}`);
    console.log(`      ${trial.gflops.toFixed(0)} GFLOP/s in a product of two ${side} x ${side} matrices`);
    console.log(`      bfloat16: ${describeBfloat16(trial.engine)}`);
  }
  for (const reason of trial.notes) console.log(`      ${reason}`);
  if (found.advice.length > 0) {
    console.log("\nto get faster, type:");
    for (const line of found.advice) console.log(`  ${line}`);
  }
  return "error" in trial ? 1 : 0;
}

const side = 1024;

function isTensorflow(name: EngineName): name is TensorflowName {
  return name === "tensorflow" || name === "tensorflow-gpu";
}

type Trial = { notes: string[] } & ({ engine: Engine; gflops: number } | { error: string });

/** Starts the engine that would run, and checks that it computes. */
async function tryEngine({ engines, chosen }: Survey): Promise<Trial> {
  const notes: string[] = [];
  try {
    // A damaged engine is not started, even if the start would not notice: it could end this process.
    const refused = engines.filter(({ name, ready }) => !ready && isTensorflow(name) && isWanted(name));
    for (const { name, detail } of refused) {
      if (name === chosen.name) throw new EngineError(detail, { subject: name });
      notes.push(`firstframe: ${name}: ${detail}; trying the next engine`);
    }
    const name = refused.length > 0 ? chosen.name : undefined;
    const engine = await useEngine(name, { log: (line) => notes.push(line) });
    const ones = tf.ones([side, side]);
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 4; i++) {
      const start = performance.now();
      const product = tf.matMul(ones, ones);
      const corner = tf.slice(product, [0, 0], [1, 1]);
      const [value] = await corner.data();
      best = Math.min(best, performance.now() - start);
      tf.dispose([product, corner]);
      if (value !== side)
        throw new EngineError(`${engine.name} computes wrong: expected ${side}, found ${value}`);
    }
    ones.dispose();
    return { engine, gflops: (2 * side ** 3) / best / 1e6, notes };
  } catch (error) {
    return { error: firstLine(error), notes };
  }
}
