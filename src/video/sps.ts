/** What H.264's sequence parameter set (ITU-T H.264, section 7.3.2.1.1) says about pixels, which WebCodecs does not tell. */

/** How a stream's pixels are stored, from the stream itself. */
export interface StoredPixels {
  /** 0 grey, 1 4:2:0, 2 4:2:2, 3 4:4:4. */
  readonly chroma: number;
  readonly bits: number;
  /** Matrix coefficients by ITU-T H.273; undefined if the stream names none. */
  readonly matrix?: number | undefined;
  readonly fullRange?: boolean | undefined;
}

interface Sps extends StoredPixels {
  /** Positions in the bytes without emulation prevention: of the bit for the range, of the matrix's eight bits. */
  readonly rangeAt?: number;
  readonly matrixAt?: number;
}

/** Reads bits, the highest of a byte first. */
class Bits {
  at = 0;
  /** Whether more was read than there is; it reads as 1s, which end every code. */
  ended = false;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  read(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++, this.at++) {
      const byte = this.#bytes[this.at >> 3] ?? 255;
      this.ended ||= this.at >> 3 >= this.#bytes.length;
      value = value * 2 + ((byte >> (7 - (this.at & 7))) & 1);
    }
    return value;
  }

  /** ue(v), an Exp-Golomb code. */
  golomb(): number {
    let zeros = 0;
    while (this.read(1) === 0) zeros++;
    return 2 ** zeros - 1 + this.read(zeros);
  }

  /** se(v), the same with a sign. */
  signed(): number {
    const code = this.golomb();
    return code % 2 === 1 ? (code + 1) / 2 : -code / 2;
  }
}

/** Profiles whose parameter sets name the chroma format. */
const NAMING = new Set([44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244]);

/** Bytes 0, 0, 3 in a NAL unit stand for 0, 0. */
function withoutPrevention(unit: Uint8Array): Uint8Array {
  return Uint8Array.from(unit.filter((byte, i) => !(byte === 3 && unit[i - 1] === 0 && unit[i - 2] === 0)));
}

function withPrevention(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  let zeros = 0;
  for (const byte of bytes) {
    if (zeros >= 2 && byte <= 3) {
      out.push(3);
      zeros = 0;
    }
    out.push(byte);
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return Uint8Array.from(out);
}

/** Undefined if it ends early. */
function parse(bytes: Uint8Array): Sps | undefined {
  const bits = new Bits(bytes);
  const found = parseBits(bits);
  return bits.ended ? undefined : found;
}

function parseBits(bits: Bits): Sps {
  bits.read(8); // NAL unit's header
  const profile = bits.read(8);
  bits.read(16); // constraints, level
  bits.golomb(); // its number
  let [chroma, depth] = [1, 8];
  if (NAMING.has(profile)) {
    chroma = bits.golomb();
    if (chroma === 3) bits.read(1); // separate planes
    depth = Math.max(bits.golomb(), bits.golomb()) + 8;
    bits.read(1); // lossless
    if (bits.read(1) === 1) for (let i = 0; i < (chroma === 3 ? 12 : 8); i++) skipScaling(bits, i);
  }
  bits.golomb(); // bits of frame numbers
  const order = bits.golomb();
  if (order === 0) bits.golomb();
  else if (order === 1) {
    bits.read(1);
    bits.signed();
    bits.signed();
    for (let i = bits.golomb(); i > 0; i--) bits.signed();
  }
  bits.golomb(); // reference frames
  bits.read(1);
  bits.golomb(); // width
  bits.golomb(); // height
  if (bits.read(1) === 0) bits.read(1); // frames or fields
  bits.read(1);
  if (bits.read(1) === 1) for (let i = 0; i < 4; i++) bits.golomb(); // cropping
  const found = { chroma, bits: depth };
  if (bits.read(1) === 0) return found; // no usability information
  if (bits.read(1) === 1 && bits.read(8) === 255) bits.read(32); // aspect ratio
  if (bits.read(1) === 1) bits.read(1); // overscan
  if (bits.read(1) === 0) return found; // no kind of video signal
  bits.read(3);
  const rangeAt = bits.at;
  const ranged = { ...found, rangeAt, fullRange: bits.read(1) === 1 };
  if (bits.read(1) === 0) return ranged; // no colours
  bits.read(16); // primaries, transfer
  const matrixAt = bits.at;
  return { ...ranged, matrix: bits.read(8), matrixAt };
}

function skipScaling(bits: Bits, index: number): void {
  if (bits.read(1) === 0) return;
  let [last, next] = [8, 8];
  for (let i = 0; i < (index < 6 ? 16 : 64); i++) {
    if (next !== 0) next = (last + bits.signed() + 256) % 256;
    if (next !== 0) last = next;
  }
}

/** The parameter sets of an `avcC` (ISO/IEC 14496-15, section 5.3.3.1): where each begins and ends. */
function parameterSets(description: Uint8Array): { begin: number; end: number }[] {
  const found: { begin: number; end: number }[] = [];
  let at = 6;
  for (let i = (description[5] ?? 0) & 31; i > 0; i--) {
    const begin = at + 2;
    at = begin + (description[at] ?? 0) * 256 + (description[at + 1] ?? 0);
    if (at <= description.length) found.push({ begin, end: at });
  }
  return found;
}

/** What an `avcC` says about the stream's pixels; undefined if it can't be understood. */
export function storedPixels(description: Uint8Array): StoredPixels | undefined {
  const [first] = parameterSets(description);
  return first === undefined ? undefined : pixelsOf(description.subarray(first.begin, first.end));
}

/** The same of a packet with start codes (ITU-T H.264, annex B), as MPEG-TS has them. */
export function storedPixelsInPacket(packet: Uint8Array): StoredPixels | undefined {
  for (let at = 3; at < packet.length; at++)
    if (packet[at - 1] === 1 && packet[at - 2] === 0 && packet[at - 3] === 0 && (packet[at]! & 31) === 7)
      return pixelsOf(packet.subarray(at));
  return undefined;
}

/** A unit that goes on after its end is read up to what is asked for. */
function pixelsOf(unit: Uint8Array): StoredPixels | undefined {
  const found = parse(withoutPrevention(unit));
  if (found === undefined) return undefined;
  const { chroma, bits, matrix, fullRange } = found;
  return { chroma, bits, matrix, fullRange };
}

/**
 * An `avcC` that says of limited range and, for RGB, of unspecified colours what the stream really has. The decoder then gives the
 * same numbers as three planes (of RGB: green, blue and red), whereas it has no name for planes of RGB, nor for 4:2:2 and 4:4:4
 * of full range, and gives a part of them under a wrong one.
 */
export function asPlanes(description: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  let done = 0;
  for (const { begin, end } of parameterSets(description)) {
    const bytes = withoutPrevention(description.subarray(begin, end));
    const { matrix, matrixAt, rangeAt } = parse(bytes) ?? {};
    const set = (at: number, value: 0 | 1) => {
      const mask = 128 >> (at & 7);
      bytes[at >> 3] = (bytes[at >> 3]! & ~mask) | (value * mask);
    };
    if (rangeAt !== undefined) set(rangeAt, 0);
    if (matrix === 0 && matrixAt !== undefined) set(matrixAt + 6, 1); // of eight bits, all 0: 2, unspecified
    const unit = withPrevention(bytes);
    parts.push(
      description.subarray(done, begin - 2),
      Uint8Array.of(unit.length >> 8, unit.length & 255),
      unit,
    );
    done = end;
  }
  return new Uint8Array(Buffer.concat([...parts, description.subarray(done)]));
}
