/**
 * The reference numbers on other engines than the rest of the tests take, in parts that fit a test run.
 * `FIRSTFRAME_ENGINE=webgpu npm run test:golden` computes all of them.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { whyWithout } from "../engine/available.js";

/** SwiftShader, which stands in for a graphics card, compiles each shader for seconds. */
const PARTS: Record<"wasm" | "webgpu", readonly string[]> = {
  wasm: ["vae", "transformer", "lora", "t5", "schedulers", "loss", "pipeline"],
  webgpu: ["t5", "schedulers", "optim", "transformer"],
};

for (const [engine, kinds] of Object.entries(PARTS) as ["wasm" | "webgpu", readonly string[]][]) {
  for (const kind of kinds) {
    test(`${kind} on ${engine}`, { skip: whyWithout(engine) }, () => {
      const file = fileURLToPath(new URL(`${kind}.test.js`, import.meta.url));
      const { NODE_TEST_CONTEXT: _, ...env } = process.env;
      const { status, stdout } = spawnSync(process.execPath, ["--test-reporter=tap", file], {
        env: { ...env, FIRSTFRAME_ENGINE: engine },
        encoding: "utf8",
      });
      assert.equal(status, 0, stdout);
      const counted = (what: string) => Number(new RegExp(`^# ${what} (\\d+)`, "m").exec(stdout)![1]);
      assert.ok(counted("pass") > 0);
      assert.equal(counted("skipped"), 0);
    });
  }
}
