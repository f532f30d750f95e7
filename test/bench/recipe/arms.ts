/**
 * What is compared: three experiments, each with arms that differ from the recipe in one rule. What the article, its authors or others
 * say is written down before anything is trained.
 */
import type { TrainerOptions } from "../../../src/train/trainer.js";

/** How a model is trained and sampled. */
export interface Arm {
  /** What the arm is called in charts. */
  readonly label: string;
  /** What differs from the recipe. */
  readonly rules: Pick<
    TrainerOptions,
    | "imageNoise"
    | "imageNoiseDistribution"
    | "imageNoiseLogMean"
    | "imageNoiseLogStd"
    | "imageNoiseMax"
    | "imagePlace"
    | "padding"
    | "paddingInLoss"
  >;
  /** Latent frames in a patch of its transformer. Default 2, CogVideoX-1.5's. */
  readonly patchSizeT?: number;
}

/** By name; the first is what all others are compared with. */
export const ARMS = {
  recipe: { label: "the recipe", rules: {} },
  "noise-none": { label: "no noise", rules: { imageNoise: false } },
  "noise-strong": { label: "exp(N(-1, 0.5))", rules: { imageNoiseLogMean: -1 } },
  "noise-time": { label: "time-dependent", rules: { imageNoiseDistribution: "time_dependent" } },
  "copy-uncounted": { label: "copy not in the loss", rules: { paddingInLoss: false } },
  zeros: { label: "zeros in front, image at 1", rules: { padding: "zeros", imagePlace: "second" } },
  "copy-last": { label: "last frame copied, at the end", rules: { padding: "copy_last" } },
  "patch-1": { label: "patch_size_t 1", rules: {}, patchSizeT: 1 },
  "place-all": { label: "at all places", rules: { imagePlace: "all" } },
  "place-two": { label: "at 0 and 1", rules: { imagePlace: "first_two" } },
  "place-last": { label: "at the last", rules: { imagePlace: "last" } },
  "place-none": { label: "nowhere", rules: { imagePlace: "none" } },
} as const satisfies Record<string, Arm>;
export type ArmName = keyof typeof ARMS;
export const ARM_NAMES = Object.keys(ARMS) as ArmName[];
export const RECIPE: ArmName = "recipe";

export interface Experiment {
  readonly question: string;
  /** What the seed article claims, and what others say. */
  readonly claims: readonly string[];
  /** The arms but for the recipe, each with what is to be expected by those claims. */
  readonly predictions: Partial<Readonly<Record<ArmName, string>>>;
  /** Measures that the experiment is about, the most telling first. */
  readonly measures: readonly string[];
}

/** Images that are given instead of the clean one. */
export const CORRUPTIONS = {
  "sigma-0.05": "noise, sigma 0.05",
  "sigma-0.14": "noise, sigma 0.14",
  "sigma-0.37": "noise, sigma 0.37",
  jpeg: "JPEG, quality 10",
  blur: "blurred",
  small: "x4 down and up",
  box: "a box missing",
  drawn: "drawn by hand",
} as const;
export type Corruption = keyof typeof CORRUPTIONS;
export const CORRUPTION_NAMES = Object.keys(CORRUPTIONS) as Corruption[];
/** How often the last frame is taken back in as the image, the first time included. */
export const ROLLS = 4;

/** What is measured of each held-out clip, and in which direction it is better; neither where that is no question. */
export interface Measure {
  readonly label: string;
  readonly better?: "higher" | "lower";
  /** Digits behind the point that are kept. */
  readonly digits: number;
}

const corrupted = (of: (name: string) => Measure, prefix: string): [string, Measure][] =>
  CORRUPTION_NAMES.map((name) => [`${prefix}/${name}`, of(CORRUPTIONS[name])]);
const rolled = (of: (roll: number) => Measure, prefix: string): [string, Measure][] =>
  Array.from({ length: ROLLS - 1 }, (_, i) => [`${prefix}/${i + 2}`, of(i + 2)]);

