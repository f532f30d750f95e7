/**
 * The kernel: takes requests and has them answered, cells one after the other, everything else at once, also while a cell
 * is executed. What each request means is in handlers.ts.
 */
import type { Frame } from "../ipc/frames.js";
import type { Language } from "../language/language.js";
import type { ConnectionInfo } from "../protocol/connection.js";
import type { RequestType } from "../protocol/requests.js";
import { KernelSockets } from "../protocol/sockets.js";
import { Wire } from "../protocol/wire.js";
import { CellExecution } from "./cell-execution.js";
import { CommMessages, CommRegistry } from "./comms.js";
import { Complaints } from "./complaints.js";
import { Contexts } from "./contexts.js";
import { Debugging } from "./debugging.js";
import { Execution } from "./execution.js";
import { ExecutionQueue } from "./execution-queue.js";
import { Executor, executorDied } from "./executor.js";
import { type Handler, type Handlers, handlersOf, type Reply } from "./handlers.js";
import { History } from "./history.js";
import { Introspection } from "./introspection.js";
import { MemoryReturn } from "./memory.js";
import { Publisher } from "./publisher.js";
import { failureOf, Replier, type Request } from "./replier.js";
import { Stdin } from "./stdin.js";
import { Typing } from "./typing.js";
import { WarmUp } from "./warm-up.js";

export interface KernelOptions {
  readonly connection: ConnectionInfo;
  readonly cwd: string;
  readonly language: Language;
  /** Called once the kernel has been shut down. */
  readonly onExit: () => Promise<void>;
}

/** The compiler ends with the kernel anyway, so a longer wait isn't worth it. */
const compilerPatienceMs = 200;

export class Kernel {
  private readonly wire: Wire;
  private readonly sockets = new KernelSockets();
  private readonly contexts = new Contexts();
  private readonly complaints = new Complaints();
  private readonly history = new History();
  private readonly comms = new CommRegistry();
  private readonly memory = new MemoryReturn((ms) => this.sockets.busy(ms));
  private readonly language: Language;
  private readonly publisher: Publisher;
  private readonly replier: Replier;
  private readonly stdin: Stdin;
  private readonly executor: Executor;
  private readonly cells: CellExecution;
  private readonly warmUp: WarmUp;
  private readonly queue: ExecutionQueue;
  private readonly execution: Execution;
  private readonly commMessages: CommMessages;
  private readonly debugging: Debugging;
  private readonly handlers: Handlers;
  private stopping = false;

  constructor(private readonly options: KernelOptions) {
    const { contexts, sockets } = this;
    this.language = options.language;
    this.wire = new Wire(options.connection);
    this.publisher = new Publisher(this.wire, sockets.iopub, (full) => this.executor.pause(full));
    this.replier = new Replier(this.wire, sockets, this.publisher);
    this.stdin = new Stdin(this.wire, sockets.stdin, contexts, () => this.publisher.flush());
    this.executor = new Executor(options.cwd, {
      text: (stream, text, context) => {
        const { message, silent } = contexts.of(context);
        if (!silent) this.publisher.stream(stream, message?.header, text);
      },
      publish: (type, frame) => this.forward(type, frame),
      input: (context, question) => this.stdin.ask(context, question),
      map: (url) => this.cells.mapOf(url),
      handled: (context) => this.commMessages.handled(context),
      replaced: (reason, withCell) => this.replaced(reason, withCell),
    });
    const print = (stream: "stdout" | "stderr", text: string, id: number) =>
      this.publisher.stream(stream, contexts.get(id)?.message.header, text);
    this.cells = new CellExecution(this.language, this.executor, print, () => this.warmUp.over);
    this.warmUp = new WarmUp(
      this.executor,
      this.language,
      (cell) => this.cells.transform(cell),
      () => (this.queue.isExecuting ? "later" : this.debugging.hasBegun ? "never" : "now"),
    );
    this.queue = new ExecutionQueue(sockets.intake, (request) => this.abort(request));
    this.commMessages = new CommMessages(
      this.comms,
      contexts,
      this.replier,
      sockets.intake,
      this.complaints,
      new Typing(
        this.language,
        () => this.cells.checkMode,
        (header, comm_id, data) => this.publisher.publish("comm_msg", header, { comm_id, data }),
      ),
      (command, buffers) => this.executor.tell(command, buffers),
    );
    this.debugging = new Debugging(this.language, this.executor, this.cells, (event) => {
      this.publisher.publish("debug_event", contexts.of(undefined).message?.header, event);
    });
    this.execution = new Execution(this.cells, this.queue, contexts, this.history, this.publisher);
    this.handlers = handlersOf({
      execution: this.execution,
      queue: this.queue,
      introspection: new Introspection(this.language, this.executor),
      history: this.history,
      comms: this.comms,
      debugging: this.debugging,
      begin: () => this.warmUp.begin(),
      interrupt: () => this.interrupt(),
      announceShutdown: (restart, { message }) =>
        this.publisher.publish("shutdown_reply", message.header, { status: "ok", restart }),
      shutdown: () => void this.shutdown(),
    });
  }

