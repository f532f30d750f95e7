/**
 * What `run.sh` runs on the machine with the GPU: the adapter, reference numbers, and times beside PyTorch's. Each task has a process
 * and a limit of its own, so that one that hangs costs the others nothing; what is known so far is in `report.md` all the time.
 */
import { spawn, spawnSync } from "node:child_process";
import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Measured } from "../../src/cli/bench/measure.js";
import { readManifest } from "../../src/cli/bench/work.js";
import { benchmarkNames } from "../../src/cli/bench.js";
import { adapterName, findAdapter } from "../../src/engine/backends/webgpu.js";

/** Seconds for each task; with the machine's start and PyTorch's, eight minutes. */
const LIMITS = { adapter: 30, transformer: 90, training: 90, vae: 90, bench: 60 } as const;

/** The reference numbers of a task: test files, and which of their tests. */
const GOLDENS = {
  transformer: [{ file: "transformer" }],
  training: [{ file: "optim" }, { file: "loss", tests: "compute_loss_15_even" }],
  vae: [{ file: "vae", tests: "vae_(encode_f17|decode_f5)$" }],
} as const;

/** From the shortest to the longest; what the limit leaves out is not measured. */
const ROWS = [
  ...["transformer_forward_6x16x16", "lora_train_step_6x16x16", "vae_encode_image_256x256"],
  ...[
    "transformer_forward_12x32x32",
    "lora_train_step_12x32x32",
    "vae_encode_17x128x128",
    "vae_decode_17x128x128",
  ],
];
/** Seconds for all of it. */
const TOTAL = 465;
const PEERS = ["float32", "medium", "bfloat16"];
const REPEAT = 5;

type Task = keyof typeof LIMITS;

const { values } = parseArgs({
  options: {
    out: { type: "string", default: "device-out" },
    software: { type: "boolean", default: false },
    only: { type: "string", default: Object.keys(LIMITS).join(",") },
    wheels: { type: "string" },
    "limit-factor": { type: "string", default: "1" },
  },
});
const { out, software } = values;
const factor = Number(values["limit-factor"]);
const tasks = values.only.split(",") as Task[];
const unknown = tasks.filter((task) => !(task in LIMITS));
if (unknown.length > 0 || !(factor > 0)) {
  const expected = Object.keys(LIMITS).join(", ");
  console.error(
    unknown.length > 0
      ? `--only: expected some of ${expected}, found ${unknown.join(", ")}`
      : `--limit-factor: expected a number above 0, found ${values["limit-factor"]}`,
  );
  process.exit(2);
}

mkdirSync(out, { recursive: true });
const report: string[] = [];
let failed = 0;

function say(line: string): void {
  report.push(line);
  console.log(line);
  writeFileSync(join(out, "report.md"), `${report.join("\n")}\n`);
}

interface Ended {
  /** Null after the limit. */
  readonly status: number | null;
  readonly output: string;
}

