import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { whyWithout } from "../src/engine/available.js";
import { pack } from "./pack.js";

/** What is carried to a machine with a GPU, tried where SwiftShader stands in for one: with nothing but what is packed. */
describe("the pack for a machine with a GPU", { skip: whyWithout("webgpu") }, () => {
  const script = fileURLToPath(new URL("../../../test/device/run.sh", import.meta.url));
  let folder: string;
  const run = (...argv: string[]) => {
    // Neither this project's folder nor a Node of the machine's own.
    const { PATH: _, NODE_TEST_CONTEXT: __, ...env } = process.env;
    return spawnSync("/bin/bash", [script, join(folder, "device.tgz"), join(folder, "out"), ...argv], {
      cwd: folder,
      env: { ...env, PATH: "/usr/bin:/bin" },
      encoding: "utf8",
    });
  };
  const report = () => readFileSync(join(folder, "out", "report.md"), "utf8");

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "firstframe-device-"));
    await pack(join(folder, "device.tgz"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("finds the adapter and meets reference numbers", () => {
    const { status, stdout, stderr } = run(
      "--software",
      "--only",
      "adapter,training",
      "--limit-factor",
      "100",
    );
    assert.equal(status, 0, stdout + stderr);
    assert.match(report(), /WebGPU adapter: .*the processor plays the graphics card/);
    assert.match(report(), /reference numbers, training: [1-9]\d* passed, 0 failed/);
    assert.match(report(), /all tasks passed/);
  });

  test("takes a processor for no GPU, and a task that is too slow for failed", () => {
    const { status } = run("--only", "adapter,transformer", "--limit-factor", "0.01");
    assert.equal(status, 1);
    assert.match(report(), /\*\*the adapter is the processor\*\*/);
    assert.match(report(), /transformer: 0 passed, 0 failed, .*\*\*not done within/);
    assert.match(report(), /2 of 2 tasks failed/);
  });

  test("names a task that there is not", () => {
    const { status, stderr } = run("--only", "vea");
    assert.equal(status, 2);
    assert.match(stderr, /--only: expected some of adapter, transformer, training, vae, bench, found vea/);
  });
});
