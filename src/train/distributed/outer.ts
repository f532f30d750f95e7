import * as tf from "../../engine/tf.js";
import type { Parameter } from "../../nn/module.js";
import { sumOverRanks } from "./gradients.js";
import type { Group } from "./group.js";

const BUFFER = ".outer_momentum_buffer";

export interface OuterOptions {
  readonly learningRate: number;
  /** Nesterov's, 0 up to 1. With 0 and a learning rate of 1 a round ends in the mean of the ranks' weights. */
  readonly momentum: number;
}

/**
 * DiLoCo's outer optimizer (Douillard et al. 2023, arXiv 2311.08105, algorithm 1): ranks take steps of their own from the same weights,
 * and the mean of how far they went is the gradient of one step of Nesterov's, with the arithmetic of `torch.optim.SGD`. All ranks end
 * with the same bits.
 */
export class OuterOptimizer {
  readonly #parameters: readonly Parameter[];
  readonly #options: OuterOptions;
  readonly #start: readonly tf.Variable[];
  readonly #momentum: readonly tf.Variable[];

  /** @param parameters with the weights that the first round starts from, the same on all ranks. */
  constructor(parameters: readonly Parameter[], options: OuterOptions) {
    this.#parameters = parameters;
    this.#options = options;
    const like = (make: (value: tf.Tensor) => tf.Tensor) =>
      parameters.map(({ value }) => tf.tidy(() => tf.variable(make(value), false)));
    this.#start = like((value) => value.clone());
    this.#momentum = like(tf.zerosLike);
  }

  /** How many numbers it remembers: where the round began, and the momentum. */
  get stateSize(): number {
    return 2 * this.#parameters.reduce((sum, { size }) => sum + size, 0);
  }

  /**
   * Ends a round.
   *
   * @param value given to the other ranks along the way.
   * @returns every rank's value.
   */
  async step<T>(group: Group, what: string, value: T): Promise<readonly T[]> {
    const { learningRate, momentum } = this.#options;
    const weights = this.#parameters.map((parameter) => parameter.value);
    const moved = weights.map((weight, i) => tf.tidy(() => tf.sub(this.#start[i]!, weight)));
    const { sums, values } = await sumOverRanks(group, what, moved, value);
    for (const [i, sum] of sums.entries()) {
      tf.tidy(() => {
        const gradient = tf.div(sum, group.size);
        const buffer = tf.add(tf.mul(this.#momentum[i]!, momentum), gradient);
        const update = tf.add(gradient, tf.mul(buffer, momentum));
        const next = tf.sub(this.#start[i]!, tf.mul(update, learningRate));
        this.#momentum[i]!.assign(buffer);
        this.#start[i]!.assign(next);
        weights[i]!.assign(next);
      });
    }
    tf.dispose(sums);
    return values;
  }

  /** The next round starts from the weights as they are. */
  restart(): void {
    for (const [i, { value }] of this.#parameters.entries())
      tf.tidy(() => this.#start[i]!.assign(value.clone()));
  }

  /** What it remembers, in the files' layout. The caller disposes the tensors. */
  stateTensors(): Record<string, tf.Tensor> {
    return Object.fromEntries(
      this.#parameters.map((parameter, i) => [
        `${parameter.name}${BUFFER}`,
        parameter.toFileLayout(this.#momentum[i]!),
      ]),
    );
  }

  /** @param state as of {@link stateTensors}; what is not in it is 0. The tensors are not disposed. */
  loadState(state: Readonly<Record<string, tf.Tensor>>): void {
    for (const [i, parameter] of this.#parameters.entries()) {
      const stored = state[`${parameter.name}${BUFFER}`];
      tf.tidy(() =>
        this.#momentum[i]!.assign(
          stored ? parameter.toMemoryLayout(stored) : tf.zerosLike(this.#momentum[i]!),
        ),
      );
    }
  }

  /** The part of a checkpoint's moments that is this optimizer's, and the rest. */
  static split(state: Readonly<Record<string, tf.Tensor>>): {
    readonly outer: Record<string, tf.Tensor>;
    readonly inner: Record<string, tf.Tensor>;
  } {
    const part = (wanted: boolean) =>
      Object.fromEntries(Object.entries(state).filter(([key]) => key.endsWith(BUFFER) === wanted));
    return { outer: part(true), inner: part(false) };
  }

  dispose(): void {
    for (const variable of [...this.#start, ...this.#momentum]) variable.dispose();
  }
}
