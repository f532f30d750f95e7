import * as tf from "../tf.js";
import { gelu, silu } from "./gelu/gelu.js";

/** Activations by their names in configurations (diffusers' `get_activation`). */
export const ACTIVATIONS = {
  silu,
  swish: silu,
  mish: <T extends tf.Tensor>(x: T): T => tf.tidy(() => tf.mul(x, tf.tanh(tf.softplus(x))) as T),
  gelu,
  relu: <T extends tf.Tensor>(x: T): T => tf.relu(x),
} as const;

export type ActivationName = keyof typeof ACTIVATIONS;
