/**
 * What cells read: `readline` and `process.stdin` ask the reader of the notebook.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startKernel } from "./support.js";

const kernel = await startKernel();

/** Runs a cell and gives it one answer after the other; what was asked stands before what was printed. */
async function answered(code: string, answers: (string | null)[]) {
  let asked = 0;
  const ran = await kernel.run(code, {
    onInput: () => {
      asked += 1;
      const answer = answers[asked - 1];
      return answer === undefined ? new Promise<string>(() => undefined) : (answer as string);
    },
  });
  return { ...ran, asked };
}

test("readline's question is an input request, as many as there are questions", async () => {
  const { text, asked } = await answered(
    'import * as readline from "node:readline/promises"; const rl = readline.createInterface({ input: process.stdin, output: process.stdout });\n' +
      'const first = await rl.question("name? "); await new Promise((r) => setTimeout(r, 100)); const second = await rl.question("age? "); [first, second]',
    ["Ada", "36", "nobody asked"],
  );
  assert.equal(text, "name? age? [ 'Ada', '36' ]");
  assert.equal(asked, 2);
});

test("an interface of an earlier cell asks again, and asks nothing in other cells", async () => {
  const other = await answered("await new Promise((r) => setTimeout(r, 100)); 'quiet'", ["nobody asked"]);
  assert.deepEqual([other.text, other.asked], ["'quiet'", 0]);
  const { text, asked } = await answered('await rl.question("again? ")', ["yes", "nobody asked"]);
  assert.deepEqual([text, asked], ["again? 'yes'", 1]);
  await kernel.run("rl.close()");
});

test("readline with callbacks, named imports and require", async () => {
  const named = await answered(
    'import { createInterface } from "node:readline"; import { stdin as input, stdout as output } from "node:process"; const named = createInterface({ input, output });\n' +
      'const heard = await new Promise<string>((r) => named.question("who? ", r)); named.close(); heard',
    ["me", "nobody asked"],
  );
  assert.deepEqual([named.text, named.asked], ["who? 'me'", 1]);
  const required = await answered(
    'const r2 = require("readline").createInterface({ input: process.stdin }); const line = await new Promise((r) => r2.once("line", r)); r2.close(); line',
    ["a line", "nobody asked"],
  );
  assert.deepEqual([required.text, required.asked], ["'a line'", 1]);
});

test("lines one by one, until the reader ends them", async () => {
  const { text } = await answered(
    'import readline from "node:readline"; const lines: string[] = []; const rl3 = readline.createInterface({ input: process.stdin }); for await (const line of rl3) { lines.push(line); if (line === "end") break; } lines',
    ["one", "two", "end"],
  );
  assert.equal(text, "[ 'one', 'two', 'end' ]");
});

test("process.stdin is a stream: once, data, for await", async () => {
  const data = await answered(
    'const chunk = await new Promise<Buffer>((r) => process.stdin.once("data", r)); process.stdin.pause(); String(chunk)',
    ["typed", "nobody asked"],
  );
  assert.deepEqual([data.text, data.asked], ["'typed\\n'", 1]);
  const iterated = await answered(
    'let all = ""; for await (const part of process.stdin) { all += part; if (all.includes("done")) break; } all',
    ["some", "done"],
  );
  assert.equal(iterated.text, "'some\\ndone\\n'");
  const again = await answered(
    'const once = await new Promise((r) => process.stdin.once("data", r)); process.stdin.pause(); String(once)',
    ["still there"],
  );
  assert.equal(again.text, "'still there\\n'");
});

test("a loop over process.stdin that is left is no error of a reader that is still open", async () => {
  const { text, reply } = await answered(
    'const open = readline.createInterface({ input: process.stdin }); const heard: unknown[] = []; open.on("error", (error) => heard.push(error));\n' +
      "for await (const part of process.stdin) break;\n" +
      "await new Promise((r) => setImmediate(r)); open.close(); heard", // errors are emitted in the next tick
    ["a line"],
  );
  assert.deepEqual([reply.status, text], ["ok", "[]"]);
});

test("where nobody can answer, the cell fails instead of waiting for ever", async () => {
  const { reply } = await kernel.run(
    'import * as rlp from "node:readline/promises"; const rl5 = rlp.createInterface({ input: process.stdin }); await rl5.question("?")',
  );
  assert.equal(reply.status, "error");
  assert.match(reply.evalue!, /does not take input/);
  await kernel.run("rl5.close()");
});

test("a cell that waits for a line can be interrupted", async () => {
  const { reply } = await kernel.run(
    'const rl6 = rlp.createInterface({ input: process.stdin }); await rl6.question("?")',
    {
      onInput: () => {
        setTimeout(() => void kernel.client.interrupt(), 50);
        return new Promise<string>(() => undefined);
      },
    },
  );
  assert.equal(reply.ename, "KeyboardInterrupt");
  await kernel.run("rl6.close()");
  const { text } = await answered(
    'const rl7 = rlp.createInterface({ input: process.stdin }); await rl7.question("?")',
    ["after"],
  );
  assert.equal(text, "'after'");
});

test("a prompt after its cell is over is refused", async () => {
  let asked = 0;
  const options = {
    onInput: () => {
      asked += 1;
      return "too late";
    },
  };
  await kernel.run(
    'let late: unknown; setTimeout(() => { try { late = prompt("late?"); } catch (error) { late = (error as Error).message; } }, 20);',
    options,
  );
  // A cell would have been one that can answer.
  for (;;) {
    const { text } = await kernel.run("late");
    if (text === "undefined" || text === "") continue;
    assert.match(text, /over|does not take input/);
    break;
  }
  assert.equal(asked, 0);
});
