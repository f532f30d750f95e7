import { writeFileAtomic } from "../files/atomic.js";
import { configFile, readJson } from "./cache.js";
import { asEngineError, EngineError, InputError } from "./errors.js";
import { isWanted } from "./install.js";
import { PRECISIONS, type Precision, usePrecision } from "./precision.js";
import {
  currentEngine,
  describeBfloat16,
  type Engine,
  type EngineName,
  engineNames,
  type Running,
  setCurrentEngine,
} from "./running.js";

/** Options of {@link useEngine}. */
export interface UseEngineOptions {
  /**
   * What matrix products and attention are computed in from now on: bfloat16 rounds their factors, as PyTorch's autocast does,
   * if the processor has instructions for that, or CUDA computes ({@link Engine}'s `bfloat16` says which; without, it is
   * computed in float32 and said). CUDA rounds what comes out as well. A trainer's `mixedPrecision` decides by itself. Default: as it is, at first float32.
   */
  precision?: Precision;
  /** Called with a line that says why a better engine or device does not run. Default: writes to standard error. */
  log?: (line: string) => void;
}

/**
 * Starts an engine, on which all tensors are computed from then on. Call and await it before making the first tensor;
 * calling it again with the same name costs nothing.
 *
 * @param name which engine; by default the one that FIRSTFRAME_ENGINE names, else the one that `firstframe engine use`
 *   remembers, else the best that is installed.
 * @returns the running engine. One that was asked for by name either runs on its device or throws; the default falls
 *   back to the next one and logs why.
 * @throws EngineError when the engine asked for, by argument or by FIRSTFRAME_ENGINE, can't run.
 * @throws InputError for a precision that there is not.
 */
export async function useEngine(name?: EngineName, options?: UseEngineOptions): Promise<Engine>;
/** The default engine, with options. */
export async function useEngine(options: UseEngineOptions): Promise<Engine>;
export async function useEngine(
  first?: EngineName | UseEngineOptions,
  second: UseEngineOptions = {},
): Promise<Engine> {
  const [name, options] = typeof first === "object" ? [undefined, first] : [first, second];
  const { precision } = options;
  if (precision !== undefined && !PRECISIONS.includes(precision)) {
    throw new InputError(
      `precision: expected ${PRECISIONS.join(" or ")}, found ${JSON.stringify(precision)}`,
    );
  }
  const log = options.log ?? ((line: string) => process.stderr.write(`${line}\n`));
  const engine = await startFirst(name, log);
  if (precision !== undefined) usePrecision(precision);
  if (precision === "bfloat16" && !engine.bfloat16) log(`firstframe: bfloat16: ${describeBfloat16(engine)}`);
  return engine;
}

async function startFirst(name: EngineName | undefined, log: (line: string) => void): Promise<Engine> {
  checkInstructions();
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

/** Makes `name` the default for this user's programs; undefined goes back to the best one installed. */
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

/** What FIRSTFRAME_BFLOAT16 may say; native/product.cc reads it when the engine loads. */
const INSTRUCTIONS = ["amx", "avx512_bf16", "none"];

function checkInstructions(): void {
  const value = process.env.FIRSTFRAME_BFLOAT16;
  if (value !== undefined && value !== "" && !INSTRUCTIONS.includes(value)) {
    throw new EngineError(
      `FIRSTFRAME_BFLOAT16: expected one of ${INSTRUCTIONS.join(", ")}, found ${JSON.stringify(value)}`,
    );
  }
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

/** A backend's code is loaded only when it starts. */
const starters: Record<EngineName, (log: (line: string) => void) => Promise<Running>> = {
  "tensorflow-gpu": async (log) =>
    (await import("./backends/tensorflow.js")).startTensorflow("tensorflow-gpu", log),
  tensorflow: async (log) => (await import("./backends/tensorflow.js")).startTensorflow("tensorflow", log),
  webgpu: async (log) => (await import("./backends/webgpu.js")).startWebgpu(log),
  wasm: async () => (await import("./backends/wasm.js")).startWasm(),
  cpu: async () => (await import("./backends/cpu.js")).startCpu(),
};
