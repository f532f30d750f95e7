import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseMagics } from "../../kernel/language/magics.js";
import { startKernel } from "./support.js";

const kernel = await startKernel();

test("what is taken out of a cell leaves lines and columns where they were", () => {
  for (const code of [
    "%time let a = 1;\nlet b = 2;",
    "%install x\n%check off\nimport 'x'",
    "%timeit -n 2 -r 3 f()",
    "1 + 1",
  ]) {
    const parsed = parseMagics(code);
    assert.equal(parsed.code.length, code.length);
    const rest = parsed.code.trim();
    assert.equal(parsed.code.indexOf(rest), code.indexOf(rest), code);
  }
  assert.deepEqual(parseMagics("%timeit -n 2 -r 3 f()").timeit, { number: 2, runs: 3 });
  assert.deepEqual(parseMagics("a.b??").inspect, { code: "a.b", detail: 1 });
  assert.equal(parseMagics("a ? b : c").inspect, undefined);
  assert.throws(
    () => parseMagics("%matplotlib inline"),
    /unknown magic %matplotlib; there are %time, .*%%html, .*%help and !COMMAND/,
  );
  assert.throws(() => parseMagics("%html x"), /expected %%html as the cell's first line, found %html/);
  assert.throws(() => parseMagics("%env 1=2"), /expected NAME, NAME=VALUE or nothing, found "1=2"/);
  assert.throws(() => parseMagics("%%writefile"), /expected %%writefile FILE/);
  assert.throws(() => parseMagics("%check maybe"), /expected before, warn, off, found "maybe"/);
  assert.throws(() => parseMagics("%install"), /names of npm packages/);
});

test("%time says how long the cell took, and keeps its result and names", async () => {
  const { text } = await kernel.run("%time let timed = 0; for (let i = 0; i < 1e5; i++) timed += i; timed");
  assert.match(text, /^CPU times: user .*\nWall time: [\d.]+ (ns|µs|ms|s)\n4999950000$/);
  assert.equal((await kernel.run("timed")).text, "4999950000");
});

test("%timeit measures, also what awaits", async () => {
  const { text } = await kernel.run("%timeit -n 10 -r 2 Math.sqrt(2)");
  assert.match(text, /^[\d.]+ \S+ ± [\d.]+ \S+ per loop \(mean ± std\. dev\. of 2 runs, 10 loops each\)\n$/);
  const awaited = await kernel.run("%timeit -n 2 -r 2 await new Promise((r) => setTimeout(r, 20))");
  const [, mean, unit] = /^([\d.]+) (ms|s) /.exec(awaited.text)!;
  assert.ok(Number(mean) * (unit === "s" ? 1000 : 1) > 19, awaited.text);
  const { reply } = await kernel.run("%timeit -n 1 -r 1 const s: string = 5");
  assert.match(reply.evalue!, /TS2322/);
});

test("%%bash runs a script, with its output and exit code", async () => {
  const { outputs, reply } = await kernel.run(
    "%%bash\nfor i in 1 2; do echo $i; done\necho wrong >&2\nexit 3",
  );
  assert.deepEqual(
    outputs.slice(0, 2).map((output) => output.output_type === "stream" && [output.name, output.text]),
    [
      ["stdout", "1\n2\n"],
      ["stderr", "wrong\n"],
    ],
  );
  assert.match(reply.evalue!, /exit code 3/);
});

test("a line that begins with ! is a command, unless it can only be code, or names what a cell has declared", async () => {
  const { text } = await kernel.run(
    "!echo $((6 * 7)) && echo 'a  b'\n!echo one \\\n  two\nconst afterwards = 3;\nafterwards",
  );
  assert.equal(text, "42\na  b\none two\n3");
  const command = (line: string) => parseMagics(line).first.length === 1;
  for (const line of [
    "!ls",
    "!ls -la",
    "!git status",
    "!./run.sh",
    "!~/run",
    "!/usr/bin/env node",
    "!A=1 make",
    "!cat 'x y'",
  ])
    assert.ok(command(line), line);
  for (const line of [
    "!f(1)",
    "!/a/.test(s)",
    "!!x",
    "!(a && b)",
    "!['a'].length",
    "!a in b",
    "!`x`",
    "!'x'",
  ])
    assert.ok(!command(line), line);
  assert.equal((await kernel.run("let ready = false;\n!ready")).text, "true");
  assert.equal((await kernel.run("!ready")).text, "true");
  assert.equal((await kernel.run("!ready && 'so it is'")).text, "'so it is'");
  const failed = await kernel.run("!exit 4\nconst notRun = 1;");
  assert.match(failed.reply.evalue!, /exit code 4/);
  assert.match((await kernel.run("typeof notRun")).text, /notRun|undefined/);
  const status = await kernel.client.request("is_complete_request", { code: "!git status" });
  assert.equal(status.content.status, "complete");
});

test("a line of %bash leaves the rest of its cell", async () => {
  assert.equal((await kernel.run("%bash echo one\nconst kept = 2;\nkept")).text, "one\n2");
});

test("%cd and %pwd: commands and files go there, imports stay the notebook's", async () => {
  mkdirSync(join(kernel.folder, "sub"), { recursive: true });
  writeFileSync(join(kernel.folder, "here.ts"), "export const here = 1;");
  const sub = join(realpathSync(kernel.folder), "sub");
  assert.equal((await kernel.run("%cd sub\n%pwd\n!pwd")).text, `${sub}\n${sub}\n${sub}\n`);
  assert.equal(
    (await kernel.run('import { here } from "./here.ts";\n[here, process.cwd()]')).text,
    `[ 1, '${sub}' ]`,
  );
  assert.equal((await kernel.run("%cd -")).text, `${realpathSync(kernel.folder)}\n`);
  assert.match((await kernel.run("%cd nowhere")).text, /%cd: can't go to nowhere: ENOENT/);
});

test("%env sets, reads and lists variables, but tells no secrets", async () => {
  assert.equal(
    (await kernel.run("%env FF_PLACE=a b\nprocess.env.FF_PLACE")).text,
    "env: FF_PLACE=a b\n'a b'",
  );
  assert.equal(
    (await kernel.run("%env FF_TOKEN hidden!\n!echo $FF_TOKEN")).text,
    "env: FF_TOKEN=hidden!\nhidden!\n",
  );
  assert.equal((await kernel.run("%env FF_PLACE")).text, "a b\n");
  const { text } = await kernel.run("%env");
  assert.match(text, /^FF_PLACE=a b$/m);
  assert.match(text, /^FF_TOKEN=<hidden>$/m);
  assert.match((await kernel.run("%env FF_MISSING")).text, /no environment variable FF_MISSING/);
});

test("%%html and its like show the cell's text, %%writefile keeps it", async () => {
  for (const [name, type] of [
    ["html", "text/html"],
    ["markdown", "text/markdown"],
    ["latex", "text/latex"],
    ["svg", "image/svg+xml"],
    ["js", "application/javascript"],
  ] as const) {
    const { outputs } = await kernel.run(`%%${name}\n<b>1</b>\n2`);
    const [shown] = outputs;
    assert.ok(shown?.output_type === "display_data");
    assert.equal(shown.data[type], "<b>1</b>\n2");
  }
  const file = join(kernel.folder, "written.txt");
  assert.equal((await kernel.run(`%%writefile ${file}\na\nb\n`)).text, `wrote ${file}\n`);
  await kernel.run(`%%writefile -a ${file}\nc`);
  assert.equal(readFileSync(file, "utf8"), "a\nb\nc");
  assert.match((await kernel.run(`%%writefile ${file}\nd`)).text, /^overwrote/);
  assert.match((await kernel.run(`%%writefile ${file}/x\nd`)).text, /can't write .*x: /);
});

test("_ is the last result, until a cell gives it to something else", async () => {
  await kernel.run("6 * 7");
  await kernel.run("const quiet = 1;");
  assert.equal((await kernel.run("_ / 2")).text, "21");
  assert.equal((await kernel.run("_ + 1")).text, "22");
  assert.equal((await kernel.run("const [_, second] = [1, 2];\n[_, second]")).text, "[ 1, 2 ]");
  assert.equal((await kernel.run("100")).text, "100");
  assert.equal((await kernel.run("_")).text, "1");
});

test("%install installs, and the rest of the cell can import", async () => {
  const folder = join(kernel.folder, "made-here");
  mkdirSync(folder);
  writeFileSync(
    join(folder, "package.json"),
    '{ "name": "made-here", "version": "1.0.0", "type": "module", "exports": "./index.js", "types": "./index.d.ts" }',
  );
  writeFileSync(join(folder, "index.js"), "export const made = 'here';");
  writeFileSync(join(folder, "index.d.ts"), "export declare const made: string;");
  writeFileSync(join(kernel.folder, "package.json"), '{ "name": "notebook", "private": true }');
  const { text, reply } = await kernel.run('%install ./made-here\nimport { made } from "made-here";\nmade');
  assert.equal(reply.status, "ok", text);
  assert.match(text, /npm install \.\/made-here: done in/);
  assert.match(text, /'here'$/);
  assert.ok(existsSync(join(kernel.folder, "node_modules", "made-here")));
  const missing = await kernel.run("%install ./not-there");
  assert.equal(missing.reply.status, "error");
  assert.match(missing.text, /not-there/);
});

test("%check: before, warn, off", async () => {
  const wrong = 'const n: number = "text"; n';
  assert.equal((await kernel.run(wrong)).reply.status, "error");
  const warned = await kernel.run(`%check warn\n${wrong}`);
  assert.equal(warned.reply.status, "ok");
  assert.match(warned.text, /TS2322[\s\S]*'text'$/);
  const off = await kernel.run(`%check off\n${wrong}`);
  assert.equal(off.text, "'text'");
  await kernel.run("%check before");
  assert.equal((await kernel.run(wrong)).reply.status, "error");
  assert.equal((await kernel.run(`// @ts-nocheck\n${wrong}`)).text, "'text'");
});

test("%help lists them, and front ends take them for complete cells", async () => {
  const { text } = await kernel.run("%help");
  for (const name of [
    "%time",
    "%timeit",
    "%install",
    "%check",
    "%%bash",
    "!COMMAND",
    "%env",
    "%cd",
    "%%html",
    "??",
  ])
    assert.ok(text.includes(name), name);
  const status = async (code: string) =>
    (await kernel.client.request("is_complete_request", { code })).content.status;
  assert.equal(await status("%time 1 + 1"), "complete");
  assert.equal(await status("%time f("), "incomplete");
  for (const question of ["Math.max?", "??Math"]) assert.equal(await status(question), "complete");
});

test("members of a value whose type is any are completed from the value", async () => {
  await kernel.run(
    "const loose: any = { alphabet: 1, alpha() {}, get trap(): number { throw new Error('not to be run') } }",
  );
  const { content } = await kernel.client.request("complete_request", { code: "loose.al", cursor_pos: 8 });
  assert.deepEqual((content.matches as string[]).sort(), ["alpha", "alphabet"]);
  assert.deepEqual([content.cursor_start, content.cursor_end], [6, 8]);
});
