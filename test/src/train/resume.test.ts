/** A run goes on from its own checkpoints alone, and one run has a folder at a time. */
import assert from "node:assert/strict";
import { existsSync, promises } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type InputError, useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import {
  ARGUMENTS,
  type ArgumentName,
  COMMAND_SPELLING,
  readArguments,
} from "../../../src/train/arguments.js";
import {
  checkpointsToResume,
  listCheckpoints,
  ResumeError,
  saveCheckpoint,
} from "../../../src/train/checkpoint.js";
import { differences, fixedArguments, type RunFingerprint } from "../../../src/train/resume.js";
import { runTraining } from "../../../src/train/run.js";
import { Trainer, type TrainerOptions } from "../../../src/train/trainer.js";
import { writeJson } from "../../../src/weights/config.js";
import { saveFile } from "../../../src/weights/safetensors.js";
import { train, writeLoraTask } from "./command.js";
import { tinyData, tinyModels, writeDataset } from "./tiny.js";

let folder = "";
/** To step 4, as the table of changes goes on from it. */
let base = "";
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-resume-"));
  await writeLoraTask(folder);
  base = join(folder, "base");
  await go({ output_dir: base, train_steps: "4" });
});
after(() => rm(folder, { recursive: true, force: true }));

type Flags = Record<string, string | string[]>;

/** A run in this process; gives back what it said. */
async function go(flags: Flags, config = join(folder, "lora.yaml")): Promise<string> {
  const lines: string[] = [];
  const args = await readArguments({ config, flags: { report_to: "none", ...flags } });
  await runTraining(args, { log: (line) => lines.push(line) });
  return lines.join("\n");
}

const fresh = () => mkdtemp(join(folder, "run-"));
const steps = async (outputDir: string) => (await listCheckpoints(outputDir)).map(({ step }) => step);
const weights = (outputDir: string, step: number) =>
  readFile(join(outputDir, `checkpoint-${step}`, "pytorch_lora_weights.safetensors"));
async function copyOfBase(): Promise<string> {
  const outputDir = await fresh();
  await cp(base, outputDir, { recursive: true });
  return outputDir;
}

const A: Flags = { seed: "1" };
const B: Flags = { seed: "2", learning_rate: "0.002" };

test("another run's folder is refused before any work, and left as it is", async () => {
  const outputDir = await fresh();
  await go({ ...A, output_dir: outputDir, train_steps: "8", checkpointing_steps: "4" });
  const before = await Promise.all((await readdir(outputDir)).map((name) => stat(join(outputDir, name))));
  const cache = join(folder, "untouched-cache");
  const flags = ["--seed", "2", "--learning_rate", "0.002", "--train_steps", "6", "--cache_dir", cache];
  const args = ["--config", join(folder, "lora.yaml"), "--output_dir", outputDir, ...flags];
  const plain = await train(args);
  assert.equal(plain.code, 2, plain.stdout);
  assert.match(
    plain.stderr,
    /^firstframe: .*: holds a run already \(checkpoint-4, checkpoint-8\); --resume latest .*--overwrite_output_dir /m,
  );
  const resumed = await train([...args, "--resume", "latest"]);
  assert.equal(resumed.code, 2, resumed.stdout);
  assert.match(
    resumed.stderr,
    /^firstframe: .*checkpoint-8: was made with other arguments: seed: 1 in the checkpoint, 2 now; learning_rate: 0\.001 in the checkpoint, 0\.002 now; if that is meant, go on with --allow_changed_arguments seed learning_rate$/m,
  );
  const planned = await train([...args, "--dry-run"]);
  assert.equal(planned.code, 2, planned.stdout);
  assert.match(planned.stdout, /^memory: about /m, "what it needs is said all the same");
  assert.match(planned.stderr, /^firstframe: .*: holds a run already \(checkpoint-4, checkpoint-8\); /m);
  const other = await train([...args, "--dry-run", "--resume", "latest"]);
  assert.match(other.stderr, /^firstframe: .*checkpoint-8: was made with other arguments: seed: 1 in /m);
  const named = await train([...args, "--resume", join(outputDir, "checkpoint-4")]);
  assert.equal(named.code, 2, named.stdout);
  assert.match(named.stderr, /checkpoint-4: was made with other arguments: seed: 1 /);
  const both = await train([...args, "--resume", "latest", "--overwrite_output_dir"]);
  assert.equal(both.code, 2, both.stdout);
  assert.ok(!existsSync(cache), "nothing was encoded");
  const after = await Promise.all((await readdir(outputDir)).map((name) => stat(join(outputDir, name))));
  assert.deepEqual(
    after.map(({ mtimeMs }) => mtimeMs),
    before.map(({ mtimeMs }) => mtimeMs),
  );

  const over = await train([...args, "--overwrite_output_dir", "--checkpointing_steps", "3"]);
  assert.equal(over.code, 0, over.stderr);
  assert.deepEqual(await steps(outputDir), [3, 6]);
});

