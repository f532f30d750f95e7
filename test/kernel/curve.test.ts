/**
 * CurveZMQ: with keys in the connection file, nobody without them learns anything or gets an answer.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import * as zmq from "zeromq";
import { KernelClient, KernelTimeoutError } from "../../kernel/client/client.js";
import { readKernelspec } from "../../kernel/client/kernelspecs.js";
import { installKernelspec } from "../../kernel/install/kernelspec.js";
import {
  type Channel,
  type ConnectionInfo,
  checkConnection,
  endpoint,
  newConnection,
} from "../../kernel/protocol/connection.js";
import { projectPython, projectRoot } from "../src/cli/project.js";
import { startKernel } from "./support.js";

const kernel = await startKernel({}, { transportEncryption: "required" });
const { connection } = kernel.client;
const channels: readonly Channel[] = ["shell", "control", "stdin", "iopub", "hb"];
/** What cells print, and strangers must not see. */
const secret = "a-secret-that-nobody-else-should-read";

interface Keys {
  curveServerKey?: string;
  curvePublicKey?: string;
  curveSecretKey?: string;
}

const rightKeys: Keys = {
  curveServerKey: connection.curve_publickey!,
  curvePublicKey: connection.curve_publickey!,
  curveSecretKey: connection.curve_secretkey!,
};

function otherKeys(): Keys {
  const { publicKey, secretKey } = zmq.curveKeyPair();
  return { curveServerKey: publicKey, curvePublicKey: publicKey, curveSecretKey: secretKey };
}

/** Connects with these keys to iopub and the heartbeat, while a cell prints; what comes. */
async function heard(keys: Keys): Promise<{ iopub: string; heartbeat: string }> {
  const iopub = new zmq.Subscriber({ linger: 0, ...keys });
  const heartbeat = new zmq.Dealer({ linger: 0, ...keys });
  const got = { iopub: "", heartbeat: "" };
  const listen = async (socket: zmq.Subscriber | zmq.Dealer, name: "iopub" | "heartbeat") => {
    try {
      for (;;) got[name] += Buffer.concat((await socket.receive()) as Buffer[]).toString("latin1");
    } catch {
      // closed
    }
  };
  void listen(iopub, "iopub");
  void listen(heartbeat, "heartbeat");
  iopub.subscribe("");
  iopub.connect(endpoint(connection, "iopub"));
  heartbeat.connect(endpoint(connection, "hb"));
  // It waits until there is a connection, which for strangers there is none.
  void heartbeat.send("ping");
  // Somebody who may hear it all shows that it could have been heard.
  const witness = new zmq.Subscriber({ linger: 0, ...rightKeys });
  witness.subscribe("");
  witness.connect(endpoint(connection, "iopub"));
  await witness.receive();
  for (let i = 0; i < 20; i++) await kernel.run(`console.log("${secret}")`);
  let seen = "";
  while (!seen.includes(secret)) seen += Buffer.concat(await witness.receive()).toString("latin1");
  for (const socket of [iopub, heartbeat, witness]) socket.close();
  return got;
}

test("the kernelspec declares it, and jupyter_client finds it there", async () => {
  const prefix = mkdtempSync(join(tmpdir(), "firstframe-curve-"));
  try {
    const folder = await installKernelspec({ prefix });
    const { metadata } = JSON.parse(readFileSync(join(folder, "kernel.json"), "utf8"));
    assert.deepEqual(metadata.supported_encryption, ["curve"]);
    const spec = readKernelspec(join(folder, "kernel.json"));
    assert.deepEqual(spec.supportedEncryption, ["curve"]);
    await assert.rejects(
      KernelClient.start({ ...spec, supportedEncryption: [] }, { transportEncryption: "required" }),
      /kernel\.json: metadata\.supported_encryption: expected "curve" among them, found \[\]/,
    );
    for (const [can, policy, encrypted] of [
      [["curve"], "auto", true],
      [[], "auto", false],
      [["curve"], undefined, false],
    ] as const) {
      const client = await KernelClient.start(
        { ...spec, supportedEncryption: can },
        { cwd: prefix, ...(policy && { transportEncryption: policy }) },
      );
      assert.equal(client.connection.curve_publickey !== undefined, encrypted);
      await client.shutdown();
    }
  } finally {
    rmSync(prefix, { recursive: true, force: true });
  }
});

