/**
 * `firstframe kernel launch` by itself: this test is the gateway, with a key, a response address and requests of its own.
 */
import assert from "node:assert/strict";
import {
  constants,
  createDecipheriv,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
} from "node:crypto";
import { once } from "node:events";
import { readFileSync, readlinkSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { Dealer, Request, Subscriber } from "zeromq";
import type { ConnectionInfo } from "../../kernel/protocol/connection.js";
import { listen } from "../../kernel/protocol/ports.js";
import { Wire } from "../../kernel/protocol/wire.js";
import { Cli, type Ended } from "../src/cli/cli.js";

type Info = ConnectionInfo & {
  readonly pid: number;
  readonly pgid: number;
  readonly comm_port: number;
  readonly kernel_id: string;
};

const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 1024 });
/** As a gateway writes it: PEM without its first and last line. */
const keyText = publicKey.export({ type: "spki", format: "der" }).toString("base64");

let cli: Cli;
let responses: Server;
let address: string;
before(async () => {
  cli = await Cli.make();
  responses = createServer({ allowHalfOpen: true });
  address = `127.0.0.1:${await listen(responses, "127.0.0.1")}`;
});
after(() => {
  responses.close();
  cli.dispose();
});

/** Reads one answer, and the connection info in it. */
async function nextResponse(): Promise<Info> {
  const [socket] = (await once(responses, "connection")) as [Socket];
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  socket.end();
  const payload = JSON.parse(Buffer.from(text, "base64").toString()) as Record<string, string | number>;
  assert.deepEqual(Object.keys(payload).sort(), ["conn_info", "key", "version"]);
  assert.equal(payload.version, 1);
  const decipher = createDecipheriv("aes-128-ecb", unwrapped(String(payload.key), privateKey), null);
  const hidden = Buffer.from(String(payload.conn_info), "base64");
  return JSON.parse(Buffer.concat([decipher.update(hidden), decipher.final()]).toString()) as Info;
}

/** PKCS #1 v1.5 by hand, which newer versions of Node no longer undo. */
function unwrapped(text: string, key: KeyObject): Buffer {
  const padded = privateDecrypt({ key, padding: constants.RSA_NO_PADDING }, Buffer.from(text, "base64"));
  assert.deepEqual([padded[0], padded[1]], [0, 2]);
  return padded.subarray(padded.indexOf(0, 2) + 1);
}

interface Launched {
  readonly info: Info;
  readonly ended: Promise<Ended>;
}

