/**
 * The engine: which library computes, on which device.
 *
 * ```ts
 * import { useEngine } from "firstframe";
 * const engine = await useEngine(); // before the first tensor
 * console.log(engine.name, engine.device, engine.version, engine.threads);
 * ```
 *
 * `useEngine()` takes the engine that FIRSTFRAME_ENGINE names, else the one `firstframe engine use` stored, else the best
 * one installed; `useEngine("wasm")` insists on one. Engines are "tensorflow-gpu", "tensorflow", "webgpu", "wasm"
 * and "cpu". Files of this package import TensorFlow.js as `import * as tf from "./tf.js"`, and nothing else of it.
 *
 * `installTensorflow(name)` is what `firstframe engine install` runs. If you start a process that computes, give it
 * `{ ...process.env, ...mallocEnvironment() }`.
 */

export type { Library } from "./binding.js";
export { cacheDirectory } from "./cache.js";
export type { OnProgress } from "./download.js";
export {
  isEngineName,
  rememberEngine,
  rememberedEngine,
  type UseEngineOptions,
  useEngine,
} from "./engine.js";
export { mallocEnvironment } from "./environment.js";
export { EngineError, type ErrorDetails, type ErrorKind, FirstframeError, InputError } from "./errors.js";
export type { Tensorflow } from "./install.js";
export {
  findTensorflow,
  type InstallOptions,
  installTensorflow,
  isInstalled,
  type TensorflowName,
} from "./install.js";
export type { HeldKernel, HeldWeight } from "./ops/linear/held.js";
export type { Int8Weight } from "./ops/linear/int8.js";
export type { Affine, Weight } from "./ops/linear/linear.js";
export type { Precision } from "./precision.js";
export { Generator, type GeneratorState, RandomGenerator } from "./random.js";
export type { Bfloat16Instructions, Running } from "./running.js";
export { currentEngine, type Engine, type EngineName, engineNames } from "./running.js";
