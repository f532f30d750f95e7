/**
 * Synchronous waiting for Dawn. Its Node binding finishes asynchronous work in functions of its own that it hands to
 * the global setImmediate; while JavaScript waits for a result, they can be called directly.
 */
type Callback = (...values: unknown[]) => void;

const ticks = new Set<Callback>();
let watching = false;

/** Records Dawn's functions from now on; they still run by themselves when nobody is waiting. */
export function watchDawn(): void {
  if (watching) return;
  watching = true;
  const { setImmediate } = globalThis;
  const watched = (callback: Callback, ...values: unknown[]) => {
    if (!isNative(callback)) return setImmediate(callback, ...values);
    ticks.add(callback);
    return setImmediate(() => {
      if (ticks.delete(callback)) callback(...values);
    });
  };
  // util.promisify finds setImmediate's own promise through a symbol.
  globalThis.setImmediate = Object.defineProperties(
    watched,
    Object.getOwnPropertyDescriptors(setImmediate),
  ) as never;
}

/** Lets Dawn work until `done()`. @returns false if Dawn runs out of work before that. */
export function waitForDawn(done: () => boolean): boolean {
  while (!done()) {
    const [tick] = ticks;
    if (tick === undefined) return false;
    ticks.delete(tick);
    tick();
  }
  return true;
}

function isNative(callback: Callback): boolean {
  return callback.name === "" && Function.prototype.toString.call(callback).includes("[native code]");
}
