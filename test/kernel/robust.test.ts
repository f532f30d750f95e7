import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Message } from "../../kernel/client/client.js";
import type { Header } from "../../kernel/protocol/messages.js";
import { interrupted, sentAlong, startKernel } from "./support.js";

const kernel = await startKernel();

/** A package with an endless loop of its own, which has no guards. */
const library = join(kernel.folder, "node_modules", "spinning");
mkdirSync(library, { recursive: true });
writeFileSync(
  join(library, "package.json"),
  '{ "name": "spinning", "version": "1.0.0", "main": "index.js" }',
);
writeFileSync(join(library, "index.js"), "exports.spin = () => { for (;;) {} };");
writeFileSync(join(library, "index.d.ts"), "export function spin(): never;");

async function isAliveWith(variables: boolean): Promise<void> {
  const { text, reply } = await kernel.run("keep");
  // Also after a failure, or every later test would fail, too.
  await kernel.run(
    'import { spin } from "spinning"; let keep = 42; const nap = (ms: number) => new Promise((r) => setTimeout(r, ms))',
  );
  if (variables) assert.equal(text, "42");
  else assert.equal(reply.status, "error");
}

/** The first such message that the kernel publishes from now on. A process that dies meanwhile will not say it any more. */
function said(what: (message: Message) => boolean): Promise<Message> {
  return new Promise((resolve, reject) => {
    const stop = kernel.client.listen((message, channel) => {
      if (channel !== "iopub") return;
      const { ename, evalue } = message.content;
      if (what(message)) resolve(message);
      else if (ename === "ExecutorDied") reject(new Error(`ExecutorDied: ${String(evalue)}`));
      else return;
      stop();
    });
  });
}

test("variables to lose", async () => {
  await kernel.run(
    'import { spin } from "spinning"; let keep = 42; const nap = (ms: number) => new Promise((r) => setTimeout(r, ms))',
  );
});

for (const [what, code] of [
  ["a loop", 'console.log("on"); while (true) {}'],
  ["a loop after an await", 'console.log("on"); await nap(1); for (;;) {}'],
  [
    "a loop in a timer that the cell waits for",
    'setTimeout(() => { console.log("on"); for (;;) {} }, 1); await nap(1e6)',
  ],
  [
    "a loop in a promise's reaction",
    'Promise.resolve().then(() => { console.log("on"); for (;;) {} }); await nap(1e6)',
  ],
  ["a loop that catches everything", 'console.log("on"); while (true) { try { for (;;) {} } catch {} }'],
  ["an await that never ends", 'console.log("on"); await new Promise(() => {})'],
  [
    "awaits in a loop that catches everything",
    'console.log("on"); while (true) { try { await nap(5) } catch {} }',
  ],
  [
    "for await over what never comes",
    'console.log("on"); async function* never() { await new Promise(() => {}); yield 1 } for await (const x of never()) console.log(x)',
  ],
  [
    "a recursion",
    'console.log("on"); const fib = (n: number): number => n < 2 ? n : fib(n - 1) + fib(n - 2); fib(90)',
  ],
  ["a flood of output", 'while (true) console.log("x".repeat(200))'],
  ["a library's loop", 'console.log("on"); spin()'],
  ["a library's loop after an await", 'console.log("on"); await nap(1); spin()'],
  ["a regular expression", 'console.log("on"); /(a+)+b/.test("a".repeat(64))'],
  ["Atomics.wait", 'console.log("on"); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)'],
] as const) {
  test(`interrupt of ${what}`, async () => {
    const { reply } = await interrupted(kernel, code);
    assert.equal(reply.status, "error");
    assert.equal(reply.ename, "KeyboardInterrupt");
    await isAliveWith(true);
  });
}

test("interrupt of a child process that the cell waits for", async () => {
  const { reply } = await interrupted(
    kernel,
    'console.log("on"); require("node:child_process").execSync("sleep 60")',
  );
  assert.equal(reply.status, "error");
  await isAliveWith(true);
});

test("interrupt of a child process that starts only afterwards", async () => {
  const { reply } = await interrupted(
    kernel,
    'console.log("on"); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300); require("node:child_process").execSync("sleep 60")',
  );
  assert.equal(reply.status, "error");
  await isAliveWith(true);
});

