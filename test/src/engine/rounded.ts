/** What tests of rounded arithmetic compare with. */
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { fromFloat32, toFloat32 } from "../../../src/weights/dtype.js";

/** Each number rounded to bfloat16, half to even, as files hold it. */
export const rounded = <T extends tf.Tensor>(x: T): T =>
  tf.tensor(toFloat32("BF16", fromFloat32("BF16", x.dataSync() as Float32Array)), x.shape) as T;

/** How far b is from a, relative to a. */
export const distance = (a: tf.Tensor, b: tf.Tensor): number =>
  tf.tidy(() => tf.div(tf.norm(tf.sub(a, b)), tf.norm(a)).dataSync()[0]!);

export const randn = (seed: number, shape: number[]) => new RandomGenerator(seed).randn(shape);
