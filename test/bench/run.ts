/**
 * `npm run bench`: PyTorch and this package in turn (A B A B), on the same weights and inputs, and how this package's
 * times grow. Needs a Python with torch, diffusers, transformers and peft. Prints Markdown, writes `out/bench.json`.
 *
 *     npm run bench -- [--python PATH] [--weights DIR] [--only NAMES] [--rounds N] [--repeat N] [--threads N] [--growth]
 *                      [--precision bfloat16]
 *
 * With --precision bfloat16 this package computes in bfloat16, and PyTorch in each of float32, medium and bfloat16: its time is
 * the fastest's of the three.
 */
import { execFile, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import type { Measured } from "../../src/cli/bench/measure.js";
import { readManifest } from "../../src/cli/bench/work.js";
import { benchmarkNames, measureApart } from "../../src/cli/bench.js";
import { writeFileAtomic } from "../../src/files/atomic.js";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const script = join(root, "test/bench/peer_torch.py");

const { values } = parseArgs({
  options: {
    python: { type: "string", default: "python3" },
    weights: { type: "string", default: join(root, "out/bench-weights") },
    only: { type: "string", default: "*" },
    rounds: { type: "string", default: "3" },
    repeat: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    checkpointing: { type: "boolean", default: false },
    growth: { type: "boolean", default: false },
    precision: { type: "string", default: "float32" },
  },
});
const { python, weights, checkpointing, precision } = values;
if (precision !== "float32" && precision !== "bfloat16") {
  console.error(`--precision: expected float32 or bfloat16, found ${precision}`);
  process.exit(2);
}
/** What PyTorch computes in; its best is the fastest. */
const PEERS = precision === "float32" ? ["float32"] : ["float32", "medium", "bfloat16"];
/** Seconds that the timed runs of a row take together at least: the short ones vary most. */
const SHORTEST = 8;
const [rounds, repeat, threads] = [values.rounds, values.repeat, values.threads].map(Number) as [
  number,
  number,
  number,
];
const options = { repeat, threads, checkpointing, dtype: precision } as const;

if (!existsSync(join(weights, "manifest.json"))) {
  console.error(`writing models, inputs and expected outputs into ${weights}`);
  const { status } = spawnSync(python, [script, "--weights", weights, "--write-only"], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

type Row = Pick<Measured, "seconds" | "min" | "cpu_seconds" | "peak_rss_mb"> & {
  readonly precision: string;
  /** From float32, by the Euclidean norm; null for a size whose expected output is not stored. */
  readonly difference: number | null;
};

/** The fastest of PyTorch's precisions, and how far its bfloat16 is from float32. */
async function peer(name: string, repeat: number): Promise<Row & { readonly rough: number | null }> {
  const rows: Row[] = [];
  for (const each of PEERS) rows.push(await peerIn(each, name, repeat));
  const best = rows.reduce((best, row) => (row.seconds < best.seconds ? row : best));
  return { ...best, rough: rows.at(-1)!.difference };
}

async function peerIn(precision: string, name: string, repeat: number): Promise<Row> {
  const argv = [
    script,
    "--child",
    name,
    "--weights",
    weights,
    "--repeat",
    String(repeat),
    "--threads",
    String(threads),
    "--precision",
    precision,
  ];
  if (checkpointing) argv.push("--checkpointing");
  const env = { ...process.env, OMP_NUM_THREADS: String(threads), MKL_NUM_THREADS: String(threads) };
  const { stdout } = await promisify(execFile)(python, argv, { env, maxBuffer: 1 << 26 });
  return JSON.parse(stdout.trim().split("\n").at(-1)!) as Row;
}

const median = (numbers: number[]) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
const seconds = (value: number) => value.toFixed(value < 1 ? 3 : 2);

const manifest = await readManifest(weights);
const names = benchmarkNames(manifest, values.only);
const rows = new Map(
  names.map((name) => [
    name,
    { repeat, peer: [] as Awaited<ReturnType<typeof peer>>[], own: [] as Measured[] },
  ]),
);
for (let round = 1; round <= rounds; round++) {
  for (const [name, row] of rows) {
    let theirs = await peer(name, row.repeat);
    if (round === 1 && theirs.seconds * repeat < SHORTEST) {
      row.repeat = Math.ceil(SHORTEST / theirs.seconds);
      theirs = await peer(name, row.repeat);
    }
    row.peer.push(theirs);
    row.own.push(await measureApart(name, weights, { ...options, repeat: row.repeat }));
    const [a, b] = [row.peer.at(-1)!.seconds, row.own.at(-1)!.seconds];
    console.error(
      `round ${round}  ${name}: PyTorch (${row.peer.at(-1)!.precision}) ${seconds(a)} s, firstframe ${seconds(b)} s`,
    );
  }
}

const cpu = `${cpus()[0]?.model}, ${threads} threads`;
console.log(
  `${new Date().toISOString().slice(0, 10)}, ${cpu}, ${rounds} rounds of ${repeat} runs or of ${SHORTEST} s\n`,
);
console.log(
  "| | runs | PyTorch s | in | firstframe s | ratio | of each round | PyTorch CPU s | firstframe CPU s | ratio | PyTorch MB | firstframe MB | engine | differs by | distance | PyTorch's |",
);
console.log(
  "| --- | --: | --: | --- | --: | --: | --- | --: | --: | --: | --: | --: | --- | --: | --: | --: |",
);
for (const [name, { repeat, peer: a, own: b }] of rows) {
  const ratios = a.map((row, i) => (row.seconds / b[i]!.seconds).toFixed(2)).join(", ");
  const both = (figure: "seconds" | "cpu_seconds") => {
    const [peers, ours] = [a, b].map((list) => median(list.map((row) => row[figure]))) as [number, number];
    return [seconds(peers), seconds(ours), (peers / ours).toFixed(2)];
  };
  const peaks = [a, b].map((list) => Math.max(...list.map((row) => row.peak_rss_mb)).toFixed(0));
  const { engine, difference = "", distance = "" } = b[0]!;
  const [theirs, ours, ratio] = both("seconds");
  const cells = [
    name,
    repeat,
    theirs,
    [...new Set(a.map((row) => row.precision))].join(", "),
    ours,
    ratio,
    ratios,
    ...both("cpu_seconds"),
    ...peaks,
    engine,
    difference,
    distance,
    a[0]!.rough?.toPrecision(2) ?? "",
  ];
  console.log(`| ${cells.join(" | ")} |`);
}

/** Frames, the picture's side, and tokens (frames / 2 x height / 2 x width / 2), each alone. */
const GROWTH = {
  frames: [9, 17, 33, 49, 81].map((frames) => `vae_encode_${frames}x64x64`),
  side: [64, 128, 192, 256].map((side) => `vae_encode_9x${side}x${side}`),
  tokens: ["6x16x16", "12x32x32", "22x32x32", "22x48x48", "22x64x64", "22x76x76"].map(
    (s) => `transformer_forward_${s}`,
  ),
};
const growth: Record<string, Measured> = {};
for (const [what, series] of Object.entries(values.growth ? GROWTH : {})) {
  console.log(`\n| ${what} | s | CPU s | MB |\n| --- | --: | --: | --: |`);
  for (const name of series) {
    const result = await measureApart(name, weights, { ...options, repeat: 1 });
    growth[name] = result;
    const times = `${seconds(result.seconds)} | ${seconds(result.cpu_seconds)}`;
    console.log(`| ${name} | ${times} | ${result.peak_rss_mb.toFixed(0)} |`);
  }
}
const file = join(root, "out/bench.json");
await writeFileAtomic(
  file,
  `${JSON.stringify({ cpu, rounds: Object.fromEntries(rows), growth }, null, 2)}\n`,
);
console.error(`all figures: ${file}`);
