/**
 * The kernel behind a real Enterprise Gateway, started by itself and by the distributed process proxy, which has the connection
 * info sent to its response address under its RSA key. JupyterLab's own client talks to it.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Kernel, KernelManager, KernelMessage } from "@jupyterlab/services";
import { gatewayKernelspec } from "../../kernel/install/gateway.js";
import { GATEWAYS, kernelName } from "../../kernel/install/names.js";
import { isAlive } from "../../kernel/server/parent.js";
import { readNotebook } from "../../src/cli/notebook/format.js";
import { projectPython, projectRoot } from "../src/cli/project.js";
import {
  clientOf,
  distributedKernel,
  Gateway,
  gatewayPython,
  ServerBehind,
  settingsFor,
  Wire,
} from "./gateway/server.js";

const portRange = [41_000, 43_000] as const;

let gateway: Gateway;
let manager: KernelManager;
before(async () => {
  gateway = await Gateway.start({
    cwd: join(projectRoot, "notebooks"),
    args: [`--EnterpriseGatewayApp.port_range=${portRange.join("..")}`],
  });
  manager = clientOf(gateway.url);
});
after(async () => {
  manager?.dispose();
  await gateway?.stop();
});

interface Ran {
  readonly reply: KernelMessage.IExecuteReplyMsg;
  readonly messages: KernelMessage.IIOPubMessage[];
}

async function run(
  kernel: Kernel.IKernelConnection,
  code: string,
  onMessage: (message: KernelMessage.IIOPubMessage) => void = () => undefined,
): Promise<Ran> {
  const future = kernel.requestExecute({ code });
  const messages: KernelMessage.IIOPubMessage[] = [];
  future.onIOPub = (message) => {
    messages.push(message);
    onMessage(message);
  };
  return { reply: await future.done, messages };
}

/** The text of the result. */
function result({ messages, reply }: Ran): string {
  assert.equal(reply.content.status, "ok", JSON.stringify(reply.content));
  const found = messages.find(({ header }) => header.msg_type === "execute_result");
  assert.ok(found !== undefined, "no result");
  return String((found.content as { data: Record<string, unknown> }).data["text/plain"]);
}

/** What it printed. */
const printed = ({ messages }: Ran): string =>
  messages
    .map(({ header, content }) => (header.msg_type === "stream" ? (content as { text: string }).text : ""))
    .join("");

/** Resolves when a kernel's status has been `wanted`. */
function reaches(kernel: Kernel.IKernelConnection, wanted: Kernel.Status): Promise<void> {
  return new Promise((resolve) => {
    const look = (_: unknown, status: Kernel.Status) => {
      if (status !== wanted) return;
      kernel.statusChanged.disconnect(look);
      resolve();
    };
    kernel.statusChanged.connect(look);
  });
}

/** A client that listens to a kernel, and does not come back; without any, the gateway starts no kernel again. */
class Witness {
  private text = "";

  private constructor(private readonly socket: WebSocket) {
    socket.addEventListener("message", ({ data }) => {
      this.text += String(data);
    });
  }

  static async of(id: string): Promise<Witness> {
    const { WebSocket, wsUrl } = settingsFor(gateway.url);
    const socket = new WebSocket(`${wsUrl}api/kernels/${id}/channels?session_id=witness`);
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    return new Witness(socket);
  }

  async hears(state: string): Promise<void> {
    while (!this.text.includes(`"execution_state": "${state}"`))
      await new Promise((resolve) => this.socket.addEventListener("message", resolve, { once: true }));
  }

  close(): void {
    this.socket.close();
  }
}

/** Waits as long as the runner lets it. */
async function ends(pid: number): Promise<void> {
  while (isAlive(pid)) await sleep(100);
}

