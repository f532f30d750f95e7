import * as tf from "../../engine/tf.js";
import type { Gathered, Group } from "./group.js";

/**
 * The sums of tensors over all ranks, sent as one vector.
 *
 * @param tensors of the same shapes on every rank; disposed.
 * @param value given to the other ranks along the way.
 */
export async function sumOverRanks<T>(
  group: Group,
  what: string,
  tensors: readonly tf.Tensor[],
  value: T,
): Promise<Gathered<T> & { readonly sums: tf.Tensor[]; readonly summing: number }> {
  const shapes = tensors.map(({ shape }) => shape);
  const sizes = tensors.map(({ size }) => size);
  const vector = new Float32Array(sizes.reduce((sum, size) => sum + size, 0));
  let at = 0;
  for (const tensor of tensors) {
    vector.set(tensor.dataSync(), at);
    at += tensor.size;
  }
  tf.dispose([...tensors]);
  const { sum, ...rest } = await group.sum(what, value, vector);
  let begin = 0;
  const sums = shapes.map((shape, i) => {
    const end = begin + sizes[i]!;
    // Some engines keep the array that they are given.
    const part = tf.tensor(sum.slice(begin, end), shape, "float32");
    begin = end;
    return part;
  });
  return { ...rest, sums };
}
