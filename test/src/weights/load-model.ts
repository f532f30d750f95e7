/** Loads a transformer's folder and says what that took: `node load-model.js FOLDER`. Memory is in bytes. */
import { readFileSync } from "node:fs";
import { useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";

function memory(field: "VmRSS" | "VmHWM"): number {
  const status = readFileSync("/proc/self/status", "utf8");
  return 1024 * Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(status)![1]);
}

const { name } = await useEngine();
const before = memory("VmRSS");
const model = await CogVideoXTransformer3DModel.fromPretrained(process.argv[2]!);
const peak = memory("VmHWM");
const sizes = [...model.parameters.values()].map(({ size }) => 4 * size);
// A weight of the first and one of the last shard, to see that what was read is what was written.
const sums = ["patch_embed.proj.weight", "proj_out.weight"].map((key) =>
  tf.tidy(() => tf.sum(tf.cast(model.parameters.get(key)!.value, "float32")).dataSync()[0]!),
);
console.log(JSON.stringify({ engine: name, before, peak, float32: sizes.reduce((a, b) => a + b, 0), sums }));
