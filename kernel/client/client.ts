/**
 * A client of Jupyter kernels without a browser and without Python.
 */
import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import * as zmq from "zeromq";
import { type ConnectionInfo, curveOptions, endpoint, readConnectionFile } from "../protocol/connection.js";
import type { Header, Message } from "../protocol/messages.js";
import { Outbox } from "../protocol/outbox.js";
import { Wire } from "../protocol/wire.js";
import { type FoundKernelspec, findKernelspec } from "./kernelspecs.js";
import { KernelProcess, type StartOptions } from "./process.js";

export type { Message } from "../protocol/messages.js";

/** The kernel is gone, or this client was closed; all that waits for an answer, and all that is asked later, fails with it. */
export class DeadKernelError extends Error {
  override name = "DeadKernelError";
}

/** The kernel did not answer in time. */
export class KernelTimeoutError extends Error {
  override name = "KernelTimeoutError";
}

export interface ExecuteOptions {
  readonly silent?: boolean;
  readonly storeHistory?: boolean;
  readonly stopOnError?: boolean;
  readonly userExpressions?: Readonly<Record<string, string>>;
  /** Called with each message that the kernel publishes for this cell, in order. */
  readonly onOutput?: (message: Message) => void;
  /** Answers questions of the cell; without it, the cell is told that there is no input. */
  readonly onInput?: (question: { prompt: string; password: boolean }) => string | Promise<string>;
  /** Milliseconds after which the cell is interrupted and the promise rejects; default: never. */
  readonly timeout?: number;
}

export interface ExecuteReply {
  readonly status: "ok" | "error" | "aborted";
  readonly execution_count: number;
  readonly ename?: string;
  readonly evalue?: string;
  readonly traceback?: readonly string[];
  readonly user_expressions?: Readonly<Record<string, unknown>>;
  readonly payload?: readonly Record<string, unknown>[];
}

export interface RequestOptions {
  readonly channel?: "shell" | "control";
  readonly timeout?: number;
}

interface Waiting {
  readonly needsIdle: boolean;
  reply?: Message;
  idle: boolean;
  readonly options: ExecuteOptions;
  resolve(reply: Message): void;
  reject(error: Error): void;
}

/** How long a kernel may take to start. */
const startTimeoutMs = 60_000;
/** How long it has to shut down before it is killed. */
const shutdownTimeoutMs = 5000;

export class KernelClient {
  private readonly wire: Wire;
  private readonly shell: zmq.Dealer;
  private readonly control: zmq.Dealer;
  private readonly stdin: zmq.Dealer;
  private readonly iopub: zmq.Subscriber;
  private readonly outboxes: Record<"shell" | "control" | "stdin", Outbox>;
  private readonly waiting = new Map<string, Waiting>();
  private readonly listeners = new Set<(message: Message, channel: string) => void>();
  private closed = false;
  private stopping = false;
  /** Why nothing can be asked any more. */
  private ended: DeadKernelError | undefined;
  /** What went wrong when the sockets met the kernel's. */
  private refused: string | undefined;

  private constructor(
    readonly connection: ConnectionInfo,
    readonly spec: FoundKernelspec | undefined,
    readonly process: KernelProcess | undefined,
  ) {
    this.wire = new Wire(connection);
    // Input requests come to the socket that bears the name of the one that asked.
    const curve = curveOptions(connection);
    const encrypted = curve && { ...curve, curveServerKey: curve.curvePublicKey };
    const options = { routingId: randomUUID(), linger: 1000, reconnectInterval: 10, ...encrypted };
    this.iopub = new zmq.Subscriber({
      linger: 0,
      receiveHighWaterMark: 0,
      reconnectInterval: 10,
      ...encrypted,
    });
    this.shell = new zmq.Dealer(options);
    this.control = new zmq.Dealer(options);
    this.stdin = new zmq.Dealer(options);
    this.outboxes = {
      shell: new Outbox(this.shell),
      control: new Outbox(this.control),
      stdin: new Outbox(this.stdin),
    };
    void process?.exited.then((reason) => this.end(`the kernel ${reason}`));
    for (const channel of ["shell", "control"] as const) void this.watch(channel, this[channel]);
  }

  /** Starts a kernel by its name or kernelspec and waits until it answers. */
  static async start(kernel: string | FoundKernelspec, options: StartOptions = {}): Promise<KernelClient> {
    const spec =
      typeof kernel === "string" ? findKernelspec(kernel, { ...process.env, ...options.env }) : kernel;
    for (let attempt = 1; ; attempt++) {
      const kernelProcess = await KernelProcess.start(spec, options);
      const client = new KernelClient(kernelProcess.connection, spec, kernelProcess);
      try {
        await client.connect(startTimeoutMs);
        return client;
      } catch (error) {
        await client.kill();
        // Another process may have taken a port between its choice and its use.
        if (!(error instanceof DeadKernelError) || attempt === 3) throw error;
      }
    }
  }

