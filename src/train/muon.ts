import { InputError } from "../engine/errors.js";
import * as tf from "../engine/tf.js";
import type { Parameter } from "../nn/module.js";

/** One step's polynomial a x + b x^3 + c x^5 of the singular values (Jordan et al. 2024). */
const [A, B, C] = [3.4445, -4.775, 2.0315];
const ITERATIONS = 5;
const EPS = 1e-7;

export interface MuonOptions {
  /** Default 0.95. */
  readonly momentum?: number;
  /** Decoupled from the gradient: weights shrink by learning rate times this at each step. Default 0. */
  readonly weightDecay?: number;
  /**
   * What a matrix's learning rate is multiplied by: sqrt(max(1, outputs / inputs)), or, with "match_rms_adamw",
   * 0.2 sqrt(max(outputs, inputs)), which makes steps as large as AdamW's, so that the same learning rates fit (Liu et al. 2025,
   * arXiv 2502.16982). Default "original".
   */
  readonly adjustLr?: "original" | "match_rms_adamw";
}

/** Matrices of one shape, updated together. */
interface Group {
  readonly indices: readonly number[];
  /** Inputs and outputs of each matrix. */
  readonly shape: readonly [number, number];
  /** [matrices, inputs, outputs] */
  readonly momentum: tf.Variable;
}

/**
 * Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): the momentum of each matrix is moved towards the
 * nearest matrix with all singular values equal, so that directions with small gradients, here the fine structure of
 * pictures, are learned as fast as those with large ones. Nesterov's momentum and the options are `torch.optim.Muon`'s, except
 * that weight decay is 0 by default. A convolution's kernel counts as a matrix [all inputs, out].
 */
export class Muon {
  readonly #options: Required<MuonOptions>;
  readonly #parameters: readonly Parameter[];
  readonly #groups: readonly Group[];

