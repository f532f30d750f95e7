/**
 * Uncaught errors from timers and promises: they are shown where they belong, and the session continues.
 */
import { publish } from "../ipc/channel.js";
import { listener } from "../ipc/primordials.js";
import type { CellErrors } from "./errors.js";
import { type Interrupts, KeyboardInterrupt } from "./interrupt.js";

export function reportUncaught(errors: CellErrors, interrupts: Interrupts): void {
  const report = listener((error: unknown): void => {
    publish("error", errors.content(error));
    // Nothing else clears the flag while no cell is running.
    if (error instanceof KeyboardInterrupt) interrupts.clearIdle();
  });
  process.on("uncaughtException", report);
  process.on("unhandledRejection", report);
}
