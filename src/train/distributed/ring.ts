/**
 * The sum of vectors over all ranks, in place on each: a ring (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce
 * algorithms"), so that a rank sends 2 (N - 1) / N of its vector whatever N is. Every number is added on one rank, in one order,
 * and sent to the others: all ranks have the same bits.
 */
import { InputError } from "../../engine/errors.js";
import { fromBfloat16, SEGMENT, toBfloat16 } from "./frames.js";

/** Sends numbers to the next rank; `written` is called once they have left this process. */
export type Send = (bytes: Uint8Array, written: () => void) => void;

export class RingSum {
  readonly values: Float32Array<ArrayBuffer>;
  readonly #rank: number;
  readonly #size: number;
  readonly #bfloat16: boolean;
  readonly #send: Send;
  readonly #done: () => void;
  /** What comes next: a segment of the chunk of a step. */
  #step = 0;
  #segment = 0;
  #unwritten = 0;

  constructor(
    values: Float32Array<ArrayBuffer>,
    { rank, size, bfloat16 }: { readonly rank: number; readonly size: number; readonly bfloat16: boolean },
    { send, done }: { readonly send: Send; readonly done: () => void },
  ) {
    this.values = values;
    this.#rank = rank;
    this.#size = size;
    this.#bfloat16 = bfloat16;
    this.#send = send;
    this.#done = done;
  }

  start(): void {
    for (let i = 0; i < this.#segments(this.#rank); i++) this.#sendSegment(this.#part(this.#rank, i));
    this.#skipEmpty();
    this.#finishIfDone();
  }

  /** @throws InputError if it is not what the previous rank has to send. */
  receive(body: Uint8Array<ArrayBuffer>): void {
    const step = this.#step;
    if (step >= this.#steps) throw new InputError("sent numbers that nobody expects");
    const chunk = this.#chunkOf(step);
    const own = this.#part(chunk, this.#segment);
    if (body.length !== own.length * (this.#bfloat16 ? 2 : 4)) {
      throw new InputError(`sent ${body.length} bytes of numbers where ${own.length} numbers were expected`);
    }
    const came = this.#bfloat16
      ? fromBfloat16(new Uint16Array(body.buffer, body.byteOffset, own.length))
      : new Float32Array(body.buffer, body.byteOffset, own.length);
    if (step < this.#size - 1) {
      for (let i = 0; i < own.length; i++) own[i]! += came[i]!;
      // This rank has the whole sum now, and has to keep what the others will get.
      if (step === this.#size - 2 && this.#bfloat16) own.set(fromBfloat16(toBfloat16(own)));
    } else own.set(came);
    if (step < this.#steps - 1) this.#sendSegment(own);
    this.#segment++;
    if (this.#segment === this.#segments(chunk)) {
      this.#step++;
      this.#segment = 0;
      this.#skipEmpty();
    }
    this.#finishIfDone();
  }

  get #steps(): number {
    return 2 * (this.#size - 1);
  }

  /** The chunk that comes from the previous rank at a step. */
  #chunkOf(step: number): number {
    return (((this.#rank - step - 1) % this.#size) + this.#size) % this.#size;
  }

  #bounds(chunk: number): readonly [number, number] {
    const at = (i: number) => Math.floor((this.values.length * i) / this.#size);
    return [at(chunk), at(chunk + 1)];
  }

  #segments(chunk: number): number {
    const [begin, end] = this.#bounds(chunk);
    return Math.ceil((end - begin) / SEGMENT);
  }

  #part(chunk: number, segment: number): Float32Array<ArrayBuffer> {
    const [begin, end] = this.#bounds(chunk);
    return this.values.subarray(begin + segment * SEGMENT, Math.min(end, begin + (segment + 1) * SEGMENT));
  }

  /** Vectors shorter than the ring have empty chunks. */
  #skipEmpty(): void {
    while (this.#step < this.#steps && this.#segments(this.#chunkOf(this.#step)) === 0) this.#step++;
  }

  #sendSegment(part: Float32Array<ArrayBuffer>): void {
    this.#unwritten++;
    const numbers = this.#bfloat16 ? toBfloat16(part) : part;
    this.#send(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), () => {
      this.#unwritten--;
      this.#finishIfDone();
    });
  }

  #finished = false;
  #finishIfDone(): void {
    if (this.#finished || this.#step < this.#steps || this.#unwritten > 0) return;
    this.#finished = true;
    this.#done();
  }
}
