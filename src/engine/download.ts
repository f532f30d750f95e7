import { createHash, type Hash, randomBytes } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import {
  copyFile,
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { isIPv4 } from "node:net";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { assertSpace } from "./cache.js";
import { EngineError, type ErrorDetails, firstLine } from "./errors.js";

interface RemoteFile {
  url: string;
  /** In bytes. */
  size: number;
}

/** Something to fetch: its address, and what its bytes must be. */
export interface Sha256Remote extends RemoteFile {
  /** In hexadecimal. */
  sha256: string;
}

/** Something to fetch that is kept in Git, and the name (SHA-1) that Git gives it. */
export interface GitRemote extends RemoteFile {
  /** In hexadecimal. */
  gitSha1: string;
}

export type Remote = Sha256Remote | GitRemote;

export interface DownloadOptions {
  /** Aborts the download. */
  readonly signal?: AbortSignal;
  /** What messages call it. Default: the file's name. */
  readonly name?: string;
  /** Authorization, for example; it is dropped when the server redirects to another host. */
  readonly headers?: Readonly<Record<string, string>>;
  /** How long a connection may bring nothing before it is given up. Default 60,000. */
  readonly stallMs?: number;
  /** The setting that names another disk. Default "XDG_CACHE_HOME". */
  readonly cacheSetting?: string;
  /** What the user can do if an address is not safe. Default: name a libtensorflow. */
  readonly alternative?: string;
}

/** A download that did not succeed: one line. */
export class DownloadError extends EngineError {
  /** What the server answered, if it refused. */
  readonly status: number | undefined;
  /** What came between here and the server, if anything did: another attempt, or another program, may get through. */
  readonly failure: "certificate" | "connection" | undefined;

  constructor(
    problem: string,
    details: ErrorDetails & Partial<Pick<DownloadError, "status" | "failure">> = {},
  ) {
    super(problem, details);
    this.status = details.status;
    this.failure = details.failure;
  }
}

/** Called with the bytes so far and their total, which is 0 as long as it is unknown. */
export type OnProgress = (done: number, total: number) => void;

const attempts = 5;
const pauseMs = 500;
const defaultStallMs = 60_000;
const mostRedirects = 10;

/**
 * Fetches `remote` into `part`, continuing from what a broken connection or an interrupted run left there.
 *
 * @returns the whole file, open, with the right checksum. By now its name may belong to another process.
 * @throws EngineError when an address is not safe or there is no room.
 * @throws DownloadError when the server refuses, the connection keeps breaking, or the size or checksum is wrong (then
 *   the partial file is removed, so that the next run starts afresh).
 */
export async function download(
  remote: Remote,
  part: string,
  onProgress: OnProgress,
  options: DownloadOptions = {},
): Promise<FileHandle> {
  const { signal, name = basename(part, ".part") } = options;
  await mkdir(dirname(part), { recursive: true });
  const file = await openPart(part);
  try {
    if (remote.url.startsWith("file:")) {
      await file.truncate();
      let done = 0;
      for await (const chunk of createReadStream(fileURLToPath(remote.url), { signal })) {
        done += await writeAll(file, chunk as Buffer, done);
      }
    } else {
      for (let attempt = 1; ; attempt++) {
        try {
          await fetchRest(remote, file, part, onProgress, { ...options, name });
          break;
        } catch (error) {
          if (signal?.aborted || error instanceof EngineError || isDiskError(error) || attempt === attempts) {
            throw describe(error, remote, (await file.stat()).size, options);
          }
          await new Promise((wake) => setTimeout(wake, pauseMs * attempt));
        }
      }
    }
    const [algorithm, expected, found] = await checksum(file, remote);
    if (found !== expected)
      throw new WrongContent(`${name}: expected ${algorithm} ${expected}, found ${found}`);
    return file;
  } catch (error) {
    await file.close();
    if (!(error instanceof WrongContent)) throw error;
    if (!signal?.aborted) await removePart(part);
    throw new DownloadError(error.message, { hint: "the download was removed, run again" });
  }
}

/**
 * {@link download}s `remote` to `path`, by way of `path.part`: the file appears under its own name only when it is whole
 * and its checksum is right.
 */
export async function downloadTo(
  remote: Remote,
  path: string,
  onProgress: OnProgress,
  options: DownloadOptions = {},
): Promise<void> {
  const part = `${path}.part`;
  const file = await download(remote, part, onProgress, { name: basename(path), ...options });
  try {
    await file.sync();
    // A private name tells this file apart from one that another process put in its place.
    const own = ownName(part);
    await rename(part, own);
    const [named, checked] = await Promise.all([stat(own), file.stat()]);
    if (named.dev !== checked.dev || named.ino !== checked.ino) {
      await rename(own, part);
      throw new DownloadError("another process downloads it", { file: path });
    }
    await rename(own, path);
    await rm(`${part}.etag`, { force: true });
  } finally {
    await file.close();
  }
}

/** Removes what {@link download} leaves behind. */
export async function removePart(part: string): Promise<void> {
  await rm(part, { force: true });
  await rm(`${part}.etag`, { force: true });
}

/**
 * Opens a private file with what `part` holds so far. Its previous writer may be asleep rather than dead, and still have
 * it open: it keeps its own file, so that no process ever writes to another's.
 */
async function openPart(part: string): Promise<FileHandle> {
  // Left by processes that were killed; one that was only asleep will miss its file.
  for (const name of await readdir(dirname(part)))
    if (name.startsWith(`${basename(part)}.`) && name.endsWith(".tmp"))
      await rm(join(dirname(part), name), { force: true });
  const own = ownName(part);
  let file: FileHandle | undefined;
  try {
    await copyFile(part, own, constants.COPYFILE_FICLONE).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
    file = await open(own, constants.O_RDWR | constants.O_CREAT);
    await rename(own, part);
    return file;
  } catch (error) {
    await file?.close();
    await rm(own, { force: true });
    throw error;
  }
}

const ownName = (part: string): string => `${part}.${randomBytes(4).toString("hex")}.tmp`;

/**
 * Like `fetch` (GET), but takes nothing that somebody on the way could have changed: it follows redirects only to https
 * or to this machine. Headers that identify the user are not sent on to another host.
 * @param alternative what the user can do if an address is not safe.
 * @throws EngineError naming the unsafe address.
 */
export async function fetchSafely(
  url: string,
  options: RequestInit,
  alternative = "FIRSTFRAME_LIBTENSORFLOW names a libtensorflow of your own",
): Promise<Response> {
  const headers = new Headers(options.headers);
  for (let address = url, redirects = 0; ; redirects++) {
    assertSafe(address, alternative);
    const response = await fetch(address, { ...options, headers, redirect: "manual" });
    const location = response.headers.get("location");
    if (![301, 302, 303, 307, 308].includes(response.status) || location === null) return response;
    await response.body?.cancel();
    if (redirects === mostRedirects) {
      throw new EngineError(`${url}: the server redirected more than ${mostRedirects} times`);
    }
    const next = new URL(location, address);
    if (next.origin !== new URL(address).origin)
      for (const name of ["authorization", "cookie", "proxy-authorization"]) headers.delete(name);
    address = next.href;
  }
}

function assertSafe(url: string, alternative: string): void {
  const { protocol, hostname } = new URL(url);
  if (protocol === "https:" || (protocol === "http:" && isLoopback(hostname))) return;
  throw new EngineError(
    `${url}: expected an https address, found ${protocol}//, which anybody on the way can change`,
    { hint: alternative },
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
  options: DownloadOptions & { readonly name: string },
): Promise<void> {
  const { name, stallMs = defaultStallMs } = options;
  const { size: have } = await file.stat();
  await assertSpace(dirname(part), remote.size - have, `downloading ${name}`, options.cacheSetting);
  const etag = await readFile(`${part}.etag`, "utf8").catch(() => "");
  if (have === remote.size) return;

  const resume = have > 0 && have < remote.size;
  const stall = new AbortController();
  let timer = setTimeout(() => stall.abort(), stallMs);
  try {
    const response = await fetchSafely(
      remote.url,
      {
        headers: {
          ...options.headers,
          "accept-encoding": "identity",
          ...(resume ? { range: `bytes=${have}-`, ...(etag ? { "if-range": etag } : {}) } : {}),
        },
        signal: options.signal === undefined ? stall.signal : AbortSignal.any([stall.signal, options.signal]),
      },
      options.alternative,
    );
    if (response.status === 416) {
      await file.truncate();
      throw new Error("the server has no more bytes than were already here");
    }
    if (!response.ok || response.body === null) {
      const { status } = response;
      const answer = `the server answered ${status} ${response.statusText}`;
      if (status === 429 || status >= 500) throw new Error(answer); // it may recover in a moment
      throw new DownloadError(`${remote.url}: ${answer}`, { status });
    }
    const start = response.status === 206 ? have : 0;
    await file.truncate(start);
    await writeFile(`${part}.etag`, response.headers.get("etag") ?? "");

    let done = start;
    onProgress(done, remote.size);
    for await (const chunk of response.body) {
      clearTimeout(timer); // a slow disk is not a stalled connection
      if (done + chunk.length > remote.size) {
        throw new WrongContent(`${name}: expected ${remote.size} bytes, the server sends more`);
      }
      done += await writeAll(file, chunk, done);
      onProgress(done, remote.size);
      timer = setTimeout(() => stall.abort(), stallMs);
    }
    if (done < remote.size) throw new Error(`the connection closed after ${done} of ${remote.size} bytes`);
  } finally {
    clearTimeout(timer);
    stall.abort(); // closes an answer that was not read to its end
  }
}

/** Bytes that are wrong, and will be however often they are fetched from there. */
class WrongContent extends EngineError {}

function isDiskError(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EROFS"].includes((error as { code?: string }).code ?? "");
}

function describe(error: unknown, remote: Remote, have: number, options: DownloadOptions): EngineError {
  if (error instanceof EngineError) return error;
  const { cacheSetting = "XDG_CACHE_HOME" } = options;
  if (isDiskError(error))
    return new DownloadError(firstLine(error), {
      hint: `free some space or set ${cacheSetting} to a larger disk`,
    });
  const cause = (error as { cause?: unknown }).cause;
  const reason = cause === undefined ? firstLine(error) : firstLine(cause) || firstLine(error);
  return new DownloadError(`${remote.url}: the download failed (${reason})`, {
    hint: have > 0 ? `the ${have} bytes that came are kept, run again to continue` : undefined,
    failure: isCertificateError(cause ?? error) ? "certificate" : "connection",
    cause: error,
  });
}

/** Whether a connection failed because of the server's certificate, judged by Node's TLS codes. */
export function isCertificateError(error: unknown): boolean {
  return /CERT|^UNABLE_TO_VERIFY_LEAF_SIGNATURE$/.test((error as { code?: string }).code ?? "");
}

/** Writes all of `bytes`. @returns their number. */
async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<number> {
  for (let at = 0; at < bytes.length; ) {
    at += (await file.write(bytes, at, bytes.length - at, position + at)).bytesWritten;
  }
  return bytes.length;
}

/** The kind of checksum, the expected one, and the actual one. */
async function checksum(file: FileHandle, remote: Remote): Promise<[string, string, string]> {
  if ("sha256" in remote) return ["SHA-256", remote.sha256, await hashOf(file, createHash("sha256"))];
  // Git hashes a file's bytes after a line that says how many they are
  const hash = createHash("sha1").update(`blob ${(await file.stat()).size}\0`);
  return ["Git's SHA-1", remote.gitSha1, await hashOf(file, hash)];
}

async function hashOf(file: FileHandle, hash: Hash): Promise<string> {
  const buffer = Buffer.allocUnsafe(1 << 20);
  for (let position = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) return hash.digest("hex");
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}
