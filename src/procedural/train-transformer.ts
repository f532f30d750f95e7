import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { CogVideoXDDIMScheduler } from "../diffusion/ddim.js";
import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import { RandomGenerator } from "../engine/random.js";
import { writeFileAtomic } from "../files/atomic.js";
import { CogVideoXTransformer3DModel } from "../models/transformer/transformer.js";
import { WORK_SPELLING } from "../train/arguments.js";
import { lockOutput } from "../train/output-lock.js";
import { T5PromptEncoder } from "../train/prompt-encoder.js";
import { JsonlTracker, stepValues } from "../train/trackers.js";
import { Trainer, type TrainerOptions } from "../train/trainer.js";
import type { Clip, Size } from "../video/clip.js";
import { filmStrip } from "../video/strip.js";
import { writeClip } from "../video/write.js";
import { proceduralClip } from "./clip.js";
import { DrawnClips } from "./drawn-clips.js";
import { type EvaluationReport, evaluateMotion } from "./evaluate.js";
import { MAX_SHARD_SIZE } from "./pipeline-training.js";
import type { WorldName } from "./scene.js";

export interface TrainTransformerOptions extends Size {
  /** The pipeline's folder. The new transformer is as large as the one in it. */
  readonly model: string;
  /** Where checkpoints, losses and pictures go. */
  readonly work: string;
  /** Of the held-out clips. */
  readonly world: WorldName;
  /** Clip i is of the world at place i, and on from the start when they end. */
  readonly worlds: readonly WorldName[];
  /** A transformer's folder to start from. Default: random weights. */
  readonly from?: string | undefined;
  readonly numFrames: number;
  readonly fps: number;
  readonly seed: number;
  readonly steps: number;
  /** Number of different clips before they repeat. */
  readonly clips: number;
  readonly batchSize: number;
  readonly learningRate: number;
  /** Constant for a training that is to be gone on from, `cosine` for one that ends. */
  readonly lrScheduler: NonNullable<TrainerOptions["lrScheduler"]>;
  readonly mixedPrecision: NonNullable<TrainerOptions["mixedPrecision"]>;
  /** Steps between evaluations of how held-out sprites move. */
  readonly evaluationSteps: number;
  readonly evaluationClips: number;
  readonly log: (line: string) => void;
}

/** Makes 0.3 of all draws the last timestep, pure noise, where only image and caption say what moves: 0.3 / 0.7 * 999. */
const LAST_TIMESTEP_MULTIPLIER = 428;

/** The same however long the training is, so that it may go on with more steps. */
const WARMUP_STEPS = 40;
/** How held-out clips are sampled at each look. Guidance 2 is what makes a small model obey its caption without flicker. */
const LOOKS = [
  { steps: 1, guidance: 1 },
  { steps: 10, guidance: 1 },
  { steps: 10, guidance: 2 },
];
/** Steps that a logged loss is the mean of. */
const LOG_EVERY = 25;

/**
 * Trains a small pipeline's transformer on procedural clips of a world, drawn as they are needed, and measures how held-out
 * sprites move. Resumes from the newest checkpoint in `work`. At each look and at the end, the weights' moving average (float16,
 * in files of {@link MAX_SHARD_SIZE} bytes at most) becomes the pipeline's transformer, and `motion.json` holds what
 * {@link evaluateMotion} found.
 */
export async function trainTransformer(options: TrainTransformerOptions): Promise<void> {
  const lock = await lockOutput(options.work, options.log);
  try {
    await trainInOwnFolder(options);
  } finally {
    lock.release();
  }
}

