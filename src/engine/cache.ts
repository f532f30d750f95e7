import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open, readFile, rename, rm, statfs } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import lockfile from "proper-lockfile";
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

/** Writes a whole file or nothing. */
export async function writeFileAtomic(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = temporaryBeside(path);
  try {
    const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
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

/**
 * Runs `work` while no other process holds the lock on `directory` (made if need be). A holder that died is noticed
 * within 10 s. `onWait` is called once if somebody else is at it.
 */
export async function withLock<T>(directory: string, onWait: () => void, work: () => Promise<T>): Promise<T> {
  await mkdir(directory, { recursive: true });
  let release: (() => Promise<void>) | undefined;
  for (let waited = false; release === undefined; ) {
    try {
      release = await lockfile.lock(directory, { stale: 10_000, update: 2_000 });
    } catch (error) {
      if ((error as { code?: string }).code !== "ELOCKED") throw error;
      if (!waited) onWait();
      waited = true;
      await new Promise((wake) => setTimeout(wake, 250));
    }
  }
  try {
    return await work();
  } finally {
    await release().catch(() => {});
  }
}

/** Throws when the disk that holds `directory` has less than `bytes` free. */
export async function assertSpace(directory: string, bytes: number, what: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (free < bytes) {
    throw new EngineError(
      `${what} needs ${megabytes(bytes)} in ${directory}, where ${megabytes(free)} are free; ` +
        "free some or set XDG_CACHE_HOME to a larger disk",
    );
  }
}

export function megabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.ceil(bytes / 1e6)} MB`;
}
