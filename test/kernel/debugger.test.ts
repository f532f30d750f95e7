/**
 * The debugger as front ends drive it: the Debug Adapter Protocol in Jupyter's messages.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { murmur2 } from "../../kernel/debugger/hash.js";
import { startKernel } from "./support.js";

type Body = Record<string, unknown>;
interface Frame {
  id: number;
  name: string;
  line: number;
  column: number;
  source: { path: string; name: string };
}
interface Variable {
  name: string;
  value: string;
  type?: string;
  evaluateName: string;
  variablesReference: number;
}

const kernel = await startKernel();
let seq = 0;

/** Events, and who waits for one. */
const events: { event: string; body: Body }[] = [];
const waiting: (() => void)[] = [];
kernel.client.listen(({ header, content }) => {
  if (header.msg_type !== "debug_event") return;
  events.push(content as unknown as { event: string; body: Body });
  for (const wake of waiting.splice(0)) wake();
});

async function nextEvent(name: string): Promise<Body> {
  for (;;) {
    const at = events.findIndex(({ event }) => event === name);
    if (at >= 0) return events.splice(0, at + 1).at(-1)!.body;
    await new Promise<void>((resolve) => waiting.push(resolve));
  }
}

async function request(
  command: string,
  args: Body = {},
): Promise<{ success: boolean; message?: string; body: Body }> {
  seq += 1;
  const content = { type: "request", seq, command, arguments: args };
  const { content: response } = await kernel.client.request("debug_request", content, {
    channel: "control",
    timeout: 20_000,
  });
  assert.equal(response.type, "response");
  assert.equal(response.request_seq, seq);
  assert.equal(response.command, command);
  return response as unknown as { success: boolean; message?: string; body: Body };
}

async function debug(command: string, args: Body = {}): Promise<Body> {
  const response = await request(command, args);
  assert.ok(response.success, `${command}: ${response.message}`);
  return response.body;
}

async function breakAt(
  code: string,
  ...lines: number[]
): Promise<{ path: string; verified: { verified: boolean; line: number }[] }> {
  const { sourcePath } = await debug("dumpCell", { code });
  const { breakpoints } = await debug("setBreakpoints", {
    source: { path: sourcePath },
    breakpoints: lines.map((line) => ({ line })),
    sourceModified: false,
  });
  return { path: String(sourcePath), verified: breakpoints as { verified: boolean; line: number }[] };
}

async function stack(): Promise<Frame[]> {
  return (await debug("stackTrace", { threadId: 1 })).stackFrames as Frame[];
}

async function scope(frameId: number, name: string): Promise<Variable[]> {
  const { scopes } = await debug("scopes", { frameId });
  const found = (scopes as { name: string; variablesReference: number }[]).find((each) => each.name === name);
  assert.ok(found, `no scope ${name} in ${JSON.stringify(scopes)}`);
  return (await debug("variables", { variablesReference: found.variablesReference })).variables as Variable[];
}

const values = (variables: Variable[]) =>
  Object.fromEntries(variables.map(({ name, value }) => [name, value]));

test("the kernel says that it has a debugger", async () => {
  const { content } = await kernel.client.request("kernel_info_request");
  assert.equal(content.debugger, true);
  assert.ok((content.supported_features as string[]).includes("debugger"));
});

test("before it is started: its state, and how sources are named", async () => {
  const info = await debug("debugInfo");
  assert.equal(info.isStarted, false);
  assert.equal(info.hashMethod, "Murmur2");
  assert.deepEqual(info.breakpoints, []);
  const code = "const 😀name = 1;";
  const { sourcePath } = await debug("dumpCell", { code });
  assert.equal(
    sourcePath,
    `${info.tmpFilePrefix}${murmur2(code, Number(info.hashSeed))}${info.tmpFileSuffix}`,
  );
});

test("the hash is Murmur2, as front ends compute it", () => {
  // From the reference implementation, seed 0xc70f6907.
  assert.equal(murmur2("", 0), 0);
  assert.equal(
    new Set(["a", "b", "ab", "abc", "abcd", "abcde"].map((text) => murmur2(text, 0xc70f6907))).size,
    6,
  );
});

