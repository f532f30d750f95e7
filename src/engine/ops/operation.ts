import * as tf from "../tf.js";

/** Backends, by TensorFlow.js's names, that an operation made of tensor operations runs on. */
const BACKENDS = ["cpu", "wasm", "tensorflow", "webgpu"];

type Inputs = Record<string, tf.Tensor>;

/** Attribute types, by TensorFlow's names. */
export type AttributeType = "float" | "int" | "bool" | "list(int)";

/** What an operation's kernel in C++ takes and gives; the kernel has the operation's name, and stands beside it. */
export interface NativeSignature<I, A> {
  /** In the kernel's order; float tensors all of them. */
  readonly inputs: readonly (keyof I & string)[];
  readonly outputs: readonly string[];
  readonly attributes?: { readonly [K in keyof A & string]?: AttributeType };
  /**
   * Numbers that are new at every call, as one more input, `settings`: TensorFlow keeps a kernel for each set of
   * attributes it has seen.
   */
  readonly settings?: (attributes: A) => readonly number[];
}

/** An operation of our own: one node on the gradient tape, whatever it is made of. */
export interface OperationDefinition<I extends Inputs, A extends object> {
  /** Unique among all kernels of TensorFlow.js. */
  readonly name: string;
  /** The operation in terms of others. Its intermediate tensors are disposed. */
  forward(inputs: I, attributes: A): tf.Tensor | tf.Tensor[];
  /** Present where there is a kernel in C++ for the processor. */
  readonly native?: NativeSignature<I, A>;
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

/** A kernel in C++, as the backend that runs it gets to know it. */
export interface NativeKernel {
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, AttributeType>>;
  readonly settings?: (attributes: object) => readonly number[];
}

const natives: NativeKernel[] = [];

/** Operations with a kernel in C++, of the files that were loaded. */
export const nativeKernels = (): readonly NativeKernel[] => natives;

let nativeKernel: ((kernel: NativeKernel) => tf.KernelFunc) | undefined;

/**
 * From now on, operations that have a kernel in C++ run it on the `tensorflow` backend: those there are, and those that are
 * defined later.
 */
export function useNativeKernels(kernelFuncOf: (kernel: NativeKernel) => tf.KernelFunc): void {
  nativeKernel = kernelFuncOf;
  for (const kernel of natives) replaceKernel(kernel.name, kernelFuncOf(kernel));
}

/** Puts a kernel of the `tensorflow` backend in another one's place. */
export function replaceKernel(kernelName: string, kernelFunc: tf.KernelFunc): void {
  if (tf.getKernel(kernelName, "tensorflow") !== undefined) tf.unregisterKernel(kernelName, "tensorflow");
  tf.registerKernel({ kernelName, backendName: "tensorflow", kernelFunc });
}

/**
 * Registers an operation as a kernel of TensorFlow.js, with its gradient.
 *
 * @returns a function that runs it.
 */
export function defineOperation<I extends Inputs, A extends object>({
  name,
  forward,
  native,
  save = {},
  gradient,
}: OperationDefinition<I, A>): (inputs: I, attributes: A) => tf.Tensor[] {
  for (const backendName of BACKENDS) {
    tf.registerKernel({
      kernelName: name,
      backendName,
      kernelFunc: ({ inputs, attrs }) =>
        tf.tidy(() => forward(inputs as unknown as I, attrs as unknown as A)),
    });
  }
  if (native) {
    const { inputs, outputs, attributes = {}, settings } = native;
    const kernel: NativeKernel = {
      name,
      inputs,
      outputs,
      attributes: attributes as Record<string, AttributeType>,
      settings: settings as NativeKernel["settings"],
    };
    natives.push(kernel);
    if (nativeKernel) replaceKernel(name, nativeKernel(kernel));
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
