import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import {
  type AddressInfo,
  connect,
  createServer,
  type NetConnectOpts,
  type Server,
  type Socket,
} from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KernelManager, ServerConnection } from "@jupyterlab/services";
import { installGatewayKernelspec } from "../../../kernel/install/gateway.js";
import { installKernelspec } from "../../../kernel/install/kernelspec.js";
import { kernelName } from "../../../kernel/install/names.js";
import { pythonEnvironment } from "../../../kernel/install/python.js";
import { freePorts } from "../../../kernel/protocol/ports.js";
import { projectPython, projectRoot } from "../../src/cli/project.js";

/** The kernel that the distributed process proxy starts. */
export const distributedKernel = "firstframe-distributed";

export interface GatewayOptions {
  /** What starts it, such as `ip netns exec NAME`. */
  readonly before?: readonly string[];
  /** Where it listens. */
  readonly ip?: string;
  /** Where the distributed process proxy starts kernels. */
  readonly hosts?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly args?: readonly string[];
  /** Whether the kernel that notebooks name is the distributed process proxy's. */
  readonly elsewhere?: boolean;
  /** Its working folder, which is that of the kernels that it starts itself. */
  readonly cwd?: string;
}

/** A real Enterprise Gateway with our kernelspecs, in folders of its own. */
export class Gateway {
  private constructor(
    readonly folder: string,
    readonly url: string,
    private readonly process: ChildProcess,
    private readonly said: { text: string },
  ) {}

  static async start({
    before = [],
    ip = "127.0.0.1",
    hosts = [ip],
    env = {},
    args = [],
    elsewhere = false,
    cwd,
  }: GatewayOptions = {}): Promise<Gateway> {
    const folder = mkdtempSync(join(tmpdir(), "firstframe-gateway-"));
    if (!elsewhere) await installKernelspec({ prefix: folder });
    await installGatewayKernelspec({
      gateway: "enterprise-gateway-distributed",
      name: elsewhere ? kernelName : distributedKernel,
      prefix: folder,
    });
    const [port, responsePort] = await freePorts(2, "127.0.0.1");
    const [program, ...words] = [
      ...before,
      gatewayPython(),
      "-m",
      "enterprise_gateway",
      `--EnterpriseGatewayApp.ip=${ip}`,
      `--EnterpriseGatewayApp.port=${port}`,
      `--EnterpriseGatewayApp.remote_hosts=${JSON.stringify(hosts)}`,
      // Root is refused unless told otherwise, and containers have no other user.
      "--EnterpriseGatewayApp.unauthorized_users=[]",
      // Clients look at the list from time to time.
      "--EnterpriseGatewayApp.list_kernels=True",
      "--debug",
      ...args,
    ];
    const child = spawn(program!, words, {
      cwd: cwd ?? folder,
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        JUPYTER_PATH: join(folder, "share/jupyter"),
        JUPYTER_RUNTIME_DIR: join(folder, "runtime"),
        JUPYTER_CONFIG_DIR: join(folder, "config"),
        JUPYTER_DATA_DIR: join(folder, "data"),
        EG_RESPONSE_IP: ip,
        EG_RESPONSE_PORT: String(responsePort),
        EG_KERNEL_LOG_DIR: folder,
        // A machine that does other things as well takes its time.
        EG_KERNEL_LAUNCH_TIMEOUT: "120",
        FIRSTFRAME_HISTORY: ":memory:",
        ...env,
      },
    });
    const said = { text: "" };
    await new Promise<void>((resolve, reject) => {
      child.stderr!.on("data", (chunk) => {
        said.text += String(chunk);
        if (process.env.FIRSTFRAME_TEST_LOG) process.stderr.write(chunk);
        if (said.text.includes("is available at")) resolve();
      });
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`the gateway ended with code ${code}:\n${said.text}`)));
    });
    return new Gateway(folder, `http://${ip}:${port}/`, child, said);
  }

  /** All that it has logged. */
  get log(): string {
    return this.said.text;
  }

  /** Resolves once it has logged such text, after what it had logged at the time of `since`. */
  async logged(pattern: RegExp, since = 0): Promise<void> {
    while (!pattern.test(this.log.slice(since)))
      await new Promise((resolve) => this.process.stderr!.once("data", resolve));
  }

  async stop(): Promise<void> {
    // It shuts its kernels down first.
    await ended(this.process, 20_000);
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Asks a process to end, and kills it if it has not after so many milliseconds. */
async function ended(child: ChildProcess, patience: number): Promise<void> {
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), patience);
  await gone;
  clearTimeout(timer);
}

