import type { SignedRotaryTables } from "../../engine/ops/rotary/rotary.js";
import * as tf from "../../engine/tf.js";
import type { ForwardContext } from "../../nn/forward-context.js";
import type { Linears } from "../../nn/linear.js";
import type { Parameter, ParameterScope } from "../../nn/module.js";
import { Attention, CogVideoXLayerNormZero, FeedForward, type FeedForwardActivation } from "./layers.js";

export interface BlockOptions {
  readonly heads: number;
  readonly headDim: number;
  readonly timeEmbedDim: number;
  readonly activation: FeedForwardActivation;
  readonly attentionBias: boolean;
  readonly normEps: number;
  readonly normAffine: boolean;
  readonly dropout: number;
}

/** Attention and feed-forward over text and video tokens together, each with a modulated norm before it and a gate after it. */
export class CogVideoXBlock {
  readonly name: string;
  readonly #norm1: CogVideoXLayerNormZero;
  readonly #attention: Attention;
  readonly #norm2: CogVideoXLayerNormZero;
  readonly #feedForward: FeedForward;

  constructor(scope: ParameterScope, linears: Linears, options: BlockOptions) {
    const features = options.heads * options.headDim;
    const norm = (name: string) =>
      new CogVideoXLayerNormZero(
        scope.child(name),
        linears,
        options.timeEmbedDim,
        features,
        options.normEps,
        options.normAffine,
      );
    scope.module("CogVideoXBlock");
    this.name = scope.prefix.slice(0, -1);
    this.#norm1 = norm("norm1");
    this.#attention = new Attention(
      scope.child("attn1"),
      linears,
      options.heads,
      options.headDim,
      options.attentionBias,
    );
    this.#norm2 = norm("norm2");
    this.#feedForward = new FeedForward(
      scope.child("ff"),
      linears,
      features,
      options.activation,
      options.dropout,
    );
  }

  /**
   * @param x text tokens, then video tokens: [batch, tokens, features]
   * @param condition SiLU of the time embedding, [batch, timeEmbedDim]
   * @param lengths how many text and video tokens there are
   */
  forward(
    x: tf.Tensor3D,
    condition: tf.Tensor2D,
    lengths: readonly [text: number, video: number],
    rotary: SignedRotaryTables | null,
    context: ForwardContext,
  ): tf.Tensor3D {
    return tf.tidy(() => {
      const attended = tf.tidy(() => {
        const { normed, addGated } = this.#norm1.forward(x, condition, lengths, context);
        return addGated(this.#attention.forward(normed, rotary, context));
      });
      const { normed, addGated } = this.#norm2.forward(attended, condition, lengths, context);
      return addGated(this.#feedForward.forward(normed, context));
    });
  }

  get parameters(): Parameter[] {
    return [this.#norm1, this.#attention, this.#norm2, this.#feedForward].flatMap(
      ({ parameters }) => parameters,
    );
  }
}
