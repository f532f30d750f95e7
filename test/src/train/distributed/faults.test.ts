/** A rank that dies, hangs or is cut off ends the run on all ranks, in one line that names it; and the run goes on from its checkpoint. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { codeOf } from "../../../../src/cli/memory-settings.js";
import { useEngine } from "../../../../src/engine/index.js";
import { ENDING_SIGNAL } from "../../../../src/train/distributed/messages.js";
import { main, writeLoraTask } from "../command.js";
import type { Task } from "./member.js";
import { allEnded, freeHosts, member, type RankProcess, startRank, startTraining } from "./ranks.js";

const TIMES = 10;
/** Seconds; far more than a busy machine keeps a thread waiting. */
const SILENCE = 5;
const task = (size: number): Task => ({ sizes: [1], endless: size, silence: SILENCE });
/** A vector of few numbers and one of many segments: the fault comes between sums, and within one. */
const sizeOf = (time: number) => (time % 2 === 0 ? 1000 : 2_000_000);

function start(
  hosts: readonly string[],
  size: number,
  before: (rank: number) => readonly string[] = () => [],
) {
  return hosts.map((_, rank) =>
    startRank([member, String(rank), hosts.join(","), JSON.stringify(task(size))], {}, before(rank)),
  );
}

/** Lets the ranks work for a while, which is another one each time. */
async function working(ranks: readonly RankProcess[], time: number): Promise<void> {
  await Promise.all(ranks.map(({ said }) => said(/five more rounds/)));
  await wait((time * 37) % 100);
}

async function assertBlamed(survivors: readonly RankProcess[], line: string): Promise<void> {
  for (const { code, stderr } of await allEnded(survivors)) {
    assert.equal(stderr, `${line}\n`);
    assert.equal(code, 75);
  }
}

/** Several at a time, as most of it is waiting. */
async function repeated(work: (time: number) => Promise<void>): Promise<void> {
  for (let time = 0; time < TIMES; time += 2) await Promise.all([work(time), work(time + 1)]);
}

describe("ranks that sum vectors", () => {
  test(`one that dies, ${TIMES} times`, () =>
    repeated(async (time) => {
      const hosts = await freeHosts(3);
      const ranks = start(hosts, sizeOf(time));
      await working(ranks, time);
      const victim = time % 3;
      ranks[victim]!.child.kill("SIGKILL");
      const survivors = ranks.filter((_, rank) => rank !== victim);
      await assertBlamed(survivors, `rank ${victim} (${hosts[victim]}) ended without a word`);
    }));

  test(`one that dies while several sums are under way, ${TIMES} times`, () =>
    repeated(async (time) => {
      const hosts = await freeHosts(3);
      const given = JSON.stringify({ ...task(sizeOf(time) / 5), buckets: 5 });
      const ranks = hosts.map((_, rank) => startRank([member, String(rank), hosts.join(","), given]));
      await working(ranks, time);
      const victim = time % 3;
      ranks[victim]!.child.kill("SIGKILL");
      const line = `rank ${victim} (${hosts[victim]}) ended without a word\n`;
      for (const { code, signal, stderr } of await allEnded(ranks.filter((_, rank) => rank !== victim))) {
        // On a busy machine the main thread may compute for too long to say it itself.
        const said = signal === ENDING_SIGNAL ? `firstframe: ${line}` : line;
        assert.equal(stderr, said);
        assert.equal(code ?? codeOf(signal!), 75);
      }
    }));

  test(`one that hangs, ${TIMES} times; when it goes on, it ends too`, () =>
    repeated(async (time) => {
      const hosts = await freeHosts(3);
      const ranks = start(hosts, sizeOf(time));
      await working(ranks, time);
      const victim = time % 3;
      ranks[victim]!.child.kill("SIGSTOP");
      const survivors = ranks.filter((_, rank) => rank !== victim);
      const line = `rank ${victim} (${hosts[victim]}) has not been heard from for ${SILENCE} s`;
      await assertBlamed(survivors, line);
      ranks[victim]!.child.kill("SIGCONT");
      const late = await ranks[victim]!.ended;
      assert.equal(late.code, 75, late.stderr);
      assert.match(
        late.stderr,
        /^rank \d \(127\.0\.0\.1:\d+\) (has not been heard from|ended without a word)/,
      );
    }));

  const canCut = spawnSync("ip", ["netns", "add", `ff-try-${process.pid}`]).status === 0;
  if (canCut) spawnSync("ip", ["netns", "delete", `ff-try-${process.pid}`]);
  const skip = canCut ? false : "no network namespaces here";
  test(`one that is cut off, ${TIMES} times: both sides end`, { skip }, () =>
    repeated(async (time) => {
      const names = ["a", "b"].map((side) => `ff-${process.pid}-${time}-${side}`) as [string, string];
      const links = ["a", "b"].map((side) => `ff${process.pid % 100_000}${side}${time}`) as [string, string];
      const ip = (...words: string[]) => {
        const { status, stderr } = spawnSync("ip", words, { encoding: "utf8" });
        assert.equal(status, 0, `ip ${words.join(" ")}: ${stderr}`);
      };
      const [left, right] = ["10.251.7.1", "10.251.7.2"];
      try {
        for (const name of names) ip("netns", "add", name);
        ip(
          "link",
          "add",
          links[0],
          "netns",
          names[0],
          "type",
          "veth",
          "peer",
          "name",
          links[1],
          "netns",
          names[1],
        );
        for (const [i, address] of [left, right].entries()) {
          ip("-n", names[i]!, "address", "add", `${address}/24`, "dev", links[i]!);
          for (const link of ["lo", links[i]!]) ip("-n", names[i]!, "link", "set", link, "up");
        }
        const hosts = [`${left}:4000`, `${right}:4000`, `${left}:4001`];
        const ranks = start(hosts, sizeOf(time), (rank) => [
          "ip",
          "netns",
          "exec",
          names[rank === 1 ? 1 : 0],
        ]);
        await working(ranks, time);
        ip("-n", names[1], "link", "set", links[1], "down");
        const line = `rank 1 (${hosts[1]}) has not been heard from for ${SILENCE} s`;
        await assertBlamed([ranks[0]!, ranks[2]!], line);
        const cut = await ranks[1]!.ended;
        assert.equal(cut.code, 75);
        assert.match(cut.stderr, /^rank [02] \(10\.251\.7\.1:400[01]\) has not been heard from for 5 s\n$/);
      } finally {
        for (const name of names) spawnSync("ip", ["netns", "delete", name]);
      }
    }),
  );
});

