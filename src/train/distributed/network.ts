/**
 * The thread through which a rank talks to the others. It is a thread of its own so that signs of life go out while the main one
 * computes: a rank that is silent has ended, hangs, or is cut off, however long its steps take. Every rank has a connection to
 * every other, so each sees for itself which one is gone.
 */
import { writeSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import { InputError } from "../../engine/errors.js";
import { parseAddress } from "./address.js";
import { FRAME, type Frame, FrameReader, type FrameType, HEADER, header } from "./frames.js";
import {
  describeFailure,
  ENDING_SIGNAL,
  type Failure,
  type Membership,
  type Order,
  type Report,
} from "./messages.js";
import { RingSum } from "./ring.js";

const { rank, hosts, key, silence, join } = workerData as Membership;
const size = hosts.length;
/** Several signs of life may get lost before a rank counts as silent. */
const BEAT_MS = Math.min(2000, (1000 * silence) / 6);
const RETRY_MS = 200;
/** Longer than a message takes to be said; then the process may end. */
const LAST_WORDS_MS = 1000;

/** A main thread that has not heard of a failure for so long is in a long step, which nobody needs any more. */
const DEAF_MS = Math.min(5000, 1000 * silence);

interface Peer {
  readonly rank: number;
  readonly socket: Socket;
  readonly reader: FrameReader;
  /** When anything last came from it. */
  heard: number;
  /** Has done its work. */
  left: boolean;
}

interface Round {
  readonly order: Extract<Order, { kind: "gather" }>;
  /** When it was its turn. */
  started?: number;
  /** When the last rank came. */
  complete?: number;
  sum?: RingSum;
  /** Numbers from a rank that had everyone's value before this one. */
  readonly early: Uint8Array<ArrayBuffer>[];
}

const peers = new Map<number, Peer>();
/** Values that have come, by round and rank; a rank may be rounds ahead. */
const values = new Map<number, Map<number, string>>();
/** In the order in which they are carried out, the one whose turn it is first. */
const rounds: Round[] = [];
/** Since when the main thread has had nothing to do but wait for the rounds. */
let idleSince: number | undefined;
let bytesSent = 0;
let failed = false;
let leaving = false;

const report = (message: Report) =>
  parentPort!.postMessage(message, message.kind === "gathered" && message.sum ? [message.sum.buffer] : []);
const text = (value: unknown) => Buffer.from(JSON.stringify(value));
const parse = (body: Uint8Array) => JSON.parse(Buffer.from(body).toString()) as unknown;

function send({ socket }: Peer, type: FrameType, body?: Uint8Array, number = 0, written?: () => void): void {
  if (socket.destroyed) return;
  bytesSent += HEADER + (body?.length ?? 0);
  socket.cork();
  socket.write(header(type, body?.length ?? 0, number), body === undefined ? written : undefined);
  if (body !== undefined) socket.write(body, written);
  socket.uncork();
}

// -- ends --------------------------------------------------------------------------------------------------------

/** Says to everybody why the run ends; only the first reason counts. */
function fail(failure: Failure): void {
  if (failed) return;
  failed = true;
  for (const peer of peers.values()) send(peer, FRAME.failed, text(failure));
  report({ kind: "failed", failure });
  deafTimer = setTimeout(() => {
    writeSync(2, `firstframe: ${describeFailure(hosts, failure)}\n`);
    process.kill(process.pid, ENDING_SIGNAL);
  }, DEAF_MS);
  goodbye();
}

let deafTimer: NodeJS.Timeout | undefined;

/** Lets what was written go out, then closes. */
function goodbye(): void {
  leaving = true;
  server?.close();
  const open = [...peers.values()].filter(({ socket }) => !socket.destroyed);
  let left = open.length;
  const done = () => report({ kind: "left" });
  if (left === 0) {
    done();
    return;
  }
  const timer = setTimeout(() => {
    for (const { socket } of open) socket.destroy();
  }, LAST_WORDS_MS);
  for (const { socket } of open) {
    socket.once("close", () => {
      left--;
      if (left > 0) return;
      clearTimeout(timer);
      done();
    });
    socket.end();
  }
}

function lost(peer: Peer, what: string): void {
  if (failed || leaving || peer.left) return;
  fail({ rank: peer.rank, what });
}

// -- joining -----------------------------------------------------------------------------------------------------

interface Hello {
  readonly rank: number;
  readonly key: string;
}

/** Whoever connects says who it is; it becomes a peer once that is known. */
function greet(socket: Socket, expected: number | undefined, gone: () => void): void {
  socket.setNoDelay(true);
  const reader = new FrameReader();
  let peer: Peer | undefined;
  const take = (frame: Frame) => {
    if (peer) {
      receive(peer, frame);
      return;
    }
    const hello = frame.type === FRAME.hello ? (parse(frame.body) as Hello) : undefined;
    // A rank of another run, or one that is here already: its own run will say what is wrong with it.
    if (hello?.key !== key || peers.has(hello.rank) || (expected !== undefined && hello.rank !== expected))
      throw new InputError("not of this run");
    peer = { rank: hello.rank, socket, reader, heard: performance.now(), left: false };
    peers.set(peer.rank, peer);
    if (expected === undefined) send(peer, FRAME.hello, text({ rank, key } satisfies Hello));
    if (peers.size === size - 1) {
      clearTimeout(joinTimer);
      clearTimeout(waitTimer);
      report({ kind: "joined" });
    }
  };
  socket.on("data", (chunk) => {
    if (peer) peer.heard = performance.now();
    try {
      reader.read(chunk, take);
    } catch (error) {
      socket.destroy();
      if (peer) lost(peer, (error as Error).message);
    }
  });
  let reason = "ended without a word";
  socket.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "ECONNRESET" && error.code !== "EPIPE") reason = `can't be reached (${error.message})`;
  });
  socket.on("close", () => {
    if (peer) lost(peer, reason);
    else gone();
  });
}

