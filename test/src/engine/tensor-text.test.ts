import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { inspect } from "node:util";
import { engineNames, useEngine } from "../../../src/engine/index.js";
import { jupyterDisplay } from "../../../src/engine/shown.js";
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
    const part = (which: number) => numbers.filter((_, i) => i % 2 === which);
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
  });
}
