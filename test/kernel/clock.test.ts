/**
 * The wall clock may jump, back or forward, under a kernel that runs: after a laptop's sleep, or when NTP corrects it.
 * What counts time there goes by a clock that does not, and what asks for an order by the order of arrival.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import * as zmq from "zeromq";
import { endpoint } from "../../kernel/protocol/connection.js";
import { Wire } from "../../kernel/protocol/wire.js";
import { interrupted, sentAlong, startKernel, type TestKernel } from "./support.js";

const faketime = findFaketime();
/** In CI, .ci/run installs it. */
const skip =
  faketime === undefined && process.env.CI === undefined
    ? "needs libfaketime, which steps a process's clock (Debian's package libfaketime)"
    : false;

function findFaketime(): string | undefined {
  const folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].filter((folder) => existsSync(folder));
  const below = folders.flatMap((folder) => [
    folder,
    ...readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join(folder, name)),
  ]);
  return below
    .map((folder) => join(folder, "faketime", "libfaketimeMT.so.1"))
    .find((library) => existsSync(library));
}

/** A kernel whose clock is off by what {@link step} says. */
async function kernelWithClock(): Promise<{ kernel: TestKernel; step: (seconds: number) => void }> {
  assert.ok(faketime, "libfaketime is not installed");
  const folder = mkdtempSync(join(tmpdir(), "firstframe-clock-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "offset");
  const step = (seconds: number) => writeFileSync(file, `${seconds < 0 ? "" : "+"}${seconds}`);
  step(0);
  const kernel = await startKernel({
    LD_PRELOAD: faketime,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: "1",
    DONT_FAKE_MONOTONIC: "1",
  });
  return { kernel, step };
}

/** The kernel's clock and the executor's are the ones that step. */
async function isOff(kernel: TestKernel, seconds: number): Promise<void> {
  const { text } = await kernel.run("Date.now()");
  assert.ok(Math.abs(Number(text) - Date.now() - seconds * 1000) < 600_000, text);
}

async function worksWell(kernel: TestKernel): Promise<void> {
  const { first, others } = await sentAlong(kernel, 'throw new Error("on purpose")', ["1"]);
  assert.equal((await first).reply.status, "error");
  assert.equal((await others[0])?.reply.status, "aborted");
  assert.equal((await kernel.run("1 + 1")).text, "2");
  const { text } = await kernel.run(
    'for (let i = 0; i < 3; i++) { console.log("line " + i); await new Promise((r) => setTimeout(r, 40)); }',
  );
  assert.equal(text, "line 0\nline 1\nline 2\n");
  const { content } = await kernel.client.request("complete_request", { code: "Math.flo", cursor_pos: 8 });
  assert.deepEqual(content.matches, ["floor"]);
  const { reply } = await interrupted(kernel, 'console.log("on"); await new Promise(() => {})');
  assert.equal(reply.ename, "KeyboardInterrupt");
}

for (const [what, seconds] of [
  ["back by an hour", -3600],
  ["back by ten years", -315_360_000],
  ["forward by a day", 86_400],
  ["forward by ten years", 315_360_000],
] as const) {
  test(`a clock that is set ${what}`, { skip }, async () => {
    const { kernel, step } = await kernelWithClock();
    const { reply } = await kernel.run('console.log("x"); throw new Error("before the step")');
    assert.equal(reply.status, "error");
    step(seconds);
    // A client on the same machine has the same clock.
    const other = new OtherClient(kernel);
    const date = new Date(Date.now() + seconds * 1000).toISOString();
    await other.send("execute_request", { code: "2 + 2" }, date);
    assert.equal((await other.reply()).content.status, "ok");
    await isOff(kernel, seconds);
    await worksWell(kernel);
    step(0);
    await worksWell(kernel);
  });
}

test("a clock that runs backwards all the time", { skip }, async () => {
  const { kernel, step } = await kernelWithClock();
  let offset = 0;
  const timer = setInterval(() => {
    offset -= 5;
    step(offset);
  }, 2);
  try {
    await worksWell(kernel);
    await worksWell(kernel);
  } finally {
    clearInterval(timer);
  }
});

/** Sends cells as a client does whose clock shows `date`. */
class OtherClient {
  private readonly wire: Wire;
  private readonly shell = new zmq.Dealer({ linger: 0 });

  constructor({ client: { connection } }: TestKernel) {
    this.wire = new Wire(connection);
    this.shell.connect(endpoint(connection, "shell"));
    after(() => this.shell.close());
  }

  async send(type: string, content: object, date: string): Promise<void> {
    const header = { ...this.wire.header(type), date };
    await this.shell.send(this.wire.encode([], { type, content }, header));
  }

  async reply(): Promise<{ type: string; content: Record<string, unknown> }> {
    const decoded = this.wire.decode((await this.shell.receive()) as Buffer[]);
    assert.ok("message" in decoded);
    return { type: decoded.message.header.msg_type, content: decoded.message.content };
  }
}

const dates = ["1970-01-01T00:00:00.000Z", "2999-12-31T00:00:00.000Z", "no date"];

for (const date of dates) {
  test(`which cells an error aborts depends on when they came, not on a client's clock (${date})`, async () => {
    const kernel = await startKernel();
    const other = new OtherClient(kernel);
    const gate = join(kernel.folder, "go");
    const wait = `const { existsSync } = await import("node:fs"); while (!existsSync(${JSON.stringify(gate)})) await new Promise((r) => setTimeout(r, 5));`;
    await other.send("execute_request", { code: `${wait} throw new Error("x")` }, date);
    for (let i = 0; i < 20; i++) await other.send("execute_request", { code: `${i}` }, date);
    // The answer to what was sent last says that all has arrived.
    await other.send("kernel_info_request", {}, date);
    assert.equal((await other.reply()).type, "kernel_info_reply");
    writeFileSync(gate, "");
    assert.equal((await other.reply()).content.status, "error");
    for (let i = 0; i < 20; i++) assert.equal((await other.reply()).content.status, "aborted");
    await other.send("execute_request", { code: "throw new Error('y')" }, date);
    assert.equal((await other.reply()).content.status, "error");
    // Whoever has seen the error means what is sent now.
    await other.send("execute_request", { code: "1" }, date);
    assert.equal((await other.reply()).content.status, "ok");
  });
}