test("it starts: capabilities, the initialized event, attach", async () => {
  const { body } = await request("initialize", {
    clientID: "test",
    adapterID: "firstframe",
    linesStartAt1: true,
    columnsStartAt1: true,
  });
  assert.equal(body.supportsConfigurationDoneRequest, true);
  assert.deepEqual(
    (body.exceptionBreakpointFilters as { filter: string }[]).map(({ filter }) => filter),
    ["all", "uncaught"],
  );
  await nextEvent("initialized");
  await debug("attach");
  await debug("configurationDone");
  assert.equal((await debug("debugInfo")).isStarted, true);
});

const stepped = `interface Removed {
  a: number;
}

function scale(item: Removed, by: number): number {
  const product = item.a * by;
  return product + 1;
}

let total = 0;
for (const a of [1, 2]) {
  total += scale({ a }, 10);
}
total;`;

test("a breakpoint on a line of TypeScript: stack, scopes, variables, evaluation, steps, to the result", async () => {
  const { path: source, verified } = await breakAt(stepped, 6);
  assert.deepEqual(
    verified.map(({ verified: is, line }) => [is, line]),
    [[true, 6]],
  );
  const running = kernel.run(stepped);
  const stopped = await nextEvent("stopped");
  assert.equal(stopped.reason, "breakpoint");
  assert.equal(stopped.threadId, 1);
  assert.deepEqual((await debug("debugInfo")).stoppedThreads, [1]);

  const [inner, outer, ...rest] = await stack();
  assert.deepEqual([inner?.name, inner?.line, inner?.source.path], ["scale", 6, source]);
  assert.deepEqual([outer?.line, outer?.source.path], [12, source]);
  assert.deepEqual(rest, []);
  const local = await scope(inner!.id, "Local");
  assert.deepEqual(values(local), { item: "{a: 1}", by: "10", product: "undefined" });
  const item = local.find(({ name }) => name === "item")!;
  assert.ok(item.variablesReference > 0);
  const { variables } = await debug("variables", { variablesReference: item.variablesReference });
  const [a] = variables as Variable[];
  assert.deepEqual([a?.name, a?.value, a?.type, a?.evaluateName], ["a", "1", undefined, "item.a"]);
  assert.equal(values(await scope(outer!.id, "Session")).total, "0");
  assert.equal(
    (await debug("evaluate", { expression: "item.a + by as number", frameId: inner!.id })).result,
    "11",
  );
  assert.equal((await request("evaluate", { expression: "nowhere", frameId: inner!.id })).success, false);
  assert.equal(
    (await request("evaluate", { expression: "by = 99", frameId: inner!.id, context: "hover" })).success,
    false,
  );

  await debug("next", { threadId: 1 });
  assert.equal((await nextEvent("stopped")).reason, "step");
  const [after] = await stack();
  assert.equal(after?.line, 7);
  assert.equal(values(await scope(after!.id, "Local")).product, "10");
  await debug("stepOut", { threadId: 1 });
  await nextEvent("stopped");
  assert.ok([11, 12].includes((await stack())[0]!.line));
  await debug("continue", { threadId: 1 });
  await nextEvent("stopped");
  assert.deepEqual(values(await scope((await stack())[0]!.id, "Local")).item, "{a: 2}");
  await debug("continue", { threadId: 1 });
  const { text, reply } = await running;
  assert.equal(reply.status, "ok");
  assert.equal(text, "32");
  assert.deepEqual((await debug("debugInfo")).stoppedThreads, []);
});

test("other requests are answered while a cell is paused", async () => {
  const running = kernel.run(stepped);
  await nextEvent("stopped");
  const { content } = await kernel.client.request("complete_request", { code: "JSON.str", cursor_pos: 8 });
  assert.deepEqual(content.matches, ["stringify"]);
  await kernel.client.request("kernel_info_request");
  await breakAt(stepped);
  await debug("continue", { threadId: 1 });
  assert.equal((await running).text, "32");
});

