/**
 * What was executed, in this session and in earlier ones. It is kept in a small SQLite file that only its owner can
 * read. Entries are written a moment after their cell, so that no cell waits for the disk.
 */
import { chmodSync, closeSync, mkdirSync, openSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir, platform } from "node:os";
import { dirname, join } from "node:path";
import type Libsql from "libsql";
import type { HistoryRequest } from "../protocol/messages.js";

/** How many cells are kept. */
const kept = 100_000;
const writeDelay = 500;
/** Longer results are not stored. */
const maxOutput = 65_536;

interface Entry {
  readonly session: number;
  readonly line: number;
  readonly source: string;
  readonly output: string | null;
}

type Found = [session: number, line: number, input: string | [string, string | null]];

export class History {
  private database: Libsql.Database | undefined;
  private session = 0;
  private unwritten: { line: number; source: string; output: string | null }[] = [];
  private timer: NodeJS.Timeout | undefined;

  /** Nothing is opened before it is needed. */
  constructor(private readonly file: string = historyFile()) {}

  add(line: number, source: string): void {
    this.unwritten.push({ line, source, output: null });
    this.timer ??= setTimeout(() => this.write(), writeDelay);
    this.timer.unref();
  }

  /** The plain text of a cell's result. */
  addOutput(line: number, output: string): void {
    if (output.length > maxOutput) return;
    const entry = this.unwritten.findLast((each) => each.line === line);
    if (entry !== undefined) entry.output = output;
    else
      this.attempt((database) => {
        database
          .prepare("UPDATE history SET output = ? WHERE session = ? AND line = ?")
          .run(output, this.session, line);
      });
  }

  find(request: HistoryRequest): Found[] {
    this.write();
    return (
      this.attempt((database) => {
        if (request.access === "range") return this.range(database, request);
        return request.access === "tail" ? this.tail(database, request) : this.search(database, request);
      }) ?? []
    );
  }

  close(): void {
    if (this.unwritten.length === 0 && this.database === undefined) return;
    this.attempt((database) => {
      this.write();
      database.prepare("UPDATE sessions SET ended = datetime('now') WHERE session = ?").run(this.session);
      database.close();
    });
  }

  private tail(database: Libsql.Database, { n = 10, output }: HistoryRequest): Found[] {
    const rows = database
      .prepare("SELECT session, line, source, output FROM history ORDER BY id DESC LIMIT ?")
      .all(Math.max(0, n)) as Entry[];
    return rows.reverse().map((row) => found(row, output));
  }

  private range(database: Libsql.Database, { session, start, stop, output }: HistoryRequest): Found[] {
    // As in IPython: 0 and below count back from this session.
    const wanted = session > 0 ? session : this.session + session;
    const rows = database
      .prepare(
        "SELECT session, line, source, output FROM history WHERE session = ? AND line >= ? AND line < ? ORDER BY id",
      )
      .all(wanted, start, stop ?? Number.MAX_SAFE_INTEGER) as Entry[];
    return rows.map((row) => found(session > 0 ? row : { ...row, session: 0 }, output));
  }

  private search(database: Libsql.Database, { pattern, n, unique, output }: HistoryRequest): Found[] {
    const columns = unique
      ? "session, line, source, output, max(id) AS id"
      : "session, line, source, output, id";
    const group = unique ? "GROUP BY source" : "";
    const rows = database
      .prepare(`SELECT ${columns} FROM history WHERE source GLOB ? ${group} ORDER BY id DESC LIMIT ?`)
      .all(pattern, n ?? 1000) as Entry[];
    return rows.reverse().map((row) => found(row, output));
  }

  private write(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.unwritten.length === 0) return;
    this.attempt((database) => {
      const insert = database.prepare(
        "INSERT INTO history (session, line, source, output) VALUES (?, ?, ?, ?)",
      );
      database.transaction(() => {
        for (const { line, source, output } of this.unwritten) insert.run(this.session, line, source, output);
      })();
      this.unwritten = [];
    });
  }

  /** History is a convenience: where its file can't be used, it is kept in memory, and the kernel goes on. */
  private attempt<T>(work: (database: Libsql.Database) => T): T | undefined {
    try {
      this.database ??= this.open();
      return work(this.database);
    } catch (error) {
      if ((error as { code?: string }).code !== "SQLITE_BUSY")
        console.error(`firstframe: history: ${String(error)}`);
      return undefined;
    }
  }

  private open(): Libsql.Database {
    try {
      return this.prepare(this.file);
    } catch (error) {
      console.error(`firstframe: history: ${this.file}: ${String(error)}; it is kept in memory`);
      return this.prepare(":memory:");
    }
  }

  private prepare(file: string): Libsql.Database {
    if (file !== ":memory:") {
      mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
      closeSync(openSync(file, "a", 0o600));
      // Also a file that was there before; its companions take its mode.
      chmodSync(file, 0o600);
    }
    const Database = createRequire(import.meta.url)("libsql") as typeof Libsql;
    const database = new Database(file, { timeout: 250 });
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    database.exec(`
      CREATE TABLE IF NOT EXISTS sessions (
        session INTEGER PRIMARY KEY AUTOINCREMENT, started TEXT NOT NULL, ended TEXT);
      CREATE TABLE IF NOT EXISTS history (
        id INTEGER PRIMARY KEY, session INTEGER NOT NULL, line INTEGER NOT NULL, source TEXT NOT NULL, output TEXT);
      CREATE INDEX IF NOT EXISTS history_lines ON history (session, line);`);
    const { lastInsertRowid } = database
      .prepare("INSERT INTO sessions (started) VALUES (datetime('now'))")
      .run();
    this.session = Number(lastInsertRowid);
    database.prepare("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?").run(kept);
    return database;
  }
}

function found({ session, line, source, output }: Entry, withOutput: boolean): Found {
  return [session, line, withOutput ? [source, output] : source];
}

/** Where history is kept, unless FIRSTFRAME_HISTORY names another file (or `:memory:`). */
export function historyFile(env: NodeJS.ProcessEnv = process.env): string {
  if (env.FIRSTFRAME_HISTORY) return env.FIRSTFRAME_HISTORY;
  return join(dataHome(env), "firstframe", "history.sqlite");
}

function dataHome(env: NodeJS.ProcessEnv): string {
  switch (platform()) {
    case "darwin":
      return join(homedir(), "Library/Application Support");
    case "win32":
      return env.APPDATA ?? join(homedir(), "AppData/Roaming");
    default:
      return env.XDG_DATA_HOME || join(homedir(), ".local/share");
  }
}