  /** Connects to a kernel that runs already. */
  static async attach(connectionFile: string, { timeout = startTimeoutMs } = {}): Promise<KernelClient> {
    const client = new KernelClient(readConnectionFile(connectionFile), undefined, undefined);
    try {
      await client.connect(timeout);
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  /** Calls back for every message from the kernel; returns what ends it. */
  listen(listener: (message: Message, channel: string) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Sends a request and resolves with its reply. Rejects with a {@link DeadKernelError} if the kernel is gone, or ends before it answers. */
  async request(type: string, content: object = {}, options: RequestOptions = {}): Promise<Message> {
    const { reply } = this.send(type, content, options.channel ?? "shell", { needsIdle: false, options: {} });
    return this.within(reply, options.timeout, `${type} was not answered`);
  }

  /** Sends a message that has no reply, such as comm_msg. Throws a {@link DeadKernelError} if the kernel is gone. */
  post(type: string, content: object, buffers: readonly Uint8Array[] = []): string {
    if (this.ended !== undefined) throw this.ended;
    const header = this.wire.header(type);
    this.outboxes.shell.send(this.wire.encode([], { type, content, buffers }, header));
    return header.msg_id;
  }

  /** Runs a cell; resolves once it is over and all its output is here. A cell that fails is no rejection. */
  async execute(code: string, options: ExecuteOptions = {}): Promise<ExecuteReply> {
    const content = {
      code,
      silent: options.silent ?? false,
      store_history: options.storeHistory ?? !options.silent,
      user_expressions: options.userExpressions ?? {},
      allow_stdin: options.onInput !== undefined,
      stop_on_error: options.stopOnError ?? true,
    };
    const { reply } = this.send("execute_request", content, "shell", { needsIdle: true, options });
    const { timeout } = options;
    let timer: NodeJS.Timeout | undefined;
    const late =
      timeout !== undefined &&
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
          const error = new KernelTimeoutError(`the cell ran longer than ${timeout / 1000} s`);
          void this.interrupt()
            .then(() => this.within(reply, 10_000, "the cell did not end when interrupted"))
            .catch(() => undefined)
            .then(() => reject(error));
        }, timeout);
      });
    try {
      return (await (late ? Promise.race([reply, late]) : reply)).content as unknown as ExecuteReply;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Interrupts the cell that runs. */
  async interrupt(): Promise<void> {
    if (this.ended !== undefined) throw this.ended;
    if (this.spec?.interruptMode === "signal" && this.process !== undefined) this.process.signal("SIGINT");
    else await this.request("interrupt_request", {}, { channel: "control", timeout: 10_000 });
  }

  /** Shuts the kernel down and waits for its end; kills it if that takes long. */
  async shutdown(): Promise<void> {
    if (this.closed) return;
    this.stopping = true;
    try {
      await this.request(
        "shutdown_request",
        { restart: false },
        { channel: "control", timeout: shutdownTimeoutMs },
      );
      if (this.process !== undefined) await this.within(this.process.exited, shutdownTimeoutMs, "no exit");
    } catch (error) {
      if (!(error instanceof KernelTimeoutError || error instanceof DeadKernelError)) throw error;
    }
    await this.kill();
  }

  /** Ends the kernel's process by force, if it is ours, and closes the sockets. */
  async kill(): Promise<void> {
    this.stopping = true;
    this.process?.signal("SIGKILL");
    await this.process?.exited;
    this.close();
  }

  /** Disconnects; the kernel goes on. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    // Whoever asks hears that, also where the kernel had ended before.
    this.ended = undefined;
    this.end("the connection was closed");
    for (const outbox of Object.values(this.outboxes)) outbox.close();
    for (const socket of [this.shell, this.control, this.stdin, this.iopub]) socket.close();
  }

  private async connect(timeout: number): Promise<void> {
    this.iopub.subscribe("");
    this.shell.connect(endpoint(this.connection, "shell"));
    this.control.connect(endpoint(this.connection, "control"));
    this.stdin.connect(endpoint(this.connection, "stdin"));
    this.iopub.connect(endpoint(this.connection, "iopub"));
    for (const channel of ["shell", "control", "stdin"] as const) {
      void this.receive(channel, this[channel]);
    }
    void this.receive("iopub", this.iopub);
    const deadline = performance.now() + timeout;
    // Ready once a request's idle status arrives: then output is heard, too.
    for (;;) {
      const { reply } = this.send("kernel_info_request", {}, "shell", { needsIdle: true, options: {} });
      try {
        await this.within(reply, Math.min(1000, Math.max(1, deadline - performance.now())), "");
        return;
      } catch (error) {
        if (!(error instanceof KernelTimeoutError)) throw error;
        if (performance.now() >= deadline) {
          const why = this.refused === undefined ? "" : `: ${this.refused}`;
          throw new KernelTimeoutError(`the kernel did not answer within ${timeout / 1000} s${why}`);
        }
      }
    }
  }

  private send(
    type: string,
    content: object,
    channel: "shell" | "control",
    wait: { needsIdle: boolean; options: ExecuteOptions },
  ): { reply: Promise<Message> } {
    const header = this.wire.header(type);
    const reply = new Promise<Message>((resolve, reject) => {
      if (this.ended !== undefined) reject(this.ended);
      else this.waiting.set(header.msg_id, { ...wait, idle: false, resolve, reject });
    });
    reply.catch(() => undefined);
    if (this.ended !== undefined) return { reply };
    this.outboxes[channel].send(this.wire.encode([], { type, content }, header));
    return { reply };
  }

  private async within<T>(promise: Promise<T>, timeout: number | undefined, what: string): Promise<T> {
    if (timeout === undefined) return promise;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new KernelTimeoutError(`${what} within ${timeout / 1000} s`)), timeout);
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  private async receive(channel: string, socket: zmq.Dealer | zmq.Subscriber): Promise<void> {
    for (let count = 1; !socket.closed; count++) {
      // A flood of messages keeps the event loop from turning: timers would be late, and buffers not be freed.
      if (count % 16 === 0) await setImmediate();
      let frames: Buffer[];
      try {
        frames = (await socket.receive()) as Buffer[];
      } catch {
        return; // closed
      }
      const decoded = this.wire.decode(frames);
      if ("message" in decoded) this.handle(decoded.message, channel);
    }
  }

  private handle(message: Message, channel: string): void {
    for (const listener of this.listeners) listener(message, channel);
    const id = (message.parent as Partial<Header>).msg_id;
    const waiting = id === undefined ? undefined : this.waiting.get(id);
    if (id === undefined || waiting === undefined) return;
    if (channel === "iopub") {
      waiting.options.onOutput?.(message);
      if (message.header.msg_type === "status" && message.content.execution_state === "idle")
        waiting.idle = true;
    } else if (channel === "stdin") {
      if (message.header.msg_type === "input_request") void this.answerInput(message, waiting.options);
    } else {
      waiting.reply = message;
    }
    if (waiting.reply !== undefined && (waiting.idle || !waiting.needsIdle)) {
      this.waiting.delete(id);
      waiting.resolve(waiting.reply);
    }
  }

  private async answerInput(request: Message, { onInput }: ExecuteOptions): Promise<void> {
    const { prompt, password } = request.content;
    let content: object = { status: "error", value: "" };
    try {
      const question = { prompt: String(prompt), password: password === true };
      if (onInput !== undefined) content = { status: "ok", value: await onInput(question) };
    } catch {
      // Put away: the cell gets null.
    }
    const parent = request.header;
    this.outboxes.stdin.send(this.wire.encode([], { type: "input_reply", parent, content }));
  }

  /**
   * Without a process of ours to look at, it is the connection that tells when a kernel ends. It may be started again at the same
   * place, by whoever started it; what has not been answered by then never will be.
   */
  private async watch(channel: "shell" | "control", socket: zmq.Dealer): Promise<void> {
    const address = endpoint(this.connection, channel);
    let connected = false;
    for await (const event of socket.events) {
      if (event.type === "handshake") {
        connected = true;
        this.refused = undefined;
        if (!this.closed && this.process === undefined) this.ended = undefined;
      } else if (event.type === "disconnect" && connected && this.process === undefined) {
        connected = false;
        this.end(`the kernel at ${address} closed the connection`);
      } else if (event.type.startsWith("handshake:error")) {
        this.refused = `${address} refused the connection (${curveOptions(this.connection) ? "is it encrypted, with these keys?" : "is it encrypted?"})`;
      }
    }
  }

  private end(reason: string): void {
    this.ended ??= new DeadKernelError(reason);
    for (const waiting of this.waiting.values()) waiting.reject(this.ended);
    this.waiting.clear();
  }
}
