/**
 * Cells wait here for their turn. A cell that fails aborts those that were sent along with it.
 */
import type { Intake } from "../protocol/sockets.js";
import type { Request } from "./replier.js";

interface Waiting {
  readonly request: Request;
  execute(): Promise<void>;
}

/** When a cell fails with others waiting, no more are thought to be on their way once none has arrived for so long. */
const silenceMs = 20;
/** An error is held back no longer than that. */
const patienceMs = 200;

export class ExecutionQueue {
  private waiting: Waiting[] = [];
  private aborted: Waiting[] = [];
  /** Counts the cells that have arrived. */
  private arrivals = 0;
  private executing = false;
  private stopped = false;

  /** @param abort answers a request that is not executed because an earlier one failed. */
  constructor(
    private readonly intake: Intake,
    private readonly abort: (request: Request) => void,
  ) {}

  get isExecuting(): boolean {
    return this.executing;
  }

  /** @param execute executes the cell and answers the request; never rejects. */
  add(request: Request, execute: () => Promise<void>): void {
    this.intake.add(request.size);
    this.arrivals += 1;
    const waiting = { request, execute };
    // The shell is not read meanwhile; whoever goes round it by control has to come back later.
    if (request.channel === "control" && this.intake.full) this.abortNow(waiting);
    else this.waiting.push(waiting);
    if (!this.executing) void this.executeAll();
  }

  /**
   * Removes the cells that were sent along with one that failed. The error is not published before this is over: what has
   * arrived by then was sent in ignorance of it, and what arrives later was sent on purpose.
   */
  async abortWaiting(): Promise<void> {
    await this.stragglers();
    this.aborted = this.waiting;
    this.waiting = [];
  }

  /** After the cell that is being executed, no other is. */
  stop(): void {
    this.stopped = true;
  }

  private async executeAll(): Promise<void> {
    this.executing = true;
    while (this.waiting.length > 0) {
      // Cells that have arrived already would add to the replies that some client does not read.
      await this.intake.repliesRead();
      const next = this.waiting.shift();
      if (next === undefined || this.stopped) break;
      this.intake.add(-next.request.size);
      await next.execute();
      const { aborted } = this;
      this.aborted = [];
      for (const each of aborted) this.abortNow(each);
    }
    this.executing = false;
  }

  private abortNow({ request }: Waiting): void {
    this.abort(request);
    this.intake.add(-request.size);
  }

  private async stragglers(): Promise<void> {
    // What ZeroMQ has received is handed over within one turn of the event loop.
    let seen: number;
    do {
      seen = this.arrivals;
      await new Promise((resolve) => setImmediate(resolve));
    } while (seen !== this.arrivals);
    if (this.waiting.length === 0) return;
    const end = performance.now() + patienceMs;
    do {
      seen = this.arrivals;
      await new Promise((resolve) => setTimeout(resolve, silenceMs));
    } while (seen !== this.arrivals && performance.now() < end);
  }
}
