/** Luma weights of ITU-R BT.709. */
const KR = 0.2126;
const KB = 0.0722;
const KG = 1 - KR - KB;

export interface Plane {
  readonly offset: number;
  readonly stride: number;
}

/** Converts a BT.709 picture in three planes, chroma at half size (I420), to RGB bytes; 2x2 pixels share a chroma value. */
export function bt709ToRgb(
  bytes: Uint8Array,
  [luma, blue, red]: readonly [Plane, Plane, Plane],
  size: { readonly width: number; readonly height: number },
  fullRange: boolean,
): Uint8Array {
  const lumaScale = fullRange ? 1 : 255 / 219;
  const lumaOffset = fullRange ? 0 : 16;
  const chromaScale = fullRange ? 1 : 255 / 224;
  const redFromCr = 2 * (1 - KR) * chromaScale;
  const blueFromCb = 2 * (1 - KB) * chromaScale;
  // The decoder rounds half of an odd size down, so the last row and column share their neighbours' chroma.
  const chromaRows = Math.max(1, Math.floor(size.height / 2));
  const chromaColumns = Math.max(1, Math.floor(size.width / 2));
  const out = new Uint8ClampedArray(size.width * size.height * 3); // clamps and rounds
  for (let row = 0, o = 0; row < size.height; row++) {
    const chromaRow = Math.min(row >> 1, chromaRows - 1);
    for (let column = 0; column < size.width; column++) {
      const chromaColumn = Math.min(column >> 1, chromaColumns - 1);
      const y = (bytes[luma.offset + row * luma.stride + column]! - lumaOffset) * lumaScale;
      const cb = bytes[blue.offset + chromaRow * blue.stride + chromaColumn]! - 128;
      const cr = bytes[red.offset + chromaRow * red.stride + chromaColumn]! - 128;
      out[o++] = y + redFromCr * cr;
      out[o++] = y - (KR / KG) * redFromCr * cr - (KB / KG) * blueFromCb * cb;
      out[o++] = y + blueFromCb * cb;
    }
  }
  return new Uint8Array(out.buffer);
}
