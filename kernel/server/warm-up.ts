/**
 * Starts what takes time, and warms it up: code that never ran is slow. After this, somebody who waits for an interrupt
 * waits a millisecond less.
 */
import type { Script } from "../ipc/frames.js";
import type { Cell, Language } from "../language/language.js";
import type { Executor } from "./executor.js";

/** Clients ask for kernel_info first; what takes time starts once that is answered, or after this. */
const headStartMs = 150;
/** How long after the start an interrupt is warmed up, if no cell is executed. */
const quietMs = 300;
/** Interrupted in a loop and in an await. They end by themselves, too. */
const interrupted = [
  "for (const start = performance.now(); performance.now() < start + 100; );",
  "await new Promise((resolve) => setTimeout(resolve, 100));",
];

export class WarmUp {
  private begun = false;
  private stopped = false;
  /** Resolves when no warm-up is under way. Cells wait for it, for a few milliseconds. */
  over: Promise<void> = Promise.resolve();

  /**
   * @param may whether an interrupt may be warmed up now: not while a cell is executed, which is asked again for later,
   *   and never under the debugger's eyes.
   */
  constructor(
    private readonly executor: Executor,
    private readonly language: Language,
    private readonly transform: (cell: Cell) => Promise<Script>,
    private readonly may: () => "now" | "later" | "never",
  ) {}

  /** Begins after a while, unless {@link begin} is called before. */
  beginSoon(): void {
    setTimeout(() => this.begin(), headStartMs);
  }

  /** Starts the executor and the compiler. */
  begin(): void {
    if (this.begun || this.stopped) return;
    this.begun = true;
    this.executor.start();
    void this.language.start().then(
      () => this.interruptSoon(),
      () => undefined,
    );
  }

  /** Warms up an interrupt once all is quiet. */
  interruptSoon(): void {
    setTimeout(async () => {
      await this.executor.turn();
      const may = this.may();
      if (may === "later") this.interruptSoon();
      else if (may === "now" && !this.stopped) this.over = this.interrupt().catch(() => undefined);
    }, quietMs).unref();
  }

  stop(): void {
    this.stopped = true;
  }

  private async interrupt(): Promise<void> {
    const cells = interrupted.map((code, i) => ({ id: `warm-up-${i}`, count: 0, code }));
    const scripts = await Promise.all(cells.map((cell) => this.transform(cell)));
    for (const script of scripts) await this.executor.warmUp(script);
  }
}
