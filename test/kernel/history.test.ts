/**
 * History is a convenience: whatever is the matter with its file, cells run, and it is said once.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type Libsql from "libsql";
import { startKernel, TestKernel } from "./support.js";

const Database = createRequire(import.meta.url)("libsql") as typeof Libsql;

async function entries(kernel: TestKernel, content: object): Promise<string[]> {
  const reply = await kernel.client.request("history_request", { raw: true, output: false, ...content });
  assert.equal(reply.content.status, "ok");
  return (reply.content.history as [number, number, string][]).map(([, , source]) => source);
}

const tail = { hist_access_type: "tail", n: 100 };

/** Runs two cells, and asks for them. */
async function cellsRun(kernel: TestKernel): Promise<void> {
  for (const code of ["'one'", "'two'"]) {
    const { reply, text } = await kernel.run(code);
    assert.equal(reply.status, "ok");
    assert.equal(text, code);
    assert.ok((await entries(kernel, tail)).includes(code));
  }
}

function linesAbout(kernel: TestKernel): string[] {
  return kernel.log.split("\n").filter((line) => line.includes("history"));
}

/** A file of an earlier session, with some pages of cells. */
function oldHistory(file: string): void {
  const database = new Database(file);
  database.exec(`
    CREATE TABLE sessions (session INTEGER PRIMARY KEY AUTOINCREMENT, started TEXT NOT NULL, ended TEXT);
    CREATE TABLE history (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, line INTEGER NOT NULL, source TEXT NOT NULL, output TEXT);
    CREATE INDEX history_lines ON history (session, line);
    INSERT INTO sessions (started) VALUES (datetime('now'));`);
  const insert = database.prepare("INSERT INTO history (session, line, source) VALUES (1, ?, ?)");
  database.exec("BEGIN");
  for (let line = 1; line <= 500; line++) insert.run(line, `earlier ${line} ${"x".repeat(200)}`);
  database.exec("COMMIT");
  database.close();
}

const damage: readonly [what: string, make: (file: string) => void][] = [
  ["garbage", (file) => writeFileSync(file, "no database ".repeat(1000))],
  ["a few bytes", (file) => writeFileSync(file, "xyz")],
  [
    "a truncated file",
    (file) => {
      oldHistory(file);
      truncateSync(file, 20_000);
    },
  ],
  [
    "a file with pages overwritten",
    (file) => {
      oldHistory(file);
      const bytes = readFileSync(file);
      bytes.fill(0xff, 4096, bytes.length);
      writeFileSync(file, bytes);
    },
  ],
  [
    "a database with other columns",
    (file) => {
      const database = new Database(file);
      database.exec(
        "CREATE TABLE history (cell TEXT); CREATE TABLE sessions (session INTEGER, started TEXT)",
      );
      database.close();
    },
  ],
  [
    "a database with views of these names",
    (file) => {
      const database = new Database(file);
      database.exec("CREATE VIEW history AS SELECT 1 AS id; CREATE VIEW sessions AS SELECT 1 AS session");
      database.close();
    },
  ],
];

for (const [what, make] of damage) {
  test(`${what} in place of history is set aside and begun anew, and said once`, async () => {
    const kernel = new TestKernel();
    const folder = join(kernel.folder, "data");
    const file = join(folder, "history.sqlite");
    mkdirSync(folder);
    make(file);
    const before = readFileSync(file);
    await kernel.start({ FIRSTFRAME_HISTORY: file });
    try {
      await cellsRun(kernel);
      const aside = readdirSync(folder).filter((name) => /\.damaged$/.test(name));
      assert.deepEqual(aside, ["history.sqlite.damaged"]);
      assert.deepEqual(readFileSync(join(folder, aside[0]!)), before);
      const said = linesAbout(kernel);
      assert.equal(said.length, 1, said.join("\n"));
      assert.match(said[0]!, /it is now .*history\.sqlite\.damaged, and history begins anew/);
    } finally {
      await kernel.stop();
    }
  });
}

test("what was begun anew is there in the next session, and a second damaged file gets another name", async () => {
  const kernel = new TestKernel();
  const file = join(kernel.folder, "history.sqlite");
  try {
    for (const cell of ["'first'", "'second'"]) {
      writeFileSync(file, "garbage ".repeat(1000));
      // What SQLite keeps there would be its rescue.
      for (const companion of ["-wal", "-shm"]) rmSync(file + companion, { force: true });
      const own = await startKernel({ FIRSTFRAME_HISTORY: file });
      await own.run(cell);
      await own.stop();
    }
    await kernel.start({ FIRSTFRAME_HISTORY: file });
    assert.deepEqual(await entries(kernel, tail), ["'second'"]);
    assert.ok(existsSync(`${file}.damaged-2`));
  } finally {
    await kernel.stop();
  }
});