export const MEASURES: Readonly<Record<string, Measure>> = {
  direction: { label: "goes the right way", better: "higher", digits: 0 },
  reversed: { label: "goes the other way when told", better: "higher", digits: 0 },
  left: { label: "of the sprite left after 1 s", better: "higher", digits: 2 },
  moved: { label: "of the true change made by the last frame", better: "higher", digits: 3 },
  psnr: { label: "PSNR of frames 1 to 8, dB", better: "higher", digits: 2 },
  first: { label: "PSNR of frame 0, dB", better: "higher", digits: 2 },
  seam: { label: "seam: step from frame 0 to 1 beyond the truth's, levels", digits: 2 },
  flicker: { label: "flicker of the background, levels", better: "lower", digits: 2 },
  copy: { label: "distance of latents 0 and 1, of their RMS", digits: 3 },
  ...Object.fromEntries([
    ...corrupted((name) => ({ label: `PSNR, ${name}, dB`, better: "higher", digits: 2 }), "psnr"),
    ...corrupted((name) => ({ label: `right way, ${name}`, better: "higher", digits: 0 }), "direction"),
    ...rolled((roll) => ({ label: `sprite left, roll ${roll}`, better: "higher", digits: 2 }), "left"),
    ...rolled((roll) => ({ label: `PSNR, roll ${roll}, dB`, better: "higher", digits: 2 }), "psnr"),
  ]),
};

export const EXPERIMENTS: Readonly<Record<"E1" | "E2" | "E3", Experiment>> = {
  E1: {
    question: "Noise on the conditioning image: robust, and less overfitted?",
    claims: [
      "The article: noise on the image makes the model robust and keeps it from overfitting.",
      "CogVideoX (arXiv 2408.06072): large noise on the image in training, for robustness.",
      "zai-org/CogVideo #551: noise adapts the model to other inputs and prevents overfitting; no measurement.",
      "arXiv 2406.15735: models copy the image where the video is nothing but noise; noise that rises with the timestep gives more motion.",
    ],
    predictions: {
      "noise-none": "better on clean images, worse on every other image, and worse by roll",
      "noise-strong": "better on very noisy images, frame 0 less faithful, more of the motion",
      "noise-time": "more of the motion than the recipe, frame 0 as faithful",
    },
    measures: [
      "first",
      "moved",
      "psnr",
      "direction",
      "left",
      ...Object.keys(MEASURES).filter((name) => name.includes("/")),
    ],
  },
  E2: {
    question: "The first frame's copy: consistent in time?",
    claims: [
      "The article: the copied first frame makes the start of the video consistent.",
      "zai-org/CogVideo #524: the copy is there so that the frames can be divided by the patch.",
      "zai-org/CogVideo #551: 21 or 22 frames in the loss are both fine.",
    ],
    predictions: {
      "copy-uncounted": "no difference (#551); latents 0 and 1 further apart",
      zeros: "a larger seam and a worse frame 0 (article); none (#524)",
      "copy-last": "a larger seam and a worse frame 0 (article); none (#524)",
      "patch-1": "less motion, since it takes fewer steps for the same operations; no seam between patches",
    },
    measures: ["first", "seam", "flicker", "copy", "psnr", "direction", "left", "moved"],
  },
  E3: {
    question: "The place of the image latent: the path that information takes?",
    claims: [
      "The article: at place 0 the image lies beside the frame that it is, and attention takes it to the others.",
      "zai-org/CogVideo #305: place 0 or all places, without a conclusion.",
    ],
    predictions: {
      "place-all": "as good or faster: no way by attention is needed (#305: open)",
      "place-two": "no difference: both places are in one patch",
      "place-last": "slower, and a worse frame 0: the image lies beside another frame",
      "place-none": "frame 0 is a guess from the caption; the others with it",
    },
    measures: ["first", "psnr", "direction", "left", "moved", "seam"],
  },
};
export type ExperimentName = keyof typeof EXPERIMENTS;

/** Which experiments an arm is in. */
export const experimentsOf = (arm: ArmName): ExperimentName[] =>
  (Object.keys(EXPERIMENTS) as ExperimentName[]).filter(
    (name) => arm === RECIPE || arm in EXPERIMENTS[name].predictions,
  );