/** Runs a program with all it prints in a file of `out`, and ends it after a number of seconds. */
function runFor(
  seconds: number,
  log: string,
  command: string,
  argv: readonly string[],
  env = {},
): Promise<Ended> {
  const file = createWriteStream(join(out, `${log}.log`), { flags: "a" });
  const child = spawn(command, argv, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const take = (chunk: Buffer): void => {
    output += chunk.toString();
    file.write(chunk);
  };
  child.stdout.on("data", take);
  child.stderr.on("data", take);
  let late = false;
  const timer = setTimeout(
    () => {
      late = true;
      child.kill("SIGKILL");
    },
    1000 * Math.max(1, Math.min(seconds * factor, TOTAL * factor - process.uptime())),
  );
  return new Promise((resolve) => {
    const end = (status: number | null): void => {
      clearTimeout(timer);
      file.end();
      resolve({ status: late ? null : status, output });
    };
    child.once("error", (error) => {
      take(Buffer.from(`${error.message}\n`));
      end(127);
    });
    child.once("close", (status) => end(status ?? 1));
  });
}

async function adapterTask(): Promise<void> {
  const { stdout } = spawnSync(
    "nvidia-smi",
    ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
    {
      encoding: "utf8",
    },
  );
  say(`- GPU: ${stdout?.trim() || "nvidia-smi names none"}`);
  const adapter = await findAdapter();
  if (!adapter) {
    failed++;
    say("- **no adapter**: Dawn finds no Vulkan driver");
    return;
  }
  const { info, features } = adapter;
  say(`- WebGPU adapter: ${adapterName(info)}; shader-f16: ${features.has("shader-f16") ? "yes" : "no"}`);
  if (!info.isFallbackAdapter || software) return;
  failed++;
  say("- **the adapter is the processor**: the GPU's driver was not found (--software accepts this)");
}

async function goldenTask(task: keyof typeof GOLDENS): Promise<void> {
  const started = performance.now();
  const counts = { pass: 0, fail: 0, skipped: 0 };
  let wrong = "";
  for (const { file, ...rest } of GOLDENS[task]) {
    const argv = ["--test-reporter=tap", `dist/test/src/golden/${file}.test.js`];
    if ("tests" in rest) argv.unshift(`--test-name-pattern=${rest.tests}`);
    const left = LIMITS[task] - (performance.now() - started) / 1000 / factor;
    const { status, output } = await runFor(Math.max(1, left), task, process.execPath, argv, {
      FIRSTFRAME_ENGINE: "webgpu",
    });
    for (const name of Object.keys(counts) as (keyof typeof counts)[]) {
      counts[name] += Number(new RegExp(`^# ${name} (\\d+)`, "m").exec(output)?.[1] ?? 0);
    }
    if (status === null) wrong = `, **not done within ${LIMITS[task] * factor} s**`;
    else if (status !== 0) wrong = `, **ended with ${status}**: see ${task}.log`;
  }
  if (wrong !== "" || counts.pass === 0) failed++;
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  say(`- reference numbers, ${task}: ${counts.pass} passed, ${counts.fail} failed, in ${seconds} s${wrong}`);
}

/** The Python that has PyTorch with CUDA and diffusers; undefined, and said, if there is none. */
async function peerPython(): Promise<NodeJS.ProcessEnv | undefined> {
  const env: NodeJS.ProcessEnv = {};
  if (values.wheels !== undefined) {
    env.PYTHONPATH = join(process.cwd(), "site");
    const argv = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", env.PYTHONPATH];
    const wheels = spawnSync("sh", ["-c", 'ls "$0"/*.whl', values.wheels], { encoding: "utf8" }).stdout.split(
      "\n",
    );
    await runFor(60, "bench", "python3", [...argv, ...wheels.filter(Boolean)]);
  }
  const code =
    "import torch, diffusers, peft; print('torch', torch.__version__, 'cuda', torch.cuda.is_available())";
  const { status, output } = await runFor(120, "bench", "python3", ["-c", code], env);
  if (status === 0 && (software || output.includes("cuda True"))) return env;
  const why = status === 0 ? "PyTorch finds no GPU" : "no Python with torch, diffusers and peft";
  say(`- times: not measured: ${why}`);
  return undefined;
}

async function benchTask(): Promise<void> {
  const python = await peerPython();
  if (!python) return;
  const weights = join(process.cwd(), "weights");
  const device = software ? "cpu" : "cuda";
  const peer = ["test/bench/peer_torch.py", "--weights", weights, "--device", device];
  const written = await runFor(
    240,
    "bench",
    "python3",
    [...peer, "--write-only", "--only", ROWS.join(",")],
    python,
  );
  if (written.status !== 0) {
    failed++;
    say("- times: **PyTorch's side failed**: see bench.log");
    return;
  }
  say("");
  say(
    `| row, seconds | ${PEERS.map((name) => `PyTorch ${name === "medium" ? "TF32" : name}`).join(" | ")} | WebGPU float32 | ratio to the fastest |`,
  );
  say(`| --- | ${PEERS.map(() => "--: | ").join("")}--: | --: |`);
  const deadline = performance.now() + LIMITS.bench * 1000 * factor;
  for (const name of benchmarkNames(await readManifest(weights), ROWS.join(","))) {
    if (performance.now() > deadline) break;
    const theirs: number[] = [];
    for (const precision of PEERS) {
      const argv = [...peer, "--child", name, "--repeat", String(REPEAT), "--precision", precision];
      theirs.push(
        (lastLine(await runFor(60, "bench", "python3", argv, python)) as { seconds: number })?.seconds,
      );
    }
    const argv = ["dist/src/cli/bench/measure.js", name, weights, String(REPEAT), "false", "float32"];
    const env = { FIRSTFRAME_ENGINE: "webgpu" };
    const ours = lastLine(await runFor(120, "bench", process.execPath, argv, env)) as Measured | undefined;
    const best = Math.min(...theirs.filter((value) => value > 0));
    const cells = [...theirs, ours?.seconds].map((value) => (value === undefined ? "-" : value.toFixed(4)));
    say(`| ${name} | ${cells.join(" | ")} | ${ours ? (best / ours.seconds).toFixed(2) : "-"} |`);
  }
  say("");
}

/** The JSON that a program printed last; undefined if it failed. */
function lastLine({ status, output }: Ended): unknown {
  if (status !== 0) return undefined;
  const lines = output
    .trim()
    .split("\n")
    .filter((line) => line.startsWith("{"));
  return lines.length > 0 ? JSON.parse(lines.at(-1)!) : undefined;
}

const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
say(`# firstframe ${version} on a GPU, Node ${process.version}`);
say("");
for (const task of tasks) {
  if (task === "adapter") await adapterTask();
  else if (task === "bench") await benchTask();
  else await goldenTask(task);
}
say(failed === 0 ? "- all tasks passed" : `- **${failed} of ${tasks.length} tasks failed**`);
process.exit(failed === 0 ? 0 : 1);
