import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmdirSync,
  rmSync,
  statSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type Libsql from "libsql";
import { ResumeError } from "./checkpoint.js";

/** The right to write into a run's folder. */
export interface OutputLock {
  release(): void;
}

const LOCK_FILE = ".firstframe-train.lock";
/** How often, and how far apart, a folder in use is tried again: by then, a process that was killed is gone. */
const ATTEMPTS = 12;
const PAUSE_MS = 250;

/** By folder; undefined where the file system has no locks. */
const held = new Map<string, Libsql.Database | undefined>();

/**
 * Keeps other processes from training into the same folder, which is created if need be. The lock is the operating system's, on
 * a file that SQLite holds: it needs no heartbeat, which a long step would delay, and it ends with the process, however that ends.
 *
 * @throws ResumeError if another process has the folder, or another run of this one.
 */
export async function lockOutput(outputDir: string, log: (line: string) => void): Promise<OutputLock> {
  const folder = resolve(outputDir);
  const file = join(folder, LOCK_FILE);
  let made: string | undefined;
  for (let attempt = 0; ; attempt++) {
    if (attempt > 0) await wait(PAUSE_MS);
    if (held.has(folder)) throw ownRun(outputDir);
    try {
      made ??= mkdirSync(folder, { recursive: true });
      const database = tryLock(file);
      if (database) held.set(folder, database);
    } catch (error) {
      const { code = "", message } = error as NodeJS.ErrnoException;
      if (["EACCES", "EPERM", "EROFS", "EEXIST", "ENOTDIR"].includes(code)) {
        throw new ResumeError(`expected a folder to write to (${message})`, { file: outputDir });
      }
      if (code === "ENOSPC") throw error;
      log(`${outputDir}: can't be locked here (${message}); see that no other run writes to it`);
      held.set(folder, undefined);
    }
    if (held.has(folder)) break;
    if (attempt === ATTEMPTS) {
      throw new ResumeError(`another run is writing to it (it holds ${file})`, { file: outputDir });
    }
  }
  let released = false;
  return {
    release: () => {
      if (released) return;
      released = true;
      const database = held.get(folder);
      held.delete(folder);
      try {
        rmSync(file, { force: true });
      } catch {
        // Windows does not remove an open file
      }
      database?.close();
      if (made !== undefined) removeIfEmpty(folder);
    },
  };
}

/**
 * Checks, without creating anything, that a folder is there to write to or can be made.
 * @param option what named it, for the error.
 * @throws ResumeError naming the folder, and what is in its way.
 */
export function assertWritable(wanted: string, option?: string): void {
  const expected = `${option === undefined ? "" : `${option}: `}expected a folder to write to`;
  let existing = resolve(wanted);
  while (!isThere(existing) && dirname(existing) !== existing) existing = dirname(existing);
  try {
    if (!statSync(existing).isDirectory())
      throw new ResumeError(`${expected} (${existing} is a file)`, { file: wanted });
    accessSync(existing, constants.W_OK);
  } catch (error) {
    if (error instanceof ResumeError) throw error;
    throw new ResumeError(`${expected} (${(error as Error).message})`, { file: wanted });
  }
}

/** Whether a path names anything, a link that leads nowhere included. */
function isThere(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch (error) {
    // Other errors are about something that is there.
    return !["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");
  }
}

/**
 * Checks, without leaving anything in the folder, whether {@link lockOutput} would refuse it.
 * @throws ResumeError as that does.
 */
export function assertLockable(outputDir: string): void {
  const folder = resolve(outputDir);
  const file = join(folder, LOCK_FILE);
  if (held.has(folder)) throw ownRun(outputDir);
  assertWritable(outputDir);
  if (existsSync(file)) {
    const database = tryLock(file);
    if (!database)
      throw new ResumeError(`another run is writing to it (it holds ${file})`, { file: outputDir });
    database.close();
  }
}

const ownRun = (outputDir: string): ResumeError =>
  new ResumeError("another run of this process is writing to it", {
    file: outputDir,
    hint: "it keeps the folder until it ends or its trainer is disposed",
  });

/** Undefined while another process has it. */
function tryLock(file: string): Libsql.Database | undefined {
  closeSync(openSync(file, "a"));
  const { ino } = statSync(file);
  const Database = createRequire(import.meta.url)("libsql") as typeof Libsql;
  const database = new Database(file);
  try {
    database.exec("BEGIN EXCLUSIVE");
    // The previous holder may just have removed the file, and a third process created it again.
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
