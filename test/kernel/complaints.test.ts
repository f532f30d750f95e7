/**
 * Messages that are refused are counted in the kernel's log, not told one by one.
 */
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import * as zmq from "zeromq";
import { endpoint } from "../../kernel/protocol/connection.js";
import { Wire } from "../../kernel/protocol/wire.js";
import { Complaints } from "../../kernel/server/complaints.js";
import { startKernel } from "./support.js";

test("5,000 messages with a wrong signature are two lines of the log", async () => {
  const folder = mkdtempSync(join(tmpdir(), "firstframe-log-"));
  const file = join(folder, "log");
  const log = openSync(file, "w");
  const kernel = await startKernel({}, { log });
  const { connection } = kernel.client;
  const stranger = new zmq.Dealer({ linger: 0 });
  stranger.connect(endpoint(connection, "shell"));
  const wire = new Wire({ ...connection, key: "another key" });
  const content = { code: "globalThis.pwned = 1" };
  const first = /^firstframe: shell: message refused: wrong signature$/m;
  await stranger.send(wire.encode([], { type: "execute_request", content }));
  while (!first.test(readFileSync(file, "utf8"))) await new Promise((resolve) => setTimeout(resolve, 20));
  for (let i = 1; i < 5000; i++) await stranger.send(wire.encode([], { type: "execute_request", content }));
  // All have come once this has, on the same connection.
  const insider = new Wire(connection);
  await stranger.send(insider.encode([], { type: "kernel_info_request", content: {} }));
  await stranger.receive();
  stranger.close();
  let counted = 0;
  const lines = () =>
    readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => line.includes("wrong signature"));
  // On a slow machine they may be told in more than one summary.
  while (counted < 4999) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    counted = lines()
      .map((line) => Number(/\((\d+) more\)/.exec(line)?.[1] ?? 0))
      .reduce((sum, each) => sum + each, 0);
  }
  assert.equal(counted, 4999);
  assert.ok(lines().length < 20, lines().join("\n"));
  assert.equal(lines().filter((line) => first.test(line)).length, 1);
  assert.equal((await kernel.run("typeof (globalThis as { pwned?: number }).pwned")).text, "'undefined'");
  closeSync(log);
  rmSync(folder, { recursive: true });
});

test("kinds are told apart, up to a limit, and long ones cut", () => {
  const lines: string[] = [];
  const complaints = new Complaints((line) => lines.push(line));
  for (let i = 0; i < 10; i++) complaints.add("shell: message refused: wrong signature");
  for (let i = 0; i < 1000; i++) complaints.add(`shell: unknown message type "${i}${"x".repeat(1000)}"`);
  assert.ok(lines.length < 60, `${lines.length} lines`);
  assert.ok(lines.every((line) => line.length < 300));
  complaints.tell();
  assert.match(
    lines.at(-1)!,
    /in 10 s, shell: message refused: wrong signature \(9 more\); other messages refused \(\d+ more\)$/,
  );
  const { length } = lines;
  complaints.tell();
  assert.equal(lines.length, length, "nothing new, and yet something is said");
});