test("interrupt of a shell script", async () => {
  const { reply } = await interrupted(kernel, "%%bash\necho on\nsleep 60\necho no");
  assert.equal(reply.status, "error");
  await isAliveWith(true);
});

test("finally may clean up after an interrupt", async () => {
  const { text } = await interrupted(
    kernel,
    'console.log("on"); try { while (true) {} } finally { for (let i = 0; i < 3; i++) console.log("tidy " + i) }',
  );
  assert.match(text, /tidy 2/);
});

test("finally may clean up after an interrupted await, in loops too", async () => {
  const { text, reply } = await interrupted(
    kernel,
    'console.log("on"); try { await new Promise(() => {}) } finally { for (let i = 0; i < 3; i++) console.log("tidy " + i) }',
  );
  assert.match(text, /tidy 2/);
  assert.equal(reply.ename, "KeyboardInterrupt");
  assert.doesNotMatch(text, /node:/, "a frame of ours");
});

test("a loop in a kernel's very first cell hears of an interrupt by its guards, and may clean up", async () => {
  const fresh = await startKernel();
  const { text, reply } = await interrupted(
    fresh,
    'console.log("on"); try { while (true) {} } finally { console.log("tidy") }',
  );
  assert.match(text, /tidy/);
  assert.equal(reply.ename, "KeyboardInterrupt");
});

test("an endless loop between cells", async () => {
  const on = said(({ header, content }) => header.msg_type === "stream" && content.text === "on\n");
  await kernel.run('setTimeout(() => { console.log("on"); for (;;) {} }, 10); "started"');
  await on;
  const over = said(({ content }) => content.ename === "KeyboardInterrupt");
  await kernel.client.interrupt();
  await over;
  await isAliveWith(true);
});

for (const [what, code] of [
  ["an endless loop", "for (;;) {}"],
  ["a library's endless loop", "spin()"],
] as const) {
  test(`an interrupt of a cell that can't begin, for ${what} in a timer`, async () => {
    const on = said(({ content }) => content.text === "on\n");
    await kernel.run(`setTimeout(() => { console.log("on"); ${code} }, 10); 1`);
    await on;
    const next = kernel.run("1 + 1");
    await new Promise((resolve) => setTimeout(resolve, 300));
    await kernel.client.interrupt();
    // Whether it hits the cell as well is a matter of moments.
    assert.match((await next).text, /^(2|KeyboardInterrupt: interrupted)/);
    await isAliveWith(true);
  });
}

test("an interrupt of a cell that waits for the type check", async () => {
  const cell = kernel.run("await new Promise(() => {})");
  await kernel.client.interrupt();
  const { reply } = await cell;
  assert.equal(reply.ename, "KeyboardInterrupt");
  await isAliveWith(true);
});

test("errors nobody catches between cells are shown with the cell they come from", async () => {
  const shown = ["timer", "promise"].map((evalue) =>
    said(({ header, content }) => header.msg_type === "error" && content.evalue === evalue),
  );
  const { reply, messages } = await kernel.run(
    'setTimeout(() => { throw new Error("timer") }, 50); setTimeout(() => { void Promise.reject(new Error("promise")) }, 60); 1',
  );
  assert.equal(reply.status, "ok");
  const { msg_id: cell } = messages[0]!.parent as Header;
  for (const { parent } of await Promise.all(shown)) assert.equal((parent as Header).msg_id, cell);
  await isAliveWith(true);
});

test("deep recursion", async () => {
  const { reply } = await kernel.run("const deeper = (n: number): number => deeper(n + 1) + 1; deeper(0)");
  assert.equal(reply.ename, "RangeError");
  await isAliveWith(true);
});

test("100,000 lines arrive, in order, before idle", async () => {
  const { outputs, messages } = await kernel.run(
    "for (let i = 0; i < 100_000; i++) console.log('line ' + i)",
  );
  assert.equal(outputs.length, 1);
  const [stream] = outputs;
  assert.ok(stream?.output_type === "stream");
  assert.equal(stream.text, Array.from({ length: 100_000 }, (_, i) => `line ${i}\n`).join(""));
  assert.ok(messages.length < 1000, `${messages.length} messages`);
});

