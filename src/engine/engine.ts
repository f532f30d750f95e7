import { writeFileAtomic } from "../files/atomic.js";
import { configFile, readJson } from "./cache.js";
import { asEngineError, EngineError } from "./errors.js";
import { isWanted } from "./install.js";
import {
  currentEngine,
  type Engine,
  type EngineName,
  engineNames,
  type Running,
  setCurrentEngine,
} from "./running.js";

/** What {@link useEngine} may be told. */
export interface UseEngineOptions {
  /** Where a line goes that says why a better engine, or a better device, does not run; standard error unless given. */
  log?: (line: string) => void;
}

/**
 * Starts an engine and makes it the one that all tensors are computed on. To be called, and awaited, before the first
 * tensor is made; again with the same name it costs nothing.
 *
 * @param name which engine; by default the one that FIRSTFRAME_ENGINE names, else the one that `firstframe engine use`
 *   remembers, else the best that is installed.
 * @returns what runs. An engine that was asked for by name either runs on its device or throws. The default one falls
 *   back to the next, and a line says why.
 * @throws EngineError when the engine asked for, by argument or by FIRSTFRAME_ENGINE, can't run.
 */
export async function useEngine(name?: EngineName, options: UseEngineOptions = {}): Promise<Engine> {
  const log = options.log ?? ((line: string) => process.stderr.write(`${line}\n`));
  const asked = name ?? engineFromEnvironment();
  if (asked !== undefined) return start(asked, log);
  const running = currentEngine();
  if (running !== undefined) return running;

  for (const candidate of await candidates()) {
    try {
      return await start(candidate, log);
    } catch (error) {
      log(`firstframe: ${asEngineError(candidate, error).message}; trying the next engine`);
    }
  }
  throw new EngineError("no engine runs here", { hint: "`firstframe doctor` says why" });
}

/** Makes `name` the default of this user's programs, or with undefined goes back to the best that is installed. */
export async function rememberEngine(name: EngineName | undefined): Promise<void> {
  await writeFileAtomic(configFile(), `${JSON.stringify({ engine: name ?? null })}\n`);
}

/** The engine that {@link rememberEngine} stored. */
export async function rememberedEngine(): Promise<EngineName | undefined> {
  const stored = (await readJson<{ engine?: unknown }>(configFile()))?.engine;
  return isEngineName(stored) ? stored : undefined;
}

/** Whether a value is one of {@link engineNames}. */
export function isEngineName(value: unknown): value is EngineName {
  return engineNames.includes(value as EngineName);
}

function engineFromEnvironment(): EngineName | undefined {
  const value = process.env.FIRSTFRAME_ENGINE;
  if (value === undefined || value === "") return undefined;
  if (!isEngineName(value)) {
    throw new EngineError(
      `FIRSTFRAME_ENGINE: expected one of ${engineNames.join(", ")}, found ${JSON.stringify(value)}`,
    );
  }
  return value;
}

/** What to try when nobody named an engine, in order; wasm needs no installation and ends the list. */
async function candidates(): Promise<EngineName[]> {
  const list: EngineName[] = [];
  const remembered = await rememberedEngine();
  if (remembered !== undefined) list.push(remembered);
  for (const name of ["tensorflow-gpu", "tensorflow"] as const) {
    if (!list.includes(name) && isWanted(name)) list.push(name);
  }
  for (const name of ["wasm", "cpu"] as const) if (!list.includes(name)) list.push(name);
  return list;
}

async function start(name: EngineName, log: (line: string) => void): Promise<Engine> {
  const running = currentEngine();
  if (running?.name === name) return running;
  return setCurrentEngine({ name, ...(await starters[name](log)) });
}

/** A backend's code is loaded when it starts. */
const starters: Record<EngineName, (log: (line: string) => void) => Promise<Running>> = {
  "tensorflow-gpu": async (log) =>
    (await import("./backends/tensorflow.js")).startTensorflow("tensorflow-gpu", log),
  tensorflow: async (log) => (await import("./backends/tensorflow.js")).startTensorflow("tensorflow", log),
  webgpu: async (log) => (await import("./backends/webgpu.js")).startWebgpu(log),
  wasm: async () => (await import("./backends/wasm.js")).startWasm(),
  cpu: async () => (await import("./backends/cpu.js")).startCpu(),
};
