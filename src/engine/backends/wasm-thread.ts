/**
 * A thread of the WebAssembly backend: runs the worker script that comes with it, which is written for browsers and
 * CommonJS.
 */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { runInThisContext } from "node:vm";

const require = createRequire(import.meta.url);
const { wasmWorkerContents } =
  require("@tensorflow/tfjs-backend-wasm/wasm-out/tfjs-backend-wasm-threaded-simd.worker.js") as {
    wasmWorkerContents: string;
  };
// Its line feeds are inside string literals.
const script = wasmWorkerContents.replaceAll("\n", "\\n");
const start = runInThisContext(`(function (require, __filename) {${script}\n})`) as (
  require: NodeJS.Require,
  filename: string,
) => void;
start(require, fileURLToPath(import.meta.url));