  async start(): Promise<void> {
    await this.sockets.bind(this.options.connection);
    this.sockets.listen({
      message: (channel, frames) => this.receive(channel, frames),
      subscription: (topic) => {
        const subscription = topic.toString("utf8");
        this.publisher.publish("iopub_welcome", undefined, { subscription });
      },
    });
    this.publisher.status("starting", undefined);
    this.warmUp.beginSoon();
  }

  interrupt(): void {
    this.debugging.resume();
    // The executor first: the interrupt takes longest to get there.
    this.executor.interrupt();
    this.cells.interrupt();
  }

  async shutdown(): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    this.warmUp.stop();
    this.queue.stop();
    this.memory.stop();
    const language = this.language.dispose();
    const late = new Promise((resolve) => setTimeout(resolve, compilerPatienceMs));
    await Promise.all([this.executor.stop(), Promise.race([language, late]).catch(() => undefined)]);
    this.history.close();
    await this.sockets.close();
    await this.options.onExit();
  }

  // What front ends send

  private receive(channel: "shell" | "control" | "stdin", frames: Buffer[]): void {
    const decoded = this.wire.decode(frames);
    if ("refused" in decoded) {
      this.complaints.add(`${channel}: message refused: ${decoded.refused}`);
      return;
    }
    const { message } = decoded;
    if (channel === "stdin") {
      this.stdin.receive(message);
      return;
    }
    const request = { message, channel, size: frames.reduce((sum, frame) => sum + frame.length, 0) };
    const type = message.header.msg_type;
    if (Object.hasOwn(this.handlers, type)) {
      this.schedule(request, this.handlers[type as RequestType] as Handler<RequestType>);
    } else if (type === "comm_open" || type === "comm_msg" || type === "comm_close") {
      this.warmUp.begin();
      this.commMessages.receive(request);
    } else {
      this.complaints.add(`${channel}: unknown message type ${JSON.stringify(type)}`);
    }
  }

  private schedule<Type extends RequestType>(request: Request, handler: Handler<Type>): void {
    if (handler.needsStart) this.warmUp.begin();
    if (handler.queue !== undefined) {
      handler.queue.add(request, () => this.answer(request, handler));
      return;
    }
    const { intake } = this.sockets;
    intake.add(request.size);
    const answer = () => this.answer(request, handler).then(() => intake.add(-request.size));
    void (handler.inOrder?.(answer) ?? answer());
  }

  /** Never rejects. */
  private async answer<Type extends RequestType>(request: Request, handler: Handler<Type>): Promise<void> {
    const { header, content } = request.message;
    if (handler.queue === undefined) this.replier.busy(header);
    else this.replier.busyExecuting(header);
    try {
      const reply = await handler.handle(handler.parse(content), request);
      this.replier.reply(request, handler.reply, reply);
    } catch (error) {
      const failure = failureOf(error);
      const reply = handler.failed?.(failure, request) ?? (failure as Reply<Type>);
      this.replier.reply(request, handler.reply, reply);
    }
    if (handler.queue !== undefined) this.stdin.clear();
    this.replier.idle(header);
    handler.replied?.();
  }

  private abort(request: Request): void {
    const { header } = request.message;
    this.replier.busy(header);
    this.replier.reply(request, "execute_reply", this.execution.aborted());
    this.replier.idle(header);
  }

  // What the executor says

  private forward(type: string, frame: Frame): void {
    const { message, silent, count } = this.contexts.of(frame.context);
    const [, metadata, content, ...buffers] = frame.parts;
    if (type.startsWith("comm_")) this.comms.note(type, JSON.parse(content!.toString("utf8")) as object);
    else if (silent) return;
    this.publisher.forward(type, message?.header, content!, {
      metadata: JSON.parse(metadata!.toString("utf8")) as Record<string, unknown>,
      buffers,
    });
    if (type === "execute_result" && count !== undefined) this.execution.storeResult(count, content!);
  }

  /** The executor is a new process now, which knows nothing of what was before. */
  private replaced(reason: string, withCell: boolean): void {
    this.debugging.replaced();
    this.cells.forget();
    this.language.reset();
    this.warmUp.interruptSoon();
    const parent = this.contexts.of(undefined).message?.header;
    for (const id of this.comms.clear())
      this.publisher.publish("comm_close", parent, { comm_id: id, data: {} });
    this.commMessages.clear();
    // A cell that was being executed fails with this error itself.
    if (!withCell) this.publisher.publish("error", parent, executorDied(reason));
  }
}
