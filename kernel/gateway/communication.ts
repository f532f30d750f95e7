/**
 * The port on which a gateway reaches a kernel that it has no process of: a request a connection, `{"signum": 2}` or
 * `{"shutdown": 1}` as JSON. There are no answers. That the port can be reached at all says that the kernel lives: gateways ask with signal 0.
 */
import { createServer, type Server, type Socket } from "node:net";

export interface GatewayRequests {
  /** @param signum a signal's number, above 0 */
  signal(signum: number): void;
  shutdown(): void;
  /** Something else was sent. */
  refused(why: string): void;
}

/** Requests are short; whoever sends more, or nothing for a while, is not a gateway. */
const longest = 1024;
const patienceMs = 10_000;

/** The server that takes requests; it does not listen yet. */
export function communicationServer(on: GatewayRequests): Server {
  return createServer((socket) => {
    socket.on("error", () => undefined);
    socket.setTimeout(patienceMs, () => socket.destroy());
    void receive(socket).then((text) => {
      if (text !== undefined) handle(text, on);
    });
  });
}

/** What was sent until the other side closed; undefined if it broke off or sent too much. */
async function receive(socket: Socket): Promise<string | undefined> {
  let text = "";
  try {
    for await (const chunk of socket) {
      text += String(chunk);
      if (text.length > longest) return undefined;
    }
  } catch {
    return undefined;
  }
  return text;
}

function handle(text: string, on: GatewayRequests): void {
  // A connection without a word is a look at whether the port is there.
  if (text === "") return;
  let request: unknown;
  try {
    request = JSON.parse(text);
  } catch {
    request = undefined;
  }
  if (typeof request !== "object" || request === null) {
    on.refused(`expected a request as JSON, found ${JSON.stringify(text)}`);
    return;
  }
  const { signum, shutdown } = request as { signum?: unknown; shutdown?: unknown };
  if (Number.isInteger(signum) && (signum as number) > 0) on.signal(signum as number);
  else if (signum !== undefined && signum !== 0)
    on.refused(`signum: expected a signal's number, found ${JSON.stringify(signum)}`);
  if (shutdown) on.shutdown();
}
