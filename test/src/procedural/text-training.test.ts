/** A text encoder learns which of several directions belongs to which sprite, so that a linear layer can read it. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { T5EncoderModel } from "../../../src/models/text/t5-encoder.js";
import { captionTokenizer } from "../../../src/procedural/pipeline.js";
import { DIRECTIONS, describe, drawScene, WORLD_NAMES, WORLDS } from "../../../src/procedural/scene.js";
import { captionTokens, trainTextEncoder } from "../../../src/procedural/text-training.js";

before(() => useEngine());

const MAX_LENGTH = 48;

test("a caption's tokens belong to its parts", () => {
  const tokenizer = captionTokenizer(WORLD_NAMES);
  const caption = "A red ball drifts left; a blue star turns clockwise in place; wavy sea background.";
  const { ids, parts } = captionTokens(tokenizer, caption, MAX_LENGTH);
  assert.equal(ids.length, MAX_LENGTH);
  const part = (n: number) => tokenizer.decode(ids.filter((_, i) => parts[i] === n));
  assert.match(part(0), /red ball drifts left/);
  assert.match(part(1), /^a blue star turns clockwise in place/);
  assert.match(part(2), /^wavy sea background/);
  assert.throws(() => captionTokens(tokenizer, caption, 9), {
    name: "InputError",
    message: /the caption has \d+ tokens, expected up to 9: A red ball/,
  });
});

/**
 * Of captions with two sprites, how many directions a linear layer reads right off the states of the sprites' last words
 * before the direction is said: a least-squares fit on some captions, asked on others.
 */
function probe(encoder: T5EncoderModel, captions: number): number {
  const tokenizer = captionTokenizer(WORLD_NAMES);
  const generator = new RandomGenerator(77);
  const inputIds: number[][] = [];
  const places: number[] = [];
  const classes: number[] = [];
  for (let i = 0; i < captions; i++) {
    const scene = drawScene(generator, { aspect: 1.5, world: WORLDS.pair, numSprites: 2 });
    const { ids, parts } = captionTokens(tokenizer, describe(scene), MAX_LENGTH);
    for (const [s, { colour, direction }] of scene.sprites.entries()) {
      const word = tokenizer.tokenize(colour)[0];
      const at = ids.findIndex((id, t) => id === word && parts[t] === s);
      assert.ok(at >= 0, describe(scene));
      places.push(i * MAX_LENGTH + at);
      classes.push(DIRECTIONS.indexOf(direction));
    }
    inputIds.push(ids);
  }
  const trained = Math.floor(classes.length * 0.7);
  const right = tf.tidy(() => {
    const parts = Array.from({ length: captions / 50 }, (_, i) => {
      const { lastHiddenState } = encoder.forward({ inputIds: inputIds.slice(50 * i, 50 * i + 50) });
      return tf.reshape(lastHiddenState, [50 * MAX_LENGTH, -1]) as tf.Tensor2D;
    });
    const all = tf.gather(tf.concat(parts), tf.tensor1d(places, "int32"));
    const x = tf.concat([all, tf.ones([classes.length, 1])], 1) as tf.Tensor2D;
    const [seen, asked] = [x.slice([0, 0], [trained, -1]), x.slice([trained, 0])];
    const wanted = tf.oneHot(tf.tensor1d(classes.slice(0, trained), "int32"), DIRECTIONS.length).toFloat();
    const fit = leastSquares(seen.arraySync(), wanted.arraySync() as number[][]);
    const found = tf.matMul(asked, tf.tensor2d(fit)).argMax(1).dataSync();
    return classes.slice(trained).filter((direction, i) => direction === found[i]).length;
  });
  return right / (classes.length - trained);
}

/** Solves (XᵀX + I/10) W = XᵀY. */
function leastSquares(x: readonly number[][], y: readonly number[][]): number[][] {
  const n = x[0]!.length;
  const rows = Array.from({ length: n }, (_, i) => {
    const left = Array.from(
      { length: n },
      (_, j) => x.reduce((sum, row) => sum + row[i]! * row[j]!, 0) + (i === j ? 0.1 : 0),
    );
    return [...left, ...y[0]!.map((_, k) => x.reduce((sum, row, r) => sum + row[i]! * y[r]![k]!, 0))];
  });
  for (let i = 0; i < n; i++) {
    const pivot = rows
      .slice(i)
      .reduce((best, row, r) => (Math.abs(row[i]!) > Math.abs(rows[best]![i]!) ? r + i : best), i);
    [rows[i], rows[pivot]] = [rows[pivot]!, rows[i]!];
    const own = rows[i]!.map((value) => value / rows[i]![i]!);
    rows[i] = own;
    for (let r = 0; r < n; r++) {
      const factor = rows[r]![i]!;
      if (r !== i && factor !== 0) rows[r] = rows[r]!.map((value, c) => value - factor * own[c]!);
    }
  }
  return rows.map((row) => row.slice(n));
}

test("after training, each sprite's direction can be read at its colour; before, it can't", () => {
  const tokenizer = captionTokenizer(WORLD_NAMES);
  const generator = new RandomGenerator(0);
  const encoder = T5EncoderModel.fromConfig(
    { vocab_size: tokenizer.vocabSize, d_model: 64, d_kv: 16, d_ff: 128, num_layers: 3, num_heads: 4 },
    generator,
  );
  const before = tf.memory().numTensors;
  const untrained = probe(encoder, 500);
  const told = trainTextEncoder(encoder, tokenizer, {
    generator,
    worlds: ["paced", "pair", "textured", "turning", "full", "full"],
    steps: 600,
    maxLength: MAX_LENGTH,
  });
  assert.equal(tf.memory().numTensors, before, "tensors left behind");
  const trained = probe(encoder, 500);
  assert.ok(
    untrained < 0.75 && trained > 0.9,
    `${untrained} before, ${trained} after; ${JSON.stringify(told)}`,
  );
  encoder.dispose();
});
