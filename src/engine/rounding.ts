/** Numbers as PyTorch and Python make them. */

/** `torch.linspace`: the second half is counted from the end, so that both ends are exact. */
export function linspace(start: number, end: number, count: number): Float64Array {
  const step = count > 1 ? (end - start) / (count - 1) : 0;
  const middle = Math.floor(count / 2);
  return Float64Array.from({ length: count }, (_, i) =>
    i < middle || count === 1 ? start + step * i : end - step * (count - 1 - i),
  );
}

/** Python's `round`, and NumPy's: halves go to the even neighbour. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** The upper halves of float32's bits: bfloat16, rounded to nearest, ties to even. */
export function toBfloat16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i]!;
    // A NaN must stay one: rounding could carry its fraction away.
    const staysNaN = (word & 0x7fffffff) > 0x7f800000;
    halves[i] = staysNaN ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return halves;
}

/** The numbers that bfloat16's bits stand for. @param into receives them; default: a new array. */
export function fromBfloat16(
  halves: Uint16Array,
  into: Float32Array = new Float32Array(halves.length),
): Float32Array {
  const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16;
  return into;
}
