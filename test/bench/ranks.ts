/**
 * What training in several processes costs: `node dist/test/bench/ranks.js [STEPS]` trains a LoRA of the tutorials' small model on loopback with 1, 2
 * and 4 ranks of one thread each, and prints a row for each. A batch is one clip a rank, so that the work grows with the ranks.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstframe, machine } from "./command.js";

const steps = Number(process.argv[2] ?? 20);
const folder = await mkdtemp(join(tmpdir(), "firstframe-bench-ranks-"));

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

try {
  firstframe(
    "procedural",
    "dataset",
    "--out",
    join(folder, "data"),
    "--clips",
    "8",
    "--held-out",
    "1",
    "--seed",
    "0",
  );
  console.log(machine());
  console.log(
    "| ranks | gradients | s/step | clips/s | efficiency | sent a step by each | s waiting | s summing |",
  );
  console.log("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
  let alone = 0;
  for (const count of [1, 2, 4]) {
    for (const dtype of count === 1 ? ["float32"] : ["float32", "bfloat16"]) {
      const run = join(folder, `${count}-${dtype}`);
      const model = ["--model_path", "notebooks/models/procedural", "--data_root", join(folder, "data")];
      const size = ["--train_resolution", "17x64x96", "--batch_size", "1", "--train_steps", String(steps)];
      const lora = ["--training_type", "lora", "--rank", "64", "--gradient_checkpointing", "false"];
      const output = ["--output_dir", run, "--report_to", "jsonl", "--reduce_dtype", dtype];
      const said = firstframe(
        "launch",
        "--nproc",
        String(count),
        "--",
        "train",
        ...model,
        ...size,
        ...lora,
        ...output,
      );
      const lines = (await readFile(join(run, "logs", "metrics.jsonl"), "utf8")).trimEnd().split("\n");
      const seconds = median(
        lines.slice(2).map((line) => (JSON.parse(line) as { step_seconds: number }).step_seconds),
      );
      if (count === 1) alone = seconds;
      const [, sent, waiting, summing] =
        /each sent (.+?) a step; rank 0 waited (\S+) s a step .* sums took (\S+) s/.exec(said) ?? [];
      const rate = (count / seconds).toPrecision(3);
      const efficiency = `${Math.round((100 * alone) / seconds)} %`;
      console.log(
        `| ${count} | ${dtype} | ${seconds.toPrecision(3)} | ${rate} | ${efficiency} | ${sent ?? "-"} | ${waiting ?? "-"} | ${summing ?? "-"} |`,
      );
    }
  }
  console.log(machine());
} finally {
  await rm(folder, { recursive: true, force: true });
}
