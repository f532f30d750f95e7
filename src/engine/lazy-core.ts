import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/**
 * tfjs-core for modules that make tensors only on request: programs with an engine have loaded it already, and those that
 * only read a clip don't wait for it.
 */
export function tfjs(): typeof import("@tensorflow/tfjs-core") {
  return require("@tensorflow/tfjs-core") as typeof import("@tensorflow/tfjs-core");
}
