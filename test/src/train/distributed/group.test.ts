import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { codeOf } from "../../../../src/cli/memory-settings.js";
import { FrameReader, fromBfloat16, SEGMENT, toBfloat16 } from "../../../../src/train/distributed/frames.js";
import { bucketsOf } from "../../../../src/train/distributed/gradients.js";
import { ENDING_SIGNAL } from "../../../../src/train/distributed/messages.js";
import { shareOf } from "../../../../src/train/distributed/share.js";
import { type Task, vectorOf } from "./member.js";
import { allEnded, freeHosts, member, startRank } from "./ranks.js";

async function start(count: number, task: Task, env: (rank: number) => NodeJS.ProcessEnv = () => ({})) {
  const hosts = await freeHosts(count);
  const ranks = hosts.map((_, rank) =>
    startRank([member, String(rank), hosts.join(","), JSON.stringify(task)], env(rank)),
  );
  return { hosts, ranks };
}

interface Said {
  readonly sums: number[][];
  readonly bytes: number;
}
const parse = (stdout: string) => JSON.parse(stdout) as Said;
const total = (count: number, size: number): number[] => {
  const vectors = Array.from({ length: count }, (_, rank) => vectorOf(rank, size));
  return Array.from({ length: size }, (_, i) => vectors.reduce((sum, vector) => sum + vector[i]!, 0));
};

for (const count of [1, 2, 3, 4]) {
  test(`${count} processes have the sum of their vectors, shorter than the ring and longer than a segment`, async () => {
    const sizes = [0, 1, count + 1, 1000, 2 * SEGMENT + 3];
    const { ranks } = await start(count, { sizes });
    for (const { code, stdout, stderr } of await allEnded(ranks)) {
      assert.equal(code, 0, stderr);
      const { sums, bytes } = parse(stdout);
      for (const [i, size] of sizes.entries()) assert.deepEqual(sums[i], total(count, size));
      const numbers = sizes.reduce((sum, size) => sum + size, 0);
      const least = (2 * (count - 1) * 4 * numbers) / count;
      assert.ok(bytes >= least * 0.9 && bytes < least * 1.1 + 10_000, `${bytes} bytes, ${least} of numbers`);
    }
  });
}

for (const count of [1, 2, 3]) {
  test(`${count} processes carry out sums that were asked for at once, in their order, while the main threads compute`, async () => {
    const sizes = [5, 2 * SEGMENT + 3, 0, 1000, 1, SEGMENT, 7, 20_000, 3, count];
    const { ranks } = await start(count, { sizes, buckets: 5 });
    for (const { code, stdout, stderr } of await allEnded(ranks)) {
      assert.equal(code, 0, stderr);
      const { sums } = parse(stdout);
      for (const [i, size] of sizes.entries()) assert.deepEqual(sums[i], total(count, size));
    }
  });
}

test("the last tensors are in the first bucket, which is small; a bucket ends with what fills it", () => {
  const MB = 2 ** 18;
  assert.deepEqual(bucketsOf([MB, MB, MB, MB], 2), [[3], [2, 1], [0]]);
  assert.deepEqual(bucketsOf([1, MB / 2, MB / 2 + 1, 5 * MB], 2), [[3], [2, 1, 0]]);
  assert.deepEqual(bucketsOf([MB, 1, MB / 2, MB / 2], 1), [
    [3, 2],
    [1, 0],
  ]);
  assert.deepEqual(bucketsOf([3, 3], 1e-6), [[1], [0]]);
  assert.deepEqual(bucketsOf([9 * MB, 9 * MB], Infinity), [[1, 0]]);
  assert.deepEqual(bucketsOf([], 25), [[]]);
});

test("in bfloat16 half the bytes go out, and all ranks have the same bits", async () => {
  const size = 30_001;
  const { ranks } = await start(3, { sizes: [size], bfloat16: true });
  const ended = await allEnded(ranks);
  const said = ended.map(({ code, stdout, stderr }) => {
    assert.equal(code, 0, stderr);
    return parse(stdout);
  });
  for (const { sums, bytes } of said) {
    assert.deepEqual(sums, said[0]!.sums);
    assert.ok(bytes < ((4 * 4) / 3) * size * 0.55, `${bytes} bytes`);
  }
  const exact = total(3, size);
  // A partial sum is rounded once a hop, to 8 bits.
  for (const [i, sum] of said[0]!.sums[0]!.entries()) assert.ok(Math.abs(sum - exact[i]!) <= 150 * 2 ** -7);
});

test("bfloat16 rounds to the nearest, ties to even, and keeps what is no number", () => {
  const values = Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -1.00390625001, 3.4e38, Infinity, NaN, 0);
  const rounded = [...fromBfloat16(toBfloat16(values))];
  assert.deepEqual(rounded, [1, 1, 1 + 2 ** -6, -1.0078125 + 2 ** -7, Infinity, Infinity, NaN, 0]);
});

