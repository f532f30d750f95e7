/** For maps [rows, height, width, channels]: copies pixels into windows, and takes means and sums over windows. */
import { InputError } from "../errors.js";
import * as tf from "../tf.js";
import { defineOperation } from "./operation.js";

/** Enlarges maps to whole multiples of their height and width by nearest neighbour. */
export function resizeNearest(x: tf.Tensor4D, height: number, width: number): tf.Tensor4D {
  const [, h, w] = x.shape;
  if (h === height && w === width) return x.clone();
  if (height % h !== 0 || width % w !== 0)
    throw new InputError(`resizeNearest: ${height}x${width} is not a whole multiple of ${h}x${w}`);
  return enlarge({ x }, { from: [h, w], to: [height, width] })[0] as tf.Tensor4D;
}

type Size = readonly [height: number, width: number];

/** TensorFlow.js's own gradient for it is wrong on the cpu backend for more than one row. */
const enlarge = defineOperation<{ x: tf.Tensor4D }, { from: Size; to: Size }>({
  name: "FirstframeResizeNearest",
  forward: ({ x }, { to }) => tf.image.resizeNearestNeighbor(x, [...to]),
  gradient: ([dy], _saved, { from }) => ({ x: () => sumWindows(dy as tf.Tensor4D, ...from) }),
});

/** The mean over each map's pixels: [rows, 1, 1, channels]. */
export function meanPixel(x: tf.Tensor4D): tf.Tensor4D {
  const [rows, height, width, channels] = x.shape;
  const pixels = height * width;
  // Average pooling is the fastest such reduction on every engine (measured). It takes two steps, so that no float32 sum
  // adds up many thousands of terms in sequence.
  const step = divisorNearRoot(pixels);
  return tf.tidy(() => {
    const column: tf.Tensor4D = tf.reshape(x, [rows, pixels, 1, channels]);
    const parts = step === 1 ? column : tf.avgPool<tf.Tensor4D>(column, [step, 1], [step, 1], "valid");
    return tf.avgPool(parts, [pixels / step, 1], 1, "valid");
  });
}

/** The largest divisor of n that is not above its square root. */
function divisorNearRoot(n: number): number {
  let divisor = Math.floor(Math.sqrt(n));
  while (n % divisor !== 0) divisor--;
  return divisor;
}

/** Sums over h x w equal windows of the map: [rows, h, w, channels]. */
export function sumWindows(x: tf.Tensor4D, h: number, w: number): tf.Tensor4D {
  const [, height, width] = x.shape;
  if (h === height && w === width) return x.clone();
  if (h === 1 && w === 1) return tf.tidy(() => tf.mul(meanPixel(x), height * width));
  const window: [number, number] = [height / h, width / w];
  return tf.tidy(() => tf.mul(tf.avgPool(x, window, window, "valid"), window[0] * window[1]));
}
