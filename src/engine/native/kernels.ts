import type { Attribute, NodeBackend } from "../backends/node-backend.js";
import { type AttributeType, type NativeKernel, useNativeKernels } from "../ops/operation.js";
import { replaceSoftmax } from "../ops/softmax/softmax.js";
import { currentPrecision } from "../precision.js";
import type { Bfloat16Instructions } from "../running.js";
import * as tf from "../tf.js";

/** The addon that `firstframe engine install` compiles from the C++ in `native/` and `ops/`. */
export interface OperationsAddon {
  /** Makes a TensorFlow operation of the kernel with that name. @throws Error for an unknown kernel or attribute. */
  define(name: string, inputs: string[], outputs: string[], attributes: string[]): void;
  /** This processor's instructions for products of bfloat16 factors; "" if it has none. */
  readonly bfloat16: Bfloat16Instructions | "";
}

/** tfjs-node's attribute types; for a list it takes the element's type and an array. */
const TYPES = {
  float: "TF_ATTR_FLOAT",
  int: "TF_ATTR_INT",
  "list(int)": "TF_ATTR_INT",
  bool: "TF_ATTR_BOOL",
} as const satisfies Record<AttributeType, keyof NodeBackend["binding"]>;

/** The attribute that says whether a kernel's products round their factors. */
const PRODUCTS = "rounded";

/** Replaces composites by their C++ kernels on the `tensorflow` backend. */
export function registerNativeKernels(addon: OperationsAddon): void {
  useNativeKernels((kernel) => {
    define(addon, kernel);
    const attributes = Object.entries(kernel.attributes);
    const { name, settings, outputs } = kernel;
    return ({ inputs, attrs, backend }) => {
      const node = backend as unknown as NodeBackend;
      const given = attrs as Record<string, unknown>;
      const list: Attribute[] = attributes.map(([attribute, type]) => ({
        name: attribute,
        type: node.binding[TYPES[type]],
        value: given[attribute],
      }));
      if (kernel.products) {
        const value = currentPrecision() === "bfloat16";
        list.push({ name: PRODUCTS, type: node.binding.TF_ATTR_BOOL, value });
      }
      const tensors = kernel.inputs.map((input) => inputs[input]!);
      const numbers = settings && tf.tensor1d([...settings(given)]);
      const all = numbers ? [...tensors, numbers] : tensors;
      const results = node.executeMultipleOutputs(name, list, all, outputs.length);
      numbers?.dispose();
      return results.length === 1 ? results[0]! : results;
    };
  });
  replaceSoftmax();
}

function define(addon: OperationsAddon, kernel: NativeKernel): void {
  const { name, inputs, outputs, integers, attributes, settings } = kernel;
  const typed = (names: readonly string[]) =>
    names.map((each) => `${snakeCase(each)}: ${integers.includes(each) ? "int32" : "float"}`);
  addon.define(name, typed(settings ? [...inputs, "settings"] : inputs), typed(outputs), [
    ...Object.entries(attributes).map(([attribute, type]) => `${attribute}: ${type}`),
    ...(kernel.products ? [`${PRODUCTS}: bool`] : []),
  ]);
}

/** TensorFlow's names for inputs and outputs are in lower case. */
const snakeCase = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
