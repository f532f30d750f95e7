import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import { DTYPE_BYTES, type Dtype, viewData } from "../../../src/weights/dtype.js";
import {
  CHECKSUMS_KEY,
  loadFile,
  MAX_HEADER_BYTES,
  SafetensorsError,
  type StoredTensor,
  safeOpen,
  saveFile,
} from "../../../src/weights/safetensors.js";

const folder = mkdtempSync(join(tmpdir(), "firstframe-safetensors-"));
const file = (name: string): string => join(folder, name);
before(() => useEngine("cpu"));
after(() => rmSync(folder, { recursive: true }));

/** A file of a given header (text or bytes) and data. */
function write(name: string, header: string | Uint8Array, data: Uint8Array = new Uint8Array(0)): string {
  const bytes = Buffer.from(header as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  writeFileSync(file(name), Buffer.concat([length, bytes, data]));
  return file(name);
}

/** A file of these bytes. */
function writeRaw(bytes: Uint8Array): string {
  writeFileSync(file("x"), bytes);
  return file("x");
}

const oneTensor = (entry: object): string =>
  JSON.stringify({ a: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...entry } });

test("tensors of every kind come back as they were written, lazily and in any order", async () => {
  const stored: Record<string, StoredTensor> = {
    f64: { dtype: "F64", shape: [2], data: Float64Array.of(Math.PI, -1e300) },
    f32: { dtype: "F32", shape: [1, 3], data: Float32Array.of(1.5, -2, 3e-40) },
    f16: { dtype: "F16", shape: [2], data: Uint16Array.of(0x3c00, 0xfbff) },
    bf16: { dtype: "BF16", shape: [1], data: Uint16Array.of(0x3f80) },
    i64: { dtype: "I64", shape: [2], data: BigInt64Array.of(-5n, 2n ** 62n) },
    u64: { dtype: "U64", shape: [1], data: BigUint64Array.of(2n ** 64n - 1n) },
    i32: { dtype: "I32", shape: [], data: Int32Array.of(-7) },
    u32: { dtype: "U32", shape: [1], data: Uint32Array.of(7) },
    i16: { dtype: "I16", shape: [1], data: Int16Array.of(-300) },
    u16: { dtype: "U16", shape: [1], data: Uint16Array.of(60000) },
    i8: { dtype: "I8", shape: [3], data: Int8Array.of(-1, 0, 1) },
    u8: { dtype: "U8", shape: [0, 4], data: new Uint8Array(0) },
    bool: { dtype: "BOOL", shape: [2], data: Uint8Array.of(1, 0) },
    __proto: { dtype: "U8", shape: [1], data: Uint8Array.of(9) },
  };
  stored["ключ 鍵"] = stored.u32!;
  const path = file("kinds.safetensors");
  await saveFile([...Object.entries(stored), ["__proto__", stored.i8!]], path, { format: "pt", note: "ünï" });
  await using opened = await safeOpen(path);
  assert.deepEqual(opened.keys(), [...Object.keys(stored), "__proto__"]);
  assert.deepEqual(
    [...opened.metadata()],
    [
      ["format", "pt"],
      ["note", "ünï"],
    ],
  );
  for (const [key, tensor] of Object.entries(stored).reverse()) {
    const { dtype, shape, data } = await opened.getData(key);
    assert.deepEqual({ dtype, shape, data }, tensor, key);
  }
  assert.deepEqual((await opened.getData("__proto__")).data, stored.i8!.data);
  assert.deepEqual([...(await opened.getFloat32("f16"))], [1, -65504]);
  assert.equal(readFileSync(path).readBigUInt64LE() % 8n, 0n, "the data is aligned to 8 bytes");
});

test("tensors of the engine make the round trip; their types are float32, int32 and bool", async () => {
  const numTensors = tf.memory().numTensors;
  const tensors = {
    a: tf.tensor2d([[1, 2.5]]),
    b: tf.tensor1d([3, -4], "int32"),
    c: tf.scalar(true, "bool"),
  };
  await saveFile(tensors, file("engine.safetensors"));
  const back = await loadFile(file("engine.safetensors"));
  for (const [name, tensor] of Object.entries(tensors)) {
    assert.equal(back[name]!.dtype, tensor.dtype);
    assert.deepEqual(back[name]!.shape, tensor.shape);
    assert.deepEqual(await back[name]!.data(), await tensor.data());
  }
  tf.dispose([tensors, back]);
  assert.equal(tf.memory().numTensors, numTensors);
});

