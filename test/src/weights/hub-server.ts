/** A Hugging Face Hub on this machine: its API and files, large ones on a "CDN" at another port, and what goes wrong there. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

export interface Request {
  readonly server: "hub" | "cdn";
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
  /** Bytes of a file that were written to the connection. */
  sent: number;
}

/** What is wrong with a file, by its path in the repository. */
export interface Fault {
  /** The connection breaks after so many bytes; each value is for one request. */
  closeAfter?: number[];
  /** Answers instead of the file; each value is for one request. */
  statuses?: number[];
  /** Other bytes than the listing says. */
  content?: Buffer;
  /** Another size than the file has, in the listing. */
  listedSize?: number;
  /** What stands for the content's hash in the listing. */
  listedHash?: string;
  ignoresRanges?: boolean;
  /** Bytes a second. */
  speed?: number;
}

export interface Repo {
  /** Files of each commit. */
  readonly commits: Map<string, Map<string, Buffer>>;
  /** Branches and tags. */
  readonly refs: Map<string, string>;
  /** Files only go to those with this token. */
  gated?: string;
  /** Nobody else learns that it exists. */
  private?: string;
}

export const MAIN = "c".repeat(40);

const hashed = (algorithm: string, ...parts: (string | Buffer)[]) => {
  const hash = createHash(algorithm);
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};
export const sha256 = (content: Buffer): string => hashed("sha256", content);
/** As Git names a file. */
export const gitSha1 = (content: Buffer): string => hashed("sha1", `blob ${content.length}\0`, content);
/** The Hub keeps weights and large files in Git LFS. */
const isLfs = (path: string, content: Buffer) =>
  /\.(safetensors|bin|model|png)$/.test(path) || content.length > 1e6;
const pointerOf = (content: Buffer) =>
  Buffer.from(
    `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256(content)}\nsize ${content.length}\n`,
  );
/** The name of a file's bytes in a cache. */
export const etagOf = (path: string, content: Buffer): string =>
  isLfs(path, content) ? sha256(content) : gitSha1(content);

/** All files of a folder, by their paths in it. */
export function filesOf(folder: string): Map<string, Buffer> {
  const names = readdirSync(folder, { recursive: true }) as string[];
  const paths = names.filter((name) => statSync(join(folder, name)).isFile()).sort();
  return new Map(paths.map((path) => [path, readFileSync(join(folder, path))]));
}

export class HubServer {
  readonly repos = new Map<string, Repo>();
  readonly requests: Request[] = [];
  readonly faults = new Map<string, Fault>();
  /** Answers to requests for the API, instead of its own. */
  api: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  /** Files in one page of a listing. */
  pageSize = 1000;
  /** Where the next page of a listing is, if not here. */
  nextPageAt: string | undefined;
  url = "";
  cdnUrl = "";
  readonly #hub: Server;
  readonly #cdn: Server;

  private constructor() {
    this.#hub = createServer((request, response) => void this.#answer(request, response));
    this.#cdn = createServer((request, response) => void this.#answerCdn(request, response));
  }

