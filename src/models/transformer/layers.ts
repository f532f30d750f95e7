/** The transformer's layers (CogVideoX, arXiv 2408.06072, section 2.2), named as in diffusers. */
import { ACTIVATIONS, type ActivationName } from "../../engine/ops/activations.js";
import { multiHeadAttention } from "../../engine/ops/attention/attention.js";
import { gatedResidual } from "../../engine/ops/gated-residual/gated-residual.js";
import { gelu, geluTanh, silu } from "../../engine/ops/gelu/gelu.js";
import type { SignedRotaryTables } from "../../engine/ops/rotary/rotary.js";
import * as tf from "../../engine/tf.js";
import { dropout, type ForwardContext } from "../../nn/forward-context.js";
import { LayerNorm } from "../../nn/layer-norm.js";
import { type Linear, type Linears, parametersOf } from "../../nn/linear.js";
import type { Parameter, ParameterScope } from "../../nn/module.js";

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
    scope.module("TimestepEmbedding");
    this.#linear1 = linears.create(scope.child("linear_1"), inChannels, channels);
    this.#linear2 = linears.create(scope.child("linear_2"), channels, channels);
    this.#activation = activation;
  }

  forward(sample: tf.Tensor2D, context: ForwardContext): tf.Tensor2D {
    const hidden = ACTIVATIONS[this.#activation](this.#linear1.forward(sample, context));
    return this.#linear2.forward(hidden, context);
  }

  get parameters(): Parameter[] {
    return parametersOf(this.#linear1, this.#linear2);
  }
}

/** A block's modulated norm; text and video share the norm but have their own modulations. */
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
    scope.module("CogVideoXLayerNormZero");
    this.#linear = linears.create(scope.child("linear"), conditioningDim, 6 * features);
    this.#norm = new LayerNorm(scope.child("norm"), features, eps, affine);
  }

  /**
   * @param x [batch, text + video tokens, features]
   * @param condition SiLU of the time embedding, [batch, conditioningDim]
   * @param lengths of text and video
   * @returns the branch's input, and a function that adds its output to x through a gate
   */
  forward(
    x: tf.Tensor3D,
    condition: tf.Tensor2D,
    lengths: readonly number[],
    context: ForwardContext,
  ): { normed: tf.Tensor3D; addGated: (branch: tf.Tensor3D) => tf.Tensor3D } {
    // Six chunks: shift, scale and gate of the video tokens, then those of the text tokens.
    const modulation = this.#linear.forward(condition, context);
    const normed = this.#norm.modulated(x, modulation, lengths, [3, 0]);
    context.hook?.(this.name, normed);
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
    scope.module("AdaLayerNorm");
    this.#linear = linears.create(scope.child("linear"), conditioningDim, 2 * features);
    this.#norm = new LayerNorm(scope.child("norm"), features, eps, affine);
  }

  forward(x: tf.Tensor3D, condition: tf.Tensor2D, context: ForwardContext): tf.Tensor3D {
    const output = this.#norm.modulated(x, this.#linear.forward(condition, context), [x.shape[1]], [0]);
    context.hook?.(this.name, output);
    return output;
  }
}

/** Attention of all tokens to all tokens, without a mask; queries and keys are normed per head and rotated by position. */
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
    scope.module("Attention");
    this.#heads = heads;
    this.#normQ = new LayerNorm(scope.child("norm_q"), headDim, 1e-6);
    this.#normK = new LayerNorm(scope.child("norm_k"), headDim, 1e-6);
    this.#toQ = linears.create(scope.child("to_q"), inner, inner, { bias });
    this.#toK = linears.create(scope.child("to_k"), inner, inner, { bias });
    this.#toV = linears.create(scope.child("to_v"), inner, inner, { bias });
    this.#toOut = linears.create(scope.child("to_out").child(0), inner, inner);
  }

  forward(x: tf.Tensor3D, rotary: SignedRotaryTables | null, context: ForwardContext): tf.Tensor3D {
    const attended = multiHeadAttention(
      this.#normQ.byHead(this.#toQ.forward(x, context), rotary),
      this.#normK.byHead(this.#toK.forward(x, context), rotary),
      this.#toV.forward(x, context),
      this.#heads,
    );
    const output = this.#toOut.forward(attended, context);
    context.hook?.(this.name, output);
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

/** Activations of the feed-forward layer, with diffusers' names and classes; `gated` ones halve the width. */
const FEED_FORWARD: Readonly<
  Record<FeedForwardActivation, { kind: string; gated: boolean; apply: (x: tf.Tensor3D) => tf.Tensor3D }>
> = {
  gelu: { kind: "GELU", gated: false, apply: gelu },
  "gelu-approximate": { kind: "GELU", gated: false, apply: geluTanh },
  geglu: { kind: "GEGLU", gated: true, apply: (x) => gatedBy(x, gelu) },
  "geglu-approximate": {
    kind: "ApproximateGELU",
    gated: false,
    apply: (x) => tf.mul(x, tf.sigmoid(tf.mul(x, 1.702))),
  },
  swiglu: { kind: "SwiGLU", gated: true, apply: (x) => gatedBy(x, silu) },
  "linear-silu": { kind: "LinearActivation", gated: false, apply: silu },
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
    const net = scope.module("FeedForward").child("net");
    const inner = 4 * features;
    const { kind, gated } = FEED_FORWARD[activation];
    const width = gated ? 2 * inner : inner;
    this.name = scope.prefix.slice(0, -1);
    this.#in = linears.create(net.child(0).module(kind).child("proj"), features, width);
    this.#out = linears.create(net.child(2), inner, features);
    this.#activation = activation;
    this.#dropout = dropoutRate;
  }

  forward(x: tf.Tensor3D, context: ForwardContext): tf.Tensor3D {
    const hidden = FEED_FORWARD[this.#activation].apply(this.#in.forward(x, context));
    const output = this.#out.forward(dropout(hidden, this.#dropout, context), context);
    context.hook?.(this.name, output);
    return dropout(output, this.#dropout, context);
  }

  get parameters(): Parameter[] {
    return parametersOf(this.#in, this.#out);
  }
}
