import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { arch, cpus, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { wasmFeatures } from "./backends/wasm.js";
import { type AdapterInfo, adapterName } from "./backends/webgpu.js";
import { operationsFault } from "./binding.js";
import { cacheDirectory, configFile } from "./cache.js";
import { isEngineName, rememberedEngine } from "./engine.js";
import { glibcVersion, threadCount } from "./environment.js";
import { asEngineError, firstLine } from "./errors.js";
import { nvidiaDevices, nvidiaDriver } from "./hardware.js";
import { findTensorflow, isInstalled, type TensorflowName } from "./install.js";
import type { EngineName } from "./running.js";

const run = promisify(execFile);

/** What is known about an engine on this machine. */
export interface EngineState {
  readonly name: EngineName;
  /** Whether {@link useEngine} can start it, as far as one can tell without doing so. */
  readonly ready: boolean;
  /** For TensorFlow: whether its fused operations load; without them it is slower. */
  readonly fused?: boolean;
  /** What it would run on, or what it lacks. */
  readonly detail: string;
}

/** What this machine offers and what follows from it. */
export interface Survey {
  readonly machine: Readonly<Record<string, string>>;
  readonly engines: readonly EngineState[];
  readonly chosen: { readonly name: EngineName; readonly reason: string };
  /** What to type to make it faster; empty if nothing would. */
  readonly advice: readonly string[];
}

/** The engine to install here: the CUDA build if there is a GPU with NVIDIA's driver. */
export function recommendedEngine(): TensorflowName {
  return process.platform === "linux" && process.arch === "x64" && nvidiaDevices().length > 0
    ? "tensorflow-gpu"
    : "tensorflow";
}

/**
 * Looks at the machine, its drivers and what is installed. It starts no engine, and asks the graphics driver from another
 * process.
 *
 * @param all compares every byte of what is installed with the original, which takes a second or more.
 */
export async function survey(all = false): Promise<Survey> {
  const gpus = nvidiaDevices();
  const { adapter, names } = await adaptersInAnotherProcess();
  const wasm = wasmFeatures();
  const engines: EngineState[] = [
    await tensorflowGpu(gpus, all),
    await tensorflowState("tensorflow", processor(), all),
    webgpuState(adapter),
    {
      name: "wasm",
      ready: true,
      detail: `${wasm.simd ? "SIMD" : "no SIMD"}, ${wasm.threads ? `${threadCount()} threads` : "one thread"}`,
    },
    { name: "cpu", ready: true, detail: "plain JavaScript, for reference" },
  ];
  const chosen = await choose(engines);
  return {
    machine: {
      Node: `${process.version} (${process.platform} ${arch()})`,
      System: `${release()}${glibcVersion() === undefined ? "" : `, glibc ${glibcVersion()}`}`,
      Processor: `${processor()}, ${threadCount()} threads`,
      Memory: `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
      "NVIDIA GPUs": gpus.length > 0 ? gpus.join(", ") : "none",
      "NVIDIA driver": nvidiaDriver() ?? "none",
      "CUDA libraries": await cudaLibraries(),
      [adaptersTitle()]: names.length > 0 ? names.join(", ") : "none",
      WebAssembly: `SIMD ${wasm.simd ? "yes" : "no"}, threads ${wasm.threads ? "yes" : "no"}`,
      Cache: cacheDirectory(),
    },
    engines,
    chosen,
    advice: advise(engines, chosen.name, gpus, adapter),
  };
}

function processor(): string {
  return cpus()[0]?.model ?? "unknown processor";
}

async function tensorflowGpu(gpus: string[], all: boolean): Promise<EngineState> {
  const name = "tensorflow-gpu";
  if (process.platform !== "linux")
    return { name, ready: false, detail: "TensorFlow has CUDA builds for Linux only" };
  if (gpus.length === 0) return { name, ready: false, detail: "no NVIDIA GPU, or no driver for it" };
  return tensorflowState(name, gpus[0]!, all);
}

async function tensorflowState(name: TensorflowName, device: string, all: boolean): Promise<EngineState> {
  try {
    const library = await findTensorflow(name, all);
    const { version, libraries } = library;
    const unfused = name === "tensorflow-gpu" ? undefined : await operationsFault(library, false);
    return {
      name,
      ready: true,
      fused: unfused === undefined,
      detail: `${device}; libtensorflow ${version ?? "of your own"} in ${libraries}${unfused ? `; ${unfused.reason}` : ""}`,
    };
  } catch (error) {
    return { name, ready: false, detail: asEngineError(name, error).problem };
  }
}

function webgpuState(adapter: AdapterInfo | string): EngineState {
  if (typeof adapter === "string") return { name: "webgpu", ready: false, detail: adapter };
  return { name: "webgpu", ready: true, detail: adapterName(adapter) };
}

/** The drivers for the graphics cards. */
function adaptersTitle(): string {
  return `${{ linux: "Vulkan", darwin: "Metal" }[process.platform as string] ?? "Graphics"} adapters`;
}

/** The adapter that WebGPU uses, or why there is none, and the names of all adapters. */
interface Adapters {
  adapter: AdapterInfo | string;
  names: string[];
}

/** Dawn loads the graphics driver, which may print, hang or crash, so this runs in another process. */
async function adaptersInAnotherProcess(): Promise<Adapters> {
  const script = `import { adapterNames, findAdapter } from ${JSON.stringify(new URL("./backends/webgpu.js", import.meta.url).href)};
    try {
      const { vendor, architecture, device, description, isFallbackAdapter } = (await findAdapter())?.info ?? {};
      const adapter = vendor === undefined ? null : { vendor, architecture, device, description, isFallbackAdapter };
      console.log(JSON.stringify({ adapter, names: await adapterNames() }));
    } catch (error) {
      console.log(JSON.stringify({ adapter: "Dawn fails: " + error.message, names: [] }));
    }
    process.exit(0);`;
  try {
    const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", script], {
      timeout: 30_000,
      cwd: fileURLToPath(new URL(".", import.meta.url)),
    });
    const found = JSON.parse(stdout.trim().split("\n").at(-1)!) as {
      adapter: AdapterInfo | string | null;
      names: string[];
    };
    return { adapter: found.adapter ?? noAdapter(), names: found.names };
  } catch (error) {
    const stderr = (error as { stderr?: string }).stderr ?? "";
    return { adapter: `Dawn fails: ${firstLine(stderr || error)}`, names: [] };
  }
}

function noAdapter(): string {
  const needed = "on Linux it needs a Vulkan driver and its loader, libvulkan.so.1";
  return `no graphics adapter${process.platform === "linux" ? `; ${needed}` : ""}`;
}

/** CUDA where TensorFlow finds it: beside it in the cache, or installed on the system. */
async function cudaLibraries(): Promise<string> {
  if (await isInstalled("tensorflow-gpu")) {
    const { libraries } = await findTensorflow("tensorflow-gpu");
    const nvidia = `${libraries}/../nvidia`;
    if (existsSync(nvidia)) return `${readdirSync(nvidia).length} packages beside libtensorflow`;
  }
  const { stdout } = await run("ldconfig", ["-p"]).catch(() => ({ stdout: "" }));
  const found = ["libcudart", "libcublas", "libcudnn"].flatMap((name) => {
    const file = new RegExp(`${name}\\.so\\.\\d+`).exec(stdout)?.[0];
    return file === undefined ? [] : [file];
  });
  return found.length > 0 ? `of the system: ${found.join(", ")}` : "none";
}

/** What `useEngine()` chooses here, and why. */
async function choose(engines: readonly EngineState[]): Promise<Survey["chosen"]> {
  const fromEnvironment = process.env.FIRSTFRAME_ENGINE;
  if (isEngineName(fromEnvironment)) return { name: fromEnvironment, reason: "FIRSTFRAME_ENGINE names it" };
  const ready = (name: EngineName) => engines.some((engine) => engine.name === name && engine.ready);
  const remembered = await rememberedEngine();
  if (remembered !== undefined && ready(remembered)) {
    return { name: remembered, reason: `\`firstframe engine use\` chose it (${configFile()})` };
  }
  const best = (["tensorflow-gpu", "tensorflow"] as const).find(ready);
  return best === undefined
    ? { name: "wasm", reason: "nothing faster is installed" }
    : { name: best, reason: "the fastest that is installed" };
}

function advise(
  engines: readonly EngineState[],
  chosen: EngineName,
  gpus: string[],
  adapter: AdapterInfo | string,
): string[] {
  const ready = (name: EngineName) => engines.some((engine) => engine.name === name && engine.ready);
  const advice: string[] = [];
  const recommended = recommendedEngine();
  if (!ready(recommended)) advice.push(`firstframe engine install ${recommended}`);
  else if (chosen !== recommended && gpus.length > 0) advice.push(`firstframe engine use ${recommended}`);
  if (engines.some(({ name, fused }) => name === chosen && fused === false)) {
    advice.push(`firstframe engine install ${chosen}    # compiles the fused operations`);
  }
  const hardware = typeof adapter !== "string" && !adapter.isFallbackAdapter;
  if (hardware && gpus.length === 0 && chosen !== "webgpu") {
    advice.push("firstframe engine use webgpu    # computes on the graphics card");
  }
  return advice;
}
