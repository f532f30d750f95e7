import { randomBytes } from "node:crypto";
import fs, { readFileSync, writeFileSync } from "node:fs";
import { mkdir, readFile, rm, statfs } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { EngineError } from "./errors.js";

/** Where engines are installed, shared by all projects of a user: $XDG_CACHE_HOME/firstframe or ~/.cache/firstframe. */
export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "firstframe");
}

/** What `firstframe engine use` remembers lives in $XDG_CONFIG_HOME/firstframe or ~/.config/firstframe. */
export function configFile(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CONFIG_HOME || join(homedir(), ".config"), "firstframe", "engine.json");
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
 * ends, and is begun again when the other is done.
 *
 * @param busy what the process with the lock does, as in "downloads X".
 * @param log is told when another process is at it, and when it took over.
 */
export async function withLock<T>(
  directory: string,
  { busy, log }: { readonly busy: string; readonly log: (line: string) => void },
  work: (lock: Lock) => Promise<T>,
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
    const release = await acquire(
      directory,
      () => log(`another process ${busy}; waiting for it`),
      () => lost.abort(),
    );
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
    log(`another process took over and ${busy} while this one was asleep`);
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
