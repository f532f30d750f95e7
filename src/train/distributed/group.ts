import { createHash } from "node:crypto";
import { Worker } from "node:worker_threads";
import { FirstframeError, firstLine } from "../../engine/errors.js";
import type { Cluster } from "./cluster.js";
import { RankError } from "./errors.js";
import {
  describeFailure,
  describeRank,
  type Failure,
  type Membership,
  type Order,
  type Report,
} from "./messages.js";

export interface GroupOptions {
  /** Seconds without a sign of life after which a rank counts as lost. Default 60. */
  readonly silence?: number;
  /** Seconds that ranks wait for one that lives but does not come; 0 for ever. Default 1800. */
  readonly limit?: number;
  /** Sums travel as bfloat16, in half the bytes. Default false. */
  readonly bfloat16?: boolean;
  /** Is told which ranks are waited for. Default: standard error. */
  readonly log?: (line: string) => void;
}

/** What being several has cost a rank so far. */
export interface RankCosts {
  /** To all other ranks together, signs of life included. */
  readonly bytesSent: number;
  /** Seconds without work until the last rank had come to a sum. */
  readonly waiting: number;
  /** Seconds without work that sums took once all were there. */
  readonly summing: number;
}

/** What a round of all ranks gave. Times are those in which this rank had no other work. */
export interface Gathered<T> {
  /** By rank. */
  readonly values: readonly T[];
  /** Seconds until the last rank had come. */
  readonly waiting: number;
}

/** The same with a sum. */
export interface Summed<T> extends Gathered<T> {
  readonly sum: Float32Array<ArrayBuffer>;
  /** Seconds that the sum took once all were there. */
  readonly summing: number;
}

interface Waiting {
  readonly resolve: (report: Extract<Report, { kind: "gathered" }>) => void;
  readonly reject: (error: RankError) => void;
}

/**
 * Processes that train as one. They meet in rounds, all in the same order; in each, every rank gives a value and gets everyone's.
 * One may be asked for before an earlier one is over: they are carried out one after the other, while the main thread computes.
 * A rank that ends, hangs or is cut off ends the run on all ranks.
 *
 * ```ts
 * const group = await Group.join({ rank: 0, hosts: ["10.0.0.1:4000", "10.0.0.2:4000"] });
 * const { values } = await group.gather("hello", process.pid);
 * await group.leave();
 * ```
 */
export class Group {
  readonly rank: number;
  /** How many there are. */
  readonly size: number;
  readonly #hosts: readonly string[];
  readonly #limit: number;
  readonly #bfloat16: boolean;
  readonly #thread: Worker;
  #round = 0;
  #costs: RankCosts = { bytesSent: 0, waiting: 0, summing: 0 };
  #failure: RankError | undefined;
  /** By round. */
  readonly #waiting = new Map<number, Waiting>();
  #left = false;
  readonly #gone: Promise<void>;

