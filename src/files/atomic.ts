/**
 * Files and folders that appear complete or not at all: written beside their place, flushed to disk, renamed.
 *
 * The npm package write-file-atomic does not check how much was written, so on a full disk it takes half a file for a whole
 * one; it wants the whole content at once, impossible with weights of many GB; and it does not flush the folder's entry.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import {
  type FileHandle,
  mkdir,
  open,
  readdir,
  readlink,
  realpath,
  rename,
  rm,
  stat,
} from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

/**
 * A path beside `path` that no other process uses, to be renamed to `path` when complete. It is hidden, so that a file that
 * is half written matches no pattern such as `*`.
 */
export function temporaryBeside(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`);
}

const TEMPORARY = /^\..+\.\d+\.[0-9a-f]{8}\.tmp$/;
const DAY = 24 * 3600 * 1000;

/**
 * Removes what killed writers left in a folder and those below it. What was written to within a day may be a living one's, on
 * another machine too, and stays.
 */
export async function removeAbandoned(folder: string): Promise<void> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const { name, parentPath } of entries) {
    if (!TEMPORARY.test(name)) continue;
    const path = join(parentPath, name);
    const left = await stat(path).catch(() => undefined);
    if (left && Date.now() - left.mtimeMs > DAY) await rm(path, { recursive: true, force: true });
  }
}

/** Writes a whole file or nothing, as {@link writeAtomically} does. Creates its folder if need be. */
export async function writeFileAtomic(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeAtomically(path, (file) => file.writeFile(content));
}

/**
 * Runs `write` on a temporary file beside `path`, which then takes that name in one step. A failure leaves nothing behind;
 * after a power cut the file is either the old or the new one. An existing file keeps its mode and, if the system allows,
 * its owner. A symbolic link stays one: its target is written.
 */
export async function writeAtomically(
  path: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const old = await stat(path).catch(() => undefined);
  // A pipe or a terminal can't be replaced; a folder is an error.
  const isReplaced = old === undefined || old.isFile();
  const target = isReplaced ? await behindLinks(path) : path;
  const temporary = isReplaced ? temporaryBeside(target) : target;
  const { O_WRONLY, O_CREAT, O_EXCL } = constants;
  const flags = isReplaced ? O_WRONLY | O_CREAT | O_EXCL : O_WRONLY;
  const file = await open(temporary, flags, old === undefined ? 0o666 : old.mode & 0o777);
  try {
    try {
      await write(file);
      if (!isReplaced) return;
      if (old !== undefined) {
        await file.chown(old.uid, old.gid).catch(() => {});
        await file.chmod(old.mode & 0o7777);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, target);
    await syncFolder(dirname(target));
  } catch (error) {
    if (isReplaced) await rm(temporary, { force: true });
    throw error;
  }
}

/** What a path leads to, even if a link's target does not exist yet. */
async function behindLinks(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    const link = await readlink(path).catch(() => undefined);
    return link === undefined ? path : await behindLinks(resolve(dirname(path), link));
  }
}

/**
 * Runs `write` on an empty folder beside `path`, which then takes that name. Creates its parent if need be.
 * @throws an error with code ENOTEMPTY or EEXIST if something is there already.
 */
export async function writeFolderAtomic(
  path: string,
  write: (folder: string) => Promise<void>,
): Promise<void> {
  await makeFolder(path, write, async (made) => {
    await rename(made, path);
    await syncFolder(dirname(path));
  });
}

/** Like {@link writeFolderAtomic}, but replaces whatever is there. */
export async function replaceFolderAtomic(
  path: string,
  write: (folder: string) => Promise<void>,
): Promise<void> {
  await makeFolder(path, write, (made) => replaceFolder(made, path));
}

async function makeFolder(
  path: string,
  write: (folder: string) => Promise<void>,
  putInPlace: (made: string) => Promise<void>,
): Promise<void> {
  const temporary = temporaryBeside(resolve(path));
  try {
    await mkdir(temporary, { recursive: true });
    await write(temporary);
    await syncTree(temporary);
    await putInPlace(temporary);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Puts a finished folder in the place of whatever is there. A rename can't replace a folder that is not empty, so the old
 * one is moved aside first.
 */
export async function replaceFolder(finished: string, path: string): Promise<void> {
  const old = temporaryBeside(path);
  try {
    await rename(path, old);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  await rename(finished, path);
  await syncFolder(dirname(path));
  await rm(old, { recursive: true, force: true });
}

/** Flushes all files and folders below `folder` to disk, so that a later rename can't get there before their content. */
export async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) await syncFile(path);
  }
  await syncFolder(folder);
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes names and renames in a folder survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  try {
    await syncFile(folder);
  } catch (error) {
    // Some file systems refuse because there is nothing to do; and a folder may be writable but not readable.
    const { code = "" } = error as NodeJS.ErrnoException;
    if (!["EINVAL", "ENOTSUP", "EACCES", "EPERM"].includes(code)) throw error;
  }
}
