import { currentEngine } from "../../running.js";
import * as tf from "../../tf.js";
import { type HeldKernel, releaseKernel } from "../linear/held.js";
import { defineOperation } from "../operation.js";
import { withOwnTape } from "../tape.js";
import { type CausalConvOptions, causalConv3d } from "./conv.js";

type Inputs = { history: tf.Tensor; x: tf.Tensor; held: tf.Tensor; bias: tf.Tensor };
type Attributes = {
  readonly depth: number;
  readonly columns: number;
  /** Of the kernel: time, height, width. */
  readonly lengths: readonly number[];
  readonly batch: number;
};

/** The same with the kernel in float32. */
function composite(
  { history, x, held, bias }: Inputs,
  { depth, columns, lengths, batch }: Attributes,
): tf.Tensor {
  const kernel = releaseKernel({ held, depth, columns, size: lengths as unknown as HeldKernel["size"] });
  const before = history.size > 0 ? { history: history as tf.Tensor4D } : {};
  return causalConv3d(x as tf.Tensor4D, kernel, bias as tf.Tensor1D, { batch, ...before });
}

const operation = defineOperation<Inputs, Attributes>({
  name: "FirstframeHeldConv",
  native: {
    inputs: ["history", "x", "held", "bias"],
    outputs: ["y"],
    integers: ["held"],
    attributes: { depth: "int", columns: "int", lengths: "list(int)", batch: "int" },
  },
  forward: composite,
  save: { inputs: ["history", "x", "held", "bias"] },
  gradient([dy], [history, x, held, bias], attributes) {
    const given = { held: held!, bias: bias! };
    const [dx, dHistory] = tf.tidy(() =>
      withOwnTape(() => {
        if (history!.size === 0) {
          const alone = (x: tf.Tensor) => composite({ ...given, history: history!, x }, attributes);
          return [tf.grad(alone)(x!, dy!), tf.zerosLike(history!)];
        }
        const both = (x: tf.Tensor, history: tf.Tensor) => composite({ ...given, history, x }, attributes);
        return tf.grads(both)([x!, history!], dy!);
      }),
    );
    return {
      x: () => dx!,
      history: () => dHistory!,
      held: () => tf.zerosLike(held!),
      bias: () => tf.sum(dy!, [0, 1, 2]),
    };
  },
});

/** Whether the processor convolves in bfloat16. With fewer channels, most of what it would multiply is padding. */
export const convolvesHeld = (channels: number): boolean =>
  channels >= 16 && currentEngine()?.bfloat16 != null;

/**
 * {@link causalConv3d} with a kernel that is held as bfloat16: x is rounded, too, where the processor has instructions for
 * bfloat16, and the sums are float32.
 *
 * @param x [frames * batch, height, width, in]
 * @returns [frames * batch, height, width, out]
 */
export function heldConv3d(
  x: tf.Tensor4D,
  { held, depth, columns, size }: HeldKernel,
  bias: tf.Tensor1D,
  { batch, history }: CausalConvOptions,
): tf.Tensor4D {
  const attributes = { depth, columns, lengths: size, batch };
  return tf.tidy(() => {
    const before = history ?? tf.zeros([0, x.shape[1], x.shape[2], x.shape[3]]);
    // The native operation has nothing else than these instructions.
    if (currentEngine()?.bfloat16 == null)
      return composite({ history: before, x, held, bias }, attributes) as tf.Tensor4D;
    return operation({ history: before, x, held, bias }, attributes)[0] as tf.Tensor4D;
  });
}
