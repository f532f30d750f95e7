/**
 * Works with one value at a time; of those that arrive meanwhile only the last one counts. The promise is of the time when nothing
 * waits any more.
 */
export function latest<T>(work: (value: T) => Promise<void>): (value: T) => Promise<void> {
  let waiting: { readonly value: T } | undefined;
  let working: Promise<void> | undefined;
  const workOff = async (): Promise<void> => {
    try {
      while (waiting) {
        const { value } = waiting;
        waiting = undefined;
        await work(value);
      }
    } finally {
      working = undefined;
    }
  };
  return (value) => {
    waiting = { value };
    working ??= workOff();
    return working;
  };
}