test("a file that is damaged while the kernel runs", async () => {
  const kernel = new TestKernel();
  const file = join(kernel.folder, "history.sqlite");
  oldHistory(file);
  await kernel.start({ FIRSTFRAME_HISTORY: file });
  try {
    await cellsRun(kernel);
    const bytes = readFileSync(file);
    bytes.fill(0xff);
    writeFileSync(file, bytes);
    for (const access of ["tail", "search", "range"])
      await entries(kernel, { hist_access_type: access, pattern: "*x*", n: 1000, session: 1 });
    await cellsRun(kernel);
  } finally {
    await kernel.stop();
  }
});

test("a folder in place of history stays, and history is kept in memory", async () => {
  const kernel = new TestKernel();
  const file = join(kernel.folder, "history.sqlite");
  mkdirSync(join(file, "mine"), { recursive: true });
  await kernel.start({ FIRSTFRAME_HISTORY: file });
  try {
    await cellsRun(kernel);
    assert.deepEqual(await entries(kernel, { hist_access_type: "range", session: 0, start: 1, stop: 2 }), [
      "'one'",
    ]);
    assert.ok(existsSync(join(file, "mine")));
    const said = linesAbout(kernel);
    assert.equal(said.length, 1, said.join("\n"));
    assert.match(said[0]!, /is not a file; cells are kept in memory/);
  } finally {
    await kernel.stop();
  }
});

test("a pipe in place of history is not waited for", async (t) => {
  const kernel = new TestKernel();
  const file = join(kernel.folder, "history.sqlite");
  if (spawnSync("mkfifo", [file]).status !== 0) {
    t.skip("needs mkfifo");
    return;
  }
  await kernel.start({ FIRSTFRAME_HISTORY: file });
  try {
    await cellsRun(kernel);
  } finally {
    await kernel.stop();
  }
});

test("a folder that nothing can be written to", async (t) => {
  const kernel = new TestKernel();
  const folder = join(kernel.folder, "readonly");
  mkdirSync(folder);
  chmodSync(folder, 0o500);
  // For root, permissions are none; a folder of the kernel's own is.
  const file = process.getuid?.() === 0 ? "/proc/firstframe/history.sqlite" : join(folder, "history.sqlite");
  if (process.platform !== "linux" && process.getuid?.() === 0) t.skip("needs an ordinary user");
  await kernel.start({ FIRSTFRAME_HISTORY: file });
  try {
    await cellsRun(kernel);
    assert.equal(linesAbout(kernel).length, 1, kernel.log);
  } finally {
    await kernel.stop();
  }
});

test("a database that another program holds locked: cells wait for nothing, and are written later", async () => {
  const kernel = new TestKernel();
  const file = join(kernel.folder, "history.sqlite");
  oldHistory(file);
  const database = new Database(file);
  database.exec("BEGIN EXCLUSIVE");
  await kernel.start({ FIRSTFRAME_HISTORY: file });
  try {
    await cellsRun(kernel);
    assert.equal(linesAbout(kernel).length, 1, kernel.log);
    database.exec("COMMIT");
    // Once the kernel looks again.
    while (!(await entries(kernel, tail)).some((source) => source.startsWith("earlier"))) await sleep(200);
    const all = await entries(kernel, tail);
    assert.deepEqual(all.slice(-2), ["'one'", "'two'"]);
    assert.ok(!existsSync(`${file}.damaged`));
  } finally {
    database.close();
    await kernel.stop();
  }
});

test("numbers that no database knows are no damage", async () => {
  const kernel = new TestKernel();
  const file = join(kernel.folder, "history.sqlite");
  await kernel.start({ FIRSTFRAME_HISTORY: file });
  try {
    await cellsRun(kernel);
    for (const content of [
      { hist_access_type: "tail", n: 1e300 },
      { hist_access_type: "range", session: 1e300, start: -1e300, stop: 1e300 },
      { hist_access_type: "search", pattern: "[".repeat(60_000) },
      { hist_access_type: "search", pattern: "\0*\ud800[^" },
    ])
      await entries(kernel, content);
    await cellsRun(kernel);
    assert.ok(!existsSync(`${file}.damaged`));
  } finally {
    await kernel.stop();
  }
});

test("a disk that is full", async (t) => {
  const kernel = new TestKernel();
  const disk = join(kernel.folder, "disk");
  mkdirSync(disk);
  // In a namespace of its own, where anybody may mount.
  const mount = `mount -t tmpfs -o size=64k tmpfs ${disk} && head -c 40000 /dev/zero > ${disk}/filler`;
  if (spawnSync("unshare", ["-rm", "sh", "-c", mount]).status !== 0) {
    t.skip("needs unshare, and leave to mount a file system");
    return;
  }
  await kernel.start(
    { FIRSTFRAME_HISTORY: join(disk, "history.sqlite") },
    {
      wrap: (argv) => ["unshare", "-rm", "sh", "-c", `${mount}; exec "$@"`, "sh", ...argv],
    },
  );
  try {
    await cellsRun(kernel);
    const { reply } = await kernel.run(`"${"long ".repeat(20_000)}".length`);
    assert.equal(reply.status, "ok");
    await cellsRun(kernel);
    assert.equal(linesAbout(kernel).length, 1, kernel.log);
    assert.match(kernel.log, /cells are kept in memory until it can be used/);
  } finally {
    await kernel.stop();
  }
});