test("jupyter_client with transport_encryption=required: cells, completion, input, interrupt, restart, heartbeat", async () => {
  const prefix = mkdtempSync(join(tmpdir(), "firstframe-curve-"));
  try {
    await installKernelspec({ prefix });
    const child = spawn(projectPython(), [join(projectRoot, "test/kernel/encrypted_client.py")], {
      env: {
        ...process.env,
        JUPYTER_PATH: join(prefix, "share/jupyter"),
        JUPYTER_RUNTIME_DIR: join(prefix, "runtime"),
        FIRSTFRAME_HISTORY: join(prefix, "history.sqlite"),
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk) => (output += String(chunk)));
    const code = await new Promise((resolve) => child.once("close", resolve));
    assert.equal(code, 0, output);
    assert.match(output, /all is well/);
  } finally {
    rmSync(prefix, { recursive: true, force: true });
  }
});

test("with the keys all is as ever, and the connection file is its owner's alone", async () => {
  assert.equal((await kernel.run("6 * 7")).text, "42");
  assert.equal(statSync(kernel.client.process!.connectionFile).mode & 0o777, 0o600);
  const attached = await KernelClient.attach(kernel.client.process!.connectionFile);
  assert.equal((await attached.execute("1")).status, "ok");
  attached.close();
  const { iopub, heartbeat } = await heard(rightKeys);
  assert.match(iopub, new RegExp(secret));
  assert.equal(heartbeat, "ping");
});

for (const [who, keys] of [
  ["without keys", {}],
  ["with keys of its own", otherKeys()],
  [
    "with the right pair, but another kernel's key",
    { ...rightKeys, curveServerKey: zmq.curveKeyPair().publicKey },
  ],
] as const) {
  test(`a client ${who} hears nothing and gets no answer`, async () => {
    assert.deepEqual(await heard(keys), { iopub: "", heartbeat: "" });
    const { curve_publickey, curve_secretkey, ...plain } = connection;
    assert.ok(curve_publickey && curve_secretkey);
    const folder = mkdtempSync(join(tmpdir(), "firstframe-curve-"));
    const file = join(folder, "connection.json");
    const info: ConnectionInfo =
      "curveServerKey" in keys
        ? { ...plain, curve_publickey: keys.curveServerKey!, curve_secretkey: keys.curveSecretKey! }
        : plain;
    writeFileSync(file, JSON.stringify(info));
    try {
      // It even has the key that signs.
      await assert.rejects(KernelClient.attach(file, { timeout: 2000 }), (error: Error) => {
        assert.ok(error instanceof KernelTimeoutError);
        assert.match(
          error.message,
          /did not answer within 2 s: tcp:\S+ refused the connection \(is it encrypted/,
        );
        return true;
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
    assert.equal((await kernel.run("'still here'")).text, "'still here'");
  });
}

/** Passes bytes on, and keeps them. */
async function tap(port: number): Promise<{ server: Server; port: number; bytes: () => Buffer }> {
  const pieces: Buffer[] = [];
  const server = createServer((client) => {
    const kernelSide = connect(port, "127.0.0.1");
    for (const [from, to] of [
      [client, kernelSide],
      [kernelSide, client],
    ] as const) {
      from.on("data", (piece) => {
        pieces.push(piece);
        to.write(piece);
      });
      from.on("error", () => undefined);
      from.on("close", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, port: (server.address() as { port: number }).port, bytes: () => Buffer.concat(pieces) };
}

for (const encrypted of [false, true]) {
  test(`who listens on the wire reads ${encrypted ? "nothing" : "everything, where nothing is encrypted"}`, async () => {
    const own = encrypted ? kernel : await startKernel();
    const taps = new Map<Channel, Awaited<ReturnType<typeof tap>>>();
    const info: Record<string, unknown> = { ...own.client.connection };
    for (const channel of channels) {
      const each = await tap(own.client.connection[`${channel}_port`]);
      taps.set(channel, each);
      info[`${channel}_port`] = each.port;
    }
    const folder = mkdtempSync(join(tmpdir(), "firstframe-tap-"));
    const file = join(folder, "connection.json");
    writeFileSync(file, JSON.stringify(info));
    const client = await KernelClient.attach(file);
    const code = `"${secret}".toUpperCase()`;
    let result = "";
    await client.execute(code, {
      onOutput: ({ header, content }) => {
        if (header.msg_type === "execute_result") result = JSON.stringify(content.data);
      },
    });
    assert.match(result, new RegExp(secret.toUpperCase()));
    client.close();
    for (const channel of ["shell", "iopub"] as const) {
      const bytes = taps.get(channel)!.bytes();
      assert.ok(bytes.length > 1000);
      for (const text of [secret, "execute_", "<IDS|MSG>"])
        assert.equal(bytes.includes(text), !encrypted, `${channel}: ${text}`);
    }
    for (const { server } of taps.values()) server.close();
    rmSync(folder, { recursive: true });
  });
}

test("port scans and garbage in place of a handshake do no harm", async () => {
  const greeting = Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1, ...Buffer.from("CURVE")]);
  const start = Buffer.concat([greeting, Buffer.alloc(64 - greeting.length)]);
  const noises = [
    Buffer.alloc(0),
    Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    Buffer.alloc(5000, 0xff),
    start,
    // A HELLO of the right length that is nothing, and one that announces a gigabyte.
    Buffer.concat([start, Buffer.from([4, 200]), Buffer.from("\x05HELLO"), Buffer.alloc(194, 7)]),
    Buffer.concat([start, Buffer.from([6, 0, 0, 0, 0, 0x40, 0, 0, 0]), Buffer.from("\x05HELLO")]),
    // The other mechanism.
    Buffer.concat([
      Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1]),
      Buffer.from("NULL"),
      Buffer.alloc(48),
    ]),
  ];
  await Promise.all(
    channels.flatMap((channel) =>
      noises.map(
        (noise) =>
          new Promise<void>((resolve) => {
            const socket = connect(connection[`${channel}_port`], connection.ip, () => socket.write(noise));
            socket.on("error", () => resolve());
            socket.on("close", () => resolve());
            socket.on("data", () => undefined);
            setTimeout(() => socket.destroy(), 300);
          }),
      ),
    ),
  );
  assert.equal((await kernel.run("6 * 7")).text, "42");
  const { content } = await kernel.client.request("kernel_info_request", {}, { channel: "control" });
  assert.equal(content.status, "ok");
});

test("keys that are wrong are refused by name, and never shown", async () => {
  const good = await newConnection("x", { encrypted: true });
  assert.ok(checkConnection(good, "f.json"));
  for (const [change, pattern] of [
    [
      { curve_publickey: undefined },
      /^connection file f\.json: curve_publickey: expected 40 characters of Z85, found undefined$/,
    ],
    [{ curve_secretkey: null }, /^connection file f\.json: curve_secretkey: expected 40 characters/],
    [
      { curve_secretkey: good.curve_secretkey!.slice(1) },
      /curve_secretkey: expected 40 characters of Z85, found 39 characters$/,
    ],
    [{ curve_publickey: `${"a".repeat(39)}"` }, /curve_publickey: expected 40 characters of Z85/],
    [{ curve_publickey: 5 }, /curve_publickey: .* found number$/],
  ] as const) {
    assert.throws(
      () => checkConnection({ ...good, ...change }, "f.json"),
      (error: Error) => {
        assert.match(error.message, pattern);
        assert.ok(!error.message.includes(good.curve_secretkey!.slice(1)));
        return true;
      },
    );
  }
  // As jupyter_client may leave them where it does not encrypt.
  assert.ok(checkConnection({ ...good, curve_publickey: null, curve_secretkey: null }, "f.json"));
});
