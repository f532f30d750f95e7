/**
 * The executor: the process that runs cells. It can be replaced at any time; the server outlives it.
 */
import { Console } from "node:console";
import { Socket } from "node:net";
import { inContext, OutputStream, publish, sendControl, setFallbackContext } from "../ipc/channel.js";
import { FrameReader, fd, type MappedSource, type ToExecutor } from "../ipc/frames.js";
import { exitProcess, listener, parse, textOf, withOwnMethods } from "../ipc/primordials.js";
import { Cells } from "./cells.js";
import { Comms } from "./comms.js";
import { CellErrors } from "./errors.js";
import { type Importer, installGlobals } from "./globals.js";
import { Interrupts } from "./interrupt.js";
import { replaceInput } from "./stdin.js";
import { reportUncaught } from "./uncaught.js";
import { showFunctionsAsWritten } from "./written.js";

const interrupts = new Interrupts();

replaceOutput();
const errors = new CellErrors(
  (url) =>
    interrupts.knownMap(url) ??
    (interrupts.ask((id) => sendControl({ op: "map", id, url }), false) as MappedSource | null),
);
const cells = new Cells(interrupts, errors);
const importer = lazyImporter(process.cwd());
const comms = new Comms();
showFunctionsAsWritten();
replaceInput(interrupts);
installGlobals(interrupts, process.cwd(), importer, comms, cells);
reportUncaught(errors, interrupts);

// Node calls this method by its name.
Object.defineProperty(process, "emit", { value: process.emit, configurable: true, writable: true });
ignoreInterrupts();

const reader = new FrameReader((frame) => {
  const command = parse(textOf(frame.parts[0]!)) as ToExecutor;
  switch (command.op) {
    case "evaluate":
      setFallbackContext(command.id);
      void cells.evaluate(command);
      break;
    case "comm":
      void receiveComm(command, frame.parts.slice(1));
      break;
    case "members":
      sendControl({ op: "members", id: command.id, members: membersOf(command.expression) }, 0);
      break;
    case "hello":
      sendControl(command, command.id);
      break;
    case "interrupt":
      interrupts.interrupt(command);
      break;
    case "exit":
      exitProcess(0);
      break;
    default:
      break;
  }
});
const commands = withOwnMethods(new Socket({ fd: fd.commands, readable: true, writable: false }));
commands.on(
  "data",
  listener((chunk: Buffer) => reader.push(chunk)),
);
sendControl({ op: "ready" }, 0);

async function receiveComm(
  { id, type, content, metadata }: Extract<ToExecutor, { op: "comm" }>,
  buffers: readonly Buffer[],
): Promise<void> {
  try {
    await inContext(id, () => comms.receive(type, content, { metadata, buffers }));
  } catch (error) {
    publish("error", errors.content(error), { context: id });
  }
  sendControl({ op: "handled", id }, id);
}

function membersOf(expression: string): { name: string; type: string }[] {
  try {
    return cells.members(expression);
  } catch {
    return []; // a cell has replaced what this needs
  }
}

/**
 * Ctrl-C in a terminal reaches the whole group, and so does an interrupt, for the sake of what cells started; the server
 * decides what it means here. Node ends a process without a listener, so this one stays even if a cell removes listeners.
 */
function ignoreInterrupts(): void {
  const ignore = listener(() => undefined);
  const { on, removeAllListeners } = process;
  on.call(process, "SIGINT", ignore);
  const remove = process.removeListener;
  const kept = {
    removeListener: (name: string | symbol, hear: Hear) =>
      hear === ignore ? process : remove.call(process, name, hear),
    removeAllListeners: (name?: string | symbol) => {
      // Node's own two for `newListener` and `removeListener` turn listeners of signals into handlers.
      const names = name === undefined ? process.eventNames() : [name];
      for (const each of names) {
        if (each === "SIGINT")
          for (const hear of process.rawListeners(each)) kept.removeListener(each, hear as Hear);
        else if (each !== "newListener" && each !== "removeListener") removeAllListeners.call(process, each);
      }
      return process;
    },
  };
  for (const [name, value] of Object.entries({ ...kept, off: kept.removeListener }))
    Object.defineProperty(process, name, { value, configurable: true, writable: true });
}

type Hear = (...args: unknown[]) => void;

/** The module loader is itself loaded when a cell first imports something. */
function lazyImporter(cwd: string): Importer {
  type Loaded = Importer["import"] & Pick<Importer, "typescript">;
  let made: Promise<Loaded> | undefined;
  const loaded = () => {
    made ??= import("./modules.js" as string).then((module) => module.createImporter({ cwd }) as Loaded);
    return made;
  };
  return {
    import: async (...request) => (await loaded())(...request),
    typescript: async () => (await loaded()).typescript(),
  };
}

function replaceOutput(): void {
  const stdout = new OutputStream("stdout", 1);
  const stderr = new OutputStream("stderr", 2);
  Object.defineProperty(process, "stdout", { configurable: true, enumerable: true, get: () => stdout });
  Object.defineProperty(process, "stderr", { configurable: true, enumerable: true, get: () => stderr });
  // Node's own console also reports to the inspector, which would keep every value ever printed.
  const plain = new Console({ stdout, stderr, ignoreErrors: false, colorMode: false });
  for (const [name, method] of Object.entries(plain)) {
    if (typeof method === "function") Object.assign(globalThis.console, { [name]: method });
  }
}
