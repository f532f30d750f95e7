import { currentPrecision, type Precision, withPrecision } from "../precision.js";
import * as tf from "../tf.js";

/** Backends, by TensorFlow.js's names, that an operation made of tensor operations runs on. */
const BACKENDS = ["cpu", "wasm", "tensorflow", "webgpu"];

type Inputs = Record<string, tf.Tensor>;

/** Attribute types, by TensorFlow's names. */
export type AttributeType = "float" | "int" | "bool" | "list(int)";

/** Inputs and outputs of an operation's C++ kernel, which has the operation's name and is next to it. */
export interface NativeSignature<I, A> {
  /** In the kernel's order. */
  readonly inputs: readonly (keyof I & string)[];
  readonly outputs: readonly string[];
  /** The inputs and outputs that are int32 tensors; all others are float tensors. */
  readonly integers?: readonly string[];
  readonly attributes?: { readonly [K in keyof A & string]?: AttributeType };
  /** Whether it has products, whose factors are rounded if the precision says so. The kernel has an attribute for that. */
  readonly products?: boolean;
  /**
   * Numbers that change with every call, passed as one more input, `settings`, because TensorFlow keeps a kernel for each
   * set of attributes it has seen.
   */
  readonly settings?: (attributes: A) => readonly number[];
}

/** An operation of our own: one node on the gradient tape, whatever it consists of. */
export interface OperationDefinition<I extends Inputs, A extends object> {
  /** Unique among all kernels of TensorFlow.js. */
  readonly name: string;
  /** The operation in terms of others. Its intermediate tensors are disposed. */
  forward(inputs: I, attributes: A): tf.Tensor | tf.Tensor[];
  /** Present if there is a C++ kernel for the processor. */
  readonly native?: NativeSignature<I, A>;
  /** What the gradient needs: inputs by name, and outputs by position. */
  readonly save?: { readonly inputs?: readonly (keyof I & string)[]; readonly outputs?: readonly boolean[] };
  /**
   * Gradients for the inputs. Each function runs only if its input needs a gradient, which saves the cost of frozen
   * weights. What several of them share is computed first, with intermediates tidied.
   *
   * @param dy one per output.
   * @param saved the inputs, then the outputs, that `save` names.
   */
  gradient?(dy: tf.Tensor[], saved: tf.Tensor[], attributes: A): { readonly [K in keyof I]: () => tf.Tensor };
}

/** A C++ kernel, as described to the backend that runs it. */
export interface NativeKernel {
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly integers: readonly string[];
  readonly attributes: Readonly<Record<string, AttributeType>>;
  readonly products: boolean;
  readonly settings?: (attributes: object) => readonly number[];
}

const natives: NativeKernel[] = [];

/** Operations with a C++ kernel, from the files that have been loaded. */
export const nativeKernels = (): readonly NativeKernel[] => natives;

/** Whether the running backend has kernels of our own, which hold weights in few bytes. */
export const hasOwnKernels = (): boolean =>
  (nativeKernel !== undefined || kernels.size > 0) && tf.getBackend() === "tensorflow";

let nativeKernel: ((kernel: NativeKernel) => tf.KernelFunc) | undefined;

const kernels = new Map<string, tf.KernelFunc>();

/** From now on, operations run these kernels on the `tensorflow` backend, by name; including those that are defined later. */
export function useKernels(own: Readonly<Record<string, tf.KernelFunc>>): void {
  for (const [name, kernel] of Object.entries(own)) {
    kernels.set(name, kernel);
    if (tf.getKernel(name, "tensorflow") !== undefined) replaceKernel(name, kernel);
  }
}

/**
 * From now on, operations with a C++ kernel run it on the `tensorflow` backend, including those that are defined later.
 */
export function useNativeKernels(kernelFuncOf: (kernel: NativeKernel) => tf.KernelFunc): void {
  nativeKernel = kernelFuncOf;
  for (const kernel of natives) replaceKernel(kernel.name, kernelFuncOf(kernel));
}

/** Replaces a kernel of the `tensorflow` backend. */
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
    const { inputs, outputs, integers = [], attributes = {}, products = false, settings } = native;
    const kernel: NativeKernel = {
      name,
      inputs,
      outputs,
      integers,
      attributes: attributes as Record<string, AttributeType>,
      products,
      settings: settings as NativeKernel["settings"],
    };
    natives.push(kernel);
    if (nativeKernel) replaceKernel(name, nativeKernel(kernel));
  }
  const own = kernels.get(name);
  if (own) replaceKernel(name, own);
  if (gradient) {
    tf.registerGradient({
      kernelName: name,
      inputsToSave: [...(save.inputs ?? [])],
      outputsToSave: [...(save.outputs ?? [])],
      gradFunc: (dy, saved, attrs) => {
        const { precision } = attrs as unknown as { precision: Precision };
        const run = () => gradient(Array.isArray(dy) ? dy : [dy], saved, attrs as unknown as A);
        const functions = Object.entries<() => tf.Tensor>(withPrecision(precision, run));
        return Object.fromEntries(
          functions.map(([key, each]) => [key, () => withPrecision(precision, each)]),
        );
      },
    });
  }
  return (inputs, attributes) => {
    const all = gradient ? { ...attributes, precision: currentPrecision() } : attributes;
    const outputs = tf.engine().runKernel(name, inputs, all as unknown as tf.NamedAttrMap);
    return Array.isArray(outputs) ? outputs : [outputs];
  };
}
