import { stripVTControlCharacters } from "node:util";
import { FirstframeError, InputError } from "../engine/errors.js";

/** What the user has to correct: one line on standard error, exit code 2, nothing written. */
export class UsageError extends InputError {
  override get kind() {
    return "usage" as const;
  }
}

/** What a command can do without: one line on standard error. Text from a notebook in it can't move the cursor. */
export function warn(message: string): void {
  console.error(stripVTControlCharacters(message).replaceAll(/\p{Cc}+/gu, " "));
}

/** Something that was requested and did not work: one line on standard error, exit code 1. */
export class CommandFailure extends FirstframeError {
  get kind() {
    return "failure" as const;
  }
}