for (const name of [kernelName, distributedKernel]) {
  describe(`a kernel that ${name === kernelName ? "the gateway" : "its distributed process proxy"} starts`, () => {
    let kernel: Kernel.IKernelConnection;
    before(async () => {
      kernel = await manager.startNew({ name });
    });
    after(() => kernel?.dispose());

    test("says what it is, runs cells, shows figures and fails", async () => {
      const info = await kernel.info;
      assert.equal(info.implementation, "firstframe");
      const ran = await run(kernel, 'console.log("out"); let n: number = 41; n + 1');
      assert.deepEqual([result(ran), printed(ran)], ["42", "out\n"]);
      const shown = await run(kernel, "display.html('<b>bold</b>')");
      const data = shown.messages.find(({ header }) => header.msg_type === "display_data");
      assert.equal((data!.content as { data: Record<string, unknown> }).data["text/html"], "<b>bold</b>");
      const failed = await run(kernel, 'throw new TypeError("on purpose")');
      assert.equal(failed.reply.content.status, "error");
    });

    test("has its debugger", async () => {
      const debug = (command: string, args: object) =>
        kernel.requestDebug({ type: "request", seq: 1, command, arguments: args } as never).done;
      const initialized = (await debug("initialize", { clientID: "test", adapterID: "" })).content;
      assert.equal(initialized.success, true, JSON.stringify(initialized));
      const attached = (await debug("attach", {})).content;
      assert.equal(attached.success, true, JSON.stringify(attached));
      const info = (await debug("debugInfo", {})).content;
      assert.equal((info.body as { isStarted: boolean }).isStarted, true);
      assert.equal((await debug("disconnect", {})).content.success, true);
    });

    test("is interrupted", async () => {
      let heard = (): void => undefined;
      const begun = new Promise<void>((resolve) => {
        heard = resolve;
      });
      const ran = run(kernel, 'console.log("begun"); for (;;) {}', ({ header }) => {
        if (header.msg_type === "stream") heard();
      });
      await begun;
      await kernel.interrupt();
      const { reply } = await ran;
      assert.equal(reply.content.status, "error");
      assert.equal(result(await run(kernel, "n")), "41", "the kernel is the same");
      if (name === distributedKernel)
        assert.match(gateway.log, /Signal \(2\) sent via gateway communication port/);
    });

    test("is restarted", async () => {
      const pid = Number(result(await run(kernel, "process.ppid")));
      await kernel.restart();
      const again = Number(result(await run(kernel, "process.ppid")));
      assert.notEqual(again, pid);
      await ends(pid);
      assert.match(JSON.stringify((await run(kernel, "n")).reply.content), /Cannot find name 'n'/);
    });

    test("that dies is started again", async () => {
      const pid = Number(result(await run(kernel, "process.ppid")));
      if (name === distributedKernel) {
        // JupyterLab's client comes back at once, and if that is before the gateway knows the new ports, it is kept waiting for good, whatever
        // the kernel: Enterprise Gateway's fault. Whoever loads the page again has the kernel.
        const { model } = kernel;
        const witness = await Witness.of(model.id);
        kernel.dispose();
        const since = gateway.log.length;
        process.kill(pid, "SIGKILL");
        await witness.hears("restarting");
        await gateway.logged(new RegExp(`Refreshing kernel session for id: ${model.id}`), since);
        witness.close();
        kernel = manager.connectTo({ model });
      } else {
        const noticed = reaches(kernel, "autorestarting");
        process.kill(pid, "SIGKILL");
        await noticed;
      }
      const again = Number(result(await run(kernel, "process.ppid")));
      assert.ok(isAlive(again) && again !== pid);
    });

    test("is shut down", async () => {
      const pid = Number(result(await run(kernel, "process.ppid")));
      const { id } = kernel;
      await kernel.shutdown();
      await ends(pid);
      assert.equal((await fetch(`${gateway.url}api/kernels/${id}`)).status, 404);
    });
  });
}

test("the ports of a kernel elsewhere are from the gateway's range", () => {
  const infos = [...gateway.log.matchAll(/Decrypted payload '(\{.*?\})'$/gm)].map(([, info]) => info!);
  assert.ok(infos.length >= 3, "started, restarted, started again");
  for (const info of infos) {
    const ports = [...info.matchAll(/'(?:\w+)_port': (\d+)/g)].map(([, port]) => Number(port));
    assert.equal(ports.length, 6, info);
    for (const port of ports) assert.ok(port >= portRange[0] && port <= portRange[1], info);
  }
});

test("the kernelspecs name process proxies that Enterprise Gateway has", () => {
  const names = GATEWAYS.filter((name) => name.startsWith("enterprise-gateway"));
  for (const name of names) {
    const { spec } = gatewayKernelspec({ gateway: name });
    const { class_name } = spec.metadata.process_proxy as { class_name: string };
    // Loading the module would ask for a cluster.
    const code = `import ast, sys
from importlib.util import find_spec
module, _, name = sys.argv[1].rpartition(".")
tree = ast.parse(open(find_spec(module).origin).read())
assert any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body), name`;
    execFileSync(gatewayPython(), ["-c", code, class_name], { stdio: ["ignore", "ignore", "pipe"] });
  }
});

/** Longer than the cut, with an output every second. */
const seconds = 40;
const slowCell = `
for (let second = 0; second < ${seconds}; second++) {
  console.log(second);
  display.html(\`<p>\${second}</p>\`);
  await new Promise((resolve) => setTimeout(resolve, 1000));
}`;
const cutMs = 30_000;