/** JupyterLab's own client of a server. */
export function clientOf(url: string, token?: string): KernelManager {
  return new KernelManager({ serverSettings: settingsFor(url, token) });
}

/**
 * How that client reaches a server. It asks for no subprotocol: where a gateway answers with none, the client connects once more at once, and
 * Enterprise Gateway keeps that connection waiting for good if the first is not open by then.
 */
export function settingsFor(url: string, token?: string): ServerConnection.ISettings {
  const { WebSocket } = ServerConnection.makeSettings();
  class PlainWebSocket extends WebSocket {
    constructor(address: string | URL) {
      super(address);
    }
  }
  return ServerConnection.makeSettings({
    baseUrl: url,
    wsUrl: url.replace("http", "ws"),
    WebSocket: PlainWebSocket,
    ...(token !== undefined && { token, appendToken: true }),
  });
}

/** The Python that has Enterprise Gateway. */
export function gatewayPython(): string {
  const python = pythonEnvironment(join(projectRoot, ".firstframe/gateway")).bin("python");
  if (!existsSync(python)) throw new Error(`${python} is missing: run the tests through \`npm test\``);
  return python;
}

/** A Jupyter server of today whose kernels are a gateway's. */
export class ServerBehind {
  private constructor(
    readonly url: string,
    private readonly process: ChildProcess,
  ) {}

  static readonly token = "secret";

  static async start(gatewayUrl: string, folder: string): Promise<ServerBehind> {
    const args = [
      "-m",
      "jupyter_server",
      "--no-browser",
      "--allow-root",
      "--ServerApp.ip=127.0.0.1",
      "--ServerApp.port=0",
      `--IdentityProvider.token=${ServerBehind.token}`,
      `--ServerApp.root_dir=${folder}`,
      `--GatewayClient.url=${gatewayUrl}`,
    ];
    const child = spawn(projectPython(), args, {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        JUPYTER_RUNTIME_DIR: join(folder, "server-runtime"),
        JUPYTER_CONFIG_DIR: join(folder, "server-config"),
        JUPYTER_DATA_DIR: join(folder, "server-data"),
      },
    });
    let log = "";
    child.stderr!.on("data", (chunk) => {
      log += String(chunk);
      if (process.env.FIRSTFRAME_TEST_LOG) process.stderr.write(chunk);
    });
    // It writes its address down once it listens.
    const file = join(folder, "server-runtime", `jpserver-${child.pid}.json`);
    let url = "";
    while (url === "") {
      if (child.exitCode !== null)
        throw new Error(`jupyter_server ended with code ${child.exitCode}:\n${log}`);
      await sleep(100);
      const text = existsSync(file) ? readFileSync(file, "utf8") : "";
      if (!text.trimEnd().endsWith("}")) continue;
      const found = (JSON.parse(text) as { url: string }).url;
      const answer = await fetch(`${found}api?token=${ServerBehind.token}`).catch(() => undefined);
      if (answer?.ok) url = found;
    }
    return new ServerBehind(url, child);
  }

  async stop(): Promise<void> {
    await ended(this.process, 10_000);
  }
}

/** A network that can be cut: everything passes until it is. */
export class Wire {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #cut = false;
  /** How many connections passed. */
  connections = 0;

  private constructor(target: NetConnectOpts) {
    this.#server = createServer((near) => {
      // As if nobody was there: a reset.
      if (this.#cut) {
        near.resetAndDestroy();
        return;
      }
      this.connections++;
      const far = connect(target);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from);
        from.on("error", () => undefined);
        from.on("close", () => {
          this.#sockets.delete(from);
          to.destroy();
        });
        from.pipe(to);
      }
    });
  }

  /** @param to a server's URL, or the path of its socket */
  static async to(to: string): Promise<Wire> {
    const url = URL.canParse(to) ? new URL(to) : undefined;
    const wire = new Wire(url === undefined ? { path: to } : { host: url.hostname, port: Number(url.port) });
    await new Promise<void>((resolve) => wire.#server.listen(0, "127.0.0.1", resolve));
    return wire;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  /** Ends all connections, and lets none through any more. */
  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  mend(): void {
    this.#cut = false;
  }

  /** Holds all that is on its way, as a network does whose packets get lost for a while. */
  hold(): void {
    for (const socket of this.#sockets) socket.pause();
  }

  release(): void {
    for (const socket of this.#sockets) socket.resume();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
