import { InputError } from "../engine/errors.js";
import { LiveOutput } from "./live.js";
import { escapeXml, jupyterDisplay, type MimeBundle, showAs } from "./mime.js";

export interface ProgressOptions {
  /** What is being done; shown before the bar. */
  readonly desc?: string;
  /** The number of steps; default: an array's length or a set's size. */
  readonly total?: number;
  /** What a step is called. */
  readonly unit?: string;
  /** Writes large numbers as 1.23 k, M or G: for bytes. Default false. */
  readonly unitScale?: boolean;
  /** Where the line goes outside a notebook; on a terminal it moves. Default: standard output. */
  readonly file?: NodeJS.WriteStream;
}

/** Front ends redraw at every update; 10 per second are enough to show movement. */
const INTERVAL_MS = 100;
const CLEAR_LINE = "\r\u001b[2K";

/**
 * A progress bar in one line of the cell's output, with tqdm's names. Outside a notebook it is a line of the terminal, or,
 * without a terminal, one line when it is closed. The line that stays in the notebook does not mention time, so that
 * running it again changes nothing.
 */
export class Progress {
  readonly #options: ProgressOptions;
  readonly #output = new LiveOutput();
  readonly #start = performance.now();
  #shown = Number.NEGATIVE_INFINITY;
  #later: NodeJS.Timeout | undefined;
  #postfix = "";
  #desc: string;
  #n = 0;
  #closed = false;

  constructor(options: ProgressOptions = {}) {
    const { total } = options;
    if (total !== undefined && !(total >= 0))
      throw new InputError(`progress: expected total >= 0, found ${total}`);
    this.#options = options;
    this.#desc = options.desc ?? "";
    this.#draw();
  }

  /** Steps done. */
  get n(): number {
    return this.#n;
  }

  /** Counts `steps` more steps as done. */
  update(steps = 1): void {
    this.#n += steps;
    this.#draw();
  }

  setDescription(desc: string): void {
    this.#desc = desc;
    this.#draw();
  }

  /** Values to show after the bar, e.g. `{ loss: 0.52 }`. */
  setPostfix(values: Readonly<Record<string, string | number>>): void {
    this.#postfix = Object.entries(values)
      .map(([name, value]) => `${name}=${typeof value === "number" ? Number(value.toPrecision(4)) : value}`)
      .join(", ");
    this.#draw();
  }

