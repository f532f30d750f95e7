import { stripVTControlCharacters } from "node:util";

/** What the person at the shell has to put right: one line on standard error, exit code 2, nothing written. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** What a command goes on without: one line on standard error. A notebook's own words in it move no cursor. */
export function warn(message: string): void {
  console.error(stripVTControlCharacters(message).replaceAll(/\p{Cc}+/gu, " "));
}

/** Something that was asked for and did not work: one line on standard error, exit code 1. */
export class CommandFailure extends Error {
  override name = "CommandFailure";
}
