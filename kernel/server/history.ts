/**
 * What was executed, in this session and in earlier ones. It is kept in a small SQLite file that only its owner can
 * read. Entries are written a moment after their cell, so that no cell waits for the disk.
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, renameSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir, platform } from "node:os";
import { dirname, join } from "node:path";
import type Libsql from "libsql";
import type { HistoryItem } from "../protocol/replies.js";
import type { HistoryRequest } from "../protocol/requests.js";

/** How many cells are kept. */
const kept = 100_000;
const writeDelayMs = 500;
/** Longer results are not stored. */
const maxOutput = 65_536;
/** How long to leave alone a file that could not be used, e.g. because another program holds its lock. */
const pauseMs = 5000;
/** Longer patterns find nothing, and longer cells are not found: a search takes time in proportion to the product of both. */
const maxPattern = 1000;
const maxSearched = 20_000;

interface Entry {
  readonly session: number;
  readonly line: number;
  readonly source: string;
  readonly output: string | null;
}

interface Unwritten {
  readonly line: number;
  readonly source: string;
  output: string | null;
}

export class History {
  private database: Libsql.Database | undefined;
  private session = 0;
  private unwritten: Unwritten[] = [];
  private timer: NodeJS.Timeout | undefined;
  /** The file can't be used for now, and the log says so already. */
  private trouble = false;
  private notBefore = Number.NEGATIVE_INFINITY;

  /** Nothing is opened before it is needed. */
  constructor(private readonly file: string = historyFile()) {}