  /** Shows the final state. Closing twice does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#later);
    if (this.#output.visible) this.#show();
    else this.#file.write(`${this.#onTerminal ? CLEAR_LINE : ""}${this.#line(true)}\n`);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [jupyterDisplay](): MimeBundle {
    const { total } = this.#options;
    const text = this.#line(!this.#closed);
    const words = escapeXml(this.#line(!this.#closed, false));
    const html =
      total === undefined || total === 0
        ? words
        : `<progress value="${Math.min(this.#n, total)}" max="${total}"></progress> ${words}`;
    return { "text/html": html, "text/plain": text };
  }

  static {
    showAs<Progress>(Progress, { line: (bar) => bar.#line(!bar.#closed) });
  }

  #draw(): void {
    if (this.#closed || !(this.#output.visible || this.#onTerminal)) return;
    const wait = INTERVAL_MS - (performance.now() - this.#shown);
    if (wait <= 0) {
      this.#show();
      return;
    }
    // Also shows the last of a burst, if the event loop gets a turn.
    this.#later ??= setTimeout(() => this.#show(), wait).unref();
  }

  #show(): void {
    clearTimeout(this.#later);
    this.#later = undefined;
    this.#shown = performance.now();
    if (this.#output.visible) void this.#output.show(this);
    else this.#file.write(CLEAR_LINE + this.#line(true).slice(0, (this.#file.columns ?? 80) - 1));
  }

  get #file(): NodeJS.WriteStream {
    return this.#options.file ?? process.stdout;
  }

  get #onTerminal(): boolean {
    return this.#file.isTTY === true;
  }

  #line(timed: boolean, bar = true): string {
    const { total, unit = "it", unitScale = false } = this.#options;
    const amount = (value: number) => (unitScale ? `${scaled(value)}${unit}` : String(value));
    const seconds = (performance.now() - this.#start) / 1000;
    const parts = [
      this.#desc && `${this.#desc}:`,
      total !== undefined && total > 0 && `${Math.floor((100 * Math.min(this.#n, total)) / total)}%`,
      bar && total !== undefined && total > 0 && `|${blocks(this.#n / total)}|`,
      total === undefined
        ? unitScale
          ? amount(this.#n)
          : `${this.#n} ${unit}`
        : `${amount(this.#n)}/${amount(total)}`,
    ];
    const details = [
      timed &&
        (this.#closed || total === undefined ? clock(seconds) : `${clock(seconds)}<${this.#left(seconds)}`),
      timed && this.#n > 0 && (unitScale ? `${amount(this.#n / seconds)}/s` : rate(this.#n / seconds, unit)),
      this.#postfix,
    ].filter(Boolean);
    if (details.length > 0) parts.push(`[${details.join(", ")}]`);
    return parts.filter(Boolean).join(" ");
  }

  #left(seconds: number): string {
    const { total = 0 } = this.#options;
    return this.#n === 0 ? "?" : clock((seconds / this.#n) * Math.max(0, total - this.#n));
  }
}

/** An iterable that shows how far its reader has come. */
export interface TrackedIterable<T> extends Iterable<T> {
  readonly bar: Progress;
}

/** Like {@link TrackedIterable}, for `for await`. */
export interface TrackedAsyncIterable<T> extends AsyncIterable<T> {
  readonly bar: Progress;
}

/**
 * Shows the progress of a number of steps, or of a loop over anything iterable (like `tqdm(iterable)`).
 *
 * @example for (const batch of progress(batches, { desc: "encode" })) { ... }
 * @example for await (const step of progress(trainer.steps(), { total: 100 })) { ... }
 * @example const bar = progress(100, { desc: "train" }); bar.update(); bar.setPostfix({ loss }); bar.close();
 * @throws InputError for a negative total, and for anything that is neither a number nor iterable
 */
export function progress(total: number, options?: Omit<ProgressOptions, "total">): Progress;
export function progress<T>(items: Iterable<T>, options?: ProgressOptions): TrackedIterable<T>;
export function progress<T>(items: AsyncIterable<T>, options?: ProgressOptions): TrackedAsyncIterable<T>;
export function progress<T>(
  what: number | Iterable<T> | AsyncIterable<T>,
  options: ProgressOptions = {},
): Progress | TrackedIterable<T> | TrackedAsyncIterable<T> {
  if (typeof what === "number") return new Progress({ ...options, total: what });
  if (what === null || what === undefined || !(Symbol.iterator in what || Symbol.asyncIterator in what)) {
    throw new InputError(`progress: expected a number or an iterable, found ${typeof what}`);
  }
  const sized = what as { length?: unknown; size?: unknown };
  const known = [options.total, sized.length, sized.size].find((size) => typeof size === "number");
  const bar = new Progress({ ...options, total: known as number | undefined });
  return Symbol.iterator in what ? track(what, bar) : trackAsync(what, bar);
}

function track<T>(items: Iterable<T>, bar: Progress): TrackedIterable<T> {
  return {
    bar,
    *[Symbol.iterator]() {
      try {
        for (const item of items) {
          yield item;
          bar.update();
        }
      } finally {
        bar.close();
      }
    },
  };
}

function trackAsync<T>(items: AsyncIterable<T>, bar: Progress): TrackedAsyncIterable<T> {
  return {
    bar,
    async *[Symbol.asyncIterator]() {
      try {
        for await (const item of items) {
          yield item;
          bar.update();
        }
      } finally {
        bar.close();
      }
    },
  };
}

function blocks(done: number): string {
  const width = 20;
  const eighths = Math.round(Math.min(Math.max(done, 0), 1) * width * 8);
  const full = Math.floor(eighths / 8);
  const part = " ▏▎▍▌▋▊▉"[eighths % 8]!;
  return `${"█".repeat(full)}${full < width ? part : ""}`.padEnd(width);
}

function clock(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor((whole % 3600) / 60))}:${two(whole % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest;
}

/** "1.23 k", "20.1 G": three digits, with powers of 1000. */
function scaled(value: number): string {
  const power = value < 1 ? 0 : Math.min(4, Math.floor(Math.log10(value) / 3));
  const digits = Number((value / 1000 ** power).toPrecision(3));
  return `${digits} ${["", "k", "M", "G", "T"][power]}`;
}

function rate(perSecond: number, unit: string): string {
  return perSecond >= 1
    ? `${perSecond.toPrecision(3)} ${unit}/s`
    : `${(1 / perSecond).toPrecision(3)} s/${unit}`;
}
