/**
 * Whatever is asked of a kernel that is gone is answered with an error that says what happened.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { DeadKernelError, KernelClient } from "../../kernel/client/client.js";
import { readConnectionFile, writeConnectionFile } from "../../kernel/protocol/connection.js";
import { startKernel } from "./support.js";

function died(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof DeadKernelError, String(error));
    assert.match(error.message, pattern);
    return true;
  };
}

/** All that can be asked of a client. */
function everything(client: KernelClient): [string, () => Promise<unknown>][] {
  return [
    ["execute", () => client.execute("1")],
    ["execute with a timeout", () => client.execute("1", { timeout: 3_600_000 })],
    ["request", () => client.request("kernel_info_request")],
    ["request on control", () => client.request("interrupt_request", {}, { channel: "control" })],
    ["interrupt", () => client.interrupt()],
    ["post", async () => client.post("comm_msg", { comm_id: "x", data: {} })],
  ];
}

async function allRejected(client: KernelClient, pattern: RegExp): Promise<void> {
  for (const [what, ask] of everything(client)) await assert.rejects(ask(), died(pattern), what);
}

/** A cell that runs until somebody ends it. */
async function running(client: KernelClient): Promise<{ readonly over: Promise<unknown> }> {
  let over!: Promise<unknown>;
  await new Promise<void>((on) => {
    over = client.execute('console.log("on"); await new Promise(() => {})', {
      onOutput: ({ header }) => header.msg_type === "stream" && on(),
    });
    over.catch(() => undefined);
  });
  return { over };
}

test("a kernel is killed while requests wait, and others come later", async () => {
  const { client } = await startKernel();
  const { over } = await running(client);
  const waiting = [over, client.execute("2"), client.execute("3", { timeout: 3_600_000 })];
  const outcomes = Promise.allSettled(waiting);
  client.process!.signal("SIGKILL");
  for (const outcome of await outcomes) {
    assert.ok(outcome.status === "rejected");
    died(/^the kernel ended by SIGKILL$/)(outcome.reason);
  }
  await allRejected(client, /^the kernel ended by SIGKILL$/);
  // Nothing is left to be waited for.
  await client.shutdown();
  await allRejected(client, /^the connection was closed$/);
});

test("a client that was closed", async () => {
  const { client } = await startKernel();
  const waiting = client.execute("await new Promise(() => {})");
  const outcome = assert.rejects(waiting, died(/^the kernel ended by SIGKILL$/));
  await client.kill();
  await outcome;
  await allRejected(client, /^the connection was closed$/);
  client.close();
  await client.shutdown();
});

test("a kernel that never comes to life", async () => {
  const spec = {
    name: "x",
    folder: "",
    displayName: "",
    language: "",
    interruptMode: "message",
    env: {},
  } as const;
  for (const [argv, pattern] of [
    [["/nowhere/node"], /^the kernel can't be started: .*ENOENT/],
    [[process.execPath, "-e", "process.exit(7)"], /^the kernel ended with exit code 7$/],
    [[process.execPath, "-e", "process.kill(process.pid, 'SIGKILL')"], /^the kernel ended by SIGKILL$/],
  ] as const) {
    await assert.rejects(KernelClient.start({ ...spec, argv }), died(pattern), argv.join(" "));
  }
});

test("a kernel that is somebody else's: its connection tells, and it may be started again at the same place", async () => {
  const folder = mkdtempSync(join(tmpdir(), "firstframe-dead-"));
  const kernel = await startKernel();
  const attached = await KernelClient.attach(kernel.client.process!.connectionFile);
  try {
    const file = join(folder, "connection.json");
    writeConnectionFile(file, readConnectionFile(kernel.client.process!.connectionFile));
    const { over } = await running(attached);
    const outcome = assert.rejects(over, died(/^the kernel at tcp:.* closed the connection$/));
    kernel.client.process!.signal("SIGKILL");
    await outcome;
    await allRejected(attached, /^the kernel at tcp:.* closed the connection$/);

    const { argv } = kernel.client.spec!;
    const again = spawn(argv[0]!, [...argv.slice(1, -1), file], { cwd: folder, stdio: "ignore" });
    try {
      for (;;) {
        try {
          assert.equal((await attached.execute("1 + 1")).status, "ok");
          break;
        } catch (error) {
          assert.ok(error instanceof DeadKernelError);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
    } finally {
      again.kill("SIGKILL");
    }
  } finally {
    attached.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
