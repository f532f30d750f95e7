import * as tf from "../../tf.js";
import { defineOperation, replaceKernel } from "../operation.js";

const rows = defineOperation<{ x: tf.Tensor }, object>({
  name: "FirstframeSoftmax",
  native: { inputs: ["x"], outputs: ["y"] },
  forward: ({ x }) => tf.softmax(x),
});

/** Makes `tf.softmax` over the last axis of float tensors run the C++ kernel on the `tensorflow` backend. */
export function replaceSoftmax(): void {
  const softmax = tf.getKernel(tf.Softmax, "tensorflow").kernelFunc;
  replaceKernel(tf.Softmax, (call) => {
    const logits = call.inputs.logits as tf.Tensor;
    const { dim } = call.attrs as unknown as { dim: number };
    const fits = logits.dtype === "float32" && dim === logits.shape.length - 1;
    return fits ? rows({ x: logits }, {})[0]! : softmax(call);
  });
}
