import { cpus } from "node:os";
import type { Running } from "../running.js";
import * as tf from "../tf.js";
import { version } from "./register-cpu.js";

/** TensorFlow.js's JavaScript backend: slow, and the reference in tests. */
export async function startCpu(): Promise<Running> {
  await tf.setBackend("cpu");
  // Its first use would print an advertisement for tfjs-node.
  (tf.backend() as unknown as { firstUse: boolean }).firstUse = false;
  return {
    backend: "cpu",
    device: cpus()[0]?.model ?? "CPU",
    version: `tfjs-backend-cpu ${version}`,
    threads: 1,
    bfloat16: null,
  };
}
