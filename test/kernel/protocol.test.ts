import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as zmq from "zeromq";
import { type ExecuteReply, KernelClient, type Message } from "../../kernel/client/client.js";
import { endpoint, readConnectionFile } from "../../kernel/protocol/connection.js";
import { isAlive } from "../../kernel/server/parent.js";
import { busyUntil, sentAlong, startKernel, TestKernel } from "./support.js";

const kernel = await startKernel();
const { client } = kernel;

function kinds(messages: readonly Message[]): string[] {
  return messages.map(({ header, content }) =>
    header.msg_type === "status" ? String(content.execution_state) : header.msg_type,
  );
}

async function until(what: string, check: () => boolean): Promise<void> {
  for (let waited = 0; !check(); waited += 10) {
    assert.ok(waited < 20_000, `waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test("every request is answered between busy and idle", async () => {
  const requests: [string, object][] = [
    ["kernel_info_request", {}],
    ["complete_request", { code: "Math.", cursor_pos: 5 }],
    ["inspect_request", { code: "Math", cursor_pos: 4, detail_level: 0 }],
    ["is_complete_request", { code: "1" }],
    ["history_request", { hist_access_type: "tail", n: 1, raw: true, output: false }],
    ["comm_info_request", {}],
    ["interrupt_request", {}],
    ["execute_request", { code: "1" }],
  ];
  const seen: Message[] = [];
  const stop = client.listen((message, channel) => {
    if (channel === "iopub") seen.push(message);
  });
  for (const [type, content] of requests) {
    const reply = await client.request(type, content, { timeout: 20_000 });
    assert.equal(reply.header.msg_type, type.replace("_request", "_reply"));
    assert.equal(reply.content.status, type === "is_complete_request" ? "complete" : "ok", type);
    const parent = reply.parent.msg_id;
    const own = () => seen.filter((message) => message.parent.msg_id === parent);
    await until(`${type}: idle`, () => kinds(own()).includes("idle"));
    assert.deepEqual([kinds(own())[0], kinds(own()).at(-1)], ["busy", "idle"], type);
  }
  stop();
});

test("wrong contents are refused with an error, and the kernel goes on", async () => {
  for (const [type, content, message] of [
    ["execute_request", { code: 5 }, /code: expected a string, found a number/],
    ["execute_request", { code: "1", silent: "yes" }, /silent: expected true or false/],
    ["complete_request", { cursor_pos: 1 }, /code: expected a string, found nothing/],
    ["history_request", { hist_access_type: "all" }, /hist_access_type: expected range, tail or search/],
  ] as const) {
    const { content: reply } = await client.request(type, content, { timeout: 20_000 });
    assert.equal(reply.status, "error");
    assert.match(String(reply.evalue), message);
  }
  assert.equal((await kernel.run("2 + 2")).text, "4");
});

test("message ids are unique, and outputs come before idle", async () => {
  const seen: Message[] = [];
  const stop = client.listen((message) => seen.push(message));
  for (let i = 0; i < 20; i++) {
    const { messages } = await kernel.run(
      `for (let i = 0; i < 30; i++) { console.log(i); if (i % 10 === 0) display(i) } ${i}`,
    );
    assert.equal(kinds(messages).at(-1), "idle");
    assert.equal(kinds(messages).at(-2), "execute_result");
  }
  stop();
  const ids = seen.map(({ header }) => header.msg_id);
  assert.equal(new Set(ids).size, ids.length);
});

test("iopub says welcome to who subscribes", async () => {
  const welcomes: Message[] = [];
  const second = await KernelClient.attach(kernel.client.process!.connectionFile);
  const stop = second.listen((message) => {
    if (message.header.msg_type === "iopub_welcome") welcomes.push(message);
  });
  const third = await KernelClient.attach(kernel.client.process!.connectionFile);
  await until("a welcome", () => welcomes.length > 0);
  assert.equal(welcomes[0]!.content.subscription, "");
  stop();
  second.close();
  third.close();
});

test("silent: no input, no output, no count, but it runs", async () => {
  const before = (await kernel.run("let quiet = 0; 1")).reply.execution_count;
  const { messages, reply } = await kernel.run('quiet = 7; console.log("out"); display(1); 42', {
    silent: true,
  });
  assert.equal(reply.status, "ok");
  assert.deepEqual(kinds(messages), ["busy", "idle"]);
  const after = await kernel.run("quiet");
  assert.equal(after.text, "7");
  assert.equal(after.reply.execution_count, before + 1);
});

test("store_history false leaves the count alone", async () => {
  const before = (await kernel.run("1")).reply.execution_count;
  const { reply, text } = await kernel.run("5", { storeHistory: false });
  assert.equal(text, "5");
  assert.equal(reply.execution_count, before);
  assert.equal((await kernel.run("1")).reply.execution_count, before + 1);
});

test("an empty cell is fine and counts for nothing", async () => {
  const before = (await kernel.run("1")).reply.execution_count;
  assert.equal((await kernel.run("  \n")).reply.status, "ok");
  assert.equal((await kernel.run("1")).reply.execution_count, before + 1);
});

test("user expressions: values, and errors each by itself", async () => {
  const { reply } = await kernel.run("let ux = 20", {
    userExpressions: {
      sum: "ux + 1",
      html: '({ [Symbol.for("Jupyter.display")]: () => ({ "text/html": "<p>" }) })',
      bad: "nowhere",
      broken: "1 +",
    },
  });
  const values = reply.user_expressions as Record<
    string,
    { status: string; data?: Record<string, string>; ename?: string }
  >;
  assert.equal(values.sum?.data?.["text/plain"], "21");
  assert.equal(values.html?.data?.["text/html"], "<p>");
  assert.equal(values.bad?.ename, "ReferenceError");
  assert.equal(values.broken?.status, "error");
});

test("an error aborts the cells that wait, unless stop_on_error is false", async () => {
  const failing = await sentAlong(kernel, 'throw new Error("x")', ["1", "2"]);
  assert.equal((await failing.first).reply.status, "error");
  for (const { reply, messages } of await Promise.all(failing.others)) {
    assert.equal(reply.status, "aborted");
    assert.deepEqual(kinds(messages), ["busy", "idle"]);
  }
  assert.equal((await kernel.run('"after"')).text, "'after'");

  const tolerated = await sentAlong(kernel, 'throw new Error("x")', ['"goes on"'], { stopOnError: false });
  assert.equal((await tolerated.first).reply.status, "error");
  assert.equal((await tolerated.others[0])?.text, "'goes on'");
});

test("a thousand queued cells run in order", async () => {
  await kernel.run("const order: number[] = []");
  const replies: Promise<ExecuteReply>[] = [];
  for (let i = 0; i < 1000; i++) replies.push(client.execute(`order.push(${i})`, { silent: i % 2 === 1 }));
  for (const reply of await Promise.all(replies)) assert.equal(reply.status, "ok");
  assert.equal((await kernel.run("order.length === 1000 && order.every((v, i) => v === i)")).text, "true");
});

test("prompt, confirm and password ask the front end", async () => {
  const questions: { prompt: string; password: boolean }[] = [];
  const answers = ["Ada", "y", "", "secret"];
  const { text } = await kernel.run(
    '[prompt("name? "), confirm("sure?"), prompt("colour", "red"), prompt.password("key: ")].join("|")',
    {
      onInput: (question) => {
        questions.push(question);
        return answers[questions.length - 1]!;
      },
    },
  );
  assert.equal(text, "'Ada|true|red|secret'");
  assert.deepEqual(questions, [
    { prompt: "name? ", password: false },
    { prompt: "sure? [y/N] ", password: false },
    { prompt: "colour [red] ", password: false },
    { prompt: "key: ", password: true },
  ]);
});

test("without a front end that takes input, prompt fails and says why", async () => {
  const { reply } = await kernel.run('prompt("?")');
  assert.equal(reply.status, "error");
  assert.match(reply.evalue!, /does not take input/);
});

test("a cell that waits for input can be interrupted", async () => {
  const { reply } = await kernel.run('prompt("never answered")', {
    onInput: () => {
      setTimeout(() => void client.interrupt(), 50);
      return new Promise<string>(() => undefined);
    },
  });
  assert.equal(reply.ename, "KeyboardInterrupt");
});

test("clearOutput, and updates of a display", async () => {
  const { outputs, messages } = await kernel.run(
    'console.log("gone"); clearOutput({ wait: true }); display("a", { displayId: "u" }); display("b", { displayId: "u", update: true })',
  );
  assert.deepEqual(kinds(messages).slice(2, -1), [
    "stream",
    "clear_output",
    "display_data",
    "update_display_data",
  ]);
  assert.deepEqual(messages[3]!.content, { wait: true });
  assert.deepEqual(
    outputs.map((output) => "data" in output && output.data["text/plain"]),
    ["'b'"],
  );
  const wrong = await kernel.run("display(1, { update: true })");
  assert.match(wrong.reply.evalue!, /displayId/);
});

test("help comes as a page", async () => {
  await kernel.run("/** Twice as much. */ function twice(n: number): number { return 2 * n; }");
  for (const [code, pattern] of [
    ["twice?", /Twice as much/],
    ["?twice", /Twice as much/],
    ["twice??", /return 2 \* n/],
  ] as const) {
    const { reply } = await kernel.run(code);
    const [page] = reply.payload as { source: string; data: Record<string, string> }[];
    assert.equal(page?.source, "page");
    assert.match(page!.data["text/plain"]!, pattern, code);
  }
});

test("history: tail, range and search, also of earlier sessions, in a file of its owner's", async () => {
  const file = join(kernel.folder, "history", "h.sqlite");
  const sessions: number[] = [];
  for (const [first, second] of [
    ["1 + 1", 'console.log("needle one")'],
    ["2 + 2", 'console.log("needle two")'],
  ]) {
    const own = new TestKernel();
    await own.start({ FIRSTFRAME_HISTORY: file });
    await own.run(first!);
    await own.run(second!);
    const ask = async (content: object) =>
      (await own.client.request("history_request", { raw: true, output: false, ...content })).content
        .history as [number, number, string][];
    const tail = await ask({ hist_access_type: "tail", n: 2 });
    assert.deepEqual(
      tail.map(([, line, source]) => [line, source]),
      [
        [1, first],
        [2, second],
      ],
    );
    sessions.push(tail[0]![0]);
    assert.deepEqual(await ask({ hist_access_type: "range", session: 0, start: 1, stop: 2 }), [
      [0, 1, first],
    ]);
    const found = await ask({ hist_access_type: "search", pattern: "*needle*" });
    assert.equal(found.length, sessions.length);
    const outputs = (await ask({ hist_access_type: "tail", n: 2, output: true })) as unknown as [
      number,
      number,
      [string, string | null],
    ][];
    assert.equal(outputs[0]![2][1], String(2 * sessions.length));
    await own.stop();
  }
  assert.ok(sessions[1]! > sessions[0]!);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(statSync(kernel.client.process!.connectionFile).mode & 0o777, 0o600);
});

test("comms: opened by a cell, answered, listed, closed", async () => {
  const sent: Message[] = [];
  const stop = client.listen((message) => {
    if (message.header.msg_type.startsWith("comm_")) sent.push(message);
  });
  await kernel.run(
    'const c = comms.open("echo", { hello: 1 }, { buffers: [new Uint8Array([1, 2])] }); c.onMessage((m) => c.send({ echo: m.data }, { buffers: m.buffers }))',
  );
  const [open] = sent;
  assert.equal(open?.header.msg_type, "comm_open");
  assert.deepEqual(open!.content.data, { hello: 1 });
  assert.deepEqual([...open!.buffers[0]!], [1, 2]);
  const id = open!.content.comm_id;
  const info = async () => (await client.request("comm_info_request", { target_name: "echo" })).content.comms;
  assert.deepEqual(await info(), { [String(id)]: { target_name: "echo" } });
  const asked = client.post("comm_msg", { comm_id: id, data: { ping: [1] } }, [new Uint8Array([9])]);
  await until("the echo", () => sent.some(({ parent }) => parent.msg_id === asked));
  const echo = sent.find(({ parent }) => parent.msg_id === asked)!;
  assert.deepEqual(echo.content.data, { echo: { ping: [1] } });
  assert.deepEqual([...echo.buffers[0]!], [9]);
  await kernel.run("c.close()");
  assert.deepEqual(await info(), {});
  stop();
});

test("comms: opened by the front end, with errors shown, and refused where nobody listens", async () => {
  await kernel.run(
    'comms.registerTarget("here", (comm, { data }) => { comm.send({ got: data.x }); comm.onMessage(() => { throw new Error("in a handler") }) })',
  );
  const seen: Message[] = [];
  const stop = client.listen((message) => seen.push(message));
  const first = client.post("comm_open", { comm_id: "f1", target_name: "here", data: { x: 3 } });
  const refused = client.post("comm_open", { comm_id: "f2", target_name: "nobody", data: {} });
  const failing = client.post("comm_msg", { comm_id: "f1", data: {} });
  const of = (id: string) => seen.filter(({ parent }) => parent.msg_id === id);
  await until("answers", () => [first, refused, failing].every((id) => kinds(of(id)).includes("idle")));
  assert.deepEqual(kinds(of(first)), ["busy", "comm_msg", "idle"]);
  assert.deepEqual(of(first)[1]!.content, { comm_id: "f1", data: { got: 3 } });
  assert.deepEqual(kinds(of(refused)), ["busy", "comm_close", "idle"]);
  assert.deepEqual(kinds(of(failing)), ["busy", "error", "idle"]);
  assert.equal(of(failing)[1]!.content.evalue, "in a handler");
  stop();
});

test("control, shell requests and the heartbeat are answered while a cell runs", async () => {
  const heartbeat = new zmq.Request({ linger: 0 });
  heartbeat.connect(endpoint(readConnectionFile(client.process!.connectionFile), "hb"));
  const answers = async () => {
    const types = ["kernel_info", "is_complete", "history", "comm_info", "complete", "inspect"];
    for (const channel of ["shell", "control"] as const) {
      for (const type of types) {
        const { content } = await client.request(
          `${type}_request`,
          { code: "Math.ab", cursor_pos: 7 },
          { channel },
        );
        if (type === "complete") assert.deepEqual(content.matches, ["abs"]);
      }
    }
    await heartbeat.send("beat");
    assert.equal(String(await heartbeat.receive()), "beat");
  };
  const { reply } = await busyUntil(kernel, answers);
  assert.equal(reply.status, "ok");
  heartbeat.close();
});

test("two clients at once each get their own", async () => {
  const other = await KernelClient.attach(kernel.client.process!.connectionFile);
  const texts = await Promise.all(
    [client, other].flatMap((each, who) =>
      Array.from({ length: 20 }, async (_, i) => {
        let text = "";
        const reply = await each.execute(`console.log("${who}:${i}")`, {
          onOutput: ({ header, content }) => {
            if (header.msg_type === "stream") text += String(content.text);
          },
        });
        return [reply.status, text, `${who}:${i}\n`];
      }),
    ),
  );
  for (const [status, text, expected] of texts) assert.deepEqual([status, text], ["ok", expected]);
  other.close();
});

test("an interrupt by message works", async () => {
  const { reply } = await kernel.run('console.log("on"); while (true) {}', {
    onOutput: ({ header }) => {
      if (header.msg_type !== "stream") return;
      void kernel.client.request("interrupt_request", {}, { channel: "control" });
    },
  });
  assert.equal(reply.ename, "KeyboardInterrupt");
});

test("an interrupt by a signal to the kernel's group leaves its other processes alone", async () => {
  const { pid } = kernel.client.process!;
  const children = () => readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  const before = children();
  const { reply } = await kernel.run('console.log("on"); while (true) {}', {
    onOutput: ({ header }) => {
      if (header.msg_type === "stream") process.kill(-pid!, "SIGINT");
    },
  });
  assert.equal(reply.ename, "KeyboardInterrupt");
  assert.match(reply.traceback!.join("\n"), /cell \[\d+\]:1:\d+/);
  await kernel.run("1 + 1");
  assert.equal(children(), before);
});

test("an interrupt by signal works, too", async () => {
  const { reply } = await kernel.run('console.log("on"); while (true) {}', {
    onOutput: ({ header }) => {
      if (header.msg_type === "stream") process.kill(kernel.client.process!.pid!, "SIGINT");
    },
  });
  assert.equal(reply.ename, "KeyboardInterrupt");
  // And between cells it does nothing.
  process.kill(kernel.client.process!.pid!, "SIGINT");
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal((await kernel.run("1 + 1")).text, "2");
});

test("shutdown on the control channel ends everything, also while a cell runs", async () => {
  const own = new TestKernel();
  await own.start();
  const { pid } = own.client.process!;
  const { text } = await own.run("process.pid");
  const running = own.client.execute("while (true) {}").catch(() => undefined);
  const { content } = await own.client.request(
    "shutdown_request",
    { restart: true },
    { channel: "control", timeout: 10_000 },
  );
  assert.deepEqual({ status: content.status, restart: content.restart }, { status: "ok", restart: true });
  await own.client.process!.exited;
  await running;
  await until("no process is left", () => !isAlive(pid!) && !isAlive(Number(text)));
  await own.stop();
});

test("a server that is killed takes its executor with it", async () => {
  const own = new TestKernel();
  await own.start();
  const executor = Number((await own.run("process.pid")).text);
  void own.client.execute("while (true) {}").catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 200));
  process.kill(own.client.process!.pid!, "SIGKILL");
  await until("the executor is gone", () => !isAlive(executor));
  await own.stop();
});
