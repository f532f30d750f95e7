/**
 * Comms: messages between cells and widgets or extensions of the front end.
 */
import { randomUUID } from "node:crypto";
import { publish } from "../ipc/channel.js";

export interface CommMessage {
  readonly data: unknown;
  readonly metadata: Record<string, unknown>;
  readonly buffers: readonly Uint8Array[];
}

export interface CommExtras {
  readonly metadata?: Record<string, unknown>;
  readonly buffers?: readonly Uint8Array[];
}

type Handler = (message: CommMessage) => unknown;

/** One conversation with the front end. */
export class Comm {
  private readonly onMessageHandlers: Handler[] = [];
  private readonly onCloseHandlers: Handler[] = [];
  private open = true;

  constructor(
    readonly id: string,
    readonly targetName: string,
    private readonly forget: () => void,
  ) {}

  get isOpen(): boolean {
    return this.open;
  }

  send(data: unknown, { metadata = {}, buffers = [] }: CommExtras = {}): void {
    if (!this.open) throw new Error(`comm ${this.id} (${this.targetName}) is closed`);
    publish("comm_msg", { comm_id: this.id, data: data ?? {} }, { metadata, buffers });
  }

  close(data: unknown = {}, { metadata = {}, buffers = [] }: CommExtras = {}): void {
    if (!this.open) return;
    this.open = false;
    this.forget();
    publish("comm_close", { comm_id: this.id, data }, { metadata, buffers });
  }

  onMessage(handler: Handler): this {
    this.onMessageHandlers.push(handler);
    return this;
  }

  onClose(handler: Handler): this {
    this.onCloseHandlers.push(handler);
    return this;
  }

  async receive(message: CommMessage): Promise<void> {
    for (const handler of this.onMessageHandlers) await handler(message);
  }

  async closed(message: CommMessage): Promise<void> {
    this.open = false;
    this.forget();
    for (const handler of this.onCloseHandlers) await handler(message);
  }
}

export class Comms {
  private readonly comms = new Map<string, Comm>();
  private readonly targets = new Map<string, (comm: Comm, message: CommMessage) => unknown>();

  /** The global object that cells see. */
  readonly api = {
    open: (targetName: string, data: unknown = {}, extras: CommExtras & { id?: string } = {}): Comm => {
      const { id = randomUUID(), metadata = {}, buffers = [] } = extras;
      const comm = this.add(id, targetName);
      publish("comm_open", { comm_id: id, target_name: targetName, data }, { metadata, buffers });
      return comm;
    },
    registerTarget: (name: string, onOpen: (comm: Comm, message: CommMessage) => unknown): void => {
      this.targets.set(name, onOpen);
    },
    unregisterTarget: (name: string): void => {
      this.targets.delete(name);
    },
  };

  /** Handles what the front end sent. The caller shows handlers' errors. */
  async receive(
    type: string,
    content: Record<string, unknown>,
    rest: Omit<CommMessage, "data">,
  ): Promise<void> {
    const id = String(content.comm_id);
    const message: CommMessage = { data: content.data, ...rest };
    if (type === "comm_open") {
      const name = String(content.target_name);
      const onOpen = this.targets.get(name);
      if (onOpen === undefined) {
        publish("comm_close", { comm_id: id, data: {} });
        return;
      }
      const comm = this.add(id, name);
      try {
        await onOpen(comm, message);
      } catch (error) {
        comm.close();
        throw error;
      }
    } else if (type === "comm_msg") {
      await this.comms.get(id)?.receive(message);
    } else {
      await this.comms.get(id)?.closed(message);
    }
  }

  private add(id: string, targetName: string): Comm {
    const comm = new Comm(id, targetName, () => this.comms.delete(id));
    this.comms.set(id, comm);
    return comm;
  }
}