  private constructor(
    { rank, hosts }: Cluster,
    thread: Worker,
    options: GroupOptions,
    joined: Pick<Deferred<void>, "resolve" | "reject">,
  ) {
    const { limit = 1800, bfloat16 = false, log = (line: string) => console.error(line) } = options;
    this.rank = rank;
    this.size = hosts.length;
    this.#hosts = hosts;
    this.#limit = limit;
    this.#bfloat16 = bfloat16;
    this.#thread = thread;
    const { promise, resolve } = deferred<void>();
    this.#gone = promise;
    thread.on("message", (report: Report) => {
      if (report.kind === "joined") joined.resolve();
      else if (report.kind === "waiting")
        log(`waiting for ${report.ranks.map((other) => this.describe(other)).join(", ")}`);
      else if (report.kind === "gathered") {
        const { waiting: before, summing } = this.#costs;
        const spent = report.sum
          ? { waiting: before + report.seconds.waiting, summing: summing + report.seconds.summing }
          : { waiting: before, summing };
        this.#costs = { bytesSent: report.bytesSent, ...spent };
        const waiting = this.#waiting.get(report.round);
        this.#waiting.delete(report.round);
        waiting?.resolve(report);
      } else if (report.kind === "failed") {
        const error = this.#errorOf(report.failure);
        thread.postMessage({ kind: "heard" } satisfies Order);
        joined.reject(error);
        this.#fail(error);
      } else resolve();
    });
    thread.on("error", (error) =>
      this.#fail(new RankError(`the network thread failed: ${firstLine(error)}`)),
    );
    thread.on("exit", () => {
      resolve();
      if (!this.#left) this.#fail(new RankError("the network thread ended"));
    });
  }

  /**
   * Waits until all ranks are there.
   *
   * @throws RankError naming the rank that does not come.
   */
  static async join(cluster: Cluster, options: GroupOptions = {}): Promise<Group> {
    const { rank, hosts } = cluster;
    const { silence = 60, limit = 1800 } = options;
    const secret = process.env.FIRSTFRAME_RANKS_SECRET ?? "";
    const key = createHash("sha256")
      .update(JSON.stringify([hosts, secret]))
      .digest("hex");
    const membership: Membership = { rank, hosts, key, silence, join: limit };
    const thread = new Worker(new URL("./network.js", import.meta.url), {
      workerData: membership,
      execArgv: [],
    });
    const { promise, resolve, reject } = deferred<void>();
    const group = new Group(cluster, thread, options, { resolve, reject });
    try {
      await promise;
      return group;
    } catch (error) {
      await group.#end();
      throw error;
    }
  }

  /** A rank with its address, as errors name it. */
  describe(rank: number): string {
    return describeRank(this.#hosts, rank);
  }

  /** What being several has cost so far. */
  get costs(): RankCosts {
    return this.#costs;
  }

  /**
   * Every rank's value.
   *
   * @param what the ranks come together for, for errors.
   * @throws RankError naming the rank that does not come.
   */
  async gather<T>(
    what: string,
    value: T,
    {
      unhurried = false,
    }: {
      /** There is no limit to how long a living rank may take to come. */
      readonly unhurried?: boolean;
    } = {},
  ): Promise<Gathered<T>> {
    const { values, seconds } = await this.#meet({ what, value, limit: unhurried ? 0 : this.#limit });
    return { values: values.map((each) => parse<T>(each)), waiting: seconds.waiting };
  }

  /**
   * Every rank's value, and the sum of their vectors, bit for bit the same on all ranks.
   *
   * @param vector as long on every rank; its memory is taken over.
   * @throws RankError as {@link gather}.
   */
  async sum<T>(
    what: string,
    value: T,
    vector: Float32Array<ArrayBuffer>,
    {
      background = false,
    }: {
      /** This rank goes on computing: it is not waiting before its next round that is none of these. */
      readonly background?: boolean;
    } = {},
  ): Promise<Summed<T>> {
    const round = { what, value, limit: this.#limit, vector, background };
    const { values, seconds, sum } = await this.#meet(round);
    return { values: values.map((each) => parse<T>(each)), sum: sum!, ...seconds };
  }

  async #meet({
    what,
    value,
    limit,
    vector,
    background,
  }: {
    readonly what: string;
    readonly value: unknown;
    readonly limit: number;
    readonly vector?: Float32Array<ArrayBuffer>;
    readonly background?: boolean;
  }) {
    if (this.#failure) throw this.#failure;
    const round = ++this.#round;
    const order: Order = {
      kind: "gather",
      round,
      what,
      value: stringify(value),
      limit,
      ...(vector === undefined ? {} : { sum: vector, bfloat16: this.#bfloat16, background }),
    };
    const { promise, resolve, reject } = deferred<Extract<Report, { kind: "gathered" }>>();
    this.#waiting.set(round, { resolve, reject });
    this.#thread.postMessage(order, vector === undefined ? [] : [vector.buffer]);
    return await promise;
  }

  /** Waits for all, and lets them go. */
  async leave(): Promise<void> {
    if (this.#left) return;
    await this.gather("the end", null, { unhurried: true });
    await this.#end({ kind: "leave" });
  }

  /** Ends the run on all ranks because of an error on this one. */
  async fail(error: unknown): Promise<void> {
    if (this.#left) return;
    const exitCode = error instanceof FirstframeError ? error.exitCode : 1;
    if (this.#failure) await this.#end();
    else await this.#end({ kind: "fail", message: `failed: ${firstLine(error)}`, exitCode });
  }

  async #end(order?: Order): Promise<void> {
    this.#left = true;
    if (order) this.#thread.postMessage(order);
    await this.#gone;
    await this.#thread.terminate();
  }

  #fail(error: RankError): void {
    this.#failure ??= error;
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(this.#failure);
  }

  #errorOf(failure: Failure): RankError {
    return new RankError(describeFailure(this.#hosts, failure), { exitCode: failure.exitCode });
  }
}

/** JSON in which a loss that is no number stays one. */
const stringify = (value: unknown): string =>
  JSON.stringify(value ?? null, (_, inner: unknown) =>
    typeof inner === "number" && !Number.isFinite(inner) ? { number: String(inner) } : inner,
  );
const parse = <T>(text: string): T =>
  JSON.parse(text, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && Object.keys(inner).join() === "number"
      ? Number((inner as { number: unknown }).number)
      : inner,
  ) as T;

interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: RankError): void;
}

function deferred<T>(): Deferred<T> {
  let [resolve, reject]: [(value: T) => void, (error: RankError) => void] = [() => {}, () => {}];
  const promise = new Promise<T>((done, failed) => {
    [resolve, reject] = [done, failed];
  });
  return { promise, resolve, reject };
}
