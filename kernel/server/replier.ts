/**
 * Answers requests: says that the kernel is busy, sends the reply, and says that it is idle.
 */
import { CellSyntaxError } from "../language/language.js";
import type { Header, Message } from "../protocol/messages.js";
import type { Failed, ReplyContents, ReplyType } from "../protocol/replies.js";
import { ProtocolError } from "../protocol/requests.js";
import type { KernelSockets } from "../protocol/sockets.js";
import type { Wire } from "../protocol/wire.js";
import type { Publisher } from "./publisher.js";

export interface Request {
  readonly message: Message;
  readonly channel: "shell" | "control";
  /** In bytes, as it came. */
  readonly size: number;
}

export class Replier {
  private executing: Header | undefined;

  constructor(
    private readonly wire: Wire,
    private readonly sockets: KernelSockets,
    private readonly publisher: Publisher,
  ) {}

  busy(header: Header): void {
    this.publisher.status("busy", header);
  }

  /** The same for a cell; other requests are answered while it is executed. */
  busyExecuting(header: Header): void {
    this.executing = header;
    this.publisher.publishSoon("status", header, { execution_state: "busy" });
  }

  reply<Type extends ReplyType>(
    { message, channel }: Request,
    type: Type,
    content: ReplyContents[Type],
  ): void {
    this.sockets[channel].send(
      this.wire.encode(message.identities, { type, parent: message.header, content }),
    );
  }

  idle(header: Header): void {
    if (header === this.executing) this.executing = undefined;
    this.publisher.status("idle", header);
    // Front ends show the last status they saw, and a cell is still being executed.
    if (this.executing !== undefined) this.publisher.status("busy", this.executing);
  }
}

/** The reply that says what went wrong; our own mistakes are logged as well. */
export function failureOf(error: unknown): Failed {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  if (!(error instanceof ProtocolError || error instanceof CellSyntaxError))
    console.error(`firstframe: ${stack}`);
  return { status: "error", ename: name, evalue: message, traceback: [`${name}: ${message}`] };
}
