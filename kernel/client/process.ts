/**
 * A kernel's process, started from a kernelspec as Jupyter starts it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { capability } from "zeromq";
import { serverEnvironment } from "../install/allocator.js";
import { type ConnectionInfo, newConnection, writeConnectionFile } from "../protocol/connection.js";
import type { FoundKernelspec } from "./kernelspecs.js";

export interface StartOptions {
  /** The kernel's working folder; default: this process's. */
  readonly cwd?: string;
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where the kernel's own log goes; default "ignore". */
  readonly log?: "inherit" | "ignore" | number;
  /**
   * Whether messages are encrypted with CurveZMQ, as jupyter_client's `transport_encryption`: never ("disabled", the
   * default), where the kernelspec says that the kernel can ("auto"), or else the kernel is not started ("required").
   */
  readonly transportEncryption?: "disabled" | "auto" | "required";
}

export class KernelProcess {
  /** Resolves with a description when the process is gone. */
  readonly exited: Promise<string>;
  private alive = true;

  private constructor(
    private readonly child: ChildProcess,
    readonly connection: ConnectionInfo,
    readonly connectionFile: string,
    folder: string,
  ) {
    this.exited = new Promise((resolve) => {
      const end = (reason: string) => {
        this.alive = false;
        rmSync(folder, { recursive: true, force: true });
        resolve(reason);
      };
      child.once("error", (error) => end(`can't be started: ${error.message}`));
      child.once("exit", (code, signal) =>
        end(signal ? `ended by ${signal}` : `ended with exit code ${code}`),
      );
    });
  }

  static async start(spec: FoundKernelspec, options: StartOptions = {}): Promise<KernelProcess> {
    const connection = await newConnection(spec.name, { encrypted: isEncrypted(spec, options) });
    // A folder made so is its owner's alone, and so is the file: who has the key can run code.
    const folder = mkdtempSync(join(tmpdir(), "firstframe-kernel-"));
    const file = join(folder, "connection.json");
    writeConnectionFile(file, connection);
    const argv = spec.argv.map((part) =>
      part.replaceAll("{connection_file}", file).replaceAll("{resource_dir}", spec.folder),
    );
    const env: NodeJS.ProcessEnv = {
      // Those of this process, should it compute.
      ...serverEnvironment(process.env),
      JPY_PARENT_PID: String(process.pid),
      ...options.env,
    };
    for (const [name, value] of Object.entries(spec.env)) {
      env[name] = value.replace(/\$\{(\w+)\}/g, (_, variable: string) => env[variable] ?? "");
    }
    const log = options.log ?? "ignore";
    const child = spawn(argv[0]!, argv.slice(1), {
      cwd: options.cwd ?? process.cwd(),
      env,
      stdio: ["ignore", log, log],
      detached: true,
    });
    return new KernelProcess(child, connection, file, folder);
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  get isAlive(): boolean {
    return this.alive;
  }

  /** Sends a signal to the kernel and what belongs to it. */
  signal(signal: NodeJS.Signals): void {
    const { pid } = this.child;
    if (pid === undefined || !this.alive) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // gone in the meantime
    }
  }
}

function isEncrypted(spec: FoundKernelspec, { transportEncryption = "disabled" }: StartOptions): boolean {
  if (transportEncryption === "disabled") return false;
  const can = spec.supportedEncryption?.includes("curve") === true && capability.curve === true;
  if (can || transportEncryption === "auto") return can;
  throw new Error(
    capability.curve
      ? `kernelspec ${join(spec.folder, "kernel.json")}: metadata.supported_encryption: expected "curve" among them, found ${JSON.stringify(spec.supportedEncryption ?? [])}`
      : "transportEncryption: this build of zeromq can't encrypt",
  );
}
