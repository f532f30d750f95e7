import type * as tf from "../tf.js";

/** What tfjs-node's backend knows of a tensor. */
export interface TensorData {
  shape: number[];
  dtype: number;
  values: unknown;
  id: number;
  refCount: number;
  /** Handles for the same buffer in other shapes. */
  views?: Map<string, number>;
}

/** A tensor of TensorFlow's: its handle, and its type by TensorFlow's number. */
export interface Handle {
  readonly id: number;
  readonly shape: readonly number[];
  readonly dtype: number;
}

/** An attribute of an operation, with the binding's number for its type. */
export interface Attribute {
  readonly name: string;
  readonly type: number;
  readonly value: unknown;
}

/** The parts of tfjs-node's backend that are used here. */
export interface NodeBackend extends tf.KernelBackend {
  readonly binding: Readonly<
    Record<
      "TF_FLOAT" | "TF_INT32" | "TF_ATTR_TYPE" | "TF_ATTR_INT" | "TF_ATTR_FLOAT" | "TF_ATTR_BOOL",
      number
    >
  > & {
    createTensor(shape: readonly number[], type: number, values: unknown): number;
    deleteTensor(id: number): void;
    executeOp(
      name: string,
      attributes: readonly Attribute[],
      inputs: readonly number[],
      outputs: number,
    ): Handle[];
  };
  readonly tensorMap: tf.DataStorage<TensorData>;
  getInputTensorIds(tensors: readonly tf.TensorInfo[]): number[];
  createOutputTensor(handle: Handle): tf.Tensor;
  executeSingleOutput(
    name: string,
    attributes: readonly Attribute[],
    inputs: readonly tf.TensorInfo[],
  ): tf.Tensor;
  executeMultipleOutputs(
    name: string,
    attributes: readonly Attribute[],
    inputs: readonly tf.TensorInfo[],
    outputs: number,
  ): tf.Tensor[];
  incRef(dataId: object): void;
}

export type NodeBackendClass = new (binding: object, packageName: string) => NodeBackend;