test("in a folder with two runs' checkpoints, latest is the newest of this one", async () => {
  const [a, b, mixed] = [await fresh(), await fresh(), await fresh()];
  await go({ ...A, output_dir: a, train_steps: "8", checkpointing_steps: "4" });
  await go({ ...B, output_dir: b, train_steps: "7", checkpointing_steps: "3" });
  for (const [from, step] of [
    [a, 4],
    [a, 8],
    [b, 3],
    [b, 6],
  ] as const) {
    await cp(join(from, `checkpoint-${step}`), join(mixed, `checkpoint-${step}`), { recursive: true });
  }
  const said = await go({ ...B, output_dir: mixed, train_steps: "7", resume_from_checkpoint: "latest" });
  assert.match(
    said,
    /passed over .*checkpoint-8: was made with other arguments: seed: 1 in the checkpoint, 2 now/,
  );
  assert.match(said, /resumed from .*checkpoint-6$/m);
  assert.ok((await weights(mixed, 7)).equals(await weights(b, 7)));
  assert.match(
    await go({ ...A, output_dir: mixed, train_steps: "8", resume_from_checkpoint: "latest" }),
    /resumed from .*checkpoint-8$/m,
  );
  const third = go({ seed: "3", output_dir: mixed, train_steps: "9", resume_from_checkpoint: "latest" });
  await assert.rejects(
    third,
    /checkpoint-8: was made with other arguments: seed: 1 in the checkpoint, 3 now/,
  );
});

test("after a change that was allowed, the arguments from before it don't lose its steps", async () => {
  const outputDir = await copyOfBase();
  const flags = { output_dir: outputDir, resume_from_checkpoint: "latest" };
  const said = await go({
    ...flags,
    train_steps: "6",
    learning_rate: "0.005",
    allow_changed_arguments: ["learning_rate"],
  });
  assert.match(said, /changed since .*checkpoint-4: learning_rate 0\.001 -> 0\.005$/m);
  await assert.rejects(
    go({ ...flags, train_steps: "7" }),
    /checkpoint-6: was made with other arguments: learning_rate: 0\.005 in the checkpoint, 0\.001 now/,
  );
  assert.match(
    await go({ ...flags, train_steps: "7", learning_rate: "5e-3" }),
    /resumed from .*checkpoint-6$/m,
  );
});

