/**
 * TypeScript's compiler is a process that can be stopped, die, or never start. Cells then run without it, which is said
 * once; completions are none; and it is replaced.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startKernel, TestKernel } from "./support.js";

const linux = process.platform === "linux" ? false : "needs /proc to tell that a process is stopped";

/** The processes whose parent is a kernel's server and whose command names the compiler. */
function compilersOf(kernel: TestKernel): number[] {
  const list = execFileSync("ps", ["-A", "-o", "pid=,ppid=,stat=,args="], { encoding: "utf8" });
  return list.split("\n").flatMap((line) => {
    const [pid, parent, state, ...command] = line.trim().split(/\s+/);
    const ours = Number(parent) === kernel.client.process!.pid && command.join(" ").includes("--lsp");
    return ours && !state!.startsWith("Z") ? [Number(pid)] : [];
  });
}

/** The one that answers: one that was replaced may be there for a moment more. */
async function compilerOf(kernel: TestKernel): Promise<number> {
  for (;;) {
    const [pid, ...others] = compilersOf(kernel);
    if (pid !== undefined && others.length === 0) return pid;
    await sleep(50);
  }
}

const stateOf = (pid: number) => /^State:\s+(\w)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];

/** Stops the compiler. On a busy machine its threads may go on for a while after the signal. */
async function stopCompilerOf(kernel: TestKernel): Promise<number> {
  // After a cell it is asked for types, which nobody waits for; once it has answered a later question, it is at rest.
  await kernel.client.request("inspect_request", { code: "Array", cursor_pos: 2, detail_level: 0 });
  const pid = await compilerOf(kernel);
  process.kill(pid, "SIGSTOP");
  while (stateOf(pid) !== "T") await sleep(5);
  return pid;
}

const unchecked = /types were not checked: the TypeScript compiler /g;
const wrong = "const wrong: string = 5; typeof wrong";

async function isChecked(kernel: TestKernel): Promise<void> {
  const { reply } = await kernel.run(wrong);
  assert.equal(reply.ename, "TypeScriptError");
}

test("a stopped compiler is replaced by one that knows the session's cells", { skip: linux }, async () => {
  const kernel = await startKernel();
  await kernel.run("const known: number[] = [1]; interface Known { a: string }");
  for (let time = 1; time <= 3; time++) {
    const pid = await stopCompilerOf(kernel);
    const first = kernel.run(wrong);
    const second = kernel.run("known.length");
    // Said once, and both ran.
    const texts = [(await first).text, (await second).text];
    assert.equal(texts.join("\n").match(unchecked)?.length, 1, texts.join("\n"));
    assert.match(texts[0]!, /was stopped and is replaced/);
    assert.match(texts[0]!, /'number'/);
    assert.match(texts[1]!, /1/);
    await isChecked(kernel);
    assert.equal((await kernel.run("const again: Known = { a: String(known.length) }; again.a")).text, "'1'");
    assert.notEqual(await compilerOf(kernel), pid);
  }
});

test("with a stopped compiler, completion and inspection have no answer, but are answered", {
  skip: linux,
}, async () => {
  const kernel = await startKernel();
  await kernel.run("const list = [1]");
  await stopCompilerOf(kernel);
  const completed = kernel.client.request("complete_request", { code: "list.le", cursor_pos: 7 });
  const inspected = kernel.client.request("inspect_request", {
    code: "list",
    cursor_pos: 4,
    detail_level: 0,
  });
  // Everything else is answered meanwhile.
  await kernel.client.request("kernel_info_request", {});
  const { content: complete } = await kernel.client.request("is_complete_request", { code: "for (;;) {" });
  assert.equal(complete.status, "incomplete");
  assert.equal((await completed).content.status, "ok");
  assert.equal((await inspected).content.status, "ok");
  const { content } = await kernel.client.request("complete_request", { code: "list.le", cursor_pos: 7 });
  assert.deepEqual(content.matches, ["length"]);
});

test("an interrupt ends a cell that waits for a stopped compiler", { skip: linux }, async () => {
  const kernel = await startKernel();
  await kernel.run("1");
  await stopCompilerOf(kernel);
  // It does not end by itself either, if the machine is so busy that the compiler is replaced first.
  const cell = kernel.run("await new Promise(() => {})");
  await kernel.client.request("kernel_info_request", {});
  await kernel.client.interrupt();
  assert.equal((await cell).reply.ename, "KeyboardInterrupt");
  assert.match((await kernel.run("3")).text, /3/);
});

