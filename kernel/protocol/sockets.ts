/**
 * A kernel's five ZeroMQ sockets.
 */
import * as zmq from "zeromq";
import { type Channel, type ConnectionInfo, curveOptions, endpoint, listeningAt } from "./connection.js";
import { Outbox, Replies } from "./outbox.js";
import { Relay } from "./relay.js";

/** One message may be this large; a peer that sends more is disconnected before memory runs out. */
const maxMessageSize = 2 ** 29;
/**
 * ZeroMQ counts messages, not bytes: of replies it takes a few for each client, and reads few requests ahead. What
 * else there is waits here or with the client.
 */
const replying = {
  maxMessageSize,
  sendHighWaterMark: 8,
  receiveHighWaterMark: 8,
  sendTimeout: 0,
  mandatory: true,
  linger: 1000,
};
/** What a subscriber has not got yet waits in our own queue, but for this many messages. */
const iopubHighWaterMark = 4;
/** Bytes of requests that may wait; then the shell is not read on, so that whoever sends has to wait. */
const intakeBudget = 2 ** 24;
/** How long the last messages have to go out. */
const farewellMs = 1000;

export class KernelSockets {
  private readonly shellSocket = new zmq.Router(replying);
  private readonly controlSocket = new zmq.Router(replying);
  private readonly stdinSocket = new zmq.Router(replying);
  private readonly iopubSocket = new zmq.XPublisher({
    maxMessageSize: 4096,
    linger: 1000,
    sendHighWaterMark: iopubHighWaterMark,
    sendTimeout: 0,
    noDrop: true,
  });
  // A ROUTER that echoes is a REP that no peer can get out of step. Pings are short, and no client sends many.
  private readonly heartbeatSocket = new zmq.Router({
    maxMessageSize: 1024,
    sendHighWaterMark: 8,
    receiveHighWaterMark: 8,
    linger: 0,
  });
  private readonly relay = new Relay();

  readonly intake = new Intake();
  readonly shell = new Replies(this.shellSocket, (full) => this.intake.hold("shell", full));
  readonly control = new Replies(this.controlSocket, (full) => this.intake.hold("control", full));
  readonly stdin = new Replies(this.stdinSocket, () => undefined);
  readonly iopub = new Outbox(this.iopubSocket, (ms) => this.relay.waited(ms));
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
      const curve = curveOptions(info);
      if (curve !== undefined) Object.assign(socket, { ...curve, curveServer: true });
      try {
        if (channel === "iopub") {
          await socket.bind(`ipc://${this.relay.path}`);
          await this.relay.listen(listeningAt(info, channel));
        } else {
          await socket.bind(address);
        }
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
    receive(this.shellSocket, (frames) => on.message("shell", frames), this.intake);
    receive(this.controlSocket, (frames) => on.message("control", frames));
    receive(this.stdinSocket, (frames) => on.message("stdin", frames));
    receive(this.heartbeatSocket, (frames) => this.heartbeat.send(frames));
    receive(this.iopubSocket, (frames) => {
      const [frame] = frames;
      if (frames.length === 1 && frame !== undefined && frame[0] === 1) on.subscription(frame.subarray(1));
    });
  }

  /** Whether output is on its way, or was in the last `ms`. */
  busy(ms: number): boolean {
    return this.iopub.pending > 0 || performance.now() < this.relay.lastPassed + ms;
  }

  /** Sends what is queued, then closes. */
  async close(): Promise<void> {
    const outboxes = [this.shell, this.control, this.stdin, this.iopub];
    await Promise.race([
      Promise.all(outboxes.map((outbox) => outbox.drained())),
      new Promise((resolve) => setTimeout(resolve, farewellMs)),
    ]);
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
    await this.relay.close();
  }
}

/** How much of what came in waits, in bytes: there is a limit, and whoever sends more has to wait, too. */
export class Intake {
  private readonly reasons = new Set<"requests" | "shell" | "control">();
  private waiting = 0;
  private open: Promise<void> | undefined;
  private onOpen: () => void = () => undefined;
  private onRepliesRead: (() => void)[] = [];

  /** Whether enough waits. */
  get full(): boolean {
    return this.reasons.size > 0;
  }

  /** A request came in, or (less than zero) is done with. */
  add(bytes: number): void {
    this.waiting += bytes;
    this.hold("requests", this.waiting > intakeBudget);
  }

  /** @param reason what there is enough of: requests, or replies on a channel. */
  hold(reason: "requests" | "shell" | "control", full: boolean): void {
    if (full) this.reasons.add(reason);
    else this.reasons.delete(reason);
    if (!this.repliesWait) for (const resume of this.onRepliesRead.splice(0)) resume();
    if (this.full) {
      this.open ??= new Promise((resolve) => {
        this.onOpen = resolve;
      });
    } else {
      this.open = undefined;
      this.onOpen();
    }
  }

  private get repliesWait(): boolean {
    return this.reasons.has("shell") || this.reasons.has("control");
  }

  /** Resolves when no more replies wait than should: time to make another. */
  async repliesRead(): Promise<void> {
    while (this.repliesWait) await new Promise<void>((resolve) => this.onRepliesRead.push(resolve));
  }

  /** Resolves when there is room. */
  async room(): Promise<void> {
    while (this.open !== undefined) await this.open;
  }
}

async function receive(
  socket: zmq.Router | zmq.XPublisher,
  handle: (frames: Buffer[]) => void,
  intake?: Intake,
): Promise<void> {
  while (!socket.closed) {
    if (intake?.full) await intake.room();
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
