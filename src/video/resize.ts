/** Weights are rounded to 11 bits, as OpenCV does for bytes. */
const ONE = 2048;

interface Taps {
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly lowWeight: Int32Array;
  readonly highWeight: Int32Array;
}

/** For each target position, the two source positions around it; pixel centres are at half integers. */
function taps(source: number, target: number): Taps {
  const low = new Int32Array(target);
  const high = new Int32Array(target);
  const lowWeight = new Int32Array(target);
  const highWeight = new Int32Array(target);
  for (let i = 0; i < target; i++) {
    const position = (i + 0.5) * (source / target) - 0.5;
    const at = Math.min(Math.max(Math.floor(position), 0), source - 1);
    const fraction = at < source - 1 ? Math.max(position - at, 0) : 0;
    low[i] = at;
    high[i] = Math.min(at + 1, source - 1);
    lowWeight[i] = Math.round((1 - fraction) * ONE);
    highWeight[i] = Math.round(fraction * ONE);
  }
  return { low, high, lowWeight, highWeight };
}

/**
 * Bilinear resize of interleaved RGB bytes with half-pixel centres and no antialiasing: what `cv2.resize` does by
 * default, which is what the CogVideoX data sets were made with. Agrees with OpenCV to one level.
 *
 * @param pixels `height * width * 3` bytes
 */
export function resizeRgb(
  pixels: Uint8Array,
  from: { readonly height: number; readonly width: number },
  to: { readonly height: number; readonly width: number },
): Uint8Array {
  const out = new Uint8Array(to.height * to.width * 3);
  if (from.height === to.height && from.width === to.width) {
    out.set(pixels.subarray(0, out.length));
    return out;
  }
  const columns = taps(from.width, to.width);
  const rows = taps(from.height, to.height);
  const stride = to.width * 3;
  const stretched = (y: number, into: Int32Array) => {
    const base = y * from.width * 3;
    for (let x = 0, o = 0; x < to.width; x++) {
      const a = base + columns.low[x]! * 3;
      const b = base + columns.high[x]! * 3;
      const wa = columns.lowWeight[x]!;
      const wb = columns.highWeight[x]!;
      for (let c = 0; c < 3; c++) into[o++] = pixels[a + c]! * wa + pixels[b + c]! * wb;
    }
  };
  let upper = new Int32Array(stride);
  let lower = new Int32Array(stride);
  let upperRow = -1;
  let lowerRow = -1;
  for (let y = 0; y < to.height; y++) {
    const a = rows.low[y]!;
    const b = rows.high[y]!;
    if (upperRow !== a && lowerRow === a) {
      [upper, lower] = [lower, upper];
      [upperRow, lowerRow] = [lowerRow, upperRow];
    }
    if (upperRow !== a) {
      stretched(a, upper);
      upperRow = a;
    }
    if (lowerRow !== b) {
      stretched(b, lower);
      lowerRow = b;
    }
    const wa = rows.lowWeight[y]!;
    const wb = rows.highWeight[y]!;
    for (let i = 0, o = y * stride; i < stride; i++, o++) {
      // 22 bits of fraction; the intermediate shifts reproduce OpenCV's 32-bit products and rounding.
      const sum = ((wa * (upper[i]! >> 4)) >> 16) + ((wb * (lower[i]! >> 4)) >> 16);
      out[o] = (sum + 2) >> 2;
    }
  }
  return out;
}
