/** Which engine is running. Operations and backends both import this; it imports neither. */

/** What multiplies bfloat16 factors: a processor's instructions, by Linux's names, or CUDA's libraries. */
export type Bfloat16Instructions = "amx" | "avx512_bf16" | "cuda";

/** What a backend says about itself once it runs. */
export interface Running {
  /** TensorFlow.js's name of the backend. */
  backend: string;
  /** The device that computes. */
  device: string;
  /** The library that computes, and its version. */
  version: string;
  threads: number;
  /** What multiplies bfloat16 factors; null if nothing does, so that they are multiplied in float32. */
  bfloat16: Bfloat16Instructions | null;
}

/** What it means to compute in bfloat16 on an engine. */
export const describeBfloat16 = ({ bfloat16 }: Pick<Running, "bfloat16">): string =>
  bfloat16
    ? `products of bfloat16 factors (${bfloat16}), sums in float32`
    : "computed in float32, since this engine has no instructions for bfloat16 here";

/** The engines, the fastest first. */
export const engineNames = ["tensorflow-gpu", "tensorflow", "webgpu", "wasm", "cpu"] as const;

/** An engine's name, as {@link useEngine}, FIRSTFRAME_ENGINE and `firstframe engine use` take it. */
export type EngineName = (typeof engineNames)[number];

/** The running engine: its name, the device that computes, and the library that does it. */
export interface Engine extends Readonly<Running> {
  readonly name: EngineName;
}

let running: Engine | undefined;

/** The engine that `useEngine` started last; undefined before. */
export function currentEngine(): Engine | undefined {
  return running;
}

/** Records which engine runs from now on. */
export function setCurrentEngine(engine: Engine): Engine {
  running = engine;
  return engine;
}
