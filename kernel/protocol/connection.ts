/**
 * The connection file: where a kernel's five sockets are, and the key that signs its messages.
 */
import { randomUUID } from "node:crypto";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { capability, curveKeyPair } from "zeromq";
import { freePorts, type PortRange } from "./ports.js";

export interface ConnectionInfo {
  readonly transport: "tcp" | "ipc";
  readonly ip: string;
  readonly shell_port: number;
  readonly iopub_port: number;
  readonly stdin_port: number;
  readonly control_port: number;
  readonly hb_port: number;
  /** Empty: messages are not signed. */
  readonly key: string;
  readonly signature_scheme: string;
  readonly kernel_name?: string;
  /** CurveZMQ's keys, in Z85: with them all sockets are encrypted. One pair serves both sides. */
  readonly curve_publickey?: string;
  readonly curve_secretkey?: string;
}

export type Channel = "shell" | "iopub" | "stdin" | "control" | "hb";

/** Reads a connection file. Throws an error that names the file and the key that is wrong. */
export function readConnectionFile(file: string): ConnectionInfo {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new Error(`connection file ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return checkConnection(parsed, file);
}

export function checkConnection(value: unknown, file: string): ConnectionInfo {
  if (typeof value !== "object" || value === null) {
    throw new Error(`connection file ${file}: expected an object, found ${JSON.stringify(value)}`);
  }
  const info = value as Record<string, unknown>;
  const fail = (key: string, expected: string): never => {
    throw new Error(
      `connection file ${file}: ${key}: expected ${expected}, found ${JSON.stringify(info[key])}`,
    );
  };
  for (const channel of ["shell", "iopub", "stdin", "control", "hb"] as const) {
    const port = info[`${channel}_port`];
    if (!Number.isInteger(port) || (port as number) < 1 || (port as number) > 65535) {
      fail(`${channel}_port`, "a port from 1 to 65535");
    }
  }
  const transport = info.transport ?? "tcp";
  if (transport !== "tcp" && transport !== "ipc") fail("transport", '"tcp" or "ipc"');
  if (typeof info.ip !== "string" || info.ip === "") fail("ip", "an address");
  if (typeof info.key !== "string") fail("key", "a string");
  const scheme = info.signature_scheme ?? "hmac-sha256";
  if (typeof scheme !== "string" || !/^hmac-[a-z0-9-]+$/.test(scheme)) {
    fail("signature_scheme", '"hmac-sha256" or another "hmac-" scheme');
  }
  checkCurveKeys(info, file);
  return { ...info, transport, signature_scheme: scheme } as unknown as ConnectionInfo;
}

const curveKeys = ["curve_publickey", "curve_secretkey"] as const;

function checkCurveKeys(info: Record<string, unknown>, file: string): void {
  // Keys that were meant to be there must not be passed over: all would go out in plain text.
  if (curveKeys.every((key) => info[key] === undefined || info[key] === null)) return;
  for (const key of curveKeys) {
    const value = info[key];
    if (typeof value === "string" && z85Key.test(value)) continue;
    // Not the value, which may be the secret but for a slip.
    const found = typeof value === "string" ? `${value.length} characters` : `${typeof value}`;
    throw new Error(`connection file ${file}: ${key}: expected 40 characters of Z85, found ${found}`);
  }
  if (!capability.curve) {
    throw new Error(`connection file ${file}: ${curveKeys[0]}: this build of zeromq can't encrypt`);
  }
}

/** The options of a socket that encrypts; undefined where nothing is encrypted. */
export function curveOptions(
  info: ConnectionInfo,
): { readonly curvePublicKey: string; readonly curveSecretKey: string } | undefined {
  const { curve_publickey: curvePublicKey, curve_secretkey: curveSecretKey } = info;
  if (!curvePublicKey || !curveSecretKey) return undefined;
  return { curvePublicKey, curveSecretKey };
}

const z85Key = /^[0-9a-zA-Z.\-:+=^!/*?&<>()[\]{}@%$#]{40}$/;

/** The ZeroMQ endpoint of a channel. */
export function endpoint(info: ConnectionInfo, channel: Channel): string {
  const port = info[`${channel}_port`];
  return info.transport === "ipc" ? `ipc://${info.ip}-${port}` : `tcp://${bracketed(info.ip)}:${port}`;
}

/** The same for a server of Node's. */
export function listeningAt(
  info: ConnectionInfo,
  channel: Channel,
): { readonly host: string; readonly port: number } | { readonly path: string } {
  const port = info[`${channel}_port`];
  return info.transport === "ipc" ? { path: `${info.ip}-${port}` } : { host: info.ip, port };
}

function bracketed(ip: string): string {
  return ip.includes(":") && !ip.startsWith("[") ? `[${ip}]` : ip;
}

export interface NewConnectionOptions {
  /** Whether all sockets are to be encrypted, with a new pair of keys. */
  readonly encrypted?: boolean;
  /** The address that the sockets are bound to. */
  readonly ip?: string;
  /** Where the ports are taken from; any free ones unless given. */
  readonly ports?: PortRange | undefined;
}

/** Picks five free ports, on the loopback interface unless told otherwise, and a new key. */
export async function newConnection(
  kernelName: string,
  { encrypted = false, ip = "127.0.0.1", ports }: NewConnectionOptions = {},
): Promise<ConnectionInfo> {
  const [shell, iopub, stdin, control, hb] = await freePorts(5, ip, ports);
  return {
    transport: "tcp",
    ip,
    shell_port: shell!,
    iopub_port: iopub!,
    stdin_port: stdin!,
    control_port: control!,
    hb_port: hb!,
    key: randomUUID(),
    signature_scheme: "hmac-sha256",
    kernel_name: kernelName,
    ...(encrypted && newCurveKeys()),
  };
}

function newCurveKeys(): Pick<ConnectionInfo, (typeof curveKeys)[number]> {
  const { publicKey, secretKey } = curveKeyPair();
  return { curve_publickey: publicKey, curve_secretkey: secretKey };
}

/** Writes a connection file that only its owner can read: who reads it can run code. */
export function writeConnectionFile(file: string, info: ConnectionInfo): void {
  const fd = openSync(file, "wx", 0o600);
  try {
    writeSync(fd, `${JSON.stringify(info, null, 1)}\n`);
  } finally {
    closeSync(fd);
  }
}
