/**
 * Reads a pickle of tensors without running anything: the few opcodes and the few names that `torch.save` writes for a
 * dictionary of tensors. Protocol: https://docs.python.org/3/library/pickletools.html.
 */

import { InputError } from "../engine/errors.js";
import type { Dtype } from "./dtype.js";

/** A storage in the archive: its elements lie in the file `data/KEY`. */
export interface PickledStorage {
  readonly dtype: Dtype;
  readonly key: string;
  /** In elements. */
  readonly size: number;
}

/** A view of a storage. Offset and strides are in elements. */
export class PickledTensor {
  constructor(
    readonly storage: PickledStorage,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly stride: readonly number[],
  ) {}
}

export type PickledValue =
  | null
  | boolean
  | number
  | string
  | PickledTensor
  | PickledName
  | readonly PickledValue[]
  | Map<PickledValue, PickledValue>
  | StorageReference;

/** A name that the pickle wants imported. It is looked up in a table and never imported. */
class PickledName {
  constructor(readonly name: string) {}
}

class StorageReference {
  constructor(readonly storage: PickledStorage) {}
}

const STORAGES: Readonly<Record<string, Dtype>> = {
  "torch.FloatStorage": "F32",
  "torch.HalfStorage": "F16",
  "torch.BFloat16Storage": "BF16",
  "torch.DoubleStorage": "F64",
  "torch.LongStorage": "I64",
  "torch.IntStorage": "I32",
  "torch.ShortStorage": "I16",
  "torch.CharStorage": "I8",
  "torch.ByteStorage": "U8",
  "torch.BoolStorage": "BOOL",
};

/** What a pickle may call: each function gets the arguments as they are in the pickle, and is ours. */
const CALLS: Readonly<Record<string, (args: readonly PickledValue[]) => PickledValue>> = {
  "torch._utils._rebuild_tensor": rebuildTensor,
  "torch._utils._rebuild_tensor_v2": rebuildTensor,
  "torch._utils._rebuild_parameter": ([tensor]) => {
    if (tensor instanceof PickledTensor) return tensor;
    throw new PickleError("a parameter without a tensor");
  },
  "collections.OrderedDict": ([pairs = []]) => {
    if (!Array.isArray(pairs)) throw new PickleError("an OrderedDict of no pairs");
    const map = new Map<PickledValue, PickledValue>();
    for (const pair of pairs as readonly PickledValue[]) {
      if (!Array.isArray(pair) || pair.length !== 2) throw new PickleError("an OrderedDict of no pairs");
      map.set(pair[0], pair[1]);
    }
    return map;
  },
  "torch.Size": ([sizes]) => sizes ?? [],
};

/** A pickle that is damaged, or holds more than tensors. The message says what; the caller adds the file. */
export class PickleError extends InputError {}

/** Longest pickle that is read; the tensors' bytes are not in it. */
export const MAX_PICKLE_BYTES = 100_000_000;

const MARK = Symbol("mark");
type Item = PickledValue | typeof MARK;

/**
 * The value of a pickle.
 * @throws PickleError when it is cut off, or names anything but tensors and dictionaries of them; nothing of it has run then.
 */
