import { createRequire } from "node:module";
import os, { cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import {
  BackendWasm,
  getThreadsCount,
  setThreadsCount,
  setWasmPaths,
  version_wasm as version,
} from "@tensorflow/tfjs-backend-wasm";
import { threadCount } from "../environment.js";
import { EngineError, firstLine } from "../errors.js";
import { registerWasmSums } from "../ops/wasm-sum.js";
import type { Running } from "../running.js";
import * as tf from "../tf.js";

/** An Emscripten module of the backend, with the bridge that the backend's constructor expects. */
interface WasmModule {
  cwrap(name: string, result: string | null, parameters: string[]): (...values: number[]) => number;
  tfjs: Record<string, (...values: number[]) => number>;
  PThread: { runningWorkers: { unref(): void }[] };
}

let started: Promise<Running> | undefined;

/** TensorFlow.js's WebAssembly backend: needs nothing but Node. */
export async function startWasm(): Promise<Running> {
  started ??= register();
  const running = await started;
  await tf.setBackend("wasm");
  return running;
}

async function register(): Promise<Running> {
  registerWasmSums();
  const { simd, threads } = wasmFeatures();
  if (simd && threads && threadCount() > 1) await registerThreaded();
  else setWasmPaths(join(folder(), "dist", "/"));
  try {
    if (!(await tf.setBackend("wasm"))) throw new Error("the backend does not start");
  } catch (error) {
    throw new EngineError(`this Node can't run the WebAssembly backend (${firstLine(error)})`, {
      subject: "wasm",
    });
  }
  return {
    backend: "wasm",
    device: cpus()[0]?.model ?? "CPU",
    version: `tfjs-backend-wasm ${version}${simd ? " with SIMD" : ""}`,
    threads: Math.max(1, getThreadsCountOrOne()),
    bfloat16: null,
  };
}

/**
 * The package has a threaded build but loads it only in browsers, because its loader passes the threads' script as a
 * Blob. Here the same build is loaded with scripts on disk.
 */
async function registerThreaded(): Promise<void> {
  const require = createRequire(import.meta.url);
  const script = join(folder(), "wasm-out", "tfjs-backend-wasm-threaded-simd.js");
  const factory = require(script) as (options: object) => Promise<WasmModule>;
  const thread = fileURLToPath(new URL("./wasm-thread.js", import.meta.url));
  const threads = Math.min(threadCount(), maxThreads);
  const wasm = await withCores(2 * threads, () =>
    keepingListeners(() =>
      withPlainWorkers(() =>
        factory({
          mainScriptUrlOrBlob: script,
          locateFile: (file: string) => (file.endsWith(".worker.js") ? thread : join(dirname(script), file)),
        }),
      ),
    ),
  );
  wasm.tfjs = {
    init: wasm.cwrap("init", null, []),
    initWithThreadsCount: wasm.cwrap("init_with_threads_count", null, ["number"]),
    getThreadsCount: wasm.cwrap("get_threads_count", "number", []),
    registerTensor: wasm.cwrap("register_tensor", null, ["number", "number", "number"]),
    disposeData: wasm.cwrap("dispose_data", null, ["number"]),
    dispose: wasm.cwrap("dispose", null, []),
  };
  setThreadsCount(threads);
  tf.removeBackend("wasm");
  const start = () => {
    const backend = new BackendWasm(wasm as never);
    // Idle threads must not keep the process alive.
    for (const thread of wasm.PThread.runningWorkers) thread.unref();
    return backend;
  };
  tf.registerBackend("wasm", start, 1);
}

/** The most that the backend itself allows. */
const maxThreads = 4;

/** For the sake of browsers, the build uses half of the cores that Node's `os` reports when it starts. */
async function withCores<T>(count: number, work: () => Promise<T>): Promise<T> {
  const before = os.cpus;
  os.cpus = () => Array.from({ length: count }, () => before()[0]!);
  try {
    return await work();
  } finally {
    os.cpus = before;
  }
}

/** Threads without the main thread's options (`--import`, `--eval`), in place of the global class that Emscripten uses. */
async function withPlainWorkers<T>(work: () => Promise<T>): Promise<T> {
  const before = Object.getOwnPropertyDescriptor(globalThis, "Worker");
  class PlainWorker extends Worker {
    constructor(file: string) {
      super(file, { execArgv: [] });
    }
  }
  Object.defineProperty(globalThis, "Worker", { get: () => PlainWorker, set: () => {}, configurable: true });
  try {
    return await work();
  } finally {
    if (before === undefined) Reflect.deleteProperty(globalThis, "Worker");
    else Object.defineProperty(globalThis, "Worker", before);
  }
}

/** Emscripten's start-up code takes over unhandled rejections and errors of the whole process; this undoes it. */
async function keepingListeners<T>(work: () => Promise<T>): Promise<T> {
  const events = ["uncaughtException", "unhandledRejection"] as const;
  const before = new Set(events.flatMap((event) => process.listeners(event as "uncaughtException")));
  const alive = setInterval(() => {}, 1000); // the threads are unreferenced before they have started
  try {
    return await work();
  } finally {
    clearInterval(alive);
    for (const event of events) {
      for (const listener of process.listeners(event as "uncaughtException")) {
        if (!before.has(listener)) process.removeListener(event, listener);
      }
    }
  }
}

function folder(): string {
  return dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm/package.json"));
}

function getThreadsCountOrOne(): number {
  try {
    return getThreadsCount();
  } catch {
    return 1; // the build without threads
  }
}

/** What this Node's WebAssembly can do, found by validating the smallest programs that use it. */
export function wasmFeatures(): { simd: boolean; threads: boolean } {
  const header = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
  const emptyType = [0x01, 0x04, 0x01, 0x60, 0x00, 0x00];
  const function0 = [0x03, 0x02, 0x01, 0x00];
  // i32.const 0; i8x16.splat; drop
  const simd = [
    ...header,
    ...emptyType,
    ...function0,
    0x0a,
    0x09,
    0x01,
    0x07,
    0x00,
    0x41,
    0x00,
    0xfd,
    0x0f,
    0x1a,
    0x0b,
  ];
  // a shared memory
  const threads = [...header, 0x05, 0x04, 0x01, 0x03, 0x01, 0x01];
  return {
    simd: WebAssembly.validate(new Uint8Array(simd)),
    threads: WebAssembly.validate(new Uint8Array(threads)),
  };
}
