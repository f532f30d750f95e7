/** Locks between processes: one makes something that all share, the others wait for it. */
import { randomBytes } from "node:crypto";
import fs, { readFileSync, writeFileSync } from "node:fs";
import { mkdir, realpath, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** A lock that this process holds, until another one finds it asleep and takes over. */
export interface Lock {
  /** Aborted as soon as the lock turns out to be another's. */
  readonly signal: AbortSignal;
  /** Call this right before a step that others can see. @throws when the lock is another's. */
  assertHeld(): void;
}

/**
 * Runs `work` while no other process holds the lock on `path`, a file or folder that need not be there yet. A holder that
 * died or fell asleep is noticed within 10 s, and another process takes over. A sleeper that wakes up must then leave the
 * other's work alone: its own ends, and begins again when the other is done.
 *
 * The package proper-lockfile keeps the lock in `path`.lock and notices its loss only by the clock. A file of our own beside
 * it says who holds it: it shows a sleeper at once that it has lost the lock, and tells others whom they are waiting for.
 *
 * @param busy what the process with the lock is doing, as in "downloads X".
 * @param log is told which process has the lock, and when another one took over.
 */
export async function withLock<T>(
  path: string,
  { busy, log }: { readonly busy: string; readonly log: (line: string) => void },
  work: (lock: Lock) => Promise<T>,
): Promise<T> {
  const { default: lockfile } = await import("proper-lockfile");
  await mkdir(dirname(path), { recursive: true });
  // The lock is the same whichever path leads there.
  const target = await realpath(path).catch(() => path);
  const folder = dirname(target);
  const lockfilePath = `${target}.lock`;
  const owner = `${target}.lock-owner`;
  const self = `${process.pid} ${randomBytes(16).toString("hex")}`;
  const readOwner = () => {
    try {
      return readFileSync(owner, "utf8");
    } catch {
      return undefined;
    }
  };
  for (;;) {
    const lost = new AbortController();
    const options = { lockfilePath, stale: 10_000, update: 2_000, onCompromised: () => lost.abort() };
    const release = await whenFree(
      () => lockfile.lock(folder, options),
      () => {
        const holder = /^\d+/.exec(readOwner() ?? "")?.[0];
        log(`another process ${busy}; waiting for ${holder === undefined ? "it" : `process ${holder}`}`);
      },
    );
    let began = false;
    const held = () => !lost.signal.aborted && (!began || readOwner() === self);
    try {
      writeFileSync(owner, self);
      began = true;
      return await work({
        signal: lost.signal,
        assertHeld() {
          if (held()) return;
          lost.abort();
          throw new Error("another process took over");
        },
      });
    } catch (error) {
      if (held()) throw error;
    } finally {
      if (held()) {
        await rm(owner, { force: true });
        await release().catch(() => {});
      } else {
        // It is another's: this process forgets it, if it hasn't yet, but does not remove it.
        const rmdir = (_path: string, done: (error: null) => void) => done(null);
        await lockfile.unlock(folder, { lockfilePath, fs: { ...fs, rmdir } }).catch(() => {});
      }
    }
    log(`another process took over and ${busy} while this one was asleep`);
  }
}

/** Calls `lock` until nobody else has it. */
async function whenFree<T>(lock: () => Promise<T>, onWait: () => void): Promise<T> {
  for (let waited = false; ; waited = true) {
    try {
      return await lock();
    } catch (error) {
      if ((error as { code?: string }).code !== "ELOCKED") throw error;
      if (!waited) onWait();
      await new Promise((wake) => setTimeout(wake, 250));
    }
  }
}
