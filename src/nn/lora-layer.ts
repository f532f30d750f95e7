import type { Affine } from "../engine/ops/linear/linear.js";
import { adaptedLinear, addLowRank } from "../engine/ops/low-rank/low-rank.js";
import * as tf from "../engine/tf.js";
import { dropout, type ForwardContext } from "./forward-context.js";
import { type Initializer, type Parameter, type ParameterScope, zeros } from "./module.js";

export interface LoraLayerOptions {
  readonly rank: number;
  /** The factor on the update, normally alpha / rank. */
  readonly scaling: number;
  /** Initial values of A; B starts at zero, so that the adapter starts without effect. */
  readonly initA: Initializer;
  readonly initB?: Initializer;
  /** Probability of dropout on the adapter's input. */
  readonly dropout: number;
}

/** A low-rank update of a linear layer (Hu et al. 2021, arXiv 2106.09685): scaling * B A, by PEFT's names. */
export class LoraLayer {
  readonly rank: number;
  readonly scaling: number;
  /** [rank, in] */
  readonly a: Parameter;
  /** [out, rank] */
  readonly b: Parameter;
  /** Factor on this adapter (diffusers' `set_adapters`); 0 turns it off. */
  weight = 1;
  /** The factor with which the update is already part of the weight; null if it is not. */
  fused: number | null = null;
  readonly #dropout: number;
  readonly #inFeatures: number;
  readonly #outFeatures: number;

  /** @param patchShape for a convolution of whole patches: the shape of one output's weight, [in channels, ...]. */
  constructor(
    scope: ParameterScope,
    inFeatures: number,
    outFeatures: number,
    options: LoraLayerOptions,
    patchShape?: readonly number[],
  ) {
    const { rank, scaling } = options;
    scope.module("LoraLayer", () => [
      `r=${rank}`,
      `scaling=${scaling}`,
      ...(this.weight === 1 ? [] : [`weight=${this.weight}`]),
    ]);
    this.rank = rank;
    this.scaling = scaling;
    this.#dropout = options.dropout;
    this.#inFeatures = inFeatures;
    this.#outFeatures = outFeatures;
    const ones = patchShape ? patchShape.slice(1).map(() => 1) : [];
    this.a = scope
      .child("lora_A")
      .module("Linear")
      .parameter("weight", [rank, ...(patchShape ?? [inFeatures])], {
        init: options.initA,
      });
    this.b = scope
      .child("lora_B")
      .module("Linear")
      .parameter("weight", [outFeatures, rank, ...ones], {
        init: options.initB ?? zeros,
      });
  }

  /** The layer's output with what the adapter adds; y itself while it is off or fused. */
  addTo<T extends tf.Tensor>(y: T, x: tf.Tensor, context: ForwardContext): T {
    const factor = this.#factor(context);
    if (factor === 0) return y;
    const [a, b] = this.#matrices();
    return addLowRank(y, dropout(x, this.#dropout, context), a, b, factor);
  }

  /** A frozen layer's output with what the adapter adds, as one operation; null if the adapter is off or has dropout. */
  applyWith<T extends tf.Tensor>(layer: Affine, x: T, context: ForwardContext): T | null {
    const factor = this.#factor(context);
    if (factor === 0 || (this.#dropout > 0 && context.dropout)) return null;
    const [a, b] = this.#matrices();
    return adaptedLinear(x, layer, a, b, factor);
  }

  #factor(context: ForwardContext): number {
    return this.fused === null ? this.scaling * this.weight * context.loraScale : 0;
  }

  #matrices(): [tf.Tensor2D, tf.Tensor2D] {
    return [
      tf.reshape<tf.Rank.R2>(this.a.value, [this.rank, this.#inFeatures]),
      tf.reshape<tf.Rank.R2>(this.b.value, [this.#outFeatures, this.rank]),
    ];
  }

  /** The update of the weight, [out, in]: scaling * B A. */
  delta(): tf.Tensor2D {
    return tf.tidy(() => {
      const a: tf.Tensor2D = tf.reshape(this.a.value, [this.rank, this.#inFeatures]);
      const b: tf.Tensor2D = tf.reshape(this.b.value, [this.#outFeatures, this.rank]);
      return tf.mul(tf.matMul(b, a), this.scaling);
    });
  }
}
