/** Which part of a step is a rank's, and how the parts make up the step again. */
import type { Group } from "./group.js";

/** A rank's part of a batch. */
export interface Share {
  readonly samples: readonly number[];
  /** Place of its first sample in the batch. */
  readonly first: number;
  /** Samples in the batch. */
  readonly total: number;
  /** What the mean over its samples counts in the mean over all. */
  readonly weight: number;
}

/**
 * The batch's samples in order, as evenly as possible: the last ranks have fewer where an epoch's end leaves fewer. A rank for
 * which none is left computes with the first one, for nothing, so that all do the same at the same time.
 */
export function shareOf(batch: readonly number[], group?: Pick<Group, "rank" | "size">): Share {
  const total = batch.length;
  const { rank, size } = group ?? { rank: 0, size: 1 };
  const [least, more] = [Math.floor(total / size), total % size];
  const first = rank * least + Math.min(rank, more);
  const samples = batch.slice(first, first + least + (rank < more ? 1 : 0));
  if (samples.length === 0) return { samples: batch.slice(0, 1), first: 0, total, weight: 0 };
  return { samples, first, total, weight: samples.length / total };
}

/** What a rank says of its part of a step. */
export interface RankStep {
  readonly batches: readonly {
    readonly timesteps: readonly number[];
    readonly sampleLosses: readonly number[];
  }[];
  /** That it has computed. */
  readonly seconds: number;
  /** It was asked to stop. */
  readonly stop: boolean;
}

/** Samples in the order that one process would have had them in. */
export function wholeStep(ranks: readonly Pick<RankStep, "batches">[]): {
  timesteps: number[];
  sampleLosses: number[];
} {
  const batches = ranks[0]!.batches.flatMap((_, i) => ranks.map((rank) => rank.batches[i]!));
  return {
    timesteps: batches.flatMap(({ timesteps }) => timesteps),
    sampleLosses: batches.flatMap(({ sampleLosses }) => sampleLosses),
  };
}

/** Steps that are compared. */
const WINDOW = 8;
/** Steps between two lines about slow ranks. */
const PAUSE = 64;
/** A rank that takes so many times as long as the others is slow. */
const SLOW = 1.5;

/** Names the rank that the others wait for. */
export class RankTimes {
  readonly #group: Pick<Group, "rank" | "size" | "describe">;
  readonly #log: (line: string) => void;
  #recent: (readonly number[])[] = [];
  #quiet = 0;

  constructor(group: Pick<Group, "rank" | "size" | "describe">, log: (line: string) => void) {
    this.#group = group;
    this.#log = log;
  }

  /** @param seconds that each rank computed in a step. */
  add(seconds: readonly number[]): void {
    this.#recent = [...this.#recent, seconds].slice(-WINDOW);
    this.#quiet--;
    if (this.#group.rank > 0 || this.#quiet > 0 || this.#recent.length < WINDOW) return;
    const times = seconds.map((_, rank) => median(this.#recent.map((step) => step[rank]!)));
    const slowest = times.indexOf(Math.max(...times));
    const others = median(times.filter((_, rank) => rank !== slowest));
    if (times[slowest]! < SLOW * others) return;
    this.#quiet = PAUSE;
    const show = (time: number) => `${time.toPrecision(3)} s`;
    this.#log(
      `${this.#group.describe(slowest)} is slow: ${show(times[slowest]!)} a step, the others ${show(others)}`,
    );
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
