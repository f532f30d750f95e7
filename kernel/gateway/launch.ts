/**
 * A kernel that a gateway started somewhere else: it chooses its own ports, tells the gateway where it is, and is signalled over a port of its own. The
 * protocol is that of Enterprise Gateway's launchers, which Gateway Provisioners share.
 */
import { execFileSync } from "node:child_process";
import type { KeyObject } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { newConnection } from "../protocol/connection.js";
import { listen, type PortRange } from "../protocol/ports.js";
import { runKernel } from "../server/run.js";
import { communicationServer } from "./communication.js";
import { type Address, seal, sendResponse } from "./response.js";

export interface LaunchOptions {
  readonly kernelId: string;
  /** Where the gateway waits for the connection info. */
  readonly response: Address;
  /** The gateway's RSA key. */
  readonly publicKey: KeyObject;
  /** Where the kernel's six ports are taken from; any free ones unless given. */
  readonly ports?: PortRange | undefined;
  /** Whether the sockets are encrypted by CurveZMQ. */
  readonly encrypted: boolean;
}

/** How many ports a kernel takes: its five sockets and the one for the gateway's requests. */
export const portsOfKernel = 6;

/** The gateway is on another machine, so all addresses of this one are listened on. */
const everywhere = "0.0.0.0";

/** Its gateway could not be told where a kernel is. */
export class ResponseError extends Error {
  override name = "ResponseError";
}

/**
 * Starts the kernel of this process and tells the gateway. The process ends with the kernel.
 * @throws ResponseError when the gateway can't be reached
 * @throws Error when there are no ports, or a socket can't be bound
 */
export async function launchKernel(options: LaunchOptions): Promise<void> {
  const { kernelId, response, publicKey, ports, encrypted } = options;
  enterWorkingFolder();
  const connection = await newConnection("", { ip: everywhere, ports, encrypted });
  const kernel = await runKernel(connection);
  const requests = communicationServer({
    signal: (signum) => {
      try {
        process.kill(process.pid, signum);
      } catch (error) {
        console.error(`firstframe: signal ${signum}: ${(error as Error).message}`);
      }
    },
    shutdown: () => void kernel.shutdown(),
    refused: (why) => console.error(`firstframe: communication port: ${why}`),
  });
  try {
    const comm_port = await listen(requests, everywhere, ports);
    const pgid = processGroup();
    const info = {
      ...connection,
      pid: process.pid,
      ...(pgid !== undefined && { pgid }),
      comm_port,
      kernel_id: kernelId,
    };
    await sendResponse(response, seal(info, publicKey)).catch((error: Error) => {
      throw new ResponseError(error.message);
    });
  } catch (error) {
    // Nobody will ever find this kernel. The process ends with it, once the error is printed.
    setImmediate(() => void kernel.shutdown());
    throw error;
  }
}

/** Gateways hand on the notebook's folder, which is this machine's as well where they share a file system. */
function enterWorkingFolder(): void {
  const folder = process.env.KERNEL_WORKING_DIR;
  if (folder && statSync(folder, { throwIfNoEntry: false })?.isDirectory()) process.chdir(folder);
}

/** The number of the process group, which Node does not tell; gateways signal it where they are on the same machine. */
function processGroup(): number | undefined {
  let text: string | undefined;
  try {
    // After the name, which may have anything in it: state, parent, group.
    text = readFileSync("/proc/self/stat", "utf8").split(") ").at(-1)!.split(" ")[2];
  } catch {
    try {
      text = execFileSync("ps", ["-o", "pgid=", "-p", String(process.pid)], { encoding: "utf8" });
    } catch {}
  }
  const group = Number(text);
  return Number.isInteger(group) && group > 0 ? group : undefined;
}
