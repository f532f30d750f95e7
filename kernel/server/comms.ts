/**
 * Comms, as the server sees them: which are open, and which messages the executor has not dealt with. What they say is
 * between front end and executor, but for those of typing.ts.
 */
import type { CommCommand } from "../ipc/frames.js";
import { type CommMessage, parse } from "../protocol/requests.js";
import type { Intake } from "../protocol/sockets.js";
import type { Complaints } from "./complaints.js";
import type { Contexts } from "./contexts.js";
import type { Replier, Request } from "./replier.js";
import { languageTarget, type Typing } from "./typing.js";

export class CommRegistry {
  private readonly targets = new Map<string, string>();

  /** Takes note of a message in either direction. */
  note(type: string, content: { readonly comm_id?: unknown; readonly target_name?: unknown }): void {
    const id = String(content.comm_id);
    if (type === "comm_open") this.targets.set(id, String(content.target_name));
    else if (type === "comm_close") this.targets.delete(id);
  }

  /** Those that are open, as in a comm_info_reply. */
  info(target: string | undefined): Record<string, { target_name: string }> {
    const open = [...this.targets].filter(([, name]) => target === undefined || name === target);
    return Object.fromEntries(open.map(([id, name]) => [id, { target_name: name }]));
  }

  /** Forgets those of the executor, and says which they were. */
  clear(): string[] {
    const ids = [...this.targets].filter(([, target]) => target !== languageTarget).map(([id]) => id);
    for (const id of ids) this.targets.delete(id);
    return ids;
  }
}

/** Messages of front ends that the executor has not dealt with. */
export class CommMessages {
  /** By number of their context. */
  private readonly underWay = new Map<number, Request>();

  /** @param send gives a message to the executor, which says when it has dealt with it. */
  constructor(
    private readonly registry: CommRegistry,
    private readonly contexts: Contexts,
    private readonly replier: Replier,
    private readonly intake: Intake,
    private readonly complaints: Complaints,
    private readonly typing: Typing,
    private readonly send: (command: CommCommand, buffers: readonly Uint8Array[]) => void,
  ) {}

  receive(request: Request): void {
    const { header, content, metadata, buffers } = request.message;
    const type = header.msg_type;
    this.replier.busy(header);
    let parsed: CommMessage;
    try {
      parsed = parse.comm(content);
    } catch (error) {
      this.complaints.add(`${type}: ${String(error)}`);
      this.replier.idle(header);
      return;
    }
    this.registry.note(type, content);
    if (this.typing.takes(type, parsed)) {
      this.typing.receive(type, parsed, request);
      this.replier.idle(header);
      return;
    }
    const id = this.contexts.add({ message: request.message, silent: false, allowStdin: false, count: 0 });
    this.underWay.set(id, { ...request, message: { ...request.message, content: {}, buffers: [] } });
    this.intake.add(request.size);
    this.send({ op: "comm", id, type, content, metadata }, buffers);
  }

  /** The executor has dealt with a message. */
  handled(id: number): void {
    const request = this.underWay.get(id);
    if (request === undefined) return;
    this.underWay.delete(id);
    this.intake.add(-request.size);
    this.replier.idle(request.message.header);
  }

  /** The executor is gone, and with it what it has not dealt with. */
  clear(): void {
    for (const id of [...this.underWay.keys()]) this.handled(id);
  }
}
