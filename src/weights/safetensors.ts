/**
 * safetensors files: 8 bytes header length (little-endian), a JSON header, then the tensors' bytes.
 * Format: https://huggingface.co/docs/safetensors. The function names are those of the Python package.
 */

import { fstatSync, readSync, read as readToCall, type Stats } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { InputError, quote } from "../engine/errors.js";
import * as tf from "../engine/tf.js";
import { writeAtomically } from "../files/atomic.js";
import { checksum } from "./checksum.js";
import { DTYPE_BYTES, type Dtype, fromFloat32, type TensorData, toFloat32, viewData } from "./dtype.js";

/** Longest header that is read, as in the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;

/**
 * The entry of `__metadata__` with which {@link saveFile} guards a file: checksums in eight hexadecimal digits each, first the
 * header's (with its own digits as zeros), then one per tensor in the order of their bytes. To other readers it is just a string.
 */
export const CHECKSUMS_KEY = "firstframe.crc32";

/** What a file's header says about one tensor. */
export interface TensorInfo {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Position of its first byte in the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** A tensor's elements in their stored format (F16 and BF16 as bits). */
export interface StoredTensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/** Reading of tensors again, without waiting, whenever they are needed. */
export interface ReadAgain {
  /** Says which files these are, and in which state: another after they were written to or replaced. */
  readonly stamp: string;
  /**
   * As {@link SafetensorsFile.getData}, before it returns.
   * @throws SafetensorsError when the file was changed since it was opened.
   */
  getDataSync(key: string, buffer?: (byteLength: number) => ArrayBuffer): StoredTensor;
  /** Has the system read a tensor's bytes in the background, so that they are in memory when they are asked for. */
  readAhead(key: string): void;
}

/** A file that is not a valid safetensors file; the message starts with its path. */
export class SafetensorsError extends InputError {
  override get kind() {
    return "safetensors" as const;
  }
}

/** An open safetensors file. Only the header is in memory; each tensor is read from disk when asked for. */
export class SafetensorsFile {
  readonly path: string;
  readonly again: ReadAgain;
  readonly #handle: FileHandle;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  readonly #metadata: ReadonlyMap<string, string>;
  readonly #checksums: ReadonlyMap<string, string> | undefined;

  /** Use {@link safeOpen}. */
  constructor(path: string, handle: FileHandle, header: Header, stamp: string) {
    this.path = path;
    this.again = {
      stamp,
      getDataSync: (key, buffer) => this.#getDataSync(key, buffer),
      readAhead: (key) => this.#readAhead(key),
    };
    this.#handle = handle;
    this.#tensors = header.tensors;
    this.#metadata = header.metadata;
    this.#checksums = header.checksums;
  }

