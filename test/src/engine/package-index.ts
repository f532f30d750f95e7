/** A package index on this machine: serves wheels as PyPI does (PEP 691, range requests), and breaks as networks do. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import yazl from "yazl";

export interface Release {
  /** Of the distribution, as in its page's address. */
  name: string;
  filename: string;
  content: Buffer;
  /** What the index says of the content, where it lies; null where it says nothing. */
  sha256?: string | null;
  /** Where the page says that the file is; here unless given. */
  url?: string;
  /** Where a request for the file is sent on to. */
  redirect?: string;
  /** Sent after the content. */
  excess?: number;
  /** The connection closes after so many bytes; each value is for one request. */
  closeAfter?: number[];
  /** Bytes a second; unlimited unless given. */
  speed?: number;
}

export interface Request {
  path: string;
  range: string | undefined;
  sent: number;
}

/** In hexadecimal. */
export function sha256Of(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

/** A wheel with the given files, the same bytes each time. */
export async function wheel(files: Record<string, string | Buffer>): Promise<Buffer> {
  const zip = new yazl.ZipFile();
  for (const [path, content] of Object.entries(files))
    zip.addBuffer(Buffer.from(content), path, { compress: false, mtime: new Date(2026, 0, 1) });
  zip.end();
  return buffer(zip.outputStream as import("node:stream").Readable);
}

export class PackageIndex {
  readonly requests: Request[] = [];
  readonly #server: Server;

  private constructor(readonly releases: Release[]) {
    this.#server = createServer(async (request, response) => {
      const path = new URL(request.url!, "http://index").pathname;
      const seen: Request = { path, range: request.headers.range, sent: 0 };
      this.requests.push(seen);
      const page = /^\/simple\/([^/]+)\/$/.exec(path);
      const found = releases.filter(({ name, filename }) =>
        page ? name === page[1] : path === `/files/${filename}`,
      );
      if (found.length === 0) return void response.writeHead(404).end();
      if (page) {
        response.writeHead(200, { "content-type": "application/vnd.pypi.simple.v1+json" });
        return void response.end(JSON.stringify(this.#page(page[1]!, found)));
      }
      const [release] = found;
      const { closeAfter, speed, redirect, excess = 0 } = release!;
      if (redirect !== undefined) return void response.writeHead(302, { location: redirect }).end();
      const content = Buffer.concat([release!.content, Buffer.alloc(excess)]);
      const start = Number(/^bytes=(\d+)-$/.exec(seen.range ?? "")?.[1] ?? 0);
      const rest = content.subarray(start);
      response.writeHead(start > 0 ? 206 : 200, {
        "content-length": rest.length,
        etag: '"one"',
        ...(start > 0 ? { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` } : {}),
      });
      if (request.method === "HEAD") return void response.end();
      const limit = closeAfter?.shift() ?? rest.length;
      const piece = speed === undefined ? limit : Math.ceil(speed / 20);
      for (let at = 0; at < limit && !response.destroyed; at += piece) {
        const part = rest.subarray(at, Math.min(at + piece, limit));
        await new Promise<void>((done) => response.write(part, () => done()));
        seen.sent += part.length;
        if (speed !== undefined) await new Promise((wake) => setTimeout(wake, 50));
      }
      // what was written must reach the client before the connection breaks
      if (limit < rest.length) setTimeout(() => response.destroy(), 100);
      else response.end();
    });
  }

  /** @param host all addresses of this machine unless given */
  static async start(releases: Release[], host = "0.0.0.0"): Promise<PackageIndex> {
    const index = new PackageIndex(releases);
    index.#server.listen(0, host);
    await once(index.#server, "listening");
    return index;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/simple`;
  }

  /** By an address that is not this machine's own as far as a client can see. */
  get remoteUrl(): string {
    return `http://0.0.0.0:${this.#port}/simple`;
  }

  get #port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Requests for a file's content. */
  get downloads(): Request[] {
    return this.requests.filter(({ path }) => path.startsWith("/files/") && !path.endsWith(".metadata"));
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  #page(name: string, releases: Release[]): object {
    return {
      meta: { "api-version": "1.0" },
      name,
      files: releases.map(({ filename, content, sha256, url }) => ({
        filename,
        url: url ?? `../../files/${filename}`,
        hashes: sha256 === null ? {} : { sha256: sha256 ?? sha256Of(content) },
        size: content.length,
      })),
    };
  }
}
