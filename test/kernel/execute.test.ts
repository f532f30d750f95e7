import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { interrupted, startKernel } from "./support.js";

const kernel = await startKernel();

function types(
  messages: readonly { header: { msg_type: string }; content: Record<string, unknown> }[],
): string[] {
  return messages.map(({ header, content }) =>
    header.msg_type === "status" ? String(content.execution_state) : header.msg_type,
  );
}

test("kernel_info says what the kernel is", async () => {
  const { content } = await kernel.client.request("kernel_info_request");
  assert.equal(content.status, "ok");
  assert.match(String(content.protocol_version), /^5\.[4-9]$/);
  const language = content.language_info as Record<string, string>;
  assert.equal(language.name, "typescript");
  assert.equal(language.mimetype, "text/typescript");
  assert.equal(language.file_extension, ".ts");
  assert.equal(language.codemirror_mode, "typescript");
  assert.match(language.version!, /^7\./);
});

test("a cell: busy, input, output in order, result, idle", async () => {
  const { reply, outputs, messages } = await kernel.run(
    'console.log("one"); console.error("two"); console.log("three"); let a = { b: [1, 2] }; a',
  );
  assert.equal(reply.status, "ok");
  assert.deepEqual(types(messages), [
    "busy",
    "execute_input",
    "stream",
    "stream",
    "stream",
    "execute_result",
    "idle",
  ]);
  assert.deepEqual(outputs, [
    { output_type: "stream", name: "stdout", text: "one\n" },
    { output_type: "stream", name: "stderr", text: "two\n" },
    { output_type: "stream", name: "stdout", text: "three\n" },
    {
      output_type: "execute_result",
      execution_count: reply.execution_count,
      data: { "text/plain": "{ b: [ 1, 2 ] }" },
      metadata: {},
    },
  ]);
});

test("top-level await, and variables that live on and may be declared again", async () => {
  await kernel.run("const x = await Promise.resolve(41)");
  assert.equal((await kernel.run("x + 1")).text, "42");
  assert.equal((await kernel.run('const x = "now text"; x.length')).text, "8");
});

test("a cell finds what a CommonJS file of its folder finds, and may declare these names", async () => {
  const { text } = await kernel.run(
    'module.exports = { a: 1 }; [__dirname === import.meta.dirname, __filename === import.meta.filename, require.main === module, typeof exports, module.exports.a, module.paths[0].endsWith("node_modules")]',
  );
  assert.equal(text, "[ true, true, true, 'object', 1, true ]");
  const declared = await kernel.run(
    "const module = 1, exports = 2, __dirname = 'three', __filename = 4; [module, exports, __dirname, __filename]",
  );
  assert.equal(declared.text, "[ 1, 2, 'three', 4 ]");
});

test("a type error is reported with its number and place, and nothing runs", async () => {
  const { reply, text } = await kernel.run('console.log("ran");\nconst n: number = "x";');
  assert.equal(reply.status, "error");
  assert.match(text, /TS2322: Type 'string' is not assignable to type 'number'/);
  assert.match(text, /cell \[\d+\]:2:7/);
  assert.doesNotMatch(text, /^ran/);
});

test("a syntax error is an error of its cell", async () => {
  const { reply } = await kernel.run("const = 5");
  assert.equal(reply.status, "error");
  assert.equal(reply.ename, "SyntaxError");
  assert.match(reply.evalue!, /TS1134: Variable declaration expected/);
});

test("an error's traceback names the cell and the lines its author wrote, and no frame of ours", async () => {
  const { reply, text } = await kernel.run(
    'interface Point {\n  x: number;\n}\nfunction fail(p: Point): never {\n  throw new RangeError("boom");\n}\n\nfail({ x: 1 });',
  );
  const cell = `cell \\[${reply.execution_count}\\]`;
  assert.equal(reply.ename, "RangeError");
  assert.equal(reply.evalue, "boom");
  assert.match(text, new RegExp(`at fail \\(${cell}:5:\\d+\\)\\n\\s+at ${cell}:8:1$`));
  assert.match(text, /> 5 \|\s+throw new RangeError/);
});