async function trainInOwnFolder(options: TrainTransformerOptions): Promise<void> {
  const { model, work, world, worlds, from, seed, steps, numFrames, height, width, fps, log } = options;
  await mkdir(work, { recursive: true });
  const pipeline = await CogVideoXImageToVideoPipeline.fromPretrained(model);
  const { vae, tokenizer, textEncoder } = pipeline;
  const scheduler = await CogVideoXDDIMScheduler.fromPretrained(join(model, "scheduler"));
  const transformer = from
    ? await CogVideoXTransformer3DModel.fromPretrained(from)
    : CogVideoXTransformer3DModel.fromConfig(pipeline.transformer.config, new RandomGenerator(seed));
  pipeline.transformer.dispose();
  const promptEncoder = await T5PromptEncoder.open(model, transformer.config.max_text_seq_length, work);
  const data = new DrawnClips({
    count: options.clips,
    clip: (each) =>
      proceduralClip({ seed: each, world: worlds[each % worlds.length]!, numFrames, height, width, fps }),
    vae,
    promptEncoder,
    cacheDir: join(work, "clips"),
  });
  const trainer = await Trainer.create(
    { vae, transformer, scheduler },
    data,
    {
      trainingType: "sft",
      outputDir: work,
      resumeFromCheckpoint: "latest",
      seed,
      trainSteps: steps,
      batchSize: options.batchSize,
      optimizer: "muon",
      learningRate: options.learningRate,
      mixedPrecision: options.mixedPrecision,
      beta2: 0.99,
      lrScheduler: options.lrScheduler,
      lrWarmupSteps: WARMUP_STEPS,
      gradientCheckpointing: false,
      captionDropout: 0.1,
      timestepBiasStrategy: "later",
      timestepBiasPortion: 0.001,
      timestepBiasMultiplier: LAST_TIMESTEP_MULTIPLIER,
      useEma: true,
      emaDecay: 0.99,
      checkpointingSteps: Math.min(50, options.evaluationSteps),
      checkpointingLimit: 2,
      log,
    },
    { spelling: WORK_SPELLING },
  );
  const moving = new CogVideoXImageToVideoPipeline({ tokenizer, textEncoder, vae, transformer, scheduler });
  const look = async (step: number): Promise<void> => {
    const strip: Clip[] = [];
    const report = await trainer.withEma(() =>
      evaluateMotion(moving, {
        clips: options.evaluationClips,
        ...{ world, numFrames, height, width, fps },
        settings: LOOKS,
        onClip: (done, samples, truth) => {
          if (done <= 12) strip.push(truth, ...samples);
        },
      }),
    );
    await writeClip(join(work, `step-${step}.png`), filmStrip(strip, 6));
    const share = (value: number | null) => value?.toFixed(2) ?? "-";
    for (const { steps: count, guidance, sprites_left: left, direction, swap, psnr } of report.runs) {
      log(
        `step ${step}, sampled in ${count}, guidance ${guidance}: left at 1 s ${share(left["1"])}, at 2 s ${share(left["2"])}, direction ${share(direction)}, ` +
          `reversed ${share(swap)}, ${psnr.toFixed(2)} dB (through the VAE: left ${share(report.yardsticks.vae.sprites_left["1"])}, ${report.yardsticks.oracle_through_vae.psnr.toFixed(2)} dB)`,
      );
    }
    await store(report, step);
  };
  const store = async (report: EvaluationReport, step: number): Promise<void> => {
    await trainer.withEma(() =>
      transformer.savePretrained(join(model, "transformer"), {
        dtype: "float16",
        maxShardSize: MAX_SHARD_SIZE,
      }),
    );
    const settings = { world, worlds, seed, steps: step, numFrames, height, width, fps };
    await writeFileAtomic(
      join(model, "motion.json"),
      `${JSON.stringify({ settings, ...report }, null, 1)}\n`,
    );
  };
  const tracker = new JsonlTracker(join(work, "log.jsonl"));
  const started = performance.now();
  const losses: number[] = [];
  try {
    await tracker.start({}, trainer.step);
    for await (const report of trainer.steps()) {
      const { step, loss } = report;
      losses.push(loss);
      if (step % LOG_EVERY === 0) {
        const recent = losses.splice(0);
        const mean = recent.reduce((sum, value) => sum + value, 0) / recent.length;
        log(
          `step ${step}: loss ${mean.toFixed(4)}, ${((performance.now() - started) / 60000).toFixed(1)} min`,
        );
      }
      await tracker.log(stepValues(report, { numTrainTimesteps: scheduler.length }), step);
      if (step % options.evaluationSteps === 0 && step < steps) await look(step);
    }
    await look(steps);
    log(`${join(model, "transformer")}: the moving average of step ${steps}`);
  } finally {
    trainer.dispose();
    moving.dispose();
    await promptEncoder.dispose();
  }
}
