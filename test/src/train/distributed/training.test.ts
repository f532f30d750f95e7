/** Several processes train as one: the same numbers as one process with the whole batch, also across a restart. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { useEngine } from "../../../../src/engine/index.js";
import { listCheckpoints } from "../../../../src/train/checkpoint.js";
import { safeOpen } from "../../../../src/weights/safetensors.js";
import { main, train, writeLoraTask } from "../command.js";
import { writeDataset } from "../tiny.js";
import { allEnded, type RankEnded, startRank, startTraining } from "./ranks.js";

let folder = "";
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-ranks-"));
  await writeLoraTask(folder);
  await writeDataset(join(folder, "seven"), 7);
  const { ranks } = await startTraining(2, common("unstopped", ...TWELVE, ...LORA));
  assertEnded(await allEnded(ranks));
});
after(() => rm(folder, { recursive: true, force: true }));

/** Seven clips: the last batch of an epoch is smaller. */
const common = (run: string, ...more: string[]) => [
  ...["--config", join(folder, "lora.yaml"), "--data_root", join(folder, "seven")],
  ...["--output_dir", join(folder, run), "--report_to", "jsonl"],
  ...(more.includes("--checkpointing_steps") ? [] : ["--checkpointing_steps", "100"]),
  ...more,
];
const LORA = ["--learning_rate", "0.01", "--max_grad_norm", "0.005", "--caption_dropout", "0.3"];
const SFT = [
  "--training_type",
  "sft",
  "--learning_rate",
  "0.001",
  "--noised_image_dropout",
  "0.2",
  "--use_ema",
  "true",
];

const TWELVE = ["--batch_size", "1", "--train_steps", "12"];

function assertEnded(ended: readonly RankEnded[]): void {
  for (const { code, stdout, stderr } of ended) assert.equal(code, 0, stdout + stderr);
}

