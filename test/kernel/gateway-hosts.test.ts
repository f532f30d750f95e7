/**
 * Enterprise Gateway on one host and the kernel on another: two network namespaces, a real sshd in the second.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Kernel, KernelManager } from "@jupyterlab/services";
import { clientOf, distributedKernel, Gateway, Wire } from "./gateway/server.js";

const sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].find(existsSync);
const names = ["gateway", "host"].map((side) => `ff-${process.pid}-${side}`) as [string, string];
const links = ["a", "b"].map((side) => `ffg${process.pid % 1_000_000}${side}`) as [string, string];
const addresses = ["10.251.8.1", "10.251.8.2"] as const;
const sshPort = 2222;

function ip(...words: string[]): void {
  const { status, stderr } = spawnSync("ip", words, { encoding: "utf8" });
  assert.equal(status, 0, `ip ${words.join(" ")}: ${stderr}`);
}

function whyNot(): string | false {
  if (sshd === undefined) return "no sshd here";
  if (spawnSync("ip", ["netns", "add", names[0]]).status !== 0) return "no network namespaces here";
  spawnSync("ip", ["netns", "delete", names[0]]);
  return false;
}

const skip = whyNot();

describe("a kernel on another host than the gateway's", { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "firstframe-hosts-"));
  const children: ChildProcess[] = [];
  let gateway: Gateway;
  let wire: Wire;
  let manager: KernelManager;
  let kernel: Kernel.IKernelConnection;

  /** A program on one of the hosts, until the tests are over. */
  function onHost(side: 0 | 1, program: string, ...words: string[]): ChildProcess {
    const child = spawn("ip", ["netns", "exec", names[side], program, ...words], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    children.push(child);
    return child;
  }

  before(async () => {
    for (const name of names) ip("netns", "add", name);
    const [left, right] = links;
    ip("link", "add", left, "netns", names[0], "type", "veth", "peer", "name", right, "netns", names[1]);
    for (const [i, name] of names.entries()) {
      ip("-n", name, "address", "add", `${addresses[i]}/24`, "dev", links[i]!);
      for (const link of ["lo", links[i]!]) ip("-n", name, "link", "set", link, "up");
    }
    await startSshd();
    gateway = await Gateway.start({
      before: ["ip", "netns", "exec", names[0]],
      ip: addresses[0],
      hosts: [addresses[1]],
      env: { HOME: folder, EG_SSH_PORT: String(sshPort) },
    });
    // A socket in a folder is the same on all hosts.
    const path = join(folder, "gateway.sock");
    const { hostname, port } = new URL(gateway.url);
    const forward = `const net = require("node:net");
net.createServer((near) => {
  const far = net.connect(${port}, "${hostname}");
  for (const [from, to] of [[near, far], [far, near]]) from.on("error", () => to.destroy()).pipe(to);
}).listen(${JSON.stringify(path)}, () => console.log("listening"));`;
    await once(onHost(0, process.execPath, "-e", forward).stdout!, "data");
    wire = await Wire.to(path);
    manager = clientOf(wire.url);
    kernel = await manager.startNew({ name: distributedKernel });
  });

  after(async () => {
    manager?.dispose();
    await gateway?.stop();
    wire?.close();
    for (const child of children) child.kill("SIGKILL");
    for (const name of names) spawnSync("ip", ["netns", "delete", name]);
    rmSync(folder, { recursive: true, force: true });
  });

  /** With keys of its own: the gateway logs in as the user that runs it, who is at home in `folder` for it. */
  async function startSshd(): Promise<void> {
    mkdirSync(join(folder, ".ssh"), { mode: 0o700 });
    const own = join(folder, ".ssh/id_ed25519");
    const host = join(folder, "host_key");
    for (const key of [own, host]) {
      const { status } = spawnSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
      assert.equal(status, 0, "ssh-keygen");
    }
    copyFileSync(`${own}.pub`, join(folder, "authorized_keys"));
    chmodSync(join(folder, "authorized_keys"), 0o600);
    writeFileSync(
      join(folder, ".ssh/known_hosts"),
      `[${addresses[1]}]:${sshPort} ${readFileSync(`${host}.pub`, "utf8")}`,
    );
    writeFileSync(
      join(folder, "sshd_config"),
      [
        `Port ${sshPort}`,
        `ListenAddress ${addresses[1]}`,
        `HostKey ${host}`,
        `AuthorizedKeysFile ${join(folder, "authorized_keys")}`,
        "PermitRootLogin prohibit-password",
        "StrictModes no",
        "UsePAM no",
        "PidFile none",
      ].join("\n"),
    );
    mkdirSync("/run/sshd", { recursive: true });
    const daemon = onHost(1, sshd!, "-D", "-e", "-f", join(folder, "sshd_config"));
    let log = "";
    await new Promise<void>((resolve, reject) => {
      daemon.stderr!.on("data", (chunk) => {
        log += String(chunk);
        if (log.includes("Server listening")) resolve();
      });
      daemon.once("exit", () => reject(new Error(`sshd ended: ${log}`)));
    });
  }

  async function textOf(code: string): Promise<string> {
    const future = kernel.requestExecute({ code });
    let text = "";
    future.onIOPub = ({ header, content }) => {
      if (header.msg_type === "stream") text += (content as { text: string }).text;
    };
    const { content } = await future.done;
    assert.equal(content.status, "ok", JSON.stringify(content));
    return text;
  }

  test("runs cells there", async () => {
    const code =
      'import { networkInterfaces } from "node:os"; console.log(JSON.stringify(networkInterfaces()))';
    const text = await textOf(code);
    assert.ok(text.includes(addresses[1]) && !text.includes(addresses[0]), text);
    assert.match(gateway.log, new RegExp(`Kernel launched on '${addresses[1]}'`));
  });

  test("is interrupted over its own port", async () => {
    let heard = (): void => undefined;
    const begun = new Promise<void>((resolve) => {
      heard = resolve;
    });
    const future = kernel.requestExecute({ code: 'console.log("begun"); for (;;) {}' });
    future.onIOPub = ({ header }) => {
      if (header.msg_type === "stream") heard();
    };
    await begun;
    await kernel.interrupt();
    assert.equal((await future.done).content.status, "error");
    assert.match(gateway.log, /Signal \(2\) sent via gateway communication port/);
  });

  test("is restarted and shut down, and leaves no process", async () => {
    const first = Number(await textOf("console.log(process.ppid)"));
    await kernel.restart();
    const second = Number(await textOf("console.log(process.ppid)"));
    assert.notEqual(first, second);
    await kernel.shutdown();
    // Processes are the same in both namespaces.
    for (const pid of [first, second])
      while (existsSync(`/proc/${pid}`)) await new Promise((resolve) => setTimeout(resolve, 100));
  });
});
