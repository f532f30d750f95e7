import { ClipError } from "./errors.js";

/** Where a plane of a decoded picture lies in its bytes. */
export interface Plane {
  readonly offset: number;
  /** Bytes from a row to the next. */
  readonly stride: number;
}

/** A decoded picture as the decoder gives it. */
export interface DecodedPicture {
  readonly bytes: Uint8Array;
  readonly planes: readonly Plane[];
  /** WebCodecs' name of how pixels are stored, such as "I420" or "I422P10". */
  readonly format: string;
  readonly width: number;
  readonly height: number;
  /** The file that it comes from, for errors. */
  readonly path?: string;
}

/** What numbers in a picture mean. */
export interface ColorMeaning {
  /** Matrix coefficients, by their number in ITU-T H.273, table 4. */
  readonly matrix: number;
  /** Whether black and white are 0 and the largest number, and not 16 and 235 of 255. */
  readonly fullRange: boolean;
}

/** ITU-T H.273's numbers for the matrices that WebCodecs has names for. */
export const MATRIX_NUMBERS: Readonly<Record<string, number>> = {
  rgb: 0,
  bt709: 1,
  bt470bg: 5,
  smpte170m: 6,
  "bt2020-ncl": 9,
};

/** What OpenCV, decord and ffmpeg take where a file names no matrix: BT.601. */
export const UNSPECIFIED = 2;
const BT601 = [0.299, 0.114] as const;

/** Luma's weights of red and blue by ITU-T H.273, table 4. */
const WEIGHTS: Readonly<Record<number, readonly [red: number, blue: number]>> = {
  1: [0.2126, 0.0722],
  [UNSPECIFIED]: BT601,
  4: [0.3, 0.11],
  5: BT601,
  6: BT601,
  7: [0.212, 0.087],
  9: [0.2627, 0.0593],
};
const IDENTITY = 0;
const YCGCO = 8;

/** What each of the two colour differences adds to red, green and blue; ITU-T H.273, section 8.3. */
function chromaParts(matrix: number): readonly [blue: readonly number[], red: readonly number[]] | undefined {
  if (matrix === YCGCO)
    return [
      [-1, 1, -1],
      [1, 0, -1],
    ];
  const weights = WEIGHTS[matrix];
  if (weights === undefined) return undefined;
  const [kr, kb] = weights;
  const kg = 1 - kr - kb;
  const [fromCr, fromCb] = [2 * (1 - kr), 2 * (1 - kb)];
  return [
    [0, (-kb / kg) * fromCb, fromCb],
    [fromCr, (-kr / kg) * fromCr, 0],
  ];
}

/** How pixels lie in planes: bits a number, and by how many bits chroma's positions are shifted. */
interface Layout {
  readonly bits: number;
  readonly shiftX: number;
  readonly shiftY: number;
  /** NV12 and NV21 have both colour differences in one plane, in this order. */
  readonly interleaved?: readonly [blue: number, red: number];
}

function layoutOf(format: string): Layout | undefined {
  if (format === "NV12" || format === "NV21")
    return { bits: 8, shiftX: 1, shiftY: 1, interleaved: format === "NV12" ? [0, 1] : [1, 0] };
  const parts = /^I(420|422|444)A?(?:P(10|12))?$/.exec(format);
  if (parts === null) return undefined;
  return {
    bits: Number(parts[2] ?? 8),
    shiftX: parts[1] === "444" ? 0 : 1,
    shiftY: parts[1] === "420" ? 1 : 0,
  };
}

/** True if {@link pictureToRgb} knows how these pixels are stored. */
export const isKnownFormat = (format: string): boolean =>
  layoutOf(format) !== undefined || packedOrder(format) !== undefined;

/** Where red, green and blue are in the four bytes of a packed pixel. */
function packedOrder(format: string): readonly [number, number, number] | undefined {
  if (format === "RGBA" || format === "RGBX") return [0, 1, 2];
  if (format === "BGRA" || format === "BGRX") return [2, 1, 0];
  return undefined;
}

/**
 * Converts a decoded picture to RGB bytes. This is the only conversion: any planar format of 8, 10 or 12 bits, chroma
 * whole, halved or quartered, any matrix of ITU-T H.273 that has no other transfer inside, both ranges, and RGB itself. Pixels
 * that share a chroma value get the same one, as with OpenCV and ffmpeg's default; transparency is dropped.
 *
 * @returns `height * width * 3` bytes
 * @throws ClipError for a format or matrix that it does not know.
 */