  /** The tensors' names, in the order of their bytes in the file. */
  keys(): string[] {
    return [...this.#tensors.keys()];
  }

  has(key: string): boolean {
    return this.#tensors.has(key);
  }

  /** The strings of the header's `__metadata__`, without the checksums. */
  metadata(): ReadonlyMap<string, string> {
    return this.#metadata;
  }

  /** Whether what is read is compared with checksums: {@link saveFile} writes them. */
  get hasChecksums(): boolean {
    return this.#checksums !== undefined;
  }

  /** @throws SafetensorsError when the file has no tensor of this name. */
  info(key: string): TensorInfo {
    const info = this.#tensors.get(key);
    if (!info)
      throw new SafetensorsError(`no tensor "${key}" among its ${this.#tensors.size} tensors`, {
        file: this.path,
      });
    return info;
  }

  /**
   * The elements as they are stored.
   * @param buffer returns memory of at least that many bytes to read them into; by default new memory.
   * @throws SafetensorsError when the file has checksums and the bytes do not match theirs.
   */
  async getData(
    key: string,
    buffer: (byteLength: number) => ArrayBuffer = (byteLength) => new ArrayBuffer(byteLength),
  ): Promise<StoredTensor> {
    const { byteOffset, byteLength } = this.info(key);
    const bytes = buffer(byteLength);
    await readFully(this.path, this.#handle, new Uint8Array(bytes, 0, byteLength), byteOffset);
    return this.#stored(key, bytes);
  }

  #getDataSync(
    key: string,
    buffer: (byteLength: number) => ArrayBuffer = (byteLength) => new ArrayBuffer(byteLength),
  ): StoredTensor {
    const { byteOffset, byteLength } = this.info(key);
    const { fd } = this.#handle;
    if (stampOf(fstatSync(fd)) !== this.again.stamp)
      throw new SafetensorsError(`tensor "${key}": the file was written to since it was opened`, {
        file: this.path,
        hint: "load the model again",
      });
    const bytes = buffer(byteLength);
    const into = new Uint8Array(bytes, 0, byteLength);
    for (let done = 0; done < byteLength; ) {
      const count = readSync(fd, into, done, Math.min(CHUNK, byteLength - done), byteOffset + done);
      if (count === 0) throw cutOff(this.path, byteOffset + done, byteLength - done);
      done += count;
    }
    return this.#stored(key, bytes);
  }

  #readAhead(key: string): void {
    const { byteOffset, byteLength } = this.info(key);
    for (let done = 0; done < byteLength; done += AHEAD.length) {
      const length = Math.min(AHEAD.length, byteLength - done);
      // Only the system's memory of the file matters: whatever fails here fails again when it is read.
      readToCall(this.#handle.fd, AHEAD, 0, length, byteOffset + done, () => {});
    }
  }

  /** The elements in bytes that were read. */
  #stored(key: string, bytes: ArrayBuffer): StoredTensor {
    const { dtype, shape, byteLength } = this.info(key);
    const filled = new Uint8Array(bytes, 0, byteLength);
    let data: TensorData;
    if (this.#checksums && checksum(filled) !== this.#checksums.get(key))
      throw new SafetensorsError(
        `tensor "${key}": its bytes do not match their checksum (the file is damaged)`,
        { file: this.path },
      );
    try {
      data = viewData(dtype, bytes, byteLength);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      throw new SafetensorsError(`tensor "${key}": ${error.message}`, { file: this.path });
    }
    return { dtype, shape, data };
  }

  /** The elements as float32 (float64 is rounded). */
  async getFloat32(key: string): Promise<Float32Array> {
    const { dtype, data } = await this.getData(key);
    return toFloat32(dtype, data);
  }

  /**
   * The tensor on the current engine: floats as float32 (float64 is rounded), integers as int32, BOOL as bool.
   * @throws SafetensorsError when an integer does not fit int32.
   */
  async getTensor(key: string): Promise<tf.Tensor> {
    const { dtype, shape, data } = await this.getData(key);
    if (dtype === "F32" || dtype === "F16" || dtype === "BF16" || dtype === "F64")
      return tf.tensor(toFloat32(dtype, data), [...shape], "float32");
    if (dtype === "BOOL") return tf.tensor(data as Uint8Array, [...shape], "bool");
    const narrow = DTYPE_BYTES[dtype] < 4;
    const values = narrow
      ? new Int32Array(data as Uint8Array)
      : Int32Array.from(data as Iterable<number | bigint>, Number);
    if (DTYPE_BYTES[dtype] === 8 || dtype === "U32")
      for (let i = 0; i < values.length; i++)
        if (Number(data[i]) !== values[i])
          throw new SafetensorsError(`tensor "${key}": ${data[i]} at index ${i} does not fit int32`, {
            file: this.path,
          });
    return tf.tensor(values, [...shape], "int32");
  }

  /** Reads everything. @throws SafetensorsError as {@link SafetensorsFile.getData} does. */
  async verify(): Promise<void> {
    for (const key of this.keys()) await this.getData(key);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Opens a safetensors file and checks its whole header. Close it when done.
 * @throws SafetensorsError when the file breaks the format in any way.
 */
export async function safeOpen(path: string): Promise<SafetensorsFile> {
  const handle = await open(path, "r");
  try {
    const stamp = stampOf(await handle.stat());
    return new SafetensorsFile(path, handle, await readHeader(path, handle), stamp);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** All tensors of a file on the current engine; the caller disposes them. Types as in {@link SafetensorsFile.getTensor}. */
export async function loadFile(path: string): Promise<Record<string, tf.Tensor>> {
  const file = await safeOpen(path);
  const tensors: Record<string, tf.Tensor> = {};
  try {
    for (const key of file.keys()) tensors[key] = await file.getTensor(key);
    return tensors;
  } catch (error) {
    tf.dispose(tensors);
    throw error;
  } finally {
    await file.close();
  }
}

/** What can be written: a tensor of the engine, stored elements, or a function that brings them when their turn comes. */
export type Writable = tf.Tensor | StoredTensor | DeferredTensor;

/** A tensor whose elements are fetched only while it is written, so that a large file needs no second copy in memory. */
export interface DeferredTensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** The elements; floats may come as Float32Array and are rounded to `dtype`. */
  load(): Promise<TensorData>;
}

/**
 * Writes tensors to a safetensors file, in the given order, with checksums that this package checks on reading. The file
 * appears under its name only when complete. Tensors of the engine are written as F32, I32 or BOOL.
 * @param metadata strings for `__metadata__`. transformers wants `{ format: "pt" }`, which is the default.
 */
export async function saveFile(
  tensors: Readonly<Record<string, Writable>> | Iterable<readonly [string, Writable]>,
  path: string,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Promise<void> {
  const entries = new Map<string, DeferredTensor>();
  for (const [key, value] of Symbol.iterator in tensors ? tensors : Object.entries(tensors)) {
    if (key === "__metadata__")
      throw new SafetensorsError(`a tensor cannot be named "__metadata__"`, { file: path });
    if (entries.has(key)) throw new SafetensorsError(`tensor "${key}" is given twice`, { file: path });
    entries.set(key, defer(value));
  }

  const header: Record<string, unknown> = Object.create(null);
  // Placeholders of the final length, since the bytes are seen only while they are written.
  const unknown = Array<string>(entries.size + 1).fill(NO_CHECKSUM);
  header.__metadata__ = { ...metadata, [CHECKSUMS_KEY]: unknown.join(" ") };
  let end = 0;
  for (const [key, { dtype, shape }] of entries) {
    const begin = end;
    end += DTYPE_BYTES[dtype] * tf.util.sizeFromShape([...shape]);
    // Not `header[key] =`: that would lose a tensor named "__proto__".
    Object.defineProperty(header, key, {
      value: { dtype, shape, data_offsets: [begin, end] },
      enumerable: true,
    });
  }
  const json = Buffer.from(JSON.stringify(header));
  const padded = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, " ");
  padded.writeBigUInt64LE(BigInt(padded.length - 8));
  json.copy(padded, 8);

  await writeAtomically(path, async (handle) => {
    await writeFully(handle, padded);
    const checksums = [NO_CHECKSUM];
    for (const [key, { dtype, shape, load }] of entries) {
      let data = await load();
      if (data instanceof Float32Array && (dtype === "F16" || dtype === "BF16"))
        data = fromFloat32(dtype, data);
      const expected = DTYPE_BYTES[dtype] * tf.util.sizeFromShape([...shape]);
      if (data.byteLength !== expected)
        throw new SafetensorsError(
          `tensor "${key}": ${dtype} [${shape}] takes ${expected} bytes, found ${data.byteLength}`,
          { file: path },
        );
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      checksums.push(checksum(bytes));
      await writeFully(handle, bytes);
    }
    const at = padded.indexOf(CHECKSUMS_START) + CHECKSUMS_START.length;
    padded.write(checksums.join(" "), at);
    padded.write(checksum(padded), at);
    await handle.write(padded, 0, padded.length, 0);
  });
}

const NO_CHECKSUM = "00000000";
/** What precedes the checksums in a header that {@link saveFile} wrote; a quote within a string is escaped. */
const CHECKSUMS_START = `"${CHECKSUMS_KEY}":"`;

function defer(value: Writable): DeferredTensor {
  if (value instanceof tf.Tensor) {
    const dtype = ({ float32: "F32", int32: "I32", bool: "BOOL" } as const)[value.dtype as "float32"];
    if (!dtype) throw new InputError(`a ${value.dtype} tensor cannot be written to a safetensors file`);
    return { dtype, shape: value.shape, load: async () => (await value.data()) as Float32Array };
  }
  if ("load" in value) return { dtype: value.dtype, shape: value.shape, load: () => value.load() };
  return { dtype: value.dtype, shape: value.shape, load: async () => value.data };
}

// One read or write system call moves at most 2 GiB.
const CHUNK = 2 ** 30;

/** What is read ahead goes here, and is not looked at. */
const AHEAD = new Uint8Array(2 ** 22);

/** Changes whenever a file's bytes do. */
const stampOf = ({ dev, ino, size, mtimeMs }: Stats): string => [dev, ino, size, mtimeMs].join(":");

const cutOff = (file: string, at: number, missing: number) =>
  new SafetensorsError(`the file ended at byte ${at}, ${missing} bytes early`, { file });

async function readFully(
  path: string,
  handle: FileHandle,
  into: Uint8Array,
  position: number,
): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const length = Math.min(CHUNK, into.length - done);
    const { bytesRead } = await handle.read(into, done, length, position + done);
    if (bytesRead === 0) throw cutOff(path, position + done, into.length - done);
    done += bytesRead;
  }
}

async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(CHUNK, bytes.length - done));
    done += bytesWritten;
  }
}

