import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { inspect } from "node:util";
import { engineNames, useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import { projectRoot } from "../cli/project.js";
import { whyWithout } from "./available.js";

/** What record.py wrote beside this file's source. */
interface Case {
  readonly name: string;
  readonly shape: number[];
  readonly dtype: "float32" | "int32" | "bool" | "complex64";
  readonly values?: string;
  readonly formula?: Readonly<Record<"a" | "b" | "m" | "c" | "d", number>>;
  readonly text: string;
  /** The text with `requires_grad`. */
  readonly trained?: string;
}

const { cases } = JSON.parse(
  readFileSync(join(projectRoot, "test/src/engine/tensor-text/expected.json"), "utf8"),
) as { cases: Case[] };

const WORDS: Record<string, number> = {
  nan: Number.NaN,
  inf: Number.POSITIVE_INFINITY,
  "-inf": Number.NEGATIVE_INFINITY,
  True: 1,
  False: 0,
};

function tensorOf({ values, formula, shape, dtype }: Case): tf.Tensor {
  const { a, b, m, c, d } = formula ?? { a: 0, b: 0, m: 1, c: 0, d: 1 };
  const numbers =
    values === undefined
      ? Array.from({ length: tf.util.sizeFromShape(shape) }, (_, i) => (((i * a + b) % m) - c) / d)
      : values.split(" ").flatMap((text) => (text === "" ? [] : (WORDS[text] ?? Number(text))));
  if (dtype === "complex64") {
    const part = (which: number) =>
      formula
        ? numbers.map((value) => (which === 0 ? value : -value))
        : numbers.filter((_, i) => i % 2 === which);
    return tf.tidy(() =>
      tf.complex(tf.tensor(part(0), shape, "float32"), tf.tensor(part(1), shape, "float32")),
    );
  }
  const type = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }[dtype];
  return tf.tensor(type.from(numbers), shape, dtype);
}

/** Suffixes that have other words here, or that PyTorch has not, may also wrap elsewhere. */
const valuesAlone = (text: string) => text.replace(/,\s+(shape=\[[^\]]*\]|dtype=[\w.]+)/g, "");

const plain = (value: unknown) => inspect(value, { colors: false });