function reach(other: number): void {
  if (failed || leaving) return;
  const again = () => setTimeout(reach, RETRY_MS, other);
  const { host, port } = parseAddress(hosts[other]!)!;
  const socket = connect({ host, port, timeout: 1000 * silence });
  socket.once("timeout", () => {
    if (!peers.has(other)) socket.destroy();
  });
  socket.once("connect", () => {
    socket.write(Buffer.concat([header(FRAME.hello, text({ rank, key }).length), text({ rank, key })]));
  });
  // Until it listens, and its name is known, connecting fails.
  greet(socket, other, again);
}

const missing = () => hosts.flatMap((_, other) => (other === rank || peers.has(other) ? [] : [other]));

const own = parseAddress(hosts[rank]!)!;
const server = size > 1 ? createServer((socket) => greet(socket, undefined, () => {})) : undefined;
const isLocal = /^(localhost|127\.|::1$)/.test(own.host);
server?.on("error", (error: Error) => fail({ rank, what: `can't listen (${error.message})`, exitCode: 1 }));
// A loopback address is for this machine's ranks alone; others may be known here by another name than outside.
server?.listen({ port: own.port, ...(isLocal ? { host: own.host } : {}) });
const joinTimer =
  join > 0
    ? setTimeout(() => fail({ rank: missing()[0]!, what: `has not joined for ${join} s` }), 1000 * join)
    : undefined;
const waitTimer = setTimeout(() => report({ kind: "waiting", ranks: missing() }), 5000);
if (size === 1) {
  clearTimeout(joinTimer);
  clearTimeout(waitTimer);
  report({ kind: "joined" });
}
for (let other = 0; other < rank; other++) reach(other);

// -- rounds ------------------------------------------------------------------------------------------------------

function receive(peer: Peer, { type, round: number, body }: Frame): void {
  if (failed) return;
  if (type === FRAME.value) {
    valuesOf(number).set(peer.rank, Buffer.from(body).toString());
    whenComplete();
  } else if (type === FRAME.numbers) {
    const round = rounds.find(({ order }) => order.round === number);
    if (round?.order.sum === undefined) throw new InputError("sent numbers out of turn");
    if (round.sum) round.sum.receive(body);
    else round.early.push(body.slice());
  } else if (type === FRAME.failed) {
    fail(parse(body) as Failure);
  } else if (type === FRAME.bye) {
    peer.left = true;
    blameLeft();
  }
}

function valuesOf(number: number): Map<number, string> {
  const known = values.get(number) ?? new Map<number, string>();
  values.set(number, known);
  return known;
}

