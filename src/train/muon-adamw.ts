import { InputError } from "../engine/errors.js";
import * as tf from "../engine/tf.js";
import type { Parameter } from "../nn/module.js";
import { Muon } from "./muon.js";
import { Adam, type AdamOptions, type Optimizer } from "./optimizer.js";

/**
 * Muon for the matrices inside a transformer's blocks, AdamW for everything else (embeddings, the last layer, norms, biases), as
 * Muon's authors use it. Muon's steps are scaled to AdamW's size, so one learning rate and one weight decay serve both.
 */
export class MuonAdamW implements Optimizer {
  readonly #parameters: readonly Parameter[];
  readonly #muon: Muon;
  readonly #adam: Adam;

  /** @param options AdamW's. */
  constructor(parameters: Iterable<Parameter>, options: AdamOptions = {}) {
    this.#parameters = [...parameters];
    const { weightDecay } = options;
    this.#muon = new Muon(this.#parameters.filter(isInnerMatrix), {
      weightDecay,
      adjustLr: "match_rms_adamw",
    });
    this.#adam = new Adam("adamw", this.#parameters.filter(isOther), options);
  }

  get stateSize(): number {
    return this.#muon.stateSize + this.#adam.stateSize;
  }

  step(gradients: readonly tf.Tensor[], learningRate: number, scale = 1): void {
    if (gradients.length !== this.#parameters.length) {
      throw new InputError(`step: expected ${this.#parameters.length} gradients, found ${gradients.length}`);
    }
    const of = (wanted: (parameter: Parameter) => boolean) =>
      gradients.filter((_, i) => wanted(this.#parameters[i]!));
    const scaled = tf.tidy(() => of(isInnerMatrix).map((gradient) => tf.mul(gradient, scale)));
    this.#muon.step(scaled, learningRate);
    tf.dispose(scaled);
    this.#adam.step(of(isOther), learningRate, scale);
  }

  /** Muon's `NAME.momentum_buffer`, AdamW's `NAME.exp_avg` and `NAME.exp_avg_sq`. */
  stateTensors(): Record<string, tf.Tensor> {
    return { ...this.#muon.stateTensors(), ...this.#adam.stateTensors() };
  }

  loadState(state: Readonly<Record<string, tf.Tensor>>, stepCount: number): void {
    const part = (wanted: boolean) =>
      Object.fromEntries(
        Object.entries(state).filter(([key]) => key.endsWith(".momentum_buffer") === wanted),
      );
    this.#muon.loadState(part(true));
    this.#adam.loadState(part(false), stepCount);
  }

  dispose(): void {
    this.#muon.dispose();
    this.#adam.dispose();
  }
}

const isInnerMatrix = ({ name, shape }: Parameter): boolean =>
  shape.length === 2 && name.includes("transformer_blocks.");
const isOther = (parameter: Parameter): boolean => !isInnerMatrix(parameter);
