import { InputError } from "../engine/errors.js";
import * as tf from "../engine/tf.js";
import type { Parameter } from "../nn/module.js";
import { FlatGroups } from "./flat.js";

/**
 * An exponential moving average of weights, with the numbers of diffusers' `EMAModel`: shadow weights that follow the
 * trained ones more slowly and sample better.
 */
export class Ema {
  readonly #decay: number;
  readonly #shadows: readonly { readonly parameter: Parameter; readonly shadow: tf.Variable }[];
  readonly #groups: FlatGroups;
  #step = 0;

  /** @param decay the largest decay; it rises to that as (1 + step) / (10 + step). */
  constructor(parameters: Iterable<Parameter>, decay: number) {
    if (!(decay >= 0 && decay <= 1)) {
      throw new InputError(`decay: expected a number from 0 to 1, found ${decay}`);
    }
    this.#decay = decay;
    this.#shadows = [...parameters].map((parameter) => ({
      parameter,
      shadow: tf.tidy(() => tf.variable(parameter.value.clone(), false)),
    }));
    this.#groups = new FlatGroups(this.#shadows.map(({ shadow }) => shadow.shape));
  }

  get stepCount(): number {
    return this.#step;
  }

  /** The decay of update number `step`, counted from 1. */
  decayAt(step: number): number {
    const past = step - 1;
    if (past <= 0) return 0;
    return Math.min((1 + past) / (10 + past), this.#decay);
  }

  /** Moves the shadow weights towards the trained ones. */
  update(): void {
    this.#step++;
    const rest = 1 - this.decayAt(this.#step);
    const shadows = this.#shadows.map(({ shadow }) => shadow);
    const trained = this.#shadows.map(({ parameter }) => parameter.value);
    for (let group = 0; group < this.#groups.length; group++) {
      tf.tidy(() => {
        const shadow = this.#groups.pack(group, shadows);
        const moved = tf.sub(
          shadow,
          tf.mul(tf.sub(shadow, this.#groups.pack(group, trained)), rest),
        ) as tf.Tensor1D;
        for (const { index, tensor } of this.#groups.unpack(group, moved)) shadows[index]!.assign(tensor);
      });
    }
  }

  /** Runs `work` with the shadow weights in the model's place. */
  async apply<T>(work: () => Promise<T>): Promise<T> {
    this.#exchange();
    try {
      return await work();
    } finally {
      this.#exchange();
    }
  }

  #exchange(): void {
    for (const { parameter, shadow } of this.#shadows) {
      tf.tidy(() => {
        const trained = parameter.value.clone();
        parameter.value.assign(shadow.clone());
        shadow.assign(trained);
      });
    }
  }

  /** The shadow weights by the parameters' names, in the files' layout. The caller disposes the tensors. */
  stateTensors(): Record<string, tf.Tensor> {
    return Object.fromEntries(
      this.#shadows.map(({ parameter, shadow }) => [parameter.name, parameter.toFileLayout(shadow)]),
    );
  }

  loadState(state: Readonly<Record<string, tf.Tensor>>, stepCount: number): void {
    for (const { parameter, shadow } of this.#shadows) {
      const stored = state[parameter.name];
      if (stored === undefined || String(stored.shape) !== String(parameter.shape)) {
        throw new InputError(
          `EMA state: expected ${parameter.name} of shape [${parameter.shape}], found ${stored ? `[${stored.shape}]` : "nothing"}`,
        );
      }
      const value = parameter.toMemoryLayout(stored);
      shadow.assign(value);
      value.dispose();
    }
    this.#step = stepCount;
  }

  /** Starts over from the weights as they are now. */
  restart(): void {
    for (const { parameter, shadow } of this.#shadows) tf.tidy(() => shadow.assign(parameter.value.clone()));
    this.#step = 0;
  }

  dispose(): void {
    for (const { shadow } of this.#shadows) shadow.dispose();
  }
}