/** Makes a changed task in a folder of its own, and gives the flags that lead to it. */
const CHANGES: [string, (at: string) => Promise<Flags>, RegExp, string | undefined][] = [
  ["seed", async () => ({ seed: "7" }), /: seed: 42 in the checkpoint, 7 now;/, "seed"],
  [
    "rate",
    async () => ({ learning_rate: "1e-4" }),
    /: learning_rate: 0\.001 in the checkpoint, 0\.0001 now;/,
    "learning_rate",
  ],
  ["rank", async () => ({ rank: "8" }), /: rank: 4 in the checkpoint, 8 now$/, undefined],
  [
    "optimizer",
    async () => ({ optimizer: "adam" }),
    /: optimizer: adamw in the checkpoint, adam now;/,
    "optimizer",
  ],
  [
    "a moving average",
    async () => ({ use_ema: "true" }),
    /: use_ema: false in the checkpoint, true now;/,
    "use_ema",
  ],
  [
    "size",
    async () => ({ train_resolution: "9x32x32" }),
    /: train_resolution: 9x32x48 in the checkpoint, 9x32x32 now;/,
    "train_resolution",
  ],
  [
    "one clip more",
    async (at) => {
      await writeDataset(at, 4);
      return { data_root: at };
    },
    /: data_root: 3 clips in the checkpoint, 4 clips now;/,
    "data_root",
  ],
  [
    "a caption",
    async (at) => {
      await cp(join(folder, "data"), at, { recursive: true });
      const captions = await readFile(join(at, "prompts.txt"), "utf8");
      await writeFile(join(at, "prompts.txt"), captions.replace(/^\w+/, "The"));
      return { data_root: at };
    },
    /: data_root: captions \w{8} in the checkpoint, captions \w{8} now;/,
    "data_root",
  ],
  [
    "a clip",
    async (at) => {
      await cp(join(folder, "data"), at, { recursive: true });
      await cp(join(at, "videos", "0.webp"), join(at, "videos", "1.webp"));
      return { data_root: at };
    },
    /: data_root: clips \w{8} in the checkpoint, clips \w{8} now;/,
    "data_root",
  ],
  [
    "the transformer",
    async (at) => {
      await cp(join(folder, "model"), at, { recursive: true });
      const { config } = await CogVideoXTransformer3DModel.fromPretrained(join(at, "transformer"));
      await CogVideoXTransformer3DModel.fromConfig(config, new RandomGenerator(99)).savePretrained(
        join(at, "transformer"),
      );
      return { model_path: at };
    },
    /: model_path: transformer \w{8} in the checkpoint, transformer \w{8} now;/,
    "model_path",
  ],
  [
    "the VAE",
    async (at) => {
      await cp(join(folder, "model"), at, { recursive: true });
      await tinyModels(5).vae.savePretrained(join(at, "vae"));
      return { model_path: at };
    },
    /: model_path: vae \w{8} in the checkpoint, vae \w{8} now;/,
    "model_path",
  ],
  [
    "the noise schedule",
    async (at) => {
      await cp(join(folder, "model"), at, { recursive: true });
      const file = join(at, "scheduler", "scheduler_config.json");
      const config = JSON.parse(await readFile(file, "utf8")) as object;
      await writeFile(file, JSON.stringify({ ...config, snr_shift_scale: 2 }));
      return { model_path: at };
    },
    /: model_path: scheduler \w{8} in the checkpoint, scheduler \w{8} now;/,
    "model_path",
  ],
];

describe("what was changed is named, and gone on with only if that is said", () => {
  for (const [what, change, message, name] of CHANGES) {
    test(what, async () => {
      const outputDir = await copyOfBase();
      const flags = { ...(await change(await fresh())), output_dir: outputDir, train_steps: "5" };
      await assert.rejects(go({ ...flags, resume_from_checkpoint: "latest" }), {
        name: "ResumeError",
        message,
      });
      assert.deepEqual(await steps(outputDir), [3, 4]);
      const allowed = {
        ...flags,
        resume_from_checkpoint: "latest",
        allow_changed_arguments: [name ?? "all"],
      };
      if (name === undefined) return assert.rejects(go(allowed), message);
      const said = await go(allowed);
      assert.match(said, new RegExp(`^changed since .*checkpoint-4: .*${name} `, "m"));
      assert.deepEqual(await steps(outputDir), [3, 4, 5]);
    });
  }
});

