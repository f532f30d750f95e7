import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Page, WebSocket } from "playwright-core";

/** Long enough for a machine that does other things as well. */
const TIMEOUT_MS = 120_000;

/** A server on loopback that a stranger's notebook tries to reach: what it was asked for is what got through. */
export class Canary {
  private readonly server = createServer((request, response) => {
    this.asked.push(request.url!);
    for (const wake of this.waiting.splice(0)) wake();
    response.setHeader("access-control-allow-origin", "*");
    response.end();
  });
  private readonly asked: string[] = [];
  private readonly waiting: (() => void)[] = [];
  url = "";

  static async start(): Promise<Canary> {
    const canary = new Canary();
    await new Promise<void>((resolve) => canary.server.listen(0, "127.0.0.1", resolve));
    canary.url = `http://127.0.0.1:${(canary.server.address() as AddressInfo).port}`;
    return canary;
  }

  /** A script that reports itself by this name, then tries to write a file with the page's token. */
  script(name: string): string {
    const source = `fetch('${this.url}/ran/${name}');
      const { token, baseUrl } = JSON.parse(document.getElementById('jupyter-config-data').textContent);
      fetch('${this.url}/token/' + token.length);
      fetch(baseUrl + 'api/contents/written-by-${name}.txt?token=' + token, {
        method: 'PUT', body: JSON.stringify({ type: 'file', format: 'text', content: 'x' }) })`;
    return `eval(atob('${Buffer.from(`{${source}}`).toString("base64")}'))`;
  }

  /** The address of something to load. */
  load(name: string): string {
    return `${this.url}/loaded/${name}`;
  }

  /** What came through since the last call. */
  taken(): string[] {
    return [...new Set(this.asked.splice(0))].sort();
  }

  /** Waits until it was asked for this. */
  async until(path: string): Promise<void> {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    while (!this.asked.includes(path)) {
      await new Promise<void>((resolve, reject) => {
        this.waiting.push(resolve);
        signal.onabort = () => reject(new Error(`${path} did not come, only ${this.taken().join(" ")}`));
      });
    }
  }

  /**
   * Waits for a script of our own, started after everything that is in the page and by the slowest of its ways, a picture that is
   * not there. What a stranger started before has come by then.
   */
  async settled(page: Page): Promise<void> {
    await page.evaluate(
      (address) =>
        new Promise<void>((resolve) => {
          const picture = new Image();
          picture.onerror = () => resolve(fetch(address).then(() => {}));
          picture.src = "/no-such-picture";
        }),
      `${this.url}/settled`,
    );
    await this.until("/settled");
    this.asked.splice(this.asked.indexOf("/settled"), 1);
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** What a page asks its kernels to do, message by message: type and target. */
export function kernelRequests(page: Page): string[] {
  const requests: string[] = [];
  page.on("websocket", (socket: WebSocket) => {
    socket.on("framesent", ({ payload }) => {
      const text = payload.toString();
      const type = /"msg_type":\s*"(\w+)"/.exec(text)?.[1];
      const target = /"target_name":\s*"([^"]+)"/.exec(text)?.[1];
      if (type) requests.push(target ? `${type} ${target}` : type);
    });
  });
  return requests;
}
