import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { inspect } from "node:util";
import { InputError } from "../engine/errors.js";
import { currentEngine } from "../engine/index.js";
import { RandomGenerator } from "../engine/random.js";
import { AutoencoderKLCogVideoX, type AutoencoderKLCogVideoXConfig } from "../models/vae/autoencoder.js";
import { listCheckpoints, readCheckpoint } from "../train/checkpoint.js";
import { MAX_SHARD_SIZE } from "./pipeline-training.js";
import { evaluateVae, measureScalingFactor, trainVae } from "./vae-training.js";

export interface SmallVaeOptions {
  readonly seed: number;
  /** The VAE of {@link SMALL_VAES}. */
  readonly ratio: SpatialRatio;
  /** A VAE's folder to begin with. Default: random weights. */
  readonly from?: string | undefined;
  readonly trainSteps: number;
  /** Steps at the start that see single images. */
  readonly imageSteps: number;
  /** Steps at the end in which the learning rate falls. */
  readonly decaySteps: number;
  /** Where checkpoints and losses are. */
  readonly work: string;
  /** The folder of the pipeline that the VAE is for. */
  readonly out: string;
  /** Skips training and takes the newest checkpoint as it is. */
  readonly exportOnly: boolean;
  readonly log: (line: string) => void;
}

const COMMON: Partial<AutoencoderKLCogVideoXConfig> = {
  layers_per_block: 1,
  norm_num_groups: 8,
  sample_height: 128,
  sample_width: 192,
  scaling_factor: 1,
  // The trainer always multiplies image latents by the factor; this makes the pipeline do the same.
  invert_scale_latents: false,
};

/** The small VAEs, by the pixels in height and width that become one latent pixel. */
export const SMALL_VAES: Readonly<
  Record<
    8 | 4,
    { config: Partial<AutoencoderKLCogVideoXConfig>; changeWeight: number; frameRates: readonly number[] }
  >
> = {
  8: {
    config: { ...COMMON, block_out_channels: [16, 32, 32, 48], latent_channels: 24 },
    changeWeight: 0,
    frameRates: [16],
  },
  // As many channels as CogVideoX's own, and trained at both rates that the tutorials use, to keep what moves.
  4: {
    config: {
      ...COMMON,
      down_block_types: Array<string>(3).fill("CogVideoXDownBlock3D"),
      up_block_types: Array<string>(3).fill("CogVideoXUpBlock3D"),
      block_out_channels: [24, 48, 64],
      latent_channels: 16,
    },
    changeWeight: 1,
    frameRates: [8, 16],
  },
};

export type SpatialRatio = keyof typeof SMALL_VAES;

/**
 * Makes small VAEs like that of notebooks/models/procedural, whose own command is in vae-training.json there.
 *
 * It resumes from the newest checkpoint in `work`. The learning rate stays constant until `decaySteps` before the end, so a run
 * stopped before then and resumed with more steps is the same as one with that many steps from the start. At the end it measures
 * held-out clips, sets the scaling factor so that latents have variance 1, and writes the VAE (float16), its losses and these
 * figures into `out`.
 */
export async function trainSmallVae(options: SmallVaeOptions): Promise<void> {
  const { seed, ratio, from, trainSteps, imageSteps, decaySteps, work, out, exportOnly, log } = options;
  const { config, changeWeight, frameRates } = SMALL_VAES[ratio];
  const engine = currentEngine()!;
  log(`seed ${seed}, ${trainSteps} steps`);

  const started = performance.now();
  const recent: number[] = [];
  const training = trainVae({
    config,
    from,
    changeWeight,
    frameRates,
    outputDir: work,
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
  for await (const { step, mse, vae } of exportOnly ? [] : training) {
    recent.push(mse);
    if (step % 50 === 0) {
      const mean = recent.splice(0).reduce((sum, value) => sum + value, 0) / 50;
      log(
        `step ${step}: mean squared error ${mean.toFixed(5)}, ${((performance.now() - started) / 60000).toFixed(1)} min`,
      );
    }
    if (step % 100 === 0) {
      for (const fps of frameRates) {
        const quality = evaluateVae(vae, { clips: 4, numFrames: 17, height: 64, width: 96, fps });
        log(
          `step ${step}: held out at ${fps} fps ${quality.psnr.toFixed(2)} dB, SSIM ${quality.ssim.toFixed(3)}, ` +
            `change ${quality.change.toFixed(2)}, its slope ${quality.changeSlope.toFixed(2)}`,
        );
      }
    }
  }

  const newest = (await listCheckpoints(work)).at(-1);
  if (newest === undefined) throw new InputError("no checkpoint to export", { file: work });
  await readCheckpoint(newest);
  const folder = join(newest.path, "vae");
  const trained = await AutoencoderKLCogVideoX.fromPretrained(folder);
  const scalingFactor = measureScalingFactor(trained, {
    ...{ clips: 32, numFrames: 17, height: 64, width: 96 },
    fps: frameRates[0]!,
  });
  const scaled = AutoencoderKLCogVideoX.fromConfig(
    { ...config, scaling_factor: scalingFactor },
    new RandomGenerator(0),
  );
  await scaled.loadWeights(folder);
  await mkdir(out, { recursive: true });
  await scaled.savePretrained(join(out, "vae"), { dtype: "float16", maxShardSize: MAX_SHARD_SIZE });
  const stored = await AutoencoderKLCogVideoX.fromPretrained(join(out, "vae"));
  const sizes = [
    { clips: 16, numFrames: 17, height: 64, width: 96 },
    { clips: 8, numFrames: 81, height: 64, width: 96 },
    { clips: 8, numFrames: 17, height: 128, width: 192 },
  ];
  const measured = sizes.flatMap((size) =>
    frameRates.map((fps) => ({ ...size, fps, ...evaluateVae(stored, { ...size, fps }) })),
  );
  log(inspect(measured));
  const command =
    `firstframe procedural train-vae --ratio ${ratio} --seed ${seed} --steps ${trainSteps}` +
    ` --image-steps ${imageSteps} --decay-steps ${decaySteps}${from === undefined ? "" : ` --from ${from}`}`;
  const written = (await readFile(join(work, "log.jsonl"), "utf8")).trimEnd().split("\n");
  // A killed and resumed run has logged some steps twice; the later line counts.
  const byStep = new Map(
    written.map((line) => {
      const entry = JSON.parse(line) as { step: number; mse: number; kl: number };
      return [entry.step, entry] as const;
    }),
  );
  const losses = [...byStep.values()]
    .filter(({ step }) => step <= newest.step)
    .sort((a, b) => a.step - b.step);
  // Means over 25 steps: enough for a curve.
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
  await writeFile(join(out, "vae-training.json"), `${JSON.stringify(report, null, 1)}\n`);
}
