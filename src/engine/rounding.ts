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
