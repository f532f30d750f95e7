/** What a rank's main thread and its network thread say to each other. */

/** What the network thread starts with. */
export interface Membership {
  readonly rank: number;
  /** `host:port` of each rank. */
  readonly hosts: readonly string[];
  /** Ranks of another run, or strangers, don't know it. */
  readonly key: string;
  /** Seconds without a sign of life after which a rank counts as lost. */
  readonly silence: number;
  /** Seconds until all have to be there; 0 for no limit. */
  readonly join: number;
}

export type Order =
  | {
      readonly kind: "gather";
      /** Counted from 1; all ranks gather in the same order. */
      readonly round: number;
      /** For errors: what the ranks come together for. */
      readonly what: string;
      /** JSON */
      readonly value: string;
      /** Seconds within which all ranks have to come; 0 for no limit. */
      readonly limit: number;
      /** To be summed over the ranks, in place; transferred. */
      readonly sum?: Float32Array<ArrayBuffer>;
      /** Halves the bytes: numbers travel as bfloat16, and are added in float32. */
      readonly bfloat16?: boolean;
    }
  /** Tells the others why this rank ends. */
  | { readonly kind: "fail"; readonly message: string; readonly exitCode: number }
  /** All work is done. */
  | { readonly kind: "leave" };

/** Why a run can't go on. */
export interface Failure {
  /** The rank to blame. */
  readonly rank: number;
  /** What happened to it: "ended without a word". */
  readonly what: string;
  /** Of an error of its own. */
  readonly exitCode?: number;
}

export type Report =
  | { readonly kind: "joined" }
  | { readonly kind: "waiting"; readonly ranks: readonly number[] }
  | {
      readonly kind: "gathered";
      readonly round: number;
      /** JSON by rank. */
      readonly values: readonly string[];
      readonly sum?: Float32Array<ArrayBuffer>;
      /** Waiting for the last rank, and summing. */
      readonly seconds: { readonly waiting: number; readonly summing: number };
      readonly bytesSent: number;
    }
  | { readonly kind: "failed"; readonly failure: Failure }
  /** What was to be said is said. */
  | { readonly kind: "left" };
