import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { withLock } from "../../../src/files/lock.js";

const children = new Set<ChildProcess>();
let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "firstframe-lock-"));
});
after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

/** A process that takes the lock and keeps it until it reads a line. */
async function holder(path: string): Promise<ChildProcess> {
  const module = new URL("../../../src/files/lock.js", import.meta.url).href;
  const code = `
    import { once } from "node:events";
    import { withLock } from ${JSON.stringify(module)};
    await withLock(process.argv[1], { busy: "makes it", log: console.error }, async () => {
      console.log("has it");
      await once(process.stdin, "data");
    });
    process.exit(0);`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code, path], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  children.add(child);
  await once(child.stdout!, "data");
  return child;
}

describe("a lock", () => {
  it("is waited for, and whoever waits is told for whom", async () => {
    const path = join(folder, "waited", "for");
    const other = await holder(path);
    const lines: string[] = [];
    const log = (line: string) => {
      lines.push(line);
      other.stdin!.write("enough\n");
    };
    assert.equal(await withLock(path, { busy: "makes it", log }, async () => "done"), "done");
    assert.deepEqual(lines, [`another process makes it; waiting for process ${other.pid}`]);
    assert.deepEqual(readdirSync(join(folder, "waited")), []);
  });

  it("that a killed process held is taken over, and nothing of it is left", async () => {
    const path = join(folder, "killed", "for");
    const other = await holder(path);
    other.kill("SIGKILL");
    await once(other, "close");
    assert.deepEqual(readdirSync(join(folder, "killed")).sort(), ["for.lock", "for.lock-owner"]);
    const lines: string[] = [];
    await withLock(path, { busy: "makes it", log: (line) => lines.push(line) }, async (lock) => {
      lock.assertHeld();
      assert.ok(!lock.signal.aborted);
    });
    assert.deepEqual(lines, [`another process makes it; waiting for process ${other.pid}`]);
    assert.deepEqual(readdirSync(join(folder, "killed")), []);
  });

  it("is the same by every name of its folder, and given back when its work fails", async () => {
    const real = mkdtempSync(join(folder, "real-"));
    symlinkSync(real, join(folder, "link"));
    const failing = withLock(join(folder, "link"), { busy: "fails", log: assert.fail }, async () => {
      assert.deepEqual(
        readdirSync(folder).filter((name) => name.includes(".lock")),
        [`${real}.lock`, `${real}.lock-owner`].map((path) => path.slice(folder.length + 1)),
      );
      throw new Error("no more");
    });
    await assert.rejects(failing, /no more/);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes(".lock")),
      [],
    );
  });
});
