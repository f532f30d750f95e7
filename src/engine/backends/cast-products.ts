/**
 * bfloat16 by TensorFlow's own operations, for CUDA: the factors of a product are cast, a graphics card's tensor cores multiply
 * them and add up in float32, and the result is rounded to bfloat16, as in PyTorch's autocast. Weights that are held as bfloat16
 * or int8 lie in the order of the file, packed in int32 tensors because TensorFlow.js knows no smaller type; on the device they
 * are read as what they are. The operations are the processor's as well, where tests run them.
 */
import { LARGEST } from "../ops/linear/int8.js";
import { useKernels } from "../ops/operation.js";
import { currentPrecision } from "../precision.js";
import * as tf from "../tf.js";
import type { Attribute, Handle, NodeBackend, NodeBackendClass } from "./node-backend.js";

/** TensorFlow's numbers of types that tfjs-node does not name. */
const INT8 = 6;
const BFLOAT16 = 14;

/** The operations that tfjs-node multiplies by. */
const PRODUCTS: ReadonlySet<string> = new Set([
  "BatchMatMulV2",
  "Conv2D",
  "Conv2DBackpropFilter",
  "Conv2DBackpropInput",
  "Conv3D",
  "Conv3DBackpropFilterV2",
  "Conv3DBackpropInputV2",
]);

let casts = false;

/** From now on, the `tensorflow` backend holds weights and multiplies in this way. */
export function castProducts(): void {
  casts = true;
  useKernels(KERNELS);
}

/** tfjs-node's backend, which casts the factors of products after {@link castProducts} while the precision is bfloat16. */
export function withCastProducts(Base: NodeBackendClass): NodeBackendClass {
  return class extends Base {
    override executeSingleOutput(
      name: string,
      attributes: readonly Attribute[],
      inputs: readonly tf.TensorInfo[],
    ): tf.Tensor {
      if (!casts || !PRODUCTS.has(name) || currentPrecision() !== "bfloat16")
        return super.executeSingleOutput(name, attributes, inputs);
      return withSteps(this, (steps) => {
        const factors = inputs.map((input) => {
          const handle = steps.of(input);
          return input.dtype === "float32" ? steps.cast(handle, BFLOAT16) : handle;
        });
        const typed = attributes.map((attribute) =>
          attribute.name === "T" ? steps.type("T", BFLOAT16) : attribute,
        );
        return steps.cast(steps.run(name, typed, factors), this.binding.TF_FLOAT);
      });
    }
  };
}

/** Operations of TensorFlow one after the other, on tensors of any type. */
class Steps {
  readonly #backend: NodeBackend;
  readonly #made: number[] = [];

  constructor(backend: NodeBackend) {
    this.#backend = backend;
  }

