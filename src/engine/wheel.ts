import { createWriteStream } from "node:fs";
import { chmod, type FileHandle, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import type * as yauzl from "yauzl";
import { assertSpace } from "./cache.js";
import type { OnProgress } from "./download.js";
import { EngineError, firstLine } from "./errors.js";

/**
 * Unpacks the files of a wheel (a ZIP archive) that `wanted` accepts to `directory`.
 *
 * @param name what the wheel is called in errors.
 * @returns the path of every file written.
 * @throws EngineError when the archive is broken or the disk has too little space; then nothing is written.
 */
export async function unpackWheel(
  wheel: FileHandle,
  name: string,
  directory: string,
  wanted: (path: string) => boolean,
  onProgress: OnProgress,
): Promise<string[]> {
  const written: string[] = [];
  let done = 0;
  // Not closed, since that would close the caller's file.
  const archive = await (await import("yauzl"))
    .fromFdPromise(wheel.fd, { autoClose: false })
    .catch((error) => {
      throw new EngineError(`${name}: expected a wheel, found a broken archive (${firstLine(error)})`);
    });
  const entries: yauzl.Entry[] = [];
  for await (const entry of archive.eachEntry()) {
    if (!entry.fileName.endsWith("/") && wanted(entry.fileName)) entries.push(entry);
  }
  const total = entries.reduce((sum, entry) => sum + entry.uncompressedSize, 0);
  await assertSpace(directory, total, `unpacking ${name}`);
  for (const entry of entries) {
    const target = join(directory, entry.fileName);
    await mkdir(dirname(target), { recursive: true });
    const source = await archive.openReadStreamPromise(entry);
    source.on("data", (chunk: Buffer) => {
      done += chunk.length;
      onProgress(done, total);
    });
    await pipeline(source, createWriteStream(target));
    if (((entry.externalFileAttributes >>> 16) & 0o111) !== 0) await chmod(target, 0o755);
    written.push(entry.fileName);
  }
  return written;
}
