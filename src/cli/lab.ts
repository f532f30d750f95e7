import { spawn } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, join, resolve } from "node:path";
import cliProgress from "cli-progress";
import { ensurePython, PythonError } from "../../kernel/install/python.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { CommandFailure, UsageError } from "./errors.js";
import { ownPrefix, ownPython, tutorialsFolder } from "./home.js";
import { installKernel } from "./kernel.js";

/** `firstframe lab`: JupyterLab on the notebooks, with the kernel and its extension from the project's own folder. */
export async function labCommand(argv: string[]): Promise<number> {
  const { values, positionals, rest } = parseCommand("lab", commands.lab, argv);
  const folder = resolve(positionals[0] ?? (await tutorialsFolder()));
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw new UsageError("no such folder", { file: folder });
  const jupyter = values.own ? await ownJupyter() : ((await jupyterOnPath()) ?? (await ownJupyter()));
  await installKernel(ownPrefix);
  if (values.setup) return 0;
  const data = join(ownPrefix, "share/jupyter");
  const env = {
    ...process.env,
    JUPYTER_PATH: [data, process.env.JUPYTER_PATH].filter(Boolean).join(delimiter),
  };
  const child = spawn(jupyter, ["lab", `--notebook-dir=${folder}`, ...rest], { env, stdio: "inherit" });
  // On Ctrl-C, JupyterLab asks whether to stop; this process waits for the outcome.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  return await new Promise((done, failed) => {
    child.on("error", failed);
    child.on("exit", (code, signal) => done(code ?? 128 + constants.signals[signal!]));
  });
}

/** The `jupyter` on PATH, if the extension works in its JupyterLab. */
async function jupyterOnPath(): Promise<string | undefined> {
  const version = await new Promise<string>((done) => {
    const child = spawn("jupyter", ["lab", "--version"], { stdio: ["ignore", "pipe", "ignore"] });
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += String(chunk);
    });
    child.on("error", () => done(""));
    child.on("close", (code) => done(code === 0 ? text.trim() : ""));
  });
  if (Number(version.split(".")[0]) >= 4) return "jupyter";
  if (version !== "")
    console.error(`The jupyter on PATH has JupyterLab ${version}, expected 4 or newer: taking .venv.`);
  return undefined;
}

async function ownJupyter(): Promise<string> {
  const bar = new cliProgress.SingleBar(
    {
      format: "{bar} {value} of {total} packages  {step}",
      hideCursor: true,
      noTTYOutput: false,
      stream: process.stderr,
    },
    cliProgress.Presets.shades_classic,
  );
  let begun = false;
  try {
    const python = await ensurePython({
      folder: ownPython,
      onProgress: (step, done, total) => {
        if (!begun) {
          console.error(`Installing JupyterLab into ${ownPython}, once:`);
          bar.start(total, 0, { step });
        }
        begun = true;
        bar.update(done, { step });
      },
    });
    return python.bin("jupyter");
  } catch (error) {
    if (error instanceof PythonError) throw new CommandFailure(error.message);
    throw error;
  } finally {
    bar.stop();
  }
}