test("half floats come as float32 tensors; an integer that does not fit int32 is refused", async () => {
  await saveFile(
    {
      half: { dtype: "BF16", shape: [2], data: Uint16Array.of(0x4049, 0xff80) },
      double: { dtype: "F64", shape: [1], data: Float64Array.of(0.1) },
      long: { dtype: "I64", shape: [2], data: BigInt64Array.of(1n, 2n ** 31n) },
    },
    file("half.safetensors"),
  );
  await using opened = await safeOpen(file("half.safetensors"));
  const half = await opened.getTensor("half");
  assert.deepEqual([...(await half.data())], [3.140625, Number.NEGATIVE_INFINITY]);
  const double = await opened.getTensor("double");
  assert.equal((await double.data())[0], Math.fround(0.1));
  tf.dispose([half, double]);
  await assert.rejects(opened.getTensor("long"), /tensor "long": 2147483648 at index 1 does not fit int32/);
  await assert.rejects(opened.getTensor("other"), /no tensor "other" among its 3 tensors/);
});

test("a failed write leaves the old file and nothing else", async () => {
  const path = file("old.safetensors");
  await saveFile({ a: { dtype: "U8", shape: [1], data: Uint8Array.of(1) } }, path);
  const bad = { dtype: "F32", shape: [2], load: () => Promise.reject(new Error("gone")) } as const;
  const good = { dtype: "U8", shape: [1], data: Uint8Array.of(2) } as const;
  await assert.rejects(saveFile({ good, bad }, path), /gone/);
  await assert.rejects(
    saveFile({ a: { dtype: "F32", shape: [2], data: new Float32Array(3) } }, path),
    /takes 8 bytes, found 12/,
  );
  await assert.rejects(
    saveFile(
      [
        ["a", good],
        ["a", good],
      ],
      path,
    ),
    /"a" is given twice/,
  );
  await assert.rejects(saveFile({ __metadata__: good }, path), /cannot be named/);
  await using opened = await safeOpen(path);
  assert.deepEqual((await opened.getData("a")).data, Uint8Array.of(1));
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.endsWith(".tmp")),
    [],
  );
});

const hostile: [name: string, make: () => string, message: RegExp][] = [
  ["an empty file", () => writeRaw(new Uint8Array(0)), /at least 8 bytes, found 0/],
  [
    "a length beyond the limit",
    () => writeRaw(Buffer.alloc(16, 0xff)),
    new RegExp(`claims 18446744073709551615 bytes, more than the ${MAX_HEADER_BYTES}`),
  ],
  [
    "a header longer than the file",
    () => writeRaw(Buffer.from([99, 0, 0, 0, 0, 0, 0, 0, 123])),
    /claims 99 bytes, the file has 1/,
  ],
  ["bad UTF-8", () => write("x", Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d])), /not valid UTF-8/],
  ["a byte order mark", () => write("x", "\ufeff{}"), /must start with "\{"/],
  ["a header that is no object", () => write("x", "[1]"), /must start with "\{"/],
  ["a header that is no JSON", () => write("x", "{oops"), /not valid JSON/],
  [
    "a header that is nested without end",
    () => write("x", `{"a": ${"[".repeat(200_000)}${"]".repeat(200_000)}}`),
    /tensor "a": expected an object, found something nested too deeply$/,
  ],
  ["an entry that is no object", () => write("x", '{"a":[]}'), /tensor "a": expected an object, found \[\]/],
  [
    "an unknown dtype",
    () => write("x", oneTensor({ dtype: "F31" }), new Uint8Array(8)),
    /unknown dtype "F31", expected one of BOOL/,
  ],
  [
    "a dtype that objects inherit",
    () => write("x", oneTensor({ dtype: "constructor" })),
    /unknown dtype "constructor"/,
  ],
  [
    "a negative size",
    () => write("x", oneTensor({ shape: [-2] }), new Uint8Array(8)),
    /shape must be a list of sizes/,
  ],
  [
    "a fractional size",
    () => write("x", oneTensor({ shape: [0.5] }), new Uint8Array(2)),
    /shape must be a list of sizes/,
  ],
  [
    "a shape that overflows",
    () => write("x", oneTensor({ shape: [2 ** 52, 2 ** 52] }), new Uint8Array(8)),
    /takes .* bytes, data_offsets \[0, 8\] hold 8/,
  ],
  [
    "offsets in the wrong order",
    () => write("x", oneTensor({ data_offsets: [8, 0] }), new Uint8Array(8)),
    /begin <= end/,
  ],
  [
    "offsets that are no numbers",
    () => write("x", oneTensor({ data_offsets: ["0", "8"] }), new Uint8Array(8)),
    /data_offsets must be/,
  ],
  [
    "offsets that do not fit the shape",
    () => write("x", oneTensor({ data_offsets: [0, 12] }), new Uint8Array(12)),
    /F32 \[2\] takes 8 bytes, data_offsets \[0, 12\] hold 12/,
  ],
  [
    "offsets past the end",
    () => write("x", oneTensor({}), new Uint8Array(7)),
    /end at byte \d+, the file has \d+ bytes \(is the file cut off\?\)/,
  ],
  [
    "bytes that belong to nobody",
    () => write("x", oneTensor({}), new Uint8Array(9)),
    /1 bytes after the last tensor/,
  ],
  [
    "a hole",
    () =>
      write(
        "x",
        '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}',
        new Uint8Array(3),
      ),
    /1 bytes before tensor "b" belong to no tensor/,
  ],
  [
    "an overlap",
    () =>
      write(
        "x",
        '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}',
        new Uint8Array(3),
      ),
    /tensor "b" overlaps the one before it by 1 bytes/,
  ],
  [
    "metadata that is no string",
    () => write("x", '{"__metadata__":{"a":1}}'),
    /__metadata__ "a" must be a string, found 1/,
  ],
];

