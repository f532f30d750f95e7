import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { isAlive } from "../../kernel/server/parent.js";

/** A client in a process of its own: starts a kernel, runs a cell, prints the kernel's process number and waits. */
const client = `
import { TestKernel } from ${JSON.stringify(new URL("./support.js", import.meta.url).href)};
const kernel = new TestKernel();
await kernel.start();
const { text } = await kernel.run("process.ppid");
console.log(text.trim());
setInterval(() => {}, 1000);
`;

test("a kernel ends when the client that started it is killed", async (t) => {
  // A killed client clears nothing away: what it leaves is in a folder of this test's.
  const folder = await mkdtemp(join(tmpdir(), "firstframe-parent-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const child = spawn(process.execPath, ["--input-type=module", "-e", client], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, TMPDIR: folder },
  });
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  const pid = Number(line);
  assert.ok(pid > 1 && isAlive(pid), `expected the kernel's process number, found ${line}`);
  child.kill("SIGKILL");
  await once(child, "exit");
  let left = 300;
  while (isAlive(pid) && left-- > 0) await wait(100);
  assert.equal(isAlive(pid), false, `kernel ${pid} outlived its client`);
});
