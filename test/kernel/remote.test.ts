/**
 * The thread that reads TypeScript, from the server's side.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RemoteLanguage } from "../../kernel/language/remote.js";

test("what waits behind a text that keeps the thread busy is done by the next thread", async () => {
  const language = new RemoteLanguage(process.cwd());
  // The thread alone keeps no process alive.
  const alive = setInterval(() => undefined, 1000);
  try {
    // Longer than anybody who interrupts waits. The status is unknown if the thread is replaced meanwhile.
    const long = [1, 2].map((i) => language.isComplete(`[${"1,".repeat(3_000_000)}${i}]`));
    const script = language.transform({ id: "1", count: 1, code: "const answer: number = 6 * 7; answer" });
    const broken = language.transform({ id: "2", count: 2, code: "const = 5" });
    broken.catch(() => undefined);
    language.interrupt();
    assert.match((await script).code, /6 \* 7/);
    await assert.rejects(broken, { name: "SyntaxError" });
    for (const { status } of await Promise.all(long)) assert.match(status, /^(?:complete|unknown)$/);
  } finally {
    await language.dispose();
    language.killCompiler();
    clearInterval(alive);
  }
});
