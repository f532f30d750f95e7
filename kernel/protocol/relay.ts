/**
 * Stands between iopub's subscribers and ZeroMQ, which counts messages where memory is counted in bytes, tells nobody
 * which subscriber is slow, and can't part with one. Here each has a connection of its own, on which bytes pass as they
 * are, encrypted or not. Who does not read is seen, and is cut off once it has held up the others for too long;
 * ZeroMQ's clients then connect again by themselves.
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { removeAbandoned } from "./abandoned.js";

/** Bytes that wait here for a subscriber; what else there is for it waits in ZeroMQ, once for all subscribers. */
const buffered = 2 ** 18;
/** How long a subscriber may hold up the others, and how many bytes a millisecond it has to read to be forgiven. */
const patienceMs = 5000;
const slowest = 100;
/** A machine that was asleep is no subscriber's fault. */
const longestStepMs = 500;
/** What is read from ZeroMQ goes to pieces of memory of this size, of which the last this many bytes are not used. */
const slabSize = 2 ** 20;
const leastRead = 2 ** 16;
/** How long what is on its way may take when the kernel ends. */
const lingerMs = 1000;
/** Paths of sockets are short. */
const longestFolder = 60;
const parent = tmpdir().length <= longestFolder ? tmpdir() : "/tmp";
const prefix = "firstframe-iopub-";
/** When what killed kernels left is looked for: nobody waits for a kernel then. */
const restMs = 10_000;

export class Relay {
  private readonly folder = mkdtempSync(join(parent, prefix));
  private readonly server: Server;
  private readonly lines = new Set<Line>();
  private onLeft: () => void = () => undefined;
  /** When something last passed, on the clock of `performance.now()`. */
  lastPassed = 0;
  /** Where ZeroMQ binds its socket: in a folder that only this user can enter. */
  readonly path = join(this.folder, "zmq");

  constructor() {
    chmodSync(this.folder, 0o700);
    setTimeout(() => void removeAbandoned(parent, prefix, "zmq").catch(() => undefined), restMs).unref();
    this.server = createServer({ noDelay: true, highWaterMark: buffered }, (client) => {
      const line = new Line(client, this.path, {
        passed: () => {
          this.lastPassed = performance.now();
        },
        ended: () => {
          this.lines.delete(line);
          if (this.lines.size === 0) this.onLeft();
        },
      });
      this.lines.add(line);
    });
  }

  /** Accepts subscribers at an address of TCP, or at a path. */
  async listen(
    at: { readonly host: string; readonly port: number } | { readonly path: string },
  ): Promise<void> {
    // As ZeroMQ does: the socket that an earlier kernel left behind is in the way.
    if ("path" in at) rmSync(at.path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.server.once("error", reject);
      this.server.listen("host" in at && at.host === "*" ? { ...at, host: "0.0.0.0" } : at, () => {
        this.server.off("error", reject);
        // Too many open files is the worst that can happen now, and passes.
        this.server.on("error", (error) => console.error(`firstframe: iopub: ${error.message}`));
        resolve();
      });
    });
  }

  /** Output has been waiting for `ms` more: those subscribers that it waits for are cut off if they make no progress. */
  waited(ms: number): void {
    for (const line of this.lines) line.waited(Math.min(ms, longestStepMs));
  }

  /** To be called once ZeroMQ's socket is closed: what it still had goes out, and all connections end. */
  async close(): Promise<void> {
    this.server.close();
    if (this.lines.size > 0) {
      await Promise.race([
        new Promise<void>((resolve) => {
          this.onLeft = resolve;
        }),
        new Promise((resolve) => setTimeout(resolve, lingerMs)),
      ]);
    }
    for (const line of this.lines) line.cut();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** One subscriber. */
class Line {
  private readonly upstream: Socket;
  private slab = Buffer.alloc(0);
  private used = 0;
  private taken = 0;
  private debt = 0;

  constructor(
    private readonly client: Socket,
    path: string,
    private readonly on: { passed(): void; ended(): void },
  ) {
    this.upstream = connect({
      path,
      onread: { buffer: () => this.space(), callback: (size) => this.forward(size) },
    });
    client.on("drain", () => this.upstream.resume());
    client.pipe(this.upstream);
    client.on("error", () => undefined);
    this.upstream.on("error", () => undefined);
    client.once("close", () => {
      this.upstream.destroy();
      on.ended();
    });
    // What is buffered goes out before it closes.
    this.upstream.once("close", () => client.destroySoon());
  }

  waited(ms: number): void {
    const taken = this.client.bytesWritten - this.client.writableLength;
    this.debt = Math.max(0, this.debt - (taken - this.taken) / slowest);
    this.taken = taken;
    if (!this.client.writableNeedDrain) return;
    this.debt += ms;
    if (this.debt <= patienceMs) return;
    console.error(
      `firstframe: iopub: a subscriber that did not read for ${patienceMs / 1000} s while output waited for it is cut off`,
    );
    this.cut();
  }

  cut(): void {
    this.client.destroy();
  }

  private space(): Buffer {
    if (this.slab.length - this.used < leastRead) {
      this.slab = Buffer.allocUnsafeSlow(slabSize);
      this.used = 0;
    }
    return this.slab.subarray(this.used);
  }

  private forward(size: number): boolean {
    const piece = this.slab.subarray(this.used, this.used + size);
    this.used += size;
    this.on.passed();
    return this.client.write(piece);
  }
}
