import { createRequire } from "node:module";
import { EngineError, firstLine } from "../errors.js";
import type { Running } from "../running.js";
import * as tf from "../tf.js";
import { waitForDawn, watchDawn } from "./dawn-ticks.js";

/** The parts of WebGPU's objects that are used here (the `webgpu` package types them with the DOM's globals). */
interface Gpu {
  requestAdapter(options?: {
    powerPreference?: string;
    forceFallbackAdapter?: boolean;
  }): Promise<Adapter | null>;
}

interface Adapter {
  readonly info: AdapterInfo;
  readonly features: ReadonlySet<string>;
  readonly limits: Readonly<Record<string, number>>;
  requestDevice(descriptor: object): Promise<{ destroy(): void }>;
}

export interface AdapterInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** True if the adapter is software on the processor, such as SwiftShader. */
  readonly isFallbackAdapter: boolean;
}

/** The parts of TensorFlow.js's backend that reading needs. */
interface Backend extends tf.KernelBackend {
  readonly tensorMap: { get(dataId: object): TensorData };
  readonly bufferManager: {
    acquireBuffer(size: number, usage: number): Buffer;
    releaseBuffer(buffer: Buffer): void;
  };
  commandEncoder: {
    copyBufferToBuffer(from: Buffer, fromOffset: number, to: Buffer, toOffset: number, size: number): void;
  };
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  submitQueue(): void;
  convertAndCacheOnCPU(dataId: object, values: tf.BackendValues): tf.BackendValues;
  readSync(dataId: object): tf.BackendValues;
}

interface TensorData {
  readonly dtype: tf.DataType;
  /** The values, if they are on the processor. */
  readonly values: tf.BackendValues | null;
  /** Where they are, if on the device. */
  readonly resource: Buffer;
}

interface Buffer {
  readonly size: number;
  readonly mapState: "unmapped" | "pending" | "mapped";
  mapAsync(mode: number): Promise<void>;
  getMappedRange(): ArrayBuffer;
  unmap(): void;
}

/** WebGPU's constants for a buffer's usage, and for mapping it to be read. */
const COPY_DST = 0x8;
const MAP_READ = 0x1;
const MODE_READ = 0x1;

/** The limits that TensorFlow.js's kernels benefit from: all that the adapter offers is requested. */
const limits = [
  "maxComputeWorkgroupStorageSize",
  "maxComputeWorkgroupsPerDimension",
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxComputeWorkgroupSizeX",
  "maxComputeInvocationsPerWorkgroup",
] as const;

let started: Promise<Running> | undefined;

/**
 * TensorFlow.js's WebGPU backend on Dawn: runs on Vulkan, Metal and Direct3D 12.
 *
 * @param log is called with a line if the only adapter is software on the processor.
 * @throws EngineError when Dawn does not load or finds no adapter.
 */
export async function startWebgpu(log: (line: string) => void): Promise<Running> {
  started ??= register(log);
  try {
    const running = await started;
    await tf.setBackend("webgpu");
    return running;
  } catch (error) {
    started = undefined;
    throw error;
  }
}

/** The adapter that {@link startWebgpu} would use, or undefined if Dawn finds none. */
export async function findAdapter(): Promise<Adapter | undefined> {
  const gpu = await openDawn();
  return (await gpu.requestAdapter({ powerPreference: "high-performance" })) ?? undefined;
}

/** The names of all adapters that Dawn sees here. It lists them in its error when asked for one that does not exist. */
export async function adapterNames(): Promise<string[]> {
  const { create } = await import("webgpu");
  try {
    await create(["adapter=\u0001"]).requestAdapter();
    return [];
  } catch (error) {
    return [...new Set([...String(error).matchAll(/ name: '(.+)'$/gm)].map(([, name]) => name!))];
  }
}

/** What to call an adapter. */
export function adapterName(info: AdapterInfo): string {
  const { vendor, architecture, device, description, isFallbackAdapter } = info;
  const name = [...new Set([vendor, architecture, description || device].filter(Boolean))].join(" ");
  return isFallbackAdapter ? `${name} (the processor plays the graphics card)` : name;
}

/** What a project that uses this package installs for WebGPU: optional, since it takes 150 MB. */
const command = "npm install webgpu@0.6.2 @tensorflow/tfjs-backend-webgpu@4.22.0";

function isMissing(error: unknown): boolean {
  return ["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"].includes((error as NodeJS.ErrnoException).code ?? "");
}

let dawn: Gpu | undefined;

