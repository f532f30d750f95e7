/** Prompts' embeddings that this process made, by what they depend on: the tokens, and the text encoder's weights and format. */

import * as tf from "../engine/tf.js";
import type { T5EncoderModel } from "../models/text/t5-encoder.js";

/** Prompts that are remembered; a prompt of CogVideoX takes 3.7 MB. */
const MOST = 32;

/** [tokens, features] each, the one used last at the end. They are no tensors, so that they outlive engines. */
const remembered = new Map<string, Float32Array>();

/**
 * T5's last states for rows of tokens, [rows, tokens, features], which the caller disposes. Rows that the same weights were given
 * before need no text encoder: it is not even read, if it is not in memory. Weights that were not read from files, or were
 * changed since, always compute.
 */
export function embedTokens(textEncoder: T5EncoderModel, rows: readonly (readonly number[])[]): tf.Tensor3D {
  const id = textEncoder.weightsId;
  if (id === undefined) return textEncoder.forward({ inputIds: rows }).lastHiddenState;
  const keys = rows.map((row) => `${id} ${row}`);
  const known = new Map<string, Float32Array>();
  const missing = new Map<string, readonly number[]>();
  for (const [i, key] of keys.entries()) {
    const values = remembered.get(key);
    if (values) known.set(key, values);
    else missing.set(key, rows[i]!);
  }
  if (missing.size > 0) {
    const { lastHiddenState } = textEncoder.forward({ inputIds: [...missing.values()] });
    const values = lastHiddenState.dataSync() as Float32Array;
    lastHiddenState.dispose();
    const size = values.length / missing.size;
    for (const [i, key] of [...missing.keys()].entries())
      known.set(key, values.slice(i * size, (i + 1) * size));
  }
  for (const [key, values] of known) {
    remembered.delete(key);
    remembered.set(key, values);
  }
  for (const key of remembered.keys()) {
    if (remembered.size <= MOST) break;
    remembered.delete(key);
  }
  const length = rows[0]!.length;
  return tf.tidy(() =>
    tf.stack(keys.map((key) => tf.tensor2d(known.get(key)!, [length, textEncoder.config.d_model]))),
  ) as tf.Tensor3D;
}
