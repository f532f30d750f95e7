/** How well a pipeline makes procedural clips move, beside five yardsticks. */
import { CogVideoXImageToVideoPipeline } from "../diffusion/image-to-video.js";
import { Generator } from "../engine/random.js";
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
import { describe, expected, reversed } from "./scene.js";
import { HELD_OUT_SEED } from "./vae-training.js";

export interface EvaluateOptions extends Partial<Size> {
  /** How many held-out clips. Default 128. */
  readonly clips?: number;
  /** Of the first clip among the held-out ones, and of the noise. Default 0. */
  readonly seed?: number;
  /** Sampling steps. Default 10. */
  readonly steps?: number;
  /** Default: the pipeline's own. */
  readonly guidance?: number;
  /** Default 17. */
  readonly numFrames?: number;
  /** Default 8: 17 frames are two seconds. */
  readonly fps?: number;
  /** Is told after each clip. */
  readonly onClip?: (done: number, sample: Clip, truth: Clip) => void;
}

/** The score of clips, with what needs a second look at them or at others. */
export interface Evaluation extends MotionScore {
  /** Same image and noise, directions reversed in the caption: share of sprites that then went the reversed way. */
  readonly swap: number | null;
  /** Flicker of the ground, relative to that of the same clips encoded and decoded. */
  readonly flicker_ratio: number | null;
}

export interface EvaluationReport extends Evaluation {
  readonly clips: number;
  readonly seed: number;
  readonly steps: number;
  readonly guidance: number | null;
  readonly yardsticks: Readonly<Record<Yardstick, Evaluation>>;
}

/**
 * `still`: the first frame, repeated. `vae`: the true clip, encoded and decoded. `untrained`: a transformer of random
 * weights. `oracle`: the clip that one expects who knows first frame and caption alone; `oracle_through_vae`: that clip,
 * encoded and decoded.
 */
export const YARDSTICKS = ["still", "vae", "untrained", "oracle", "oracle_through_vae"] as const;
export type Yardstick = (typeof YARDSTICKS)[number];

/** Clips as the captions say and, for what obeys captions, with reversed directions. */
interface Tally {
  readonly counts: MotionCounts;
  readonly swapped: MotionCounts;
}

/**
 * Samples held-out clips from their first frames and measures what the sprites do.
 *
 * @throws InputError for options that the pipeline does not take.
 */
export async function evaluateMotion(
  pipeline: CogVideoXImageToVideoPipeline,
  options: EvaluateOptions = {},
): Promise<EvaluationReport> {
  const { clips = 128, seed = 0, steps = 10, height = 64, width = 96, numFrames = 17, fps = 8 } = options;
  const size = { height, width, numFrames };
  const tallies = Object.fromEntries(
    ["model", ...YARDSTICKS].map((name) => [name, { counts: emptyCounts(), swapped: emptyCounts() }]),
  ) as Record<"model" | Yardstick, Tally>;
  const { tokenizer, textEncoder, vae, scheduler } = pipeline;
  const transformer = CogVideoXTransformer3DModel.fromConfig(
    pipeline.transformer.config,
    new Generator(seed),
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
    image: Clip,
    prompt: string,
    i: number,
  ): Promise<Clip> => {
    const { frames } = await pipe.generate({
      ...size,
      image,
      prompt,
      fps,
      numInferenceSteps: steps,
      ...(options.guidance === undefined ? {} : { guidanceScale: options.guidance }),
      generator: new Generator(seed + i),
    });
    return frames[0]!;
  };
  try {
    for (let i = 0; i < clips; i++) {
      const made = proceduralClip({ ...size, fps, seed: HELD_OUT_SEED + seed + i });
      const turned = reversed(made.scene);
      const truth = truthOf(made);
      const other = truthOfScene(turned, made.clip);
      const image = made.clip.slice(0, 1);
      /** Swapped samples count for sprites that truly go another way then. */
      const add = (name: "model" | Yardstick, said: Clip, reversedSaid: Clip) => {
        measureMotion(said, truth, tallies[name].counts);
        measureMotion(reversedSaid, other, tallies[name].swapped);
      };
      const model = await sample(pipeline, image, made.caption, i);
      add("model", model, await sample(pipeline, image, describe(turned), i));
      const still = made.clip.select(Array.from({ length: numFrames }, () => 0));
      add("still", still, still);
      add("vae", throughVae(made.clip), throughVae(other.clip));
      add(
        "untrained",
        await sample(untrained, image, made.caption, i),
        await sample(untrained, image, describe(turned), i),
      );
      const guess = (scene: typeof turned) => render(expected(scene), made.clip, { unseen: "guessed" }).clip;
      const [oracle, oracleReversed] = [guess(made.scene), guess(turned)];
      add("oracle", oracle, oracleReversed);
      add("oracle_through_vae", throughVae(oracle), throughVae(oracleReversed));
      options.onClip?.(i + 1, model, made.clip);
    }
  } finally {
    transformer.dispose();
  }
  const steady = summarize(tallies.vae.counts).flicker;
  const evaluation = ({ counts, swapped }: Tally): Evaluation => {
    const score = summarize(counts);
    const ratio = steady === 0 ? null : score.flicker / steady;
    return { ...score, swap: summarize(swapped).direction, flicker_ratio: ratio };
  };
  const yardsticks = Object.fromEntries(YARDSTICKS.map((name) => [name, evaluation(tallies[name])]));
  return {
    ...evaluation(tallies.model),
    clips,
    seed,
    steps,
    guidance: options.guidance ?? null,
    yardsticks: yardsticks as Record<Yardstick, Evaluation>,
  };
}
