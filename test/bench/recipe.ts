/**
 * Measures the two halves of CogVideoX's image-to-video recipe on procedural clips, several seeds each:
 *
 *     node dist/test/bench/recipe.js [--seeds 0,1,2] [--steps 150] [--out notebooks/models/procedural/recipe-measured.json]
 *
 * 1. Noise on the conditioning image: trained with and without it, given clean and noisy images.
 * 2. The first frame's copy in the loss: trained with and without it.
 *
 * Each training goes on from the stored small transformer, which the recipe trained, in the ways compared. A seed's
 * trainings see the same clips in the same order under the same draws, and all are measured on the same held-out clips
 * with the same draws. Each one that is done is written to `--out`; a run that was stopped goes on behind the last there.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { CogVideoXDDIMScheduler } from "../../src/diffusion/ddim.js";
import { useEngine } from "../../src/engine/index.js";
import { RandomGenerator } from "../../src/engine/random.js";
import * as tf from "../../src/engine/tf.js";
import { writeFileAtomic } from "../../src/files/atomic.js";
import { T5EncoderModel } from "../../src/models/text/t5-encoder.js";
import { T5Tokenizer } from "../../src/models/text/tokenizer.js";
import { CogVideoXTransformer3DModel } from "../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../src/models/vae/autoencoder.js";
import { proceduralClip } from "../../src/procedural/clip.js";
import { HELD_OUT_SEED } from "../../src/procedural/vae-training.js";
import { addImageNoise, imageNoiseSigma } from "../../src/recipe/image-noise.js";
import { computeLoss, disposeLossInputs, drawLoss, prepareLoss } from "../../src/recipe/loss.js";
import { collate, MemoryData } from "../../src/train/data.js";
import { firstFrameFidelity } from "../../src/train/metrics.js";
import { Trainer } from "../../src/train/trainer.js";
import { repeatFirstFrame, type ValidationSample, validate } from "../../src/train/validation.js";
import { Clip } from "../../src/video/clip.js";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "notebooks/models/procedural" },
    out: { type: "string", default: "notebooks/models/procedural/recipe-measured.json" },
    seeds: { type: "string", default: "0,1,2" },
    steps: { type: "string", default: "150" },
    clips: { type: "string", default: "128" },
    "held-out": { type: "string", default: "8" },
  },
});
const seeds = values.seeds.split(",").map(Number);
const [trainSteps, numClips, numHeldOut] = [values.steps, values.clips, values["held-out"]].map(Number) as [
  number,
  number,
  number,
];
const SCENE = { numFrames: 17, height: 64, width: 96, fps: 8 } as const;
const SAMPLING_STEPS = 1;
/** Rounds of draws that the held-out loss is a mean over. */
const ROUNDS = 8;
const OPTIONS = {
  trainingType: "sft",
  trainSteps,
  batchSize: 8,
  optimizer: "muon",
  learningRate: 5e-4,
  beta2: 0.99,
  lrScheduler: "cosine",
  lrWarmupSteps: 5,
  gradientCheckpointing: false,
} as const;
/** Standard normal draws that make the images' noise, by name: none, training's median, two and four sd above. */
const IMAGES = { clean: null, noisy: 0, "very noisy": 2, "beyond training": 4 } as const;
const TRAININGS = {
  recipe: {},
  "without image noise": { imageNoise: false },
  "without the copy in the loss": { paddingInLoss: false },
} as const;
type ImageKind = keyof typeof IMAGES;

interface Figures {
  /** Held-out loss of the real frames. */
  readonly loss: number;
  /** The same of the first frame's copy. */
  readonly lossOfCopy: number;
  /** Of the sampled frames after the first, in dB. */
  readonly psnr: number;
  readonly ssim: number;
  /** Of the sampled first frame, against the clean one. */
  readonly firstFramePsnr: number;
}
type ByImage = Readonly<Record<ImageKind, Figures>>;

interface Trained {
  readonly training: keyof typeof TRAININGS;
  readonly seed: number;
  /** With clean images. */
  readonly loss: number;
  readonly sampled: ByImage;
}

interface Report {
  readonly command: string;
  readonly settings: object;
  /** "The first frame, repeated" on the same clips. */
  readonly repeatFirstFrame: { readonly psnr: number; readonly ssim: number };
  /** The transformer that all go on from. */
  readonly start: ByImage;
  readonly trained: Trained[];
}

