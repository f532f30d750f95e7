import { createHash, randomBytes } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { copyFile, type FileHandle, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { isIPv4 } from "node:net";
import { basename, dirname } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { assertSpace } from "./cache.js";
import { EngineError, firstLine } from "./errors.js";

/** Something to fetch: where from, and what its bytes must be. */
export interface Remote {
  url: string;
  /** In hexadecimal. */
  sha256: string;
  /** In bytes. */
  size: number;
}

/** Told how many bytes of how many are there; `total` is 0 while nobody knows it. */
export type OnProgress = (done: number, total: number) => void;

const attempts = 5;
const pauseMilliseconds = 500;
const stallMilliseconds = 60_000;
const mostRedirects = 10;

/**
 * Fetches `remote` into `part`. What a broken connection or an interrupted run left there is continued, not fetched again.
 *
 * @param signal ends it.
 * @returns the whole file, open, its SHA-256 as it must be. Its name may be another process's by now.
 * @throws EngineError when the server refuses, the connection keeps breaking, or the checksum is wrong (then the
 *   partial file is removed, so that the next run starts afresh).
 */
export async function download(
  remote: Remote,
  part: string,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<FileHandle> {
  await mkdir(dirname(part), { recursive: true });
  const file = await openPart(part);
  try {
    if (remote.url.startsWith("file:")) {
      await file.truncate();
      await pipeline(createReadStream(fileURLToPath(remote.url)), writeTo(file, 0), { signal });
    } else {
      for (let attempt = 1; ; attempt++) {
        try {
          await fetchRest(remote, file, part, onProgress, signal);
          break;
        } catch (error) {
          if (signal.aborted || error instanceof EngineError || isDiskError(error) || attempt === attempts) {
            throw describe(error, remote, (await file.stat()).size);
          }
          await new Promise((wake) => setTimeout(wake, pauseMilliseconds * attempt));
        }
      }
    }
    const found = await sha256(file);
    if (found !== remote.sha256) {
      if (!signal.aborted) await removePart(part);
      throw new EngineError(
        `${basename(part, ".part")}: expected SHA-256 ${remote.sha256}, found ${found}; the download was removed, run again`,
      );
    }
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Removes what {@link download} leaves. */
export async function removePart(part: string): Promise<void> {
  await rm(part, { force: true });
  await rm(`${part}.etag`, { force: true });
}

/**
 * Opens a file of one's own with what `part` holds so far. Who wrote it before may be asleep, not dead, with the file
 * open: it keeps its own, so that nobody ever writes into another one's file.
 */
async function openPart(part: string): Promise<FileHandle> {
  const own = `${part}.${randomBytes(4).toString("hex")}.tmp`;
  try {
    await copyFile(part, own, constants.COPYFILE_FICLONE);
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOENT") throw error;
  }
  const file = await open(own, constants.O_RDWR | constants.O_CREAT);
  try {
    await rename(own, part);
    return file;
  } catch (error) {
    await file.close();
    await rm(own, { force: true });
    throw error;
  }
}

/**
 * Fetches as `fetch` does, but what others on the way could change is not taken: redirects are followed to https, or to
 * this machine, only.
 * @throws EngineError naming the address that is not.
 */
export async function fetchSafely(url: string, options: RequestInit): Promise<Response> {
  for (let address = url, redirects = 0; ; redirects++) {
    assertSafe(address);
    const response = await fetch(address, { ...options, redirect: "manual" });
    const location = response.headers.get("location");
    if (![301, 302, 303, 307, 308].includes(response.status) || location === null) return response;
    await response.body?.cancel();
    if (redirects === mostRedirects) {
      throw new EngineError(`${url}: the server redirected more than ${mostRedirects} times`);
    }
    address = new URL(location, address).href;
  }
}

function assertSafe(url: string): void {
  const { protocol, hostname } = new URL(url);
  if (protocol === "https:" || (protocol === "http:" && isLoopback(hostname))) return;
  throw new EngineError(
    `${url}: expected an https address, found ${protocol}//, which anybody on the way can change; ` +
      "FIRSTFRAME_LIBTENSORFLOW names a libtensorflow of your own",
  );
}

function isLoopback(hostname: string): boolean {
  const name = hostname.toLowerCase();
  if (name === "localhost" || name === "[::1]") return true;
  return isIPv4(name) && name.startsWith("127.");
}

/** One request for what is still missing of `file`. */
async function fetchRest(
  remote: Remote,
  file: FileHandle,
  part: string,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<void> {
  const { size: have } = await file.stat();
  await assertRoom(part, remote.size - have);
  const etag = await readFile(`${part}.etag`, "utf8").catch(() => "");
  if (have === remote.size) return;

  const resume = have > 0 && have < remote.size;
  const stall = new AbortController();
  let timer = setTimeout(() => stall.abort(), stallMilliseconds);
  try {
    const response = await fetchSafely(remote.url, {
      headers: {
        "accept-encoding": "identity",
        ...(resume ? { range: `bytes=${have}-`, ...(etag ? { "if-range": etag } : {}) } : {}),
      },
      signal: AbortSignal.any([stall.signal, signal]),
    });
    if (response.status === 416) {
      await file.truncate();
      throw new Error("the server has no more bytes than were already here");
    }
    if (!response.ok || response.body === null) {
      throw new EngineError(`${remote.url}: the server answered ${response.status} ${response.statusText}`);
    }
    const start = response.status === 206 ? have : 0;
    await file.truncate(start);
    await writeFile(`${part}.etag`, response.headers.get("etag") ?? "");

    let done = start;
    onProgress(done, remote.size);
    const count = new Transform({
      transform(chunk: Buffer, _encoding, pass) {
        done += chunk.length;
        if (done > remote.size) {
          return pass(new EngineError(`${remote.url}: expected ${remote.size} bytes, the server sends more`));
        }
        clearTimeout(timer);
        timer = setTimeout(() => stall.abort(), stallMilliseconds);
        onProgress(done, remote.size);
        pass(null, chunk);
      },
    });
    const body = Readable.fromWeb(response.body as import("node:stream/web").ReadableStream);
    await pipeline(body, count, writeTo(file, start));
    if (done < remote.size) throw new Error(`the connection closed after ${done} of ${remote.size} bytes`);
  } finally {
    clearTimeout(timer);
    stall.abort(); // lets go of an answer that was not read to its end
  }
}

async function assertRoom(part: string, bytes: number): Promise<void> {
  await assertSpace(dirname(part), bytes, `downloading ${basename(part, ".part")}`);
}

function isDiskError(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT", "EACCES", "EROFS"].includes((error as { code?: string }).code ?? "");
}

function describe(error: unknown, remote: Remote, have: number): EngineError {
  if (error instanceof EngineError) return error;
  if (isDiskError(error))
    return new EngineError(`${firstLine(error)}; free some space or set XDG_CACHE_HOME to a larger disk`);
  const cause = (error as { cause?: unknown }).cause;
  const reason = cause === undefined ? firstLine(error) : firstLine(cause) || firstLine(error);
  const kept = have > 0 ? `; the ${have} bytes that came are kept, run again to continue` : "";
  return new EngineError(`${remote.url}: the download failed (${reason})${kept}`);
}

/** The end of a pipeline that writes to a file and leaves it open, which a stream does not when it fails. */
function writeTo(file: FileHandle, start: number) {
  return async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    let position = start;
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; ) {
        const { bytesWritten } = await file.write(chunk, at, chunk.length - at, position);
        at += bytesWritten;
        position += bytesWritten;
      }
    }
  };
}

async function sha256(file: FileHandle): Promise<string> {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(1 << 20);
  for (let position = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) return hash.digest("hex");
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}
