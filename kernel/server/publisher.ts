/**
 * Everything that goes out on iopub. Text is gathered for a moment, so that ten thousand lines are a few messages;
 * whatever else is published sends it first.
 */
import type { Header } from "../protocol/messages.js";
import type { Outbox } from "../protocol/outbox.js";
import type { PublishedContents, PublishedType } from "../protocol/published.js";
import type { Wire } from "../protocol/wire.js";

/** How long text may wait for more. */
const gatherMs = 30;
const maxText = 2 ** 19;
/** Above this, whoever makes output is slowed down; below half of it, no longer. */
const highWater = 2 ** 24;

export class Publisher {
  private text:
    | { parent: Header | undefined; name: "stdout" | "stderr"; pieces: string[]; length: number }
    | undefined;
  private timer: NodeJS.Timeout | undefined;
  private lastFlush = Number.NEGATIVE_INFINITY;
  private congested = false;
  /** What is published once this turn of the event loop is over. */
  private held: (() => void)[] = [];

  constructor(
    private readonly wire: Wire,
    private readonly outbox: Outbox,
    private readonly onCongestion: (congested: boolean) => void,
  ) {
    outbox.onDrained = () => this.checkCongestion();
  }

  publish<Type extends PublishedType>(
    type: Type,
    parent: Header | undefined,
    content: PublishedContents[Type],
  ): void {
    this.flush();
    this.send(type, parent, content);
  }

  /**
   * Publishes a moment later, before anything else is: what takes time can begin meanwhile, as signing and sending take
   * a tenth of a millisecond.
   */
  publishSoon<Type extends PublishedType>(
    type: Type,
    parent: Header | undefined,
    content: PublishedContents[Type],
  ): void {
    if (this.text !== undefined) this.flush();
    if (this.held.length === 0) setImmediate(() => this.release());
    this.held.push(() => this.send(type, parent, content));
  }

  /** Passes on what comes from the executor; its content is JSON already. */
  forward(
    type: string,
    parent: Header | undefined,
    content: Uint8Array,
    extras: { readonly metadata: Record<string, unknown>; readonly buffers: readonly Uint8Array[] },
  ): void {
    this.flush();
    this.send(type, parent, content, extras);
  }

  status(state: PublishedContents["status"]["execution_state"], parent: Header | undefined): void {
    this.publish("status", parent, { execution_state: state });
  }

  stream(name: "stdout" | "stderr", parent: Header | undefined, text: string): void {
    if (text === "") return;
    this.release();
    if (this.text !== undefined && (this.text.name !== name || this.text.parent !== parent)) this.flush();
    this.text ??= { parent, name, pieces: [], length: 0 };
    this.text.pieces.push(text);
    this.text.length += text.length;
    if (this.text.length >= maxText) this.flush();
    else if (this.timer === undefined) {
      const wait = Math.max(0, this.lastFlush + gatherMs - performance.now());
      this.timer = setTimeout(() => this.flush(), wait);
    }
  }

  flush(): void {
    this.release();
    if (this.timer !== undefined) clearTimeout(this.timer);
    this.timer = undefined;
    const { text } = this;
    if (text === undefined) return;
    this.text = undefined;
    this.lastFlush = performance.now();
    this.send("stream", text.parent, { name: text.name, text: text.pieces.join("") });
  }

  private release(): void {
    const { held } = this;
    if (held.length === 0) return;
    this.held = [];
    for (const send of held) send();
  }

  private send(
    type: string,
    parent: Header | undefined,
    content: object | Uint8Array,
    options: { metadata?: Record<string, unknown>; buffers?: readonly Uint8Array[] } = {},
  ): void {
    const topic = `kernel.${this.wire.session}.${type}`;
    this.outbox.send(this.wire.encode([topic], { type, parent: parent ?? {}, content, ...options }));
    this.checkCongestion();
  }

  private checkCongestion(): void {
    const { pending } = this.outbox;
    if (!this.congested && pending > highWater) {
      this.congested = true;
      this.onCongestion(true);
    } else if (this.congested && pending < highWater / 2) {
      this.congested = false;
      this.onCongestion(false);
    }
  }
}
