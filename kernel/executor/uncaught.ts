/**
 * Errors that nobody caught, in timers and promises: shown where they belong, and the session goes on.
 */
import { publish } from "../ipc/channel.js";
import { listener } from "../ipc/primordials.js";
import type { CellErrors } from "./errors.js";
import { type Interrupts, KeyboardInterrupt } from "./interrupt.js";

export function reportUncaught(errors: CellErrors, interrupts: Interrupts): void {
  const report = listener((error: unknown): void => {
    publish("error", errors.content(error));
    // Nothing else clears the flag when no cell runs.
    if (error instanceof KeyboardInterrupt) interrupts.clearIdle();
  });
  process.on("uncaughtException", report);
  process.on("unhandledRejection", report);
}
