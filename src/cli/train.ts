import { motionMeasure } from "../procedural/motion-measure.js";
import { argumentsSchema, flagsGiven, readArguments, type TrainArguments } from "../train/arguments.js";
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
  await startEngine();
  if (dryRun) {
    await planTraining(args);
    return 0;
  }
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
    const result = await runTraining(args, { signal: stop.signal, measures: await measuresOf(args) });
    if (!result.finished) console.log(`stopped at step ${result.step}; go on with --resume latest`);
    return result.finished ? 0 : code;
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
