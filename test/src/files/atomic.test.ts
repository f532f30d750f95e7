import assert from "node:assert/strict";
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import {
  replaceFolderAtomic,
  writeAtomically,
  writeFileAtomic,
  writeFolderAtomic,
} from "../../../src/files/atomic.js";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-atomic-"));
});
after(() => rm(folder, { recursive: true, force: true }));

const at = (...names: string[]) => join(folder, ...names);

describe("a file", () => {
  it("keeps its mode, and a link stays one, however it is written", async () => {
    await writeFile(at("real.txt"), "old");
    await chmod(at("real.txt"), 0o640);
    await symlink("real.txt", at("link.txt"));
    await writeFileAtomic(at("link.txt"), "new");
    assert.ok((await lstat(at("link.txt"))).isSymbolicLink());
    assert.equal(await readFile(at("real.txt"), "utf8"), "new");
    assert.equal((await stat(at("real.txt"))).mode & 0o777, 0o640);
    await writeAtomically(at("link.txt"), async (file) => {
      await file.write("in two ");
      await file.write("parts");
    });
    assert.ok((await lstat(at("link.txt"))).isSymbolicLink());
    assert.equal(await readFile(at("real.txt"), "utf8"), "in two parts");
    assert.equal((await stat(at("real.txt"))).mode & 0o777, 0o640);
  });

  it("stays as it was when writing fails, and nothing is left beside it", async () => {
    await mkdir(at("failing"));
    await writeFile(at("failing", "a.txt"), "old");
    const failing = writeAtomically(at("failing", "a.txt"), async (file) => {
      await file.write("half");
      throw new Error("no more");
    });
    await assert.rejects(failing, /no more/);
    await assert.rejects(
      writeAtomically(at("failing"), async () => {}),
      { code: "EISDIR" },
    );
    assert.equal(await readFile(at("failing", "a.txt"), "utf8"), "old");
    assert.deepEqual(await readdir(at("failing")), ["a.txt"]);
  });
});

describe("a folder", () => {
  const fill = (text: string) => (path: string) => writeFile(join(path, "a.txt"), text);

  it("is there when it is whole, also by a name with a slash at its end", async () => {
    await writeFolderAtomic(`${at("deep", "made")}/`, fill("all"));
    assert.equal(await readFile(at("deep", "made", "a.txt"), "utf8"), "all");
    assert.deepEqual(await readdir(at("deep")), ["made"]);
  });

  it("takes no place that is taken, and leaves nothing on failure", async () => {
    await writeFolderAtomic(at("taken"), fill("first"));
    await assert.rejects(writeFolderAtomic(at("taken"), fill("second")));
    const cut = async (path: string) => {
      await fill("half")(path);
      throw new Error("no more");
    };
    await assert.rejects(writeFolderAtomic(at("cut"), cut), /no more/);
    assert.equal(await readFile(at("taken", "a.txt"), "utf8"), "first");
    assert.deepEqual(
      (await readdir(folder)).filter((name) => /cut|taken./.test(name)),
      [],
    );
  });

  it("takes the place of another one when it is whole, and leaves the other one on failure", async () => {
    await replaceFolderAtomic(at("replaced", "a"), fill("first"));
    await writeFile(at("replaced", "a", "only-in-the-first.txt"), "");
    const half = async (path: string) => {
      await fill("half")(path);
      assert.deepEqual(
        (await readdir(at("replaced"))).filter((name) => !name.startsWith(".")),
        ["a"],
        "what is not whole is hidden",
      );
      throw new Error("no more");
    };
    await assert.rejects(replaceFolderAtomic(at("replaced", "a"), half), /no more/);
    assert.equal(await readFile(at("replaced", "a", "a.txt"), "utf8"), "first");
    await replaceFolderAtomic(at("replaced", "a"), fill("second"));
    assert.deepEqual(await readdir(at("replaced", "a")), ["a.txt"]);
    assert.equal(await readFile(at("replaced", "a", "a.txt"), "utf8"), "second");
    assert.deepEqual(await readdir(at("replaced")), ["a"]);
  });
});
