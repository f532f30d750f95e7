/**
 * The executor, whichever process that is: it is started when it is needed, and replaced when it dies.
 */
import type { Inspector } from "../debugger/inspector.js";
import type {
  EvaluateCommand,
  Frame,
  FromControl,
  FromExecutor,
  InputAnswer,
  MappedSource,
  Script,
  ToExecutor,
} from "../ipc/frames.js";
import { whenIdle } from "../ipc/names.js";
import type { ErrorContent } from "../protocol/messages.js";
import type { ExpressionResult } from "../protocol/replies.js";
import type { InputRequest } from "../protocol/requests.js";
import { ExecutorProcess, type Exit } from "./executor-process.js";

/** How long an interrupted cell may keep its process from answering before the process is replaced. */
const patienceMs = 4000;
/** How long the server polls for an answer that should come at once, rather than sleep. */
const awakeMs = 2;
/** Stands in place of a request's number for what {@link Executor.warmUp} evaluates. */
const warmUpId = 2 ** 31 - 1;
/** How long completion waits for the members of a value at run time. */
const queryTimeoutMs = 250;

/** What became of a cell. */
export interface Evaluated {
  readonly error?: ErrorContent;
  readonly userExpressions: Readonly<Record<string, ExpressionResult>>;
}

export interface ExecutorEvents {
  text(stream: "stdout" | "stderr", text: string, context: number | undefined): void;
  publish(type: string, frame: Frame): void;
  /** Puts a question of a cell to the front end. */
  input(context: number, question: InputRequest): Promise<InputAnswer>;
  /** The source map of a script that the executor evaluated. */
  map(url: string): Promise<MappedSource | null>;
  /** The executor has dealt with a message of a comm. */
  handled(context: number): void;
  /** A new process has taken the place of one that died; `ranCell` says whether a cell was in it, which then fails by itself. */
  replaced(reason: string, ranCell: boolean): void;
}

interface Running {
  readonly id: number;
  resolve(result: Evaluated): void;
  /** Its event loop has been seen to turn: an interrupt will be answered at once. */
  waits: boolean;
  interrupted?: boolean;
  killTimer?: NodeJS.Timeout;
}

export class Executor {
  private process: ExecutorProcess | undefined;
  /** The process has come to life. */
  private ready = false;
  private running: Running | undefined;
  private readonly queries = new Map<
    number,
    (members: readonly { readonly name: string; readonly type: string }[]) => void
  >();
  private lastQuery = 0;
  private readonly inspections = new Map<number, (answer: FromControl & { op: "inspected" }) => void>();
  private readonly inspectorListeners = new Set<(method: string, params: unknown) => void>();
  private lastInspection = 0;
  private interrupts = 0;
  private onTurn: () => void = () => undefined;
  private stopping = false;
  private killed: string | undefined;

  constructor(
    private readonly cwd: string,
    private readonly events: ExecutorEvents,
  ) {}

  /** Starts the executor, if it does not run yet. */
  start(): void {
    this.process ??= this.spawn();
  }

  private get executor(): ExecutorProcess {
    this.process ??= this.spawn();
    return this.process;
  }

  /** Never rejects; an executor that dies is an error of the cell. */
  evaluate(command: EvaluateCommand): Promise<Evaluated> {
    return new Promise((resolve) => {
      const running = { id: command.id, resolve, waits: false };
      this.running = running;
      try {
        this.executor.command(command);
      } catch (error) {
        this.finish(running, died(`the process that runs cells could not be started: ${String(error)}`));
      }
    });
  }

  /** Tells the executor something that has no answer. */
  tell(message: ToExecutor, buffers: readonly Uint8Array[] = []): void {
    this.executor.command(message, buffers);
  }

  /** Tells the executor a script's source map before it asks. */
  knowMap(url: string, value: MappedSource): void {
    this.process?.control({ op: "map", url, value });
    if (this.running !== undefined) this.process?.command({ op: "hello", id: this.running.id });
  }

  interrupt(): void {
    const { process: executor } = this;
    if (executor === undefined) return; // not started yet
    const running = this.running?.id === warmUpId ? undefined : this.running;
    this.sendInterrupt(executor, running);
    if (running === undefined || running !== this.running) return;
    running.interrupted = true;
    if (this.ready) this.replaceUnlessAnswered(executor, running);
  }

  private replaceUnlessAnswered(executor: ExecutorProcess, running: Running): void {
    running.killTimer ??= setTimeout(() => {
      this.killed = "it did not react to an interrupt";
      executor.signal("SIGKILL");
    }, patienceMs);
  }

  private sendInterrupt(executor: ExecutorProcess, running: Running | undefined): void {
    this.interrupts += 1;
    const interrupt = { op: "interrupt", id: running?.id ?? whenIdle, serial: this.interrupts } as const;
    if (running?.waits) {
      executor.interrupt("commands", interrupt);
      executor.watch(() => running !== this.running, awakeMs);
      if (running !== this.running) {
        // What the cell started is interrupted, too, once whoever waits has the answer.
        setImmediate(() => executor.signal("SIGINT"));
        return;
      }
    }
    executor.interrupt("control", interrupt);
    if (!running?.waits) executor.interrupt("commands", interrupt);
    // A process that does not ignore the signal yet would end by it, and no cell has started anything that should hear it.
    if (this.ready) executor.signal("SIGINT");
  }

  /** Resolves when the executor's event loop turns: no code is running. */
  turn(): Promise<void> {
    this.process?.command({ op: "hello", id: warmUpId });
    return new Promise((resolve) => {
      this.onTurn = resolve;
    });
  }