export interface Header {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  /** By tensor. */
  readonly checksums?: ReadonlyMap<string, string>;
}

/** The bytes of a file's header, preceded by its length; they hold the checksums of the rest. */
export async function readHeaderBytes(path: string): Promise<Buffer> {
  const handle = await open(path, "r");
  try {
    return await readRawHeader(path, handle, (await handle.stat()).size);
  } finally {
    await handle.close();
  }
}

async function readHeader(path: string, handle: FileHandle): Promise<Header> {
  const { size } = await handle.stat();
  const raw = await readRawHeader(path, handle, size);
  const { tensors, metadata } = parseHeader(path, raw.subarray(8), size);
  const text = metadata.get(CHECKSUMS_KEY);
  if (text === undefined) return { tensors, metadata };
  metadata.delete(CHECKSUMS_KEY);
  const [own, ...checksums] = text.split(" ");
  const at = raw.indexOf(`${CHECKSUMS_START}${text}"`) + CHECKSUMS_START.length;
  const before = raw.subarray(0, at);
  const matches = own === checksum(before, Buffer.from(NO_CHECKSUM), raw.subarray(at + NO_CHECKSUM.length));
  if (!matches || checksums.length !== tensors.size)
    throw new SafetensorsError(
      `the header does not match its checksum (the file is damaged, or another program changed it and kept "${CHECKSUMS_KEY}" of __metadata__)`,
      { file: path, hint: "without that entry it is not compared" },
    );
  return { tensors, metadata, checksums: new Map([...tensors.keys()].map((key, i) => [key, checksums[i]!])) };
}

