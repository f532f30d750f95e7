import * as tf from "../engine/tf.js";

/** Most numbers in one group: large enough that the number of operations does not matter, small enough to copy. */
const GROUP_SIZE = 2 ** 22;

/**
 * Many tensors as a few long vectors, so that updating all of them takes a few operations instead of a few for each.
 * A tensor larger than a group is a group of its own.
 */
export class FlatGroups {
  readonly #groups: readonly { readonly start: number; readonly end: number }[];
  readonly #shapes: readonly (readonly number[])[];

  constructor(shapes: readonly (readonly number[])[]) {
    this.#shapes = shapes;
    const groups: { start: number; end: number }[] = [];
    let size = 0;
    shapes.forEach((shape, i) => {
      const own = tf.util.sizeFromShape([...shape]);
      if (groups.length === 0 || size + own > GROUP_SIZE) {
        groups.push({ start: i, end: i });
        size = 0;
      }
      groups.at(-1)!.end = i + 1;
      size += own;
    });
    this.#groups = groups;
  }

  get length(): number {
    return this.#groups.length;
  }

  /** One group's tensors, end to end. */
  pack(group: number, tensors: readonly tf.Tensor[]): tf.Tensor1D {
    const { start, end } = this.#groups[group]!;
    return tf.tidy(() =>
      tf.concat1d(tensors.slice(start, end).map((tensor) => tf.reshape(tensor, [-1]) as tf.Tensor1D)),
    );
  }

  /** Splits a group into its tensors again, each with its index among all of them. */
  unpack(group: number, flat: tf.Tensor1D): { readonly index: number; readonly tensor: tf.Tensor }[] {
    const { start, end } = this.#groups[group]!;
    return tf.tidy(() => {
      const shapes = this.#shapes.slice(start, end);
      const sizes = shapes.map((shape) => tf.util.sizeFromShape([...shape]));
      const parts = sizes.length === 1 ? [flat] : tf.split(flat, sizes);
      return parts.map((part, i) => ({ index: start + i, tensor: tf.reshape(part, [...shapes[i]!]) }));
    });
  }
}
