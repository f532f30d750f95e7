/**
 * Gives memory back. V8 collects buffers, which lie outside its heap, only as new ones are made: after a burst of large
 * output a kernel at rest would keep what it no longer needs.
 */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Less memory outside the heap (bytes) is not worth a collection, which takes some 20 ms. */
const worthwhile = 2 ** 24;
/** How long (ms) after a cell. */
const delay = 500;

export class MemoryReturn {
  private timer: NodeJS.Timeout | undefined;
  private gc: (() => void) | undefined;

  /** @param isBusy whether large output is still on its way. */
  constructor(private readonly isBusy: () => boolean) {}

  /** To be called when something is over. */
  soon(): void {
    if (this.timer !== undefined) return;
    if (!this.isBusy() && getHeapStatistics().external_memory < worthwhile) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      if (this.isBusy()) this.soon();
      else this.collect();
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
