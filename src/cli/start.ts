import { rememberedEngine } from "../engine/index.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { installWithProgress } from "./engine.js";
import { CommandFailure } from "./errors.js";
import { ownPrefix } from "./home.js";
import { installKernel } from "./kernel.js";
import { projectNotebooks } from "./notebook/paths.js";
import { runCommand } from "./run.js";

/** `firstframe start`: what a fresh clone's first command does. */
export async function startCommand(argv: string[]): Promise<number> {
  const { values } = parseCommand("start", commands.start, argv);
  const notebooks = await projectNotebooks();
  await installEngine();
  await installKernel(ownPrefix);
  return await runCommand([...notebooks, "--out", values.out, "--jobs", String(values.jobs)]);
}

/** The fast engine where it can be had. One that the user named is not second-guessed: it is installed, or nothing runs. */
async function installEngine(): Promise<void> {
  const named = process.env.FIRSTFRAME_ENGINE || undefined;
  const wanted = named ?? (await rememberedEngine());
  if (wanted === "tensorflow" || wanted === "tensorflow-gpu") {
    const installing = installWithProgress(wanted);
    return named === undefined ? orNextEngine(installing) : installing;
  }
  if (wanted === undefined) await orNextEngine(installWithProgress());
}

/** Says in one line why an engine can't be had, and which one computes instead. */
async function orNextEngine(installing: Promise<void>): Promise<void> {
  try {
    await installing;
  } catch (error) {
    if (!(error instanceof CommandFailure)) throw error;
    console.error(error.message);
  }
}
