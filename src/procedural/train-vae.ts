/**
 * Makes small VAEs like that of notebooks/models/procedural, whose own command is in vae-training.json there:
 *
 *     node dist/src/procedural/train-vae.js --seed 0 --steps 600 --work out/small-vae --out notebooks/models/procedural
 *
 * It goes on from the newest checkpoint in `--work`; with `--export` it takes that one as it is. The learning rate stays
 * the same until `--decay-steps` before the end, so a run that was stopped before then and goes on with more `--steps` is
 * the same run as one with so many from the start. At the end it measures held-out clips, sets the scaling factor so
 * that latents have variance 1, and writes the VAE (float16), its losses and these figures into `--out`.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { useEngine } from "../engine/index.js";
import { RandomGenerator } from "../engine/random.js";
import { AutoencoderKLCogVideoX, type AutoencoderKLCogVideoXConfig } from "../models/vae/autoencoder.js";
import { listCheckpoints, readCheckpoint } from "../train/checkpoint.js";
import { evaluateVae, measureScalingFactor, trainVae } from "./vae-training.js";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "0" },
    steps: { type: "string", default: "600" },
    "image-steps": { type: "string", default: "250" },
    "decay-steps": { type: "string", default: "250" },
    work: { type: "string", default: "out/small-vae" },
    out: { type: "string", default: "notebooks/models/procedural" },
    export: { type: "boolean", default: false },
  },
});
const seed = Number(values.seed);
const trainSteps = Number(values.steps);
const imageSteps = Number(values["image-steps"]);
const decaySteps = Number(values["decay-steps"]);
const config: Partial<AutoencoderKLCogVideoXConfig> = {
  block_out_channels: [16, 32, 32, 48],
  latent_channels: 24,
  layers_per_block: 1,
  norm_num_groups: 8,
  sample_height: 128,
  sample_width: 192,
  scaling_factor: 1,
  // The trainer multiplies image latents by the factor whatever this says; so that the pipeline does the same:
  invert_scale_latents: false,
};
const engine = await useEngine();
console.log(`${engine.name} on ${engine.device}, seed ${seed}, ${trainSteps} steps`);

const started = performance.now();
const recent: number[] = [];
const training = trainVae({
  config,
  outputDir: values.work,
  seed,
  trainSteps,
  imageSteps,
  muonLearningRate: 0.02,
  learningRate: 2e-3,
  clipRate: 0.25,
  warmupSteps: 20,
  decaySteps,
  klWeight: 1e-5,
  checkpointingSteps: 50,
  cropSize: 64,
  batchSize: 2,
  imageBatchSize: 12,
});
for await (const { step, mse, vae } of values.export ? [] : training) {
  recent.push(mse);
  if (step % 50 === 0) {
    const mean = recent.splice(0).reduce((sum, value) => sum + value, 0) / 50;
    console.log(
      `step ${step}: mean squared error ${mean.toFixed(5)}, ${((performance.now() - started) / 60000).toFixed(1)} min`,
    );
  }
  if (step % 100 === 0) {
    const quality = evaluateVae(vae, { clips: 4, numFrames: 17, height: 64, width: 96 });
    console.log(`step ${step}: held out ${quality.psnr.toFixed(2)} dB, SSIM ${quality.ssim.toFixed(3)}`);
  }
}

const newest = (await listCheckpoints(values.work)).at(-1);
if (newest === undefined) throw new Error(`${values.work}: no checkpoint to export`);
await readCheckpoint(newest);
const folder = join(newest.path, "vae");
const trained = await AutoencoderKLCogVideoX.fromPretrained(folder);
const scalingFactor = measureScalingFactor(trained, { clips: 32, numFrames: 17, height: 64, width: 96 });
const scaled = AutoencoderKLCogVideoX.fromConfig(
  { ...config, scaling_factor: scalingFactor },
  new RandomGenerator(0),
);
await scaled.loadWeights(folder);
await mkdir(values.out, { recursive: true });
await scaled.savePretrained(join(values.out, "vae"), { dtype: "float16" });
const stored = await AutoencoderKLCogVideoX.fromPretrained(join(values.out, "vae"));
const sizes = [
  { clips: 16, numFrames: 17, height: 64, width: 96 },
  { clips: 8, numFrames: 81, height: 64, width: 96 },
  { clips: 8, numFrames: 17, height: 128, width: 192 },
];
const measured = sizes.map((size) => ({ ...size, ...evaluateVae(stored, size) }));
console.log(measured);
const command =
  `node dist/src/procedural/train-vae.js --seed ${seed} --steps ${trainSteps}` +
  ` --image-steps ${imageSteps} --decay-steps ${decaySteps}`;
const log = (await readFile(join(values.work, "log.jsonl"), "utf8")).trimEnd().split("\n");
/** A run that was killed and resumed has logged some steps twice; the later line counts. */
const byStep = new Map(
  log.map((line) => {
    const entry = JSON.parse(line) as { step: number; mse: number; kl: number };
    return [entry.step, entry] as const;
  }),
);
const losses = [...byStep.values()].filter(({ step }) => step <= newest.step).sort((a, b) => a.step - b.step);
/** Means over 25 steps: enough for a curve. */
const curve = Array.from({ length: Math.floor(losses.length / 25) }, (_, i) => {
  const part = losses.slice(25 * i, 25 * i + 25);
  const mean = (key: "mse" | "kl") =>
    Number((part.reduce((sum, line) => sum + line[key], 0) / 25).toPrecision(5));
  return { step: part.at(-1)!.step, mse: mean("mse"), kl: mean("kl") };
});
const report = {
  command,
  steps_taken: newest.step,
  image_steps: imageSteps,
  seed,
  engine: engine.name,
  held_out: measured,
  curve,
};
await writeFile(join(values.out, "vae-training.json"), `${JSON.stringify(report, null, 1)}\n`);
