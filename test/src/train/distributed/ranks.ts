/** Ranks as processes of this machine. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { mallocEnvironment } from "../../../../src/engine/environment.js";
import { main } from "../command.js";

export const member = fileURLToPath(new URL("./member.js", import.meta.url));

/** Addresses that nobody listens on now. */
export async function freeHosts(count: number): Promise<string[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))));
  return ports.map((port) => `127.0.0.1:${port}`);
}

export interface RankEnded {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** When it ended, by `performance.now()`. */
  readonly at: number;
}

export interface RankProcess {
  readonly child: ChildProcess;
  readonly ended: Promise<RankEnded>;
  /** Resolves once standard output has such text. */
  said(pattern: RegExp): Promise<void>;
}

/** @param before a command that starts Node, such as `ip netns exec NAME`. */
export function startRank(
  argv: readonly string[],
  env: NodeJS.ProcessEnv = {},
  before: readonly string[] = [],
): RankProcess {
  const [program, ...words] = [...before, process.execPath, ...argv];
  const child = spawn(program!, words, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...mallocEnvironment(), ...env },
  });
  let [stdout, stderr] = ["", ""];
  let waiting: { readonly pattern: RegExp; readonly done: () => void }[] = [];
  const look = () => {
    waiting = waiting.filter(({ pattern, done }) => {
      if (!pattern.test(stdout)) return true;
      done();
      return false;
    });
  };
  child.stdout!.on("data", (chunk: Buffer) => {
    stdout += chunk;
    look();
  });
  child.stderr!.on("data", (chunk: Buffer) => {
    stderr += chunk;
  });
  const ended = new Promise<RankEnded>((done) =>
    child.on("close", (code, signal) => done({ code, signal, stdout, stderr, at: performance.now() })),
  );
  const said = (pattern: RegExp) =>
    new Promise<void>((done, failed) => {
      waiting.push({ pattern, done });
      look();
      void ended.then(() => failed(new Error(`ended without saying ${pattern}: ${stdout}${stderr}`)));
    });
  return { child, ended, said };
}

/** `firstframe train` on each rank, with one thread. */
export async function startTraining(
  count: number,
  args: readonly string[],
  ofRank: (rank: number) => readonly string[] = () => [],
): Promise<{ readonly hosts: readonly string[]; readonly ranks: readonly RankProcess[] }> {
  const hosts = await freeHosts(count);
  const ranks = hosts.map((_, index) => {
    const config = { cluster: { worker: hosts }, task: { type: "worker", index } };
    const env = { TF_CONFIG: JSON.stringify(config), OMP_NUM_THREADS: "1" };
    return startRank([main, "train", ...args, ...ofRank(index)], env);
  });
  return { hosts, ranks };
}

export const allEnded = (ranks: readonly RankProcess[]): Promise<RankEnded[]> =>
  Promise.all(ranks.map(({ ended }) => ended));