let limitTimer: NodeJS.Timeout | undefined;

function begin(order: Extract<Order, { kind: "gather" }>): void {
  if (failed) return;
  rounds.push({ order, early: [] });
  if (!order.background) idleSince ??= performance.now();
  // The others know at once that this rank is there, also while an earlier sum goes on.
  valuesOf(order.round).set(rank, order.value);
  for (const peer of peers.values()) send(peer, FRAME.value, Buffer.from(order.value), order.round);
  if (rounds.length === 1) takeTurn();
}

function takeTurn(): void {
  const [round] = rounds;
  if (round === undefined) return;
  round.started = performance.now();
  const { limit } = round.order;
  if (limit > 0) limitTimer = setTimeout(blameMissing, 1000 * limit);
  whenComplete();
}

/** A rank that lives, but does not come. */
function blameMissing(): void {
  const { round: number, what, limit } = rounds[0]!.order;
  const there = valuesOf(number);
  const absent = hosts.findIndex((_, other) => !there.has(other));
  fail(
    absent >= 0
      ? { rank: absent, what: `lives, but has not come to ${what} for ${limit} s` }
      : { rank: (rank + size - 1) % size, what: `has not sent its part of ${what} for ${limit} s` },
  );
}

/** A rank that has done its work too early: it takes another number of steps. */
function blameLeft(): void {
  const [round] = rounds;
  if (round === undefined) return;
  const { round: number, what } = round.order;
  const early = [...peers.values()].find(({ left, rank: other }) => left && !valuesOf(number).has(other));
  if (early) fail({ rank: early.rank, what: `left before ${what}` });
}

function whenComplete(): void {
  const [round] = rounds;
  if (round === undefined || round.complete !== undefined) return;
  const { order } = round;
  if (valuesOf(order.round).size < size) {
    blameLeft();
    return;
  }
  round.complete = performance.now();
  if (order.sum === undefined || size === 1) {
    finish(order.sum);
    return;
  }
  // The next rank has handed in its numbers, as its value is here.
  const next = peers.get((rank + 1) % size)!;
  const sum = new RingSum(
    order.sum,
    { rank, size, bfloat16: order.bfloat16 === true },
    {
      send: (bytes, written) => send(next, FRAME.numbers, bytes, order.round, written),
      done: () => finish(order.sum),
    },
  );
  round.sum = sum;
  const { early } = round;
  sum.start();
  for (const body of early) sum.receive(body);
}

function finish(sum: Float32Array<ArrayBuffer> | undefined): void {
  const { order, started, complete } = rounds.shift()!;
  const came = valuesOf(order.round);
  values.delete(order.round);
  clearTimeout(limitTimer);
  const now = performance.now();
  const idle = (from: number, to: number) => Math.max(0, to - Math.max(from, idleSince ?? now)) / 1000;
  report({
    kind: "gathered",
    round: order.round,
    values: hosts.map((_, other) => came.get(other)!),
    ...(sum === undefined ? {} : { sum }),
    seconds: { waiting: idle(started!, complete!), summing: idle(complete!, now) },
    bytesSent,
  });
  if (rounds.length === 0) idleSince = undefined;
  takeTurn();
}

// -- signs of life -----------------------------------------------------------------------------------------------

let beaten = performance.now();
setInterval(() => {
  const now = performance.now();
  // This process itself stood still: what the others have said meanwhile is still to be read.
  const stopped = now - beaten > (1000 * silence) / 2;
  beaten = now;
  if (failed || leaving) return;
  for (const peer of peers.values()) {
    if (peer.left) continue;
    if (stopped) peer.heard = now;
    if (peer.socket.writableLength === 0) send(peer, FRAME.beat);
    if (now - peer.heard > 1000 * silence) lost(peer, `has not been heard from for ${silence} s`);
  }
}, BEAT_MS);

parentPort!.on("message", (order: Order) => {
  if (order.kind === "gather") begin(order);
  else if (order.kind === "heard") clearTimeout(deafTimer);
  else if (order.kind === "fail") fail({ rank, what: order.message, exitCode: order.exitCode });
  else if (!failed) {
    for (const peer of peers.values()) send(peer, FRAME.bye);
    goodbye();
  }
});
