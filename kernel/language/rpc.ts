/**
 * JSON-RPC as language servers speak it. A cell waits for each answer, so messages are written and read at once, without a turn of
 * the event loop between.
 */
import type { Readable, Writable } from "node:stream";

interface Incoming {
  readonly id?: number | string;
  readonly method?: string;
  readonly params?: unknown;
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string };
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

const separator = Buffer.from("\r\n\r\n");

export class Rpc {
  private readonly waiting = new Map<number, Waiting>();
  private lastId = 0;
  /** Notices that go out with the next request, so that one message wakes the server. */
  private held = "";
  private chunks: Buffer[] = [];
  private received = 0;
  /** How many bytes make the next message complete, as far as that is known. */
  private needed = 0;
  private closed = false;

  /** @param answer the result of a request that the server makes. */
  constructor(
    input: Readable,
    private readonly output: Writable,
    private readonly answer: (method: string, params: unknown) => unknown,
    onClose: () => void,
  ) {
    input.on("data", (chunk: Buffer) => this.push(chunk));
    input.on("error", () => undefined);
    input.once("close", onClose);
  }

  /** Rejects with what the server says is wrong. `signal` tells it that nobody waits any more; it answers nevertheless. */
  request<T>(method: string, params?: unknown, signal?: AbortSignal): Promise<T> {
    if (this.closed) return Promise.reject(new Error("the connection is closed"));
    this.lastId += 1;
    const id = this.lastId;
    const cancel = () => this.send({ method: "$/cancelRequest", params: { id } });
    return new Promise<unknown>((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.send({ id, method, params });
      if (signal?.aborted) cancel();
      else signal?.addEventListener("abort", cancel);
    }).finally(() => signal?.removeEventListener("abort", cancel)) as Promise<T>;
  }

  notify(method: string, params?: unknown): void {
    if (this.closed) return;
    const about = /^(?:textDocument|workspace)\/did/.test(method);
    this.send({ method, params }, about);
  }

  /** Whoever waits for an answer gets none. */
  close(): void {
    this.closed = true;
    for (const { reject } of this.waiting.values()) reject(new Error("the connection is closed"));
    this.waiting.clear();
  }

  private send(message: object, hold = false): void {
    const body = JSON.stringify({ jsonrpc: "2.0", ...message });
    this.held += `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
    if (hold) return;
    this.output.write(this.held);
    this.held = "";
  }

  private push(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.received += chunk.length;
    if (this.received < this.needed) return;
    let data = this.chunks.length === 1 ? chunk : Buffer.concat(this.chunks);
    for (;;) {
      const head = data.indexOf(separator);
      if (head < 0) break;
      const length = Number(/content-length: *(\d+)/i.exec(data.toString("latin1", 0, head))?.[1] ?? 0);
      const start = head + separator.length;
      this.needed = start + length;
      if (data.length < this.needed) break;
      const body = data.toString("utf8", start, this.needed);
      data = data.subarray(this.needed);
      this.needed = 0;
      this.receive(body);
    }
    this.chunks = data.length > 0 ? [data] : [];
    this.received = data.length;
  }

  private receive(body: string): void {
    let message: Incoming;
    try {
      message = JSON.parse(body) as Incoming;
    } catch {
      return; // who waits for it is told by the watchdog
    }
    const { id, method, params, result, error } = message;
    if (method !== undefined) {
      if (id !== undefined && !this.closed) this.send({ id, result: this.answer(method, params) });
      return;
    }
    const waiting = this.waiting.get(id as number);
    this.waiting.delete(id as number);
    if (error === undefined) waiting?.resolve(result ?? null);
    else waiting?.reject(new Error(error.message));
  }
}
