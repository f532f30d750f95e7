/** Trains a small text encoder on the captions of procedural clips. */
import { InputError } from "../engine/errors.js";
import { variableGrads } from "../engine/ops/tape.js";
import type { RandomGenerator } from "../engine/random.js";
import * as tf from "../engine/tf.js";
import type { T5EncoderModel } from "../models/text/t5-encoder.js";
import type { T5Tokenizer } from "../models/text/tokenizer.js";
import { normal, Parameter } from "../nn/module.js";
import { Adam } from "../train/optimizer.js";
import {
  BACKGROUNDS,
  COLOURS,
  DIRECTIONS,
  describe,
  drawScene,
  MOTIONS,
  PACES,
  PANS,
  PATTERNS,
  type Scene,
  SHAPES,
  type Sprite,
  spinSaid,
  TEXTURES,
  WORLDS,
  type WorldName,
} from "./scene.js";

/** What a word should tell about the sprite in its part of the caption, as a number from 0. */
const OF_SPRITES = {
  colour: { classes: Object.keys(COLOURS).length, of: (s: Sprite) => Object.keys(COLOURS).indexOf(s.colour) },
  shape: { classes: SHAPES.length, of: (s: Sprite) => SHAPES.indexOf(s.shape) },
  texture: { classes: TEXTURES.length, of: (s: Sprite) => TEXTURES.indexOf(s.texture) },
  motion: { classes: MOTIONS.length, of: (s: Sprite) => MOTIONS.indexOf(s.motion) },
  direction: {
    classes: DIRECTIONS.length + 1,
    of: (s: Sprite) => (s.motion === "turns" ? DIRECTIONS.length : DIRECTIONS.indexOf(s.direction)),
  },
  pace: { classes: PACES.length, of: (s: Sprite) => PACES.indexOf(s.pace) },
  spin: { classes: 3, of: (s: Sprite) => spinSaid(s) + 1 },
} as const;
/** What the words after the sprites' parts should tell. */
const OF_GROUND = {
  palette: {
    classes: Object.keys(BACKGROUNDS).length,
    of: ({ background }: Scene) => Object.keys(BACKGROUNDS).indexOf(background.palette),
  },
  pattern: {
    classes: PATTERNS.length,
    of: ({ background }: Scene) => PATTERNS.indexOf(background.pattern),
  },
  pan: { classes: Object.keys(PANS).length, of: ({ pan }: Scene) => Object.keys(PANS).indexOf(pan) },
} as const;
const TASKS = { ...OF_SPRITES, ...OF_GROUND };
type Task = keyof typeof TASKS;

export interface TextTrainingOptions {
  /** Draws captions, and initial weights of the layers that read the encoder's output. */
  readonly generator: RandomGenerator;
  /** Where captions come from. Worlds with a single sprite leave nothing to tell apart. */
  readonly worlds: readonly WorldName[];
  /** Optimizer steps. */
  readonly steps: number;
  /** Tokens that captions are padded to. */
  readonly maxLength: number;
  /** Captions per step. Default 32. */
  readonly batchSize?: number;
  /** At its peak, after a tenth of the steps; then it falls to 0. Default 3e-3. */
  readonly learningRate?: number;
  /** Is told each step's mean cross-entropy. */
  readonly onStep?: (step: number, loss: number) => void;
}

/** Captions as tokens, and what each token should tell. */
interface LabelledCaptions {
  readonly inputIds: number[][];
  /** By task, a class for each token of all captions; -1 if it has nothing to tell. */
  readonly labels: Readonly<Record<Task, Int32Array>>;
}

/**
 * Trains an encoder so that each word's state tells everything about the sprite it describes: a linear layer for each question
 * (colour, shape, direction, ...) is trained with it and then discarded. So a transformer need not find out by itself which of
 * several directions belongs to which sprite: attention to the colour that it sees leads to the right direction.
 *
 * @returns for each question, the share of tokens that answered it correctly on the last step's captions.
 */
