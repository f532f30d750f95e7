/**
 * The executor as the server sees it: a child process that takes commands and may die at any time.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readSync, writeSync } from "node:fs";
import type { Socket } from "node:net";
import { StringDecoder } from "node:string_decoder";
import { fileURLToPath } from "node:url";
import { executorEnvironment } from "../install/allocator.js";
import {
  encodeFrame,
  type Frame,
  FrameKind,
  FrameReader,
  type FromControl,
  type FromExecutor,
  type Interrupt,
  type ToControl,
  type ToExecutor,
} from "../ipc/frames.js";

export interface ProcessEvents {
  /** Text of `console`, `process.stdout` (and stderr) where the context is known, of native code where not. */
  text(stream: "stdout" | "stderr", text: string, context: number | undefined): void;
  publish(type: string, frame: Frame): void;
  message(message: FromExecutor): void;
  /** The control thread, which speaks also while the main thread is paused. */
  control(message: FromControl): void;
  /** The process is gone, and all it wrote has been delivered. */
  died(exit: Exit): void;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why it could not be started. */
  readonly error?: string;
}

const entry = fileURLToPath(new URL("../executor/main.js", import.meta.url));
/** After a termination by an interrupt, Node's own bookkeeping of async hooks may be off; it must not abort then. */
const nodeOptions = ["--no-force-async-hooks-checks"];

/** What an executor started may hold its pipes open; for so long after its end, output is still waited for. */
const heldOpenMs = 1000;

export class ExecutorProcess {
  private readonly child: ChildProcess;
  private readonly pipes: { out: Socket; commands: Socket; control: Socket };
  private readonly native: { stream: "stdout" | "stderr"; socket: Socket; decoder: StringDecoder }[];
  private gone = false;

  constructor(
    private readonly cwd: string,
    private readonly events: ProcessEvents,
  ) {
    this.child = spawn(process.execPath, [...nodeOptions, entry], {
      cwd,
      env: executorEnvironment(process.env),
      stdio: ["ignore", "pipe", "pipe", "pipe", "pipe", "pipe"],
      // A group of its own: an interrupt reaches what cells started, and a terminal's Ctrl-C only the server.
      detached: true,
    });
    const [, stdout, stderr, out, commands, control] = this.child.stdio as unknown as Socket[];
    this.pipes = { out: out!, commands: commands!, control: control! };
    this.native = [
      { stream: "stdout", socket: stdout!, decoder: new StringDecoder("utf8") },
      { stream: "stderr", socket: stderr!, decoder: new StringDecoder("utf8") },
    ];
    for (const { stream, socket, decoder } of this.native) {
      socket.on("data", (chunk: Buffer) => events.text(stream, decoder.write(chunk), undefined));
    }
    const reader = new FrameReader((frame) => this.receive(frame));
    out!.on("data", (chunk: Buffer) => {
      // What native code printed before this was written belongs before it.
      this.drainNative();
      reader.push(chunk);
    });
    const controlReader = new FrameReader((frame) => {
      events.control(JSON.parse(frame.parts[0]!.toString("utf8")) as FromControl);
    });
    control!.on("data", (chunk: Buffer) => controlReader.push(chunk));
    for (const socket of Object.values(this.pipes)) socket.on("error", () => undefined);
    this.watchExit();
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  command(message: ToExecutor, buffers: readonly Uint8Array[] = []): void {
    for (const piece of encodeFrame(FrameKind.control, 0, [JSON.stringify(message), ...buffers])) {
      this.pipes.commands.write(piece);
    }
  }

  control(message: ToControl): void {
    for (const piece of encodeFrame(FrameKind.control, 0, [JSON.stringify(message)]))
      this.pipes.control.write(piece);
  }

  /** Tells a thread of the executor; each may hear of the same interrupt, as the first acts. */
  interrupt(thread: "commands" | "control", interrupt: Interrupt): void {
    const [frame] = encodeFrame(FrameKind.control, 0, [JSON.stringify(interrupt)]) as [Uint8Array];
    const socket = this.pipes[thread];
    // Past the stream, which takes longer, unless something waits there.
    if (socket.writableLength > 0 || !writtenNow(socket, frame)) socket.write(frame);
  }

  /**
   * Reads what the executor writes without going to sleep between, which saves the time to wake up: until `enough`, but
   * no longer than `limitMs`.
   */
  watch(enough: () => boolean, limitMs: number): void {
    const { out } = this.pipes;
    const fd = fdOf(out);
    if (fd === undefined || out.isPaused() || out.readableLength > 0) return;
    const end = performance.now() + limitMs;
    while (!enough() && performance.now() <= end) {
      const size = readNow(fd);
      if (size === 0) return; // it has ended, which the stream tells
      if (size > 0) out.emit("data", Buffer.from(scratch.subarray(0, size)));
    }
  }

  /** Stops reading, which in the end makes cells that print wait; for when output can't be passed on. */
  pause(paused: boolean): void {
    for (const socket of [this.pipes.out, ...this.native.map(({ socket }) => socket)]) {
      if (paused) socket.pause();
      else socket.resume();
    }
  }

  /** Sends a signal to what cells started and to the executor, which itself ignores SIGINT. */
  signal(signal: NodeJS.Signals): void {
    const { pid } = this.child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // nothing left to signal
    }
  }

