import { closeSync, mkdirSync, openSync, rmdirSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type Libsql from "libsql";
import { ResumeError } from "./checkpoint.js";

/** The right to write into a run's folder. */
export interface OutputLock {
  release(): void;
}

const LOCK_FILE = ".firstframe-train.lock";
/** How often and in what distance a folder that is in use is looked at again: a process that was killed is gone by then. */
const ATTEMPTS = 12;
const PAUSE_MS = 250;

interface Held {
  readonly database: Libsql.Database | undefined;
  users: number;
}

const held = new Map<string, Held>();

/**
 * Keeps other processes from training into the same folder, which is made if need be. The lock is the operating system's, on
 * a file that SQLite holds: it needs no heartbeat, which a long step would delay, and ends with the process, however that ends.
 * Within one process a folder can be locked several times.
 *
 * @throws ResumeError if another process has the folder.
 */
export async function lockOutput(outputDir: string, log: (line: string) => void): Promise<OutputLock> {
  const folder = resolve(outputDir);
  const file = join(folder, LOCK_FILE);
  let made: string | undefined;
  for (let attempt = 0; !held.has(folder); attempt++) {
    if (attempt > 0) await wait(PAUSE_MS);
    try {
      made ??= mkdirSync(folder, { recursive: true });
      const database = tryLock(file);
      if (database) held.set(folder, { database, users: 0 });
    } catch (error) {
      const { code = "", message } = error as NodeJS.ErrnoException;
      if (["EACCES", "EPERM", "EROFS", "EEXIST", "ENOTDIR"].includes(code)) {
        throw new ResumeError(`expected a folder to write to (${message})`, { file: outputDir });
      }
      if (code === "ENOSPC") throw error;
      log(`${outputDir}: can't be locked here (${message}); see that no other run writes to it`);
      held.set(folder, { database: undefined, users: 0 });
    }
    if (!held.has(folder) && attempt === ATTEMPTS) {
      throw new ResumeError(`another run is writing to it (it holds ${file})`, { file: outputDir });
    }
  }
  const lock = held.get(folder)!;
  lock.users++;
  let released = false;
  return {
    release: () => {
      if (released) return;
      released = true;
      if (--lock.users > 0) return;
      held.delete(folder);
      try {
        rmSync(file, { force: true });
      } catch {
        // Windows keeps a file that is open
      }
      lock.database?.close();
      if (made !== undefined) removeIfEmpty(folder);
    },
  };
}

/** Undefined while another process has it. */
function tryLock(file: string): Libsql.Database | undefined {
  closeSync(openSync(file, "a"));
  const { ino } = statSync(file);
  const Database = createRequire(import.meta.url)("libsql") as typeof Libsql;
  const database = new Database(file);
  try {
    database.exec("BEGIN EXCLUSIVE");
    // Whoever had it may just have removed it, and a third have made it anew.
    if (statSync(file, { throwIfNoEntry: false })?.ino === ino) return database;
  } catch (error) {
    if ((error as { code?: string }).code !== "SQLITE_BUSY") {
      database.close();
      throw error;
    }
  }
  database.close();
  return undefined;
}

/** A run that was refused leaves no folder behind. */
function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // it holds something
  }
}
