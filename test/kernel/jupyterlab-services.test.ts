/**
 * The kernel behind a real jupyter_server, spoken to by JupyterLab's own client (Visual Studio Code's is built on it).
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Kernel, KernelManager, type KernelMessage, ServerConnection } from "@jupyterlab/services";
import { installKernelspec } from "../../kernel/install/kernelspec.js";
import { projectPython } from "../src/cli/project.js";

const prefix = mkdtempSync(join(tmpdir(), "firstframe-services-"));
let server: ChildProcess;
let manager: KernelManager;
let kernel: Kernel.IKernelConnection;

before(async () => {
  await installKernelspec({ prefix });
  const url = await startServer();
  const serverSettings = ServerConnection.makeSettings({
    baseUrl: url,
    wsUrl: url.replace("http", "ws"),
    token: "secret",
    appendToken: true,
  });
  manager = new KernelManager({ serverSettings });
  kernel = await manager.startNew({ name: "firstframe" });
});

after(async () => {
  await kernel?.shutdown().catch(() => undefined);
  kernel?.dispose();
  manager?.dispose();
  if (server !== undefined) {
    const gone = new Promise((resolve) => server.once("exit", resolve));
    server.kill("SIGTERM");
    const timer = setTimeout(() => server.kill("SIGKILL"), 5000);
    await gone;
    clearTimeout(timer);
  }
  rmSync(prefix, { recursive: true, force: true });
});

function startServer(): Promise<string> {
  server = spawn(
    projectPython(),
    [
      "-m",
      "jupyter_server",
      "--no-browser",
      "--ServerApp.ip=127.0.0.1",
      "--ServerApp.port=0",
      "--IdentityProvider.token=secret",
      "--allow-root",
      `--ServerApp.root_dir=${prefix}`,
    ],
    {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        JUPYTER_PATH: join(prefix, "share/jupyter"),
        JUPYTER_RUNTIME_DIR: join(prefix, "runtime"),
        JUPYTER_CONFIG_DIR: join(prefix, "config"),
        JUPYTER_DATA_DIR: join(prefix, "data"),
        FIRSTFRAME_HISTORY: ":memory:",
      },
    },
  );
  return new Promise((resolve, reject) => {
    let log = "";
    server.stderr!.on("data", (chunk) => {
      log += String(chunk);
      const found = /http:\/\/127\.0\.0\.1:(\d+)\//.exec(log);
      if (found !== null && log.includes("is running at")) resolve(found[0]);
    });
    server.once("exit", (code) => reject(new Error(`jupyter_server ended with exit code ${code}:\n${log}`)));
  });
}

interface Ran {
  readonly reply: KernelMessage.IExecuteReplyMsg;
  readonly messages: KernelMessage.IIOPubMessage[];
}

async function run(code: string): Promise<Ran> {
  const future = kernel.requestExecute({ code, allow_stdin: true });
  const messages: KernelMessage.IIOPubMessage[] = [];
  future.onIOPub = (message) => {
    messages.push(message);
  };
  future.onStdin = (message) => {
    if (message.header.msg_type === "input_request") {
      kernel.sendInputReply(
        { value: "typed", status: "ok" },
        message.header as KernelMessage.IHeader<"input_request">,
      );
    }
  };
  return { reply: await future.done, messages };
}

function plain({ messages }: Ran): unknown {
  const result = messages.find(({ header }) => header.msg_type === "execute_result");
  return (result?.content as { data?: Record<string, unknown> } | undefined)?.data?.["text/plain"];
}

test("kernel_info", async () => {
  const info = await kernel.info;
  assert.equal(info.implementation, "firstframe");
  assert.equal(info.language_info.name, "typescript");
});

test("execute, with output, errors and input", async () => {
  const first = await run('console.log("out"); let n: number = 41; n + 1');
  assert.equal(first.reply.content.status, "ok");
  assert.equal(plain(first), "42");
  assert.deepEqual(
    first.messages.map(({ header }) => header.msg_type),
    ["status", "execute_input", "stream", "execute_result", "status"],
  );
  const failed = await run('throw new TypeError("on purpose")');
  assert.equal(failed.reply.content.status, "error");
  assert.ok(failed.messages.some(({ header }) => header.msg_type === "error"));
  assert.equal(plain(await run('prompt("name? ")')), "'typed'");
});

test("completion, inspection, is_complete, history", async () => {
  const { content } = await kernel.requestComplete({ code: "Math.sq", cursor_pos: 7 });
  assert.ok(content.status === "ok" && content.matches.includes("sqrt"));
  const inspected = await kernel.requestInspect({ code: "parseInt", cursor_pos: 8, detail_level: 0 });
  assert.ok(inspected.content.status === "ok" && inspected.content.found);
  assert.equal((await kernel.requestIsComplete({ code: "if (1) {" })).content.status, "incomplete");
  const history = await kernel.requestHistory({ output: false, raw: true, hist_access_type: "tail", n: 1 });
  assert.ok(history.content.status === "ok");
  assert.match(String(history.content.history[0]![2]), /prompt/);
});

test("comms, in both directions", async () => {
  let opened: KernelMessage.ICommOpenMsg | undefined;
  let comm: Kernel.IComm | undefined;
  kernel.registerCommTarget("from-kernel", (own, message) => {
    comm = own;
    opened = message;
  });
  await run(
    'let heard = ""; const own = comms.open("from-kernel", { hello: "lab" }); own.onMessage(({ data }) => { heard = data.say });',
  );
  assert.deepEqual(opened?.content.data, { hello: "lab" });
  await comm!.send({ say: "hi" }).done;
  assert.equal(plain(await run("heard")), "'hi'");

  await run('comms.registerTarget("from-lab", (c, { data }) => c.send({ twice: data.n * 2 }))');
  const mine = kernel.createComm("from-lab");
  const answer = new Promise<unknown>((resolve) => {
    mine.onMsg = (message) => resolve(message.content.data);
  });
  await mine.open({ n: 21 }).done;
  assert.deepEqual(await answer, { twice: 42 });
});

test("interrupt keeps the variables, restart loses them", async () => {
  const future = kernel.requestExecute({ code: 'console.log("on"); while (true) {}' });
  future.onIOPub = ({ header }) => {
    if (header.msg_type === "stream") void kernel.interrupt();
  };
  assert.equal((await future.done).content.status, "error");
  assert.equal(plain(await run("n")), "41");
  await kernel.restart();
  assert.equal((await run("n")).reply.content.status, "error");
  assert.equal(plain(await run("1 + 1")), "2");
});
