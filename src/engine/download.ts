import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { assertSpace } from "./cache.js";
import { EngineError, firstLine } from "./errors.js";

/** Something to fetch: where from, and what its bytes must hash to. */
export interface Remote {
  url: string;
  sha256: string;
  /** In bytes, where the index says it. */
  size?: number;
}

/** Told how many bytes of how many are there; `total` is 0 while nobody knows it. */
export type OnProgress = (done: number, total: number) => void;

const attempts = 5;
const pauseMilliseconds = 500;
const stallMilliseconds = 60_000;

/**
 * Fetches `remote` to `path`. What a broken connection or an interrupted run left in `path.part` is continued, not
 * fetched again; the file appears under its own name only when it is whole and its SHA-256 is right.
 *
 * @throws EngineError when the server refuses, the connection keeps breaking, or the checksum is wrong (then the
 *   partial file is removed, so that the next run starts afresh).
 */
export async function download(remote: Remote, path: string, onProgress: OnProgress): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  if (await matches(path, remote.sha256)) return;
  const part = `${path}.part`;

  if (remote.url.startsWith("file:")) {
    await pipeline(createReadStream(fileURLToPath(remote.url)), createWriteStream(part));
  } else {
    for (let attempt = 1; ; attempt++) {
      try {
        await fetchRest(remote, part, onProgress);
        break;
      } catch (error) {
        if (error instanceof EngineError || isDiskError(error) || attempt === attempts) {
          throw describe(error, remote, await sizeOf(part));
        }
        await new Promise((wake) => setTimeout(wake, pauseMilliseconds * attempt));
      }
    }
  }

  const found = await sha256(part);
  if (found !== remote.sha256) {
    await rm(part, { force: true });
    await rm(`${part}.etag`, { force: true });
    throw new EngineError(
      `${basename(path)}: expected SHA-256 ${remote.sha256}, found ${found}; the download was removed, run again`,
    );
  }
  await rename(part, path);
  await rm(`${part}.etag`, { force: true });
}

/** One request for what is still missing of `part`. */
async function fetchRest(remote: Remote, part: string, onProgress: OnProgress): Promise<void> {
  const have = await sizeOf(part);
  await assertRoom(part, (remote.size ?? 0) - have);
  const etag = await readFile(`${part}.etag`, "utf8").catch(() => "");
  if (remote.size !== undefined && have === remote.size) return;

  const resume = have > 0 && (remote.size === undefined || have < remote.size);
  const stall = new AbortController();
  let timer = setTimeout(() => stall.abort(), stallMilliseconds);
  try {
    const response = await fetch(remote.url, {
      headers: {
        "accept-encoding": "identity",
        ...(resume ? { range: `bytes=${have}-`, ...(etag ? { "if-range": etag } : {}) } : {}),
      },
      signal: stall.signal,
    });
    if (response.status === 416) {
      await rm(part, { force: true });
      throw new Error("the server has no more bytes than were already here");
    }
    if (!response.ok || response.body === null) {
      throw new EngineError(`${remote.url}: the server answered ${response.status} ${response.statusText}`);
    }
    const append = response.status === 206;
    const start = append ? have : 0;
    const length = Number(response.headers.get("content-length") ?? 0);
    const total = remote.size ?? (length > 0 ? start + length : 0);
    await assertRoom(part, total - start);
    await writeFile(`${part}.etag`, response.headers.get("etag") ?? "");

    let done = start;
    onProgress(done, total);
    const count = new Transform({
      transform(chunk: Buffer, _encoding, pass) {
        done += chunk.length;
        clearTimeout(timer);
        timer = setTimeout(() => stall.abort(), stallMilliseconds);
        onProgress(done, total);
        pass(null, chunk);
      },
    });
    await pipeline(
      Readable.fromWeb(response.body as import("node:stream/web").ReadableStream),
      count,
      createWriteStream(part, { flags: append ? "a" : "w" }),
    );
    if (total > 0 && done < total) throw new Error(`the connection closed after ${done} of ${total} bytes`);
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

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0;
}

async function matches(path: string, expected: string): Promise<boolean> {
  return (await sizeOf(path)) > 0 && (await sha256(path)) === expected;
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}