test("steps go line by line, into functions of other cells, and across awaits", async () => {
  await kernel.run("function helper(x: number) {\n  const y = x + 1;\n  return y;\n}");
  const code =
    "const first = 1;\nawait new Promise((resolve) => setTimeout(resolve, 5));\nconst second = helper(first);\nsecond;";
  await breakAt(code, 1);
  const running = kernel.run(code);
  await nextEvent("stopped");
  const lines: string[] = [];
  for (const command of ["next", "next", "stepIn", "next", "next"]) {
    const [top] = await stack();
    lines.push(`${top!.name.startsWith("cell") ? "" : `${top!.name}:`}${top!.line}`);
    await debug(command, { threadId: 1 });
    await nextEvent("stopped");
  }
  const [top] = await stack();
  lines.push(`${top!.name.startsWith("cell") ? "" : `${top!.name}:`}${top!.line}`);
  assert.deepEqual(lines, ["1", "2", "3", "helper:2", "helper:3", "4"]);
  assert.equal(values(await scope(top!.id, "Session")).helper, "ƒ helper");
  await debug("continue", { threadId: 1 });
  assert.equal((await running).text, "2");
  await breakAt(code);
});

test("a breakpoint on a line without code moves to the next that has some, or says that there is none", async () => {
  const code = "interface Gone {\n  x: number;\n}\n// note\nconst here = 1;\n";
  const { verified } = await breakAt(code, 2, 60);
  assert.deepEqual(
    verified.map(({ verified: is, line }) => [is, line]),
    [
      [true, 5],
      [false, 60],
    ],
  );
  const running = kernel.run(code);
  await nextEvent("stopped");
  assert.equal((await stack())[0]!.line, 5);
  await debug("continue", { threadId: 1 });
  await running;
  await breakAt(code);
});

test("a condition decides", async () => {
  const code = "let hits = 0;\nfor (let i = 0; i < 5; i++) {\n  hits += i;\n}\nhits;";
  const { sourcePath } = await debug("dumpCell", { code });
  await debug("setBreakpoints", {
    source: { path: sourcePath },
    breakpoints: [{ line: 3, condition: "(i as number) === 3" }],
  });
  const running = kernel.run(code);
  await nextEvent("stopped");
  const [top] = await stack();
  assert.equal((await debug("evaluate", { expression: "i", frameId: top!.id })).result, "3");
  await debug("continue", { threadId: 1 });
  assert.equal((await running).text, "10");
  await breakAt(code);
});

test("a breakpoint set after its cell ran holds for what the cell defined", async () => {
  const code = "function late(x: number) {\n  const twice = 2 * x;\n  return twice;\n}";
  await kernel.run(code);
  await breakAt(code, 3);
  const running = kernel.run("late(4)");
  await nextEvent("stopped");
  assert.equal(values(await scope((await stack())[0]!.id, "Local")).twice, "8");
  await debug("continue", { threadId: 1 });
  assert.equal((await running).text, "8");
  await breakAt(code);
});

test("exceptions stop where they are thrown, caught ones only if asked for", async () => {
  await debug("setExceptionBreakpoints", { filters: ["uncaught"] });
  const uncaught = kernel.run(
    'try { throw new Error("caught"); } catch {}\nfunction thrower(): never {\n  throw new RangeError("on its way");\n}\nthrower();',
  );
  const stopped = await nextEvent("stopped");
  assert.equal(stopped.reason, "exception");
  assert.match(String(stopped.text), /RangeError: on its way/);
  assert.deepEqual(
    (await stack()).map(({ line }) => line),
    [3, 5],
  );
  await debug("continue", { threadId: 1 });
  assert.equal((await uncaught).reply.ename, "RangeError");

  await debug("setExceptionBreakpoints", { filters: ["all"] });
  const caught = kernel.run('try {\n  throw new Error("caught");\n} catch {}\n"went on"');
  assert.equal((await nextEvent("stopped")).reason, "exception");
  await debug("continue", { threadId: 1 });
  assert.equal((await caught).text, "'went on'");
  await debug("setExceptionBreakpoints", { filters: [] });
  assert.equal(
    (await kernel.run('try { throw new Error("x"); } catch {}\n"not stopped"')).text,
    "'not stopped'",
  );
});