export function pictureToRgb(picture: DecodedPicture, { matrix, fullRange }: ColorMeaning): Uint8Array {
  const { bytes, planes, format, width, height, path: file } = picture;
  const order = packedOrder(format);
  if (order !== undefined) return packedToRgb(picture, order);
  const layout = layoutOf(format);
  if (layout === undefined)
    throw new ClipError(`expected pixels in a known format, found ${format}`, { file });
  const { bits, shiftX, shiftY, interleaved } = layout;
  const wide = bits > 8;
  // Numbers of more than 8 bits have two bytes, the lower first, as this processor has them, too.
  const numbers = wide ? new Uint16Array(aligned(bytes).buffer) : bytes;
  const bytesEach = wide ? 2 : 1;
  const [luma, second, third] = planes.map(({ offset, stride }) => ({
    offset: offset / bytesEach,
    stride: stride / bytesEach,
  }));
  const { luma: lumaOf, chroma } = tables(bits, fullRange);
  const out = new Uint8ClampedArray(width * height * 3); // clamps and rounds
  if (matrix === IDENTITY) {
    if (shiftX !== 0) throw new ClipError(`expected RGB with all its pixels, found ${format}`, { file });
    for (let row = 0, o = 0; row < height; row++) {
      const at = [third!, luma!, second!].map(({ offset, stride }) => offset + row * stride);
      for (let x = 0; x < width; x++) for (const from of at) out[o++] = lumaOf[numbers[from + x]!]!;
    }
    return new Uint8Array(out.buffer);
  }
  const parts = chromaParts(matrix);
  if (parts === undefined)
    throw new ClipError(`colours with matrix coefficients ${matrix} of ITU-T H.273 can't be converted`, {
      file,
    });
  const [[redFromCb, greenFromCb, blueFromCb], [redFromCr, greenFromCr, blueFromCr]] = parts as [
    [number, number, number],
    [number, number, number],
  ];
  // The decoder rounds half of an odd size down, so the last row and column share their neighbours' chroma.
  const chromaPlane = second!;
  const perPixel = interleaved === undefined ? 1 : 2;
  const columns = Math.max(1, width >> shiftX);
  const rows = Math.max(1, height >> shiftY);
  for (let row = 0, o = 0; row < height; row++) {
    const lumaAt = luma!.offset + row * luma!.stride;
    const chromaRow = Math.min(row >> shiftY, rows - 1);
    const blueAt = chromaPlane.offset + chromaRow * chromaPlane.stride + (interleaved?.[0] ?? 0);
    const redAt =
      interleaved === undefined
        ? third!.offset + chromaRow * third!.stride
        : chromaPlane.offset + chromaRow * chromaPlane.stride + interleaved[1];
    for (let column = 0; column < width; ) {
      const at = Math.min(column >> shiftX, columns - 1) * perPixel;
      const cb = chroma[numbers[blueAt + at]!]!;
      const cr = chroma[numbers[redAt + at]!]!;
      const red = redFromCb * cb + redFromCr * cr;
      const green = greenFromCb * cb + greenFromCr * cr;
      const blue = blueFromCb * cb + blueFromCr * cr;
      for (const end = Math.min(column + (1 << shiftX), width); column < end; column++) {
        const y = lumaOf[numbers[lumaAt + column]!]!;
        out[o++] = y + red;
        out[o++] = y + green;
        out[o++] = y + blue;
      }
    }
  }
  return new Uint8Array(out.buffer);
}

interface Tables {
  /** From 0 to 255 where it is in range. */
  readonly luma: Float32Array;
  /** From -127.5 to 127.5. */
  readonly chroma: Float32Array;
}
const made = new Map<string, Tables>();

/** What each number of so many bits means. */
function tables(bits: number, fullRange: boolean): Tables {
  const key = `${bits} ${fullRange}`;
  const known = made.get(key);
  if (known !== undefined) return known;
  const unit = 2 ** (bits - 8);
  const [black, white, swing] = fullRange
    ? [0, 2 ** bits - 1, 2 ** bits - 1]
    : [16 * unit, 219 * unit, 224 * unit];
  const each = (value: (number: number) => number) =>
    Float32Array.from({ length: 2 ** bits }, (_, i) => value(i));
  const result = {
    luma: each((v) => ((v - black) * 255) / white),
    chroma: each((v) => ((v - 128 * unit) * 255) / swing),
  };
  made.set(key, result);
  return result;
}

/** The bytes at a place in memory where numbers of two bytes may begin. */
function aligned(bytes: Uint8Array): Uint8Array {
  return bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength && bytes.byteLength % 2 === 0
    ? bytes
    : Uint8Array.from({ length: bytes.length + (bytes.length % 2) }, (_, i) => bytes[i] ?? 0);
}

function packedToRgb(
  { bytes, planes, width, height }: DecodedPicture,
  [red, green, blue]: readonly [number, number, number],
): Uint8Array {
  const { offset, stride } = planes[0]!;
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0, from = offset + y * stride; x < width; x++, from += 4) {
      rgb[to++] = bytes[from + red]!;
      rgb[to++] = bytes[from + green]!;
      rgb[to++] = bytes[from + blue]!;
    }
  }
  return rgb;
}
