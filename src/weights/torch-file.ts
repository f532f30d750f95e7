/** `.bin`, `.pt` and `.pth` files of `torch.save`: ZIP archives with a pickle that names the tensors, and their bytes. */

import type * as yauzl from "yauzl";
import { firstLine } from "../engine/errors.js";
import { DTYPE_BYTES, viewData } from "./dtype.js";
import { MAX_PICKLE_BYTES, PickledTensor, type PickledValue, PickleError, readPickle } from "./pickle.js";
import type { StoredTensor, TensorInfo } from "./safetensors.js";
import { CheckpointError, type WeightSource } from "./weight-source.js";

/** Whether a file's name is one that `torch.save` files have. */
export const isTorchFile = (path: string): boolean => /\.(bin|pt|pth|ckpt)$/i.test(path);

const CONVERT =
  "convert it in Python: safetensors.torch.save_file(torch.load(FILE, weights_only=True), NEW_FILE)";

/** Dictionaries that hold the weights among other things: Lightning's, DeepSpeed's. */
const WITHIN = ["state_dict", "module"];

/**
 * Opens a file of `torch.save` that holds a dictionary of tensors. Nothing in it is run: a pickle that names anything but
 * tensors is refused.
 * @throws CheckpointError naming the file and what it holds instead.
 */
export async function openTorchFile(path: string): Promise<WeightSource> {
  const fail = (problem: string, hint?: string): never => {
    throw new CheckpointError(problem, { file: path, hint });
  };
  const { openPromise } = await import("yauzl");
  const archive = await openPromise(path, { autoClose: false }).catch((error: NodeJS.ErrnoException) => {
    if (error.syscall !== undefined) throw error;
    return fail(`expected the ZIP archive that torch.save writes since 1.6 (${firstLine(error)})`, CONVERT);
  });
  try {
    const entries = new Map<string, yauzl.Entry>();
    for await (const entry of archive.eachEntry()) {
      const name = entry.fileName.slice(entry.fileName.indexOf("/") + 1);
      // Stored as they are, so that a small file can't become a large one.
      if (entry.compressionMethod !== 0 || entry.compressedSize !== entry.uncompressedSize)
        fail(`${entry.fileName} in it is compressed, which torch.save does not do`, CONVERT);
      entries.set(name, entry);
    }
    const read = async (entry: yauzl.Entry, into: Uint8Array): Promise<void> => {
      let done = 0;
      for await (const chunk of await archive.openReadStreamPromise(entry)) {
        into.set(chunk as Buffer, done);
        done += (chunk as Buffer).length;
      }
    };
    const pickle = entries.get("data.pkl") ?? fail("has no data.pkl: it is no file of torch.save");
    if (pickle.uncompressedSize > MAX_PICKLE_BYTES)
      fail(`its data.pkl has ${pickle.uncompressedSize} bytes, more than the ${MAX_PICKLE_BYTES} allowed`);
    const order = entries.get("byteorder");
    if (order) {
      const text = Buffer.alloc(order.uncompressedSize);
      await read(order, text);
      if (text.toString() !== "little") fail("was written on a machine of another byte order", CONVERT);
    }
    const bytes = Buffer.alloc(pickle.uncompressedSize);
    await read(pickle, bytes);
    const tensors = tensorsOf(unpickle(path, bytes), path);
    for (const [key, { storage }] of tensors) {
      const found = entries.get(`data/${storage.key}`)?.uncompressedSize;
      const expected = storage.size * DTYPE_BYTES[storage.dtype];
      if (found !== expected)
        fail(`the bytes of "${key}": expected ${expected}, found ${found ?? "none"} (the file is damaged)`);
    }
    const tensor = (key: string): PickledTensor =>
      tensors.get(key) ?? fail(`no tensor "${key}" among its ${tensors.size} tensors`);
    return {
      path,
      keys: () => [...tensors.keys()],
      info: (key) => describe(tensor(key)),
      getData: async (key, buffer = (byteLength) => new ArrayBuffer(byteLength)) => {
        const found = tensor(key);
        const entry = entries.get(`data/${found.storage.key}`)!;
        const whole = new ArrayBuffer(entry.uncompressedSize);
        await read(entry, new Uint8Array(whole));
        return gather(found, whole, buffer);
      },
      close: async () => archive.close(),
    };
  } catch (error) {
    archive.close();
    throw error;
  }
}

function unpickle(path: string, bytes: Buffer): PickledValue {
  try {
    return readPickle(bytes);
  } catch (error) {
    if (!(error instanceof PickleError)) throw error;
    throw new CheckpointError(error.problem, { file: path, hint: CONVERT });
  }
}

function tensorsOf(value: PickledValue, path: string): Map<string, PickledTensor> {
  if (!(value instanceof Map))
    throw new CheckpointError("expected a dictionary of tensors", { file: path, hint: CONVERT });
  const inner = WITHIN.map((name) => value.get(name)).find((found) => found instanceof Map);
  const tensors = new Map<string, PickledTensor>();
  for (const [key, entry] of (inner as typeof value | undefined) ?? value) {
    if (!(entry instanceof PickledTensor) || typeof key !== "string")
      throw new CheckpointError(
        `expected a dictionary of tensors, found something else as ${JSON.stringify(key)}`,
        {
          file: path,
          hint: CONVERT,
        },
      );
    tensors.set(key, entry);
  }
  return tensors;
}

function describe({ storage, offset, shape }: PickledTensor): TensorInfo {
  const size = DTYPE_BYTES[storage.dtype];
  const byteLength = shape.reduce((product, length) => product * length, size);
  return { dtype: storage.dtype, shape, byteOffset: offset * size, byteLength };
}

/** A tensor's elements in order, from its storage. */
function gather(
  tensor: PickledTensor,
  whole: ArrayBuffer,
  buffer: (byteLength: number) => ArrayBuffer,
): StoredTensor {
  const { offset, shape, stride } = tensor;
  const { dtype, byteLength } = describe(tensor);
  const bytes = buffer(byteLength);
  const data = viewData(dtype, bytes, byteLength);
  const all = viewData(dtype, whole);
  const place = new Array<number>(shape.length).fill(0);
  let from = offset;
  for (let to = 0; to < data.length; to++) {
    data[to] = all[from]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += stride[axis]!;
      if (++place[axis]! < shape[axis]!) break;
      from -= stride[axis]! * shape[axis]!;
      place[axis] = 0;
    }
  }
  return { dtype, shape, data };
}
