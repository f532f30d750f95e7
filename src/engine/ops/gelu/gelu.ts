import * as tf from "../../tf.js";
import { defineOperation } from "../operation.js";

const C1 = Math.sqrt(2 / Math.PI);
const C3 = 0.044715 * C1;

/** sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3); it is (1 + tanh(u)) / 2, one pass cheaper. */
function gate(x: tf.Tensor, squared: tf.Tensor): tf.Tensor {
  return tf.sigmoid(tf.mul(x, tf.add(tf.mul(squared, 2 * C3), 2 * C1)));
}

const gradient = defineOperation<{ x: tf.Tensor; dy: tf.Tensor }, object>({
  name: "FirstframeGeluTanhGrad",
  native: { inputs: ["x", "dy"], outputs: ["dx"] },
  forward({ x, dy }) {
    const squared = tf.square(x);
    const s = gate(x, squared);
    // d/dx [x s] = s + x s (1 - s) 2u'
    const slope = tf.add(tf.mul(squared, 6 * C3), 2 * C1);
    const inner = tf.add(tf.mul(tf.mul(x, slope), tf.sub(1, s)), 1);
    return tf.mul(dy, tf.mul(s, inner));
  },
});

const operation = defineOperation<{ x: tf.Tensor }, object>({
  name: "FirstframeGeluTanh",
  native: { inputs: ["x"], outputs: ["y"] },
  forward: ({ x }) => tf.mul(x, gate(x, tf.square(x))),
  save: { inputs: ["x"] },
  gradient: ([dy], [x]) => ({ x: () => gradient({ x: x!, dy: dy! }, {})[0]! }),
});

/**
 * GELU by its tanh approximation (Hendrycks and Gimpel 2016, arXiv 1606.08415): PyTorch's `approximate="tanh"`.
 * Its gradient only needs the input.
 */
export function geluTanh<T extends tf.Tensor>(x: T): T {
  return operation({ x }, {})[0] as T;
}

/** Exact GELU, x Phi(x): PyTorch's default. */
export function gelu<T extends tf.Tensor>(x: T): T {
  return tf.tidy(() => tf.mul(x, tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5)) as T);
}

/** SiLU (swish), x sigmoid(x). */
export function silu<T extends tf.Tensor>(x: T): T {
  return tf.tidy(() => tf.mul(x, tf.sigmoid(x)) as T);
}
