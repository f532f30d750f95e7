import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/**
 * tfjs-core for rooms that make a tensor only when asked: whoever has an engine has loaded it, and others, who only read a clip,
 * don't wait for it.
 */
export function tfjs(): typeof import("@tensorflow/tfjs-core") {
  return require("@tensorflow/tfjs-core") as typeof import("@tensorflow/tfjs-core");
}