test("sources: of cells, and of the user's own modules, which take breakpoints too", async () => {
  const { sourcePath } = await debug("dumpCell", { code: stepped });
  assert.equal((await debug("source", { source: { path: sourcePath } })).content, stepped);
  assert.equal((await request("source", { source: { path: "/etc/hostname" } })).success, false);
  const file = path.join(kernel.folder, "own.ts");
  const text =
    "export interface Removed {\n  a: string;\n}\n\nexport function own(x: number): number {\n  const y = x * 3;\n  return y;\n}\n";
  writeFileSync(file, text);
  await kernel.run('import { own } from "./own";');
  await debug("setBreakpoints", { source: { path: file }, breakpoints: [{ line: 7 }] });
  const running = kernel.run("own(2)");
  await nextEvent("stopped");
  const [top] = await stack();
  assert.deepEqual([top!.name, top!.line, top!.source.path], ["own", 7, file]);
  assert.equal((await debug("source", { source: { path: file } })).content, text);
  await debug("setBreakpoints", { source: { path: file }, breakpoints: [] });
  await debug("continue", { threadId: 1 });
  assert.equal((await running).text, "6");
});

test("a module that was loaded twice, and a line that is named twice, take breakpoints", async () => {
  const file = path.join(kernel.folder, "twice.ts");
  const text = "export function twice(x: number): number {\n  return 2 * x;\n}\n";
  writeFileSync(file, text);
  await kernel.run('import { twice } from "./twice";');
  writeFileSync(file, `${text}export const more = 1;\n`);
  await kernel.run('import { twice } from "./twice";');
  const lines = [{ line: 2 }, { line: 2 }];
  const { breakpoints } = await debug("setBreakpoints", { source: { path: file }, breakpoints: lines });
  assert.deepEqual(
    (breakpoints as { verified: boolean; line: number }[]).map(({ verified, line }) => [verified, line]),
    [
      [true, 2],
      [true, 2],
    ],
  );
  const running = kernel.run("twice(4)");
  await nextEvent("stopped");
  const [top] = await stack();
  assert.deepEqual([top!.name, top!.line], ["twice", 2]);
  await debug("setBreakpoints", { source: { path: file }, breakpoints: [] });
  await debug("continue", { threadId: 1 });
  assert.equal((await running).text, "8");
  assert.equal((await kernel.run("twice(5)")).text, "10");
});

test("what a notebook imported is one variable to open, beside what it made", async () => {
  await kernel.run(
    'import { join, dirname } from "node:path"; import * as os from "node:os"; const made = join("a", "b");',
  );
  const { variables } = await debug("inspectVariables");
  const found = new Map((variables as Variable[]).map((variable) => [variable.name, variable]));
  assert.equal(found.get("made")?.value, '"a/b"');
  for (const name of ["join", "dirname", "os"]) assert.ok(!found.has(name), name);
  const group = found.get("imports")!;
  assert.match(group.value, /join, dirname, os/);
  const inside = (await debug("variables", { variablesReference: group.variablesReference }))
    .variables as Variable[];
  assert.equal(inside.find(({ name }) => name === "join")?.type, "function");
});

test("scopes come in the order in which people look: what is local before the block that is paused in", async () => {
  const code =
    "function inner(n: number) {\n  const own = n;\n  for (const each of [1]) {\n    const sum = own + each;\n    sum.toFixed();\n  }\n}\ninner(1);";
  const { path } = await breakAt(code, 5);
  const running = kernel.run(code);
  await nextEvent("stopped");
  const [top] = await stack();
  const { scopes } = await debug("scopes", { frameId: top!.id });
  const names = (scopes as { name: string }[]).map(({ name }) => name);
  assert.ok(names.indexOf("Local") === 0 && names.indexOf("Block") > 0, names.join());
  assert.ok(
    names.indexOf("Session") === -1 || names.indexOf("Session") > names.lastIndexOf("Block"),
    names.join(),
  );
  await debug("setBreakpoints", { source: { path }, breakpoints: [] });
  await debug("continue", { threadId: 1 });
  await running;
});

