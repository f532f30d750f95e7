/** Why an engine can't be installed or run: one line that says what was expected, what was found and what to type. */
export class EngineError extends Error {
  override readonly name = "EngineError";
}

/** The first line of whatever was thrown. */
export function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split("\n", 1)[0]!.trim();
}
