/**
 * Free TCP ports, anywhere or in a range that a firewall lets through.
 */
import { randomInt } from "node:crypto";
import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:net";

/** Ports from `lower` to `upper`, both of them included. */
export interface PortRange {
  readonly lower: number;
  readonly upper: number;
}

/** Free ports of an address. All are held at once, so that no port is handed out twice. */
export async function freePorts(count: number, ip: string, range?: PortRange): Promise<number[]> {
  const servers: Server[] = [];
  try {
    const ports: number[] = [];
    while (ports.length < count) {
      const server = createServer();
      ports.push(await listen(server, ip, range));
      servers.push(server);
    }
    return ports;
  } finally {
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

/** Lets a server listen on a free port. @returns the port. @throws Error when there is none in the range. */
export async function listen(server: Server, ip: string, range?: PortRange): Promise<number> {
  if (range === undefined) return await listenOn(server, ip, 0);
  const { lower, upper } = range;
  const size = upper - lower + 1;
  // From a random one, so that kernels that start at the same time seldom want the same.
  const first = randomInt(size);
  for (let i = 0; i < size; i++) {
    try {
      return await listenOn(server, ip, lower + ((first + i) % size));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "EADDRINUSE" && code !== "EACCES") throw error;
    }
  }
  throw new Error(`no free port from ${lower} to ${upper}`);
}

function listenOn(server: Server, ip: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, ip, () => {
      server.off("error", reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}
