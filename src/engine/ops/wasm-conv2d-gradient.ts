/**
 * tfjs-backend-wasm lacks the gradient of a 2D convolution with respect to its kernel. Here it is made from matrix products:
 * for each position in the kernel, the input pixels that it meets times the output's gradient.
 */
import * as tf from "../tf.js";

interface Attributes {
  readonly strides: number | [number, number];
  readonly pad: "same" | "valid" | number | tf.backend_util.ExplicitPadding;
  readonly dataFormat: "NHWC" | "NCHW";
  readonly dimRoundingMode?: "floor" | "round" | "ceil";
  readonly filterShape: [number, number, number, number];
}

function conv2dBackpropFilter(x: tf.Tensor4D, dy: tf.Tensor4D, attributes: Attributes): tf.Tensor4D {
  const { strides, pad, dataFormat, dimRoundingMode, filterShape } = attributes;
  if (dataFormat !== "NHWC")
    throw new Error(`Conv2DBackpropFilter on wasm: expected NHWC, found ${dataFormat}`);
  const info = tf.backend_util.computeConv2DInfo(x.shape, filterShape, strides, 1, pad, dimRoundingMode);
  const { strideHeight, strideWidth, outHeight, outWidth, padInfo } = info;
  const [kernelHeight, kernelWidth, inputs, outputs] = filterShape;
  const [batch] = x.shape;
  return tf.tidy(() => {
    const padded = tf.pad(x, [
      [0, 0],
      [padInfo.top, padInfo.bottom],
      [padInfo.left, padInfo.right],
      [0, 0],
    ]);
    const gradient = tf.reshape(dy, [-1, outputs]);
    const places: tf.Tensor2D[] = [];
    for (let i = 0; i < kernelHeight; i++)
      for (let j = 0; j < kernelWidth; j++)
        places.push(
          tf.tidy(() => {
            const end = [
              batch,
              i + (outHeight - 1) * strideHeight + 1,
              j + (outWidth - 1) * strideWidth + 1,
              inputs,
            ];
            const met = tf.stridedSlice(padded, [0, i, j, 0], end, [1, strideHeight, strideWidth, 1]);
            return tf.matMul<tf.Tensor2D>(tf.reshape(met, [-1, inputs]), gradient, true);
          }),
        );
    return tf.reshape(tf.concat(places), filterShape);
  });
}

tf.registerKernel({
  kernelName: tf.Conv2DBackpropFilter,
  backendName: "wasm",
  kernelFunc: ({ inputs, attrs }) =>
    conv2dBackpropFilter(inputs.x as tf.Tensor4D, inputs.dy as tf.Tensor4D, attrs as unknown as Attributes),
});
