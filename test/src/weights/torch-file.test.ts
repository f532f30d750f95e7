/** Files of `torch.save`: those that torch wrote (`torch/make.py`), and attacks. */
import assert from "node:assert/strict";
import { createWriteStream } from "node:fs";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { ZipFile } from "yazl";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { CheckpointError } from "../../../src/weights/checkpoint.js";
import { toFloat32 } from "../../../src/weights/dtype.js";
import { PickleError, readPickle } from "../../../src/weights/pickle.js";
import { openTorchFile } from "../../../src/weights/torch-file.js";
import { TINY_TRANSFORMER } from "../diffusion/tiny.js";

const made = resolve("test/src/weights/torch");
let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-torch-file-"));
});
after(() => rm(folder, { recursive: true }));

async function read(
  name: string,
): Promise<Record<string, { dtype: string; shape: readonly number[]; values: number[] }>> {
  const source = await openTorchFile(join(made, name));
  try {
    const all: Awaited<ReturnType<typeof read>> = {};
    for (const key of source.keys()) {
      const { dtype, shape, data } = await source.getData(key);
      assert.deepEqual(source.info(key).shape, shape);
      all[key] = { dtype, shape, values: [...toFloat32(dtype, data)] };
    }
    return all;
  } finally {
    await source.close();
  }
}

test("tensors of every kind come as torch saved them: halves, views, scalars, parameters", async () => {
  const base = Array.from({ length: 24 }, (_, i) => i / 8);
  const expected = {
    float32: ["F32", [4, 6], base],
    float16: ["F16", [4, 6], base],
    bfloat16: ["BF16", [4, 6], base],
    float64: ["F64", [4, 6], base],
    int64: ["I64", [4, 6], base.map((v) => Math.trunc(v) - 3)],
    transposed: ["F32", [6, 4], Array.from({ length: 24 }, (_, i) => base[(i % 4) * 6 + Math.floor(i / 4)]!)],
    part: ["F32", [2, 3], [8, 9, 10, 14, 15, 16].map((i) => base[i]!)],
    scalar: ["F32", [], [1.5]],
    empty: ["F32", [0, 3], []],
    parameter: ["F32", [6], base.slice(0, 6)],
  };
  for (const name of ["tensors.bin", "protocol4.bin"]) {
    const found = await read(name);
    const shown = Object.entries(found).map(([key, { dtype, shape, values }]) => [
      key,
      [dtype, shape, values],
    ]);
    assert.deepEqual(Object.fromEntries(shown), expected, name);
  }
});