test("a string of 200 MB, printed and as a result", async () => {
  let length = 0;
  let pieces = 0;
  const reply = await kernel.client.execute('const long = "x".repeat(200_000_000); console.log(long); long', {
    onOutput: ({ header, content }) => {
      if (header.msg_type !== "stream") return;
      length += String(content.text).length;
      pieces += 1;
    },
  });
  assert.equal(reply.status, "ok");
  assert.equal(length, 200_000_001);
  assert.ok(pieces > 100);
  assert.match((await kernel.run("long")).text, /199990000 more characters$/);
  await isAliveWith(true);
});

test("a display of 10 MB", async () => {
  const { outputs } = await kernel.run('display.text("y".repeat(10_000_000))');
  const [shown] = outputs;
  assert.ok(shown?.output_type === "display_data");
  assert.equal(String(shown.data["text/plain"]).length, 10_000_000);
});

test("results that are hard to print", async () => {
  for (const [code, pattern] of [
    ["const cyclic: { self?: unknown } = {}; cyclic.self = cyclic; cyclic", /Circular/],
    ["let chain: unknown = null; for (let i = 0; i < 1e5; i++) chain = { chain }; chain", /\[Object\]/],
    ["new Array(1e7).fill(0)", /more items/],
    ['({ get x() { throw new Error("getter") } })', /Getter/],
    [
      '({ [Symbol.for("nodejs.util.inspect.custom")]() { throw new Error("own") } })',
      /can't be inspected: own/,
    ],
    ['new Proxy({}, { get() { throw new Error("get") }, ownKeys() { throw new Error("keys") } })', /\{\}/],
    ["Promise.resolve(3)", /^Promise \{ 3 \}$/],
    ["new Map([[1, new Set([2])]])", /Map\(1\) \{ 1 => Set\(1\) \{ 2 \} \}/],
  ] as const) {
    assert.match((await kernel.run(code)).text, pattern, code);
  }
});

test("a display method that fails is the cell's error", async () => {
  const cycle = "const ring: unknown[] = []; ring.push(ring); return { 'application/json': ring }";
  for (const body of ['throw new Error("no")', "return 5", cycle]) {
    const { reply } = await kernel.run(`({ [Symbol.for("Jupyter.display")]() { ${body} } })`);
    assert.equal(reply.status, "error", body);
  }
  await isAliveWith(true);
});

test("native output keeps its place among the rest", async () => {
  // Native output comes before what is printed after it. That it comes after what was printed before it takes a kernel that has
  // read this by then, which on a busy machine it may not have: the cell waits for it.
  const gates = ["stream", "display_data"].map((name) => join(kernel.folder, `native-after-${name}`));
  const [printed, shown] = gates.map((gate) => `while (!existsSync(${JSON.stringify(gate)})) {}`);
  const { outputs } = await kernel.run(
    `const { execSync } = await import("node:child_process"); const { existsSync } = await import("node:fs"); console.log("a"); ${printed} execSync("echo b", { stdio: "inherit" }); console.log("c"); display("d"); ${shown} execSync("echo e >&2", { stdio: "inherit" }); 1`,
    {
      onOutput: ({ header }) => {
        const gate = gates.find((name) => name.endsWith(`-${header.msg_type}`));
        if (gate !== undefined) writeFileSync(gate, "");
      },
    },
  );
  const parts = outputs.map((output) => (output.output_type === "stream" ? output.text : output.output_type));
  assert.deepEqual(parts, ["a\nb\nc\n", "display_data", "e\n", "execute_result"]);
});

test("process.stdout can be ended by a cell, and cells can still print", async () => {
  await kernel.run('process.stdout.end("last words"); process.stderr.destroy(); 1');
  assert.equal((await kernel.run('process.stdout.write("still here")')).text.slice(0, 10), "still here");
});

