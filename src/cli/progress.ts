import { stripVTControlCharacters } from "node:util";
import type { CellResult } from "./notebook/report.js";

/**
 * What `firstframe run` shows while it works: a line per notebook and per cell. On a terminal the running cell already has
 * its line, with the time so far; if notebooks run in parallel, each line names its notebook.
 */
export class RunProgress {
  readonly #named: boolean;
  readonly #live: boolean;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly out: NodeJS.WriteStream,
    jobs: number,
  ) {
    this.#named = jobs > 1;
    this.#live = out.isTTY === true && jobs === 1;
  }

  notebook(path: string): void {
    this.#write(path);
  }

  cellStarts(path: string, source: string, number: number, total: number): void {
    if (!this.#live) return;
    const started = performance.now();
    const show = () => {
      const line = this.#line(path, " ", number, total, (performance.now() - started) / 1000, source);
      this.out.write(`\r\u001b[2K${line}`);
    };
    show();
    this.#timer = setInterval(show, 1000);
    this.#timer.unref();
  }

  cellEnded(path: string, result: CellResult, number: number, total: number): void {
    this.clear();
    const { error, errorExpected, seconds, title } = result;
    const [kind] = (error ?? "").split(":");
    const note = error !== undefined && errorExpected ? `  (fails on purpose: ${kind})` : "";
    const mark = error === undefined || errorExpected ? "✓" : "✗";
    this.#write(this.#line(path, mark, number, total, seconds, title, note));
  }

  notebookEnded(path: string, seconds: number, written: readonly string[]): void {
    const files = written.length > 0 ? ` → ${written.join(", ")}` : "";
    this.#write(`${this.#named ? `${path}: ` : "  "}${duration(seconds)}${files}`);
  }

  /** Removes the line of the running cell. */
  clear(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.out.write("\r\u001b[2K");
  }

  #line(
    path: string,
    mark: string,
    number: number,
    total: number,
    seconds: number,
    title: string,
    note = "",
  ): string {
    const name = this.#named ? `${path} ` : "  ";
    const count = `${String(number).padStart(String(total).length)}/${total}`;
    const head = `${name}${mark} ${count} ${duration(seconds).padStart(7)}  `;
    const room = Math.max(20, Math.min(this.out.columns ?? 110, 110) - head.length - note.length);
    const text = stripVTControlCharacters(title);
    return (
      head + (text.length > room ? `${text.slice(0, room - 1)}…` : text) + stripVTControlCharacters(note)
    );
  }

  #write(line: string): void {
    this.out.write(`${line}\n`);
  }
}

/** `0.3 s`, `45 s`, `2 min 5 s`. */
export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