interface Row {
  readonly step: number;
  readonly loss: number;
  readonly grad_norm: number;
  readonly epoch: number;
}
const rows = async (run: string): Promise<Row[]> =>
  (await readFile(join(folder, run, "logs", "metrics.jsonl"), "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Row);

/** All trained numbers of a checkpoint, without the moments. */
async function weights(run: string, step: number): Promise<Float64Array> {
  const path = join(folder, run, `checkpoint-${step}`);
  const names = (await readdir(path, { recursive: true })).filter(
    (name) => name.endsWith(".safetensors") && name !== "optimizer.safetensors",
  );
  const values: number[] = [];
  for (const name of names.sort()) {
    const file = await safeOpen(join(path, name));
    for (const key of [...file.keys()].sort())
      values.push(...((await file.getData(key)).data as Float32Array));
    await file.close();
  }
  return Float64Array.from(values);
}

function distance(a: Float64Array, b: Float64Array): number {
  assert.equal(a.length, b.length);
  const norm = (values: Float64Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return norm(a.map((value, i) => value - b[i]!)) / norm(a);
}

async function assertSameNumbers(one: string, several: string, steps: number): Promise<void> {
  const [expected, found] = [await rows(one), await rows(several)];
  assert.deepEqual(
    found.map(({ step, epoch }) => [step, epoch]),
    expected.map(({ step, epoch }) => [step, epoch]),
  );
  assert.equal(expected.length, steps);
  for (const [i, { loss, grad_norm: norm, step }] of expected.entries()) {
    assert.ok(
      Math.abs(found[i]!.loss - loss) < 1e-6 * loss,
      `step ${step}: loss ${found[i]!.loss}, not ${loss}`,
    );
    assert.ok(
      Math.abs(found[i]!.grad_norm - norm) < 1e-5 * norm,
      `step ${step}: norm ${found[i]!.grad_norm}, not ${norm}`,
    );
  }
  const apart = distance(await weights(one, steps), await weights(several, steps));
  assert.ok(apart < 1e-6, `weights are apart by ${apart}`);
}

for (const [kind, flags] of [
  ["lora", LORA],
  ["sft", SFT],
] as const) {
  for (const [count, batch] of [
    [2, 2],
    [3, 1],
  ] as const) {
    test(`${kind}: ${count} processes have the numbers of one with ${count} times the batch`, async () => {
      const [one, several] = [`${kind}-one-${count}`, `${kind}-${count}`];
      const whole = ["--batch_size", String(count * batch), "--train_steps", "8", ...flags];
      const single = await train(common(one, ...whole));
      assert.equal(single.code, 0, single.stderr);
      // Three of them in many small buckets.
      const buckets = ["--bucket_cap_mb", count === 3 ? "0.002" : "25"];
      const parts = ["--batch_size", String(batch), "--train_steps", "8", ...flags, ...buckets];
      const { ranks } = await startTraining(count, common(several, ...parts));
      const ended = await allEnded(ranks);
      assertEnded(ended);
      await assertSameNumbers(one, several, 8);
      assert.match(
        ended[0]!.stdout,
        new RegExp(`x ${batch} clips on each of ${count} ranks, 7 clips an epoch`),
      );
      assert.doesNotMatch(ended[1]!.stdout, /step|saved/, "the first rank alone reports");
    });
  }
}

test("gradients that are accumulated are reduced once a step, and an epoch's end completes it", async () => {
  const flags = ["--gradient_accumulation_steps", "3", "--train_epochs", "3", ...LORA];
  const config = await readFile(join(folder, "lora.yaml"), "utf8");
  assert.match(config, /^train_steps: 6$/m);
  const steps = ["--train_steps", "6"];
  const single = await train(common("one-accumulated", "--batch_size", "2", ...flags, ...steps));
  assert.equal(single.code, 0, single.stderr);
  const { ranks } = await startTraining(2, common("accumulated", "--batch_size", "1", ...flags, ...steps));
  assertEnded(await allEnded(ranks));
  await assertSameNumbers("one-accumulated", "accumulated", 6);
});

test("the size of buckets changes no bit of two processes' weights; ranks must have the same", async () => {
  for (const flags of [LORA, [...SFT, "--gradient_accumulation_steps", "2"]]) {
    const run = ["--batch_size", "1", "--train_steps", "4", "--gradient_checkpointing", "true", ...flags];
    const found: Float64Array[] = [];
    for (const [name, size] of [
      ["one-bucket", "Infinity"],
      ["small-buckets", "0.002"],
    ] as const) {
      await rm(join(folder, name), { recursive: true, force: true });
      const { ranks } = await startTraining(2, common(name, ...run, "--bucket_cap_mb", size));
      assertEnded(await allEnded(ranks));
      found.push(await weights(name, 4));
    }
    assert.deepEqual(found[1], found[0]);
  }
  const { ranks } = await startTraining(2, common("apart-buckets", "--train_steps", "1"), (rank) => [
    "--bucket_cap_mb",
    String(rank + 1),
  ]);
  for (const { code, stderr } of await allEnded(ranks)) {
    assert.equal(code, 2, stderr);
    assert.match(stderr, /^firstframe: rank 1 .* has bucket_cap_mb 2, rank 0 .* has 1; all ranks /m);
  }
});

test("bfloat16 halves what gradients take on the way, and losses stay within 1 %", async () => {
  const sent: number[] = [];
  for (const [run, dtype] of [
    ["wide", "float32"],
    ["narrow", "bfloat16"],
  ] as const) {
    const flags = ["--batch_size", "1", "--train_steps", "8", "--reduce_dtype", dtype, ...SFT];
    const { ranks } = await startTraining(2, common(run, ...flags));
    const ended = await allEnded(ranks);
    assertEnded(ended);
    const [, number, unit] = /^ranks: each sent ([\d.]+) (kB|MB) a step; /m.exec(ended[0]!.stdout)!;
    sent.push(Number(number) * (unit === "MB" ? 1000 : 1));
  }
  assert.ok(sent[1]! > 0.45 * sent[0]! && sent[1]! < 0.6 * sent[0]!, `${sent} kB a step`);
  const [wide, narrow] = [await rows("wide"), await rows("narrow")];
  for (const [i, { loss }] of wide.entries()) assert.ok(Math.abs(narrow[i]!.loss - loss) < 0.01 * loss);
  assert.ok(
    wide.some(({ loss }, i) => loss !== narrow[i]!.loss),
    "it is another sum",
  );
});

test("local_steps: fewer bytes, the same weights on all ranks, and a stopped run goes on bit for bit", async () => {
  const flags = [...SFT, "--batch_size", "1", "--checkpointing_steps", "6", "--local_steps", "4"];
  const sent = (text: string) => {
    const [, number, unit] = /^ranks: each sent ([\d.]+) (kB|MB) a step; /m.exec(text)!;
    return Number(number) * (unit === "MB" ? 1000 : 1);
  };
  // Rounds of 4, 2 (a checkpoint ends one), 4 and 2 steps.
  const whole = await startTraining(2, common("local", ...flags, "--train_steps", "12"));
  const ended = await allEnded(whole.ranks);
  assertEnded(ended);
  const every = await startTraining(2, common("every", ...SFT, "--batch_size", "1", "--train_steps", "12"));
  const everyEnded = await allEnded(every.ranks);
  assertEnded(everyEnded);
  const [rare, often] = [ended, everyEnded].map(([first]) => sent(first!.stdout));
  // Four rounds for twelve, and the moments of the optimizer (two for each weight) with both checkpoints.
  assert.ok(rare! < 0.8 * often!, `${rare} and ${often} kB a step`);
  const losses = await rows("local");
  assert.ok(losses.every(({ loss }) => Number.isFinite(loss)));
  assert.ok(
    distance(await weights("every", 12), await weights("local", 12)) > 1e-4,
    "it is another training",
  );

  const half = await startTraining(2, common("local-half", ...flags, "--train_steps", "100000"));
  const first = join(folder, "local-half", "checkpoint-6");
  let over = false;
  void half.ranks[0]!.ended.then(() => {
    over = true;
  });
  while (!existsSync(first) && !over) await setTimeout(20);
  assert.ok(!over, "it trains until it is killed");
  half.ranks[1]!.child.kill("SIGKILL");
  await allEnded(half.ranks);
  for (const { path } of await listCheckpoints(join(folder, "local-half")))
    if (path !== first) await rm(path, { recursive: true });
  const on = await startTraining(
    2,
    common("local-half", ...flags, "--train_steps", "12", "--resume", "latest"),
  );
  assertEnded(await allEnded(on.ranks));
  assert.deepEqual(await weights("local-half", 12), await weights("local", 12));
});

test("local_steps with an outer step of 1 and no momentum ends a round in the mean of the ranks' weights", async () => {
  const flags = ["--batch_size", "1", "--train_steps", "2", "--local_steps", "2", ...LORA];
  const { ranks } = await startTraining(
    2,
    common("mean", ...flags, "--outer_learning_rate", "1", "--outer_momentum", "0"),
  );
  assertEnded(await allEnded(ranks));
  const slow = await startTraining(
    2,
    common("slow", ...flags, "--outer_learning_rate", "0.5", "--outer_momentum", "0"),
  );
  assertEnded(await allEnded(slow.ranks));
  const nesterov = await startTraining(
    2,
    common("nesterov", ...flags, "--outer_learning_rate", "0.5", "--outer_momentum", "0.9"),
  );
  assertEnded(await allEnded(nesterov.ranks));
  const start = await startTraining(
    2,
    common("start", ...flags, "--outer_learning_rate", "1e-30", "--outer_momentum", "0"),
  );
  assertEnded(await allEnded(start.ranks));
  const [from, to, half, further] = await Promise.all(
    ["start", "mean", "slow", "nesterov"].map((run) => weights(run, 2)),
  );
  const along = (share: number) => from!.map((value, i) => value + share * (to![i]! - value));
  assert.ok(distance(from!, to!) > 1e-3);
  assert.ok(distance(along(0.5), half!) < 1e-6);
  // The first step of Nesterov's: gradient plus momentum times itself.
  assert.ok(distance(along(0.5 * 1.9), further!) < 1e-6);
});

test("each rank encodes its own clips, and the cache is what one process makes", async () => {
  const cache = ["--cache_dir", join(folder, "shared-cache"), "--train_steps", "1"];
  const { ranks } = await startTraining(3, common("encoded", ...cache));
  const ended = await allEnded(ranks);
  assertEnded(ended);
  const encoded = ended.map(({ stdout }) =>
    [...stdout.matchAll(/^encoded (\d)\/7/gm)].map(([, i]) => Number(i)),
  );
  assert.deepEqual(encoded, [
    [1, 4, 7],
    [2, 5],
    [3, 6],
  ]);
  assert.match(ended[0]!.stdout, /^7 clips in the cache, 7 of them encoded now$/m);
  const alone = await train(
    common("encoded-alone", "--cache_dir", join(folder, "own-cache"), "--train_steps", "1"),
  );
  assert.equal(alone.code, 0, alone.stderr);
  const files = async (name: string) => {
    const root = join(folder, name);
    const entries = await readdir(root, { recursive: true, withFileTypes: true });
    const paths = entries
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name));
    const found = paths
      .filter((path) => path.endsWith(".safetensors"))
      .map(async (path) => [path.slice(root.length), (await readFile(path)).toString("base64")]);
    return Object.fromEntries((await Promise.all(found)) as [string, string][]);
  };
  assert.deepEqual(await files("shared-cache"), await files("own-cache"));
});

const lora = (run: string, step: number) =>
  readFile(join(folder, run, `checkpoint-${step}`, "pytorch_lora_weights.safetensors"));

test("SIGTERM to one rank saves on all, and the run goes on bit for bit", async () => {
  const flags = [...TWELVE, ...LORA];
  const { ranks } = await startTraining(2, common("stopped", ...flags));
  await ranks[0]!.said(/step 1\/12/);
  ranks[1]!.child.kill("SIGTERM");
  for (const { code, stderr } of await allEnded(ranks)) assert.equal(code, 143, stderr);
  const [place] = await listCheckpoints(join(folder, "stopped"));
  assert.ok(place!.step < 12, `stopped at ${place!.step}`);
  await cp(join(folder, "stopped"), join(folder, "stopped-3"), { recursive: true });
  const again = await startTraining(2, common("stopped", ...flags, "--resume", "latest"));
  assertEnded(await allEnded(again.ranks));
  assert.ok((await lora("stopped", 12)).equals(await lora("unstopped", 12)));
});

test("another number of ranks goes on where the data was: each clip comes once an epoch", async () => {
  // Three steps of 2 x 1 clips, then ranks of one clip: 6 of 7 clips, then the one that is left, then the next epoch.
  const flags = ["--batch_size", "1", "--train_steps", "3", ...LORA];
  const first = await startTraining(2, common("moved", ...flags));
  assertEnded(await allEnded(first.ranks));
  await cp(join(folder, "moved"), join(folder, "moved-again"), { recursive: true });
  const on = ["--batch_size", "1", "--train_steps", "6", ...LORA, "--resume", "latest"];
  for (const run of ["moved", "moved-again"]) {
    const more = await startTraining(3, common(run, ...on));
    assertEnded(await allEnded(more.ranks));
  }
  assert.ok((await lora("moved", 6)).equals(await lora("moved-again", 6)), "bit for bit");
  const samples = (await rows("moved")).map((row) => [row.epoch, row.step]);
  // 7 clips: 2 + 2 + 2 + 1, and then 3 + 3.
  assert.deepEqual(samples, [
    [0, 1],
    [0, 2],
    [0, 3],
    [0, 4],
    [1, 5],
    [1, 6],
  ]);
});

test("ranks with other arguments or data are refused, by rank and name", async () => {
  const flags = ["--train_steps", "2"];
  const rates = await startTraining(2, common("rates", ...flags), (rank) =>
    rank === 1 ? ["--learning_rate", "0.5"] : [],
  );
  for (const { code, stderr } of await allEnded(rates.ranks)) {
    assert.equal(code, 2, stderr);
    assert.match(
      stderr,
      /^firstframe: rank 1 \(127.*\) has learning_rate 0\.5, rank 0 \(127.*\) has 0\.001; all ranks /m,
    );
  }
  const apart = (rank: number) => {
    const args = common("apart", ...flags);
    args[args.indexOf("--data_root") + 1] = join(folder, rank === 1 ? "data" : "seven");
    return args;
  };
  const data = await startTraining(2, [], apart);
  const ended = await allEnded(data.ranks);
  assert.ok(
    ended.some(({ stderr }) => /rank 1 .* has samples 3, rank 0 .* has 7/.test(stderr)),
    ended[0]!.stderr,
  );
});

test("an error of one rank ends the others with its words and its exit code", async () => {
  const held = common("held", "--train_steps", "1");
  assert.equal((await train(held)).code, 0);
  const { hosts, ranks } = await startTraining(2, held);
  const [first, second] = await allEnded(ranks);
  assert.equal(first!.code, 2);
  assert.match(first!.stderr, /^firstframe: .*held: holds a run already/m);
  assert.equal(second!.code, 2, second!.stderr);
  assert.ok(
    second!.stderr.includes(`firstframe: rank 0 (${hosts[0]}) failed: ${join(folder, "held")}: holds a run`),
  );
});

test("launch starts the ranks of one machine: lines by rank, signals to all, exit codes", async () => {
  const launch = (run: string, ...more: string[]) =>
    startRank([
      main,
      "launch",
      "--nproc",
      "2",
      "--",
      "train",
      ...common(run, "--batch_size", "1", ...LORA, ...more),
    ]);
  const done = await launch("launched", "--train_steps", "12").ended;
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stdout, /^\[0\] step 12\/12 /m);
  assert.ok((await lora("launched", 12)).equals(await lora("unstopped", 12)), "as without a launcher");

  const stopped = launch("launch-stopped", "--train_steps", "100000");
  await stopped.said(/^\[0\] step 1\//m);
  stopped.child.kill("SIGTERM");
  const { code, stdout } = await stopped.ended;
  assert.equal(code, 143);
  assert.match(stdout, /^\[0\] stopped at step \d+; go on with --resume latest$/m);

  const refused = await launch("launch-refused", "--train_steps", "1", "--rank", "0").ended;
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /^\[0\] firstframe: --rank: expected /m);
  const empty = await startRank([main, "launch", "--nproc", "2"]).ended;
  assert.equal(empty.code, 2);
  assert.match(empty.stderr, /^firstframe: expected `-- train ...` to launch/m);
});
