/** The transformer's layers (CogVideoX, arXiv 2408.06072, section 2.2), named as in diffusers. */
import { ACTIVATIONS, type ActivationName } from "../engine/ops/activations.js";
import { scaledDotProductAttention } from "../engine/ops/attention.js";
import { gelu, geluTanh, silu } from "../engine/ops/gelu.js";
import { layerNorm } from "../engine/ops/layer-norm.js";
import { applyRotary, type SignedRotaryTables } from "../engine/ops/rotary.js";
import * as tf from "../engine/tf.js";
import { ones, type Parameter, type ParameterScope, zeros } from "../weights/module.js";
import { Linear, type LinearOptions } from "./linear.js";
import { dropout, type Run } from "./run.js";

/** Makes linear layers and remembers them by name, so that adapters find theirs. */
export class Linears {
  readonly all = new Map<string, Linear>();

  create(scope: ParameterScope, inFeatures: number, outFeatures: number, options?: LinearOptions): Linear {
    const layer = new Linear(scope, inFeatures, outFeatures, options);
    this.all.set(layer.name, layer);
    return layer;
  }
}

/** Two linear layers with an activation between them, for the embeddings of time and offset. */
export class TimestepEmbedding {
  readonly #linear1: Linear;
  readonly #linear2: Linear;
  readonly #activation: ActivationName;

  constructor(
    scope: ParameterScope,
    linears: Linears,
    inChannels: number,
    channels: number,
    activation: ActivationName,
  ) {
    this.#linear1 = linears.create(scope.child("linear_1"), inChannels, channels);
    this.#linear2 = linears.create(scope.child("linear_2"), channels, channels);
    this.#activation = activation;
  }

