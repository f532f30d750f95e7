import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Page, WebSocket } from "playwright-core";
import type { Lab, NotebookPage } from "./lab.js";

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

  /** What came through since the last call. A browser asks for the icon by itself, after a page that its reader opened here. */
  taken(): string[] {
    return [...new Set(this.asked.splice(0))].filter((path) => path !== "/favicon.ico").sort();
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

/** A stranger's file that was opened, and nothing else done. */
export interface Opened {
  readonly opened: NotebookPage;
  readonly page: Page;
  /** What the page asked its kernels to do: types of messages, and targets of comms. */
  readonly requests: readonly string[];
  readonly dialogs: readonly string[];
}

/** Opens a notebook, or a file of another kind, and waits until everything that can come of that has come. */
export async function openStrangers(
  lab: Lab,
  canary: Canary,
  name: string,
  drawn: (page: Page) => Promise<unknown>,
): Promise<Opened> {
  const requests: string[] = [];
  const dialogs: string[] = [];
  const before = (page: Page) => {
    page.on("websocket", (socket) => noteRequests(socket, requests));
    page.on("dialog", (dialog) => {
      dialogs.push(dialog.message());
      void dialog.dismiss();
    });
  };
  const opened = name.endsWith(".ipynb")
    ? await lab.open(name, { before })
    : await lab.openFile(name, before);
  await drawn(opened.page);
  await canary.settled(opened.page);
  return { opened, page: opened.page, requests, dialogs };
}

function noteRequests(socket: WebSocket, requests: string[]): void {
  socket.on("framesent", ({ payload }) => {
    const text = payload.toString();
    const type = /"msg_type":\s*"(\w+)"/.exec(text)?.[1];
    const target = /"target_name":\s*"([^"]+)"/.exec(text)?.[1];
    if (type) requests.push(target ? `${type} ${target}` : type);
  });
}

/** What JupyterLab and ipywidgets ask a kernel by themselves whenever a notebook is opened. */
const OWN =
  /^(kernel_info_request|comm_info_request( jupyter\.widget)?|comm_open jupyter\.widget\.control|comm_msg|comm_close|debug_request|history_request)$/;

/** Nothing ran, was loaded or asked, no kernel got work, no file was written. */
export async function nothingHappened(lab: Lab, canary: Canary, seen: Opened): Promise<void> {
  assert.deepEqual(canary.taken(), []);
  assert.deepEqual(await writtenFiles(lab), []);
  assert.deepEqual(seen.dialogs, []);
  assert.deepEqual(
    seen.requests.filter((request) => !OWN.test(request)),
    [],
  );
}

/** What scripts of a canary's wrote. */
export async function writtenFiles(lab: Lab): Promise<string[]> {
  return (await readdir(lab.notebooks)).filter((file) => file.startsWith("written-by-"));
}

/** A layout with a title and a picture that is elsewhere. */
export function remotePicture(canary: Canary, name: string) {
  const picture = { source: canary.load(name), x: 0, y: 1, sizex: 1, sizey: 1, xref: "paper", yref: "paper" };
  return { images: [picture], title: { text: `figure of ${name}` } };
}
