/**
 * Whatever text a front end sends, the kernel goes on answering: heartbeats, requests on control, interrupts. The texts
 * are those that made some expression, parser or index take time by the square of their length, or took a parser to the
 * end of its stack.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import * as zmq from "zeromq";
import { endpoint } from "../../kernel/protocol/connection.js";
import { startKernel } from "./support.js";

const size = 1_000_000;
const run = (unit: string, length = size) => unit.repeat(Math.ceil(length / unit.length));
const pairs = (open: string, close: string, depth: number) => open.repeat(depth) + close.repeat(depth);

const texts: Readonly<Record<string, string>> = {
  "a run of letters": run("a"),
  "a run of letters and a dot": `${run("a")}.`,
  "a run of letters of two units": run("𝒳"),
  "a run of members": run("a."),
  "a run of blanks between letters": `x${run(" ")}x`,
  "a run of empty lines": `x${run("\n")}x`,
  "a run of blank lines": `x${run(" \n")}x`,
  "a run of question marks": `a${run(" ")}?x`,
  "a run of percent signs": run("%check off\n"),
  "flags of %timeit": `%timeit ${run("-n1 ")}\u2028`,
  "open strings": `f(${run('"\\')}`,
  "lines that begin imports": run("import a\n"),
  "words that can't follow each other": run("export "),
  "names that are declared again": run("let a;"),
  "returns from nowhere": run("return;"),
  "octal numbers": `[${run("08,")}]`,
  "regular expressions that are none": run("/ "),
  "references that are none": run("/// <reference "),
  "comments that are not closed": run("/*"),
  backticks: run("`"),
  "open brackets": run("("),
  "brackets in brackets": pairs("[", "]", size / 2),
  "blocks in blocks": pairs("{", "}", size / 2),
  "functions in functions": run("()=>"),
  "templates in templates": run("`${"),
  "types in types": `type T = ${"A<".repeat(size / 4)}1${">".repeat(size / 4)}`,
  decorators: run("@"),
  negations: `${run("!")}a`,
  conditions: `${run("a?b:")}c`,
  sums: `1${run("+1")}`,
  assignments: `${run("a=")}1`,
  "five megabytes on one line": `const numbers = [${run("1,", 5 * size)}]; numbers.length`,
  "half a million lines": `${run("\n", 500_000)}1`,
  "fifty thousand errors": run("nothing;\n", 450_000),
};

// What the compiler makes of them is its affair; it is not waited for long.
const kernel = await startKernel({ FIRSTFRAME_CHECK_TIMEOUT: "10", FIRSTFRAME_HISTORY: ":memory:" });
const { client } = kernel;
const server = client.process!.pid;

const heart = new zmq.Dealer({ linger: 0 });
heart.connect(endpoint(client.connection, "hb"));
after(() => heart.close());

async function beats(): Promise<void> {
  await heart.send("beat");
  assert.equal(String((await heart.receive())[0]), "beat");
}

async function control(type: "kernel_info_request" | "interrupt_request"): Promise<void> {
  const { content } = await client.request(type, {}, { channel: "control" });
  assert.equal(content.status, "ok");
}

/** Resolves once the kernel has taken up `count` requests of a type, and works on them. */
function takenUp(type: string, count: number): Promise<void> {
  let left = count;
  return new Promise((resolve) => {
    const stop = client.listen(({ header, parent, content }) => {
      if (header.msg_type !== "status" || content.execution_state !== "busy") return;
      if (parent.msg_type === type) left -= 1;
      if (left > 0) return;
      stop();
      resolve();
    });
  });
}

test("while texts are read, heartbeats and control are answered first", async () => {
  const order: string[] = [];
  const note = (what: string) => () => void order.push(what);
  const code = texts["five megabytes on one line"]!;
  const taken = takenUp("is_complete_request", 1);
  const answers = [1, 2, 3].map((i) =>
    client.request("is_complete_request", { code: `${code} + ${i}` }).then(note(`text ${i}`)),
  );
  await taken;
  await Promise.all([
    beats().then(note("heartbeat")),
    control("kernel_info_request").then(note("kernel_info")),
    control("interrupt_request").then(note("interrupt")),
  ]);
  await Promise.all(answers);
  for (const what of ["heartbeat", "kernel_info", "interrupt"])
    assert.ok(order.indexOf(what) < order.indexOf("text 3"), order.join(", "));
});

test("while a cell of 50,000 errors is checked, heartbeats and control are answered, and an interrupt ends it", async () => {
  const order: string[] = [];
  const note = (what: string) => () => void order.push(what);
  const taken = takenUp("execute_request", 1);
  const cell = client.execute(texts["fifty thousand errors"]!);
  const over = cell.then(note("cell"));
  await taken;
  await Promise.all([
    beats().then(note("heartbeat")),
    control("kernel_info_request").then(note("kernel_info")),
  ]);
  await control("interrupt_request");
  await over;
  assert.equal((await cell).ename, "KeyboardInterrupt");
  assert.equal(order.at(-1), "cell", order.join(", "));
});

for (const [what, code] of Object.entries(texts)) {
  test(`${what}: everything is answered`, async () => {
    const points = code.length - (code.match(/[\ud800-\udbff]/g)?.length ?? 0);
    const where = { code, cursor_pos: points };
    const answers = [
      client.request("complete_request", where),
      client.request("complete_request", { code, cursor_pos: points >> 1 }),
      client.request("inspect_request", { ...where, detail_level: 1 }),
      client.request("is_complete_request", { code }),
    ];
    await beats();
    await control("kernel_info_request");
    const taken = takenUp("execute_request", 1);
    const cell = client.execute(code);
    await taken;
    await beats();
    await control("interrupt_request");
    // Whether it was over by then is a matter of moments; over it is.
    assert.match((await cell).status, /^(?:ok|error)$/);
    for (const answer of await Promise.all(answers))
      assert.match(String(answer.content.status), /^(?:ok|complete|incomplete|invalid|unknown)$/);
    assert.match((await kernel.run("6 * 7", { timeout: undefined })).text, /42$/);
    assert.equal(client.process!.pid, server);
    assert.ok(client.process!.isAlive);
  });
}

test("nested as deep as V8 takes it, cells run", async () => {
  const deep = `let deep = ${"[".repeat(800)}1${"]".repeat(800)}; let sum = ${"1+".repeat(20_000)}1; sum`;
  assert.match((await kernel.run(deep, { timeout: undefined })).text, /20001$/);
  const { reply } = await kernel.run(`1${run("+1", 3 * size)}`, { timeout: undefined });
  assert.equal(reply.ename, "SyntaxError");
  assert.match(
    reply.evalue!,
    /Expected at most 10,000 brackets and 200,000 operators in each other, found more/,
  );
});

test("an error in a line of five megabytes shows what is near it", async () => {
  const { reply, text } = await kernel.run(`const list = [${run("1,", 5 * size)}]; throw new Error("here")`, {
    timeout: undefined,
  });
  assert.equal(reply.evalue, "here");
  assert.ok(text.length < 10_000, `${text.length}`);
  assert.match(text, /throw new Error\("here"\)/);
});

test("an error's message and stack of a megabyte", async () => {
  for (const message of [
    '"cell-".repeat(200_000)',
    '"/".repeat(1_000_000)',
    '"[".repeat(1_000_000)',
    '" at ".repeat(250_000)',
  ]) {
    const { reply } = await kernel.run(`throw new Error(${message})`);
    assert.equal(reply.status, "error");
    assert.ok(reply.evalue!.length >= 1_000_000);
  }
});