async function launch(argv: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<Launched> {
  const response = nextResponse();
  const flags = ["--kernel-id", "some-id", "--response-address", address, "--public-key", keyText];
  const { ended } = cli.start(["kernel", "launch", ...(env.KERNEL_ID ? [] : flags), ...argv], {
    FIRSTFRAME_HISTORY: ":memory:",
    ...env,
  });
  const failed = ended.then(({ stderr }) => {
    throw new Error(`the kernel ended: ${stderr}`);
  });
  return { info: await Promise.race([response, failed]), ended };
}

/** Sends to the communication port, as gateways do, and closes. */
async function tell({ comm_port }: Info, text: string): Promise<void> {
  const socket = connect(comm_port, "127.0.0.1");
  socket.end(text);
  socket.resume();
  await once(socket, "close");
}

const at = (port: number) => `tcp://127.0.0.1:${port}`;

describe("firstframe kernel launch", () => {
  it("tells where the kernel is, answers heartbeats, takes signals, and ends when it is told", async () => {
    const { info, ended } = await launch(["--RemoteProcessProxy.port-range", "45000..45999"]);
    assert.equal(info.kernel_id, "some-id");
    const ports = [
      info.shell_port,
      info.iopub_port,
      info.stdin_port,
      info.control_port,
      info.hb_port,
      info.comm_port,
    ];
    assert.equal(new Set(ports).size, 6);
    for (const port of ports) assert.ok(port >= 45_000 && port <= 45_999, String(port));
    assert.equal(info.ip, "0.0.0.0");
    assert.ok(info.key.length > 30 && info.signature_scheme === "hmac-sha256");
    const status = readFileSync(`/proc/${info.pid}/stat`, "utf8").split(") ").at(-1)!.split(" ");
    assert.equal(String(info.pgid), status[2]);

    const heartbeat = new Request();
    heartbeat.connect(at(info.hb_port));
    await heartbeat.send("ping");
    assert.equal(String((await heartbeat.receive())[0]), "ping");
    heartbeat.close();

    // None of this is a request that means something, and the kernel lives.
    for (const text of [
      "",
      "{",
      "[]",
      "7",
      '{"signum": 0}',
      '{"signum": "x"}',
      '{"signum": 999}',
      "x".repeat(5000),
    ])
      await tell(info, text);

    const wire = new Wire(info);
    const subscriber = new Subscriber();
    subscriber.connect(at(info.iopub_port));
    subscriber.subscribe();
    const shell = new Dealer();
    shell.connect(at(info.shell_port));
    const content = { code: 'console.log("begun"); for (;;) {}', silent: false, allow_stdin: false };
    for await (const frames of subscriber) {
      const decoded = wire.decode(frames as Buffer[]);
      assert.ok("message" in decoded);
      const { msg_type } = decoded.message.header;
      if (msg_type === "iopub_welcome")
        await shell.send(wire.encode([], { type: "execute_request", content }));
      if (msg_type === "stream") break;
    }
    await tell(info, '{"signum": 2}');
    const decoded = wire.decode((await shell.receive()) as Buffer[]);
    assert.ok("message" in decoded);
    assert.equal((decoded.message.content as { status: string }).status, "error");
    shell.close();
    subscriber.close();

    await tell(info, '{"shutdown": 1}');
    const { code, stderr } = await ended;
    assert.equal(code, 0, stderr);
    assert.match(stderr, /communication port: expected a request as JSON, found "\{"/);
    assert.match(stderr, /communication port: signum: expected a signal's number, found "x"/);
    assert.match(stderr, /signal 999: /);
  });

  it("takes its values from the environment in a container, and encrypts where it is told to", async () => {
    const { info, ended } = await launch([], {
      KERNEL_ID: "other-id",
      RESPONSE_ADDRESS: address,
      PUBLIC_KEY: keyText,
      PORT_RANGE: "0..0",
      TRANSPORT_ENCRYPTION: "required",
      // The gateway's own, on another machine: no process here has it.
      JPY_PARENT_PID: "4194000",
    });
    assert.equal(info.kernel_id, "other-id");
    const heartbeat = new Request({
      curveServerKey: info.curve_publickey!,
      curvePublicKey: info.curve_publickey!,
      curveSecretKey: info.curve_secretkey!,
    });
    heartbeat.connect(at(info.hb_port));
    await heartbeat.send("ping");
    assert.equal(String((await heartbeat.receive())[0]), "ping");
    heartbeat.close();
    await tell(info, '{"signum": 15}');
    assert.equal((await ended).code, 0);
  });

  it("starts in the notebook's folder, where that is there", async () => {
    cli.write("shared/here.txt", "");
    for (const [folder, expected] of [
      [cli.path("shared"), cli.path("shared")],
      ["/not/here", cli.folder],
    ] as const) {
      const { info, ended } = await launch([], {
        KERNEL_ID: "some-id",
        EG_RESPONSE_ADDRESS: address,
        EG_PUBLIC_KEY: keyText,
        KERNEL_WORKING_DIR: folder,
      });
      assert.equal(readlinkSync(`/proc/${info.pid}/cwd`), expected);
      await tell(info, '{"shutdown": 1}');
      await ended;
    }
  });

  it("names the flag that is wrong", async () => {
    const given = (...argv: string[]) => cli.start(["kernel", "launch", ...argv]).ended;
    const id = ["--kernel-id", "some-id"];
    const all = [...id, "--response-address", address, "--public-key", keyText];
    const ecKey = generateKeyPairSync("ec", { namedCurve: "P-256" })
      .publicKey.export({ type: "spki", format: "der" })
      .toString("base64");
    for (const [argv, message] of [
      [[], /^firstframe: --kernel-id ID is missing; /],
      [id, /^firstframe: --response-address HOST:PORT is missing; /],
      [[...id, "--response-address", "here"], /--response-address: expected HOST:PORT, found "here"$/],
      [
        [...id, "--response-address", "here:70000"],
        /--response-address: expected HOST:PORT, found "here:70000"$/,
      ],
      [[...id, "--response-address", address], /^firstframe: --public-key KEY is missing; /],
      [
        [...id, "--response-address", address, "--public-key", "abc"],
        /^firstframe: --public-key: not a public key in DER form as base64 \(/,
      ],
      [
        [...id, "--response-address", address, "--public-key", ecKey],
        /^firstframe: --public-key: expected an RSA key, found ec$/,
      ],
      [
        [...id, "--RemoteProcessProxy.response-address", "{response_address}"],
        /^firstframe: --response-address: found \{response_address\}, which a gateway was to fill in; /,
      ],
      [
        [...all, "--port-range", "40000..40003"],
        /^firstframe: --port-range: expected LOWER..UPPER from 1024 to 65535 with room for 6 ports, or 0..0, found "40000..40003"$/,
      ],
      [[...all, "--transport-encryption", "some"], /expected auto, required or disabled, found "some"$/],
      [
        [...all, "--RemoteProcessProxy.spark-context-initialization-mode", "lazy"],
        /spark-context-initialization-mode: expected none, found "lazy"$/,
      ],
      [[...all, "--kernel-class-name", "x"], /--kernel-class-name is not supported; /],
    ] as const) {
      const { code, stderr } = await given(...argv);
      assert.match(stderr.trimEnd(), message);
      assert.equal(code, 2, stderr);
    }
    const port = await closedPort();
    const { code, stderr } = await given(
      ...id,
      "--response-address",
      `127.0.0.1:${port}`,
      "--public-key",
      keyText,
    );
    assert.equal(code, 1);
    assert.match(
      stderr,
      new RegExp(
        `^firstframe: --response-address 127\\.0\\.0\\.1:${port}: the gateway can't be told: .*ECONNREFUSED`,
      ),
    );
  });
});

/** A port that nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createServer();
  const port = await listen(server, "127.0.0.1");
  await new Promise((resolve) => server.close(resolve));
  return port;
}
