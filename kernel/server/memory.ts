/**
 * Gives memory back. V8 collects buffers, which lie outside its heap, only as new ones are made: after a burst of large
 * output a kernel at rest would keep what it no longer needs.
 */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Less memory outside the heap (bytes) is not worth a collection, which takes some 20 ms. */
const worthwhile = 2 ** 24;
/** How long (ms) it has to be quiet before. */
const delay = 500;
/** What ZeroMQ has let go is garbage only after a first collection. */
const rounds = 3;

export class MemoryReturn {
  private timer: NodeJS.Timeout | undefined;
  private gc: (() => void) | undefined;

  /** @param isBusy whether output is on its way, or was in the last so many milliseconds. */
  constructor(private readonly isBusy: (ms: number) => boolean) {}

  /** To be called when something is over. */
  soon(): void {
    if (this.timer !== undefined) return;
    if (getHeapStatistics().external_memory >= worthwhile) this.wait(rounds);
  }

  private wait(left: number): void {
    this.timer = setTimeout(() => {
      this.timer = undefined;
      if (this.isBusy(delay)) {
        this.wait(left);
        return;
      }
      this.collect();
      if (left > 1 && getHeapStatistics().external_memory >= worthwhile) this.wait(left - 1);
    }, delay).unref();
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