test("a module's state, and one within a training's", async () => {
  const state = await read("module.bin");
  assert.deepEqual(state.weight!.values, [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(state.bias!.values, [0.5, -1]);
  assert.deepEqual(Object.keys(await read("lightning.bin")), ["weight"]);
});

test("a LoRA of PEFT's as .bin loads, with the configuration beside it", async () => {
  await useEngine("cpu");
  const model = CogVideoXTransformer3DModel.fromConfig(TINY_TRANSFORMER, new RandomGenerator(1));
  await copyFile(join(made, "adapter_model.bin"), join(folder, "adapter_model.bin"));
  await writeFile(join(folder, "adapter_config.json"), JSON.stringify({ r: 2, lora_alpha: 1 }));
  const { layers } = await model.loadLoraAdapter(folder);
  assert.deepEqual(
    [...layers.values()].map(({ rank, scaling }) => [rank, scaling]),
    [
      [2, 0.5],
      [2, 0.5],
    ],
  );
  const [layer] = layers.values();
  assert.ok(Math.abs(layer!.b.value.dataSync()[0]! - 0.2) < 1e-4);
  model.dispose();
});

test("what holds more than tensors is refused by name, and nothing of it runs", async () => {
  const refused = (name: string, message: RegExp) =>
    assert.rejects(openTorchFile(join(made, name)), (error: Error) => {
      assert.ok(error instanceof CheckpointError, error.stack);
      assert.match(error.message, message);
      return true;
    });
  await refused(
    "malicious.bin",
    /malicious\.bin: holds more than tensors: it names "posix\.system".*; convert it in Python/,
  );
  await refused("mixed.bin", /expected a dictionary of tensors, found something else as "epoch"/);
  await refused("legacy.bin", /expected the ZIP archive that torch\.save writes since 1\.6/);
});

/** An archive as torch.save's, of this pickle. */
async function archive(pickle: Buffer, data: Record<string, Buffer> = {}, compress = false): Promise<string> {
  const path = join(folder, "made.bin");
  const zip = new ZipFile();
  zip.addBuffer(pickle, "a/data.pkl", { compress });
  for (const [name, bytes] of Object.entries(data)) zip.addBuffer(bytes, `a/${name}`, { compress });
  zip.end();
  await pipeline(zip.outputStream, createWriteStream(path));
  return path;
}

const text = (value: string) => Buffer.concat([Buffer.from("X"), le(value.length), Buffer.from(value)]);
const le = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const int = (value: number) => Buffer.concat([Buffer.from("J"), le(value)]);
const name = (module: string, attribute: string) => Buffer.from(`c${module}\n${attribute}\n`);
const tuple = (...items: Buffer[]) => Buffer.concat([Buffer.from("("), ...items, Buffer.from("t")]);

/** {"x": a tensor of this shape and stride in a storage of so many floats} */
function tensorPickle(elements: number, shape: number[], stride: number[], offset = 0): Buffer {
  const id = tuple(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), int(elements));
  const args = tuple(
    Buffer.concat([id, Buffer.from("Q")]),
    int(offset),
    tuple(...shape.map(int)),
    tuple(...stride.map(int)),
    Buffer.from([0x89]),
    Buffer.from("N"),
  );
  const call = Buffer.concat([name("torch._utils", "_rebuild_tensor_v2"), args, Buffer.from("R")]);
  return Buffer.concat([Buffer.from([0x80, 2]), Buffer.from("}"), text("x"), call, Buffer.from("s.")]);
}

test("tensors that reach beyond their bytes, or repeat them, are refused before memory is taken", async () => {
  const floats = Buffer.from(new Float32Array([1, 2, 3, 4]).buffer);
  const source = await openTorchFile(await archive(tensorPickle(4, [2, 2], [2, 1]), { "data/0": floats }));
  assert.deepEqual([...((await source.getData("x")).data as Float32Array)], [1, 2, 3, 4]);
  await source.close();
  for (const [pickle, data, message] of [
    [tensorPickle(4, [3, 2], [2, 1]), floats, /reaches beyond its storage of 4/],
    [tensorPickle(4, [2], [1], 3), floats, /reaches beyond its storage of 4/],
    [tensorPickle(4, [1_000_000_000, 1_000_000_000], [0, 0]), floats, /reaches beyond its storage of 4/],
    [tensorPickle(8, [8], [1]), floats, /the bytes of "x": expected 32, found 16 \(the file is damaged\)/],
    [tensorPickle(4, [4], [1]), undefined, /the bytes of "x": expected 16, found none/],
  ] as const) {
    const path = await archive(pickle, data ? { "data/0": data } : {});
    await assert.rejects(openTorchFile(path), message);
  }
  const bomb = await archive(tensorPickle(4, [4], [1]), { "data/0": Buffer.alloc(1_000_000) }, true);
  await assert.rejects(openTorchFile(bomb), /is compressed, which torch\.save does not do/);
  await assert.rejects(openTorchFile(join(folder, "nothing.bin")), { code: "ENOENT" });
  await writeFile(join(folder, "text.bin"), "no archive");
  await assert.rejects(openTorchFile(join(folder, "text.bin")), CheckpointError);
});

test("fuzz: a pickle of any bytes is read or refused, and nothing else happens", async () => {
  const good = tensorPickle(4, [2, 2], [2, 1]);
  const look = (bytes: Buffer) => {
    try {
      readPickle(bytes);
    } catch (error) {
      assert.ok(error instanceof PickleError, (error as Error).stack);
    }
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => look(Buffer.from(bytes))),
    { numRuns: 2000 },
  );
  const edits = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(edits, (changes) => {
      const bytes = Buffer.from(good);
      for (const [at, value] of changes) bytes[at] = value;
      look(bytes);
    }),
    { numRuns: 2000 },
  );
  for (let length = 0; length < good.length; length++) look(good.subarray(0, length));
});
