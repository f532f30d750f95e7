import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import * as zmq from "zeromq";
import { type Channel, checkConnection, endpoint } from "../../kernel/protocol/connection.js";
import { Wire } from "../../kernel/protocol/wire.js";
import { startKernel } from "./support.js";

const kernel = await startKernel();
const { connection } = kernel.client;
const channels: readonly Channel[] = ["shell", "control", "stdin", "iopub", "hb"];

const info = { key: "a key", signature_scheme: "hmac-sha256" };

function bytes(frames: readonly (Uint8Array | string)[]): Buffer[] {
  return frames.map((frame) => Buffer.from(frame as Uint8Array));
}

const message = fc.record({
  type: fc.string({ minLength: 1 }),
  content: fc.dictionary(fc.string(), fc.jsonValue(), { noNullPrototype: true }),
  metadata: fc.dictionary(fc.string(), fc.jsonValue(), { noNullPrototype: true }),
  buffers: fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 3 }),
});

test("what is encoded is decoded as it was", () => {
  fc.assert(
    fc.property(
      message,
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 }), { maxLength: 3 }),
      (out, ids) => {
        fc.pre(!ids.some((id) => Buffer.from(id).equals(Buffer.from("<IDS|MSG>"))));
        const decoded = new Wire(info).decode(bytes(new Wire(info).encode(ids, out)));
        assert.ok("message" in decoded, JSON.stringify(decoded));
        const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
        assert.equal(decoded.message.header.msg_type, out.type);
        assert.deepEqual(decoded.message.content, json(out.content));
        assert.deepEqual(decoded.message.metadata, json(out.metadata));
        assert.deepEqual(
          decoded.message.identities.map((id) => [...id]),
          ids.map((id) => [...id]),
        );
        assert.deepEqual(
          decoded.message.buffers.map((b) => [...b]),
          out.buffers.map((b) => [...b]),
        );
      },
    ),
  );
});

test("frames of any kind are refused, never thrown at", () => {
  const frame = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.constant(new TextEncoder().encode("<IDS|MSG>")),
    fc.constant(new TextEncoder().encode("{}")),
    fc.constant(new Uint8Array([0xff, 0xfe, 0x7b])),
  );
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 10 }), fc.boolean(), (frames, signed) => {
      // Without a key every message is signed right, so that what lies behind the signature is reached.
      const decoded = new Wire({ ...info, key: signed ? info.key : "" }).decode(
        frames.map((each) => Buffer.from(each)),
      );
      assert.ok("refused" in decoded);
    }),
    { numRuns: 1000 },
  );
});

test("a signed message with one byte changed, or sent again, is refused", () => {
  fc.assert(
    fc.property(message, fc.nat(), fc.integer({ min: 1, max: 255 }), (out, where, change) => {
      const frames = bytes(new Wire(info).encode([], { ...out, buffers: [] }));
      const wire = new Wire(info);
      // The delimiter stands first; the rest is signature or signed.
      const target = frames[1 + (where % (frames.length - 1))]!;
      const at = where % target.length;
      const original = target[at]!;
      target[at] = original ^ change;
      assert.ok("refused" in wire.decode(frames));
      target[at] = original;
      assert.ok("message" in wire.decode(frames));
      assert.deepEqual(wire.decode(frames), { refused: "signature used before" });
    }),
  );
});

test("a connection file that is wrong is refused by the key that is wrong", () => {
  const good = {
    transport: "tcp",
    ip: "127.0.0.1",
    key: "k",
    signature_scheme: "hmac-sha256",
    shell_port: 1,
    iopub_port: 2,
    stdin_port: 3,
    control_port: 4,
    hb_port: 5,
  };
  assert.ok(checkConnection(good, "f.json"));
  for (const [change, pattern] of [
    [{ shell_port: 0 }, /f\.json: shell_port: expected a port from 1 to 65535, found 0/],
    [{ hb_port: "5" }, /hb_port/],
    [{ transport: "udp" }, /transport: expected "tcp" or "ipc", found "udp"/],
    [{ ip: "" }, /ip: expected an address/],
    [{ key: undefined }, /key: expected a string/],
    [{ signature_scheme: "rot13" }, /signature_scheme/],
  ] as const) {
    assert.throws(() => checkConnection({ ...good, ...change }, "f.json"), pattern);
  }
  assert.throws(() => checkConnection(null, "f.json"), /expected an object/);
});

async function isUnharmed(): Promise<void> {
  assert.equal((await kernel.run("typeof (globalThis as { pwned?: number }).pwned")).text, "'undefined'");
}