test("an error keeps its cause and its own properties", async () => {
  const { text } = await kernel.run(
    'throw Object.assign(new Error("outer", { cause: new TypeError("inner") }), { code: "E_X" })',
  );
  assert.match(text, /code: 'E_X'/);
  assert.match(text, /\[cause\]: TypeError: inner/);
});

test("stacks that cells print are mapped as well", async () => {
  const { reply, text } = await kernel.run('type T = number;\nconsole.log(new Error("printed").stack)');
  assert.match(text, new RegExp(`cell \\[${reply.execution_count}\\]:2:\\d+`));
});

test("an error's stack may be anything", async () => {
  const { reply } = await kernel.run('throw Object.assign(new Error("odd"), { stack: 5 });');
  assert.deepEqual([reply.ename, reply.evalue], ["Error", "odd"]);
  const { text } = await kernel.run('throw Object.assign(new Error("bare"), { stack: "" });');
  assert.match(text, /^Error: bare/m);
});

test("what is thrown need not be an error", async () => {
  const { reply, text } = await kernel.run("throw { odd: true }");
  assert.equal(reply.status, "error");
  assert.match(text, /Uncaught.*odd: true/);
});

test("displays: the convention, the global, tslab's API, updates", async () => {
  const convention = await kernel.run(
    '({ [Symbol.for("Jupyter.display")]: () => ({ "text/html": "<b>x</b>", "image/png": new Uint8Array([1, 2, 3]) }) })',
  );
  const [result] = convention.outputs;
  assert.ok(result?.output_type === "execute_result");
  assert.equal(result.data["text/html"], "<b>x</b>");
  assert.equal(result.data["image/png"], "AQID");

  const shown = await kernel.run(
    'display.markdown("**m**", { displayId: "d1" }); display("t", { displayId: "d1", update: true })',
  );
  assert.deepEqual(types(shown.messages).slice(2, 4), ["display_data", "update_display_data"]);
  assert.deepEqual(shown.messages[2]!.content.transient, { display_id: "d1" });

  const tslab = await kernel.run(
    'import * as tslab from "tslab";\ntslab.display.html("<i>h</i>");\nconst d = tslab.newDisplay(); d.text("one"); d.text("two");',
  );
  assert.equal(tslab.reply.status, "ok", tslab.text);
  assert.deepEqual(types(tslab.messages).slice(2, 5), [
    "display_data",
    "display_data",
    "update_display_data",
  ]);
  assert.deepEqual(tslab.messages[3]!.content.transient, tslab.messages[4]!.content.transient);
});

test("an asynchronous display is out before the cell is over", async () => {
  const { outputs } = await kernel.run(
    'display({ [Symbol.for("Jupyter.display")]: async () => { await new Promise((r) => setTimeout(r, 50)); return { "text/html": "late" }; } }); void 0',
  );
  assert.equal(outputs.length, 1);
});

test("completion and inspection know earlier cells, and count code points", async () => {
  await kernel.run("/** Says hello. */ function greet(name: string): string { return name }");
  const code = "const smile = '😀'; gree";
  const { content } = await kernel.client.request("complete_request", { code, cursor_pos: [...code].length });
  assert.ok((content.matches as string[]).includes("greet"));
  assert.equal(content.cursor_start, [...code].length - 4);
  assert.equal(content.cursor_end, [...code].length);
  const types = (content.metadata as { _jupyter_types_experimental: { text: string; type: string }[] })
    ._jupyter_types_experimental;
  assert.equal(types.find(({ text }) => text === "greet")?.type, "function");

  const inspected = await kernel.client.request("inspect_request", {
    code: "greet",
    cursor_pos: 5,
    detail_level: 0,
  });
  assert.equal(inspected.content.found, true);
  assert.match((inspected.content.data as Record<string, string>)["text/markdown"]!, /Says hello/);
  const nothing = await kernel.client.request("inspect_request", {
    code: "   ",
    cursor_pos: 1,
    detail_level: 0,
  });
  assert.equal(nothing.content.found, false);
});

