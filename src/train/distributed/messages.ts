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
      /** The main thread goes on computing meanwhile. */
      readonly background?: boolean;
      /** Halves the bytes: numbers travel as bfloat16, and are added in float32. */
      readonly bfloat16?: boolean;
    }
  /** Tells the others why this rank ends. */
  | { readonly kind: "fail"; readonly message: string; readonly exitCode: number }
  /** The main thread knows of the failure, and will end the process. */
  | { readonly kind: "heard" }
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

export const describeRank = (hosts: readonly string[], rank: number): string =>
  `rank ${rank} (${hosts[rank]})`;

export const describeFailure = (hosts: readonly string[], { rank, what }: Failure): string =>
  `${describeRank(hosts, rank)} ${what}`;

/**
 * What ends a process whose main thread computes for too long to hear of a failure: a thread can't choose an exit code for
 * the process, but whoever started it can tell this signal from others.
 */
export const ENDING_SIGNAL = "SIGALRM";

/** Exit code of a run that ended for another rank's sake: "temporary failure" of BSD's sysexits, try again. */
export const TRY_AGAIN = 75;

export type Report =
  | { readonly kind: "joined" }
  | { readonly kind: "waiting"; readonly ranks: readonly number[] }
  | {
      readonly kind: "gathered";
      readonly round: number;
      /** JSON by rank. */
      readonly values: readonly string[];
      readonly sum?: Float32Array<ArrayBuffer>;
      /** Of the main thread, spent on waiting for the last rank and on the sum; nothing as long as it computed. */
      readonly seconds: { readonly waiting: number; readonly summing: number };
      readonly bytesSent: number;
    }
  | { readonly kind: "failed"; readonly failure: Failure }
  /** What was to be said is said. */
  | { readonly kind: "left" };
