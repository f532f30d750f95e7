/**
 * The kernel: takes requests, answers them, and has cells run one after the other. Everything but execution is
 * answered at once, also while a cell runs.
 */
import { readFileSync } from "node:fs";
import type { DebugAdapter } from "../debugger/adapter.js";
import type { ErrorContent, Frame } from "../ipc/frames.js";
import { runtimeGlobal } from "../ipc/names.js";
import { CellSyntaxError, type Language } from "../language/language.js";
import { isName, memberBefore } from "../language/words.js";
import type { ConnectionInfo } from "../protocol/connection.js";
import { type Header, type Message, ProtocolError, protocolVersion, requests } from "../protocol/messages.js";
import { KernelSockets } from "../protocol/sockets.js";
import { Wire } from "../protocol/wire.js";
import { CellExecution } from "./cell-execution.js";
import { CommRegistry } from "./comms.js";
import { Complaints } from "./complaints.js";
import { History } from "./history.js";
import { hasConvenience, isQuestion, parseConveniences } from "./magics.js";
import { MemoryReturn } from "./memory.js";
import { toPoints, toUnits } from "./positions.js";
import { Publisher } from "./publisher.js";
import { Runner } from "./runner.js";

export interface KernelOptions {
  readonly connection: ConnectionInfo;
  readonly cwd: string;
  readonly language: Language;
  /** Called once the kernel has been shut down. */
  readonly onExit: () => Promise<void>;
}

interface Request {
  readonly message: Message;
  readonly channel: "shell" | "control";
  /** In bytes, as it came. */
  readonly size: number;
}

/** A request that output may belong to. */
interface Context {
  readonly message: Message;
  readonly silent: boolean;
  readonly allowStdin: boolean;
  readonly count: number;
}

/** Of older requests than these, no more is known. */
const rememberedContexts = 20_000;
/** Clients ask for kernel_info first; what takes time starts once that is answered, or after this many ms. */
const headStart = 150;
/** How long after the start (ms) an interrupt is rehearsed, if no cell runs. */
const quiet = 300;
/** With cells waiting behind one that fails, how long (ms) it takes of silence to think that no more are on their way. */
const silence = 20;
/** But no longer than that is an error held back. */
const patience = 200;

const packageJson = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as {
  version: string;
  dependencies: Record<string, string>;
};

export class Kernel {
  private readonly wire: Wire;
  private readonly sockets = new KernelSockets();
  private readonly publisher: Publisher;
  private readonly runner: Runner;
  private readonly cells: CellExecution;
  private readonly history = new History();
  private readonly comms = new CommRegistry();
  private readonly language: Language;
  private readonly contexts = new Map<number, Context>();
  /** Messages of comms that the executor has not dealt with, and their sizes. */
  private readonly commMessages = new Map<number, number>();
  private readonly complaints = new Complaints();
  private readonly memory = new MemoryReturn((ms) => this.sockets.busy(ms));
  private readonly inputs = new Map<string, (value: string | null) => void>();
  private queue: Request[] = [];
  private running: Request | undefined;
  private lastContext = 0;
  private lastCell = 0;
  private executionCount = 0;
  /** Counts the cells that have arrived. */
  private arrivals = 0;
  private begun = false;
  private adapter: DebugAdapter | undefined;
  private debugging: Promise<void> = Promise.resolve();
  private stopping = false;

