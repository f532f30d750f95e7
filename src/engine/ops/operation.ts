import * as tf from "../tf.js";

/** Backends, by TensorFlow.js's names, that an operation made of tensor operations runs on. */
const BACKENDS = ["cpu", "wasm", "tensorflow", "webgpu"];

type Inputs = Record<string, tf.Tensor>;

/** An operation of our own: one node on the gradient tape, whatever it is made of. */
export interface OperationDefinition<I extends Inputs, A extends object> {
  /** Unique among all kernels of TensorFlow.js. */
  readonly name: string;
  /** The operation in terms of others. Its intermediate tensors are disposed. */
  forward(inputs: I, attributes: A): tf.Tensor | tf.Tensor[];
  /** What the gradient needs: inputs by name, and outputs by position. */
  readonly save?: { readonly inputs?: readonly (keyof I & string)[]; readonly outputs?: readonly boolean[] };
  /**
   * Gradients for the inputs. Each function runs only if its input takes part in what is differentiated, so what
   * frozen weights would cost is saved. What several of them share is computed before, with intermediates tidied.
   *
   * @param dy one a output.
   * @param saved the inputs, then the outputs, that `save` names.
   */
  gradient?(dy: tf.Tensor[], saved: tf.Tensor[], attributes: A): { readonly [K in keyof I]: () => tf.Tensor };
}

/**
 * Registers an operation as a kernel of TensorFlow.js, with its gradient. A backend that has something better
 * registers a kernel of the same name for itself (after `tf.unregisterKernel(name, backend)`).
 *
 * @returns a function that runs it.
 */
export function defineOperation<I extends Inputs, A extends object>({
  name,
  forward,
  save = {},
  gradient,
}: OperationDefinition<I, A>): (inputs: I, attributes: A) => tf.Tensor[] {
  for (const backendName of BACKENDS) {
    if (tf.getKernel(name, backendName) !== undefined) continue; // the engine started first and has a fused one
    tf.registerKernel({
      kernelName: name,
      backendName,
      kernelFunc: ({ inputs, attrs }) =>
        tf.tidy(() => forward(inputs as unknown as I, attrs as unknown as A)),
    });
  }
  if (gradient) {
    tf.registerGradient({
      kernelName: name,
      inputsToSave: [...(save.inputs ?? [])],
      outputsToSave: [...(save.outputs ?? [])],
      gradFunc: (dy, saved, attrs) =>
        gradient(Array.isArray(dy) ? dy : [dy], saved, attrs as unknown as A) as Record<
          string,
          () => tf.Tensor
        >,
    });
  }
  return (inputs, attributes) => {
    const outputs = tf.engine().runKernel(name, inputs, attributes as unknown as tf.NamedAttrMap);
    return Array.isArray(outputs) ? outputs : [outputs];
  };
}
