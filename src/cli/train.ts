import { motionMeasure } from "../procedural/motion-measure.js";
import { argumentsSchema, flagsGiven, readArguments, type TrainArguments } from "../train/arguments.js";
import { findCluster } from "../train/distributed/cluster.js";
import { Group } from "../train/distributed/group.js";
import { planTraining, runTraining } from "../train/run.js";
import type { ValidationMeasure } from "../train/validation.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { CommandFailure, UsageError } from "./errors.js";
import { onceASecond } from "./memory-settings.js";
import { startEngine } from "./models.js";

/** Exit codes of a run that a signal ended, as shells count them. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/** `firstframe train`: see the table of commands for what it does. */
export async function trainCommand(argv: string[]): Promise<number> {
  const { values } = parseCommand("train", commands.train, argv);
  const { config, "dry-run": dryRun, resume, schema, ...given } = values;
  if (schema) {
    process.stdout.write(`${JSON.stringify(argumentsSchema(), null, 2)}\n`);
    return 0;
  }
  const flags = flagsGiven(given);
  if (resume !== undefined) {
    if (flags.resume_from_checkpoint !== undefined) {
      throw new UsageError("--resume and --resume_from_checkpoint are the same flag", {
        hint: "give one of them",
      });
    }
    flags.resume_from_checkpoint = resume;
  }
  const args = await readArguments({ config, flags });
  const cluster = findCluster(args);
  if (dryRun) {
    await startEngine();
    await planTraining(args);
    return 0;
  }
  if (cluster === undefined) return trainHere(args);
  const { peer_timeout: silence, nccl_timeout: limit } = args;
  const group = await Group.join(cluster, { silence, limit, bfloat16: args.reduce_dtype === "bfloat16" });
  try {
    const code = await trainHere(args, group);
    await group.leave();
    return code;
  } catch (error) {
    await group.fail(error);
    throw error;
  }
}

async function trainHere(args: TrainArguments, group?: Group): Promise<number> {
  await startEngine();
  const stop = new AbortController();
  let code = 0;
  const handlers = Object.entries(SIGNALS).map(([signal, exitCode]) => {
    const handler = onceASecond(() => {
      if (stop.signal.aborted) process.exit(exitCode); // the second signal ends it at once
      code = exitCode;
      console.error(`${signal}: stopping after this step; once more ends it at once`);
      stop.abort();
    });
    process.on(signal, handler);
    return [signal, handler] as const;
  });
  try {
    const measures = await measuresOf(args);
    const result = await runTraining(args, { signal: stop.signal, measures, group });
    if (result.finished) return 0;
    console.log(`stopped at step ${result.step}; go on with --resume latest`);
    return code === 0 ? SIGNALS.SIGTERM : code; // another rank got the signal
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ENOSPC") throw error;
    throw new CommandFailure(`the disk is full (${message})`, { hint: "what was saved before is whole" });
  } finally {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  }
}

/** Validation measures motion, too, where its clips say which scenes they show. */
async function measuresOf(args: TrainArguments): Promise<ValidationMeasure[]> {
  if (!args.do_validation || args.validation_dir === undefined) return [];
  const motion = await motionMeasure(args.validation_dir, console.log);
  return motion ? [motion] : [];
}