test("a kernel that is shut down leaves no stopped compiler behind", { skip: linux }, async () => {
  const kernel = new TestKernel();
  await kernel.start();
  await kernel.run("1");
  const pid = await stopCompilerOf(kernel);
  await kernel.stop();
  while (existsSync(`/proc/${pid}`) && stateOf(pid) !== "Z") await sleep(50);
});

test("a compiler that is killed is started again, and the cell is checked", async () => {
  const kernel = await startKernel();
  await kernel.run("const known = 1");
  for (let time = 1; time <= 3; time++) {
    process.kill(await compilerOf(kernel), "SIGKILL");
    const { text } = await kernel.run(`known + ${time}`);
    assert.equal(text, String(1 + time));
    await isChecked(kernel);
  }
});

/** An installation of the kernel whose compiler is another program; null for none. */
function installation(program: string | null): { folder: string; main: string } {
  const packageRoot = fileURLToPath(new URL("../../../", import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), "firstframe-compiler-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const modules = join(packageRoot, "node_modules");
  const own = join(folder, "node_modules");
  mkdirSync(own);
  for (const name of readdirSync(modules))
    if (name !== "typescript" && name !== "@typescript") symlinkSync(join(modules, name), join(own, name));
  cpSync(join(modules, "typescript"), join(own, "typescript"), { recursive: true });
  for (const name of program === null ? [] : readdirSync(join(modules, "@typescript"))) {
    const platform = join(own, "@typescript", name);
    mkdirSync(join(platform, "lib"), { recursive: true });
    cpSync(join(modules, "@typescript", name, "package.json"), join(platform, "package.json"));
    writeFileSync(join(platform, "lib", "tsc"), program!);
    chmodSync(join(platform, "lib", "tsc"), 0o755);
  }
  cpSync(join(packageRoot, "package.json"), join(folder, "package.json"));
  cpSync(join(packageRoot, "dist", "kernel"), join(folder, "dist", "kernel"), { recursive: true });
  cpSync(join(packageRoot, "kernel"), join(folder, "kernel"), { recursive: true });
  return { folder, main: join(folder, "dist", "kernel", "main.js") };
}

for (const [what, program, reason] of [
  ["is not there", null, /could not be started: Unable to resolve/],
  [
    "is no program",
    "\x7fELF no program",
    // execvp has the shell read it, which finds no program in it either
    /could not be started: spawn (?:ENOEXEC|EACCES|Unknown system error)|ended with code 12[67]/,
  ],
  ["ends at start", "#!/bin/sh\nexit 3\n", /ended with code 3/],
  ["crashes at start", "#!/bin/sh\nkill -SEGV $$\n", /ended with SIGSEGV/],
  [
    "crashes at the first question",
    "#!/bin/sh\nhead -c 100 >/dev/null\nkill -ABRT $$\n",
    /ended with SIGABRT/,
  ],
  ["loops", "#!/bin/sh\nwhile :; do :; done\n", /did not answer within 3 s and is replaced/],
  ["says nothing", "#!/bin/sh\nexec sleep 1000000\n", /did not answer within 3 s and is replaced/],
  [
    "talks nonsense",
    "#!/bin/sh\nyes 'Content-Length: x' &\nexec sleep 1000000\n",
    /did not answer within 3 s and is replaced/,
  ],
  ["stops itself", "#!/bin/sh\nkill -STOP $$\n", /(?:did not answer within 3 s|was stopped) and is replaced/],
] as const) {
  test(`a compiler that ${what}`, { skip: process.platform === "win32" }, async () => {
    const { main } = installation(program);
    const kernel = new TestKernel();
    await kernel.start(
      { FIRSTFRAME_CHECK_TIMEOUT: "3" },
      { wrap: (argv) => [argv[0]!, main, ...argv.slice(2)] },
    );
    try {
      const { text } = await kernel.run("const x: number = 41; x + 1");
      assert.match(text, reason);
      assert.match(text, /42/);
      // What is wrong has been said; cells go on, with what they declared.
      assert.equal((await kernel.run("x")).text, "41");
      const { content } = await kernel.client.request("complete_request", { code: "x.to", cursor_pos: 4 });
      assert.equal(content.status, "ok");
      const { content: found } = await kernel.client.request("inspect_request", {
        code: "x",
        cursor_pos: 1,
        detail_level: 0,
      });
      assert.deepEqual([found.status, found.found], ["ok", false]);
      // What is no TypeScript is found all the same.
      assert.equal((await kernel.run("const = 5")).reply.ename, "SyntaxError");
      assert.equal((await kernel.run("throw new Error('mine')")).reply.evalue, "mine");
    } finally {
      await kernel.stop();
    }
  });
}
