/**
 * Detects when a process that somebody is waiting for won't answer because it is stopped, asleep or taking too long. A
 * process that a slow or busy machine keeps from running does not count as asleep.
 */
import { readFileSync } from "node:fs";

/** How often it is checked. */
const intervalMs = 1000;
/** How long a process may be stopped, and how long it may use no processor time. */
const stoppedAtMostMs = 5000;
const asleepAtMostMs = 20_000;

export class Watchdog {
  private readonly waiting = new Map<number, number>();
  private last = 0;
  private timer: NodeJS.Timeout | undefined;
  private seen: { readonly state: string; readonly used: number; readonly since: number } | undefined;

  /** @param limitMs how long it may work on one question. */
  constructor(
    private readonly pid: number,
    private readonly limitMs: number,
    private readonly onFailure: (reason: string) => void,
  ) {}

  /** Somebody is waiting from now on, until the returned function is called. */
  wait(): () => void {
    this.last += 1;
    const id = this.last;
    this.waiting.set(id, performance.now());
    this.timer ??= setInterval(() => this.look(), intervalMs).unref();
    return () => {
      this.waiting.delete(id);
      if (this.waiting.size === 0) this.end();
    };
  }

  end(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.seen = undefined;
  }

  private look(): void {
    const now = performance.now();
    const reason = this.tooLong(now) ?? this.tooQuiet(now);
    if (reason === undefined) return;
    this.waiting.clear();
    this.end();
    this.onFailure(reason);
  }

  private tooLong(now: number): string | undefined {
    const [since] = this.waiting.values();
    return since !== undefined && now - since > this.limitMs
      ? `did not answer within ${this.limitMs / 1000} s`
      : undefined;
  }

  private tooQuiet(now: number): string | undefined {
    const found = stateOf(this.pid);
    if (found === undefined) return undefined;
    const { state, used } = found;
    const stopped = state === "T" || state === "t";
    // A process that is ready to run or waiting for a disk is as fast as the machine allows.
    const quiet = stopped || state === "S";
    if (!quiet || this.seen?.used !== used || this.seen.state !== state) {
      this.seen = { state, used, since: now };
      return undefined;
    }
    const lasted = now - this.seen.since;
    if (stopped && lasted >= stoppedAtMostMs) return "was stopped";
    return lasted >= asleepAtMostMs ? "did not answer, nor do anything" : undefined;
  }
}

/** The state of a process and the time it has used, if the system has a `/proc`. */
function stateOf(pid: number): { state: string; used: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // After the name, which may contain anything.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0] ?? "", used: Number(fields[11]) + Number(fields[12]) };
  } catch {
    return undefined;
  }
}
