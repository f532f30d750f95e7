import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import * as tf from "../../../src/engine/tf.js";
import { caseNames, casesOf, GoldenCase, kinds, kindsOf } from "./case.js";
import "@tensorflow/tfjs-backend-cpu";

test("every case of the index is claimed by one kind, and each kind has its test file", async () => {
  for (const name of await caseNames()) {
    const claims = kindsOf(name);
    assert.equal(claims.length, 1, `case ${name} is claimed by ${claims.length} kinds: ${claims}`);
  }
  const missing = kinds.filter((kind) => !existsSync(new URL(`./${kind}.test.js`, import.meta.url)));
  assert.deepEqual(missing, [], "kinds without a test file");
});

test("the comparison accepts what is within tolerance and names what is not", async () => {
  const [golden] = (await casesOf("vae")).filter((c) => c.names("output").includes("mean"));
  assert.ok(golden, "a vae case with a mean");
  const { shape, data } = await golden.values("mean");
  const atol = golden.tensors.mean!.atol!;
  await golden.compare("mean", { shape, data });
  await golden.compare("mean", {
    shape,
    data: Float64Array.from(data as Float32Array, (v) => v + 0.9 * atol),
  });

  const off = Float64Array.from(data as Float32Array);
  off[3] = off[3]! + 2 * (atol + 1e-5 * Math.abs(off[3]!));
  await assert.rejects(
    golden.compare("mean", { shape, data: off }),
    /: 1 of \d+ values differ; worst at \[0,0,0/,
  );
  off[3] = Number.NaN;
  await assert.rejects(golden.compare("mean", { shape, data: off }), /mine NaN/);
  await assert.rejects(golden.compare("mean", { shape: [data.length], data }), /shape/);
  await assert.rejects(golden.compare("nothing", { shape, data }), /has no tensor nothing/);
});

test("what was never compared is reported", async () => {
  const golden = (await casesOf("vae"))[0]!;
  const [first, ...rest] = golden.names("output");
  for (const name of rest) await golden.compare(name, await golden.values(name));
  assert.throws(() => golden.assertAllCompared("output"), new RegExp(first!));
  const mine = await golden.tensor(first!);
  await golden.compare(first!, mine);
  golden.assertAllCompared("output");
  mine.dispose();
  assert.equal(tf.memory().numTensors, 0);
  assert.ok((await GoldenCase.read(golden.name)).title.length > 0);
});