  constructor(private readonly options: KernelOptions) {
    this.wire = new Wire(options.connection);
    this.publisher = new Publisher(this.wire, this.sockets.iopub, (full) => this.runner.pause(full));
    this.language = options.language;
    this.runner = new Runner(options.cwd, {
      text: (stream, text, context) => {
        const { message, silent } = this.contextOf(context);
        if (!silent) this.publisher.stream(stream, message?.header, text);
      },
      publish: (type, frame) => this.forward(type, frame),
      input: (context, prompt, password) => this.input(context, prompt, password),
      map: (url) => this.cells.mapOf(url),
      handled: (context) => this.commHandled(context),
      replaced: (reason, ranCell) => this.replaced(reason, ranCell),
    });
    this.cells = new CellExecution(this.language, this.runner, (stream, text, id) => {
      this.publisher.stream(stream, this.contexts.get(id)?.message.header, text);
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
    setTimeout(() => this.begin(), headStart);
  }

  interrupt(): void {
    this.adapter?.resume();
    // The executor first: it has the longest way to go.
    this.runner.interrupt();
    this.cells.interrupt();
  }

  async shutdown(): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    this.memory.stop();
    const language = this.language.dispose();
    // The compiler also ends when we do; it is not worth a wait.
    const patience = new Promise((resolve) => setTimeout(resolve, 200));
    await Promise.all([this.runner.stop(), Promise.race([language, patience]).catch(() => undefined)]);
    this.history.close();
    await this.sockets.close();
    await this.options.onExit();
  }

  /** Starts the executor and the compiler. */
  private begin(): void {
    if (this.begun || this.stopping) return;
    this.begun = true;
    this.runner.start();
    void this.language.start().then(
      () => this.rehearse(),
      () => undefined,
    );
  }

  /** Once no cell runs. Not under the debugger's eyes. */
  private rehearse(): void {
    setTimeout(async () => {
      await this.runner.turn();
      if (this.running !== undefined) this.rehearse();
      else if (this.adapter === undefined && !this.stopping) this.cells.rehearse();
    }, quiet).unref();
  }

  // Requests

  private receive(channel: "shell" | "control" | "stdin", frames: Buffer[]): void {
    const decoded = this.wire.decode(frames);
    if ("refused" in decoded) {
      this.complaints.add(`${channel}: message refused: ${decoded.refused}`);
      return;
    }
    const { message } = decoded;
    if (channel === "stdin") {
      this.inputReply(message);
      return;
    }
    const request = { message, channel, size: frames.reduce((sum, frame) => sum + frame.length, 0) };
    const { content } = message;
    switch (message.header.msg_type) {
      case "execute_request":
        this.begin();
        this.sockets.intake.add(request.size);
        this.arrivals += 1;
        // The shell is not read on then; who goes round it has to come back later.
        if (channel === "control" && this.sockets.intake.full) this.abort(request);
        else this.queue.push(request);
        if (this.running === undefined) void this.runQueue();
        break;
      case "kernel_info_request":
        void this.answer(request, "kernel_info_reply", () => kernelInfo()).then(() =>
          // Let the reply out before modules are loaded.
          setImmediate(() => this.begin()),
        );
        break;
      case "complete_request":
        void this.answer(request, "complete_reply", () => this.complete(content));
        break;
      case "inspect_request":
        void this.answer(request, "inspect_reply", () => this.inspect(content));
        break;
      case "is_complete_request":
        void this.answer(request, "is_complete_reply", () => this.isComplete(content));
        break;
      case "history_request":
        void this.answer(request, "history_reply", () => ({
          history: this.history.find(requests.history(content)),
        }));
        break;
      case "comm_info_request":
        void this.answer(request, "comm_info_reply", () => {
          const { targetName } = requests.commInfo(content);
          return { comms: this.comms.info(targetName) };
        });
        break;
      case "comm_open":
      case "comm_msg":
      case "comm_close":
        this.commMessage(request);
        break;
      case "interrupt_request":
        void this.answer(request, "interrupt_reply", () => {
          this.interrupt();
          return {};
        });
        break;
      case "debug_request":
        void this.debug(request);
        break;
      case "shutdown_request":
        void this.answer(request, "shutdown_reply", () => {
          const { restart } = requests.shutdown(content);
          this.publisher.publish("shutdown_reply", message.header, { status: "ok", restart });
          return { restart };
        }).then(() => this.shutdown());
        break;
      default:
        this.complaints.add(`${channel}: unknown message type ${JSON.stringify(message.header.msg_type)}`);
    }
  }

  /** Busy, the reply, idle. */
  private async answer(request: Request, type: string, make: () => object | Promise<object>): Promise<void> {
    const { header } = request.message;
    this.sockets.intake.add(request.size);
    this.publisher.status("busy", header);
    try {
      const content = await make();
      this.reply(request, type, { status: "ok", ...content });
    } catch (error) {
      this.reply(request, type, failure(error));
    }
    this.idle(header);
    this.sockets.intake.add(-request.size);
  }

  private idle(header: Header): void {
    this.publisher.status("idle", header);
    // Front ends show the last status they saw, and a cell is still running.
    if (this.running !== undefined) this.publisher.status("busy", this.running.message.header);
  }

  private reply({ message, channel }: Request, type: string, content: object): void {
    this.sockets[channel].send(
      this.wire.encode(message.identities, { type, parent: message.header, content }),
    );
  }

  private async complete(content: Record<string, unknown>): Promise<object> {
    const { code, cursorPos } = requests.complete(content);
    const cursor = toUnits(code, cursorPos);
    this.begin();
    let found = await this.language.complete(typeScriptOf(code), cursor);
    if (found.items.length === 0) found = (await this.runtimeMembers(code, cursor)) ?? found;
    const range = { start: toPoints(code, found.start), end: toPoints(code, found.end) };
    return {
      matches: found.items.map(({ text }) => text),
      cursor_start: range.start,
      cursor_end: range.end,
      metadata: { _jupyter_types_experimental: found.items.map((item) => ({ ...range, ...item })) },
    };
  }

  /** What types know nothing of, e.g. of a value of type `any`, may still be found out from the value. */
  private async runtimeMembers(code: string, cursor: number) {
    const access = memberBefore(code, cursor);
    if (access === undefined) return undefined;
    const { object, typed } = access;
    const members = await this.runner.members(object);
    const items = members
      .filter(({ name }) => name.startsWith(typed) && isName(name))
      .map(({ name, type }) => ({ text: name, type }));
    return { items, start: cursor - typed.length, end: cursor };
  }

  private async inspect(content: Record<string, unknown>): Promise<object> {
    const { code, cursorPos, detailLevel } = requests.inspect(content);
    this.begin();
    const found = await this.language.inspect(typeScriptOf(code), toUnits(code, cursorPos), detailLevel);
    if (found === null) return { found: false, data: {}, metadata: {} };
    return {
      found: true,
      data: { "text/plain": found.plain, "text/markdown": found.markdown },
      metadata: {},
    };
  }

  /** The Debug Adapter Protocol: a response for each request, in the order they came. */
  private debug(request: Request): Promise<void> {
    const { header, content } = request.message;
    this.sockets.intake.add(request.size);
    const answered = this.debugging.then(async () => {
      this.publisher.status("busy", header);
      try {
        const wanted = requests.debug(content);
        this.begin();
        this.adapter ??= await this.startDebugger();
        this.reply(request, "debug_reply", await this.adapter.handle(wanted));
      } catch (error) {
        this.reply(request, "debug_reply", failure(error));
      }
      this.idle(header);
      this.sockets.intake.add(-request.size);
    });
    this.debugging = answered;
    return answered;
  }

  private async startDebugger(): Promise<DebugAdapter> {
    const { DebugAdapter } = await import("../debugger/adapter.js");
    const adapter = new DebugAdapter({
      inspector: this.runner.inspector,
      emit: (event) => {
        this.publisher.flush();
        this.publisher.publish("debug_event", this.contextOf(undefined).message?.header, event);
      },
      mapOf: async (code) => {
        const cell = { id: "expected", count: 0, code: typeScriptOf(code) };
        try {
          return await this.language.map(cell, "");
        } catch {
          return null; // it will not run
        }
      },
      bundle: (expression) => `globalThis.${runtimeGlobal}.bundle(${expression})`,
    });
    this.cells.debugger = adapter;
    return adapter;
  }

  private async isComplete(content: Record<string, unknown>): Promise<object> {
    const { code } = requests.isComplete(content);
    if (/^\s*%%/.test(code)) return { status: code.endsWith("\n") ? "complete" : "incomplete", indent: "" };
    if (isQuestion(code)) return { status: "complete" };
    this.begin();
    return this.language.isComplete(typeScriptOf(code));
  }

  // Execution

  private async runQueue(): Promise<void> {
    for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) {
      this.running = next;
      this.sockets.intake.add(-next.size);
      const { header } = next.message;
      this.publisher.status("busy", header);
      let aborted: readonly Request[] = [];
      try {
        aborted = await this.execute(next);
      } catch (error) {
        const { status, ...content } = failure(error);
        this.publisher.publish("error", header, content);
        this.reply(next, "execute_reply", { status, execution_count: this.executionCount, ...content });
      }
      this.running = undefined;
      this.inputs.clear();
      this.publisher.status("idle", header);
      for (const request of aborted) this.abort(request);
      if (this.stopping) return;
    }
  }

