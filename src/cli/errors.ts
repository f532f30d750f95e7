import { stripVTControlCharacters } from "node:util";
import { FirstframeError, InputError } from "../engine/errors.js";

/** What the person at the shell has to put right: one line on standard error, exit code 2, nothing written. */
export class UsageError extends InputError {
  override get kind() {
    return "usage" as const;
  }
}

/** What a command goes on without: one line on standard error. A notebook's own words in it move no cursor. */
export function warn(message: string): void {
  console.error(stripVTControlCharacters(message).replaceAll(/\p{Cc}+/gu, " "));
}

/** Something that was asked for and did not work: one line on standard error, exit code 1. */
export class CommandFailure extends FirstframeError {
  get kind() {
    return "failure" as const;
  }
}