for (const name of engineNames) {
  describe(`a tensor's text on ${name}`, { skip: whyWithout(name) }, () => {
    before(() => useEngine(name));

    it("is PyTorch's", () => {
      for (const one of cases) {
        // WebAssembly has no complex numbers.
        if (name === "wasm" && one.dtype === "complex64") continue;
        const tensor = tensorOf(one);
        const tensors = tf.memory().numTensors;
        const text = plain(tensor);
        assert.equal(valuesAlone(text), valuesAlone(one.text), one.name);
        assert.equal(tf.memory().numTensors, tensors, `${one.name} leaves tensors`);
        if (one.trained !== undefined) {
          const variable = tf.variable(tensor, true);
          assert.equal(plain(variable), one.trained, one.name);
          variable.dispose();
        }
        tensor.dispose();
      }
    });

    it("names the dtypes that are not taken for granted, and the shape of what is shown in part", () => {
      const expected: [tf.Tensor, string][] = [
        [tf.tensor([1, 2], [2], "int32"), "tensor([1, 2], dtype=int32)"],
        [tf.tensor([1, 0], [2], "bool"), "tensor([ True, False])"],
        [tf.tensor([], [0, 3], "int32"), "tensor([], size=(0, 3), dtype=int32)"],
        [tf.tensor([], [0], "bool"), "tensor([], dtype=bool)"],
        [tf.tensor(["a", 'b"c\n']), 'tensor([     "a", "b\\"c\\n"], dtype=string)'],
        [tf.tensor("é"), 'tensor("é", dtype=string)'],
        [tf.variable(tf.scalar(2), false), "tensor(2.)"],
        [tf.variable(tf.scalar(2, "int32"), true), "tensor(2, dtype=int32, requires_grad=True)"],
        [tf.zeros([1001]), "tensor([0., 0., 0.,  ..., 0., 0., 0.], shape=[1001])"],
        [
          tf.tensor(Array.from({ length: 1200 }, (_, i) => `s${i}`)),
          'tensor([   "s0",    "s1",    "s2",  ..., "s1197", "s1198", "s1199"],\n       shape=[1200], dtype=string)',
        ],
      ];
      for (const [tensor, text] of expected) {
        assert.equal(plain(tensor), text);
        assert.equal(`${tensor}`, text);
        tensor.dispose();
      }
    });

    it("says that a tensor is disposed", () => {
      const tensor = tf.tensor([1, 2]);
      tensor.dispose();
      assert.equal(plain(tensor), "tensor(disposed, shape=[2], dtype=float32)");
      assert.equal(inspect({ tensor }, { depth: 0 }), "{ tensor: [Tensor [2] float32, disposed] }");
    });

    // TensorFlow.js's slice for WebAssembly reads the whole itself, in the same memory.
    it("reads no more than it prints", { skip: name === "wasm" }, () => {
      const read: number[] = [];
      const backend = tf.backend();
      const readSync = backend.readSync.bind(backend);
      const tensor = tf.ones([100, 20, 300]);
      backend.readSync = (dataId) => {
        const values = readSync(dataId);
        read.push(values.length);
        return values;
      };
      try {
        assert.match(plain(tensor), /shape=\[100, 20, 300\]\)$/);
      } finally {
        backend.readSync = readSync;
      }
      assert.deepEqual(read, [6 * 6 * 6]);
      tensor.dispose();
    });

    it("is there inside of tidy and of gradients, and changes neither", () => {
      const x = tf.variable(tf.ones([40, 40]));
      const tensors = tf.memory().numTensors;
      const texts: string[] = [];
      const { value, grads } = tf.variableGrads(() => {
        const y = tf.mul(x, 3);
        texts.push(plain(y), plain(x));
        return tf.sum(y) as tf.Scalar;
      }, [x]);
      assert.match(texts[0]!, /^tensor\(\[\[3\., 3\., 3\., {2}\.\.\./);
      assert.match(texts[1]!, /requires_grad=True\)$/);
      assert.deepEqual([...new Set(grads[x.name]!.dataSync())], [3]);
      tf.dispose([value, grads]);
      assert.equal(tf.memory().numTensors, tensors);
      x.dispose();
    });
  });
}

describe("a tensor's text", () => {
  it("is what tensor.print() prints; its verbose form stays TensorFlow.js's", async () => {
    await useEngine("cpu");
    const tensor = tf.tensor([1, 2]);
    assert.equal(tensor.toString(), "tensor([1., 2.])");
    assert.match(tensor.toString(true), /^Tensor\n {2}dtype: float32\n {2}rank: 1\n/);
    tensor.dispose();
  });

  it("says so where a device gives no values at once", async () => {
    await useEngine("cpu");
    const { MathBackendCPU } = await import("@tensorflow/tfjs-backend-cpu");
    // As TensorFlow.js allows backends to be.
    class WithoutReadSync extends MathBackendCPU {
      override readSync(): never {
        throw new Error("readSync is not supported");
      }
    }
    tf.registerBackend("without-read-sync", () => new WithoutReadSync());
    tf.setBackend("without-read-sync");
    const tensors = [tf.tensor([1, 2]), tf.variable(tf.ones([2000]))];
    assert.deepEqual(tensors.map(plain), [
      "tensor(values on the device: await x.data(), shape=[2], dtype=float32)  # readSync is not supported",
      "tensor(values on the device: await x.data(), shape=[2000], dtype=float32)  # readSync is not supported",
    ]);
    tf.dispose(tensors);
    tf.setBackend("cpu");
    tf.removeBackend("without-read-sync");
  });
});