  private abort(request: Request): void {
    const { header } = request.message;
    this.publisher.status("busy", header);
    this.reply(request, "execute_reply", { status: "aborted", execution_count: this.executionCount });
    this.idle(header);
    this.sockets.intake.add(-request.size);
  }

  /**
   * Waits for the cells that were sent along with one that failed. Nobody has heard of the error before this is over, so
   * that what has arrived by then was sent without knowing of it, and what arrives later is meant.
   */
  private async stragglers(): Promise<void> {
    // What ZeroMQ has got is handed over within a turn of the event loop.
    let seen: number;
    do {
      seen = this.arrivals;
      await new Promise((resolve) => setImmediate(resolve));
    } while (seen !== this.arrivals);
    if (this.queue.length === 0) return;
    const end = performance.now() + patience;
    do {
      seen = this.arrivals;
      await new Promise((resolve) => setTimeout(resolve, silence));
    } while (seen !== this.arrivals && performance.now() < end);
  }

  /** @returns the cells to be aborted: those that waited when nobody had heard of the error yet. */
  private async execute(request: Request): Promise<readonly Request[]> {
    const { message } = request;
    const wanted = requests.execute(message.content);
    const { code, silent, allowStdin } = wanted;
    const empty = code.trim() === "";
    const stored = wanted.storeHistory && !empty;
    if (stored) this.executionCount += 1;
    const count = this.executionCount;
    if (!silent) this.publisher.publish("execute_input", message.header, { code, execution_count: count });
    if (stored) this.history.add(count, code);
    const id = this.remember({ message, silent, allowStdin, count });
    this.lastCell = id;
    const { error, userExpressions, payload } = await this.cells.run(id, count, wanted);
    let aborted: readonly Request[] = [];
    if (error !== undefined) {
      if (wanted.stopOnError) {
        await this.stragglers();
        aborted = this.queue;
        this.queue = [];
      }
      if (!silent) this.publisher.publish("error", message.header, error);
    }
    this.publisher.flush();
    this.reply(request, "execute_reply", {
      status: error === undefined ? "ok" : "error",
      execution_count: count,
      user_expressions: userExpressions,
      payload,
      ...error,
    });
    return aborted;
  }

