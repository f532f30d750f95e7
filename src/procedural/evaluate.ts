/** How well a pipeline makes procedural clips move, compared with five yardsticks. */
import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import { CogVideoXTransformer3DModel } from "../models/transformer/transformer.js";
import { Clip, type Size } from "../video/clip.js";
import { proceduralClip } from "./clip.js";
import {
  emptyCounts,
  type MotionCounts,
  type MotionScore,
  measureMotion,
  summarize,
  truthOf,
  truthOfScene,
} from "./motion.js";
import { render } from "./picture.js";
import { describe, expected, reversed, type Scene, type WorldName } from "./scene.js";
import { HELD_OUT_SEED } from "./vae-training.js";

export interface EvaluateOptions extends Partial<Size> {
  /** Number of held-out clips. Default 128. */
  readonly clips?: number;
  /** Chooses the first of the held-out clips, and the noise. Default 0. */
  readonly seed?: number;
  /** How to sample; one run for each entry. Default: 10 steps and the pipeline's own guidance. */
  readonly settings?: readonly SamplingSettings[];
  /** Default 17. */
  readonly numFrames?: number;
  /** Default 8: 17 frames are two seconds. */
  readonly fps?: number;
  /** What the clips are drawn from. Default "full". */
  readonly world?: WorldName;
  /** Is told after each clip what every run made of it. */
  readonly onClip?: (done: number, samples: readonly Clip[], truth: Clip, reversed: readonly Clip[]) => void;
}

export interface SamplingSettings {
  readonly steps: number;
  /** Default: the pipeline's own. */
  readonly guidance?: number;
}

/** A score, with the figures that need further clips to compare with. */
export interface Evaluation extends MotionScore {
  /** With the same image and noise but directions reversed in the caption: share of sprites that went the reversed way. */
  readonly swap: number | null;
  /** Flicker of the background, relative to that of the same clips encoded and decoded. */
  readonly flicker_ratio: number | null;
}

export interface EvaluationReport {
  readonly clips: number;
  readonly seed: number;
  /** One for each of the settings. */
  readonly runs: readonly (Evaluation & { readonly steps: number; readonly guidance: number | null })[];
  readonly yardsticks: Readonly<Record<Yardstick, Evaluation>>;
}

/**
 * `still`: the first frame, repeated. `vae`: the true clip, encoded and decoded. `untrained`: a transformer with random
 * weights, sampled with the first of the settings. `oracle`: the best guess from the first frame and the caption alone.
 * `oracle_through_vae`: that clip, encoded and decoded.
 */
export const YARDSTICKS = ["still", "vae", "untrained", "oracle", "oracle_through_vae"] as const;
export type Yardstick = (typeof YARDSTICKS)[number];

/** Counts for clips as the captions say and, to see what follows captions, with directions reversed. */
interface Tally {
  readonly counts: MotionCounts;
  readonly swapped: MotionCounts;
}

/**
 * Samples held-out clips from their first frames and measures what the sprites do.
 *
 * @throws InputError for options that the pipeline does not accept.
 */
export async function evaluateMotion(
  pipeline: CogVideoXImageToVideoPipeline,
  options: EvaluateOptions = {},
): Promise<EvaluationReport> {
  const { clips = 128, seed = 0, height = 64, width = 96, numFrames = 17, fps = 8 } = options;
  const { settings = [{ steps: 10 }], world = "full" } = options;
  const size = { height, width, numFrames };
  const tally = (): Tally => ({ counts: emptyCounts(), swapped: emptyCounts() });
  const runs = settings.map(tally);
  const yardsticks = Object.fromEntries(YARDSTICKS.map((name) => [name, tally()])) as Record<
    Yardstick,
    Tally
  >;
  const { tokenizer, textEncoder, vae, scheduler } = pipeline;
  const transformer = CogVideoXTransformer3DModel.fromConfig(
    pipeline.transformer.config,
    new RandomGenerator(seed),
  );
  const untrained = new CogVideoXImageToVideoPipeline({
    tokenizer,
    textEncoder,
    vae,
    transformer,
    scheduler,
  });
  const throughVae = (clip: Clip): Clip => {
    const decoded = tf.tidy(() => vae.forward(clip.toTensor()).sample);
    const back = Clip.fromTensor(decoded, clip);
    decoded.dispose();
    return back;
  };
  const sample = async (
    pipe: CogVideoXImageToVideoPipeline,
    { steps, guidance }: SamplingSettings,
    scene: { readonly image: Clip; readonly prompt: string },
    i: number,
  ): Promise<Clip> => {
    const { frames } = await pipe.generate({
      ...size,
      ...scene,
      fps,
      numInferenceSteps: steps,
      ...(guidance === undefined ? {} : { guidanceScale: guidance }),
      generator: new RandomGenerator(seed + i),
    });
    return frames[0]!;
  };
  try {
    for (let i = 0; i < clips; i++) {
      const made = proceduralClip({ ...size, fps, world, seed: HELD_OUT_SEED + seed + i });
      const turned = reversed(made.scene);
      const truth = truthOf(made);
      const other = truthOfScene(turned, made.clip);
      const image = made.clip.slice(0, 1);
      const add = ({ counts, swapped }: Tally, said: Clip, reversedSaid: Clip) => {
        measureMotion(said, truth, counts);
        measureMotion(reversedSaid, other, swapped);
      };
      const both = async (pipe: CogVideoXImageToVideoPipeline, setting: SamplingSettings) =>
        [
          await sample(pipe, setting, { image, prompt: made.caption }, i),
          await sample(pipe, setting, { image, prompt: describe(turned) }, i),
        ] as const;
      const samples: Clip[] = [];
      const samplesReversed: Clip[] = [];
      for (const [run, setting] of settings.entries()) {
        const [said, reversedSaid] = await both(pipeline, setting);
        add(runs[run]!, said, reversedSaid);
        samples.push(said);
        samplesReversed.push(reversedSaid);
      }
      const still = made.clip.select(Array.from({ length: numFrames }, () => 0));
      add(yardsticks.still, still, still);
      add(yardsticks.vae, throughVae(made.clip), throughVae(other.clip));
      add(yardsticks.untrained, ...(await both(untrained, settings[0]!)));
      const guess = (scene: Scene) => render(expected(scene), made.clip, { unseen: "guessed" }).clip;
      const [oracle, oracleReversed] = [guess(made.scene), guess(turned)];
      add(yardsticks.oracle, oracle, oracleReversed);
      add(yardsticks.oracle_through_vae, throughVae(oracle), throughVae(oracleReversed));
      options.onClip?.(i + 1, samples, made.clip, samplesReversed);
    }
  } finally {
    transformer.dispose();
  }
  const steady = summarize(yardsticks.vae.counts).flicker;
  const evaluation = ({ counts, swapped }: Tally): Evaluation => {
    const score = summarize(counts);
    const ratio = steady === 0 ? null : score.flicker / steady;
    return { ...score, swap: summarize(swapped).direction, flicker_ratio: ratio };
  };
  return {
    clips,
    seed,
    runs: settings.map(({ steps, guidance }, run) => {
      return { ...evaluation(runs[run]!), steps, guidance: guidance ?? null };
    }),
    yardsticks: Object.fromEntries(YARDSTICKS.map((name) => [name, evaluation(yardsticks[name])])) as Record<
      Yardstick,
      Evaluation
    >,
  };
}
