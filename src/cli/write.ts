import { writeFileAtomic } from "../files/atomic.js";
import { CommandFailure } from "./errors.js";

/**
 * Writes a file that a command was asked for, whole or not at all.
 * @throws CommandFailure naming the file and the system's reason
 */
export async function writeOutput(path: string, text: string): Promise<void> {
  try {
    await writeFileAtomic(path, text);
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (syscall === undefined) throw error;
    throw new CommandFailure(`can't be written: ${code}`, { file: path });
  }
}