test("whatever comes to its sockets, a kernel runs nothing and goes on", async () => {
  await kernel.run("let witness = 1");
  const attacker = new Wire({ key: "another key", signature_scheme: connection.signature_scheme });
  const insider = new Wire(connection);
  const sockets = new Map<Channel, zmq.Dealer | zmq.XSubscriber>();
  for (const channel of channels) {
    const socket = channel === "iopub" ? new zmq.XSubscriber({ linger: 0 }) : new zmq.Dealer({ linger: 0 });
    socket.connect(endpoint(connection, channel));
    sockets.set(channel, socket);
  }
  const attack = { type: "execute_request", content: { code: "globalThis.pwned = 1", silent: false } };
  const forged = () => attacker.encode([], attack);
  const used = insider.encode([], { type: "kernel_info_request", content: {} });
  const valid = (type: string, content: object) => insider.encode([], { type, content });
  const cut = fc.nat({ max: 6 }).map((n) => insider.encode([], attack).slice(0, n));
  const tampered = fc.nat().map((at) => {
    const frames = bytes(insider.encode([], attack));
    const last = frames.at(-1)!;
    last[at % last.length]! ^= 1;
    return frames;
  });
  const anything = fc.oneof(
    fc.array(fc.uint8Array({ maxLength: 60 }), { minLength: 1, maxLength: 9 }),
    fc.constant(null).map(forged),
    fc.constant(used),
    cut,
    tampered,
    fc.string().map((type) => valid(type, {})),
    fc
      .tuple(
        fc.constantFrom(
          "execute_request",
          "complete_request",
          "inspect_request",
          "history_request",
          "comm_open",
          "comm_msg",
          "is_complete_request",
          "input_reply",
        ),
        fc.dictionary(
          fc.constantFrom("cursor_pos", "detail_level", "silent", "comm_id", "data", "n", "hist_access_type"),
          fc.jsonValue(),
          { noNullPrototype: true },
        ),
      )
      .map(([type, content]) => valid(type, content)),
    fc.uint8Array({ minLength: 100_000, maxLength: 200_000 }).map((big) => [big]),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...channels), anything, async (channel, frames) => {
      if (frames.length > 0) await sockets.get(channel)!.send(frames as zmq.MessageLike[]);
    }),
    { numRuns: 400 },
  );
  const { content } = await kernel.client.request("kernel_info_request", {}, { timeout: 20_000 });
  assert.equal(content.status, "ok");
  await isUnharmed();
  assert.equal((await kernel.run("witness")).text, "1");
  for (const socket of sockets.values()) socket.close();
});

test("a replayed request is not executed again", async () => {
  await kernel.run("let executions = 0");
  const socket = new zmq.Dealer({ linger: 0 });
  socket.connect(endpoint(connection, "shell"));
  const frames = new Wire(connection).encode([], {
    type: "execute_request",
    content: { code: "executions += 1" },
  });
  for (let i = 0; i < 5; i++) await socket.send(frames);
  await socket.receive();
  assert.equal((await kernel.run("executions")).text, "1");
  socket.close();
});

test("port scans do no harm, on any socket", async () => {
  const noises = [
    Buffer.alloc(0),
    Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1]),
    Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, ...Buffer.alloc(54), 0x06, 0xff, 0xff, 0xff]),
    Buffer.alloc(5000, 0xff),
  ];
  const visits = channels.flatMap((channel) =>
    noises.map(
      (noise) =>
        new Promise<void>((resolve) => {
          const socket = connect(connection[`${channel}_port`], connection.ip, () => socket.write(noise));
          socket.on("error", () => resolve());
          socket.on("close", () => resolve());
          socket.on("data", () => undefined);
          setTimeout(() => socket.destroy(), 150);
        }),
    ),
  );
  await Promise.all(visits);
  await isUnharmed();
});

test("sockets listen where the connection file says, and nowhere else", async () => {
  const { text } = await kernel.run(
    `const { readFileSync, readdirSync, readlinkSync } = await import("node:fs");
     const inodes = new Set(readdirSync("/proc/${kernel.client.process!.pid}/fd").flatMap((fd) => {
       try { return /socket:\\[(\\d+)\\]/.exec(readlinkSync("/proc/${kernel.client.process!.pid}/fd/" + fd))?.slice(1) ?? [] } catch { return [] }
     }));
     const rows = ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((file) => readFileSync(file, "utf8").split("\\n").slice(1).map((row) => row.trim().split(/\\s+/)));
     console.log(JSON.stringify(rows.filter((row) => row[3] === "0A" && inodes.has(row[9]!)).map((row) => row[1])))`,
  );
  if (process.platform !== "linux") return;
  const addresses = (JSON.parse(text) as string[]).map((address) => {
    const [ip, port] = address.split(":");
    return `${ip}:${Number.parseInt(port!, 16)}`;
  });
  // 127.0.0.1, as the kernel writes it.
  const expected = channels.map((channel) => `0100007F:${connection[`${channel}_port`]}`);
  assert.deepEqual(addresses.sort(), expected.sort());
});