test("variables of the session can be looked at, and expanded, while nothing runs", async () => {
  await kernel.run(
    'const shown = { deep: { list: [1, "two", null] } }; const text = "a\\nb"; const map = new Map([["k", 1]]);',
  );
  const { variables } = await debug("inspectVariables");
  const found = new Map((variables as Variable[]).map((variable) => [variable.name, variable]));
  assert.equal(found.get("text")?.value, '"a\\nb"');
  // JupyterLab's tree shows the type of what has one, instead of its value.
  assert.equal(found.get("text")?.type, undefined);
  assert.match(found.get("map")!.value, /^Map\(1\) \{/);
  assert.equal(found.get("shown")?.type, "Object");
  const inner = await debug("variables", { variablesReference: found.get("shown")!.variablesReference });
  const [deep] = inner.variables as Variable[];
  const { variables: list } = await debug("variables", { variablesReference: deep!.variablesReference });
  assert.match((list as Variable[])[0]!.value, /\[1, "two", null\]/);
  assert.equal((await debug("evaluate", { expression: "shown.deep.list.length" })).result, "3");
});

test("a variable can be shown as its cell would show it, also while paused", async () => {
  await kernel.run(
    'const html = { [Symbol.for("Jupyter.display")]: () => ({ "text/html": "<b>rich</b>" }) };',
  );
  const { data } = await debug("richInspectVariables", { variableName: "html" });
  assert.equal((data as Record<string, string>)["text/html"], "<b>rich</b>");
  const code = "function holds() {\n  const local = html;\n  return 1;\n}\nholds();";
  await breakAt(code, 3);
  const running = kernel.run(code);
  await nextEvent("stopped");
  const [top] = await stack();
  const shown = await debug("richInspectVariables", { variableName: "local", frameId: top!.id });
  assert.equal((shown.data as Record<string, string>)["text/html"], "<b>rich</b>");
  await debug("continue", { threadId: 1 });
  await running;
  await breakAt(code);
});

test("an interrupt ends a paused cell, and variables are kept", async () => {
  const code = "let kept = 7;\nfor (let i = 0; ; i++) {\n  kept = 8;\n}";
  await breakAt(code, 3);
  const running = kernel.run(code);
  await nextEvent("stopped");
  await breakAt(code);
  await kernel.client.interrupt();
  assert.equal((await running).reply.ename, "KeyboardInterrupt");
  assert.equal((await kernel.run("kept")).text, "8");
});

test("a process that ends takes no debugger with it, and the next one has its breakpoints", async () => {
  const { reply } = await kernel.run("process.exit(4)");
  assert.match(String(reply.evalue), /exit code 4/);
  const code = "const fresh = 1;\nfresh + 1;";
  await breakAt(code, 2);
  const running = kernel.run(code);
  await nextEvent("stopped");
  assert.equal((await stack())[0]!.line, 2);
  await debug("continue", { threadId: 1 });
  assert.equal((await running).text, "2");
});

test("what is asked wrongly is refused, and nothing breaks", async () => {
  assert.equal((await request("next", { threadId: 1 })).success, false);
  assert.equal((await request("scopes", { frameId: 77 })).success, false);
  assert.equal((await request("variables", { variablesReference: 9999 })).success, false);
  assert.match((await request("danceOnTheTable")).message!, /unknown debugger command "danceOnTheTable"/);
});

test("after disconnect nothing stops any more, and it can start again", async () => {
  const code = "const unstopped = 1;\nunstopped + 1;";
  await breakAt(code, 2);
  await debug("disconnect", { restart: false, terminateDebuggee: false });
  assert.equal((await debug("debugInfo")).isStarted, false);
  assert.equal((await kernel.run(code)).text, "2");
  await debug("initialize", {});
  await debug("attach");
  await breakAt(code, 2);
  const running = kernel.run(code);
  await nextEvent("stopped");
  await debug("disconnect", { restart: false, terminateDebuggee: false });
  assert.equal((await running).text, "2");
});
