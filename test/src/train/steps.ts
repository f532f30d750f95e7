/** Trains for some steps and says what tensors there are after each: `node steps.js ENGINE sft|lora STEPS`. */
import { type EngineName, useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import { Trainer } from "../../../src/train/trainer.js";
import { tinyData, tinyModels } from "./tiny.js";

const [name, trainingType, steps] = process.argv.slice(2) as [EngineName, "sft" | "lora", string];
const engine = await useEngine(name);
const models = tinyModels();
const data = await tinyData(models.vae);
const trainer = await Trainer.create(models, data, {
  trainingType,
  seed: 3,
  learningRate: 1e-3,
  lrWarmupSteps: 2,
  batchSize: 1,
  gradientCheckpointing: false,
  trainSteps: Number(steps),
});
const counts: { tensors: number; bytes: number }[] = [];
/** Megabytes of the process after every hundredth step. */
const resident: number[] = [];
await trainer.train({
  onStep: ({ step }) => {
    const { numTensors: tensors, numBytes: bytes } = tf.memory();
    counts.push({ tensors, bytes });
    if (step % 100 === 0) resident.push(Math.round(process.memoryUsage.rss() / 1e6));
  },
});
console.log(JSON.stringify({ engine: engine.name, device: engine.device, resident, counts }));
process.exit(0);