test("is_complete", async () => {
  const status = async (code: string) =>
    (await kernel.client.request("is_complete_request", { code })).content.status;
  assert.equal(await status("let a = 1"), "complete");
  assert.equal(await status("function f() {"), "incomplete");
  assert.equal(await status("let 1x = 2;"), "invalid");
  // Whoever sets the brace on the next line has not said all.
  for (const head of [
    "function f()",
    "async function f(): Promise<void>",
    "export function f()",
    "export default function ()",
    "function* f()",
    "const f = ()",
    "const f = (a: number): string",
    "const x",
    "class A extends B",
    "if (x)",
  ])
    assert.equal(await status(head), "incomplete", head);
  for (const whole of ["function f();", "declare function f()", "f()", "function f() {}", "let x"])
    assert.equal(await status(whole), "complete", whole);
  for (const wrong of ["const f = () }", "f(]", "1 2"]) assert.equal(await status(wrong), "invalid", wrong);
});

test("nothing completes in comments, strings and regular expressions but what types allow there", async () => {
  await kernel.run('const visitor: any = { named: "x" };');
  const matches = async (code: string) =>
    (await kernel.client.request("complete_request", { code, cursor_pos: code.length })).content.matches;
  assert.deepEqual(await matches("visitor.na"), ["named"]);
  assert.deepEqual(await matches("`${visitor.na"), ["named"]);
  for (const code of [
    "// visitor.na",
    "/* visitor.na",
    '"visitor.na',
    "const s = 'visitor.na",
    "`visitor.na",
    "const r = /visitor.na",
  ])
    assert.deepEqual(await matches(code), [], code);
});

test("exit and quit ask a console to end, unless they are names of the session", async () => {
  const asks = [{ source: "ask_exit", keepkernel: false }];
  for (const code of ["exit", "quit", "exit()", " quit(); "])
    assert.deepEqual((await kernel.run(code)).reply.payload, asks, code);
  await kernel.run('const quit = () => "mine";');
  const { reply, text } = await kernel.run("quit()");
  assert.deepEqual([reply.payload, text], [[], "'mine'"]);
});