for (const [what, make, message] of hostile)
  test(`refused: ${what}`, async () => {
    const path = make();
    await assert.rejects(safeOpen(path), (error: Error) => {
      assert.ok(error instanceof SafetensorsError, `${error}`);
      assert.ok(error.message.startsWith(path), error.message);
      assert.match(error.message, message);
      return true;
    });
  });

test("a file that is not there is reported as Node reports it", async () => {
  await assert.rejects(safeOpen(file("nowhere")), { code: "ENOENT" });
});

const dtypes = Object.keys(DTYPE_BYTES).filter(
  (dtype) => !["F8_E4M3", "F8_E5M2", "C64"].includes(dtype),
) as Dtype[];
const anyTensor = fc
  .record({ dtype: fc.constantFrom(...dtypes), shape: fc.array(fc.nat(4), { maxLength: 4 }) })
  .chain(({ dtype, shape }) => {
    const bytes = shape.reduce((product, n) => product * n, DTYPE_BYTES[dtype]);
    return fc
      .uint8Array({ minLength: bytes, maxLength: bytes })
      .map((data): StoredTensor => ({ dtype, shape, data: viewData(dtype, Uint8Array.from(data).buffer) }));
  });
const anyTensors = fc.dictionary(
  fc.string({ unit: "grapheme", maxLength: 6 }).filter((key) => key !== "__metadata__"),
  anyTensor,
  { maxKeys: 5 },
);
const bytesOf = ({ data }: StoredTensor): Buffer =>
  Buffer.from(data.buffer, data.byteOffset, data.byteLength);

test("fuzz: whatever is written is read back bit for bit", async () => {
  await fc.assert(
    fc.asyncProperty(anyTensors, async (tensors) => {
      await saveFile(Object.entries(tensors), file("fuzz"));
      await using opened = await safeOpen(file("fuzz"));
      assert.deepEqual(opened.keys().sort(), Object.keys(tensors).sort());
      for (const [key, tensor] of Object.entries(tensors)) {
        const back = await opened.getData(key);
        assert.equal(back.dtype, tensor.dtype);
        assert.deepEqual(back.shape, tensor.shape);
        assert.ok(bytesOf(back).equals(bytesOf(tensor)));
      }
    }),
    { numRuns: 200 },
  );
});

