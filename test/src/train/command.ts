/** `firstframe train` as tests start it: a LoRA of a tiny model on three clips. */
import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { mallocEnvironment } from "../../../src/engine/environment.js";
import { writeDataset, writeTinyPipeline } from "./tiny.js";

export const main = fileURLToPath(new URL("../../../src/cli/main.js", import.meta.url));

/** Model, data and `lora.yaml` in `folder`. */
export async function writeLoraTask(folder: string): Promise<void> {
  await writeTinyPipeline(join(folder, "model"));
  await writeDataset(join(folder, "data"), 3);
  await writeFile(
    join(folder, "lora.yaml"),
    `# A LoRA on three clips
model_path: ${folder}/model
data_root: ${folder}/data
train_resolution: 9x32x48
training_type: lora
rank: 4
lora_alpha: 4
train_steps: 6
batch_size: 2
learning_rate: 1e-3
lr_warmup_steps: 2
checkpointing_steps: 3
enable_tiling: false
`,
  );
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

type Kill = (signal: NodeJS.Signals) => void;

/**
 * Runs `firstframe train` in one process, which a signal hits directly.
 *
 * @param watch sees standard output as it comes.
 * @param started is told how to send signals.
 */
export function train(
  args: string[],
  watch?: (text: string, kill: Kill) => void,
  { started, env = mallocEnvironment() }: { started?: (kill: Kill) => void; env?: NodeJS.ProcessEnv } = {},
): Promise<Ended> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [main, "train", ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    const kill: Kill = (signal) => child.kill(signal);
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk;
      watch?.(stdout, kill);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk;
    });
    child.on("close", (code, signal) => done({ code, signal, stdout, stderr }));
    started?.(kill);
  });
}
