import { InputError } from "../engine/errors.js";
import type { GeneratorState, RandomGenerator } from "../engine/random.js";

/** Where a sampler is; plain JSON. */
export interface SamplerState {
  readonly epoch: number;
  /** Batches of the epoch handed out so far. */
  readonly position: number;
  /** The generator at the epoch's start. */
  readonly generator: GeneratorState;
}

/** Batches of sample indices in a seeded random order, each from one bucket; every sample comes once per epoch. */
export class BatchSampler {
  readonly #buckets: readonly string[];
  readonly #batchSize: number;
  readonly #generator: RandomGenerator;
  #epoch = 0;
  #position = 0;
  #start: GeneratorState;
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
    return this.#batches.length;
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
      this.#start = this.#generator.getState();
      this.#batches = this.#shuffle();
    }
    return batch;
  }

  getState(): SamplerState {
    return { epoch: this.#epoch, position: this.#position, generator: this.#start };
  }

  /** @throws InputError if the state is from another data set. */
  setState(state: SamplerState): void {
    this.#generator.setState(state.generator);
    this.#start = state.generator;
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
    const members = new Map<string, number[]>();
    for (const index of this.#generator.permutation(this.#buckets.length)) {
      const bucket = this.#buckets[index]!;
      const list = members.get(bucket);
      if (list) list.push(index);
      else members.set(bucket, [index]);
    }
    const batches: number[][] = [];
    for (const indices of members.values()) {
      for (let i = 0; i < indices.length; i += this.#batchSize)
        batches.push(indices.slice(i, i + this.#batchSize));
    }
    return members.size > 1 ? this.#generator.permutation(batches.length).map((i) => batches[i]!) : batches;
  }
}
