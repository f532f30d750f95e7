import * as tf from "../../tf.js";
import { defineOperation } from "../operation.js";

export interface AdamAttributes {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** The learning rate over the first moment's bias correction, 1 - beta1^step. */
  readonly stepSize: number;
  /** sqrt(1 - beta2^step), the root of the second moment's bias correction. */
  readonly correction: number;
  /** Multiplies the weight before the step: 1 - learning rate * decay for AdamW, 1 for Adam. */
  readonly shrink: number;
  /** The share of the weight that is added to the gradient: Adam's weight decay, 0 for AdamW. */
  readonly decay: number;
  /** Multiplies the gradient, before anything else. */
  readonly scale: number;
}

type Inputs = { weight: tf.Tensor; gradient: tf.Tensor; expAvg: tf.Tensor; expAvgSq: tf.Tensor };

const operation = defineOperation<Inputs, AdamAttributes>({
  name: "FirstframeAdam",
  native: {
    inputs: ["weight", "gradient", "expAvg", "expAvgSq"],
    outputs: ["newWeight", "newExpAvg", "newExpAvgSq"],
    settings: ({ beta1, beta2, eps, stepSize, correction, shrink, decay, scale }) => [
      1 - beta1,
      beta2,
      1 - beta2,
      eps,
      stepSize,
      correction,
      shrink,
      decay,
      scale,
    ],
  },
  forward(
    { weight, gradient: raw, expAvg: before, expAvgSq: beforeSq },
    { beta1, beta2, eps, stepSize, correction, shrink, decay, scale },
  ) {
    let gradient = scale === 1 ? raw : tf.mul(raw, scale);
    if (decay !== 0) gradient = tf.add(gradient, tf.mul(weight, decay));
    const expAvg = tf.add(before, tf.mul(tf.sub(gradient, before), 1 - beta1));
    const expAvgSq = tf.add(tf.mul(beforeSq, beta2), tf.mul(tf.square(gradient), 1 - beta2));
    const denominator = tf.add(tf.div(tf.sqrt(expAvgSq), correction), eps);
    const shrunk = shrink === 1 ? weight : tf.mul(weight, shrink);
    return [tf.sub(shrunk, tf.mul(tf.div(expAvg, denominator), stepSize)), expAvg, expAvgSq];
  },
});

/**
 * One step of Adam (Kingma and Ba 2014, arXiv 1412.6980) or AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101), in
 * `torch.optim`'s order of operations. All tensors have one shape.
 *
 * @returns the new weight and the new moments.
 */
export function adamStep(
  inputs: Inputs,
  attributes: AdamAttributes,
): { weight: tf.Tensor; expAvg: tf.Tensor; expAvgSq: tf.Tensor } {
  const [weight, expAvg, expAvgSq] = operation(inputs, attributes) as [tf.Tensor, tf.Tensor, tf.Tensor];
  return { weight, expAvg, expAvgSq };
}
