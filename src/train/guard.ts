import { FirstframeError, InputError } from "../engine/errors.js";

/** A training that went wrong; the message says at which step, and where the last good checkpoint is. */
export class DivergenceError extends FirstframeError {
  get kind() {
    return "divergence" as const;
  }
}

export interface GuardState {
  readonly recent: readonly number[];
  readonly best: number | null;
}

/** How many losses are averaged before comparing: single ones vary with the timestep drawn. */
const WINDOW = 32;

/** Notices a loss that is not finite or has grown far beyond its best. */
export class DivergenceGuard {
  readonly #factor: number;
  #recent: number[] = [];
  #best: number | null = null;

  /** @param factor a mean of 32 losses above so many times its best is too much; Infinity checks only that it is finite. */
  constructor(factor: number) {
    if (!(factor > 1)) throw new InputError(`divergenceFactor: expected a number above 1, found ${factor}`);
    this.#factor = factor;
  }

  /** What is wrong with this step's loss and gradient norm, or undefined. */
  check(loss: number, gradNorm: number): string | undefined {
    if (!Number.isFinite(loss)) return `the loss is ${loss}`;
    if (!Number.isFinite(gradNorm)) return `the gradient's norm is ${gradNorm}`;
    this.#recent = [...this.#recent, loss].slice(-WINDOW);
    if (this.#recent.length < WINDOW) return undefined;
    const mean = this.#recent.reduce((sum, value) => sum + value, 0) / WINDOW;
    if (this.#best !== null && mean > this.#factor * this.#best) {
      return `the mean loss of ${WINDOW} steps is ${mean.toPrecision(4)}, over ${this.#factor} times the best (${this.#best.toPrecision(4)})`;
    }
    this.#best = Math.min(this.#best ?? mean, mean);
    return undefined;
  }

  getState(): GuardState {
    return { recent: this.#recent, best: this.#best };
  }

  setState({ recent, best }: GuardState): void {
    this.#recent = [...recent];
    this.#best = best;
  }
}
