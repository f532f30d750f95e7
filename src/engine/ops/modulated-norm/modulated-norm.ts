import * as tf from "../../tf.js";
import { normalize, normalizeGradient } from "../normalize.js";
import { defineOperation } from "../operation.js";
import { dotSegments, mapSegments, sumSegments } from "../segments/segments.js";

export interface ModulatedNormAttributes {
  readonly eps: number;
  /** Tokens in each segment of the sequence; they add up to its length. */
  readonly lengths: readonly number[];
  /** For each segment, which chunk of the modulation shifts it; 1 + the next one scales it. */
  readonly chunks: readonly number[];
}

type Hint = {
  /** Whether modulation, weight or bias are trained; their gradients are computed together. */
  readonly trained: boolean;
};

/** Some chunks of a modulation, [batch, segments, features]. */
export function chunksOf(modulation: tf.Tensor, features: number, chunks: readonly number[]): tf.Tensor {
  const all = tf.reshape(modulation, [modulation.shape[0]!, -1, features]);
  return tf.concat(
    chunks.map((chunk) => tf.slice(all, [0, chunk, 0], [-1, 1, -1])),
    1,
  );
}

/** A modulation of zeros except for some chunks, given as [batch, segments, features]: the inverse of {@link chunksOf}. */
export function fromChunks(
  values: readonly { readonly chunks: readonly number[]; readonly of: tf.Tensor }[],
  shape: readonly number[],
): tf.Tensor {
  const [batch, , features] = values[0]!.of.shape as [number, number, number];
  const parts: tf.Tensor[] = [];
  for (let chunk = 0; chunk < shape[1]! / features; chunk++) {
    const own = values.flatMap(({ chunks, of }) =>
      chunks.flatMap((at, i) => (at === chunk ? [tf.slice(of, [0, i, 0], [-1, 1, -1])] : [])),
    );
    parts.push(own.length > 0 ? tf.addN(own) : tf.zeros([batch, 1, features]));
  }
  return tf.reshape(tf.concat(parts, 1), [...shape]);
}

const next = (chunks: readonly number[]) => chunks.map((chunk) => chunk + 1);

type Inputs = { x: tf.Tensor; modulation: tf.Tensor; weight: tf.Tensor; bias: tf.Tensor };

const inputGradient = defineOperation<Omit<Inputs, "bias"> & { dy: tf.Tensor }, ModulatedNormAttributes>({
  name: "FirstframeModulatedNormGrad",
  native: {
    inputs: ["x", "modulation", "weight", "dy"],
    outputs: ["dx"],
    attributes: { eps: "float", lengths: "list(int)", chunks: "list(int)" },
  },
  forward({ x, modulation, weight, dy }, { eps, lengths, chunks }) {
    const factor = tf.add(chunksOf(modulation, x.shape[2]!, next(chunks)), 1);
    const dScaled = mapSegments(lengths, [dy], [factor], ([dy], [factor]) => tf.mul(dy!, factor!));
    return normalizeGradient(x, tf.mul(dScaled, weight), eps);
  },
});

const parameterGradients = defineOperation<Inputs & { dy: tf.Tensor }, ModulatedNormAttributes>({
  name: "FirstframeModulatedNormParameters",
  native: {
    inputs: ["x", "modulation", "weight", "bias", "dy"],
    outputs: ["dModulation", "dWeight", "dBias"],
    attributes: { eps: "float", lengths: "list(int)", chunks: "list(int)" },
  },
  forward({ x, modulation, weight, bias, dy }, { eps, lengths, chunks }) {
    const [batch, , features] = x.shape as [number, number, number];
    const shift = sumSegments(dy, lengths, batch);
    const along = dotSegments(dy, normalize(x, eps).normal, lengths, batch);
    const scale = tf.add(tf.mul(along, weight), tf.mul(shift, bias));
    const factor = tf.add(chunksOf(modulation, features, next(chunks)), 1);
    return [
      fromChunks(
        [
          { chunks, of: shift },
          { chunks: next(chunks), of: scale },
        ],
        modulation.shape,
      ),
      tf.sum(tf.mul(along, factor), [0, 1]),
      tf.sum(tf.mul(shift, factor), [0, 1]),
    ];
  },
});

const operation = defineOperation<Inputs, ModulatedNormAttributes & Hint>({
  name: "FirstframeModulatedNorm",
  native: {
    inputs: ["x", "modulation", "weight", "bias"],
    outputs: ["y"],
    attributes: { eps: "float", lengths: "list(int)", chunks: "list(int)" },
  },
  forward({ x, modulation, weight, bias }, { eps, lengths, chunks }) {
    const features = x.shape[2]!;
    const normal = tf.add(tf.mul(normalize(x, eps).normal, weight), bias);
    const values = [
      tf.add(chunksOf(modulation, features, next(chunks)), 1),
      chunksOf(modulation, features, chunks),
    ];
    return mapSegments(lengths, [normal], values, ([normal], [factor, shift]) =>
      tf.add(tf.mul(normal!, factor!), shift!),
    );
  },
  save: { inputs: ["x", "modulation", "weight", "bias"] },
  gradient([dy], [x, modulation, weight, bias], attributes) {
    const inputs = { x: x!, modulation: modulation!, weight: weight!, dy: dy! };
    const compute = () => parameterGradients({ ...inputs, bias: bias! }, attributes);
    const shared = attributes.trained ? compute() : undefined;
    const parameter = (i: number) => () => shared?.[i] ?? compute()[i]!;
    return {
      x: () => inputGradient(inputs, attributes)[0]!,
      modulation: parameter(0),
      weight: parameter(1),
      bias: parameter(2),
    };
  },
});

/**
 * Layer norm over the last axis (Ba et al. 2016, arXiv 1607.06450) with a weight and a bias, then `* (1 + scale) + shift`
 * from a condition: adaLN (Peebles and Xie 2022, arXiv 2212.09748). Each segment of the sequence, text or video, has
 * its own scale and shift.
 *
 * @param x [batch, sequence, features]
 * @param modulation [batch, chunks * features]
 * @param weight [features]
 * @param bias [features]
 */
export function modulatedNorm(
  x: tf.Tensor3D,
  modulation: tf.Tensor2D,
  weight: tf.Tensor1D,
  bias: tf.Tensor1D,
  { trained = true, ...attributes }: ModulatedNormAttributes & Partial<Hint>,
): tf.Tensor3D {
  return operation({ x, modulation, weight, bias }, { ...attributes, trained })[0] as tf.Tensor3D;
}
