import { InputError } from "../engine/errors.js";
import { adamStep } from "../engine/ops/adam/adam.js";
import { grouped, showAs } from "../engine/shown.js";
import * as tf from "../engine/tf.js";
import type { Parameter } from "../nn/module.js";
import { FlatGroups } from "./flat.js";

const ADAMS = ["adamw", "adam"] as const;

/** Updates the parameters it was made for. */
export interface Optimizer {
  /** How many numbers it remembers. */
  readonly stateSize: number;
  /**
   * @param gradients one per parameter, in their order and memory layout; not disposed.
   * @param scale a factor on all gradients: `clipFactor`'s. Default 1.
   */
  step(gradients: readonly tf.Tensor[], learningRate: number, scale?: number): void;
  /** What it remembers, by name, in the files' layout. The caller disposes the tensors. */
  stateTensors(): Record<string, tf.Tensor>;
  /** Continues after so many steps from where {@link stateTensors} was taken. The tensors are not disposed. */
  loadState(state: Readonly<Record<string, tf.Tensor>>, stepCount: number): void;
  dispose(): void;
}

export interface AdamOptions {
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  /** AdamW: decoupled from the gradient (Loshchilov and Hutter 2017). Adam: added to it. */
  readonly weightDecay?: number;
}

/**
 * Adam (Kingma and Ba 2014, arXiv 1412.6980) and AdamW (arXiv 1711.05101), with the arithmetic and the state names of
 * `torch.optim`. Moments start at 0 and live on the engine until {@link dispose}.
 */
export class Adam implements Optimizer {
  readonly name: (typeof ADAMS)[number];
  readonly #betas: readonly [number, number];
  readonly #eps: number;
  readonly #weightDecay: number;
  readonly #parameters: readonly Parameter[];
  readonly #groups: FlatGroups;
  /** The moments of each group, as one vector. */
  readonly #expAvg: readonly tf.Variable[];
  readonly #expAvgSq: readonly tf.Variable[];
  #step = 0;

  /** Defaults are PyTorch's: betas (0.9, 0.999), eps 1e-8, weight decay 0.01 for AdamW and 0 for Adam. */
  constructor(name: (typeof ADAMS)[number], parameters: Iterable<Parameter>, options: AdamOptions = {}) {
    if (!ADAMS.includes(name)) {
      throw new InputError(`optimizer: expected one of ${ADAMS.join(", ")}, found ${name}`);
    }
    const { betas = [0.9, 0.999], eps = 1e-8, weightDecay = name === "adamw" ? 0.01 : 0 } = options;
    for (const [key, value] of [
      ["beta1", betas[0]],
      ["beta2", betas[1]],
    ] as const) {
      if (!(value >= 0 && value < 1))
        throw new InputError(`${key}: expected a number from 0 to 1, found ${value}`);
    }
    if (!(eps >= 0)) throw new InputError(`eps: expected a number of at least 0, found ${eps}`);
    if (!(weightDecay >= 0)) {
      throw new InputError(`weightDecay: expected a number of at least 0, found ${weightDecay}`);
    }
    this.name = name;
    this.#betas = betas;
    this.#eps = eps;
    this.#weightDecay = weightDecay;
    this.#parameters = [...parameters];
    this.#groups = new FlatGroups(this.#parameters.map(({ value }) => value.shape));
    const zeros = () =>
      this.#pack(this.#parameters.map(({ value }) => value)).map((flat) => zeroVariable(flat));
    this.#expAvg = zeros();
    this.#expAvgSq = zeros();
  }

  get stateSize(): number {
    return 2 * this.#parameters.reduce((sum, { size }) => sum + size, 0);
  }

  /** Steps taken so far. */
  get stepCount(): number {
    return this.#step;
  }

