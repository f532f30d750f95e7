import { spawn } from "node:child_process";
import { constants } from "node:os";
import { mallocEnvironment } from "../engine/environment.js";

/** Set in the second process, which then holds a line to the first. */
const RESTARTED = "FIRSTFRAME_RESTARTED";

/**
 * glibc reads its memory settings once, when a process starts. Where they are not in force yet, this program is started
 * again with them and the exit code of that is returned; otherwise undefined, and the caller goes on.
 *
 * The two are one to the outside: signals go through, and when the first is killed the second ends too.
 */
export async function restartWithMemorySettings(): Promise<number | undefined> {
  if (process.env[RESTARTED] !== undefined) {
    delete process.env[RESTARTED];
    endWithParent();
    return undefined;
  }
  const settings = mallocEnvironment();
  if (Object.keys(settings).length === 0) return undefined;
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    env: { ...process.env, ...settings, [RESTARTED]: "1" },
    stdio: ["inherit", "inherit", "inherit", "ipc"],
  });
  // A terminal's Ctrl-C reaches both, so that the child hears of it twice; it counts as one (see `onceASecond`).
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => child.kill(signal));
  }
  return await new Promise((done, failed) => {
    child.on("error", failed);
    child.on("exit", (code, signal) => done(code ?? 128 + constants.signals[signal!]));
  });
}

/** Two processes must not write one output folder, which a killed run that is resumed would lead to. */
function endWithParent(): void {
  process.once("disconnect", () => process.kill(process.pid, "SIGKILL"));
  process.channel?.unref();
}

/** `handle` for a signal that may arrive twice when it was sent once: what follows within a second is the same. */
export function onceASecond(handle: () => void): () => void {
  let last = Number.NEGATIVE_INFINITY;
  return () => {
    const now = performance.now();
    if (now - last < 1000) return;
    last = now;
    handle();
  };
}
