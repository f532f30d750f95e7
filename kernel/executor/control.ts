/**
 * The executor's control thread: receives interrupts and answers while cells keep the main thread busy.
 */
import { Session } from "node:inspector";
import { Socket } from "node:net";
import { workerData } from "node:worker_threads";
import {
  encodeFrame,
  FrameKind,
  FrameReader,
  type FromControl,
  fd,
  type Interrupt,
  type ToControl,
} from "../ipc/frames.js";
import { abandonExpression, raiseExpression, whenIdle } from "../ipc/names.js";
import { type ControlNote, type ControlSetup, claim, slot } from "./interrupt.js";

/** How long an interrupted cell may clean up before its guards throw again. */
const graceMs = 300;
/** How long code without guards (a library's loop) may continue before V8 is told to end it. */
const patienceMs = 800;

const { state, port } = workerData as ControlSetup;
let timers: NodeJS.Timeout[] = [];

function tell(note: ControlNote): void {
  port.postMessage(note);
  Atomics.add(state, slot.wake, 1);
  Atomics.notify(state, slot.wake);
}

function interrupt(message: Interrupt, attempts = 50): void {
  const { id, serial } = message;
  if (isRunning(id)) {
    strike(id, claim(state, serial));
    return;
  }
  if (id === whenIdle || attempts === 0) return;
  // It may still be on its way to the main thread, or something that runs between cells keeps it from beginning.
  if (attempts === 45 && isRunning(whenIdle)) strike(whenIdle, true);
  setTimeout(() => interrupt(message, attempts - 1), 10);
}

function isRunning(id: number): boolean {
  return (Atomics.load(state, slot.running) || whenIdle) === id;
}

function strike(id: number, first: boolean): void {
  if (first) {
    Atomics.store(state, slot.heard, 0);
    Atomics.store(state, slot.interrupt, id);
    tell({ op: "interrupt", id });
    raise();
  }
  for (const timer of timers) clearTimeout(timer);
  timers = [
    setTimeout(() => {
      if (!isRunning(id) || (id === whenIdle && Atomics.load(state, slot.heard) === id)) return;
      Atomics.store(state, slot.insist, 1);
      Atomics.store(state, slot.interrupt, id);
      raise();
    }, graceMs),
    setTimeout(() => {
      if (!isRunning(id) || Atomics.load(state, slot.heard) === id) return;
      Atomics.store(state, slot.terminated, id);
      terminate();
      signalUntilHeard(id);
    }, patienceMs),
  ];
}

/** On a busy machine, what the cell waits for may take its time to start. */
function signalUntilHeard(id: number): void {
  if (!isRunning(id) || Atomics.load(state, slot.heard) === id) return;
  signalGroup();
  timers.push(setTimeout(() => signalUntilHeard(id), graceMs));
}

let raiser: Session | undefined;

/** Has the main thread set the flag that guards read, between two steps of whatever it is running. */
function raise(): void {
  if (raiser === undefined) {
    raiser = new Session();
    raiser.connectToMainThread();
  }
  raiser.post("Runtime.evaluate", { expression: raiseExpression, silent: true });
}

/**
 * Ends whatever JavaScript is running on the main thread. Promises that were about to settle may never do so, which is why
 * guards are tried first; but the session's variables survive. An evaluation that will never settle is given up first,
 * since V8 would report it from within a garbage collection, which is fatal.
 */
function terminate(): void {
  const session = new Session();
  session.connectToMainThread();
  if (Atomics.load(state, slot.onStack) === 0) {
    session.post("Runtime.evaluate", { expression: abandonExpression, silent: true });
  }
  session.post("Runtime.terminateExecution", () => session.disconnect());
}

/** What the cell is waiting for may have started after the interrupt was sent, and have missed it. */
function signalGroup(): void {
  try {
    process.kill(-process.pid, "SIGINT");
  } catch {
    // not the leader of a group
  }
}

const reader = new FrameReader((frame) => {
  const message = JSON.parse(frame.parts[0]!.toString("utf8")) as ToControl;
  switch (message.op) {
    case "interrupt":
      interrupt(message);
      break;
    case "inspector":
      inspect(message);
      break;
    case "inspectorDetach":
      detach();
      break;
    default:
      tell(message);
  }
});

/** The debugger's session; from this thread it works while the main thread is paused. */
let debug: Session | undefined;

function inspect({ id, method, params }: Extract<ToControl, { op: "inspector" }>): void {
  debug ??= attach();
  debug.post(method, params, (error, result) => {
    answer({ op: "inspected", id, ...(error ? { error: error.message } : { result }) });
  });
}

function attach(): Session {
  const session = new Session();
  session.connectToMainThread();
  session.on("inspectorNotification", ({ method, params }: { method: string; params?: unknown }) => {
    // A process that ends waits for its debuggers to disconnect.
    if (method === "NodeRuntime.waitingForDisconnect") detach();
    else if (passedOn.has(method)) answer({ op: "inspectorEvent", method, params });
  });
  session.post("NodeRuntime.notifyWhenWaitingForDisconnect", { enabled: true });
  return session;
}

function detach(): void {
  debug?.disconnect();
  debug = undefined;
}

function answer(message: FromControl): void {
  for (const piece of encodeFrame(FrameKind.control, 0, [JSON.stringify(message)])) commands.write(piece);
}

const passedOn = new Set(["Debugger.scriptParsed", "Debugger.paused"]);

const commands = new Socket({ fd: fd.control, readable: true, writable: true });
commands.on("data", (chunk: Buffer) => reader.push(chunk));
// The server is gone, so this process ends, and with it what cells started.
commands.on("close", () => {
  try {
    process.kill(-process.pid, "SIGKILL");
  } catch {
    // not the leader of a group
  }
  process.kill(process.pid, "SIGKILL");
});
