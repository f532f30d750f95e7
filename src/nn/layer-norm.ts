import { headNorm } from "../engine/ops/head-norm/head-norm.js";
import { layerNorm } from "../engine/ops/layer-norm/layer-norm.js";
import { modulatedNorm } from "../engine/ops/modulated-norm/modulated-norm.js";
import type { SignedRotaryTables } from "../engine/ops/rotary/rotary.js";
import * as tf from "../engine/tf.js";
import { ones, type Parameter, type ParameterScope, zeros } from "./module.js";

/** Layer norm over the last axis, with a weight and a bias for each feature if `affine`. */
export class LayerNorm {
  readonly features: number;
  readonly eps: number;
  readonly #weight: Parameter | null;
  readonly #bias: Parameter | null;

  constructor(scope: ParameterScope, features: number, eps: number, affine = true) {
    scope.module("LayerNorm", () => [`eps=${eps.toExponential()}`]);
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
