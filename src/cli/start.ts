import { join } from "node:path";
import { rememberedEngine } from "../engine/index.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { installWithProgress } from "./engine.js";
import { CommandFailure } from "./errors.js";
import { ownPrefix, packageRoot, projectRoot } from "./home.js";
import { installKernel } from "./kernel.js";
import { pageNames, projectNotebooks } from "./notebook/paths.js";
import { runCommand } from "./run.js";

/** `firstframe start`: what a fresh clone's first command does. */
export async function startCommand(argv: string[]): Promise<number> {
  const { values } = parseCommand("start", commands.start, argv);
  const notebooks = await projectNotebooks();
  console.log("1 of 2: the engine that computes, and the kernel");
  await installEngine();
  console.log(`  the kernel → ${await installKernel(ownPrefix)}`);
  console.log(
    `\n2 of 2: ${notebooks.length} notebooks, cell by cell; cells that fail on purpose show how errors look`,
  );
  const code = await runCommand([...notebooks, "--out", values.out, "--jobs", String(values.jobs)]);
  if (code === 0) console.log(`\n${nextSteps(values.out, notebooks)}`);
  return code;
}

/** What to do after everything has run. */
function nextSteps(out: string, notebooks: readonly string[]): string {
  const [first = ""] = pageNames(notebooks);
  const inClone = projectRoot === packageRoot;
  const steps = [
    [join(out, `${first}.html`), "open it in a browser: the tutorials, executed, work offline"],
    [inClone ? "npm run lab" : "npx firstframe lab", "opens them in JupyterLab"],
    ["npx firstframe kernel install", "gives the kernel to the Jupyter and Visual Studio Code that you have"],
    ["npx firstframe doctor", "shows which engine computes, and what would make it faster"],
  ] as const;
  const width = Math.max(...steps.map(([what]) => what.length));
  return ["Next:", ...steps.map(([what, why]) => `  ${what.padEnd(width)}  ${why}`)].join("\n");
}

/** Installs the fast engine if possible. One that the user named is not second-guessed: it is installed, or nothing runs. */
async function installEngine(): Promise<void> {
  const named = process.env.FIRSTFRAME_ENGINE || undefined;
  const wanted = named ?? (await rememberedEngine());
  if (wanted === "tensorflow" || wanted === "tensorflow-gpu") {
    const installing = installWithProgress(wanted);
    return named === undefined ? orNextEngine(installing) : installing;
  }
  if (wanted === undefined) await orNextEngine(installWithProgress());
}

/** Says in one line why an engine can't be installed, and which one computes instead. */
async function orNextEngine(installing: Promise<void>): Promise<void> {
  try {
    await installing;
  } catch (error) {
    if (!(error instanceof CommandFailure)) throw error;
    console.error(error.message);
  }
}