const engine = await useEngine();
console.log(`${engine.name} on ${engine.device}`);
const vae = await AutoencoderKLCogVideoX.fromPretrained(join(values.model, "vae"));
const scheduler = await CogVideoXDDIMScheduler.fromPretrained(join(values.model, "scheduler"));
const tokenizer = await T5Tokenizer.fromPretrained(join(values.model, "tokenizer"));
const textEncoder = await T5EncoderModel.fromPretrained(join(values.model, "text_encoder"));
const loadTransformer = () => CogVideoXTransformer3DModel.fromPretrained(join(values.model, "transformer"));
const started = await loadTransformer();
const maxLength = started.config.max_text_seq_length;
const encodePrompt = (prompt: string): tf.Tensor2D => {
  const { inputIds } = tokenizer.encode(prompt, { maxLength });
  return tf.tidy(() => tf.squeeze(textEncoder.forward({ inputIds }).lastHiddenState, [0]));
};
const clips = (firstSeed: number, count: number) =>
  Array.from({ length: count }, (_, i) => proceduralClip({ ...SCENE, seed: firstSeed + i }));

const heldOutClips = clips(HELD_OUT_SEED, numHeldOut);
const data = await MemoryData.fromClips(clips(0, numClips), {
  vae,
  encodePrompt,
  generator: new RandomGenerator(1),
});
const heldOut = await MemoryData.fromClips(heldOutClips, {
  vae,
  encodePrompt,
  generator: new RandomGenerator(2),
});

const settings = {
  scene: SCENE,
  clips: numClips,
  held_out: numHeldOut,
  sampling_steps: SAMPLING_STEPS,
  image_sigma: Object.fromEntries(
    Object.entries(IMAGES).map(([kind, z]) => [kind, z === null ? 0 : imageNoiseSigma(z)]),
  ),
  training: OPTIONS,
};
const repeated = heldOutClips.map(({ clip }) => repeatFirstFrame(clip));
const report: Report = (await readReport(values.out, settings)) ?? {
  command: `node dist/test/bench/recipe.js --seeds ${values.seeds} --steps ${values.steps}`,
  settings,
  repeatFirstFrame: {
    psnr: mean(repeated.map(({ psnr }) => psnr)),
    ssim: mean(repeated.map(({ ssim }) => ssim)),
  },
  start: await measure(started),
  trained: [],
};
for (const seed of seeds) {
  for (const [training, changed] of Object.entries(TRAININGS) as [keyof typeof TRAININGS, object][]) {
    if (report.trained.some((done) => done.seed === seed && done.training === training)) continue;
    const began = performance.now();
    const transformer = await loadTransformer();
    const trainer = await Trainer.create({ vae, transformer, scheduler }, data, {
      ...OPTIONS,
      ...changed,
      seed,
    });
    await trainer.train();
    trainer.dispose();
    const sampled = await measure(transformer);
    transformer.dispose();
    report.trained.push({ training, seed, loss: sampled.clean.loss, sampled });
    await writeFileAtomic(values.out, `${JSON.stringify(report, null, 1)}\n`);
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    const figures = Object.entries(sampled).map(
      ([kind, { loss, psnr }]) => `${kind} ${loss.toFixed(4)}, ${psnr.toFixed(2)} dB`,
    );
    console.log(`seed ${seed}, ${training}: ${figures.join("; ")} (${seconds} s)`);
  }
}
printTables();

async function measure(transformer: CogVideoXTransformer3DModel): Promise<ByImage> {
  const given: Partial<Record<ImageKind, Figures>> = {};
  for (const [kind, z] of Object.entries(IMAGES) as [ImageKind, number | null][]) {
    given[kind] = { ...(await heldOutLoss(transformer, z)), ...(await sampledFrames(transformer, z)) };
  }
  return given as ByImage;
}

/** Samples continuations of first frames, under noise where `z` gives its level. */
async function sampledFrames(transformer: CogVideoXTransformer3DModel, z: number | null) {
  const samples = heldOutClips.map(({ clip, caption }, i) => sampleFrom(clip, caption, z, i));
  const { clips: made, metrics } = await validate(
    { vae, transformer, scheduler },
    samples,
    {
      numFrames: SCENE.numFrames,
      numInferenceSteps: SAMPLING_STEPS,
      guidanceScale: 1,
      seed: 0,
      fps: SCENE.fps,
    },
    trainSteps,
  );
  tf.dispose(samples.map(({ promptEmbeds }) => promptEmbeds));
  const firstFramePsnr = mean(made.map((clip, i) => firstFrameFidelity(clip, heldOutClips[i]!.clip)));
  return { psnr: metrics.psnr!, ssim: metrics.ssim!, firstFramePsnr };
}

