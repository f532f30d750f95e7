/**
 * Gives memory back. V8 collects buffers and strings as new ones are made: after a burst of large output a kernel at rest
 * would keep what it no longer needs.
 */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** What a kernel at rest needs (bytes), and how much more is worth a collection, which takes some 20 ms. */
const usual = 2 ** 23;
const worthwhile = 2 ** 24;
/** How often that is looked at, and how long it has to be quiet before. */
const intervalMs = 1000;
const quietMs = 500;
/** What ZeroMQ has let go is garbage only after a first collection. */
const rounds = 3;

export class MemoryReturn {
  private readonly timer: NodeJS.Timeout;
  /** What no collection could give back. */
  private needed = usual;
  private round = 0;
  private gc: (() => void) | undefined;

  /** @param isBusy whether messages are on their way, or have been in the last so many milliseconds. */
  constructor(isBusy: (ms: number) => boolean) {
    this.timer = setInterval(() => {
      this.needed = Math.max(usual, Math.min(this.needed, inUse()));
      if (this.isLittle() || isBusy(quietMs)) return;
      this.collect();
      this.round += 1;
      if (this.round < rounds && !this.isLittle()) return;
      this.round = 0;
      this.needed = Math.max(usual, inUse());
    }, intervalMs).unref();
  }

  private isLittle(): boolean {
    return inUse() < this.needed + worthwhile;
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private collect(): void {
    if (this.gc === undefined) {
      // Contexts made from now on have it.
      setFlagsFromString("--expose-gc");
      this.gc = runInNewContext("gc") as () => void;
    }
    this.gc();
  }
}

function inUse(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}
