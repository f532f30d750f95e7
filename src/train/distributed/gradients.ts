import * as tf from "../../engine/tf.js";
import type { Gathered, Group, Summed } from "./group.js";

/** PyTorch's DDP has a small first bucket, too, so that there is something to send early. */
const FIRST_BUCKET_BYTES = 2 ** 20;

/**
 * Which tensors travel together: backward passes have the last parameters' gradients first, so the last ones are in the first
 * bucket. A bucket ends with the tensor that fills it, as DDP's do.
 *
 * @param sizes how many float32 numbers each tensor has.
 * @param capMb size of a bucket in MB of 2^20 bytes; Infinity puts all in one.
 * @returns indices; at least one bucket.
 */
export function bucketsOf(sizes: readonly number[], capMb: number): number[][] {
  const cap = capMb * 2 ** 20;
  const first = cap === Number.POSITIVE_INFINITY ? cap : Math.min(FIRST_BUCKET_BYTES, cap);
  const buckets: number[][] = [[]];
  let bytes = 0;
  for (let i = sizes.length - 1; i >= 0; i--) {
    buckets.at(-1)!.push(i);
    bytes += 4 * sizes[i]!;
    if (i === 0 || bytes < (buckets.length === 1 ? first : cap)) continue;
    buckets.push([]);
    bytes = 0;
  }
  return buckets;
}

/**
 * The sums of tensors over all ranks. A bucket goes out as soon as its tensors are there, while the main thread computes the next
 * ones; the last goes with {@link finish}. On all ranks they go in the same order, whatever comes first.
 */
export class BucketedSum {
  readonly #group: Group;
  readonly #what: string;
  readonly #shapes: readonly (readonly number[])[];
  readonly #sizes: readonly number[];
  readonly #buckets: readonly (readonly number[])[];
  readonly #came: (tf.Tensor | null | undefined)[];
  readonly #sent: Promise<Summed<unknown>>[] = [];

  /**
   * @param what the ranks come together for, for errors.
   * @param shapes of the tensors, the same on every rank.
   * @param capMb as of {@link bucketsOf}. Default: all in one.
   */
  constructor(
    group: Group,
    what: string,
    shapes: readonly (readonly number[])[],
    capMb = Number.POSITIVE_INFINITY,
  ) {
    this.#group = group;
    this.#what = what;
    this.#shapes = shapes;
    this.#sizes = shapes.map((shape) => shape.reduce((size, length) => size * length, 1));
    this.#buckets = bucketsOf(this.#sizes, capMb);
    this.#came = shapes.map(() => undefined);
  }

  /** @param tensor disposed once it is sent; null for zeros. */
  add(index: number, tensor: tf.Tensor | null): void {
    // Read when the bucket is full, and not now: a GPU would be waited for each time.
    this.#came[index] = tensor && tf.keep(tensor);
    while (this.#sent.length < this.#buckets.length - 1) {
      const bucket = this.#buckets[this.#sent.length]!;
      if (bucket.some((i) => this.#came[i] === undefined)) return;
      const sum = this.#group.sum(this.#what, null, this.#take(bucket), { background: true });
      // Whoever waits for all of them hears of it; should that never happen, there is another error already.
      sum.catch(() => {});
      this.#sent.push(sum);
    }
  }

  /**
   * Once all tensors are there.
   *
   * @param value given to the other ranks along the way.
   * @throws RankError naming the rank that does not come.
   */
  async finish<T>(value: T): Promise<Gathered<T> & { readonly sums: tf.Tensor[] }> {
    const rest = this.#group.sum(this.#what, value, this.#take(this.#buckets.at(-1)!));
    const [{ values, waiting, sum }, ...early] = await Promise.all([rest, ...this.#sent]);
    const vectors = [...early.map((each) => each.sum), sum];
    const sums: tf.Tensor[] = [];
    for (const [i, bucket] of this.#buckets.entries()) {
      let begin = 0;
      for (const index of bucket) {
        const end = begin + this.#sizes[index]!;
        // Some engines keep the array that they are given.
        sums[index] = tf.tensor(vectors[i]!.slice(begin, end), [...this.#shapes[index]!], "float32");
        begin = end;
      }
    }
    return { values, waiting, sums };
  }

  #take(bucket: readonly number[]): Float32Array<ArrayBuffer> {
    const vector = new Float32Array(bucket.reduce((size, i) => size + this.#sizes[i]!, 0));
    let at = 0;
    for (const i of bucket) {
      const tensor = this.#came[i];
      if (tensor) vector.set(tensor.dataSync(), at);
      tensor?.dispose();
      this.#came[i] = null;
      at += this.#sizes[i]!;
    }
    return vector;
  }
}

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
): Promise<Gathered<T> & { readonly sums: tf.Tensor[] }> {
  const summed = new BucketedSum(
    group,
    what,
    tensors.map(({ shape }) => shape),
  );
  for (const [i, tensor] of tensors.entries()) summed.add(i, tensor);
  return await summed.finish(value);
}
