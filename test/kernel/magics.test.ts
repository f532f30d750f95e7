import assert from "node:assert/strict";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseMagics } from "../../kernel/server/magics.js";
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
  assert.throws(() => parseMagics("%nothing"), /unknown magic %nothing; %help lists them/);
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
  for (const name of ["%time", "%timeit", "%install", "%check", "%%bash", "??"])
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