  of(tensor: tf.TensorInfo): Handle {
    const { binding } = this.#backend;
    const dtype = tensor.dtype === "int32" ? binding.TF_INT32 : binding.TF_FLOAT;
    return { id: this.#backend.getInputTensorIds([tensor])[0]!, shape: tensor.shape, dtype };
  }

  type(name: string, dtype: number): Attribute {
    return { name, type: this.#backend.binding.TF_ATTR_TYPE, value: dtype };
  }

  bool(name: string, value: boolean): Attribute {
    return { name, type: this.#backend.binding.TF_ATTR_BOOL, value };
  }

  run(name: string, attributes: readonly Attribute[], inputs: readonly Handle[]): Handle {
    const ids = inputs.map(({ id }) => id);
    const [output] = this.#backend.binding.executeOp(name, attributes, ids, 1);
    this.#made.push(output!.id);
    return output!;
  }

  cast(x: Handle, dtype: number): Handle {
    const attributes = [this.type("SrcT", x.dtype), this.type("DstT", dtype), this.bool("Truncate", false)];
    return this.run("Cast", attributes, [x]);
  }

  /** The same bytes as another type, whose size divides or multiplies the last axis away or into being. */
  bitcast(x: Handle, dtype: number): Handle {
    return this.run("Bitcast", [this.type("T", x.dtype), this.type("type", dtype)], [x]);
  }

  reshape(x: Handle, shape: readonly number[]): Handle {
    const wanted = this.#integers(shape);
    return this.run("Reshape", [this.type("T", x.dtype), this.type("Tshape", wanted.dtype)], [x, wanted]);
  }

  /** The first numbers of a vector. */
  first(x: Handle, count: number): Handle {
    if (x.shape[0] === count) return x;
    const bounds = [this.#integers([0]), this.#integers([count])];
    return this.run("Slice", [this.type("T", x.dtype), this.type("Index", bounds[0]!.dtype)], [x, ...bounds]);
  }

  #integers(values: readonly number[]): Handle {
    const { binding } = this.#backend;
    const id = binding.createTensor([values.length], binding.TF_INT32, Int32Array.from(values));
    this.#made.push(id);
    return { id, shape: [values.length], dtype: binding.TF_INT32 };
  }

  /** Frees what was made on the way. */
  end(result?: Handle): void {
    for (const id of this.#made) if (id !== result?.id) this.#backend.binding.deleteTensor(id);
  }
}

/** The tensor that some steps end with. */
function withSteps(backend: NodeBackend, run: (steps: Steps) => Handle): tf.Tensor {
  const steps = new Steps(backend);
  let result: Handle | undefined;
  try {
    result = run(steps);
    return backend.createOutputTensor(result);
  } finally {
    steps.end(result);
  }
}

type Call = Parameters<tf.KernelFunc>[0];
type Shape = { readonly depth: number; readonly columns: number };

const kernel =
  <A>(
    run: (
      inputs: Readonly<Record<string, tf.Tensor>>,
      attributes: A,
      backend: NodeBackend,
    ) => tf.Tensor | tf.Tensor[],
  ): tf.KernelFunc =>
  ({ inputs, attrs, backend }: Call) =>
    tf.tidy(() => run(inputs as Record<string, tf.Tensor>, attrs as A, backend as unknown as NodeBackend));

/** Numbers that fill whole int32 ones, packed in those: `of` in each. @param x its last axis is a multiple of `of`. */
const packed = (backend: NodeBackend, x: tf.Tensor, dtype: number, of: number): tf.Tensor =>
  withSteps(backend, (steps) => {
    const last = x.shape.at(-1)!;
    const grouped = steps.reshape(steps.cast(steps.of(x), dtype), [...x.shape.slice(0, -1), last / of, of]);
    return steps.bitcast(grouped, backend.binding.TF_INT32);
  });

/** What {@link packed} packed, as it was given. */
const unpacked = (backend: NodeBackend, held: tf.Tensor, dtype: number, of: number): tf.Tensor =>
  withSteps(backend, (steps) => {
    const all = steps.reshape(
      steps.bitcast(steps.of(held), dtype),
      held.shape.with(-1, held.shape.at(-1)! * of),
    );
    return steps.cast(all, backend.binding.TF_FLOAT);
  });

/** With zeros at the end of the last axis, up to a multiple of `of`. */
function filled(x: tf.Tensor, of: number): tf.Tensor {
  const missing = -x.shape.at(-1)! & (of - 1);
  return missing === 0
    ? x
    : tf.pad(
        x,
        x.shape.map((_, i) => [0, i === x.rank - 1 ? missing : 0] as [number, number]),
      );
}

const hold = kernel<{ lengths: [number, number, number] }>(({ weight }, { lengths }, backend) => {
  const matrices = tf.transpose(weight!, lengths);
  return packed(backend, filled(tf.reshape(matrices, [matrices.shape[0]!, -1]), 2), BFLOAT16, 2);
});

const release = kernel<Shape & { transposeB: boolean }>(
  ({ held }, { depth, columns, transposeB }, backend) => {
    const all = unpacked(backend, held!, BFLOAT16, 2);
    const count = held!.shape[0]!;
    const matrices = tf.reshape(tf.slice(all, [0, 0], [count, depth * columns]), [count, depth, columns]);
    return transposeB ? tf.transpose(matrices, [0, 2, 1]) : matrices;
  },
);

const heldProduct = kernel<Shape & { transposeB: boolean }>(({ a, held, bias }, shape, backend) => {
  const { depth, columns, transposeB } = shape;
  const y = withSteps(backend, (steps) => {
    const rows = steps.reshape(steps.cast(steps.of(a!), BFLOAT16), [-1, a!.shape.at(-1)!]);
    const all = steps.reshape(steps.bitcast(steps.of(held!), BFLOAT16), [-1]);
    const numbers = steps.reshape(steps.first(all, depth * columns), [depth, columns]);
    const turned = [steps.bool("transpose_a", false), steps.bool("transpose_b", transposeB)];
    const product = steps.run("MatMul", [steps.type("T", BFLOAT16), ...turned], [rows, numbers]);
    const whole = steps.reshape(product, a!.shape.with(-1, transposeB ? depth : columns));
    return steps.cast(whole, backend.binding.TF_FLOAT);
  });
  return bias ? tf.add(y, bias) : y;
});

const holdInt8 = kernel(({ weight }, _, backend) => {
  const largest = tf.max(tf.abs(weight!), 1);
  const scale = tf.where(tf.greater(largest, 0), tf.div(largest, LARGEST), tf.onesLike(largest));
  const numbers = tf.round(tf.div(weight!, tf.expandDims(scale, 1)));
  return [packed(backend, filled(numbers, 4), INT8, 4), scale];
});

const int8Numbers = kernel<Shape>(({ held }, { depth, columns }, backend) =>
  tf.slice(unpacked(backend, held!, INT8, 4), [0, 0], [columns, depth]),
);

const KERNELS: Readonly<Record<string, tf.KernelFunc>> = {
  FirstframeHold: hold,
  FirstframeRelease: release,
  FirstframeHeldMatMul: heldProduct,
  FirstframeHeldMatMulBias: heldProduct,
  FirstframeRound: kernel(({ x }, _, backend) => packed(backend, x!, BFLOAT16, 2)),
  FirstframeWiden: kernel(({ rounded }, _, backend) => unpacked(backend, rounded!, BFLOAT16, 2)),
  FirstframeInt8Hold: holdInt8,
  FirstframeInt8Numbers: int8Numbers,
};