  /** Ends the process, by force if it does not end by itself in time. What cells started ends, too. */
  async end(patienceMs: number): Promise<void> {
    if (!this.gone) {
      this.command({ op: "exit" });
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, patienceMs);
        this.child.once("exit", () => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    this.signal("SIGKILL");
  }

  private receive(frame: Frame): void {
    switch (frame.kind) {
      case FrameKind.stdout:
        this.events.text("stdout", frame.parts[0]!.toString("utf8"), frame.context);
        break;
      case FrameKind.stderr:
        this.events.text("stderr", frame.parts[0]!.toString("utf8"), frame.context);
        break;
      case FrameKind.publish:
        this.events.publish(frame.parts[0]!.toString("utf8"), frame);
        break;
      case FrameKind.control:
        this.events.message(JSON.parse(frame.parts[0]!.toString("utf8")) as FromExecutor);
        break;
      default:
        break;
    }
  }

  private drainNative(): void {
    for (const { stream, socket, decoder } of this.native) {
      const fd = fdOf(socket);
      if (fd === undefined) continue;
      for (let size = readNow(fd); size > 0; size = readNow(fd)) {
        this.events.text(stream, decoder.write(scratch.subarray(0, size)), undefined);
      }
    }
  }

  private watchExit(): void {
    let exit: Exit = { code: null, signal: null };
    let exited = false;
    let ended = false;
    const report = () => {
      if (this.gone) return;
      this.gone = true;
      this.drainNative();
      this.events.died(exit);
    };
    this.child.once("error", ({ message }) => {
      // Where a folder is missing, the system's message names the program.
      exit = { ...exit, error: existsSync(this.cwd) ? message : `its folder ${this.cwd} does not exist` };
      report();
    });
    this.child.once("exit", (code, signal) => {
      exit = { code, signal };
      exited = true;
      if (ended) report();
      else setTimeout(report, heldOpenMs).unref();
    });
    this.pipes.out.once("end", () => {
      ended = true;
      if (exited) report();
    });
  }
}

/** Reads to {@link scratch} what is there: how many bytes; 0 at the end, -1 where nothing is there. */
function readNow(fd: number): number {
  // It is also an error if nothing is there, and making its stack would take time.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return readSync(fd, scratch);
  } catch {
    return -1;
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** Whether the frame went out; it is short enough to do so as a whole, if at all. */
function writtenNow(socket: Socket, frame: Uint8Array): boolean {
  const fd = fdOf(socket);
  if (fd === undefined) return false;
  try {
    return writeSync(fd, frame) > 0;
  } catch {
    return false;
  }
}

function fdOf(socket: Socket): number | undefined {
  const fd = (socket as unknown as { _handle?: { fd?: number } | null })._handle?.fd;
  return fd === undefined || fd < 0 ? undefined : fd;
}

const scratch = Buffer.allocUnsafe(65536);