  add(line: number, source: string): void {
    this.unwritten.push({ line, source, output: null });
    if (this.unwritten.length > kept) this.unwritten.shift();
    this.writeLater(writeDelayMs);
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

  find(request: HistoryRequest): HistoryItem[] {
    this.write();
    return (
      this.attempt((database) => {
        if (request.access === "range") return this.range(database, request);
        return request.access === "tail" ? this.tail(database, request) : this.search(database, request);
      }) ?? this.waiting(request)
    );
  }

  close(): void {
    clearTimeout(this.timer);
    if (this.unwritten.length === 0 && this.database === undefined) return;
    this.attempt((database) => {
      this.write();
      database.prepare("UPDATE sessions SET ended = datetime('now') WHERE session = ?").run(this.session);
      database.close();
    });
  }

  /** What is known of this session where the file can't be used. */
  private waiting({ access, session, start, stop, n, output }: HistoryRequest): HistoryItem[] {
    if (access === "search" || (access === "range" && session !== 0)) return [];
    const chosen =
      access === "tail"
        ? this.unwritten.slice(-Math.max(0, n ?? 10) || this.unwritten.length)
        : this.unwritten.filter(({ line }) => line >= start && line < (stop ?? Number.MAX_SAFE_INTEGER));
    return chosen.map((entry) => found({ ...entry, session: 0 }, output));
  }

  private tail(database: Libsql.Database, { n = 10, output }: HistoryRequest): HistoryItem[] {
    const rows = database
      .prepare("SELECT session, line, source, output FROM history ORDER BY id DESC LIMIT ?")
      .all(Math.max(0, n)) as Entry[];
    return rows.reverse().map((row) => found(row, output));
  }

  private range(database: Libsql.Database, { session, start, stop, output }: HistoryRequest): HistoryItem[] {
    // As in IPython: 0 and below count back from this session.
    const wanted = session > 0 ? session : this.session + session;
    const rows = database
      .prepare(
        "SELECT session, line, source, output FROM history WHERE session = ? AND line >= ? AND line < ? ORDER BY id",
      )
      .all(wanted, start, stop ?? Number.MAX_SAFE_INTEGER) as Entry[];
    return rows.map((row) => found(session > 0 ? row : { ...row, session: 0 }, output));
  }

  private search(database: Libsql.Database, { pattern, n, unique, output }: HistoryRequest): HistoryItem[] {
    if (pattern.length > maxPattern) return [];
    const columns = unique
      ? "session, line, source, output, max(id) AS id"
      : "session, line, source, output, id";
    const group = unique ? "GROUP BY source" : "";
    const rows = database
      .prepare(
        `SELECT ${columns} FROM history WHERE length(source) <= ? AND source GLOB ? ${group} ORDER BY id DESC LIMIT ?`,
      )
      .all(maxSearched, pattern, n ?? 1000) as Entry[];
    return rows.reverse().map((row) => found(row, output));
  }

  private writeLater(delayMs: number): void {
    this.timer ??= setTimeout(() => this.write(), delayMs);
    this.timer.unref();
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
    if (this.unwritten.length > 0) this.writeLater(pauseMs);
  }

  /**
   * History is a convenience. A damaged file is set aside and another begun; where the file can't be used for now, what
   * happens is kept in memory until it can. Cells notice nothing.
   */
  private attempt<T>(work: (database: Libsql.Database) => T): T | undefined {
    if (performance.now() < this.notBefore) return undefined;
    for (let again = true; ; again = false) {
      const inode = inodeOf(this.file);
      let opened = false;
      try {
        this.database ??= this.prepare(this.file);
        opened = true;
        const result = work(this.database);
        this.trouble = false;
        return result;
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        if (again && isDamage(error, opened) && this.setAside(inode, reason)) continue;
        this.notBefore = performance.now() + pauseMs;
        if (!this.trouble)
          console.error(
            `firstframe: history: ${this.file}: ${reason}; cells are kept in memory until it can be used`,
          );
        this.trouble = true;
        return undefined;
      }
    }
  }

  /** Makes room for a new file, unless somebody else just has. */
  private setAside(inode: number | undefined, reason: string): boolean {
    try {
      this.database?.close();
    } catch {
      // as damaged as the file
    }
    this.database = undefined;
    if (this.file === memory || inode === undefined) return false;
    if (inodeOf(this.file) !== inode) return true;
    let aside = `${this.file}.damaged`;
    for (let i = 2; existsSync(aside); i++) aside = `${this.file}.damaged-${i}`;
    try {
      renameSync(this.file, aside);
      for (const companion of ["-wal", "-shm"])
        if (existsSync(this.file + companion)) renameSync(this.file + companion, aside + companion);
    } catch {
      return false;
    }
    console.error(
      `firstframe: history: ${this.file}: ${reason}; it is now ${aside}, and history begins anew`,
    );
    return true;
  }

  private prepare(file: string): Libsql.Database {
    if (file !== memory) {
      makeFolder(dirname(file));
      // Opening a pipe would block, and a folder belongs to somebody.
      if (existsSync(file) && !statSync(file).isFile()) throw new Error("is not a file");
      closeSync(openSync(file, "a", 0o600));
      // Also where the file existed; its companions take its mode.
      chmodSync(file, 0o600);
    }
    const Database = createRequire(import.meta.url)("libsql") as typeof Libsql;
    const database = new Database(file, { timeout: 250 });
    try {
      // Together, so that nothing is added to a file whose tables are others.
      database.exec(`
        BEGIN IMMEDIATE;
        CREATE TABLE IF NOT EXISTS sessions (
          session INTEGER PRIMARY KEY AUTOINCREMENT, started TEXT NOT NULL, ended TEXT);
        CREATE TABLE IF NOT EXISTS history (
          id INTEGER PRIMARY KEY, session INTEGER NOT NULL, line INTEGER NOT NULL, source TEXT NOT NULL, output TEXT);
        CREATE INDEX IF NOT EXISTS history_lines ON history (session, line);
        COMMIT`);
      // Fails where another version, or another program, uses these names for something else.
      database.prepare("SELECT id, session, line, source, output FROM history LIMIT 1").all();
      database.prepare("SELECT session, started, ended FROM sessions LIMIT 1").all();
      database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
      const { lastInsertRowid } = database
        .prepare("INSERT INTO sessions (started) VALUES (datetime('now'))")
        .run();
      this.session = Number(lastInsertRowid);
      database.prepare("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?").run(kept);
    } catch (error) {
      database.close();
      throw error;
    }
    return database;
  }
}

const memory = ":memory:";

/** Node's own way to make parents, too, never ends in file systems that can't have any. */
function makeFolder(folder: string): void {
  if (existsSync(folder)) return;
  makeFolder(dirname(folder));
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

function inodeOf(file: string): number | undefined {
  return statSync(file, { throwIfNoEntry: false })?.ino;
}

/** Whether the file is no database, or one that is damaged; or, where it could not be opened, one with other tables. */
function isDamage(error: unknown, opened: boolean): boolean {
  const { code } = error as { code?: unknown };
  if (typeof code !== "string") return false;
  return /^SQLITE_(?:NOTADB|CORRUPT)/.test(code) || (!opened && /^SQLITE_(?:ERROR|CONSTRAINT)/.test(code));
}

function found({ session, line, source, output }: Entry, withOutput: boolean): HistoryItem {
  return [session, line, withOutput ? [source, output] : source];
}

/** Where history is kept, unless FIRSTFRAME_HISTORY names another file (or `:memory:`). */
export function historyFile(env: NodeJS.ProcessEnv = process.env): string {
  if (env.FIRSTFRAME_HISTORY) return env.FIRSTFRAME_HISTORY;
  return join(dataHome(env), "firstframe", "history.sqlite");
}

function dataHome(env: NodeJS.ProcessEnv): string {
  if (platform() === "darwin") return join(homedir(), "Library/Application Support");
  return env.XDG_DATA_HOME || join(homedir(), ".local/share");
}