test("the same in other words, elsewhere, or longer is no other run", async () => {
  const at = await fresh();
  await cp(join(folder, "data"), join(at, "clips"), {
    recursive: true,
    filter: (path) => !path.endsWith("cache"),
  });
  await rename(join(at, "clips", "prompts.txt"), join(at, "clips", "captions.txt"));
  await cp(join(folder, "model"), join(at, "pipeline"), { recursive: true });
  const file = join(at, "pipeline", "vae", "config.json");
  const config = Object.entries(JSON.parse(await readFile(file, "utf8")) as object).reverse();
  await writeFile(file, JSON.stringify({ ...Object.fromEntries(config), _diffusers_version: "0.31.0" }));
  await writeFile(join(at, "pipeline", "vae", "README.md"), "copied from the hub");
  const yaml = join(at, "other.yaml");
  await writeFile(
    yaml,
    `learning_rate: 0.0010
batch_size: "2"
lora_alpha: 4.0
rank: 4
training_type: 'lora'
target_modules: [to_out.0, to_v, to_k, to_q]
train_resolution: 9x32x48
enable_tiling: False
lr_warmup_steps: 2
seed: 42
model_path: ${at}/pipeline
data_root: ${at}/clips
caption_column: captions.txt
checkpointing_steps: 2
checkpointing_limit: 3
train_steps: 6
gradient_checkpointing: false
num_workers: 0
do_validation: true
validation_steps: 6
validation_dir: ${at}/clips
validation_prompts: captions.txt
validation_videos: videos.txt
num_inference_steps: 1
guidance_scale: 1
`,
  );
  const outputDir = await copyOfBase();
  const said = await go({ output_dir: outputDir, resume_from_checkpoint: "latest" }, yaml);
  assert.match(said, /resumed from .*checkpoint-4$/m);
  assert.doesNotMatch(said, /changed since|passed over/);
});

test("a run that would end before its checkpoint is refused", async () => {
  const flags = { output_dir: await copyOfBase(), train_steps: "3", resume_from_checkpoint: "latest" };
  await assert.rejects(go(flags), /checkpoint-4: is at step 4, the run ends at 3 \(train_steps\)$/);
});

test("with the newest checkpoint damaged and the other of another run, both are named, and what to do", async () => {
  const outputDir = await copyOfBase();
  await writeFile(join(outputDir, "checkpoint-4", "trainer_state.json"), "{");
  const flags = { output_dir: outputDir, seed: "2", train_steps: "5", resume_from_checkpoint: "latest" };
  await assert.rejects(go(flags), {
    name: "ResumeError",
    message:
      /checkpoint-4\/trainer_state\.json: not a trainer's state .*; .*checkpoint-3: was made with other arguments: seed: .*; if that is meant, go on with --allow_changed_arguments seed$/,
    hint: "if that is meant, go on with --allow_changed_arguments seed",
  });
});

test("a checkpoint of before there were fingerprints is gone on from if that is said", async () => {
  const outputDir = await copyOfBase();
  for (const { path } of await listCheckpoints(outputDir)) {
    const file = join(path, "trainer_state.json");
    const { fingerprint, files, sha256, totalSteps, ...old } = JSON.parse(
      await readFile(file, "utf8"),
    ) as Record<string, unknown>;
    await writeFile(file, `${JSON.stringify({ ...old, format: 1 })}\n`);
  }
  const flags = { output_dir: outputDir, train_steps: "6", resume_from_checkpoint: "latest" };
  await assert.rejects(go(flags), {
    name: "ResumeError",
    message: /checkpoint-4: does not say what it was made with, .*go on with --allow_changed_arguments all$/,
  });
  await go({ ...flags, allow_changed_arguments: ["all"] });
  const whole = await fresh();
  await go({ output_dir: whole, train_steps: "6" });
  assert.ok((await weights(outputDir, 6)).equals(await weights(whole, 6)));
  assert.match(
    await go({ ...flags, train_steps: "7" }),
    /resumed from .*checkpoint-6/,
    "the new ones say it",
  );
});

