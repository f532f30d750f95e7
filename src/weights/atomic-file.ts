import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Runs `write` on a temporary file beside `path`, which then takes that name in one step. Nothing is left on failure; after
 * a power cut the file is the old or the new one.
 */
export async function writeAtomically(
  path: string,
  write: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  const handle = await open(temporary, "wx");
  try {
    try {
      await write(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Makes names and renames in a folder last through a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return; // there a folder can't be opened
  let handle: FileHandle | undefined;
  try {
    handle = await open(folder, "r");
    await handle.sync();
  } catch (error) {
    // Some file systems have nothing to do here and say so; a folder may be writable and not readable.
    const { code = "" } = error as NodeJS.ErrnoException;
    if (!["EINVAL", "ENOTSUP", "EACCES", "EPERM"].includes(code)) throw error;
  } finally {
    await handle?.close();
  }
}