  static async start(): Promise<HubServer> {
    const server = new HubServer();
    for (const each of [server.#hub, server.#cdn]) {
      each.listen(0, "127.0.0.1");
      await once(each, "listening");
    }
    server.url = addressOf(server.#hub);
    server.cdnUrl = addressOf(server.#cdn);
    return server;
  }

  add(id: string, files: ReadonlyMap<string, Buffer>, settings: Partial<Repo> = {}): Repo {
    const repo: Repo = {
      commits: new Map([[MAIN, new Map(files)]]),
      refs: new Map([["main", MAIN]]),
      ...settings,
    };
    this.repos.set(id, repo);
    return repo;
  }

  fault(path: string): Fault {
    const fault = this.faults.get(path) ?? {};
    this.faults.set(path, fault);
    return fault;
  }

  /** Paths of the files whose content was asked for, each once. */
  get fetched(): string[] {
    const paths = this.requests
      .filter(
        ({ server, method, path }) => server === "hub" && method === "GET" && path.includes("/resolve/"),
      )
      .map(({ path }) => decodeURIComponent(path.replace(/^.*\/resolve\/[^/]+\//, "")));
    return [...new Set(paths)].sort();
  }

  /** Bytes that the CDN sent of a content. */
  sent(content: Buffer): number {
    return this.requests
      .filter(({ server, path }) => server === "cdn" && path.includes(sha256(content)))
      .reduce((sum, { sent }) => sum + sent, 0);
  }

  /** Forgets what was asked for and what was wrong. */
  reset(): void {
    this.requests.length = 0;
    this.faults.clear();
    this.api = undefined;
    this.pageSize = 1000;
    this.nextPageAt = undefined;
  }

  async close(): Promise<void> {
    for (const each of [this.#hub, this.#cdn]) {
      each.closeAllConnections();
      each.close();
      await once(each, "close");
    }
  }

  #note(server: Request["server"], { method, url, headers }: IncomingMessage): Request {
    const { range, authorization } = headers;
    const request: Request = { server, method: method!, path: url!, range, authorization, sent: 0 };
    this.requests.push(request);
    return request;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const noted = this.#note("hub", request);
    const { pathname, searchParams } = new URL(request.url!, this.url);
    const refuse = (status: number, code: string, error: string) =>
      response
        .writeHead(status, {
          "x-error-code": code,
          "x-error-message": error,
          "content-type": "application/json",
        })
        .end(request.method === "HEAD" ? undefined : JSON.stringify({ error }));
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(pathname);
    const api = /^\/api\/models\/([^/]+\/[^/]+)(?:\/(revision|tree)\/([^/]+))?$/.exec(pathname);
    if (!file && this.api?.(request, response)) return;
    const [, id, second, third] = file ?? api ?? [];
    const repo = this.repos.get(id ?? "");
    const token = request.headers.authorization?.replace("Bearer ", "");
    if (!repo || (repo.private !== undefined && token !== repo.private)) {
      if (token?.includes("invalid"))
        return void refuse(401, "", "Invalid credentials in Authorization header");
      return void refuse(token === undefined ? 401 : 404, "RepoNotFound", "Repository not found");
    }
    const revision = decodeURIComponent((file ? second : third) ?? "main");
    const commit = repo.refs.get(revision) ?? revision;
    const files = repo.commits.get(commit);
    if (!files) return void refuse(404, "RevisionNotFound", `Invalid rev id: ${revision}`);
    if (!file) {
      if (second === "tree") return this.#list(response, files, searchParams);
      const answer = {
        _id: "1",
        id,
        sha: commit,
        private: false,
        gated: repo.gated ? "auto" : false,
        likes: 0,
      };
      const rest = { downloads: 0, lastModified: "2026-01-01T00:00:00.000Z", tags: [], modelId: id };
      return json(response, { ...answer, ...rest });
    }
    if (repo.gated !== undefined && token !== repo.gated)
      return void refuse(token === undefined ? 401 : 403, "GatedRepo", "Access to this model is restricted.");
    const path = decodeURIComponent(third!);
    const content = files.get(path);
    if (!content) return void refuse(404, "EntryNotFound", "Entry not found");
    const fault = this.faults.get(path) ?? {};
    const headers = { "x-repo-commit": commit, "accept-ranges": "bytes" };
    if (!isLfs(path, content)) {
      await send(request, response, noted, content, fault, { ...headers, etag: `"${gitSha1(content)}"` });
      return;
    }
    response
      .writeHead(302, {
        ...headers,
        location: `${this.cdnUrl}/${sha256(content)}?path=${encodeURIComponent(path)}`,
        "x-linked-etag": `"${sha256(content)}"`,
        "x-linked-size": content.length,
      })
      .end();
  }

  async #answerCdn(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const noted = this.#note("cdn", request);
    const { pathname, searchParams } = new URL(request.url!, this.cdnUrl);
    const all = [...this.repos.values()].flatMap(({ commits }) => [...commits.values()]);
    const path = searchParams.get("path")!;
    const content = all
      .map((files) => files.get(path))
      .find((found) => found && `/${sha256(found)}` === pathname);
    if (!content) return void response.writeHead(404).end();
    await send(request, response, noted, content, this.faults.get(path) ?? {}, {
      etag: `"${pathname.slice(1)}"`,
    });
  }

  #list(response: ServerResponse, files: Map<string, Buffer>, query: URLSearchParams): void {
    const entries = [...files].map(([path, content]) => {
      const { listedSize: size = content.length, listedHash } = this.faults.get(path) ?? {};
      if (!isLfs(path, content)) return { type: "file", path, size, oid: listedHash ?? gitSha1(content) };
      const pointer = pointerOf(content);
      const lfs = { oid: listedHash ?? sha256(content), size, pointerSize: pointer.length };
      return { type: "file", path, size, oid: gitSha1(pointer), lfs };
    });
    const folders = new Set(
      [...files.keys()].filter((path) => path.includes("/")).map((path) => path.split("/")[0]!),
    );
    const all = [
      ...[...folders].map((path) => ({ type: "directory", path, size: 0, oid: "d".repeat(40) })),
      ...entries,
    ];
    const start = Number(query.get("cursor") ?? 0);
    const end = start + this.pageSize;
    const next = `${this.nextPageAt ?? this.url}/api/models/org/tiny/tree/${MAIN}?recursive=true&cursor=${end}`;
    json(response, all.slice(start, end), end < all.length ? { link: `<${next}>; rel="next"` } : {});
  }
}

const addressOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

function json(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
}

async function send(
  request: IncomingMessage,
  response: ServerResponse,
  noted: Request,
  real: Buffer,
  fault: Fault,
  headers: Record<string, string>,
): Promise<void> {
  const status = fault.statuses?.shift();
  if (status !== undefined) return void response.writeHead(status).end();
  const content = fault.content ?? real;
  const range = fault.ignoresRanges ? undefined : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = Number(range?.[1] ?? 0);
  const end = range?.[2] ? Number(range[2]) + 1 : content.length;
  const rest = content.subarray(start, end);
  response.writeHead(range ? 206 : 200, {
    ...headers,
    "content-length": rest.length,
    ...(range ? { "content-range": `bytes ${start}-${end - 1}/${content.length}` } : {}),
  });
  if (request.method === "HEAD") return void response.end();
  const limit = Math.min(rest.length, fault.closeAfter?.shift() ?? rest.length);
  const piece = fault.speed === undefined ? limit : Math.ceil(fault.speed / 20);
  for (let at = 0; at < limit && !response.destroyed; at += piece) {
    const part = rest.subarray(at, Math.min(at + piece, limit));
    await new Promise<void>((done) => response.write(part, () => done()));
    noted.sent += part.length;
    if (fault.speed !== undefined) await new Promise((wake) => setTimeout(wake, 50));
  }
  // what was written must reach the client before the connection breaks
  if (limit < rest.length) setTimeout(() => response.destroy(), 100);
  else response.end();
}
