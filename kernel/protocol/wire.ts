/**
 * The wire format: a message to ZeroMQ frames and back, signed. What comes in is not trusted: {@link Wire.decode}
 * returns the reason why a message was refused, and throws for nothing that the other side can send.
 */
import { createHmac, getHashes, randomUUID, timingSafeEqual } from "node:crypto";
import { userInfo } from "node:os";
import { wellFormed } from "../ipc/primordials.js";
import type { ConnectionInfo } from "./connection.js";
import { type Header, type Message, protocolVersion } from "./messages.js";

const delimiter = Buffer.from("<IDS|MSG>");
/** How many signatures are remembered, so that a message can't be sent a second time. */
const rememberedSignatures = 65536;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export type Decoded = { readonly message: Message } | { readonly refused: string };

export interface Outgoing {
  readonly type: string;
  readonly parent?: Header | Record<string, never>;
  readonly metadata?: Record<string, unknown>;
  /** As an object, or as JSON that is passed on as it is. */
  readonly content: object | Uint8Array;
  readonly buffers?: readonly Uint8Array[];
}

export class Wire {
  readonly session = randomUUID();
  private readonly username = currentUser();
  private readonly algorithm: string;
  private readonly key: string;
  private readonly seen = new Set<string>();
  private count = 0;

  constructor(info: Pick<ConnectionInfo, "key" | "signature_scheme">) {
    this.key = info.key;
    this.algorithm = info.signature_scheme.slice("hmac-".length);
    if (!getHashes().includes(this.algorithm)) {
      throw new Error(`signature_scheme: ${info.signature_scheme} is not known to this Node.js`);
    }
  }

  header(type: string): Header {
    this.count += 1;
    return {
      // The session is a UUID of its own, so no other process can make the same id.
      msg_id: `${this.session}_${this.count}`,
      msg_type: type,
      session: this.session,
      username: this.username,
      date: new Date().toISOString(),
      version: protocolVersion,
    };
  }

  encode(
    identities: readonly (Uint8Array | string)[],
    out: Outgoing,
    header = this.header(out.type),
  ): (Uint8Array | string)[] {
    const parts: (Uint8Array | string)[] = [
      json(header),
      json(out.parent ?? {}),
      json(out.metadata ?? {}),
      out.content instanceof Uint8Array ? out.content : json(out.content),
    ];
    return [...identities, delimiter, this.sign(parts), ...parts, ...(out.buffers ?? [])];
  }

  decode(frames: readonly Buffer[]): Decoded {
    const split = frames.findIndex((frame) => frame.equals(delimiter));
    if (split < 0) return { refused: "no <IDS|MSG> delimiter" };
    if (frames.length < split + 6)
      return { refused: `${frames.length - split - 1} frames after the delimiter` };
    const signature = frames[split + 1]!.toString("latin1");
    const parts = frames.slice(split + 2, split + 6);
    if (this.key !== "") {
      const expected = Buffer.from(this.sign(parts), "latin1");
      const found = Buffer.from(signature, "latin1");
      if (expected.length !== found.length || !timingSafeEqual(expected, found)) {
        return { refused: "wrong signature" };
      }
      if (this.seen.has(signature)) return { refused: "signature used before" };
      this.seen.add(signature);
      if (this.seen.size > rememberedSignatures) this.seen.delete(this.seen.values().next().value!);
    }
    const dicts: Record<string, unknown>[] = [];
    for (const part of parts) {
      try {
        const value: unknown = JSON.parse(utf8.decode(part));
        if (typeof value !== "object" || value === null || Array.isArray(value))
          return { refused: "not an object" };
        dicts.push(value as Record<string, unknown>);
      } catch (error) {
        return { refused: `not UTF-8 JSON: ${error instanceof Error ? error.message : String(error)}` };
      }
    }
    const [header, parent, metadata, content] = dicts as [
      Record<string, unknown>,
      Record<string, unknown>,
      Record<string, unknown>,
      Record<string, unknown>,
    ];
    if (typeof header.msg_id !== "string" || typeof header.msg_type !== "string") {
      return { refused: "header without msg_id or msg_type" };
    }
    return {
      message: {
        identities: frames.slice(0, split),
        header: header as unknown as Header,
        parent: parent as unknown as Header,
        metadata,
        content,
        buffers: frames.slice(split + 6),
      },
    };
  }

  private sign(parts: readonly (Uint8Array | string)[]): string {
    if (this.key === "") return "";
    const hmac = createHmac(this.algorithm, this.key);
    for (const part of parts) hmac.update(part);
    return hmac.digest("hex");
  }
}

function json(value: unknown): string {
  return wellFormed(JSON.stringify(value));
}

function currentUser(): string {
  try {
    return userInfo().username;
  } catch {
    return "username"; // containers run as users that have no name
  }
}
