import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { firstLine } from "./errors.js";

/** A file as it was when it was installed. */
export interface InstalledFile {
  /** Below the folder of the installation, with slashes. */
  path: string;
  /** In bytes. */
  size: number;
  /** Undefined if the version that installed it recorded none. */
  sha256?: string;
  /** When it was last written, in whole seconds of Unix time, which is all that container images keep. */
  modified?: number;
}

/** The list of files in the record of an installation, or undefined if it holds no such list. */
export function installedFiles(record: unknown): InstalledFile[] | undefined {
  const files = (record as { files?: unknown } | undefined | null)?.files;
  const isFile = (file: Partial<InstalledFile> | null) =>
    typeof file?.path === "string" && typeof file.size === "number";
  return Array.isArray(files) && files.every(isFile) ? (files as InstalledFile[]) : undefined;
}

/** Describes files as they are now. */
export async function describeFiles(root: string, paths: readonly string[]): Promise<InstalledFile[]> {
  const files: InstalledFile[] = [];
  for (const path of paths) {
    const { size, mtimeMs } = statSync(join(root, path));
    const sha256 = await sha256Of(join(root, path));
    files.push({ path, size, sha256, modified: Math.floor(mtimeMs / 1000) });
  }
  return files;
}

/** What {@link checkFiles} found. */
export interface Check {
  /** What is wrong with the first file that differs from what was installed, such as "x.so has 3 bytes of 4". */
  damage?: string;
  /** Whether files have the same bytes but another time than recorded: recording it saves the next check. */
  moved: boolean;
}

/**
 * Compares files with what was installed: always their sizes, and their bytes if they were written since or `all` is set,
 * because a failing disk does not change a file's time.
 */
export async function checkFiles(
  root: string,
  files: readonly InstalledFile[],
  all: boolean,
): Promise<Check> {
  let moved = false;
  for (const { path, size, sha256, modified } of files) {
    const found = statSync(join(root, path), { throwIfNoEntry: false });
    if (found === undefined) return { damage: `${path} is missing`, moved };
    if (!found.isFile()) return { damage: `${path} is no file`, moved };
    if (found.size !== size) return { damage: `${path} has ${found.size} bytes of ${size}`, moved };
    const written = modified !== Math.floor(found.mtimeMs / 1000);
    if (sha256 !== undefined && (all || written)) {
      try {
        if ((await sha256Of(join(root, path))) !== sha256)
          return { damage: `${path} has other bytes`, moved };
      } catch (error) {
        return { damage: `${path} can't be read (${firstLine(error)})`, moved };
      }
      moved ||= written;
    }
  }
  return { moved };
}

/** The SHA-256 of a file's bytes, in hexadecimal. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}
