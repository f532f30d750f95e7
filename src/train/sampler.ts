import { InputError } from "../engine/errors.js";
import type { GeneratorState, RandomGenerator } from "../engine/random.js";

/** Where a sampler is; plain JSON. */
export interface SamplerState {
  readonly epoch: number;
  /** Batches of the epoch handed out so far. */
  readonly position: number;
  /** The generator at the epoch's start. */
  readonly generator: GeneratorState;
  /** Samples in a batch; unknown in checkpoints of earlier versions. */
  readonly batchSize?: number;
  /** What the epoch handed out in batches of other sizes, before the run went on with more or fewer ranks. */
  readonly before?: readonly Handed[];
}

/** Batches of an epoch that were handed out before the size of batches changed. */
interface Handed {
  readonly batchSize: number;
  readonly position: number;
}

/** Batches of sample indices in a seeded random order, each from one bucket; every sample comes once per epoch. */
export class BatchSampler {
  readonly #buckets: readonly string[];
  readonly #batchSize: number;
  readonly #generator: RandomGenerator;
  #epoch = 0;
  #position = 0;
  #start: GeneratorState;
  #before: readonly Handed[] = [];
  #batches: number[][];

  /** @param buckets each sample's bucket. */
  constructor(buckets: readonly string[], batchSize: number, generator: RandomGenerator) {
    if (buckets.length === 0) throw new InputError("the data set is empty");
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new InputError(`batchSize: expected a positive integer, found ${batchSize}`);
    }
    this.#buckets = buckets;
    this.#batchSize = batchSize;
    this.#generator = generator;
    this.#start = generator.getState();
    this.#batches = this.#shuffle();
  }

  /** Batches per epoch. */
  get length(): number {
    const counts = new Map<string, number>();
    for (const bucket of this.#buckets) counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
    return [...counts.values()].reduce((sum, count) => sum + Math.ceil(count / this.#batchSize), 0);
  }

  /** Batches until the epoch ends. */
  get batchesLeft(): number {
    return this.#batches.length - this.#position;
  }

  /** Completed epochs. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Whether the next batch starts an epoch. */
  get atEpochStart(): boolean {
    return this.#position === 0;
  }

  /** The next batch's indices. */
  next(): number[] {
    const batch = this.#batches[this.#position]!;
    this.#position++;
    if (this.#position === this.#batches.length) {
      this.#epoch++;
      this.#position = 0;
      this.#before = [];
      this.#start = this.#generator.getState();
      this.#batches = this.#shuffle();
    }
    return batch;
  }

  getState(): SamplerState {
    const state = { epoch: this.#epoch, position: this.#position, generator: this.#start };
    const before = this.#before.length > 0 ? { before: this.#before } : {};
    return { ...state, batchSize: this.#batchSize, ...before };
  }

  /**
   * Goes on from a state. If its batches had another size, the samples that were not handed out yet make up the rest of the epoch,
   * so that each still comes once.
   *
   * @throws InputError if the state is from another data set.
   */
  setState(given: SamplerState): void {
    const { batchSize = this.#batchSize, position, before = [] } = given;
    const state =
      batchSize === this.#batchSize || position === 0
        ? given
        : { ...given, position: 0, before: [...before, { batchSize, position }] };
    this.#generator.setState(state.generator);
    this.#start = state.generator;
    this.#before = state.before ?? [];
    this.#batches = this.#shuffle();
    if (state.position >= this.#batches.length) {
      throw new InputError(
        `data: the checkpoint is at batch ${state.position} of its epoch, the data set has ${this.#batches.length} batches`,
      );
    }
    this.#epoch = state.epoch;
    this.#position = state.position;
  }

  #shuffle(): number[][] {
    let order = this.#generator.permutation(this.#buckets.length);
    for (const { batchSize, position } of this.#before)
      order = this.#group(order, batchSize).slice(position).flat();
    return this.#group(order, this.#batchSize);
  }

  #group(order: readonly number[], batchSize: number): number[][] {
    const members = new Map<string, number[]>();
    for (const index of order) {
      const bucket = this.#buckets[index]!;
      const list = members.get(bucket);
      if (list) list.push(index);
      else members.set(bucket, [index]);
    }
    const batches: number[][] = [];
    for (const indices of members.values()) {
      for (let i = 0; i < indices.length; i += batchSize) batches.push(indices.slice(i, i + batchSize));
    }
    return members.size > 1 ? this.#generator.permutation(batches.length).map((i) => batches[i]!) : batches;
  }
}
