/**
 * The requests that front ends send: for each, how its content is parsed, what handles it, and which reply it gets. Types
 * hold a handler to the content of its reply; what it throws becomes an error reply.
 */
import type {
  CommInfoReply,
  Failed,
  HistoryReply,
  Ok,
  ReplyContents,
  ReplyTo,
  ShutdownReply,
} from "../protocol/replies.js";
import { parse, type RequestContents, type RequestType } from "../protocol/requests.js";
import type { CommRegistry } from "./comms.js";
import type { Debugging } from "./debugging.js";
import type { Execution } from "./execution.js";
import type { ExecutionQueue } from "./execution-queue.js";
import type { History } from "./history.js";
import type { Introspection } from "./introspection.js";
import { kernelInfo } from "./kernel-info.js";
import type { Request } from "./replier.js";

export type Reply<Type extends RequestType> = ReplyContents[ReplyTo<Type>];

export interface Handler<Type extends RequestType> {
  parse(content: Record<string, unknown>): RequestContents[Type];
  handle(content: RequestContents[Type], request: Request): Reply<Type> | Promise<Reply<Type>>;
  readonly reply: ReplyTo<Type>;
  /** The kernel starts what it needs for the answer, if it has not yet. */
  readonly needsStart?: true;
  /** The queue where the request waits for its turn. With neither this nor {@link inOrder}, it is answered at once. */
  readonly queue?: ExecutionQueue;
  /** Answers the request once the earlier ones of its kind have been answered. */
  inOrder?(answer: () => Promise<void>): Promise<void>;
  /** The reply to a request that could not be handled, where it takes more than the error. */
  failed?(error: Failed, request: Request): Reply<Type>;
  /** Called once the reply is on its way. */
  replied?(): void;
}

export type Handlers = { readonly [Type in RequestType]: Handler<Type> };

export interface HandlerParts {
  readonly execution: Execution;
  readonly queue: ExecutionQueue;
  readonly introspection: Introspection;
  readonly history: History;
  readonly comms: CommRegistry;
  readonly debugging: Debugging;
  /** Starts what takes time. */
  begin(): void;
  interrupt(): void;
  announceShutdown(restart: boolean, request: Request): void;
  shutdown(): void;
}

export function handlersOf(parts: HandlerParts): Handlers {
  const { execution, queue, introspection, history, comms, debugging } = parts;
  return {
    execute_request: {
      parse: parse.execute,
      handle: (content, request) => execution.execute(content, request),
      reply: "execute_reply",
      needsStart: true,
      queue,
      failed: (error, request) => execution.failed(error, request),
    },
    complete_request: {
      parse: parse.complete,
      handle: (content) => introspection.complete(content),
      reply: "complete_reply",
      needsStart: true,
    },
    inspect_request: {
      parse: parse.inspect,
      handle: (content) => introspection.inspect(content),
      reply: "inspect_reply",
      needsStart: true,
    },
    is_complete_request: {
      parse: parse.isComplete,
      handle: (content) => introspection.isComplete(content),
      reply: "is_complete_reply",
      needsStart: true,
    },
    history_request: {
      parse: parse.history,
      handle: (content): HistoryReply => ({ status: "ok", history: history.find(content) }),
      reply: "history_reply",
    },
    comm_info_request: {
      parse: parse.commInfo,
      handle: ({ targetName }): CommInfoReply => ({ status: "ok", comms: comms.info(targetName) }),
      reply: "comm_info_reply",
    },
    kernel_info_request: {
      parse: parse.nothing,
      handle: kernelInfo,
      reply: "kernel_info_reply",
      // The reply goes out before modules are loaded.
      replied: () => setImmediate(() => parts.begin()),
    },
    interrupt_request: {
      parse: parse.nothing,
      handle: (): Ok => {
        parts.interrupt();
        return { status: "ok" };
      },
      reply: "interrupt_reply",
    },
    debug_request: {
      parse: parse.debug,
      handle: (content) => debugging.handle(content),
      reply: "debug_reply",
      needsStart: true,
      inOrder: (answer) => debugging.inOrder(answer),
    },
    shutdown_request: {
      parse: parse.shutdown,
      handle: ({ restart }, request): ShutdownReply => {
        parts.announceShutdown(restart, request);
        return { status: "ok", restart };
      },
      reply: "shutdown_reply",
      replied: () => parts.shutdown(),
    },
  };
}