/** Runs the slow cell, has the network away for 30 s of it, and looks for everything that the cell has shown. */
async function throughCut(
  kernel: Kernel.IKernelConnection,
  away: () => void,
  back: () => void,
): Promise<void> {
  let begun = false;
  const ran = await run(kernel, slowCell, ({ header }) => {
    if (begun || header.msg_type !== "display_data") return;
    begun = true;
    away();
    setTimeout(back, cutMs);
  });
  assert.equal(ran.reply.content.status, "ok");
  const all = Array.from({ length: seconds }, (_, second) => second);
  assert.equal(printed(ran), all.map((second) => `${second}\n`).join(""));
  const shown = ran.messages
    .filter(({ header }) => header.msg_type === "display_data")
    .map(({ content }) => (content as { data: Record<string, unknown> }).data["text/html"]);
  assert.deepEqual(
    shown,
    all.map((second) => `<p>${second}</p>`),
  );
}

/** A kernel that is started over a network that can be cut; gone after the test. */
async function startedOverWire(t: TestContext) {
  const wire = await Wire.to(gateway.url);
  const client = clientOf(wire.url);
  t.after(() => {
    client.dispose();
    wire.close();
  });
  return { wire, kernel: await client.startNew({ name: distributedKernel }) };
}

describe("after 30 s without a network nothing is lost", { concurrency: true }, () => {
  test("between a client and the gateway", async (t) => {
    const { wire, kernel } = await startedOverWire(t);
    await throughCut(
      kernel,
      () => wire.cut(),
      () => wire.mend(),
    );
    assert.ok(wire.connections > 1);
    await kernel.shutdown();
  });

  test("between Jupyter's server and the gateway", async (t) => {
    const wire = await Wire.to(gateway.url);
    const server = await ServerBehind.start(wire.url, mkdtempSync(join(gateway.folder, "server-")));
    const client = clientOf(server.url, ServerBehind.token);
    t.after(async () => {
      client.dispose();
      await server.stop();
      wire.close();
    });
    const kernel = await client.startNew({ name: distributedKernel });
    await throughCut(
      kernel,
      () => wire.cut(),
      () => wire.mend(),
    );
    await kernel.shutdown();
  });

  test("where packets are lost, and the connection lives", async (t) => {
    const { wire, kernel } = await startedOverWire(t);
    await throughCut(
      kernel,
      () => wire.hold(),
      () => wire.release(),
    );
    await kernel.shutdown();
  });
});

test("what notebook 02 shows stays within the limits that Jupyter's server has by default", async (t) => {
  const limits = JSON.parse(
    execFileSync(
      projectPython(),
      [
        "-c",
        `import json
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection as channels
names = ["iopub_data_rate_limit", "iopub_msg_rate_limit", "rate_limit_window"]
print(json.dumps({name: getattr(channels, name).default_value for name in names}))`,
      ],
      { encoding: "utf8" },
    ),
  ) as { iopub_data_rate_limit: number; iopub_msg_rate_limit: number; rate_limit_window: number };
  const { cells } = await readNotebook(join(projectRoot, "notebooks/02-first-frame-duplication.ipynb"));
  const kernel = await manager.startNew({ name: distributedKernel });
  let heaviest = { cell: -1, bytes: 0, messages: 0 };
  for (const [cell, { cell_type, source, metadata }] of cells.entries()) {
    if (cell_type !== "code") continue;
    const sizes: number[] = [];
    const { reply } = await run(kernel, source, ({ content, buffers = [] }) => {
      sizes.push(
        Buffer.byteLength(JSON.stringify(content)) + buffers.reduce((sum, part) => sum + part.byteLength, 0),
      );
    });
    const fails = metadata.tags?.includes("raises-exception") ?? false;
    assert.equal(reply.content.status, fails ? "error" : "ok", `cell ${cell}`);
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    if (bytes > heaviest.bytes) heaviest = { cell, bytes, messages: sizes.length };
  }
  await kernel.shutdown();
  t.diagnostic(
    `the heaviest cell, ${heaviest.cell}, shows ${heaviest.bytes} bytes in ${heaviest.messages} messages`,
  );
  // As if all of it came at once.
  assert.ok(heaviest.bytes > 0 && heaviest.bytes < limits.iopub_data_rate_limit * limits.rate_limit_window);
  assert.ok(heaviest.messages < limits.iopub_msg_rate_limit * limits.rate_limit_window);
});