describe("ranks that train", () => {
  let folder = "";
  let whole: Buffer;
  before(async () => {
    await useEngine();
    folder = await mkdtemp(join(tmpdir(), "firstframe-faults-"));
    await writeLoraTask(folder);
    const { ranks } = await startTraining(2, common("whole"));
    for (const { code, stderr } of await allEnded(ranks)) assert.equal(code, 0, stderr);
    whole = await weights("whole");
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const STEPS = 60;
  const common = (run: string, steps = STEPS) => [
    ...["--config", join(folder, "lora.yaml"), "--output_dir", join(folder, run), "--report_to", "none"],
    ...[
      "--batch_size",
      "1",
      "--train_steps",
      String(steps),
      "--checkpointing_steps",
      "2",
      "--resume",
      "latest",
    ],
    // Many small buckets.
    ...["--peer_timeout", String(SILENCE), "--bucket_cap_mb", "0.002"],
  ];
  const weights = (run: string) =>
    readFile(join(folder, run, `checkpoint-${STEPS}`, "pytorch_lora_weights.safetensors"));

  test("killed or stopped, the run ends in one line and goes on to the same weights, bit for bit", async () => {
    for (const [victim, signal, what] of [
      [1, "SIGKILL", "ended without a word"],
      [0, "SIGKILL", "ended without a word"],
      [1, "SIGSTOP", `has not been heard from for ${SILENCE} s`],
      [0, "SIGSTOP", `has not been heard from for ${SILENCE} s`],
    ] as const) {
      const { hosts, ranks } = await startTraining(2, common("faulty"));
      await ranks[0]!.said(/^step \d+\//m);
      ranks[victim]!.child.kill(signal);
      const other = await ranks[1 - victim]!.ended;
      ranks[victim]!.child.kill("SIGKILL");
      await ranks[victim]!.ended;
      assert.equal(other.code, 75, other.stderr);
      const lines = other.stderr.trimEnd().split("\n");
      assert.equal(lines.at(-1), `firstframe: rank ${victim} (${hosts[victim]}) ${what}`);
    }
    const { ranks } = await startTraining(2, common("faulty"));
    for (const { code, stderr } of await allEnded(ranks)) assert.equal(code, 0, stderr);
    assert.ok((await weights("faulty")).equals(whole));
  });

  test("launch ends all ranks when one is killed, with the exit code that asks for another try", async () => {
    const run = common("launched", 100_000);
    const launched = startRank([main, "launch", "--nproc", "2", "--", "train", ...run]);
    await launched.said(/^\[0\] step \d+\//m);
    const { pid } = launched.child;
    const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8"))
      .trim()
      .split(" ")
      .map(Number);
    assert.equal(children.length, 2);
    process.kill(children[1]!, "SIGKILL");
    const { code, stderr } = await launched.ended;
    assert.equal(code, 75, stderr);
    assert.match(stderr, /^\[0\] firstframe: rank 1 \(127\.0\.0\.1:\d+\) ended without a word$/m);
  });

  test("a slow rank is named", async () => {
    const { hosts, ranks } = await startTraining(2, common("slow", 100_000));
    const [first, second] = ranks as [RankProcess, RankProcess];
    await first.said(/^step 1\//m);
    let named = false;
    const heard = first.said(
      new RegExp(`^rank 1 \\(${hosts[1]}\\) is slow: [\\d.]+ s a step, the others [\\d.]+ s$`, "m"),
    );
    void heard.then(() => {
      named = true;
    });
    // As if it had a fraction of the processor.
    while (!named) {
      second.child.kill("SIGSTOP");
      await Promise.race([heard, wait(400)]);
      second.child.kill("SIGCONT");
      await Promise.race([heard, wait(40)]);
    }
    first.child.kill("SIGTERM");
    for (const { code, stderr } of await allEnded(ranks)) assert.equal(code, 143, stderr);
  });
});
