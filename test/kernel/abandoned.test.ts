import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { removeAbandoned } from "../../kernel/protocol/abandoned.js";

test("what a killed kernel left is removed; what lives, begins or is no kernel's stays", async () => {
  const parent = mkdtempSync(join(tmpdir(), "abandoned-"));
  const folder = (name: string) => {
    mkdirSync(join(parent, name));
    return join(parent, name, "zmq");
  };
  const killed = spawn(process.execPath, [
    "--eval",
    `require("node:net").createServer().listen(${JSON.stringify(folder("iopub-killed"))}, () => process.kill(process.pid, "SIGKILL"))`,
  ]);
  await once(killed, "exit");
  const server = createServer().listen(folder("iopub-lives"));
  await once(server, "listening");
  folder("iopub-begins");
  writeFileSync(join(parent, "iopub-file"), "");
  folder("another");
  try {
    assert.ok(existsSync(join(parent, "iopub-killed", "zmq")));
    await removeAbandoned(parent, "iopub-", "zmq");
    for (const name of ["iopub-lives", "iopub-begins", "iopub-file", "another"])
      assert.ok(existsSync(join(parent, name)), name);
    assert.ok(!existsSync(join(parent, "iopub-killed")));
  } finally {
    server.close();
    rmSync(parent, { recursive: true });
  }
});
