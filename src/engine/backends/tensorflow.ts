import { createRequire } from "node:module";
import { cpus } from "node:os";
import { join } from "node:path";
import util from "node:util";
import { type Binding, loadBinding, loadOperations, nodePackage } from "../binding.js";
import { threadCount } from "../environment.js";
import { EngineError } from "../errors.js";
import { nvidiaDevices } from "../hardware.js";
import { findTensorflow } from "../install.js";
import { registerNativeKernels } from "../native/kernels.js";
import { commonJsLoader, packageFolder } from "../npm-package.js";
import type { Running } from "../running.js";
import * as tf from "../tf.js";
import { castProducts, withCastProducts } from "./cast-products.js";
import type { NodeBackendClass } from "./node-backend.js";
import { registerReshapes, withSharedShapes } from "./shared-shapes.js";

type Name = "tensorflow" | "tensorflow-gpu";

let started: { name: Name; running: Running } | undefined;

/**
 * TensorFlow's C library under TensorFlow.js's own Node backend. The backend's classes are loaded one by one, not
 * through the package's index, which would look for a binding beside it, and with the tfjs-core of this package.
 *
 * @param log is called with one line if the fused operations are damaged, so that it computes without them.
 * @throws EngineError when libtensorflow isn't installed, its binding does not load, or the device that runs is not
 *   the one asked for.
 */
export async function startTensorflow(name: Name, log: (line: string) => void): Promise<Running> {
  if (started !== undefined && started.name !== name) {
    throw new EngineError(`this process already runs ${started.name}`, {
      subject: name,
      hint: "start a new one to change",
    });
  }
  if (started === undefined) {
    const library = await findTensorflow(name);
    const silent = process.env.TF_CPP_MIN_LOG_LEVEL === undefined;
    prepareEnvironment(name);
    const binding = loadBinding(library, silent);
    const running = register(name, binding, library.version);
    if (name === "tensorflow") {
      const { addon, fault } = await loadOperations(library);
      if (addon !== undefined) {
        registerNativeKernels(addon);
        running.bfloat16 = addon.bfloat16 || null;
        running.version += " with fused operations";
      } else if (fault.damaged) {
        const command = `firstframe engine install ${name}`;
        log(`firstframe: ${name}: ${fault.reason}; it computes without; run \`${command}\``);
      }
    }
    started = { name, running };
  }
  await tf.setBackend("tensorflow");
  return started.running;
}

/** All of this is read once, when the library loads. What the user has set wins. */
function prepareEnvironment(name: Name): void {
  const threads = String(threadCount());
  process.env.TF_CPP_MIN_LOG_LEVEL ??= "3";
  process.env.TF_NUM_INTRAOP_THREADS ??= threads;
  // Operations run one after another, so a second pool would only compete with the first.
  process.env.TF_NUM_INTEROP_THREADS ??= "1";
  if (name === "tensorflow") process.env.CUDA_VISIBLE_DEVICES = "-1";
  else {
    process.env.TF_FORCE_GPU_ALLOW_GROWTH ??= "true";
    // TensorFlow would round float32 factors to TF32's ten bits; PyTorch's products don't unless they are told to.
    process.env.NVIDIA_TF32_OVERRIDE ??= "0";
  }
}

/** What CUDA's libraries make of float32. @param setting NVIDIA_TF32_OVERRIDE, which all of them read. */
export const describeTf32 = (setting: string | undefined): string =>
  setting === "0" ? "TF32 off" : "TF32 on";

function register(name: Name, binding: Binding, installed: string | undefined): Running {
  // tfjs-node 4.22 calls two functions that Node 22 warns about and that are partly gone in Node 23 and 24.
  const legacy = util as unknown as Record<string, unknown>;
  legacy.isNullOrUndefined = (value: unknown) => value === null || value === undefined;
  legacy.isArray = Array.isArray;

  const gpu = binding.isUsingGpuDevice();
  if (gpu !== (name === "tensorflow-gpu")) {
    throw new EngineError(
      gpu
        ? "libtensorflow took a GPU although the CPU was asked for"
        : "libtensorflow finds no CUDA device it can use",
      {
        subject: name,
        hint: gpu
          ? "choose tensorflow-gpu, or set CUDA_VISIBLE_DEVICES=-1"
          : "`firstframe doctor` says what is missing",
      },
    );
  }
  if (installed !== undefined && binding.TF_Version !== installed) {
    throw new EngineError(`expected libtensorflow ${installed}, but ${binding.TF_Version} was loaded`, {
      subject: name,
      hint: "run `firstframe engine install` again",
    });
  }
  const core = createRequire(import.meta.url)("@tensorflow/tfjs-core") as unknown;
  const load = commonJsLoader(join(packageFolder(nodePackage), "dist"), {
    "@tensorflow/tfjs": core,
    "@tensorflow/tfjs-core": core,
    // TensorBoard's summaries, which this package's own tracker writes.
    "./proto/api_pb": {},
  });
  const { NodeJSKernelBackend } = load("nodejs_kernel_backend.js") as {
    NodeJSKernelBackend: NodeBackendClass;
  };
  load("register_all_kernels.js");
  registerReshapes();
  const Backend = withCastProducts(withSharedShapes(NodeJSKernelBackend));
  const bfloat16 = gpu && process.env.FIRSTFRAME_BFLOAT16 !== "none";
  if (bfloat16) castProducts();
  tf.registerBackend("tensorflow", () => new Backend(binding, nodePackage), 3);
  return {
    backend: "tensorflow",
    device: gpu ? (nvidiaDevices()[0] ?? "CUDA GPU") : (cpus()[0]?.model ?? "CPU"),
    version: `libtensorflow ${binding.TF_Version}${gpu ? `, ${describeTf32(process.env.NVIDIA_TF32_OVERRIDE)}` : ""}`,
    threads: Number(process.env.TF_NUM_INTRAOP_THREADS),
    bfloat16: bfloat16 ? "cuda" : null,
  };
}