async function readRawHeader(path: string, handle: FileHandle, size: number): Promise<Buffer> {
  if (size < 8)
    throw new SafetensorsError(`expected a safetensors file of at least 8 bytes, found ${size} bytes`, {
      file: path,
    });
  const prefix = Buffer.alloc(8);
  await readFully(path, handle, prefix, 0);
  const declared = prefix.readBigUInt64LE();
  if (declared > BigInt(MAX_HEADER_BYTES))
    throw new SafetensorsError(
      `the header claims ${declared} bytes, more than the ${MAX_HEADER_BYTES} allowed (is it a safetensors file?)`,
      { file: path },
    );
  const length = Number(declared);
  if (8 + length > size)
    throw new SafetensorsError(
      `the header claims ${length} bytes, the file has ${size - 8} after its length`,
      { file: path },
    );
  const bytes = Buffer.alloc(8 + length);
  await readFully(path, handle, bytes, 0);
  return bytes;
}

function parseHeader(
  path: string,
  bytes: Uint8Array,
  fileSize: number,
): Omit<Header, "checksums"> & { metadata: Map<string, string> } {
  const fail = (problem: string): never => {
    throw new SafetensorsError(problem, { file: path });
  };
  let text = "";
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    fail("the header is not valid UTF-8");
  }
  if (!text.startsWith("{"))
    fail(`the header must start with "{", found ${JSON.stringify(text.slice(0, 10))}`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    fail(`the header is not valid JSON (${(error as Error).message})`);
  }

  const dataStart = 8 + bytes.length;
  const metadata = new Map<string, string>();
  const tensors: [string, TensorInfo][] = [];
  for (const [key, value] of Object.entries(json as Record<string, unknown>)) {
    if (key === "__metadata__") {
      if (!isRecord(value)) fail("__metadata__ must be an object of strings");
      for (const [name, entry] of Object.entries(value as object)) {
        if (typeof entry !== "string") fail(`__metadata__ "${name}" must be a string, found ${quote(entry)}`);
        metadata.set(name, entry);
      }
    } else tensors.push([key, parseEntry(path, key, value, dataStart)]);
  }

  // The tensors must cover the data without gaps or overlaps, so that no byte is read twice and none is hidden.
  tensors.sort(([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let end = dataStart;
  for (const [key, { byteOffset, byteLength }] of tensors) {
    if (byteOffset < end) fail(`tensor "${key}" overlaps the one before it by ${end - byteOffset} bytes`);
    if (byteOffset > end) fail(`${byteOffset - end} bytes before tensor "${key}" belong to no tensor`);
    end += byteLength;
  }
  if (end > fileSize)
    fail(`the tensors end at byte ${end}, the file has ${fileSize} bytes (is the file cut off?)`);
  if (end < fileSize) fail(`${fileSize - end} bytes after the last tensor belong to no tensor`);
  return { tensors: new Map(tensors), metadata };
}

function parseEntry(path: string, key: string, value: unknown, dataStart: number): TensorInfo {
  const fail = (problem: string): never => {
    throw new SafetensorsError(`tensor "${key}": ${problem}`, { file: path });
  };
  if (!isRecord(value)) return fail(`expected an object, found ${quote(value)}`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BYTES, dtype))
    return fail(
      `unknown dtype ${JSON.stringify(dtype)}, expected one of ${Object.keys(DTYPE_BYTES).join(", ")}`,
    );
  if (!isSizes(shape)) return fail(`shape must be a list of sizes, found ${quote(shape)}`);
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!)
    return fail(`data_offsets must be [begin, end] with begin <= end, found ${quote(offsets)}`);
  const [begin, end] = offsets as [number, number];
  const byteLength = shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype as Dtype]);
  if (byteLength !== end - begin)
    return fail(
      `${dtype} [${shape}] takes ${byteLength} bytes, data_offsets [${begin}, ${end}] hold ${end - begin}`,
    );
  return { dtype: dtype as Dtype, shape, byteOffset: dataStart + begin, byteLength };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}
