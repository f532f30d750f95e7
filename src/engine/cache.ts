import { randomBytes } from "node:crypto";
import fs, { constants, readFileSync, writeFileSync } from "node:fs";
import {
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  writeFile,
} from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { EngineError } from "./errors.js";

/** Where engines are installed, shared by all projects of a user: $XDG_CACHE_HOME/firstframe or ~/.cache/firstframe. */
export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "firstframe");
}

/** What `firstframe engine use` remembers lives in $XDG_CONFIG_HOME/firstframe or ~/.config/firstframe. */
export function configFile(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CONFIG_HOME || join(homedir(), ".config"), "firstframe", "engine.json");
}

/** A path beside `path` that no other process uses; rename it to `path` when it is whole. */
export function temporaryBeside(path: string): string {
  return `${path}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`;
}

/**
 * Writes a whole file or nothing. A file that is there keeps its mode and, where the system lets it, its owner; a symbolic link stays
 * one, and what it leads to is written. (`write-file-atomic` would do the same, but takes half a file for a whole one when the disk
 * is full.)
 */
export async function writeFileAtomic(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const old = await stat(path).catch(() => undefined);
  // A pipe or a terminal can't be replaced; a folder is an error.
  if (old !== undefined && !old.isFile()) return await writeFile(path, content);
  const target = await behindLinks(path);
  const temporary = temporaryBeside(target);
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    const file = await open(temporary, flags, old === undefined ? 0o666 : old.mode & 0o777);
    try {
      await file.writeFile(content);
      if (old !== undefined) {
        await file.chown(old.uid, old.gid).catch(() => {});
        await file.chmod(old.mode & 0o7777);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** What a path leads to, also where a link's target is not there yet. */
async function behindLinks(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    const link = await readlink(path).catch(() => undefined);
    return link === undefined ? path : await behindLinks(resolve(dirname(path), link));
  }
}

/** Puts a finished folder in the place of another one, or of whatever is there. */
export async function replaceFolder(finished: string, path: string): Promise<void> {
  const old = temporaryBeside(path);
  try {
    await rename(path, old);
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOENT") throw error;
  }
  await rename(finished, path);
  await sync(dirname(path));
  await rm(old, { recursive: true, force: true });
}

/** Puts all files and folders below `folder` on the disk, so that a rename afterwards can't outrun their content. */
export async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) await sync(path);
  }
  await sync(folder);
}

async function sync(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Reads JSON; undefined when the file is not there or is not JSON. */
export async function readJson<T>(path: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as T;
  } catch {
    return undefined;
  }
}

/** A lock that this process holds, until another one finds it asleep and takes over. */
export interface Lock {
  /** Aborted as soon as it shows that the lock is another's. */
  readonly signal: AbortSignal;
  /** To be called right before a step that others see. @throws when the lock is another's. */
  assertHeld(): void;
}

/**
 * Runs `work` while no other process holds the lock on `directory` (made if need be). A holder that died or sleeps is
 * noticed within 10 s, and another one takes over; a sleeper that wakes then must touch nothing of the other's: its work
 * ends, and is begun again when the other is done. `onWait` is called when somebody else is at it, `onLost` when this
 * process lost its turn.
 */
export async function withLock<T>(
  directory: string,
  onWait: () => void,
  work: (lock: Lock) => Promise<T>,
  onLost: () => void = () => {},
): Promise<T> {
  await mkdir(directory, { recursive: true });
  // The library notices a loss by the clock, at its next update; who wrote this file last shows it at once.
  const owner = join(directory, "lock-owner");
  const self = `${process.pid} ${randomBytes(16).toString("hex")}`;
  const isOwner = () => {
    try {
      return readFileSync(owner, "utf8") === self;
    } catch {
      return false;
    }
  };
  for (;;) {
    const lost = new AbortController();
    const release = await acquire(directory, onWait, () => lost.abort());
    let began = false;
    const held = () => !lost.signal.aborted && (!began || isOwner());
    try {
      writeFileSync(owner, self);
      began = true;
      return await work({
        signal: lost.signal,
        assertHeld() {
          if (held()) return;
          lost.abort();
          throw new EngineError("another process took over");
        },
      });
    } catch (error) {
      if (held()) throw error;
    } finally {
      if (held()) {
        await rm(owner, { force: true });
        await release().catch(() => {});
      } else await abandon(directory);
    }
    onLost();
  }
}

/** Forgets a lock that is another's by now, and leaves it where it is. */
async function abandon(directory: string): Promise<void> {
  const { default: lockfile } = await import("proper-lockfile");
  const rmdir = (_path: string, done: (error: null) => void) => done(null);
  // it may know of the loss already
  await lockfile.unlock(directory, { fs: { ...fs, rmdir } }).catch(() => {});
}

async function acquire(
  directory: string,
  onWait: () => void,
  onCompromised: () => void,
): Promise<() => Promise<void>> {
  const { default: lockfile } = await import("proper-lockfile");
  for (let waited = false; ; ) {
    try {
      return await lockfile.lock(directory, { stale: 10_000, update: 2_000, onCompromised });
    } catch (error) {
      if ((error as { code?: string }).code !== "ELOCKED") throw error;
      if (!waited) onWait();
      waited = true;
      await new Promise((wake) => setTimeout(wake, 250));
    }
  }
}

/**
 * Throws when the disk that holds `directory` has less than `bytes` free.
 * @param setting the environment variable that names another disk.
 */
export async function assertSpace(
  directory: string,
  bytes: number,
  what: string,
  setting = "XDG_CACHE_HOME",
): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (free < bytes) {
    throw new EngineError(
      `${what} needs ${megabytes(bytes)} in ${directory}, where ${megabytes(free)} are free; ` +
        `free some or set ${setting} to a larger disk`,
    );
  }
}

export function megabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.ceil(bytes / 1e6)} MB`;
}
