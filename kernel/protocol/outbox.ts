/**
 * What waits to be sent. ZeroMQ takes little (its high-water marks count messages, however large); the rest waits here,
 * where bytes are counted.
 */
import type * as zmq from "zeromq";

/** For so long, a message that ZeroMQ has no room for is tried again at once; then after ever longer pauses. */
const eagerMs = 2;
const intervalsMs = { first: 2, last: 50, growth: 0.02 };
/** Bytes of replies that may wait for one client. */
const replyBudget = 2 ** 24;
/** How long a client may leave its replies unread, where that many wait, before they are dropped. */
const patienceMs = 5000;

type Frames = zmq.MessageLike[];

/** Messages for one destination, sent one after the other. */
export class Outbox {
  private queue: { frames: Frames; bytes: number }[] = [];
  private sending: Promise<void> | undefined;
  private closed = false;
  /** Bytes that wait here. */
  pending = 0;
  /** How long the first message has been waiting for room. */
  stuckMs = 0;
  onDrained: (() => void) | undefined;

  /** @param onWait called time and again while ZeroMQ has no room, with the milliseconds since the last call. */
  constructor(
    private readonly socket: zmq.Router | zmq.XPublisher | zmq.Dealer,
    private readonly onWait: (ms: number) => void = () => undefined,
  ) {}

  send(frames: Frames): void {
    if (this.closed) return;
    let bytes = 0;
    for (const frame of frames) bytes += byteLength(frame);
    this.queue.push({ frames, bytes });
    this.pending += bytes;
    this.sending ??= this.sendAll();
  }

  /** Forgets what waits, but for the message that is being sent. */
  clear(): void {
    for (const { bytes } of this.queue) this.pending -= bytes;
    this.queue = [];
  }

  /** Resolves when all that was given to {@link send} is with ZeroMQ. */
  async drained(): Promise<void> {
    await this.sending;
  }

  close(): void {
    this.closed = true;
  }

  private async sendAll(): Promise<void> {
    for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) {
      await this.deliver(next.frames);
      this.pending -= next.bytes;
    }
    this.sending = undefined;
    this.onDrained?.();
  }

  private async deliver(frames: Frames): Promise<void> {
    let since = performance.now();
    while (!this.closed) {
      try {
        await this.socket.send(frames);
        break;
      } catch (error) {
        // Whoever asked is gone; then there is nobody to answer.
        if ((error as { code?: string }).code !== "EAGAIN") break;
      }
      await new Promise((resolve) => {
        if (this.stuckMs < eagerMs) setImmediate(resolve);
        else
          setTimeout(
            resolve,
            Math.min(intervalsMs.first + this.stuckMs * intervalsMs.growth, intervalsMs.last),
          );
      });
      const now = performance.now();
      this.stuckMs += now - since;
      this.onWait(now - since);
      since = now;
    }
    this.stuckMs = 0;
  }
}

/** What goes out on a ROUTER socket: each client has a queue, so that none that does not read holds up another. */
export class Replies {
  private readonly outboxes = new Map<string, Outbox>();
  private readonly deaf = new Set<Outbox>();

  /**
   * @param onFull called when replies pile up that a client may still read, and when they no longer do: time to stop
   * taking requests.
   */
  constructor(
    private readonly socket: zmq.Router,
    private readonly onFull: (full: boolean) => void,
  ) {}

  /** @param frames the first names the client. */
  send(frames: Frames): void {
    const client = Buffer.from(frames[0] as Uint8Array).toString("latin1");
    let outbox = this.outboxes.get(client);
    if (outbox === undefined) {
      const made = new Outbox(this.socket, () => this.check(made));
      made.onDrained = () => {
        this.outboxes.delete(client);
        this.deaf.delete(made);
        this.tell();
      };
      this.outboxes.set(client, made);
      outbox = made;
    }
    if (this.deaf.has(outbox)) return;
    outbox.send(frames);
    this.tell();
  }

  async drained(): Promise<void> {
    await Promise.all([...this.outboxes.values()].map((outbox) => outbox.drained()));
  }

  close(): void {
    for (const outbox of this.outboxes.values()) outbox.close();
  }

  private check(outbox: Outbox): void {
    if (outbox.stuckMs > patienceMs && outbox.pending > replyBudget && !this.deaf.has(outbox)) {
      console.error(`firstframe: a client does not read its replies: ${outbox.pending} bytes are dropped`);
      this.deaf.add(outbox);
      outbox.clear();
    }
    this.tell();
  }

  private tell(): void {
    this.onFull(
      [...this.outboxes.values()].some((each) => each.pending > replyBudget && !this.deaf.has(each)),
    );
  }
}

function byteLength(frame: zmq.MessageLike): number {
  if (typeof frame === "string") return frame.length;
  return frame !== null && typeof frame === "object" ? frame.byteLength : 8;
}
