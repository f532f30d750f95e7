import { InputError } from "../engine/errors.js";
import { fromBfloat16, toBfloat16 } from "../engine/rounding.js";

/**
 * Number formats of safetensors files, and their conversion to and from float32, the only float the engines compute in.
 * Half-precision values are handled as their bits in a Uint16Array: Node 20 has no Float16Array.
 */

/** Bytes per element of each format a safetensors header may name. */
export const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
  C64: 8,
} as const;

export type Dtype = keyof typeof DTYPE_BYTES;

/** Formats that weights can be written in, by PyTorch's names. */
export const FLOAT_DTYPES = { float32: "F32", float16: "F16", bfloat16: "BF16" } as const;

export type FloatDtype = keyof typeof FLOAT_DTYPES;

/** Formats that a model's weights can have in memory, by PyTorch's names. */
export const MODEL_DTYPES = ["float32", "bfloat16"] as const;

export type ModelDtype = (typeof MODEL_DTYPES)[number];

/** Ways to hold linear layers' weights in fewer bits than the dtype's: int8 is torchao's int8 weight-only ("int8wo"). */
export const QUANTIZATIONS = ["int8"] as const;

export type Quantization = (typeof QUANTIZATIONS)[number];

/** A tensor's elements as stored; F16 and BF16 as bits. */
export type TensorData =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/**
 * A tensor's bytes, at the start of the buffer, as an array of its format.
 * @throws InputError for formats that have no array here (8-bit floats, complex numbers).
 */
export function viewData(dtype: Dtype, bytes: ArrayBuffer, byteLength = bytes.byteLength): TensorData {
  const length = byteLength / DTYPE_BYTES[dtype];
  switch (dtype) {
    case "BOOL":
    case "U8":
      return new Uint8Array(bytes, 0, length);
    case "I8":
      return new Int8Array(bytes, 0, length);
    case "U16":
    case "F16":
    case "BF16":
      return new Uint16Array(bytes, 0, length);
    case "I16":
      return new Int16Array(bytes, 0, length);
    case "U32":
      return new Uint32Array(bytes, 0, length);
    case "I32":
      return new Int32Array(bytes, 0, length);
    case "F32":
      return new Float32Array(bytes, 0, length);
    case "U64":
      return new BigUint64Array(bytes, 0, length);
    case "I64":
      return new BigInt64Array(bytes, 0, length);
    case "F64":
      return new Float64Array(bytes, 0, length);
    default:
      throw new InputError(`dtype ${dtype} cannot be read`);
  }
}

const oneFloat = new Float32Array(1);
const oneFloatBits = new Uint32Array(oneFloat.buffer);

/** The value of float16 bits (IEEE 754 binary16). */
export function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The float16 bits nearest to a float32 value, ties to even, as PyTorch rounds. */
export function numberToFloat16(value: number): number {
  oneFloat[0] = value;
  const bits = oneFloatBits[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and above round to infinity
  if (magnitude < 0x38800000) {
    // Below 2^-14 float16 counts in steps of 2^-24. Scaling by a power of two is exact, so one rounding remains.
    const steps = Math.abs(oneFloat[0]!) * 2 ** 24;
    const floor = Math.floor(steps);
    const rest = steps - floor;
    return sign | (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor);
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

let float16Table: Float32Array | undefined;

/** All 65536 float16 values, made on first use: looking one up is several times faster than decoding. */
function float16Values(): Float32Array {
  if (!float16Table) {
    float16Table = new Float32Array(65536);
    for (let bits = 0; bits < 65536; bits++) float16Table[bits] = float16ToNumber(bits);
  }
  return float16Table;
}

/**
 * Any stored number as float32: halves are widened exactly, float64 and integers rounded to the nearest float32.
 * @param into receives the values; default: a new array (F32 returns the same array).
 */
export function toFloat32(dtype: Dtype, data: TensorData, into?: Float32Array): Float32Array {
  if (dtype === "F32" && !into) return data as Float32Array;
  const out = into ?? new Float32Array(data.length);
  if (dtype === "BF16") {
    fromBfloat16(data as Uint16Array, out);
  } else if (dtype === "F16") {
    const table = float16Values();
    const halves = data as Uint16Array;
    for (let i = 0; i < halves.length; i++) out[i] = table[halves[i]!]!;
  } else if (dtype === "I64" || dtype === "U64") {
    for (let i = 0; i < data.length; i++) out[i] = Number(data[i]);
  } else {
    out.set(data as Float32Array);
  }
  return out;
}

/** Float32 values in a float format, rounded to nearest, ties to even. F32 returns the same array. */
export function fromFloat32(dtype: "F32" | "F16" | "BF16", data: Float32Array): Float32Array | Uint16Array {
  if (dtype === "F32") return data;
  if (dtype === "BF16") return toBfloat16(data);
  const out = new Uint16Array(data.length);
  for (let i = 0; i < data.length; i++) out[i] = numberToFloat16(data[i]!);
  return out;
}