export function trainTextEncoder(
  encoder: T5EncoderModel,
  tokenizer: T5Tokenizer,
  options: TextTrainingOptions,
): Record<Task, number> {
  const { generator, steps, batchSize = 32, learningRate = 3e-3, onStep } = options;
  const { d_model: width } = encoder.config;
  const tasks = Object.keys(TASKS) as Task[];
  const heads = tasks.map((task) => {
    const head = new Parameter(`head.${task}`, [width, TASKS[task].classes], { init: normal(width ** -0.5) });
    head.initialize(generator);
    return head;
  });
  const parameters = [...encoder.parameters.values(), ...heads];
  const adam = new Adam("adamw", parameters, { betas: [0.9, 0.98], weightDecay: 1e-3 });
  const right = Object.fromEntries(tasks.map((task) => [task, 0])) as Record<Task, number>;
  try {
    for (let step = 0; step < steps; step++) {
      const { inputIds, labels } = drawCaptions(tokenizer, batchSize, options);
      const { value, grads } = variableGrads(
        () => {
          const states = tf.reshape(encoder.forward({ inputIds }).lastHiddenState, [
            -1,
            width,
          ]) as tf.Tensor2D;
          const losses = tasks.map((task, i) => {
            const { loss, accuracy } = crossEntropy(
              tf.matMul(states, heads[i]!.value as unknown as tf.Tensor2D),
              labels[task],
            );
            if (step === steps - 1) right[task] = accuracy();
            return loss;
          });
          return tf.addN(losses).asScalar();
        },
        parameters.map(({ value }) => value),
      );
      const risen = Math.min(1, (step + 1) / (0.1 * steps));
      adam.step(
        parameters.map(({ value }) => grads[value.name]!),
        learningRate * risen * (1 - step / steps),
      );
      onStep?.(step + 1, value.dataSync()[0]!);
      tf.dispose([value, grads]);
    }
    return right;
  } finally {
    adam.dispose();
    for (const head of heads) head.dispose();
  }
}

/** Mean over the tokens that have a class; call `accuracy` before the tensors are disposed. */
function crossEntropy(logits: tf.Tensor2D, classes: Int32Array): { loss: tf.Tensor; accuracy: () => number } {
  const known = tf.tensor1d(Float32Array.from(classes, (value) => (value < 0 ? 0 : 1)));
  const wanted = tf.oneHot(tf.tensor1d(classes, "int32"), logits.shape[1]);
  const each = tf.neg(tf.sum(tf.mul(tf.cast(wanted, "float32"), tf.logSoftmax(logits)), 1));
  const count = classes.reduce((sum, value) => sum + (value < 0 ? 0 : 1), 0);
  const accuracy = () => {
    const found = tf.argMax(logits, 1).dataSync();
    return classes.reduce((sum, value, i) => sum + (value === found[i] ? 1 : 0), 0) / count;
  };
  return { loss: tf.div(tf.sum(tf.mul(each, known)), Math.max(1, count)), accuracy };
}

function drawCaptions(
  tokenizer: T5Tokenizer,
  count: number,
  { generator, worlds, maxLength }: TextTrainingOptions,
): LabelledCaptions {
  const labels = Object.fromEntries(
    Object.keys(TASKS).map((task) => [task, new Int32Array(count * maxLength).fill(-1)]),
  ) as Record<Task, Int32Array>;
  const inputIds = Array.from({ length: count }, (_, i) => {
    const world = WORLDS[worlds[generator.integer(0, worlds.length)]!];
    const scene = drawScene(generator, { aspect: 1.5, world });
    const { ids, parts } = captionTokens(tokenizer, describe(scene), maxLength);
    for (const [t, part] of parts.entries()) {
      const at = i * maxLength + t;
      const sprite = scene.sprites[part];
      if (sprite === undefined) {
        for (const [task, { of }] of Object.entries(OF_GROUND)) labels[task as Task][at] = of(scene);
      } else {
        for (const [task, { of }] of Object.entries(OF_SPRITES)) labels[task as Task][at] = of(sprite);
      }
    }
    return ids;
  });
  return { inputIds, labels };
}

/**
 * A caption's tokens, padded, and which of its parts between semicolons each belongs to; padding and the end belong to none.
 *
 * @throws InputError if the caption is too long.
 */
export function captionTokens(
  tokenizer: T5Tokenizer,
  caption: string,
  maxLength: number,
): { ids: number[]; parts: number[] } {
  const all = tokenizer.tokenize(caption);
  if (all.length > maxLength)
    throw new InputError(`the caption has ${all.length} tokens, expected up to ${maxLength}: ${caption}`);
  const separator = tokenizer.tokenize(";").at(-2); // the last is the text's end
  let part = 0;
  const parts = all.slice(0, -1).map((id) => (id === separator ? part++ : part));
  const padding = Array<number>(maxLength - all.length).fill(tokenizer.padTokenId);
  return { ids: [...all, ...padding], parts };
}
