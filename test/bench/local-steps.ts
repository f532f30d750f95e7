/**
 * What ranks lose that meet rarely: `node dist/test/bench/local-steps.js [STEPS]` trains the tutorials' small transformer from random weights in two ranks
 * of one thread each, with `local_steps` of 1 and more, and prints what each sent and the loss of held-out clips afterwards. The first row is one process with
 * the whole batch, the last one process with a rank's part of it, as if the ranks never met.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstframe, machine } from "./command.js";

const steps = Number(process.argv[2] ?? 240);
/** Clips of which the loss is taken afterwards, one a step: so many steps that move nothing. */
const HELD_OUT = 96;
const folder = await mkdtemp(join(tmpdir(), "firstframe-bench-local-"));
const data = join(folder, "data");

async function losses(run: string): Promise<number[]> {
  const text = await readFile(join(folder, run, "logs", "metrics.jsonl"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => (JSON.parse(line) as { loss: number }).loss);
}
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

try {
  const size = ["--frames", "9", "--width", "64"];
  await firstframe(
    "procedural",
    "dataset",
    "--out",
    data,
    "--clips",
    "96",
    "--held-out",
    String(HELD_OUT),
    "--seed",
    "0",
    ...size,
  );
  const model = ["--model_path", "notebooks/models/procedural"];
  const transformer = ["--transformer_config", "notebooks/models/procedural/transformer/config.json"];
  const common = [
    ...["train", ...model, ...transformer, "--training_type", "sft", "--train_resolution", "9x64x64"],
    ...["--cache_dir", join(folder, "cache"), "--report_to", "jsonl", "--gradient_checkpointing", "false"],
    ...["--checkpointing_steps", "100000", "--seed", "42"],
  ];
  const optimizer = ["--optimizer", "muon", "--learning_rate", "0.002", "--lr_warmup_steps", "20"];
  console.log(machine());
  console.log("| processes | local steps | outer rate, momentum | sent by each, MB | held-out loss |");
  console.log("| --------: | ----------: | -------------------- | ---------------: | ------------: |");
  // The outer optimizer's learning rate and momentum: DiLoCo's, or those that make it the mean of the weights.
  const outers = [
    [0.7, 0.9],
    [1, 0],
  ] as const;
  const rows: [processes: number, batch: number, localSteps: number, outer: readonly [number, number]][] = [
    [1, 8, 1, outers[0]],
    [2, 4, 1, outers[0]],
    ...outers.flatMap((outer) =>
      [4, 12, 40].map((each): [number, number, number, readonly [number, number]] => [2, 4, each, outer]),
    ),
    [1, 4, 1, outers[0]],
  ];
  for (const [processes, batch, localSteps, [rate, momentum]] of rows) {
    const run = `${processes}-${batch}-${localSteps}-${rate}`;
    const own = [
      "--batch_size",
      String(batch),
      "--local_steps",
      String(localSteps),
      "--outer_learning_rate",
      String(rate),
      "--outer_momentum",
      String(momentum),
      "--output_dir",
      join(folder, run),
    ];
    const launch = processes === 1 ? [] : ["launch", "--nproc", String(processes), "--"];
    const said = await firstframe(
      ...launch,
      ...common,
      ...optimizer,
      ...own,
      "--data_root",
      data,
      "--train_steps",
      String(steps),
    );
    const [, sent, unit] = /each sent ([\d.]+) (B|kB|MB) a step/.exec(said) ?? [];
    const megabytes =
      sent === undefined ? 0 : (Number(sent) * steps) / { B: 1e6, kB: 1e3, MB: 1 }[unit as "B" | "kB" | "MB"];
    await firstframe(
      ...common,
      ...["--optimizer", "muon", "--learning_rate", "1e-30", "--lr_warmup_steps", "20", "--batch_size", "1"],
      ...["--resume", "latest", "--allow_changed_arguments", "all", "--data_root", join(data, "held-out")],
      ...["--output_dir", join(folder, run), "--train_steps", String(steps + HELD_OUT)],
    );
    const after = (await losses(run)).slice(-HELD_OUT);
    const show = (value: number) => value.toPrecision(3);
    console.log(
      `| ${processes} | ${processes === 1 ? "-" : localSteps} | ${localSteps === 1 ? "-" : `${rate}, ${momentum}`} | ${show(megabytes)} | ${mean(after).toFixed(4)} |`,
    );
  }
  console.log(machine());
} finally {
  await rm(folder, { recursive: true, force: true });
}
