import { xoroshiro128plusFromState } from "pure-rand/generator/xoroshiro128plus";

/** A generator's state: 128 bits. */
type Bits = readonly number[];
const WORDS = 4;
const SIZE = 32 * WORDS;

/** A linear map of states over GF(2): the images of the single bits, one after the other. */
type Map = Int32Array;

/** The generator's step done 1, 2, 4, 8, ... times. */
const powers: Map[] = [];

/**
 * A xoroshiro128+ generator's state after `steps` numbers. The step is linear in the state's bits, so its powers are matrices,
 * and those of two are made by squaring (Haramoto et al. 2008, "Efficient jump ahead for F2-linear random number generators").
 */
export function jump(state: Bits, steps: number): number[] {
  let at = Int32Array.from(state);
  for (let power = 0, left = steps; left > 0; power++, left = Math.floor(left / 2)) {
    if (left % 2 === 1) at = apply(powerOf(power), at);
  }
  return [...at];
}

function powerOf(power: number): Map {
  while (powers.length <= power) {
    const last = powers.at(-1);
    powers.push(fromImages((bit) => (last ? apply(last, image(last, bit)) : step(bit))));
  }
  return powers[power]!;
}

function step(bit: number): Int32Array {
  const state = new Int32Array(WORDS);
  state[bit >> 5] = 1 << (bit & 31);
  const generator = xoroshiro128plusFromState([...state]);
  generator.next();
  return Int32Array.from(generator.getState());
}

function fromImages(of: (bit: number) => Int32Array): Map {
  const map = new Int32Array(SIZE * WORDS);
  for (let bit = 0; bit < SIZE; bit++) map.set(of(bit), bit * WORDS);
  return map;
}

const image = (map: Map, bit: number): Int32Array => map.subarray(bit * WORDS, (bit + 1) * WORDS);

function apply(map: Map, state: Int32Array): Int32Array<ArrayBuffer> {
  const result = new Int32Array(WORDS);
  for (let bit = 0; bit < SIZE; bit++) {
    if (((state[bit >> 5]! >>> (bit & 31)) & 1) === 0) continue;
    for (let word = 0; word < WORDS; word++) result[word]! ^= map[bit * WORDS + word]!;
  }
  return result;
}