  // What the executor says

  private forward(type: string, frame: Frame): void {
    const { message, silent, count } = this.contextOf(frame.context);
    const [, metadata, content, ...buffers] = frame.parts;
    if (type.startsWith("comm_")) this.comms.note(type, JSON.parse(content!.toString("utf8")) as object);
    else if (silent) return;
    if (type === "execute_result" && count !== undefined && content!.length < maxStoredResult) {
      const { data } = JSON.parse(content!.toString("utf8")) as { data: Record<string, unknown> };
      if (typeof data["text/plain"] === "string") this.history.addOutput(count, data["text/plain"]);
    }
    this.publisher.publish(type, message?.header, content!, {
      metadata: JSON.parse(metadata!.toString("utf8")) as Record<string, unknown>,
      buffers,
    });
  }

  private replaced(reason: string, ranCell: boolean): void {
    this.adapter?.replaced();
    this.cells.forget();
    this.language.reset();
    this.rehearse();
    const parent = this.contextOf(undefined).message?.header;
    for (const id of this.comms.clear())
      this.publisher.publish("comm_close", parent, { comm_id: id, data: {} });
    for (const id of [...this.commMessages.keys()]) this.commHandled(id);
    // A cell that runs fails with this as its own error.
    if (ranCell) return;
    const traceback = [`\x1b[31mExecutorDied\x1b[39m: ${reason}`];
    this.publisher.publish("error", parent, { ename: "ExecutorDied", evalue: reason, traceback });
  }

