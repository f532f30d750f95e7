/**
 * What summing gradients in buckets during the backward pass saves: `node dist/test/bench/overlap.js [sft|lora] [STEPS] [BATCH]` trains the tutorials' small
 * model in two processes of one thread each, with all gradients in one sum after the backward pass and in buckets of several sizes. The processes
 * are in network namespaces (which needs root) with a link that `tc` holds to so many Mbit/s, for STEPS steps each, twice in turn. Prints medians.
 */
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startRank } from "../src/train/distributed/ranks.js";
import { firstframe, machine } from "./command.js";

const [kind, ...numbers] = process.argv.slice(2);
const kinds = kind === "lora" || kind === "sft" ? ([kind] as const) : (["sft", "lora"] as const);
const [steps = 6, batch = 2] = numbers.map(Number);
/** Mbit/s; 0 for no limit. */
const RATES = [50, 200, 0];
const turns = [...RATES, ...RATES];
const CAPS = { sft: ["Infinity", "25", "1"], lora: ["Infinity", "0.1"] };
const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const folder = await mkdtemp(join(tmpdir(), "firstframe-bench-overlap-"));
const sides = ["a", "b"].map((side, i) => ({
  name: `ff-bench-${process.pid}-${side}`,
  link: `ffb${process.pid % 1_000_000}${side}`,
  address: `10.251.8.${i + 1}`,
}));

function run(program: string, ...words: string[]): void {
  const { status, stderr } = spawnSync(program, words, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${words.join(" ")}: ${stderr}`);
}

function connect(): void {
  const [a, b] = sides as [(typeof sides)[0], (typeof sides)[0]];
  for (const { name } of sides) run("ip", "netns", "add", name);
  run(
    "ip",
    ...["link", "add", a.link, "netns", a.name, "type", "veth"],
    ...["peer", "name", b.link, "netns", b.name],
  );
  for (const { name, link, address } of sides) {
    run("ip", "-n", name, "address", "add", `${address}/24`, "dev", link);
    for (const each of ["lo", link]) run("ip", "-n", name, "link", "set", each, "up");
  }
}

/** Both directions. */
function limit(mbit: number): void {
  for (const { name, link } of sides) {
    spawnSync("tc", ["-n", name, "qdisc", "del", "dev", link, "root"]);
    if (mbit === 0) continue;
    const bucket = ["rate", `${mbit}mbit`, "burst", "64kb", "latency", "200ms"];
    run("tc", "-n", name, "qdisc", "add", "dev", link, "root", "tbf", ...bucket);
  }
}

const KINDS = {
  lora: ["--training_type", "lora", "--rank", "64"],
  sft: ["--training_type", "sft"],
} as const;

const common = (run: string, kind: keyof typeof KINDS) => [
  ...["train", "--model_path", "notebooks/models/procedural", "--data_root", join(folder, "data")],
  ...[
    "--train_resolution",
    "17x64x96",
    "--batch_size",
    String(batch),
    "--train_steps",
    String(steps * turns.length),
  ],
  ...[
    ...KINDS[kind],
    "--gradient_checkpointing",
    "false",
    "--checkpointing_steps",
    String(steps * turns.length),
  ],
  ...["--output_dir", join(folder, run), "--report_to", "jsonl"],
];

const stepsTaken = async (): Promise<string[]> =>
  (await readFile(join(folder, "run", "logs", "metrics.jsonl"), "utf8").catch(() => ""))
    .split("\n")
    .slice(0, -1);

/** Seconds of steps by the link's rate, which changes while it trains: rates that take turns have met the same noise. */
async function train(kind: keyof typeof KINDS, cap: string): Promise<Map<number, number[]>> {
  const hosts = sides.map(({ address }) => `${address}:4000`).join(",");
  limit(turns[0]!);
  const ranks = sides.map(({ name }, rank) => {
    const place = ["--hosts", hosts, "--machine_rank", String(rank), "--bucket_cap_mb", cap];
    const before = ["ip", "netns", "exec", name];
    return startRank([main, ...common("run", kind), ...place], { OMP_NUM_THREADS: "1" }, before);
  });
  for (const [turn, mbit] of turns.entries()) {
    if (turn === 0) continue;
    // Its lines come every few seconds only.
    while ((await stepsTaken()).length < turn * steps && ranks[0]!.child.exitCode === null) await wait(20);
    limit(mbit);
  }
  for (const { code, stderr } of await Promise.all(ranks.map(({ ended }) => ended)))
    if (code !== 0) throw new Error(stderr);
  const lines = await stepsTaken();
  await rm(join(folder, "run"), { recursive: true });
  const times = lines.map((line) => (JSON.parse(line) as { step_seconds: number }).step_seconds);
  const found = new Map<number, number[]>();
  for (const [turn, mbit] of turns.entries()) {
    // The first steps of all, and of a turn, are others.
    const own = times.slice(turn * steps + 2, (turn + 1) * steps);
    found.set(mbit, [...(found.get(mbit) ?? []), ...own]);
  }
  return found;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

try {
  connect();
  const clips = ["--clips", String(2 * batch), "--held-out", "1", "--seed", "0"];
  await firstframe("procedural", "dataset", "--out", join(folder, "data"), ...clips);
  await firstframe(...common("warm", "lora"));
  console.log(machine());
  console.log("| trained | bucket_cap_mb | Mbit/s | s/step | of one bucket's |");
  console.log("| --- | ---: | ---: | ---: | ---: |");
  for (const kind of kinds) {
    const whole = new Map<number, number>();
    for (const cap of CAPS[kind]) {
      for (const [mbit, seconds] of await train(kind, cap)) {
        const time = median(seconds);
        if (!whole.has(mbit)) whole.set(mbit, time);
        const share = `${Math.round((100 * time) / whole.get(mbit)!)} %`;
        console.log(`| ${[kind, cap, mbit || "-", time.toPrecision(3), share].join(" | ")} |`);
      }
    }
  }
  console.log(machine());
} finally {
  for (const { name } of sides) spawnSync("ip", ["netns", "delete", name]);
  await rm(folder, { recursive: true, force: true });
}