/** A held-out clip with its first frame as the image, under noise of its own. */
function sampleFrom(clip: Clip, caption: string, z: number | null, index: number): ValidationSample {
  const promptEmbeds = tf.tidy(() => tf.expandDims(encodePrompt(caption), 0) as tf.Tensor3D);
  const still = clip.slice(0, 1);
  if (z === null) return { prompt: caption, image: still, reference: clip, promptEmbeds };
  const noisy = tf.tidy(() => {
    const pixels = still.toTensor();
    const noise = new RandomGenerator(1000 + index).randn<tf.Rank.R5>(pixels.shape);
    return tf.clipByValue(addImageNoise(pixels, { sigmaNormal: z, noise }).image, -1, 1);
  });
  const image = Clip.fromTensor(noisy, clip);
  noisy.dispose();
  return { prompt: caption, image, reference: clip, promptEmbeds };
}

/** The recipe's loss with images of one noise level, of the real frames and of the first one's copy. */
async function heldOutLoss(transformer: CogVideoXTransformer3DModel, z: number | null) {
  const models = { vae, transformer, scheduler };
  let [loss, lossOfCopy] = [0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    const batch = collate(
      await Promise.all(Array.from({ length: heldOut.length }, (_, i) => heldOut.load(i))),
    );
    const draws = drawLoss(new RandomGenerator(500 + round), batch, models);
    const inputs = prepareLoss(
      models,
      batch,
      { ...draws, imageNoiseSigmaNormal: z ?? 0 },
      { imageNoise: z !== null },
    );
    const errors = tf.tidy(() => {
      const { latentPred } = computeLoss(models, inputs, batch.promptEmbedding);
      const error = tf.square(tf.sub(latentPred, inputs.target));
      const weighted = tf.mul(error, tf.reshape(tf.tensor1d([...inputs.weights]), [-1, 1, 1, 1, 1]));
      return tf.mean(weighted, [0, 2, 3, 4]).dataSync();
    });
    lossOfCopy += mean([...errors.slice(0, inputs.copies)]) / ROUNDS;
    loss += mean([...errors.slice(inputs.copies)]) / ROUNDS;
    disposeLossInputs(inputs);
    tf.dispose([batch.encodedVideos, batch.promptEmbedding, batch.images]);
    tf.dispose([draws.imageNoise, draws.imagePosteriorNoise, draws.diffusionNoise]);
  }
  return { loss, lossOfCopy };
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
}

/** A report of the same settings, which is then continued. */
async function readReport(path: string, expected: object): Promise<Report | undefined> {
  const text = await readFile(path, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  const found = JSON.parse(text) as Report;
  return JSON.stringify(found.settings) === JSON.stringify(expected) ? found : undefined;
}

/** Means and standard deviations over the seeds, as Markdown: a figure a table, a kind of image a column. */
function printTables(): void {
  const kinds = Object.keys(IMAGES) as ImageKind[];
  const cell = (numbers: readonly number[]) => {
    const middle = mean(numbers);
    const spread = Math.sqrt(
      numbers.reduce((sum, value) => sum + (value - middle) ** 2, 0) / Math.max(1, numbers.length - 1),
    );
    return `${middle.toFixed(4)} ± ${spread.toFixed(4)}`;
  };
  for (const figure of ["loss", "lossOfCopy", "psnr", "ssim", "firstFramePsnr"] as const) {
    console.log(`\n| ${figure} | ${kinds.join(" | ")} |\n| --- | ${kinds.map(() => "---").join(" | ")} |`);
    const row = (name: string, runs: readonly ByImage[]) =>
      console.log(
        `| ${name} | ${kinds.map((kind) => cell(runs.map((run) => run[kind][figure]))).join(" | ")} |`,
      );
    row("before", [report.start]);
    for (const training of Object.keys(TRAININGS)) {
      const runs = report.trained.filter((run) => run.training === training);
      row(
        training,
        runs.map(({ sampled }) => sampled),
      );
    }
  }
}