  forward(sample: tf.Tensor2D, run: Run): tf.Tensor2D {
    const hidden = ACTIVATIONS[this.#activation](this.#linear1.forward(sample, run));
    return this.#linear2.forward(hidden, run);
  }

  get parameters(): Parameter[] {
    return parametersOf(this.#linear1, this.#linear2);
  }
}

/** Layer norm over the last axis, with a weight and a bias for each feature if `affine`. */
export class LayerNorm {
  readonly features: number;
  readonly eps: number;
  readonly #weight: Parameter | null;
  readonly #bias: Parameter | null;

  constructor(scope: ParameterScope, features: number, eps: number, affine = true) {
    this.features = features;
    this.eps = eps;
    this.#weight = affine ? scope.parameter("weight", [features], { init: ones }) : null;
    this.#bias = affine ? scope.parameter("bias", [features], { init: zeros }) : null;
  }

  /** @param x [batch, sequence, features] */
  forward(x: tf.Tensor3D): tf.Tensor3D {
    const one: [number, number, number] = [1, 1, this.features];
    const weight: tf.Tensor3D = this.#weight ? tf.reshape(this.#weight.value, one) : tf.ones(one);
    const bias: tf.Tensor3D = this.#bias ? tf.reshape(this.#bias.value, one) : tf.zeros(one);
    return layerNorm(x, weight, bias, { eps: this.eps, lengths: [x.shape[1]] });
  }

  /**
   * Layer norm, then `* (1 + scale) + shift`: adaLN.
   * @param scale [batch, stretches, features], one for each stretch of the sequence
   * @param lengths tokens in each stretch
   */
  modulated(x: tf.Tensor3D, scale: tf.Tensor3D, shift: tf.Tensor3D, lengths: readonly number[]): tf.Tensor3D {
    const factor = tf.add(scale, 1);
    const weight = this.#weight ? tf.mul(factor, this.#weight.value) : factor;
    const bias = this.#bias ? tf.add(tf.mul(factor, this.#bias.value), shift) : shift;
    return layerNorm(x, weight as tf.Tensor3D, bias as tf.Tensor3D, { eps: this.eps, lengths });
  }

  get parameters(): Parameter[] {
    return [this.#weight, this.#bias].filter((parameter) => parameter !== null);
  }
}

/** Shift, scale and gate of text and video tokens, [batch, 2, features] each: text first, as in the sequence. */
export interface Modulation {
  readonly shift: tf.Tensor3D;
  readonly scale: tf.Tensor3D;
  readonly gate: tf.Tensor3D;
}

/** A block's modulated norm; text and video share the norm and have modulations of their own. */
export class CogVideoXLayerNormZero {
  readonly name: string;
  readonly #linear: Linear;
  readonly #norm: LayerNorm;

  constructor(
    scope: ParameterScope,
    linears: Linears,
    conditioningDim: number,
    features: number,
    eps: number,
    affine: boolean,
  ) {
    this.name = scope.prefix.slice(0, -1);
    this.#linear = linears.create(scope.child("linear"), conditioningDim, 6 * features);
    this.#norm = new LayerNorm(scope.child("norm"), features, eps, affine);
  }

  /**
   * @param x [batch, text + video tokens, features]
   * @param condition SiLU of the time embedding, [batch, conditioningDim]
   */
  forward(
    x: tf.Tensor3D,
    condition: tf.Tensor2D,
    lengths: readonly number[],
    run: Run,
  ): { normed: tf.Tensor3D; gate: tf.Tensor3D } {
    // Six chunks: shift, scale and gate of the video tokens, then those of the text tokens.
    const six = tf.reshape<tf.Rank.R3>(this.#linear.forward(condition, run), [condition.shape[0], 6, -1]);
    const textThenVideo = (i: number): tf.Tensor3D =>
      tf.concat([tf.slice(six, [0, i + 3, 0], [-1, 1, -1]), tf.slice(six, [0, i, 0], [-1, 1, -1])], 1);
    const normed = this.#norm.modulated(x, textThenVideo(1), textThenVideo(0), lengths);
    run.hook?.(this.name, normed);
    return { normed, gate: textThenVideo(2) };
  }

  get parameters(): Parameter[] {
    return [...parametersOf(this.#linear), ...this.#norm.parameters];
  }
}

/** The modulated norm before the output. */
export class AdaLayerNorm {
  readonly name: string;
  readonly #linear: Linear;
  readonly #norm: LayerNorm;

  constructor(
    scope: ParameterScope,
    linears: Linears,
    conditioningDim: number,
    features: number,
    eps: number,
    affine: boolean,
  ) {
    this.name = scope.prefix.slice(0, -1);
    this.#linear = linears.create(scope.child("linear"), conditioningDim, 2 * features);
    this.#norm = new LayerNorm(scope.child("norm"), features, eps, affine);
  }

  forward(x: tf.Tensor3D, condition: tf.Tensor2D, run: Run): tf.Tensor3D {
    const two = tf.reshape(this.#linear.forward(condition, run), [condition.shape[0], 2, -1]);
    const [shift, scale] = tf.split(two, 2, 1) as [tf.Tensor3D, tf.Tensor3D];
    const output = this.#norm.modulated(x, scale, shift, [x.shape[1]]);
    run.hook?.(this.name, output);
    return output;
  }
}

/** Attention of all tokens to all tokens, without a mask; queries and keys are normed a head and turned by position. */
export class Attention {
  readonly name: string;
  readonly #heads: number;
  readonly #normQ: LayerNorm;
  readonly #normK: LayerNorm;
  readonly #toQ: Linear;
  readonly #toK: Linear;
  readonly #toV: Linear;
  readonly #toOut: Linear;

  constructor(scope: ParameterScope, linears: Linears, heads: number, headDim: number, bias: boolean) {
    const inner = heads * headDim;
    this.name = scope.prefix.slice(0, -1);
    this.#heads = heads;
    this.#normQ = new LayerNorm(scope.child("norm_q"), headDim, 1e-6);
    this.#normK = new LayerNorm(scope.child("norm_k"), headDim, 1e-6);
    this.#toQ = linears.create(scope.child("to_q"), inner, inner, { bias });
    this.#toK = linears.create(scope.child("to_k"), inner, inner, { bias });
    this.#toV = linears.create(scope.child("to_v"), inner, inner, { bias });
    this.#toOut = linears.create(scope.child("to_out").child(0), inner, inner);
  }

  forward(x: tf.Tensor3D, rotary: SignedRotaryTables | null, run: Run): tf.Tensor3D {
    const [batch, tokens, inner] = x.shape;
    const headDim = inner / this.#heads;
    const byHead = (y: tf.Tensor3D): tf.Tensor4D =>
      tf.transpose(tf.reshape(y, [batch, tokens, this.#heads, headDim]), [0, 2, 1, 3]);
    const normed = (y: tf.Tensor3D, norm: LayerNorm): tf.Tensor4D => {
      const heads = norm.forward(tf.reshape(y, [batch, tokens * this.#heads, headDim]));
      const placed = byHead(heads);
      return rotary ? applyRotary(placed, rotary) : placed;
    };
    const attended = scaledDotProductAttention(
      normed(this.#toQ.forward(x, run), this.#normQ),
      normed(this.#toK.forward(x, run), this.#normK),
      byHead(this.#toV.forward(x, run)),
    );
    const joined = tf.reshape<tf.Rank.R3>(tf.transpose(attended, [0, 2, 1, 3]), [batch, tokens, inner]);
    const output = this.#toOut.forward(joined, run);
    run.hook?.(this.name, output);
    return output;
  }

  get parameters(): Parameter[] {
    return [
      ...this.#normQ.parameters,
      ...this.#normK.parameters,
      ...parametersOf(this.#toQ, this.#toK, this.#toV, this.#toOut),
    ];
  }
}

/** Activations of the feed-forward layer, after diffusers' names; `gated` ones halve the width. */
const FEED_FORWARD: Readonly<
  Record<FeedForwardActivation, { gated: boolean; apply: (x: tf.Tensor3D) => tf.Tensor3D }>
> = {
  gelu: { gated: false, apply: gelu },
  "gelu-approximate": { gated: false, apply: geluTanh },
  geglu: { gated: true, apply: (x) => gatedBy(x, gelu) },
  "geglu-approximate": { gated: false, apply: (x) => tf.mul(x, tf.sigmoid(tf.mul(x, 1.702))) },
  swiglu: { gated: true, apply: (x) => gatedBy(x, silu) },
  "linear-silu": { gated: false, apply: silu },
};

export const FEED_FORWARD_ACTIVATIONS = [
  "gelu-approximate",
  "gelu",
  "geglu",
  "geglu-approximate",
  "swiglu",
  "linear-silu",
] as const;

export type FeedForwardActivation = (typeof FEED_FORWARD_ACTIVATIONS)[number];

function gatedBy(x: tf.Tensor3D, activation: (gate: tf.Tensor3D) => tf.Tensor3D): tf.Tensor3D {
  const [value, gate] = tf.split(x, 2, -1) as [tf.Tensor3D, tf.Tensor3D];
  return tf.mul(value, activation(gate));
}

/** Two linear layers with an activation between them; four times as wide inside. */
export class FeedForward {
  readonly name: string;
  readonly #in: Linear;
  readonly #out: Linear;
  readonly #activation: FeedForwardActivation;
  readonly #dropout: number;

  constructor(
    scope: ParameterScope,
    linears: Linears,
    features: number,
    activation: FeedForwardActivation,
    dropoutRate: number,
  ) {
    const net = scope.child("net");
    const inner = 4 * features;
    const width = FEED_FORWARD[activation].gated ? 2 * inner : inner;
    this.name = scope.prefix.slice(0, -1);
    this.#in = linears.create(net.child(0).child("proj"), features, width);
    this.#out = linears.create(net.child(2), inner, features);
    this.#activation = activation;
    this.#dropout = dropoutRate;
  }

  forward(x: tf.Tensor3D, run: Run): tf.Tensor3D {
    const hidden = FEED_FORWARD[this.#activation].apply(this.#in.forward(x, run));
    const output = this.#out.forward(dropout(hidden, this.#dropout, run), run);
    run.hook?.(this.name, output);
    return dropout(output, this.#dropout, run);
  }

  get parameters(): Parameter[] {
    return parametersOf(this.#in, this.#out);
  }
}

/** Weights, biases and adapters of linear layers. */
export function parametersOf(...layers: Linear[]): Parameter[] {
  return layers.flatMap((layer) => [
    layer.weight,
    ...(layer.bias ? [layer.bias] : []),
    ...[...layer.lora.values()].flatMap(({ a, b }) => [a, b]),
  ]);
}