test("an AggregateError without a stack shows its message, then where the first of its errors comes from", async () => {
  const { text } = await kernel.run(
    'await Promise.any([Promise.reject(new Error("one")), Promise.reject(new TypeError("two"))])',
  );
  assert.match(
    text,
    /^AggregateError: All promises were rejected\ncell \[\d+\]:1:35\n> 1 \| await .*\n {4}\| +\^\n\{\n {2}\[errors\]: \[\n {4}Error: one\n +at cell \[\d+\]:1:35,\n {4}TypeError: two\n/,
  );
  const own = await kernel.run('throw new AggregateError([new Error("x")], "several");');
  assert.match(own.text, /^AggregateError: several\ncell \[\d+\]:1:7\n/);
});

test("packages and Node itself do not meet the names that cells declare", async () => {
  const packaged = (name: string, code: string) => {
    const folder = join(kernel.folder, "node_modules", name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(
      join(folder, "package.json"),
      `{ "name": "${name}", "type": "module", "exports": "./index.js" }`,
    );
    writeFileSync(join(folder, "index.js"), code);
  };
  // As d3 does; while V8 has not reached a declaration, even typeof throws.
  packaged(
    "looks-around",
    "export const seen = typeof window; export const path = (x) => new URL(x).pathname;",
  );
  const cell = "// @ts-nocheck\nimport { seen, path } from 'looks-around';\nconst window = { own: 1 };\n";
  assert.equal((await kernel.run(`${cell}[seen, window]`)).text, "[ 'undefined', { own: 1 } ]");
  await kernel.run(
    "const URL = 'https://example.com/a'; const performance = 2; class Response { kind = 'own'; }",
  );
  assert.equal(
    (await kernel.run("[path(URL), performance + 1, new Response()]")).text,
    "[ '/a', 3, Response { kind: 'own' } ]",
  );
  assert.match(
    (await kernel.run("await fetch('http://127.0.0.1:9/').catch((e: Error) => e.message)")).text,
    /fetch failed/,
  );
  // Within a scope of its own, a name is what it is there.
  const scoped =
    "(({ URL }: { URL: number }) => { for (const performance of [URL]) return performance + 1; })({ URL: 5 })";
  assert.equal((await kernel.run(scoped)).text, "6");
  assert.equal(
    (await kernel.run("const { URL: other = 1, performance: of = URL } = {} as any; [other, of]")).text,
    "[ 1, 'https://example.com/a' ]",
  );
  assert.equal(
    (await kernel.run("function show() { return { URL }; }\nshow.toString()")).text,
    "'function show() { return { URL }; }'",
  );
  assert.equal(
    (await kernel.run("class Event { static at = URL; }\n[Event.toString(), Event.name]")).text,
    "[ 'class Event { static at = URL; }', 'Event' ]",
  );
  const { reply } = await kernel.run("const n = 1;\n  null! + URL.nothing.more;");
  assert.equal(reply.ename, "TypeScriptError");
  const failed = await kernel.run("// @ts-nocheck\nconst n = 1;\n  URL.nothing.more;");
  assert.match(failed.text, /cell \[\d+\]:3:15/);
});

test("an endless loop is interrupted and variables are kept", async () => {
  await kernel.run("let keep = 42");
  for (const code of [
    'console.log("on"); while (true) {}',
    'console.log("on"); await new Promise(() => {})',
    'console.log("on"); await null; for (;;) {}',
    'const spin = (): number => { for (;;) {} }; console.log("on"); spin()',
  ]) {
    const { reply } = await interrupted(kernel, code);
    assert.equal(reply.status, "error", code);
    assert.equal(reply.ename, "KeyboardInterrupt", code);
  }
  assert.equal((await kernel.run("keep")).text, "42");
});

test("an interrupt ends user expressions that are never done, and variables are kept", async () => {
  await kernel.run("const before = 5");
  // The cell itself is over once its text is out.
  const never = '({ [Symbol.for("Jupyter.display")]: () => new Promise(() => {}) })';
  const { reply } = await interrupted(kernel, 'console.log("expressions follow")', {
    userExpressions: { never },
  });
  assert.deepEqual([reply.status, reply.ename], ["error", "KeyboardInterrupt"]);
  assert.deepEqual(reply.user_expressions, {});
  assert.equal((await kernel.run("before")).text, "5");
});

test("glibc's allocator settings are in force where cells run", async () => {
  const { text } = await kernel.run(
    '["MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"].map((name) => Number(process.env[name]))',
  );
  const [mmap, trim, pad] = JSON.parse(text) as number[];
  assert.equal(mmap, 0);
  assert.ok(trim! > 2 ** 30 && pad! > 2 ** 20);
});

test("an error nobody caught is reported and the kernel lives on", async () => {
  const { text, reply } = await kernel.run(
    'setTimeout(() => { throw new Error("in a timer") }, 5); Promise.reject(new Error("in a promise")); await new Promise((r) => setTimeout(r, 100)); "alive"',
  );
  assert.equal(reply.status, "ok");
  assert.match(text, /in a promise/);
  assert.match(text, /in a timer/);
  assert.match(text, /alive/);
});

test("an executor that exits fails its cell and is replaced", async () => {
  const { reply } = await kernel.run('console.log("bye"); process.exit(3)');
  assert.equal(reply.status, "error");
  assert.match(reply.evalue!, /exit code 3/);
  const after = await kernel.run("typeof keep");
  assert.equal(after.reply.status, "error"); // forgotten, also by the type checker
  assert.equal((await kernel.run("1 + 1")).text, "2");
});