test("a named checkpoint goes into a folder of its own, not into another run's", async () => {
  const from = join(base, "checkpoint-3");
  const own = await fresh();
  await go({ output_dir: own, train_steps: "4", resume_from_checkpoint: from });
  assert.ok((await weights(own, 4)).equals(await weights(base, 4)));
  await assert.rejects(
    go({ output_dir: own, train_steps: "5", resume_from_checkpoint: from }),
    /holds a run already \(checkpoint-4\)/,
  );
  await assert.rejects(
    go({ output_dir: base, resume_from_checkpoint: from, overwrite_output_dir: "true" }),
    /resuming from a checkpoint in it and overwriting it exclude each other/,
  );
  assert.deepEqual(await steps(base), [3, 4]);
});

test("if the newest checkpoint is damaged, the command says so and takes the one before", async () => {
  const outputDir = await copyOfBase();
  const file = join(outputDir, "checkpoint-4", "optimizer.safetensors");
  const bytes = await readFile(file);
  bytes[bytes.length - 5]! ^= 1;
  await writeFile(file, bytes);
  const args = ["--config", join(folder, "lora.yaml"), "--output_dir", outputDir, "--train_steps", "4"];
  const named = await train([...args, "--resume", join(outputDir, "checkpoint-4")]);
  assert.equal(named.code, 2, named.stdout);
  assert.match(named.stderr, /^firstframe: .*checkpoint-4\/optimizer\.safetensors: tensor ".*checksum/m);
  const latest = await train([...args, "--resume", "latest"]);
  assert.equal(latest.code, 0, latest.stderr);
  assert.match(latest.stdout, /^passed over .*checkpoint-4\/optimizer\.safetensors: tensor ".*checksum/m);
  assert.match(latest.stdout, /^resumed from .*checkpoint-3$/m);
  assert.ok((await weights(outputDir, 4)).equals(await weights(base, 4)));
});

test("every argument says what its change means, and differences() goes by it", async () => {
  const all = await readArguments({ config: join(folder, "lora.yaml") });
  const before: RunFingerprint = { arguments: fixedArguments(all) };
  const counts: Record<string, number> = {};
  for (const name of Object.keys(ARGUMENTS) as ArgumentName[]) {
    const { resume } = ARGUMENTS[name];
    counts[resume] = (counts[resume] ?? 0) + 1;
    const changed = { ...all, [name]: Array.isArray(all[name]) ? ["other"] : "other" };
    const found = differences(before, { arguments: fixedArguments(changed) }).map((each) => each.name);
    assert.deepEqual(found, resume === "fixed" || resume === "never" ? [name] : [], name);
  }
  assert.deepEqual(Object.keys(counts).sort(), ["content", "fixed", "free", "never"]);
  // What the numbers don't depend on.
  const free = (Object.keys(ARGUMENTS) as ArgumentName[]).filter((name) => ARGUMENTS[name].resume === "free");
  for (const name of [
    "train_steps",
    "report_to",
    "checkpointing_limit",
    "output_dir",
    "do_validation",
  ] as const)
    assert.ok(free.includes(name), name);
});

/** What this process has the system do, in order. */
function recordDisk(): { events: string[]; stop: () => void } {
  const events: string[] = [];
  const { open, rename: renameFile } = promises;
  promises.open = async (...args) => {
    const handle = await open(...args);
    const sync = handle.sync.bind(handle);
    handle.sync = async () => {
      await sync();
      events.push(`sync ${args[0]}`);
    };
    return handle;
  };
  promises.rename = async (from, to) => {
    await renameFile(from, to);
    events.push(`rename ${to}`);
  };
  syncBuiltinESMExports();
  const stop = () => {
    Object.assign(promises, { open, rename: renameFile });
    syncBuiltinESMExports();
  };
  return { events, stop };
}

describe("checkpoints in a folder", () => {
  const write = async (at: string) => writeFile(join(at, "weights"), "w");

  test("what was just saved stays, whatever numbers there are", async () => {
    const outputDir = await fresh();
    for (const step of [7, 8, 9]) await saveCheckpoint(outputDir, step, {}, write);
    for (const step of [1, 2, 3]) {
      await saveCheckpoint(outputDir, step, {}, write, { limit: 2 });
      assert.ok((await steps(outputDir)).includes(step), `checkpoint-${step} is gone as it is saved`);
    }
    assert.deepEqual(await steps(outputDir), [2, 3]);
    await saveCheckpoint(outputDir, 4, {}, write, { limit: 1 });
    assert.deepEqual(await steps(outputDir), [4]);
  });

  test("all is on the disk before it has its name, and the name after it", async () => {
    const outputDir = await fresh();
    const { events, stop } = recordDisk();
    try {
      await saveCheckpoint(outputDir, 4, {}, async (at) => {
        await mkdir(join(at, "ema"));
        const tensor = { dtype: "U8", shape: [1], data: Uint8Array.of(1) } as const;
        for (const name of ["a.safetensors", "ema/b.safetensors"]) await saveFile({ tensor }, join(at, name));
        await writeJson(join(at, "ema", "config.json"), {});
      });
    } finally {
      stop();
    }
    const temporary = join(outputDir, ".checkpoint-4.tmp");
    const named = events.indexOf(`rename ${join(outputDir, "checkpoint-4")}`);
    assert.ok(named > 0, events.join("\n"));
    for (const name of ["a.safetensors", "ema/b.safetensors", "ema/config.json", "trainer_state.json"]) {
      const file = join(temporary, name);
      const hidden = join(dirname(file), `.${basename(file)}.`);
      const synced = events.findIndex((event) => event.startsWith(`sync ${hidden}`));
      const renamed = events.indexOf(`rename ${file}`);
      const folderSynced = events.indexOf(`sync ${dirname(file)}`, renamed);
      assert.ok(0 <= synced && synced < renamed && renamed < folderSynced && folderSynced < named, file);
    }
    assert.ok(events.indexOf(`sync ${outputDir}`) > named);
  });

  const LATEST = { resumeFromCheckpoint: "latest" };
  const spelling = COMMAND_SPELLING;

  test("cut short while one is replaced, the old or the new one is there", async () => {
    const outputDir = await fresh();
    await saveCheckpoint(outputDir, 4, { which: "old" }, write);
    // Between the two renames; and after them.
    await rename(join(outputDir, "checkpoint-4"), join(outputDir, ".checkpoint-4.old"));
    await checkpointsToResume(outputDir, LATEST, { spelling });
    assert.deepEqual(await readdir(outputDir), ["checkpoint-4"]);
    await cp(join(outputDir, "checkpoint-4"), join(outputDir, ".checkpoint-4.old"), { recursive: true });
    await cp(join(outputDir, "checkpoint-4"), join(outputDir, ".checkpoint-5.tmp"), { recursive: true });
    await checkpointsToResume(outputDir, LATEST, { spelling });
    assert.deepEqual(await readdir(outputDir), ["checkpoint-4"]);
  });
});

describe("a trainer in a program", () => {
  const SHORT: TrainerOptions = { trainSteps: 2, batchSize: 1, rank: 2, loraAlpha: 2, learningRate: 1e-3 };

  /** What a trainer made with these options is refused for, on models of its own. */
  async function refusal(options: TrainerOptions): Promise<InputError> {
    const models = tinyModels();
    const data = await tinyData(models.vae, 2);
    try {
      const trainer = await Trainer.create(models, data, { ...SHORT, ...options });
      trainer.dispose();
    } catch (error) {
      assert.ok(error instanceof ResumeError, String(error));
      return error;
    } finally {
      data.dispose();
      models.dispose();
    }
    return assert.fail("it was not refused");
  }

  test("keeps its folder to itself, in its own process too, until it is disposed", async () => {
    const outputDir = await fresh();
    const models = tinyModels();
    const data = await tinyData(models.vae, 2);
    const first = await Trainer.create(models, data, { ...SHORT, outputDir });
    const { message, file, hint } = await refusal({ outputDir });
    assert.match(message, /: another run of this process is writing to it; it keeps the folder until /);
    assert.equal(file, outputDir);
    assert.match(hint!, /until it ends or its trainer is disposed$/);
    await first.train();
    first.dispose();
    models.transformer.deleteAdapters();
    const next = await Trainer.create(models, data, { ...SHORT, outputDir, resumeFromCheckpoint: "latest" });
    assert.equal(next.step, 2);
    next.dispose();
    data.dispose();
    models.dispose();
    assert.deepEqual(await readdir(outputDir), ["checkpoint-2"]);
  });

  test("names options as code spells them", async () => {
    const outputDir = await fresh();
    const models = tinyModels();
    const data = await tinyData(models.vae, 2);
    const trainer = await Trainer.create(models, data, { ...SHORT, outputDir });
    await trainer.train();
    trainer.dispose();
    const held = await refusal({ outputDir });
    assert.match(
      held.message,
      /holds a run already \(checkpoint-2\); resumeFromCheckpoint: "latest" goes on with it, overwriteOutputDir: true removes its checkpoints, outputDir names another folder$/,
    );
    const latest = { outputDir, resumeFromCheckpoint: "latest" };
    const changed = await refusal({ ...latest, learningRate: 2e-3, trainSteps: 3 });
    assert.match(
      changed.message,
      /other arguments: learningRate: 0\.001 in the checkpoint, 0\.002 now; if that is meant, go on with allowChangedArguments: \["learningRate"\]$/,
    );
    assert.equal(
      changed.hint,
      'if that is meant, go on with allowChangedArguments: ["learningRate"]',
      "what to do is the hint",
    );
    assert.equal(changed.file, join(outputDir, "checkpoint-2"));
    assert.match((await refusal({ ...latest, trainSteps: 1 })).message, /the run ends at 1 \(trainSteps\)$/);
    models.transformer.deleteAdapters();
    const options = { ...SHORT, ...latest, learningRate: 2e-3, trainSteps: 3 };
    const next = await Trainer.create(models, data, {
      ...options,
      allowChangedArguments: ["learningRate"],
      log: (line) => assert.match(line, /: learningRate 0\.001 -> 0\.002$/),
    });
    assert.equal(next.step, 2);
    next.dispose();
    data.dispose();
    models.dispose();
  });
});

describe("two runs at once", () => {
  const LONG = ["--train_steps", "100000", "--checkpointing_steps", "100000"];

  test("the second is refused; a killed one's folder is free at once; a sleeping one keeps it", async () => {
    const outputDir = await fresh();
    const args = ["--config", join(folder, "lora.yaml"), "--output_dir", outputDir, "--report_to", "none"];
    const second = () => train([...args, "--resume", "latest", "--train_steps", "2"]);
    let started: (ended?: unknown) => void = () => {};
    const running = new Promise((resolve) => {
      started = resolve;
    });
    let signal: (name: NodeJS.Signals) => void = () => {};
    const first = train([...args, ...LONG], (text) => /step \d+\//.test(text) && started(), {
      started: (kill) => {
        signal = kill;
      },
    });
    assert.equal(await Promise.race([running, first.then(({ stderr }) => stderr)]), undefined);
    for (const asleep of [false, true]) {
      if (asleep) signal("SIGSTOP");
      const refused = await second();
      assert.equal(refused.code, 2, refused.stdout);
      assert.match(refused.stderr, /^firstframe: .*: another run is writing to it \(it holds .*\.lock\)$/m);
    }
    const planned = await train([...args, "--dry-run"]);
    assert.equal(planned.code, 2, planned.stdout);
    assert.match(planned.stderr, /^firstframe: .*: another run is writing to it /m);
    assert.deepEqual(await steps(outputDir), []);
    signal("SIGCONT");
    signal("SIGKILL");
    assert.equal((await first).signal, "SIGKILL");
    const taken = await second();
    assert.equal(taken.code, 0, taken.stderr);
    assert.deepEqual(await readdir(outputDir), ["checkpoint-2"], "no lock is left behind");
  });
});
