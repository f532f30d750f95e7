import { spawn } from "node:child_process";
import { constants } from "node:os";
import { mallocEnvironment } from "../engine/environment.js";

/**
 * glibc reads its memory settings once, when a process starts. Where they are not in force yet, this program is started
 * again with them and the exit code of that is returned; otherwise undefined, and the caller goes on.
 */
export async function restartWithMemorySettings(): Promise<number | undefined> {
  const settings = mallocEnvironment();
  if (Object.keys(settings).length === 0) return undefined;
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    env: { ...process.env, ...settings },
    stdio: "inherit",
  });
  // A terminal's Ctrl-C reaches both: the child decides how it ends, this process waits for it.
  const ignore = () => {};
  const forward = (signal: NodeJS.Signals) => child.kill(signal);
  process.on("SIGINT", ignore);
  for (const signal of ["SIGTERM", "SIGHUP"] as const) process.on(signal, forward);
  return await new Promise((done, failed) => {
    child.on("error", failed);
    child.on("exit", (code, signal) => done(code ?? 128 + constants.signals[signal!]));
  });
}
