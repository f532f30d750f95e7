import * as tf from "../tf.js";
import type { NodeBackend, NodeBackendClass, TensorData } from "./node-backend.js";

/**
 * tfjs-node's backend with reshapes that run nothing. In tfjs-node each is a TensorFlow operation, which costs 50
 * microseconds in all. Here the tensor gets its new shape in JavaScript only, and TensorFlow makes a handle of that shape
 * when an operation asks for one; often none does before the next reshape.
 */
export function withSharedShapes(Base: NodeBackendClass): NodeBackendClass {
  return class extends Base {
    override getInputTensorIds(tensors: tf.TensorInfo[]): number[] {
      const ids = super.getInputTensorIds(tensors);
      for (let i = 0; i < ids.length; i++) {
        const { dataId, shape } = tensors[i]!;
        // tfjs-node's own int64 scalars have no data id.
        const data = dataId === undefined ? undefined : this.tensorMap.get(dataId);
        if (data !== undefined && !tf.util.arraysEqual(data.shape, shape)) ids[i] = this.#view(data, shape);
      }
      return ids;
    }

    override disposeData(dataId: object, force = false): boolean {
      const views = this.tensorMap.has(dataId) ? this.tensorMap.get(dataId).views : undefined;
      const gone = super.disposeData(dataId, force);
      if (gone && views !== undefined) for (const id of views.values()) this.binding.deleteTensor(id);
      return gone;
    }

    #view(data: TensorData, shape: number[]): number {
      data.views ??= new Map();
      const key = shape.join();
      let id = data.views.get(key);
      if (id === undefined) {
        const { binding } = this;
        const wanted = binding.createTensor([shape.length], binding.TF_INT32, Int32Array.from(shape));
        const attributes = [
          { name: "T", type: binding.TF_ATTR_TYPE, value: data.dtype },
          { name: "Tshape", type: binding.TF_ATTR_TYPE, value: binding.TF_INT32 },
        ];
        id = binding.executeOp("Reshape", attributes, [data.id, wanted], 1)[0]!.id;
        binding.deleteTensor(wanted);
        data.views.set(key, id);
      }
      return id;
    }
  };
}

/** Registers the kernels that only reshape; they belong to {@link withSharedShapes}. */
export function registerReshapes(): void {
  replace(tf.Reshape, (x, { shape }) =>
    tf.util.inferFromImplicitShape(shape as number[], tf.util.sizeFromShape(x.shape)),
  );
  replace(tf.ExpandDims, ({ shape }, { dim }) =>
    shape.toSpliced((dim as number) < 0 ? (dim as number) + shape.length + 1 : (dim as number), 0, 1),
  );
}

function replace(
  kernelName: string,
  shapeOf: (x: tf.TensorInfo, attributes: Record<string, unknown>) => number[],
): void {
  tf.unregisterKernel(kernelName, "tensorflow");
  tf.registerKernel({
    kernelName,
    backendName: "tensorflow",
    kernelFunc({ inputs, attrs, backend }) {
      const x = inputs.x ?? inputs.input!;
      const shape = shapeOf(x, attrs ?? {});
      if (tf.util.sizeFromShape(shape) !== tf.util.sizeFromShape(x.shape)) {
        throw new Error(`${kernelName}: [${shape}] does not hold as many numbers as [${x.shape}]`);
      }
      (backend as NodeBackend).incRef(x.dataId);
      return { dataId: x.dataId, shape, dtype: x.dtype };
    },
  });
}