export function readPickle(bytes: Buffer): PickledValue {
  const stack: Item[] = [];
  const memo = new Map<number, PickledValue>();
  let at = 0;
  const take = (count: number): Buffer => {
    if (at + count > bytes.length)
      throw new PickleError(`ends at byte ${bytes.length}, in the middle of a value`);
    at += count;
    return bytes.subarray(at - count, at);
  };
  const byte = () => take(1)[0]!;
  const uint32 = () => take(4).readUInt32LE();
  const long = () => {
    const text = take(byte());
    let value = 0n;
    for (const [i, part] of text.entries()) value |= BigInt(part) << BigInt(8 * i);
    if (text.length > 0 && text.at(-1)! >= 128) value -= 1n << BigInt(8 * text.length);
    const number = Number(value);
    if (!Number.isSafeInteger(number)) throw new PickleError(`the whole number ${value}`);
    return number;
  };
  const line = () => {
    const end = bytes.indexOf(10, at);
    if (end < 0) throw new PickleError(`ends at byte ${bytes.length}, in the middle of a name`);
    return take(end + 1 - at)
      .subarray(0, -1)
      .toString();
  };
  const pop = (): PickledValue => {
    const value = stack.pop();
    if (value === undefined || value === MARK) throw new PickleError("takes a value from an empty stack");
    return value;
  };
  const popToMark = (): PickledValue[] => {
    const start = stack.lastIndexOf(MARK);
    if (start < 0) throw new PickleError("has no mark to go back to");
    const values = stack.splice(start).slice(1);
    return values as PickledValue[];
  };
  const top = (): PickledValue => {
    const value = pop();
    stack.push(value);
    return value;
  };
  const remember = (index: number) => memo.set(index, top());
  const recall = (index: number) => {
    const value = memo.get(index);
    if (value === undefined) throw new PickleError(`recalls value ${index}, which it never had`);
    stack.push(value);
  };
  const setItems = (pairs: readonly PickledValue[]) => {
    const map = top();
    if (!(map instanceof Map) || pairs.length % 2 !== 0) throw new PickleError("sets items of no dictionary");
    for (let i = 0; i < pairs.length; i += 2) map.set(pairs[i]!, pairs[i + 1]!);
  };
  const append = (values: readonly PickledValue[]) => {
    const list = top();
    if (!Array.isArray(list)) throw new PickleError("appends to no list");
    list.push(...values);
  };
  const tuple = (count: number) => {
    const values = Array.from({ length: count }, pop);
    stack.push(values.reverse());
  };

  for (;;) {
    const code = byte();
    switch (String.fromCharCode(code)) {
      case "\x80": // PROTO
        if (byte() > 5) throw new PickleError("a protocol that is not known");
        break;
      case "\x95": // FRAME
        take(8);
        break;
      case ".": // STOP
        return pop();
      case "(":
        stack.push(MARK);
        break;
      case "0": // POP
        stack.pop();
        break;
      case "N":
        stack.push(null);
        break;
      case "\x88":
        stack.push(true);
        break;
      case "\x89":
        stack.push(false);
        break;
      case "K":
        stack.push(byte());
        break;
      case "M":
        stack.push(take(2).readUInt16LE());
        break;
      case "J":
        stack.push(take(4).readInt32LE());
        break;
      case "\x8a": // LONG1
        stack.push(long());
        break;
      case "G":
        stack.push(take(8).readDoubleBE());
        break;
      case "X":
        stack.push(take(uint32()).toString("utf8"));
        break;
      case "\x8c": // SHORT_BINUNICODE
        stack.push(take(byte()).toString("utf8"));
        break;
      case "}":
        stack.push(new Map());
        break;
      case "]":
        stack.push([]);
        break;
      case ")":
        stack.push([]);
        break;
      case "\x85":
        tuple(1);
        break;
      case "\x86":
        tuple(2);
        break;
      case "\x87":
        tuple(3);
        break;
      case "t":
        stack.push(popToMark());
        break;
      case "a":
        append([pop()]);
        break;
      case "e":
        append(popToMark());
        break;
      case "s": {
        const [value, key] = [pop(), pop()];
        setItems([key, value]);
        break;
      }
      case "u":
        setItems(popToMark());
        break;
      case "q":
        remember(byte());
        break;
      case "r":
        remember(uint32());
        break;
      case "\x94": // MEMOIZE
        remember(memo.size);
        break;
      case "h":
        recall(byte());
        break;
      case "j":
        recall(uint32());
        break;
      case "c": {
        const module = line();
        stack.push(known(`${module}.${line()}`));
        break;
      }
      case "\x93": {
        const [name, module] = [pop(), pop()];
        stack.push(known(`${String(module)}.${String(name)}`));
        break;
      }
      case "Q": // BINPERSID
        stack.push(storage(pop()));
        break;
      case "R": {
        const [args, callee] = [pop(), pop()];
        const call = callee instanceof PickledName && Object.hasOwn(CALLS, callee.name) && CALLS[callee.name];
        if (!call || !Array.isArray(args))
          throw new PickleError("calls something that is no function of torch's");
        stack.push(call(args as readonly PickledValue[]));
        break;
      }
      case "b": {
        // An OrderedDict's own attributes: the versions of a model's modules, which nothing here needs.
        pop();
        if (!(top() instanceof Map))
          throw new PickleError("sets attributes of something other than a dictionary");
        break;
      }
      default:
        throw new PickleError(
          `holds more than tensors (opcode 0x${code.toString(16).padStart(2, "0")} at byte ${at - 1})`,
        );
    }
  }
}

/** @throws PickleError for any name that is not one of the few that dictionaries of tensors need. */
function known(name: string): PickledName {
  if (!Object.hasOwn(CALLS, name) && !Object.hasOwn(STORAGES, name))
    throw new PickleError(
      `holds more than tensors: it names ${JSON.stringify(name)}, which loading it in Python would run`,
    );
  return new PickledName(name);
}

/** ("storage", type, key, device, elements) */
function storage(id: PickledValue): StorageReference {
  if (Array.isArray(id)) {
    const [kind, type, key, , size] = id as readonly PickledValue[];
    const dtype = type instanceof PickledName ? STORAGES[type.name] : undefined;
    if (kind === "storage" && dtype && typeof key === "string" && isCount(size))
      return new StorageReference({ dtype, key, size });
  }
  throw new PickleError("a storage that is not torch's");
}

/** (storage, offset, size, stride, ...) */
function rebuildTensor([storage, offset, shape, stride]: readonly PickledValue[]): PickledTensor {
  if (!(storage instanceof StorageReference) || !isCount(offset) || !isCounts(shape) || !isCounts(stride))
    throw new PickleError("a tensor that is not torch's");
  const elements = shape.reduce((product, size) => product * size, 1);
  const end = shape.reduce((last, size, axis) => last + (size - 1) * (stride[axis] ?? 0), offset + 1);
  const most = storage.storage.size;
  // More elements than the storage has would repeat it, and a small file could take all memory.
  if (shape.length !== stride.length || (elements > 0 && end > most) || elements > most)
    throw new PickleError(`a tensor [${shape}] that reaches beyond its storage of ${storage.storage.size}`);
  return new PickledTensor(storage.storage, offset, shape, stride);
}

const isCount = (value: PickledValue | undefined): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;
const isCounts = (value: PickledValue | undefined): value is readonly number[] =>
  Array.isArray(value) && (value as readonly PickledValue[]).every(isCount);
