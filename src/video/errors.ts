import { InputError } from "../engine/errors.js";

/** A clip that can't be read; the message names the file. */
export class ClipError extends InputError {
  override get kind() {
    return "clip" as const;
  }
}

/**
 * What the system or a library reads from a file. Any error from it is about that file and becomes a ClipError of one line.
 * Errors from our own code between such calls are not about the file, and stay what they are.
 */
export async function reading<T>(path: string, result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    throw notReadable(path, error);
  }
}

/** The same for a sequence. */
export async function* readingAll<T>(path: string, all: AsyncIterable<T>): AsyncGenerator<T> {
  const iterator = all[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await reading(path, iterator.next());
      if (done) return;
      yield value;
    }
  } finally {
    await iterator.return?.();
  }
}

export function notReadable(path: string, error: unknown): ClipError {
  if (error instanceof ClipError) return error;
  return new ClipError(`not a readable clip (${oneLine(error as Error)})`, { file: path, cause: error });
}

const oneLine = (error: Error): string => error.message.trim().replaceAll(/\s*\n\s*/g, "; ");
