/** What the person at the shell has to put right: one line on standard error, exit code 2, nothing written. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** Something that was asked for and did not work: one line on standard error, exit code 1. */
export class CommandFailure extends Error {
  override name = "CommandFailure";
}