  step(gradients: readonly tf.Tensor[], learningRate: number, scale = 1): void {
    if (gradients.length !== this.#parameters.length) {
      throw new InputError(`step: expected ${this.#parameters.length} gradients, found ${gradients.length}`);
    }
    this.#step++;
    const [beta1, beta2] = this.#betas;
    const decoupled = this.name === "adamw";
    const attributes = {
      beta1,
      beta2,
      eps: this.#eps,
      stepSize: learningRate / (1 - beta1 ** this.#step),
      correction: Math.sqrt(1 - beta2 ** this.#step),
      shrink: decoupled ? 1 - learningRate * this.#weightDecay : 1,
      decay: decoupled ? 0 : this.#weightDecay,
      scale,
    };
    const weights = this.#parameters.map(({ value }) => value);
    for (let group = 0; group < this.#groups.length; group++) {
      tf.tidy(() => {
        const weight = this.#groups.pack(group, weights);
        const gradient = this.#groups.pack(group, gradients);
        const expAvg = this.#expAvg[group]!;
        const expAvgSq = this.#expAvgSq[group]!;
        const next = adamStep({ weight, gradient, expAvg, expAvgSq }, attributes);
        expAvg.assign(next.expAvg);
        expAvgSq.assign(next.expAvgSq);
        const updated = next.weight as tf.Tensor1D;
        for (const { index, tensor } of this.#groups.unpack(group, updated)) weights[index]!.assign(tensor);
      });
    }
  }

  /** The moments: `NAME.exp_avg`, `NAME.exp_avg_sq`. */
  stateTensors(): Record<string, tf.Tensor> {
    const state: Record<string, tf.Tensor> = {};
    const read = (moments: readonly tf.Variable[], key: string) => {
      for (const [group, flat] of moments.entries()) {
        for (const { index, tensor } of this.#groups.unpack(group, flat as unknown as tf.Tensor1D)) {
          const parameter = this.#parameters[index]!;
          state[`${parameter.name}.${key}`] = parameter.toFileLayout(tensor);
          tensor.dispose();
        }
      }
    };
    read(this.#expAvg, "exp_avg");
    read(this.#expAvgSq, "exp_avg_sq");
    return state;
  }

  loadState(state: Readonly<Record<string, tf.Tensor>>, stepCount: number): void {
    const expected = new Set(
      this.#parameters.flatMap(({ name }) => [`${name}.exp_avg`, `${name}.exp_avg_sq`]),
    );
    const missing = [...expected].find((key) => state[key] === undefined);
    if (missing !== undefined) throw new InputError(`optimizer state: ${missing} is missing`);
    const surplus = Object.keys(state).find((key) => !expected.has(key));
    if (surplus !== undefined) throw new InputError(`optimizer state: ${surplus} belongs to no parameter`);
    const write = (moments: readonly tf.Variable[], key: string) => {
      const values = this.#parameters.map(({ name, shape }) => {
        const stored = state[`${name}.${key}`]!;
        if (String(stored.shape) === String(shape)) return stored;
        throw new InputError(
          `optimizer state: expected ${name}.${key} to be [${shape}], found [${stored.shape}]`,
        );
      });
      tf.tidy(() => {
        const inMemory = values.map((value, i) => this.#parameters[i]!.toMemoryLayout(value));
        for (const [group, flat] of this.#pack(inMemory).entries()) moments[group]!.assign(flat);
      });
    };
    write(this.#expAvg, "exp_avg");
    write(this.#expAvgSq, "exp_avg_sq");
    this.#step = stepCount;
  }

  #pack(tensors: readonly tf.Tensor[]): tf.Tensor1D[] {
    return Array.from({ length: this.#groups.length }, (_, group) => this.#groups.pack(group, tensors));
  }

  static {
    showAs<Adam>(Adam, {
      line: (adam) => {
        const size = adam.#parameters.reduce((sum, { size }) => sum + size, 0);
        const options = `betas=(${adam.#betas.join(", ")}), eps=${adam.#eps}, weight_decay=${adam.#weightDecay}`;
        return `${adam.name === "adamw" ? "AdamW" : "Adam"}(${grouped(size)} parameters, step ${adam.#step}, ${options})`;
      },
    });
  }

  dispose(): void {
    for (const moment of [...this.#expAvg, ...this.#expAvgSq]) moment.dispose();
  }
}

/** Disposes the tensor. */
function zeroVariable(like: tf.Tensor): tf.Variable {
  const variable = tf.tidy(() => tf.variable(tf.zerosLike(like), false));
  like.dispose();
  return variable;
}

/** The 2-norm over all gradients together. */
export function gradNorm(gradients: readonly tf.Tensor[]): number {
  const groups = new FlatGroups(gradients.map(({ shape }) => shape));
  const squares = tf.tidy(() => {
    const sums = Array.from({ length: groups.length }, (_, group) =>
      tf.sum(tf.square(groups.pack(group, gradients))),
    );
    return tf.stack(sums).dataSync() as Float32Array;
  });
  return Math.sqrt(squares.reduce((sum, value) => sum + value, 0));
}

/** What gradients of this norm are multiplied by: min(1, maxNorm / (norm + 1e-6)); 1 if `maxNorm` is 0 or less. */
export function clipFactor(norm: number, maxNorm: number): number {
  return maxNorm > 0 ? Math.min(1, maxNorm / (norm + 1e-6)) : 1;
}

export interface ClippedGradients {
  /** The caller disposes them. */
  readonly gradients: tf.Tensor[];
  /** 2-norm over all gradients together, before clipping. */
  readonly norm: number;
}

/** Scales gradients to a norm of at most `maxNorm`, as `torch.nn.utils.clip_grad_norm_`. */
export function clipGradNorm(gradients: readonly tf.Tensor[], maxNorm: number): ClippedGradients {
  const norm = gradNorm(gradients);
  const factor = clipFactor(norm, maxNorm);
  return { gradients: gradients.map((gradient) => tf.tidy(() => tf.mul(gradient, factor))), norm };
}