test("a rank that lives but does not come is named", async () => {
  const { hosts, ranks } = await start(3, { sizes: [4], idle: 1, limit: 2 });
  const [first, third] = await allEnded([ranks[0]!, ranks[2]!]);
  const line = `rank 1 (${hosts[1]}) lives, but has not come to the next step for 2 s\n`;
  ranks[1]!.child.kill("SIGKILL");
  for (const { code, stderr } of [first!, third!]) {
    assert.equal(code, 75);
    assert.equal(stderr, line);
  }
});

test("a rank in a step that takes for ever ends too when another one dies, after a line that names it", async () => {
  const { hosts, ranks } = await start(2, { sizes: [4], deaf: 0 });
  await Promise.all(ranks.map(({ said }) => said(/sums/)));
  ranks[1]!.child.kill("SIGKILL");
  const { signal, stderr } = await ranks[0]!.ended;
  assert.equal(stderr, `firstframe: rank 1 (${hosts[1]}) ended without a word\n`);
  assert.equal(signal, ENDING_SIGNAL);
  assert.equal(codeOf(ENDING_SIGNAL), 75, "what the process that started it ends with");
  assert.equal(codeOf("SIGKILL"), 137);
});

test("a rank that never starts is named, after a word that it is waited for", async () => {
  const hosts = await freeHosts(3);
  const task = JSON.stringify({ sizes: [1], limit: 7 });
  const ranks = [0, 1].map((rank) => startRank([member, String(rank), hosts.join(","), task]));
  for (const { code, stderr } of await allEnded(ranks)) {
    assert.equal(code, 75);
    const who = `rank 2 \\(${hosts[2]!.replaceAll(".", "\\.")}\\)`;
    assert.match(stderr, new RegExp(`^waiting for ${who}\n${who} has not joined for 7 s\n$`));
  }
});

test("strangers on a rank's port, and processes without the run's secret, don't take part", async () => {
  const task: Task = { sizes: [3], limit: 4 };
  const { hosts, ranks } = await start(2, task, () => ({ FIRSTFRAME_RANKS_SECRET: "ours" }));
  const [host, port] = hosts[0]!.split(":");
  const knock = () => {
    const stranger = connect({ host, port: Number(port) }, () => stranger.write("GET / HTTP/1.1\r\n\r\n"));
    stranger.on("error", () => {});
  };
  const knocking = setInterval(knock, 20);
  const ended = await allEnded(ranks);
  clearInterval(knocking);
  for (const { code, stdout, stderr } of ended) {
    assert.equal(code, 0, stderr);
    assert.deepEqual(parse(stdout).sums, [total(2, 3)]);
  }
  const apart = await start(2, task, (rank) => ({ FIRSTFRAME_RANKS_SECRET: `of ${rank}` }));
  for (const [rank, { code, stderr }] of (await allEnded(apart.ranks)).entries()) {
    assert.equal(code, 75);
    assert.match(stderr, new RegExp(`rank ${1 - rank} .* has not joined for 4 s`));
  }
});

test("frames come out whole however the bytes are cut", () => {
  const reader = new FrameReader();
  assert.throws(
    () => reader.read(Buffer.from("GET / HTTP/1.1\r\n\r\n"), () => {}),
    /something else than ranks do/,
  );
  const huge = Buffer.from([3, ...Buffer.from("ff1"), 0, 0, 0, 255, 0, 0, 0, 0]);
  assert.throws(() => new FrameReader().read(huge, () => {}), /sent 4278190080 bytes at once/);
  const frames = Buffer.concat([
    Buffer.from([2, ...Buffer.from("ff1"), 0, 0, 0, 0, 0, 0, 0, 0]),
    Buffer.from([3, ...Buffer.from("ff1"), 3, 0, 0, 0, 9, 0, 0, 0]),
    Buffer.from("abc"),
  ]);
  for (const piece of [1, 5, 13, 27]) {
    const found: [number, number, string][] = [];
    const cut = new FrameReader();
    for (let i = 0; i < frames.length; i += piece) {
      cut.read(frames.subarray(i, i + piece), ({ type, round, body }) => {
        found.push([type, round, Buffer.from(body).toString()]);
      });
    }
    assert.deepEqual(found, [
      [2, 0, ""],
      [3, 9, "abc"],
    ]);
  }
});

test("a batch is shared without overlap or loss, whatever an epoch's end leaves", () => {
  for (const size of [1, 2, 3, 5]) {
    for (let total = 1; total <= 12; total++) {
      const batch = Array.from({ length: total }, (_, i) => 100 + i);
      const shares = Array.from({ length: size }, (_, rank) => shareOf(batch, { rank, size }));
      const taken = shares.filter(({ weight }) => weight > 0);
      assert.deepEqual(
        taken.flatMap(({ samples }) => samples),
        batch,
      );
      assert.ok(Math.abs(shares.reduce((sum, { weight }) => sum + weight, 0) - 1) < 1e-12);
      for (const { samples, first } of taken) assert.equal(samples[0], batch[first]);
      for (const { samples } of shares) assert.ok(samples.length > 0, "every rank computes");
    }
  }
});
