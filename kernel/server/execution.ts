/**
 * What an execute_request does: it is counted and remembered, executed as a cell, and may abort others.
 */
import type { ExecuteReply, Failed } from "../protocol/replies.js";
import type { ExecuteRequest } from "../protocol/requests.js";
import type { CellExecution } from "./cell-execution.js";
import type { Contexts } from "./contexts.js";
import type { ExecutionQueue } from "./execution-queue.js";
import type { History } from "./history.js";
import type { Publisher } from "./publisher.js";
import type { Request } from "./replier.js";

/** Results up to this many bytes are looked at for the history. */
const maxStoredResult = 65_536;

export class Execution {
  private count = 0;

  constructor(
    private readonly cells: CellExecution,
    private readonly queue: ExecutionQueue,
    private readonly contexts: Contexts,
    private readonly history: History,
    private readonly publisher: Publisher,
  ) {}

  async execute(wanted: ExecuteRequest, { message }: Request): Promise<ExecuteReply> {
    const { code, silent, allowStdin } = wanted;
    const stored = wanted.storeHistory && code.trim() !== "";
    if (stored) this.count += 1;
    const { count } = this;
    if (!silent)
      this.publisher.publishSoon("execute_input", message.header, { code, execution_count: count });
    if (stored) this.history.add(count, code);
    const id = this.contexts.addCell({ message, silent, allowStdin, count });
    const { error, userExpressions, payload } = await this.cells.execute(id, count, wanted);
    if (error !== undefined) {
      if (wanted.stopOnError) await this.queue.abortWaiting();
      if (!silent) this.publisher.publish("error", message.header, error);
    }
    this.publisher.flush();
    const rest = { execution_count: count, user_expressions: userExpressions, payload };
    return error === undefined ? { status: "ok", ...rest } : { status: "error", ...rest, ...error };
  }

  /** The reply to a request that could not be executed at all. */
  failed(error: Failed, { message }: Request): ExecuteReply {
    const { status, ...content } = error;
    this.publisher.publish("error", message.header, content);
    return { status, execution_count: this.count, ...content };
  }

  aborted(): ExecuteReply {
    return { status: "aborted", execution_count: this.count };
  }

  /** Keeps the text of a cell's result. */
  storeResult(count: number, content: Buffer): void {
    if (content.length >= maxStoredResult) return;
    const { data } = JSON.parse(content.toString("utf8")) as { data: Record<string, unknown> };
    if (typeof data["text/plain"] === "string") this.history.addOutput(count, data["text/plain"]);
  }
}