  /**
   * Evaluates a script that takes a while, and interrupts it. Code that never ran is slow: after this, somebody who waits
   * for an interrupt waits a millisecond less.
   */
  async warmUp(script: Script): Promise<void> {
    const unseen = { count: 0, silent: true, allowStdin: false, userExpressions: {} };
    const over = this.evaluate({ op: "evaluate", id: warmUpId, script, ...unseen });
    this.sendInterrupt(this.executor, this.running);
    await over;
  }

  /** The members of an expression's value at run time; none if a cell keeps the executor from answering in time. */
  members(expression: string): Promise<readonly { readonly name: string; readonly type: string }[]> {
    this.lastQuery += 1;
    const id = this.lastQuery;
    return new Promise((resolve) => {
      const done = (members: readonly { readonly name: string; readonly type: string }[]) => {
        clearTimeout(timer);
        this.queries.delete(id);
        resolve(members);
      };
      const timer = setTimeout(() => done([]), queryTimeoutMs);
      this.queries.set(id, done);
      this.executor.command({ op: "members", id, expression });
    });
  }

  /** V8's inspector in the executor. */
  readonly inspector: Inspector = {
    post: <T>(method: string, params?: object) => {
      this.lastInspection += 1;
      const id = this.lastInspection;
      return new Promise<T>((resolve, reject) => {
        this.inspections.set(id, ({ result, error }) => {
          if (error === undefined) resolve(result as T);
          else reject(new Error(error));
        });
        this.executor.control({ op: "inspector", id, method, ...(params && { params }) });
      });
    },
    onEvent: (listener) => this.inspectorListeners.add(listener),
    detach: () => this.process?.control({ op: "inspectorDetach" }),
  };

  private hear(message: FromControl): void {
    if (message.op === "inspectorEvent") {
      for (const listener of this.inspectorListeners) listener(message.method, message.params);
      return;
    }
    const answer = this.inspections.get(message.id);
    this.inspections.delete(message.id);
    answer?.(message);
  }

  pause(paused: boolean): void {
    this.process?.pause(paused);
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.process?.end(this.running === undefined ? 1000 : 0);
  }

  private spawn(): ExecutorProcess {
    this.ready = false;
    const executor: ExecutorProcess = new ExecutorProcess(this.cwd, {
      text: (stream, text, context) => this.events.text(stream, text, context),
      publish: (type, frame) => this.events.publish(type, frame),
      message: (message) => this.receive(executor, message),
      control: (message) => this.hear(message),
      died: (exit) => this.died(executor, exit),
    });
    return executor;
  }

  private receive(executor: ExecutorProcess, message: FromExecutor): void {
    switch (message.op) {
      case "done": {
        const { running } = this;
        if (running?.id !== message.id) break;
        this.finish(running, message);
        break;
      }
      case "ready":
        this.ready = true;
        if (this.running?.interrupted) this.replaceUnlessAnswered(executor, this.running);
        break;
      case "hello":
        if (message.id === warmUpId) this.onTurn();
        else if (this.running?.id === message.id) this.running.waits = true;
        break;
      case "interrupted":
        // Its event loop turns: it is cleaning up, not stuck.
        if (this.running?.id === message.id) clearTimeout(this.running.killTimer);
        break;
      case "handled":
        this.events.handled(message.id);
        break;
      case "input":
        void this.events
          .input(message.context, { prompt: message.prompt, password: message.password })
          .then((value) => executor.control({ op: "answer", id: message.id, value }));
        break;
      case "map":
        void this.events
          .map(message.url)
          .then((value) => executor.control({ op: "answer", id: message.id, value }));
        break;
      case "members":
        this.queries.get(message.id)?.(message.members);
        break;
      default:
        break;
    }
  }

  private finish(running: Running, result: Evaluated): void {
    clearTimeout(running.killTimer);
    this.running = undefined;
    running.resolve(result);
  }

  private died(executor: ExecutorProcess, exit: Exit): void {
    if (this.stopping) return;
    const { running } = this;
    // What it started must not outlive it and hold ports and memory.
    executor.signal("SIGKILL");
    // A process that never came to life would not come to life the next time either: the next cell may try.
    const consequence = this.ready
      ? "it has been replaced, and variables are lost"
      : "the next cell tries again";
    const reason = `${describeExit(exit, this.killed)}; ${consequence}`;
    this.killed = undefined;
    for (const [id, answer] of this.inspections) answer({ op: "inspected", id, error: reason });
    this.inspections.clear();
    this.process = undefined;
    if (this.ready) this.start();
    this.events.replaced(reason, running !== undefined && running.id !== warmUpId);
    if (running === undefined) return;
    this.finish(running, died(reason));
  }
}

/** The error of a cell whose process is gone. */
export function executorDied(reason: string): ErrorContent {
  const traceback = [`\x1b[31mExecutorDied\x1b[39m: ${reason}`];
  return { ename: "ExecutorDied", evalue: reason, traceback };
}

function died(reason: string): Evaluated {
  return { error: executorDied(reason), userExpressions: {} };
}

function describeExit({ code, signal, error }: Exit, killed: string | undefined): string {
  const subject = "the process that runs cells";
  if (error !== undefined) return `${subject} could not be started: ${error}`;
  if (killed !== undefined) return `${subject} was ended: ${killed}`;
  if (signal !== null) return `${subject} was ended by ${signal}${hint(signal)}`;
  return `${subject} ended with exit code ${code}${codeHint(code)}`;
}

function hint(signal: NodeJS.Signals): string {
  if (signal === "SIGABRT") return " (out of memory, or a fatal error in native code)";
  if (signal === "SIGKILL") return " (the system kills so when memory runs out)";
  return signal === "SIGSEGV" || signal === "SIGBUS" || signal === "SIGILL"
    ? " (a crash in native code)"
    : "";
}

function codeHint(code: number | null): string {
  return code === 134 ? " (out of memory, or a fatal error in native code)" : "";
}
