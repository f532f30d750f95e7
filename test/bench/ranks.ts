/**
 * What training in several processes costs: `node dist/test/bench/ranks.js [STEPS] [BATCH]` trains a LoRA of the tutorials' small model on loopback
 * with 1, 2 and 4 ranks of one thread each, and prints a row for each. A batch is BATCH clips a rank, so that the work grows with the ranks. Processes
 * on one machine slow each other down, even if they have nothing to do with each other: beside each number of ranks stand as many trainings that are
 * run at once and never talk, in turn with them.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstframe, machine } from "./command.js";

const [steps = 20, batch = 8] = process.argv.slice(2).map(Number);
const ROUNDS = 3;
const folder = await mkdtemp(join(tmpdir(), "firstframe-bench-ranks-"));

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

/** Trains in a folder of its own. The times of its steps but the first two, and what it printed. */
async function train(name: string, before: readonly string[], ...more: string[]) {
  const run = join(folder, name);
  const model = ["--model_path", "notebooks/models/procedural", "--data_root", join(folder, "data")];
  const size = [
    "--train_resolution",
    "17x64x96",
    "--batch_size",
    String(batch),
    "--train_steps",
    String(steps),
  ];
  const lora = ["--training_type", "lora", "--rank", "64", "--gradient_checkpointing", "false"];
  const output = ["--output_dir", run, "--report_to", "jsonl"];
  const said = await firstframe(...before, "train", ...model, ...size, ...lora, ...output, ...more);
  const lines = (await readFile(join(run, "logs", "metrics.jsonl"), "utf8")).trimEnd().split("\n");
  await rm(run, { recursive: true });
  const seconds = lines.slice(2).map((line) => (JSON.parse(line) as { step_seconds: number }).step_seconds);
  return { seconds, said };
}

/** The clips are encoded once, by the first training. */
async function prepare(): Promise<void> {
  const clips = ["--clips", String(4 * batch), "--held-out", "1", "--seed", "0"];
  await firstframe("procedural", "dataset", "--out", join(folder, "data"), ...clips);
  await train("warm", []);
}

try {
  await prepare();
  console.log(machine());
  console.log(
    "| processes | gradients | s/step | clips/s | efficiency | of what is possible | sent a step by each | s waiting | s summing |",
  );
  console.log("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
  const arms = [1, 2, 4].flatMap((count) =>
    (count === 1 ? ["apart"] : ["apart", "float32", "bfloat16"]).map((sums) => ({
      ...{ count, sums, seconds: [] as number[], costs: [] as string[] },
    })),
  );
  for (let round = 0; round < ROUNDS; round++) {
    for (const arm of arms) {
      const name = `${arm.count}-${arm.sums}`;
      const launch = ["launch", "--nproc", String(arm.count), "--"];
      const ran =
        arm.sums === "apart"
          ? await Promise.all(Array.from({ length: arm.count }, (_, i) => train(`${name}-${i}`, [])))
          : [await train(name, launch, "--reduce_dtype", arm.sums)];
      arm.seconds.push(...ran.flatMap(({ seconds }) => seconds));
      arm.costs =
        /each sent (.+?) a step; rank 0 waited (\S+) s a step .* sums took (\S+) s/
          .exec(ran[0]!.said)
          ?.slice(1) ?? [];
    }
  }
  for (const { count, sums, seconds, costs } of arms) {
    const percent = (other: number) => `${Math.round((100 * other) / median(seconds))} %`;
    const apart = arms.find((arm) => arm.count === count && arm.sums === "apart")!;
    const cells = [
      ...[count, sums, median(seconds).toPrecision(3), ((count * batch) / median(seconds)).toPrecision(3)],
      ...[percent(median(arms[0]!.seconds)), percent(median(apart.seconds))],
      ...(costs.length > 0 ? costs : ["-", "-", "-"]),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
  console.log(machine());
} finally {
  await rm(folder, { recursive: true, force: true });
}
