/**
 * What summing gradients in buckets during the backward pass saves: `node dist/test/bench/overlap.js [STEPS] [BATCH] [MBIT...]` trains the tutorials' small
 * model in two processes of one thread each, with all gradients in one sum after the backward pass and in buckets of several sizes, in turn. The processes
 * are in network namespaces (which needs root) with a link that `tc` holds to so many Mbit/s; 0 is without a limit. Prints a row for each.
 */
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startRank } from "../src/train/distributed/ranks.js";
import { firstframe, machine } from "./command.js";

const [steps = 12, batch = 4, ...rates] = process.argv.slice(2).map(Number);
const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const ROUNDS = 2;
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
  ...["--train_resolution", "17x64x96", "--batch_size", String(batch), "--train_steps", String(steps)],
  ...[...KINDS[kind], "--gradient_checkpointing", "false", "--checkpointing_steps", String(steps)],
  ...["--output_dir", join(folder, run), "--report_to", "jsonl"],
];

async function train(kind: keyof typeof KINDS, cap: string): Promise<{ seconds: number[]; costs: string[] }> {
  const hosts = sides.map(({ address }) => `${address}:4000`).join(",");
  const ranks = sides.map(({ name }, rank) => {
    const place = ["--hosts", hosts, "--machine_rank", String(rank), "--bucket_cap_mb", cap];
    const before = ["ip", "netns", "exec", name];
    return startRank([main, ...common("run", kind), ...place], { OMP_NUM_THREADS: "1" }, before);
  });
  const ended = await Promise.all(ranks.map((rank) => rank.ended));
  for (const { code, stderr } of ended) if (code !== 0) throw new Error(stderr);
  const path = join(folder, "run", "logs", "metrics.jsonl");
  const lines = (await readFile(path, "utf8")).trimEnd().split("\n").slice(2);
  await rm(join(folder, "run"), { recursive: true });
  const costs =
    /each sent (.+?) a step; rank 0 waited (\S+) s a step .* sums took (\S+) s/.exec(ended[0]!.stdout) ?? [];
  return {
    seconds: lines.map((line) => (JSON.parse(line) as { step_seconds: number }).step_seconds),
    costs: costs.slice(1),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

try {
  connect();
  const clips = ["--clips", String(2 * batch), "--held-out", "1", "--seed", "0"];
  await firstframe("procedural", "dataset", "--out", join(folder, "data"), ...clips);
  await firstframe(...common("warm", "lora"), "--train_steps", "1");
  console.log(machine());
  console.log(
    "| trained | Mbit/s | bucket_cap_mb | s/step | of one bucket's | sent a step by each | s waiting | s summing |",
  );
  console.log("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
  for (const kind of ["lora", "sft"] as const) {
    for (const mbit of rates.length > 0 ? rates : [0, 50, 200]) {
      limit(mbit);
      const caps = kind === "lora" ? ["Infinity", "0.1"] : ["Infinity", "25", "1", "0.25"];
      const arms = caps.map((cap) => ({ cap, seconds: [] as number[], waits: [] as string[][] }));
      for (let round = 0; round < ROUNDS; round++) {
        for (const arm of arms) {
          const { seconds, costs } = await train(kind, arm.cap);
          arm.seconds.push(...seconds);
          arm.waits.push(costs);
        }
      }
      for (const { cap, seconds, waits } of arms) {
        const time = (i: number) => median(waits.map((costs) => Number(costs[i]))).toPrecision(2);
        const share = `${Math.round((100 * median(seconds)) / median(arms[0]!.seconds))} %`;
        const cells = [
          kind,
          mbit || "-",
          cap,
          median(seconds).toPrecision(3),
          share,
          waits[0]![0],
          time(1),
          time(2),
        ];
        console.log(`| ${cells.join(" | ")} |`);
      }
    }
  }
  console.log(machine());
} finally {
  for (const { name } of sides) spawnSync("ip", ["netns", "delete", name]);
  await rm(folder, { recursive: true, force: true });
}