  /** @param parameters weights whose last axis in memory is the output. */
  constructor(
    parameters: Iterable<Parameter>,
    { momentum = 0.95, weightDecay = 0, adjustLr = "original" }: MuonOptions = {},
  ) {
    this.#options = { momentum, weightDecay, adjustLr };
    this.#parameters = [...parameters];
    if (!(momentum >= 0 && momentum < 1))
      throw new InputError(`momentum: expected a number from 0 to 1, found ${momentum}`);
    if (!(weightDecay >= 0))
      throw new InputError(`weightDecay: expected a number of at least 0, found ${weightDecay}`);
    const byShape = new Map<string, { indices: number[]; shape: readonly [number, number] }>();
    for (const [i, { name, value }] of this.#parameters.entries()) {
      if (value.rank < 2)
        throw new InputError(`${name}: expected a matrix or a kernel, found [${value.shape}]`);
      const outputs = value.shape.at(-1)!;
      const shape = [value.size / outputs, outputs] as const;
      const same = byShape.get(String(shape)) ?? { indices: [], shape };
      same.indices.push(i);
      byShape.set(String(shape), same);
    }
    this.#groups = [...byShape.values()].map(({ indices, shape }) => ({
      indices,
      shape,
      momentum: tf.tidy(() => tf.variable(tf.zeros([indices.length, ...shape]), false)),
    }));
  }

  /** How many numbers it remembers: one per weight. */
  get stateSize(): number {
    return this.#parameters.reduce((sum, { size }) => sum + size, 0);
  }

  /** Updates the parameters. @param gradients one per parameter, in their order and memory layout; not disposed. */
  step(gradients: readonly tf.Tensor[], learningRate: number): void {
    if (gradients.length !== this.#parameters.length)
      throw new InputError(`step: expected ${this.#parameters.length} gradients, found ${gradients.length}`);
    const { momentum: beta, weightDecay, adjustLr } = this.#options;
    for (const { indices, shape, momentum } of this.#groups) {
      tf.tidy(() => {
        const gradient = tf.stack(indices.map((i) => tf.reshape(gradients[i]!, [...shape])));
        momentum.assign(tf.add(momentum, tf.mul(tf.sub(gradient, momentum), 1 - beta)));
        const ahead = tf.add(gradient, tf.mul(tf.sub(momentum, gradient), beta)) as tf.Tensor3D;
        const [inputs, outputs] = shape;
        const factor =
          adjustLr === "original"
            ? Math.sqrt(Math.max(1, outputs / inputs))
            : 0.2 * Math.sqrt(Math.max(outputs, inputs));
        const updates = tf.unstack(tf.mul(orthogonalize(ahead), learningRate * factor));
        const shrink = 1 - learningRate * weightDecay;
        for (const [k, i] of indices.entries()) {
          const { value } = this.#parameters[i]!;
          const kept = shrink === 1 ? value : tf.mul(value, shrink);
          value.assign(tf.sub(kept, tf.reshape(updates[k]!, value.shape)));
        }
      });
    }
  }

  /** The momentum by name (`NAME.momentum_buffer`) in the files' layout. The caller disposes the tensors. */
  stateTensors(): Record<string, tf.Tensor> {
    const state: Record<string, tf.Tensor> = {};
    for (const { indices, momentum } of this.#groups) {
      const parts = tf.unstack(momentum);
      for (const [k, i] of indices.entries()) {
        const parameter = this.#parameters[i]!;
        state[`${parameter.name}.momentum_buffer`] = tf.tidy(() =>
          parameter.toFileLayout(tf.reshape(parts[k]!, parameter.value.shape)),
        );
      }
      tf.dispose(parts);
    }
    return state;
  }

  /** Continues from where {@link stateTensors} was taken. The tensors are not disposed. */
  loadState(state: Readonly<Record<string, tf.Tensor>>): void {
    for (const { indices, shape, momentum } of this.#groups) {
      tf.tidy(() => {
        const parts = indices.map((i) => {
          const parameter = this.#parameters[i]!;
          const stored = state[`${parameter.name}.momentum_buffer`];
          if (stored === undefined || String(stored.shape) !== String(parameter.shape)) {
            throw new InputError(
              `optimizer state: expected ${parameter.name}.momentum_buffer of shape [${parameter.shape}], ` +
                `found ${stored ? `[${stored.shape}]` : "nothing"}`,
            );
          }
          return tf.reshape(parameter.toMemoryLayout(stored), [...shape]);
        });
        momentum.assign(tf.stack(parts));
      });
    }
  }

  dispose(): void {
    for (const { momentum } of this.#groups) momentum.dispose();
  }
}

/**
 * Brings all singular values of each matrix x close to 1 (0.7 to 1.2) by Newton-Schulz iterations. Since each iteration
 * multiplies x by a polynomial of x x', they are done on the smaller of the two Gram matrices, and x is multiplied once.
 *
 * @param matrices [N, rows, columns]
 */
export function orthogonalize(matrices: tf.Tensor3D): tf.Tensor3D {
  const [, rows, columns] = matrices.shape;
  return tf.tidy(() => {
    const wide = rows <= columns;
    const norm = tf.add(tf.sqrt(tf.sum(tf.square(matrices), [1, 2], true)), EPS);
    const x = tf.div(matrices, norm) as tf.Tensor3D;
    let gram: tf.Tensor = wide ? tf.matMul(x, x, false, true) : tf.matMul(x, x, true, false);
    const identity = tf.expandDims(tf.eye(Math.min(rows, columns)), 0);
    let product: tf.Tensor | undefined;
    for (let i = 0; i < ITERATIONS; i++) {
      const factor = tf.add(tf.mul(identity, A), tf.add(tf.mul(gram, B), tf.mul(tf.matMul(gram, gram), C)));
      product = product ? tf.matMul(factor, product) : factor;
      gram = tf.matMul(tf.matMul(factor, gram), factor);
    }
    return (wide ? tf.matMul(product!, x) : tf.matMul(x, product!)) as tf.Tensor3D;
  });
}