async function openDawn(): Promise<Gpu> {
  if (dawn !== undefined) return dawn;
  try {
    createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-webgpu");
    const { create, globals } = await import("webgpu");
    // TensorFlow.js reads GPUBufferUsage and the like from the global scope.
    for (const [name, value] of Object.entries(globals)) {
      if (!(name in globalThis))
        Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
    watchDawn();
    dawn = create([]) as unknown as Gpu;
    return dawn;
  } catch (error) {
    if (isMissing(error))
      throw new EngineError("it is not installed", { subject: "webgpu", hint: `run \`${command}\`` });
    throw new EngineError(`Dawn does not load on this system (${firstLine(error)})`, { subject: "webgpu" });
  }
}

async function register(log: (line: string) => void): Promise<Running> {
  const adapter = await findAdapter();
  if (adapter === undefined) {
    throw new EngineError("no graphics adapter is found", {
      subject: "webgpu",
      hint: "on Linux it needs a Vulkan driver and its loader, libvulkan.so.1",
    });
  }
  const device = await adapter.requestDevice({
    requiredFeatures: adapter.features.has("timestamp-query") ? ["timestamp-query"] : [],
    requiredLimits: Object.fromEntries(limits.map((name) => [name, adapter.limits[name]])),
  });
  const require = createRequire(import.meta.url);
  const { WebGPUBackend } = require("@tensorflow/tfjs-backend-webgpu") as {
    WebGPUBackend: new (device: object, info: AdapterInfo) => Backend;
  };
  const backend = withNavigator(() => new WebGPUBackend(device, adapter.info));
  // Outside a browser it would ask for an OffscreenCanvas.
  const readSync = backend.readSync.bind(backend);
  backend.readSync = (dataId) => {
    const { values, dtype } = backend.tensorMap.get(dataId);
    if (values != null || dtype === "string" || dtype === "complex64") return readSync(dataId);
    return readNow(backend, dataId);
  };
  tf.registerBackend("webgpu", () => backend, 2);
  // A driver whose threads are still computing while the process exits can crash it.
  process.once("exit", () => {
    awaitDevice(backend);
    device.destroy();
  });
  const { version } = require("webgpu/package.json") as { version: string };
  const name = adapterName(adapter.info);
  if (adapter.info.isFallbackAdapter) {
    log(`firstframe: webgpu: there is no graphics card, only ${name}; wasm is faster`);
  }
  return {
    backend: "webgpu",
    device: name,
    version: `Dawn (webgpu ${version})`,
    threads: 1,
    bfloat16: null,
  };
}

/** Copies a tensor from the device and waits for it. */
function readNow(backend: Backend, dataId: object): tf.BackendValues {
  const { resource, dtype } = backend.tensorMap.get(dataId);
  const staging = backend.bufferManager.acquireBuffer(resource.size, COPY_DST | MAP_READ);
  backend.ensureCommandEncoderReady();
  backend.endComputePassEncoder();
  backend.commandEncoder.copyBufferToBuffer(resource, 0, staging, 0, resource.size);
  backend.submitQueue();
  if (!mapNow(staging)) {
    throw new EngineError("the device gives no values back", {
      subject: "webgpu",
      hint: "it may be lost, start a new process",
    });
  }
  const bytes = staging.getMappedRange().slice(0);
  staging.unmap();
  backend.bufferManager.releaseBuffer(staging);
  const values = tf.util.convertBackendValuesAndArrayBuffer(bytes, dtype) as tf.BackendValues;
  return backend.convertAndCacheOnCPU(dataId, values);
}

/** Waits for a buffer, and so for all work submitted before. @returns whether it can now be read. */
function mapNow(buffer: Buffer): boolean {
  buffer.mapAsync(MODE_READ).catch(() => {});
  return waitForDawn(() => buffer.mapState !== "pending") && buffer.mapState === "mapped";
}

/** Returns once the device has finished all submitted work, or is lost. */
function awaitDevice(backend: Backend): void {
  backend.ensureCommandEncoderReady();
  backend.endComputePassEncoder();
  backend.submitQueue();
  mapNow(backend.bufferManager.acquireBuffer(4, COPY_DST | MAP_READ));
}

/** The backend's constructor looks for `navigator.gpu`, but other libraries take a navigator as the sign of a browser. */
function withNavigator<T>(work: () => T): T {
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: { gpu: dawn }, configurable: true });
  try {
    return work();
  } finally {
    if (before === undefined) Reflect.deleteProperty(globalThis, "navigator");
    else Object.defineProperty(globalThis, "navigator", before);
  }
}
