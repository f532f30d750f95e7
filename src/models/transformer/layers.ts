/** The transformer's layers (CogVideoX, arXiv 2408.06072, section 2.2), named as in diffusers. */
import { ACTIVATIONS, type ActivationName } from "../../engine/ops/activations.js";
import { multiHeadAttention } from "../../engine/ops/attention/attention.js";
import { gatedResidual } from "../../engine/ops/gated-residual/gated-residual.js";
import { gelu, geluTanh, silu } from "../../engine/ops/gelu/gelu.js";
import { headNorm } from "../../engine/ops/head-norm/head-norm.js";
import { layerNorm } from "../../engine/ops/layer-norm/layer-norm.js";
import { modulatedNorm } from "../../engine/ops/modulated-norm/modulated-norm.js";
import type { SignedRotaryTables } from "../../engine/ops/rotary/rotary.js";
import * as tf from "../../engine/tf.js";
import { dropout, type Run } from "../../nn/forward-context.js";
import { Linear, type LinearOptions } from "../../nn/linear.js";
import { ones, type Parameter, type ParameterScope, zeros } from "../../nn/module.js";

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
    return tf.tidy(() => {
      const one: [number, number, number] = [1, 1, this.features];
      const { weight, bias } = this.#values();
      const options = { eps: this.eps, lengths: [x.shape[1]] };
      return layerNorm(x, tf.reshape<tf.Rank.R3>(weight, one), tf.reshape<tf.Rank.R3>(bias, one), options);
    });
  }

  /**
   * Layer norm, then `* (1 + scale) + shift`: adaLN.
   * @param modulation chunks for shifts and scales, [batch, chunks * features]
   * @param lengths tokens in each segment
   * @param chunks the chunk that shifts each segment; the next one scales it
   */
  modulated(
    x: tf.Tensor3D,
    modulation: tf.Tensor2D,
    lengths: readonly number[],
    chunks: readonly number[],
  ): tf.Tensor3D {
    return tf.tidy(() => {
      const { weight, bias } = this.#values();
      return modulatedNorm(x, modulation, weight, bias, {
        eps: this.eps,
        lengths,
        chunks,
        trained: this.#trained,
      });
    });
  }

  /** The norm of each head, [batch, tokens, heads * features], then the rotation by position. */
  byHead(x: tf.Tensor3D, rotary: SignedRotaryTables | null): tf.Tensor3D {
    return tf.tidy(() => {
      const { weight, bias } = this.#values();
      return headNorm(x, weight, bias, rotary, { eps: this.eps, trained: this.#trained });
    });
  }

  #values(): { weight: tf.Tensor1D; bias: tf.Tensor1D } {
    const value = (parameter: Parameter | null, fill: () => tf.Tensor) =>
      (parameter?.value ?? fill()) as tf.Tensor1D;
    return {
      weight: value(this.#weight, () => tf.ones([this.features])),
      bias: value(this.#bias, () => tf.zeros([this.features])),
    };
  }

  get #trained(): boolean {
    return this.parameters.some(({ trainable }) => trainable);
  }

  get parameters(): Parameter[] {
    return [this.#weight, this.#bias].filter((parameter) => parameter !== null);
  }
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
   * @param lengths of text and video
   * @returns what goes into the branch, and what adds the branch's output to x behind a gate
   */
  forward(
    x: tf.Tensor3D,
    condition: tf.Tensor2D,
    lengths: readonly number[],
    run: Run,
  ): { normed: tf.Tensor3D; addGated: (branch: tf.Tensor3D) => tf.Tensor3D } {
    // Six chunks: shift, scale and gate of the video tokens, then those of the text tokens.
    const modulation = this.#linear.forward(condition, run);
    const normed = this.#norm.modulated(x, modulation, lengths, [3, 0]);
    run.hook?.(this.name, normed);
    return {
      normed,
      addGated: (branch) => gatedResidual(x, branch, modulation, { lengths, chunks: [5, 2] }),
    };
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
    const output = this.#norm.modulated(x, this.#linear.forward(condition, run), [x.shape[1]], [0]);
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
    const attended = multiHeadAttention(
      this.#normQ.byHead(this.#toQ.forward(x, run), rotary),
      this.#normK.byHead(this.#toK.forward(x, run), rotary),
      this.#toV.forward(x, run),
      this.#heads,
    );
    const output = this.#toOut.forward(attended, run);
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
