/**
 * The server's memory is bounded in bytes, whoever does not read or sends too much, and comes back.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { test } from "node:test";
import * as zmq from "zeromq";
import { allocatorSettings } from "../../kernel/install/allocator.js";
import { endpoint } from "../../kernel/protocol/connection.js";
import { Wire } from "../../kernel/protocol/wire.js";
import { projectPython, projectRoot } from "../src/cli/project.js";
import { startKernel, type TestKernel } from "./support.js";

const megabyte = 2 ** 20;
/** What the server may take while it is attacked, and how much more than before it may keep, in MB. */
const limit = 200;
const kept = 30;
/** The same where there is much text, which as garbage in V8's heap may take several times its size until it is collected. */
const limitOfText = 400;
const skip = process.platform !== "linux" && "reads /proc";

/** Resident memory of a kernel's server, in MB. */
function resident(kernel: TestKernel): number {
  const status = readFileSync(`/proc/${kernel.client.process!.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
}

/** The most memory that the server has while `work` goes on. */
async function peakOf(kernel: TestKernel, work: () => Promise<void>): Promise<number> {
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, resident(kernel));
  }, 10);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  console.log(`  at most ${Math.round(peak)} MB`);
  return peak;
}

/** Resolves once memory is back near what it was; the file's time limit says when it never will be. */
async function isBack(kernel: TestKernel, start: number): Promise<void> {
  while (resident(kernel) > start + kept) await new Promise((resolve) => setTimeout(resolve, 100));
}

class Subscriber {
  private readonly child: ChildProcess;
  count = 0;
  private readonly waiting = new Set<() => void>();

  constructor(kernel: TestKernel, type: string) {
    const script = `${projectRoot}/test/kernel/subscriber.py`;
    this.child = spawn(projectPython(), [script, endpoint(kernel.client.connection, "iopub"), type], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    createInterface({ input: this.child.stdout! }).on("line", (line) => {
      this.count = Number(line);
      for (const wake of this.waiting) wake();
      this.waiting.clear();
    });
  }

  /** Resolves when it has read something, or at least `count` messages. */
  async read(count = 0): Promise<void> {
    do await new Promise<void>((resolve) => this.waiting.add(resolve));
    while (this.count < count);
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

/** A kernel that has done a little of everything, so that its memory is that of a kernel at rest. */
async function settled(): Promise<{ kernel: TestKernel; start: number }> {
  const kernel = await startKernel();
  await kernel.run(
    'const { randomBytes } = require("node:crypto"); const pictures = Array.from({ length: 3 }, () => randomBytes(4_000_000).toString("base64")); const show = (n: number) => { for (let i = 0; i < n; i++) display({ "image/png": pictures[i % 3]! }, { raw: true }) }; 1',
  );
  for (let i = 0; i < 20; i++) await kernel.run(`console.log(${i})`);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  return { kernel, start: resident(kernel) };
}

test("a subscriber that is stopped, while cells show 100 pictures of 4 MB", { skip }, async () => {
  const { kernel, start } = await settled();
  const healthy = new Subscriber(kernel, "display_data");
  const stopped = new Subscriber(kernel, "display_data");
  try {
    // They are connected once a message reaches them.
    const connected = Promise.all([healthy.read(), stopped.read()]);
    let isConnected = false;
    void connected.then(() => {
      isConnected = true;
    });
    while (!isConnected) await kernel.run("1");
    stopped.signal("SIGSTOP");

    let shown = 0;
    const peak = await peakOf(kernel, async () => {
      const everything = healthy.read(100);
      await kernel.client.execute("show(100)", {
        onOutput: ({ header }) => {
          if (header.msg_type === "display_data") shown += 1;
        },
      });
      await everything;
    });
    assert.equal(shown, 100);
    assert.equal(healthy.count, 100);
    assert.ok(peak < limit, `${peak} MB`);
    await isBack(kernel, start);

    // Ten thousand lines, with a subscriber that is still there and stopped, arrive as well.
    const { text } = await kernel.run("for (let i = 0; i < 10_000; i++) console.log('line ' + i)");
    assert.equal(text.split("\n").length, 10_001);

    // It was cut off; as it goes on, its ZeroMQ connects again.
    stopped.signal("SIGCONT");
    const before = stopped.count;
    let goesOn = false;
    void stopped.read(before + 1).then(() => {
      goesOn = true;
    });
    while (!goesOn) await kernel.run("show(1)");
  } finally {
    healthy.signal("SIGKILL");
    stopped.signal("SIGKILL");
  }
  await isBack(kernel, start);
});

test("text of 200 MB in one display", { skip }, async () => {
  const { kernel, start } = await settled();
  const { reply } = await kernel.run('display.text("x".repeat(200_000_000))', {
    timeout: 600_000,
  });
  assert.equal(reply.status, "ok");
  await isBack(kernel, start);
  assert.equal((await kernel.run("6 * 7")).text, "42");
});

test("600 cells of 1 MB each that wait for another, which somebody can still interrupt", {
  skip,
}, async () => {
  const { kernel, start } = await settled();
  let on!: () => void;
  const running = new Promise<void>((resolve) => {
    on = resolve;
  });
  let cells: Promise<unknown>[] = [];
  const peak = await peakOf(kernel, async () => {
    const first = kernel.client.execute('console.log("on"); await new Promise(() => {})', {
      onOutput: ({ header }) => header.msg_type === "stream" && on(),
      stopOnError: false,
    });
    await running;
    const blank = " ".repeat(megabyte);
    cells = Array.from({ length: 600 }, () => kernel.client.execute(blank));
    // Control is heard although the shell has enough.
    for (let i = 0; i < 20; i++)
      await kernel.client.request("kernel_info_request", {}, { channel: "control" });
    await new Promise((resolve) => setTimeout(resolve, 2000));
    await kernel.client.interrupt();
    assert.equal((await first).ename, "KeyboardInterrupt");
    for (const reply of await Promise.all(cells)) assert.equal((reply as { status: string }).status, "ok");
  });
  assert.ok(peak < limitOfText, `${peak} MB`);
  await isBack(kernel, start);
});

test("600 messages of 1 MB for a comm, while a cell keeps its process busy", { skip }, async () => {
  const { kernel, start } = await settled();
  await kernel.run(
    'let heard = 0; comms.registerTarget("flood", (comm) => comm.onMessage((message) => { heard += message.buffers![0]!.byteLength }))',
  );
  kernel.client.post("comm_open", { comm_id: "f", target_name: "flood", data: {} });
  const peak = await peakOf(kernel, async () => {
    let cell!: Promise<unknown>;
    await new Promise<void>((on) => {
      cell = kernel.client.execute(
        'console.log("on"); for (const end = Date.now() + 3000; Date.now() < end; );',
        {
          onOutput: ({ header }) => header.msg_type === "stream" && on(),
        },
      );
    });
    const buffer = new Uint8Array(megabyte);
    for (let i = 0; i < 600; i++) kernel.client.post("comm_msg", { comm_id: "f", data: {} }, [buffer]);
    await cell;
    // It comes behind them, and they are counted as they are dealt with.
    while ((await kernel.run("heard")).text !== String(600 * megabyte));
  });
  assert.ok(peak < limit, `${peak} MB`);
  await isBack(kernel, start);
});

test("a client that asks for 300 replies of 1 MB and reads none holds up no other", { skip }, async () => {
  const { kernel, start } = await settled();
  await kernel.run(
    `const large = { [Symbol.for("Jupyter.display")]: () => ({ "text/plain": "x".repeat(${megabyte}) }) }; 1`,
  );
  const wire = new Wire(kernel.client.connection);
  const deaf = new zmq.Dealer({ linger: 0, receiveHighWaterMark: 1 });
  deaf.connect(endpoint(kernel.client.connection, "shell"));
  await kernel.run("let done = 0");
  const content = { code: "done += 1", silent: true, user_expressions: { large: "large" } };
  // How high memory goes meanwhile depends on when garbage is collected; what counts is that none of it is kept.
  for (let i = 0; i < 300; i++) await deaf.send(wire.encode([], { type: "execute_request", content }));
  while ((await kernel.run("done")).text !== "300");
  // Cells that had arrived already make no more replies while so many wait.
  const dropped = [...kernel.log.matchAll(/does not read its replies: (\d+) bytes are dropped/g)];
  assert.ok(dropped.length > 0);
  for (const [, bytes] of dropped) assert.ok(Number(bytes) < 18 * megabyte, `${bytes} bytes waited`);
  deaf.close();
  await isBack(kernel, start);
});

test("a stranger who sends large pings and reads no answer", { skip }, async () => {
  const { kernel, start } = await settled();
  const stranger = new zmq.Dealer({ linger: 0, receiveHighWaterMark: 1, sendTimeout: 0 });
  stranger.connect(endpoint(kernel.client.connection, "hb"));
  const peak = await peakOf(kernel, async () => {
    for (let i = 0; i < 20_000; i++) {
      await stranger.send(Buffer.alloc(i % 2 === 0 ? 1000 : 60_000)).catch(() => undefined);
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal((await kernel.run("6 * 7")).text, "42");
  });
  stranger.close();
  assert.ok(peak < 0.6 * limit, `${peak} MB`);
  await isBack(kernel, start);
});

test("the allocator's settings for cells are not the server's, though the client's process may have them", {
  skip,
}, async () => {
  Object.assign(process.env, allocatorSettings);
  const kernel = await startKernel();
  const environment = readFileSync(`/proc/${kernel.client.process!.pid}/environ`, "latin1").split("\0");
  for (const [name, value] of Object.entries(allocatorSettings)) {
    assert.ok(!environment.includes(`${name}=${value}`), name);
    assert.equal((await kernel.run(`process.env.${name}`)).text, `'${value}'`);
  }
});
