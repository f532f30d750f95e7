import { ARGUMENTS, ArgumentError, readArguments } from "../train/arguments.js";
import { ResumeError } from "../train/checkpoint.js";
import { DivergenceError } from "../train/guard.js";
import { planTraining, runTraining } from "../train/run.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { CommandFailure, UsageError } from "./errors.js";
import { onceASecond } from "./memory-settings.js";
import { checkingInput, startEngine } from "./models.js";

/** Exit codes of a run that a signal ended, as shells count them. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/** `firstframe train`: see the table of commands for what it does. */
export async function trainCommand(argv: string[]): Promise<number> {
  const { values } = parseCommand("train", commands.train, spreadLists(argv));
  const { config, "dry-run": dryRun, resume, ...given } = values;
  const flags: Record<string, unknown> = { ...given };
  for (const [name, value] of Object.entries(given)) {
    if (Array.isArray(value)) flags[name] = value.length > 0 ? value : undefined;
  }
  if (resume !== undefined) {
    if (flags.resume_from_checkpoint !== undefined) {
      throw new UsageError("--resume and --resume_from_checkpoint are the same flag; give one of them");
    }
    flags.resume_from_checkpoint = resume;
  }
  return refusing(async () => {
    const args = await readArguments({ config, flags });
    await checkingInput(startEngine);
    if (dryRun) {
      await checkingInput(() => planTraining(args));
      return 0;
    }
    const stop = new AbortController();
    let code = 0;
    const handlers = Object.entries(SIGNALS).map(([signal, exitCode]) => {
      const handler = onceASecond(() => {
        if (stop.signal.aborted) process.exit(exitCode); // asked twice: at once
        code = exitCode;
        console.error(`${signal}: stopping after this step; once more ends it at once`);
        stop.abort();
      });
      process.on(signal, handler);
      return [signal, handler] as const;
    });
    try {
      const result = await checkingInput(() => runTraining(args, { signal: stop.signal }));
      if (!result.finished) console.log(`stopped at step ${result.step}; go on with --resume latest`);
      return result.finished ? 0 : code;
    } finally {
      for (const [signal, handler] of handlers) process.off(signal, handler);
    }
  });
}

async function refusing(run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof ArgumentError || error instanceof ResumeError) throw new UsageError(error.message);
    if (error instanceof DivergenceError) throw new CommandFailure(error.message);
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") {
      throw new CommandFailure(
        `the disk is full (${(error as Error).message}); what was saved before is whole`,
      );
    }
    throw error;
  }
}

/**
 * What the recipe's scripts and diffusers' also take: `--target_modules to_q to_k` into one flag a value, and
 * `--overwrite_output_dir` alone for true.
 */
function spreadLists(argv: readonly string[]): string[] {
  const [lists, flags] = (["list", "boolean"] as const).map(
    (wanted) =>
      new Set(
        Object.entries(ARGUMENTS)
          .filter(([, { kind }]) => kind === wanted)
          .map(([name]) => `--${name}`),
      ),
  ) as [Set<string>, Set<string>];
  const out: string[] = [];
  let list: string | undefined;
  let first = false;
  for (const [i, word] of argv.entries()) {
    if (word.startsWith("-")) list = lists.has(word) ? word : undefined;
    else if (list !== undefined && !first) out.push(list);
    first = word === list;
    out.push(word);
    if (flags.has(word) && (argv[i + 1] ?? "-").startsWith("-")) out.push("true");
  }
  return out;
}
