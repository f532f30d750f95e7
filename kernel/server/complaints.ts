/**
 * What is wrong with messages, for the log: a stranger, or a client gone wrong, sends thousands. The first of a kind is said at once,
 * those after it are counted and said together.
 */

/** How long complaints are counted before the log repeats them. */
const pauseMs = 10_000;
/** Kinds that are told apart. */
const kinds = 50;
const longest = 200;

export class Complaints {
  private readonly counts = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly log: (line: string) => void = (line) => console.error(line)) {}

  /** @param what the kind, such as "shell: message refused: wrong signature". */
  add(what: string): void {
    const short = what.length > longest ? `${what.slice(0, longest)}...` : what;
    const kind = this.counts.has(short) || this.counts.size < kinds ? short : "other messages refused";
    const count = this.counts.get(kind);
    if (count === undefined) this.log(`firstframe: ${kind}`);
    this.counts.set(kind, (count ?? -1) + 1);
    this.timer ??= setTimeout(() => this.tell(), pauseMs).unref();
  }

  /** Logs what has been counted. */
  tell(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const counted = [...this.counts].filter(([, count]) => count > 0);
    this.counts.clear();
    if (counted.length === 0) return;
    this.log(
      `firstframe: in ${pauseMs / 1000} s, ${counted.map(([kind, count]) => `${kind} (${count} more)`).join("; ")}`,
    );
    // What continues is counted on, not logged as if it were new.
    for (const [kind] of counted) this.counts.set(kind, 0);
    this.timer = setTimeout(() => this.tell(), pauseMs).unref();
  }
}
