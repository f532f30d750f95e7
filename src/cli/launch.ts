import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { constants } from "node:os";
import { createInterface } from "node:readline";
import { threadCount } from "../engine/environment.js";
import { TRY_AGAIN } from "../train/distributed/messages.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { UsageError } from "./errors.js";
import { childEnvironment, codeOf, onceASecond } from "./memory-settings.js";

/** After one rank has failed the others see that by themselves; those that don't are told, and then made to. */
const TOLD_AFTER_MS = 2000;
const KILLED_AFTER_MS = 10_000;

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

interface Ended {
  /** As shells count: 128 and the number of the signal that ended it. */
  readonly code: number;
}

/** `firstframe launch`: trains in several processes of this machine. */
export async function launchCommand(argv: string[]): Promise<number> {
  const { values, rest } = parseCommand("launch", commands.launch, argv);
  const [command, ...args] = rest;
  if (command !== "train") {
    throw new UsageError(`expected \`-- train ...\` to launch, found ${JSON.stringify(rest.join(" "))}`);
  }
  const { nproc: count } = values;
  const worker = (await freePorts(count)).map((port) => `127.0.0.1:${port}`);
  const secret = process.env.FIRSTFRAME_RANKS_SECRET ?? randomBytes(16).toString("hex");
  const threads = process.env.OMP_NUM_THREADS ?? String(Math.max(1, Math.floor(threadCount() / count)));
  const children = worker.map((_, index) => {
    const env = {
      ...process.env,
      ...childEnvironment(),
      TF_CONFIG: JSON.stringify({ cluster: { worker }, task: { type: "worker", index } }),
      FIRSTFRAME_RANKS_SECRET: secret,
      OMP_NUM_THREADS: threads,
    };
    const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, command, ...args], {
      env,
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    const said = [
      prefixed(child.stdout!, process.stdout, index),
      prefixed(child.stderr!, process.stderr, index),
    ];
    return { child, ended: ending(child, said) };
  });
  let told: NodeJS.Signals | undefined;
  const tell = (signal: NodeJS.Signals) => {
    for (const { child } of children) child.kill(signal);
  };
  const handlers = SIGNALS.map((signal) => {
    const handler = onceASecond(() => {
      told ??= signal;
      tell(signal);
    });
    process.on(signal, handler);
    return () => process.off(signal, handler);
  });
  const timers: NodeJS.Timeout[] = [];
  const codes = await Promise.all(
    children.map(async ({ ended }) => {
      const { code } = await ended;
      if (code !== 0 && timers.length === 0) {
        timers.push(setTimeout(tell, TOLD_AFTER_MS, "SIGTERM"), setTimeout(tell, KILLED_AFTER_MS, "SIGKILL"));
      }
      return code;
    }),
  );
  for (const timer of timers) clearTimeout(timer);
  for (const off of handlers) off();
  return overallCode(codes, told);
}

/** What they all ended with; an error that a rank found itself; the signal that they were told of; else "try again". */
function overallCode(codes: readonly number[], told: NodeJS.Signals | undefined): number {
  if (codes.every((code) => code === codes[0])) return codes[0]!;
  const own = codes.find((code) => code !== 0 && code < 128 && code !== TRY_AGAIN);
  return own ?? (told === undefined ? TRY_AGAIN : 128 + constants.signals[told]);
}

/** Passes a rank's lines on; resolves once all are out. */
async function prefixed(from: NodeJS.ReadableStream, to: NodeJS.WritableStream, rank: number): Promise<void> {
  for await (const line of createInterface({ input: from, crlfDelay: Number.POSITIVE_INFINITY })) {
    to.write(`[${rank}] ${line}\n`);
  }
}

async function ending(child: ChildProcess, said: readonly Promise<void>[]): Promise<Ended> {
  const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
  await Promise.all(said);
  return { code: code ?? codeOf(signal!) };
}

/** Ports that nobody listens on now. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))));
  return ports;
}
