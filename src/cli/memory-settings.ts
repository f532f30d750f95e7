import { spawn } from "node:child_process";
import { constants } from "node:os";
import { mallocEnvironment } from "../engine/environment.js";
import { ENDING_SIGNAL, TRY_AGAIN } from "../train/distributed/messages.js";

/** Set in the second process, which is connected to the first. */
const RESTARTED = "FIRSTFRAME_RESTARTED";

/**
 * glibc reads its memory settings only once, when a process starts. If they are not in force yet, this starts the program
 * again with them and returns its exit code; otherwise it returns undefined, and the caller continues.
 *
 * From outside, the two look like one: signals are passed on, and when the first is killed the second ends, too.
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
    env: { ...process.env, ...childEnvironment() },
    stdio: ["inherit", "inherit", "inherit", "ipc"],
  });
  // A terminal's Ctrl-C reaches both, so the child receives it twice; it counts as one (see `onceASecond`).
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => child.kill(signal));
  }
  return await new Promise((done, failed) => {
    child.on("error", failed);
    child.on("exit", (code, signal) => done(code ?? codeOf(signal!)));
  });
}

/** As shells count; the end of another rank asks for another try, also where a long step had to be cut short. */
export const codeOf = (signal: NodeJS.Signals): number =>
  signal === ENDING_SIGNAL ? TRY_AGAIN : 128 + constants.signals[signal];

/** What a command needs that is started as such a second process, connected to this one by "ipc": it ends with it. */
export const childEnvironment = (): Record<string, string> => ({ ...mallocEnvironment(), [RESTARTED]: "1" });

/** Two processes must not write to one output folder, as would happen when a killed run is resumed. */
function endWithParent(): void {
  process.once("disconnect", () => process.kill(process.pid, "SIGKILL"));
  process.channel?.unref();
}

/** `handle` for a signal that may arrive twice although it was sent once: repeats within a second are ignored. */
export function onceASecond(handle: () => void): () => void {
  let last = Number.NEGATIVE_INFINITY;
  return () => {
    const now = performance.now();
    if (now - last < 1000) return;
    last = now;
    handle();
  };
}
