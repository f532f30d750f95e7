import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus, xoroshiro128plusFromState } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator as Source } from "pure-rand/types/RandomGenerator";
import { InputError } from "./errors.js";
import { jump } from "./random-jump.js";
import { showAs } from "./shown.js";
import * as tf from "./tf.js";

/** Everything needed to continue a generator's sequence; plain JSON. */
export interface GeneratorState {
  readonly bits: readonly number[];
  /** The second value of a Box-Muller pair that has not been handed out yet. */
  readonly spare: number | null;
}

/** The generator's first numbers depend closely on its seed, so neighbouring seeds are spread out (MurmurHash3's finalizer). */
function scatter(seed: number): number {
  let h = seed | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/**
 * A seeded source of random numbers, passed to whatever draws from it (like `torch.Generator` in diffusers).
 * The same seed gives the same sequence on every engine and machine, though not PyTorch's.
 */
export class RandomGenerator {
  #rng: Source;
  #spare: number | null = null;
  /** Unknown once a state was set. */
  #seed: number | null;

  /** @param seed any integer; its low 32 bits count. */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed)) throw new InputError(`seed: expected an integer, found ${seed}`);
    this.#rng = xoroshiro128plus(scatter(seed));
    this.#seed = seed;
  }

  /** A generator that continues from where `state` was read. */
  static fromState(state: GeneratorState): RandomGenerator {
    const generator = new RandomGenerator(0);
    generator.setState(state);
    return generator;
  }

  getState(): GeneratorState {
    return { bits: [...this.#rng.getState()], spare: this.#spare };
  }

  setState(state: GeneratorState): void {
    this.#rng = xoroshiro128plusFromState(state.bits);
    this.#spare = state.spare;
    this.#seed = null;
  }

  /** One draw from [low, high). */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * uniformFloat64(this.#rng);
  }

  /** One integer from [low, high), as in `torch.randint`. */
  integer(low: number, high: number): number {
    if (!(high > low)) throw new InputError(`integer: expected low < high, found ${low} and ${high}`);
    return uniformInt(this.#rng, low, high - 1);
  }

  /** One draw from a normal distribution (Box and Muller, 1958). */
  normal(mean = 0, std = 1): number {
    if (this.#spare !== null) {
      const value = this.#spare;
      this.#spare = null;
      return mean + std * value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return mean + std * radius * Math.cos(angle);
  }

  /** Goes on as after so many calls of {@link normal}, in time that hardly grows with their number. */
  skipNormals(count: number): void {
    if (!(Number.isSafeInteger(count) && count >= 0))
      throw new InputError(`skipNormals: expected a whole number of draws, found ${count}`);
    if (count === 0) return;
    let left = count;
    if (this.#spare !== null) {
      this.#spare = null;
      left--;
    }
    // A pair of draws takes two uniform numbers, each made of two of the source's.
    const pairs = Math.floor(left / 2);
    this.#rng = xoroshiro128plusFromState(jump(this.#rng.getState(), 4 * pairs));
    if (left % 2 === 1) this.normal();
  }

  /** A float32 tensor of standard normal draws, as `torch.randn(shape, generator=...)`. */
  randn<R extends tf.Rank>(shape: tf.ShapeMap[R]): tf.Tensor<R> {
    const values = new Float32Array(tf.util.sizeFromShape(shape));
    for (let i = 0; i < values.length; i++) values[i] = this.normal();
    return tf.tensor(values, shape, "float32");
  }

  /** A random order of 0 .. n-1, as in `torch.randperm` (Fisher and Yates). */
  permutation(n: number): number[] {
    const order = Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.integer(0, i + 1);
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
    return order;
  }

  static {
    const text = (generator: RandomGenerator, ...facts: string[]) => {
      const seed = generator.#seed === null ? [] : [`seed=${generator.#seed}`];
      return `${generator.constructor.name}(${[...seed, ...facts].join(", ")})`;
    };
    showAs<RandomGenerator>(RandomGenerator, {
      line: (generator) => text(generator),
      text: (generator) => {
        const { bits, spare } = generator.getState();
        return text(generator, `state={ bits: [${bits.join(", ")}], spare: ${spare} }`);
      },
    });
  }
}

/** @deprecated since 0.2, to be gone in 0.3: the name is TypeScript's own. It is called {@link RandomGenerator}. */
export const Generator: typeof RandomGenerator = RandomGenerator;
/** @deprecated since 0.2, to be gone in 0.3: the name is TypeScript's own. It is called {@link RandomGenerator}. */
export type Generator = RandomGenerator;