  private commMessage({ message, size }: Request): void {
    const { header, content, metadata, buffers } = message;
    const type = header.msg_type;
    this.publisher.status("busy", header);
    try {
      requests.comm(content);
    } catch (error) {
      this.complaints.add(`${type}: ${String(error)}`);
      this.idle(header);
      return;
    }
    this.comms.note(type, content);
    this.begin();
    const id = this.remember({ message, silent: false, allowStdin: false, count: 0 });
    this.commMessages.set(id, size);
    this.sockets.intake.add(size);
    this.runner.tell({ op: "comm", id, type, content, metadata }, buffers);
  }

  private commHandled(id: number): void {
    const size = this.commMessages.get(id);
    if (size === undefined) return;
    this.commMessages.delete(id);
    this.sockets.intake.add(-size);
    const header = this.contexts.get(id)?.message.header;
    if (header !== undefined) this.idle(header);
  }

  private async input(context: number, prompt: string, password: boolean) {
    const { message, allowStdin } = this.contextOf(context);
    if (message === undefined || !allowStdin) {
      return { refused: "this front end does not take input (allow_stdin is false)" };
    }
    this.publisher.flush();
    const answer = new Promise<string | null>((resolve) => {
      this.inputs.set(message.header.msg_id, resolve);
    });
    const question = { type: "input_request", parent: message.header, content: { prompt, password } };
    this.sockets.stdin.send(this.wire.encode(message.identities, question));
    return { value: await answer };
  }

  private inputReply(message: Message): void {
    if (message.header.msg_type !== "input_reply") return;
    // Front ends disagree about the parent: the input_request, or none. One cell runs, so one question is open.
    const open = [...this.inputs.entries()].at(-1);
    if (open === undefined) return;
    const [id, resolve] = open;
    this.inputs.delete(id);
    try {
      resolve(requests.input(message.content).value ?? null);
    } catch {
      resolve(null);
    }
  }

  private remember(context: Context): number {
    this.lastContext += 1;
    // All that an answer needs, without what it answers.
    const message: Message = { ...context.message, parent: {}, metadata: {}, content: {}, buffers: [] };
    this.contexts.set(this.lastContext, { ...context, message });
    if (this.contexts.size > rememberedContexts) this.contexts.delete(this.contexts.keys().next().value!);
    return this.lastContext;
  }

  /** The request that output belongs to; without a number, the cell that runs or ran last. */
  private contextOf(id: number | undefined): Partial<Context> {
    return this.contexts.get(id ?? this.lastCell) ?? {};
  }
}

/** Results up to this many bytes are looked at for the history. */
const maxStoredResult = 65_536;

/** A cell without its conveniences, of the same length. */
function typeScriptOf(code: string): string {
  if (!hasConvenience(code)) return code;
  try {
    const { code: rest } = parseConveniences(code);
    return rest.length === code.length ? rest : code;
  } catch {
    return code;
  }
}

function failure(error: unknown): ErrorContent & { status: "error" } {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  if (!(error instanceof ProtocolError || error instanceof CellSyntaxError))
    console.error(`firstframe: ${stack}`);
  return { status: "error", ename: name, evalue: message, traceback: [`${name}: ${message}`] };
}

function kernelInfo(): object {
  const typescript = packageJson.dependencies.typescript ?? "";
  return {
    protocol_version: protocolVersion,
    implementation: "firstframe",
    implementation_version: packageJson.version,
    language_info: {
      name: "typescript",
      version: typescript,
      mimetype: "text/typescript",
      file_extension: ".ts",
      pygments_lexer: "typescript",
      codemirror_mode: "typescript",
      nbconvert_exporter: "script",
    },
    banner: `firstframe ${packageJson.version}: TypeScript ${typescript} on Node.js ${process.versions.node}`,
    help_links: [
      { text: "TypeScript", url: "https://www.typescriptlang.org/docs/" },
      { text: "Node.js", url: "https://nodejs.org/docs/latest/api/" },
    ],
    debugger: true,
    supported_features: ["debugger"],
  };
}
