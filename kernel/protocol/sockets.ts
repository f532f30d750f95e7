/**
 * A kernel's five ZeroMQ sockets.
 */
import * as zmq from "zeromq";
import { type Channel, type ConnectionInfo, endpoint } from "./connection.js";

/** One message may be this large; a peer that sends more is disconnected before memory runs out. */
const maxMessageSize = 2 ** 29;
/** Messages kept for a subscriber that is slow; with coalesced output that is a lot of output. */
const iopubHighWaterMark = 1000;
const replying = { maxMessageSize, sendHighWaterMark: 100_000, linger: 1000 };
/** How long one stuck subscriber holds up output before what it misses is dropped. */
const patience = 5000;

/**
 * Sends one message after the other. Sends that are not awaited fail once some 512 have been issued in a tick,
 * so all go through here.
 */
export class Outbox {
  private queue: { frames: zmq.MessageLike[]; bytes: number }[] = [];
  private running: Promise<void> | undefined;
  private dropUntil = 0;
  private closed = false;
  /** Bytes that wait here. */
  pending = 0;
  onDrained: (() => void) | undefined;

  constructor(private readonly socket: zmq.Router | zmq.XPublisher | zmq.Dealer) {}

  send(frames: zmq.MessageLike[]): void {
    if (this.closed) return;
    let bytes = 0;
    for (const frame of frames) bytes += byteLength(frame);
    this.queue.push({ frames, bytes });
    this.pending += bytes;
    this.running ??= this.run();
  }

  /** Resolves when all that was given to {@link send} is with ZeroMQ. */
  async drained(): Promise<void> {
    await this.running;
  }

  close(): void {
    this.closed = true;
  }

  private async run(): Promise<void> {
    while (this.queue.length > 0) {
      const batch = this.queue;
      this.queue = [];
      for (const { frames, bytes } of batch) {
        await this.deliver(frames);
        this.pending -= bytes;
      }
    }
    this.running = undefined;
    this.onDrained?.();
  }

  private async deliver(frames: zmq.MessageLike[]): Promise<void> {
    const start = performance.now();
    while (!this.closed) {
      try {
        await this.socket.send(frames);
        return;
      } catch (error) {
        // A ROUTER's peer may be gone; then there is nobody to answer.
        if ((error as { code?: string }).code !== "EAGAIN" || !(this.socket instanceof zmq.XPublisher))
          return;
        const now = performance.now();
        if (now < this.dropUntil || now - start > patience) {
          // One stopped client must not stop the others: for a while, what it has no room for is dropped.
          if (now >= this.dropUntil) this.dropUntil = now + patience;
          this.socket.noDrop = false;
          await this.socket.send(frames).catch(() => undefined);
          this.socket.noDrop = true;
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  }
}

function byteLength(frame: zmq.MessageLike): number {
  if (typeof frame === "string") return frame.length;
  return frame !== null && typeof frame === "object" ? frame.byteLength : 8;
}

export class KernelSockets {
  private readonly shellSocket = new zmq.Router(replying);
  private readonly controlSocket = new zmq.Router(replying);
  private readonly stdinSocket = new zmq.Router(replying);
  private readonly iopubSocket = new zmq.XPublisher({
    maxMessageSize: 4096,
    linger: 1000,
    sendHighWaterMark: iopubHighWaterMark,
    noDrop: true,
  });
  // A ROUTER that echoes is a REP that no peer can get out of step.
  private readonly heartbeatSocket = new zmq.Router({ maxMessageSize: 65536, linger: 0 });

  readonly shell = new Outbox(this.shellSocket);
  readonly control = new Outbox(this.controlSocket);
  readonly stdin = new Outbox(this.stdinSocket);
  readonly iopub = new Outbox(this.iopubSocket);
  private readonly heartbeat = new Outbox(this.heartbeatSocket);

  async bind(info: ConnectionInfo): Promise<void> {
    this.iopubSocket.verbosity = "allSubs";
    const sockets: [Channel, zmq.Router | zmq.XPublisher][] = [
      ["shell", this.shellSocket],
      ["control", this.controlSocket],
      ["stdin", this.stdinSocket],
      ["iopub", this.iopubSocket],
      ["hb", this.heartbeatSocket],
    ];
    for (const [channel, socket] of sockets) {
      const address = endpoint(info, channel);
      try {
        await socket.bind(address);
      } catch (error) {
        throw new Error(`${channel} socket: can't bind ${address}: ${(error as Error).message}`);
      }
    }
  }

  /** Hands over every message that arrives. Handlers must not throw. */
  listen(on: {
    message(channel: "shell" | "control" | "stdin", frames: Buffer[]): void;
    subscription(topic: Buffer): void;
  }): void {
    receive(this.shellSocket, (frames) => on.message("shell", frames));
    receive(this.controlSocket, (frames) => on.message("control", frames));
    receive(this.stdinSocket, (frames) => on.message("stdin", frames));
    receive(this.heartbeatSocket, (frames) => this.heartbeat.send(frames));
    receive(this.iopubSocket, (frames) => {
      const [frame] = frames;
      if (frames.length === 1 && frame !== undefined && frame[0] === 1) on.subscription(frame.subarray(1));
    });
  }

  /** Sends what is queued, then closes. */
  async close(): Promise<void> {
    const outboxes = [this.shell, this.control, this.stdin, this.iopub];
    await Promise.all(outboxes.map((outbox) => outbox.drained()));
    for (const outbox of [...outboxes, this.heartbeat]) outbox.close();
    for (const socket of [
      this.shellSocket,
      this.controlSocket,
      this.stdinSocket,
      this.iopubSocket,
      this.heartbeatSocket,
    ]) {
      socket.close();
    }
  }
}

async function receive(
  socket: zmq.Router | zmq.XPublisher,
  handle: (frames: Buffer[]) => void,
): Promise<void> {
  while (!socket.closed) {
    try {
      handle((await socket.receive()) as Buffer[]);
    } catch (error) {
      if (socket.closed) return;
      const code = (error as { code?: string }).code;
      if (code === "ETERM" || code === "ENOTSOCK") return;
      console.error(`firstframe: ${error instanceof Error ? error.stack : String(error)}`);
    }
  }
}