test("fuzz: a damaged file is refused or read within its bounds, and nothing else happens", async () => {
  const damage = fc.array(
    fc.record({ at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), value: fc.nat(255) }),
    { minLength: 1, maxLength: 8 },
  );
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(anyTensors, damage, fc.nat(16), async (tensors, changes, cut) => {
      await saveFile(Object.entries(tensors), file("damaged"));
      const bytes = readFileSync(file("damaged"));
      for (const { at, value } of changes) bytes[Math.floor(at * bytes.length)] = value;
      writeFileSync(file("damaged"), bytes.subarray(0, bytes.length - cut));
      try {
        await using opened = await safeOpen(file("damaged"));
        for (const key of opened.keys()) {
          const { byteOffset, byteLength, dtype } = opened.info(key);
          assert.ok(byteOffset >= 8 && byteOffset + byteLength <= bytes.length - cut);
          if (dtypes.includes(dtype)) assert.equal((await opened.getData(key)).data.byteLength, byteLength);
        }
      } catch (error) {
        if (!(error instanceof SafetensorsError)) throw error;
        refused++;
      }
    }),
    { numRuns: 300 },
  );
  assert.ok(refused > 100, `${refused} of 300 damaged files were refused`);
});

test("fuzz: a header made of plausible and implausible parts never gives overlapping or outlying tensors", async () => {
  const offset = fc.oneof(fc.nat(24), fc.constantFrom(-1, 0.5, 1e18, "0", null));
  const entry = fc.record({
    dtype: fc.oneof(fc.constantFrom(...Object.keys(DTYPE_BYTES)), fc.constantFrom("X", 1, null)),
    shape: fc.oneof(fc.array(fc.nat(6), { maxLength: 3 }), fc.constantFrom([-1], [2 ** 53], "3", null)),
    data_offsets: fc.oneof(fc.tuple(offset, offset), fc.constant([0])),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.dictionary(fc.string({ maxLength: 3 }), entry, { maxKeys: 3 }),
      fc.nat(24),
      async (header, size) => {
        write("header", JSON.stringify(header), new Uint8Array(size));
        try {
          await using opened = await safeOpen(file("header"));
          const infos = opened.keys().map((key) => opened.info(key));
          assert.equal(
            infos.reduce((sum, info) => sum + info.byteLength, 0),
            size,
          );
        } catch (error) {
          if (!(error instanceof SafetensorsError)) throw error;
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("each flipped bit of a file is noticed, or changes nothing that is read", async () => {
  const tensors = {
    a: { dtype: "F32", shape: [2, 1], data: Float32Array.of(1, 2) },
    b: { dtype: "BF16", shape: [3], data: Uint16Array.of(1, 2, 3) },
  } as const;
  await saveFile(tensors, file("whole"), { format: "pt", note: "n" });
  const whole = readFileSync(file("whole"));
  let unnoticed = 0;
  for (let at = 0; at < 8 * whole.length; at++) {
    const bytes = Buffer.from(whole);
    bytes[at >> 3]! ^= 1 << (at & 7);
    try {
      await using opened = await safeOpen(writeRaw(bytes));
      for (const [key, tensor] of Object.entries(tensors))
        assert.deepEqual(await opened.getData(key), tensor);
      // Only the checksums' own name may be another.
      assert.ok(!opened.hasChecksums, `bit ${at} of the file`);
      unnoticed++;
    } catch (error) {
      if (!(error instanceof SafetensorsError)) throw error;
    }
  }
  assert.ok(unnoticed <= 8 * CHECKSUMS_KEY.length, `${unnoticed} bits`);
});

test("checksums are not taken from a file that was written anew by others, or from one's own metadata", async () => {
  const a = { dtype: "U8", shape: [1], data: Uint8Array.of(1) } as const;
  await saveFile({ a }, file("own"), {
    [CHECKSUMS_KEY]: "stale",
    note: `"${CHECKSUMS_KEY}":"00000000 00000000"`,
  });
  await using own = await safeOpen(file("own"));
  await own.verify();
  assert.deepEqual([...own.metadata().keys()], ["note"]);
  const header = { a: { dtype: "U8", shape: [1], data_offsets: [0, 1] } };
  const kept = { __metadata__: { [CHECKSUMS_KEY]: "3cd11180 a505df1b" }, ...header };
  await assert.rejects(
    safeOpen(write("others", JSON.stringify(kept), Uint8Array.of(1))),
    /the header does not match its checksum \(the file is damaged, or another program changed it and kept "firstframe/,
  );
  await using plain = await safeOpen(write("plain", JSON.stringify(header), Uint8Array.of(7)));
  assert.equal(plain.hasChecksums, false);
  assert.deepEqual((await plain.getData("a")).data, Uint8Array.of(7));
});
