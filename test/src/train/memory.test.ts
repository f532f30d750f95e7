/** What tensors there are does not change from one training step to the next, on any engine. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { whyWithout } from "../engine/available.js";

const script = fileURLToPath(new URL("steps.js", import.meta.url));

/** SwiftShader takes seconds a step, the cpu backend a third of one. */
for (const [engine, kind, steps] of [
  ["tensorflow", "lora", 200],
  ["tensorflow", "sft", 200],
  ["wasm", "lora", 200],
  ["wasm", "sft", 200],
  ["cpu", "lora", 50],
  ["webgpu", "lora", 4],
] as const) {
  test(`${steps} steps of ${kind} on ${engine}`, { skip: whyWithout(engine) }, () => {
    const argv = [script, engine, kind, String(steps)];
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: "utf8" });
    assert.equal(status, 0, signal ?? stderr);
    const found = JSON.parse(stdout.trim().split("\n").at(-1)!) as {
      engine: string;
      counts: { tensors: number; bytes: number }[];
    };
    assert.equal(found.engine, engine);
    assert.equal(found.counts.length, steps);
    // The optimizer makes its moments in the first step.
    for (const [i, count] of found.counts.entries())
      if (i > 0) assert.deepEqual(count, found.counts[1], `after step ${i + 1}`);
  });
}
