/** How ranks talk over TCP: frames with a header of 12 bytes. */
import { InputError } from "../../engine/errors.js";

export const HEADER = 12;

export const FRAME = {
  /** JSON: who connects. */
  hello: 1,
  /** Nothing but a sign of life. */
  beat: 2,
  /** JSON: a rank's value in a round. */
  value: 3,
  /** Numbers of a sum. */
  numbers: 4,
  /** JSON: why the sender ends. */
  failed: 5,
  /** The sender has done all its work. */
  bye: 6,
} as const;

export type FrameType = (typeof FRAME)[keyof typeof FRAME];

const LARGEST_TEXT = 2 ** 26;
/** Numbers that are sent at a time: enough to keep the network busy, few enough to be added while the next ones come. */
export const SEGMENT = 2 ** 17;

export function header(type: FrameType, length: number, round = 0): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.writeUInt8(type, 0);
  bytes.write("ff1", 1, "latin1");
  bytes.writeUInt32LE(length, 4);
  bytes.writeUInt32LE(round, 8);
  return bytes;
}

export interface Frame {
  readonly type: FrameType;
  readonly round: number;
  /** Valid until the next frame is read. */
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  readonly #header = Buffer.alloc(HEADER);
  readonly #numbers = new Uint8Array(4 * SEGMENT);
  #body: Uint8Array<ArrayBuffer> | undefined;
  #filled = 0;

  /** @throws InputError for bytes that no rank sends. */
  read(chunk: Uint8Array, take: (frame: Frame) => void): void {
    let at = 0;
    while (at < chunk.length) {
      const target: Uint8Array = this.#body ?? this.#header;
      const count = Math.min(target.length - this.#filled, chunk.length - at);
      target.set(chunk.subarray(at, at + count), this.#filled);
      at += count;
      this.#filled += count;
      if (this.#filled < target.length) return;
      this.#filled = 0;
      if (this.#body === undefined) {
        this.#body = this.#bodyOf(this.#header);
        if (this.#body.length > 0) continue;
      }
      const body = this.#body;
      this.#body = undefined;
      take({ type: this.#header.readUInt8(0) as FrameType, round: this.#header.readUInt32LE(8), body });
    }
  }

  #bodyOf(bytes: Buffer): Uint8Array<ArrayBuffer> {
    const [type, length] = [bytes.readUInt8(0), bytes.readUInt32LE(4)];
    if (bytes.toString("latin1", 1, 4) !== "ff1" || !Object.values<number>(FRAME).includes(type))
      throw new InputError("sent something else than ranks do");
    const numbers = type === FRAME.numbers;
    if (length > (numbers ? this.#numbers.length : LARGEST_TEXT))
      throw new InputError(`sent ${length} bytes at once`);
    return numbers ? this.#numbers.subarray(0, length) : new Uint8Array(length);
  }
}

/** The nearest bfloat16, ties to even; NaN stays NaN. */
export function toBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i]!;
    halves[i] =
      (word & 0x7fffffff) > 0x7f800000 ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return halves;
}

export function fromBfloat16(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < bits.length; i++) bits[i] = halves[i]! << 16;
  return new Float32Array(bits.buffer);
}
