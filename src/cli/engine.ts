import cliProgress from "cli-progress";
import { nvidiaDevices } from "../engine/hardware.js";
import {
  EngineError,
  type EngineName,
  engineNames,
  isEngineName,
  isInstalled,
  rememberEngine,
  type TensorflowName,
} from "../engine/index.js";
import { type Builds, installFrom, pinnedBuilds } from "../engine/install.js";
import { recommendedEngine, type Survey, survey } from "../engine/survey.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { CommandFailure, UsageError } from "./errors.js";

/** `firstframe engine install | list | use`. */
export async function engineCommand(argv: string[]): Promise<number> {
  const { positionals, values } = parseCommand("engine", commands.engine, argv);
  const [action, name] = positionals;
  if (action === "list" && name !== undefined) {
    throw new UsageError(`engine list: unexpected argument ${JSON.stringify(name)}`);
  }
  switch (action) {
    case "install":
      return install(name, values.force);
    case "list":
      return list(values.json);
    case "use":
      return use(name);
    default:
      throw new UsageError(`expected install, list or use, found ${JSON.stringify(action)}`);
  }
}

/**
 * Installs an engine with a progress bar: the requested one, else the one for this machine, or, if that is impossible, the
 * next best.
 * @param from the wheels that may be used; default: those that this package pins.
 * @throws CommandFailure with one line that says why it is impossible, and which engine runs instead.
 */
export async function installWithProgress(
  name?: TensorflowName,
  force = false,
  from: Builds = pinnedBuilds,
): Promise<void> {
  const chosen = name ?? recommendedEngine();
  const bars = progressBars();
  try {
    await installFrom(from, chosen, { force, log: bars.log, progress: bars.start });
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    bars.stop();
    if (name === undefined && chosen === "tensorflow-gpu") {
      bars.log(`${error.message}; taking tensorflow, which computes on the processor`);
      return await installWithProgress("tensorflow", force, from);
    }
    throw new CommandFailure(error.message, { hint: await whatElse(chosen) });
  } finally {
    bars.stop();
  }
}

/** What computes if an engine could not be installed. */
async function whatElse(missing: TensorflowName): Promise<string> {
  const named = process.env.FIRSTFRAME_ENGINE;
  if (named === missing) return `FIRSTFRAME_ENGINE=${named} allows no other`;
  if (named) return `until then ${named} computes, which FIRSTFRAME_ENGINE names`;
  return `until then ${(await isInstalled("tensorflow")) ? "tensorflow computes" : "wasm computes, slower"}`;
}

async function install(name: string | undefined, force: boolean): Promise<number> {
  if (name !== undefined && name !== "tensorflow" && name !== "tensorflow-gpu") {
    throw new UsageError(`expected tensorflow or tensorflow-gpu, found ${JSON.stringify(name)}`, {
      hint: isEngineName(name) ? `${name} needs no installation` : undefined,
    });
  }
  await installWithProgress(name, force);
  if (name === "tensorflow-gpu" && nvidiaDevices().length === 0) {
    console.error("there is no NVIDIA GPU here, or no driver for it: until then tensorflow-gpu won't run");
  }
  return 0;
}

async function list(json: boolean): Promise<number> {
  const found = await survey();
  if (json) {
    console.log(JSON.stringify({ engines: found.engines, default: found.chosen }, null, 2));
    return 0;
  }
  printEngines(found);
  return 0;
}

/** One line per engine; a star marks the default. */
export function printEngines({ engines, chosen }: Pick<Survey, "engines" | "chosen">): void {
  const width = Math.max(...engines.map(({ name }) => name.length));
  for (const { name, ready, detail } of engines) {
    console.log(
      `${name === chosen.name ? "*" : " "} ${name.padEnd(width)}  ${ready ? "ready" : "-    "}  ${detail}`,
    );
  }
  console.log(`default: ${chosen.name} (${chosen.reason})`);
}

async function use(name: string | undefined): Promise<number> {
  if (name === undefined || (name !== "auto" && !isEngineName(name))) {
    const found = name === undefined ? "nothing" : JSON.stringify(name);
    throw new UsageError(`expected one of ${[...engineNames, "auto"].join(", ")}, found ${found}`);
  }
  if (name === "auto") {
    await rememberEngine(undefined);
    console.log("the best engine that is installed will run");
    return 0;
  }
  const { engines } = await survey();
  const { ready, detail } = engines.find((engine) => engine.name === name)!;
  if (!ready) throw new CommandFailure(`${name} can't run here: ${detail}`);
  await rememberEngine(name as EngineName);
  console.log(`${name} will run by default`);
  return 0;
}

/** One bar at a time on a terminal; elsewhere a line at the start of each step and after every quarter. */
function progressBars() {
  const out = process.stderr;
  let bar: cliProgress.SingleBar | undefined;
  const stop = () => {
    bar?.stop();
    bar = undefined;
  };
  const log = (line: string) => {
    stop();
    out.write(`${line}\n`);
  };
  const start = (step: string) => {
    stop();
    let quarter = 0;
    return (done: number, total: number) => {
      if (out.isTTY && total > 0) {
        if (bar === undefined) {
          bar = new cliProgress.SingleBar(
            {
              format: `{bar} {percentage}% {mb}/{allMb} MB  {eta_formatted} left  ${step}`,
              hideCursor: true,
              stream: out,
            },
            cliProgress.Presets.shades_classic,
          );
          bar.start(total, done, { mb: 0, allMb: Math.ceil(total / 1e6) });
        }
        bar.update(done, { mb: Math.floor(done / 1e6) });
        if (done >= total) stop();
      } else if (total > 0 && Math.floor((4 * done) / total) > quarter) {
        quarter = Math.floor((4 * done) / total);
        out.write(`  ${quarter * 25} %\n`);
      }
    };
  };
  return { log, start, stop };
}