/** From here on, executors die, and variables with them. */
for (const [what, code, pattern] of [
  ["process.exit", "process.exit(3)", /exit code 3/],
  ["process.abort", "process.abort()", /SIGABRT/],
  ["a signal", 'process.kill(process.pid, "SIGSEGV"); await new Promise(() => {})', /SIGSEGV/],
  ["the system's killer", 'process.kill(process.pid, "SIGKILL"); await new Promise(() => {})', /SIGKILL/],
] as const) {
  test(`${what} fails the cell, aborts those that wait, and the kernel lives on`, async () => {
    const { first, others } = await sentAlong(kernel, `console.log("last"); ${code}`, ["1"]);
    const { reply, text } = await first;
    assert.equal(reply.status, "error");
    assert.match(reply.evalue!, pattern);
    assert.match(reply.evalue!, /variables are lost/);
    assert.match(text, /^last$/m);
    assert.equal((await others[0])?.reply.status, "aborted");
    await isAliveWith(false);
  });
}

test("out of memory", async () => {
  const { reply } = await kernel.run(
    "const hog: number[][] = []; require('node:v8').setFlagsFromString('--max-old-space-size=100'); for (;;) hog.push(new Array(1e5).fill(1.5))",
    {
      timeout: 120_000,
    },
  );
  assert.equal(reply.status, "error");
  assert.match(reply.evalue!, /out of memory/);
  await isAliveWith(false);
});

test("a process that ends between cells is said and replaced", async () => {
  const shown = said(({ header }) => header.msg_type === "error");
  await kernel.run("setTimeout(() => process.exit(5), 20); 1");
  assert.match(String((await shown).content.evalue), /exit code 5/);
  await isAliveWith(false);
});

test("an interrupt of a cell whose process only starts ends the cell, not the process", async () => {
  for (let i = 0; i < 3; i++) {
    const { text: pid } = await kernel.run("process.pid");
    assert.match(pid, /^[1-9]\d*$/); // 0 would be the tests' own group
    const gone = new Promise<void>((resolve) => {
      const stop = kernel.client.listen(({ content }) => {
        if (content.ename !== "ExecutorDied") return;
        stop();
        resolve();
      });
    });
    process.kill(Number(pid), "SIGKILL");
    await gone;
    let sent = false;
    const { reply, text } = await kernel.run("for (;;) {}", {
      onOutput: () => {
        if (!sent) void kernel.client.interrupt();
        sent = true;
      },
    });
    assert.equal(reply.ename, "KeyboardInterrupt", text);
    assert.doesNotMatch(text, /ExecutorDied/);
  }
});

for (const how of [
  "process.removeAllListeners()",
  'process.removeAllListeners("SIGINT")',
  'for (const hear of process.listeners("SIGINT")) process.off("SIGINT", hear)',
]) {
  test(`an interrupt after ${how} costs no variables`, async () => {
    await kernel.run(`let kept = 42; ${how};`);
    assert.equal(
      (await interrupted(kernel, 'console.log("on"); for (;;) {}')).reply.ename,
      "KeyboardInterrupt",
    );
    assert.equal((await kernel.run("kept")).text, "42");
  });
}

test("a cell's own listener of SIGINT hears an interrupt, and can be removed", async () => {
  await kernel.run('let heard = 0; const hear = () => { heard++ }; process.on("SIGINT", hear); await 0');
  await interrupted(kernel, 'console.log("on"); await new Promise(() => {})');
  const { text } = await kernel.run(
    'while (heard === 0) await new Promise((r) => setTimeout(r, 5)); process.off("SIGINT", hear); process.listenerCount("SIGINT")',
  );
  assert.equal(text, "1");
});

test("a kernel at rest is silent", async () => {
  const fresh = await startKernel();
  // Behind this, nothing is left to be heard of the start.
  await fresh.run("1");
  const heard: string[] = [];
  fresh.client.listen(({ header }) => heard.push(header.msg_type));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.deepEqual(heard, []);
});

test("a process that can't be started is an error of the cell, said once, and tried again", async () => {
  const own = await startKernel();
  await own.run("1");
  rmSync(own.folder, { recursive: true });
  const errors: string[] = [];
  own.client.listen(({ header, content }) => {
    if (header.msg_type === "error") errors.push(String(content.evalue));
  });
  await own.run("process.exit(1)");
  const { reply } = await own.run("2");
  assert.match(reply.evalue!, /could not be started: its folder .* does not exist/);
  assert.ok(errors.length <= 3, errors.join("\n"));
  mkdirSync(own.folder);
  assert.equal((await own.run("3")).text, "3");
});
