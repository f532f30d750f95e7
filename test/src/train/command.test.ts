import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import { parseCommand } from "../../../src/cli/arguments.js";
import { commands } from "../../../src/cli/commands.js";
import { useEngine } from "../../../src/engine/index.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { assertConsistent, readArguments } from "../../../src/train/arguments.js";
import { listCheckpoints } from "../../../src/train/checkpoint.js";
import { Clip } from "../../../src/video/clip.js";
import { probeClip, readClip } from "../../../src/video/read.js";
import { writeClip } from "../../../src/video/write.js";
import { safeOpen } from "../../../src/weights/safetensors.js";
import { main, train, writeLoraTask } from "./command.js";

let folder = "";
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-command-"));
  await writeLoraTask(folder);
});
after(() => rm(folder, { recursive: true, force: true }));

test("a run from a YAML file: cache, training, validation, logs; then longer, by a flag", async () => {
  const outputDir = join(folder, "run");
  const args = ["--config", join(folder, "lora.yaml"), "--output_dir", outputDir];
  const validation = [
    "--do_validation",
    "true",
    "--validation_steps",
    "3",
    "--validation_dir",
    join(folder, "data"),
  ];
  validation.push(
    "--validation_prompts",
    "prompts.txt",
    "--validation_videos",
    "videos.txt",
    "--num_inference_steps",
    "2",
  );
  const { code, stdout, stderr } = await train([...args, ...validation, "--use_ema", "True"]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /encoded 3\/3 .*videos\/2\.webp: 9 frames 48x32/);
  assert.match(stdout, /training a LoRA of rank 4/);
  assert.match(stdout, /step 6\/6 {2}loss \d/);
  assert.match(stdout, /validation at step 6: .*psnr \d/);
  assert.deepEqual(
    (await listCheckpoints(outputDir)).map(({ step }) => step),
    [3, 6],
  );
  const sample = await probeClip(join(outputDir, "validation_res", "validation-6-2.mp4"));
  assert.deepEqual([sample.numFrames, sample.width, sample.height, sample.fps], [9, 48, 32, 15]);
  const rows = (await readFile(join(outputDir, "logs", "metrics.jsonl"), "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, number>);
  assert.deepEqual(
    rows.filter((row) => row.loss !== undefined).map(({ step }) => step),
    [1, 2, 3, 4, 5, 6],
  );
  assert.deepEqual(
    rows.filter((row) => row["validation/ssim"] !== undefined).map(({ step }) => step),
    [3, 6],
  );
  assert.equal(rows[0]!.lr, 0);
  const events = await readdir(join(outputDir, "logs", "finetrainer-cogvideo"));
  assert.match(events[0]!, /^events\.out\.tfevents\./);

  const longer = await train([...args, "--resume", "latest", "--train_steps", "7", "--use_ema", "true"]);
  assert.equal(longer.code, 0, longer.stderr);
  assert.match(longer.stdout, /3 clips in the cache, 0 of them encoded now/);
  assert.match(longer.stdout, /resumed from .*checkpoint-6/);
  assert.match(longer.stdout, /step 7\/7/);
});

test("sample applies a LoRA at the strength that it was trained with: validation's clip comes out again", async () => {
  const outputDir = join(folder, "strength");
  const args = ["--config", join(folder, "lora.yaml"), "--output_dir", outputDir, "--rank", "4"];
  args.push("--lora_alpha", "2", "--train_steps", "3", "--learning_rate", "0.02", "--report_to", "none");
  const data = join(folder, "data");
  args.push("--do_validation", "true", "--validation_steps", "3", "--validation_dir", data, "--seed", "5");
  args.push("--validation_prompts", "prompts.txt", "--validation_videos", "videos.txt");
  args.push("--num_inference_steps", "2");
  const trained = await train(args);
  assert.equal(trained.code, 0, trained.stderr);

  const lora = join(outputDir, "checkpoint-3");
  const file = await safeOpen(join(lora, "pytorch_lora_weights.safetensors"));
  const header = JSON.parse(file.metadata().get("lora_adapter_metadata")!) as Record<string, unknown>;
  await file.close();
  assert.deepEqual([header["transformer.r"], header["transformer.lora_alpha"]], [4, 2]);

  const image = join(folder, "first.png");
  await writeClip(image, (await readClip(join(data, "videos", "0.webp"))).slice(0, 1));
  const prompt = (await readFile(join(data, "prompts.txt"), "utf8")).split("\n")[0]!;
  const sample = (name: string, ...flags: string[]) => {
    const out = join(folder, name);
    const asked = ["--image", image, "--prompt", prompt, "--num-inference-steps", "2", "--seed", "5"];
    const argv = [main, "sample", "--model", join(folder, "model"), ...asked, "--out", out, "--fps", "15"];
    const { status, stderr } = spawnSync(process.execPath, [...argv, ...flags], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    return { out, stderr };
  };
  const made = sample("strength.mp4", "--lora", lora);
  assert.match(made.stderr, /^lora: .*checkpoint-3.*: 8 layers, rank 4, alpha 2, scale 1$/m);
  // The files themselves say when they were made.
  const validation = await readClip(join(outputDir, "validation_res", "validation-3-0.mp4"));
  assert.deepEqual((await readClip(made.out)).data, validation.data);
  for (const flags of [[], ["--lora", lora, "--lora-scale", "2"]]) {
    const other = await readClip(sample("other.mp4", ...flags).out);
    assert.notDeepEqual(other.data, validation.data, `${flags}: the adapter changes what is sampled`);
    await rm(join(folder, "other.mp4"));
  }
});

test("what firstframe encode put into the cache is there for training", async () => {
  const cache = ["--cache-dir", join(folder, "filled")];
  const data = ["--model", join(folder, "model"), "--data-root", join(folder, "data")];
  const options = ["--train-resolution", "9x32x48", "--no-tiling", "--seed", "7"];
  const { status, stderr } = spawnSync(process.execPath, [main, "encode", ...data, ...options, ...cache], {
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  const args = [
    "--config",
    join(folder, "lora.yaml"),
    "--cache_dir",
    join(folder, "filled"),
    "--train_steps",
    "1",
  ];
  const run = ["--output_dir", join(folder, "filled-run"), "--report_to", "none", "--seed", "8"];
  const trained = await train([...args, ...run]);
  assert.equal(trained.code, 0, trained.stderr);
  assert.match(trained.stdout, /3 clips in the cache, 0 of them encoded now/);

  const latents = join(folder, "filled", "video_latent", "cogvideox1.5-i2v", "9x32x48");
  await flipLastBit(join(latents, (await readdir(latents))[0]!));
  const again = spawnSync(process.execPath, [main, "encode", ...data, ...options, ...cache], {
    encoding: "utf8",
  });
  assert.equal(again.status, 0, again.stderr);
  assert.match(again.stderr, /video_latent.*\.safetensors: tensor ".*checksum.*; it is encoded again$/m);
  assert.equal(again.stdout.match(/^\d\/3 encoded/gm)?.length, 1, again.stdout);
});

test("encode reads a training's own file, and fills the cache of a transformer that is new", async () => {
  const config = join(folder, "new.yaml");
  await writeFile(
    config,
    `model_path: ${folder}/model
transformer_config: ${folder}/model/transformer/config.json
training_type: sft
data_root: ${folder}/data
cache_dir: ${folder}/new-cache
video_resolution_buckets: [9x32x48, 9x16x32]
enable_tiling: false
fit: crop
train_steps: 1
`,
  );
  const encode = (...flags: string[]) =>
    spawnSync(process.execPath, [main, "encode", "--config", config, ...flags], { encoding: "utf8" });
  const { status, stderr, stdout } = encode();
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^3 of 3 clips are in the cache$/m);
  const args = ["--config", config, "--seed", "5", "--output-dir", join(folder, "new-run")];
  const trained = await train([...args, "--report-to", "none"]);
  assert.equal(trained.code, 0, trained.stderr);
  assert.match(trained.stdout, /3 clips in the cache, 0 of them encoded now/);

  const empty = join(folder, "empty.yaml");
  await writeFile(empty, "# nothing yet\n");
  for (const [flags, message] of [
    [["--transformer_config", empty], /^firstframe: transformer_config: .*empty\.yaml: expected keys/m],
    [["--fit", "squeeze"], /^firstframe: --fit: expected one of resize, crop, found squeeze$/m],
    [["--model", "a", "--model_path", "b"], /^firstframe: --model and --model_path are the same flag/m],
    [["--transformer_config", "no.json"], /^firstframe: transformer_config: no\.json: no such file$/m],
  ] as const) {
    const refused = encode(...flags);
    assert.equal(refused.status, 2, refused.stderr);
    assert.match(refused.stderr, message);
  }
});

test("encode takes as many frames of a clip as it is told, at the rate it is told, and says what is wrong before it decodes", async () => {
  const clip = proceduralClip({ seed: 2, numFrames: 20, height: 16, width: 16, fps: 8 }).clip;
  const path = join(folder, "twenty.webp");
  await writeClip(path, new Clip({ ...clip, fps: 25 }), { lossless: true });
  const out = join(folder, "twenty");
  const encode = (...flags: string[]) => {
    const argv = [main, "encode", "--model", join(folder, "model"), path, "--out", out, ...flags];
    return spawnSync(process.execPath, argv, { encoding: "utf8" });
  };
  for (const [flags, lines] of [
    [["--frames", "9"], "9x16x16"],
    [["--frames", "17", "--frame_extraction", "middle"], "17x16x16"],
    [["--fps", "8", "--frames", "1"], "1x16x16"],
  ] as const) {
    const { status, stdout, stderr } = encode(...flags);
    assert.equal(status, 0, stderr);
    assert.match(stdout, new RegExp(`twenty\\.webp: ${lines} -> `));
  }
  for (const [flags, message] of [
    [[], /twenty\.webp: expected 8 N \+ 1 frames, found 20; --frames 17 takes 17 of them$/m],
    [["--fps", "8"], /twenty\.webp: expected 8 N \+ 1 frames, found 6; --frames 1 takes 1 of them$/m],
    [
      ["--frames", "25"],
      /twenty\.webp: expected at least 25 frames, found 20; --frames 17 takes 17 of them$/m,
    ],
    [["--frames", "20"], /^firstframe: --frames: expected 8 N \+ 1, such as 49 or 81, found 20$/m],
    [
      ["--frames", "9", "--frame_extraction", "chunk"],
      /^firstframe: --frame_extraction chunk is for data sets/m,
    ],
    [["--fps", "0"], /^firstframe: --fps: expected /m],
  ] as const) {
    const { status, stderr } = encode(...flags);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
  const data = ["--model", join(folder, "model"), "--data_root", join(folder, "data"), "--frames", "9"];
  const { status, stderr } = spawnSync(process.execPath, [main, "encode", ...data], { encoding: "utf8" });
  assert.equal(status, 2, stderr);
  assert.match(stderr, /--frames is for single clips; --train_resolution says/);
});

test("a data set's clips can be cut into samples of a rate", async () => {
  const cache = join(folder, "parts");
  const data = ["--model", join(folder, "model"), "--data-root", join(folder, "data"), "--cache-dir", cache];
  const options = [
    "--train-resolution",
    "1x32x48",
    "--frame_extraction",
    "chunk",
    "--fps",
    "8",
    "--no-tiling",
  ];
  const encode = () =>
    spawnSync(process.execPath, [main, "encode", ...data, ...options], { encoding: "utf8" });
  const { status, stdout, stderr } = encode();
  assert.equal(status, 0, stderr);
  const [, count] = /^(\d+) of \1 clips are in the cache$/m.exec(stdout) ?? [];
  assert.ok(Number(count) > 3, stdout);
  assert.match(stdout, /part 2 of \d, of 1 frame each/);
  assert.equal(encode().stdout.match(/was there/g)?.length, Number(count));
});

test("a run over a damaged cache encodes what is damaged again, and ends with the same weights", async () => {
  const args = (name: string) => ["--config", join(folder, "lora.yaml"), "--output_dir", join(folder, name)];
  const cacheDir = join(folder, "bad-cache");
  const weights = (name: string) =>
    readFile(join(folder, name, "checkpoint-6", "pytorch_lora_weights.safetensors"));
  const whole = await train([...args("from-whole"), "--cache_dir", cacheDir, "--report_to", "none"]);
  assert.equal(whole.code, 0, whole.stderr);
  const files = (await readdir(cacheDir, { recursive: true })).filter((name) =>
    name.endsWith(".safetensors"),
  );
  assert.equal(files.length, 6);
  for (const name of files) await flipLastBit(join(cacheDir, name));
  const damaged = await train([...args("from-damaged"), "--cache_dir", cacheDir, "--report_to", "none"]);
  assert.equal(damaged.code, 0, damaged.stderr);
  assert.equal(damaged.stdout.match(/checksum.*; it is encoded again$/gm)?.length, 6, damaged.stdout);
  assert.ok((await weights("from-damaged")).equals(await weights("from-whole")));
});

async function flipLastBit(file: string): Promise<void> {
  const bytes = await readFile(file);
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(file, bytes);
}

test("a dry run says what would happen and writes nothing", async () => {
  const outputDir = join(folder, "dry");
  const args = [
    "--config",
    join(folder, "lora.yaml"),
    "--output_dir",
    outputDir,
    "--cache_dir",
    join(folder, "no-cache"),
  ];
  const { code, stdout } = await train([...args, "--dry-run", "--target_modules", "to_q", "to_v"]);
  assert.equal(code, 0);
  assert.match(stdout, /data: 3 clips: 3 of 9x32x48/);
  assert.match(stdout, /on to_q, to_v: /);
  assert.match(stdout, /memory: about \d.*weights .*optimizer/);
  assert.match(stdout, /speed: .* steps an hour/);
  assert.ok(!existsSync(outputDir) && !existsSync(join(folder, "no-cache")));
});

test("broken clips are named, and end the run or are left out as asked", async () => {
  const dataRoot = join(folder, "broken");
  const filter = (path: string) => basename(path) !== "cache";
  await cp(join(folder, "data"), dataRoot, { recursive: true, filter });
  await writeFile(join(dataRoot, "videos", "0.webp"), "no clip at all");
  const whole = await readFile(join(dataRoot, "videos", "1.webp"));
  await writeFile(join(dataRoot, "videos", "1.webp"), whole.subarray(0, whole.length / 2));
  const args = ["--config", join(folder, "lora.yaml"), "--data_root", dataRoot, "--train_steps", "1"];
  args.push("--report_to", "none", "--output_dir", join(folder, "broken-run"));
  const refused = await train(args);
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /^firstframe: .*broken\/videos\/0\.webp: /m);
  const skipping = await train([...args, "--broken_clips", "skip"]);
  assert.equal(skipping.code, 0, skipping.stderr);
  assert.match(skipping.stdout, /^skipped .*videos\/0\.webp: /m);
  assert.match(skipping.stdout, /^skipped .*videos\/1\.webp: /m);
  assert.match(skipping.stdout, /^1 clips in the cache, 1 of them encoded now$/m);
});

test("SIGTERM and SIGINT save and leave; resumed, the run ends with the weights of an uninterrupted one", async () => {
  const args = (name: string) => {
    const own = ["--output_dir", join(folder, name), "--train_steps", "20", "--report_to", "none"];
    return ["--config", join(folder, "lora.yaml"), ...own];
  };
  const whole = await train(args("whole"));
  assert.equal(whole.code, 0, whole.stderr);
  for (const [signal, expected] of [
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ] as const) {
    let sent = false;
    const stopped = await train([...args("stopped"), "--resume", "latest"], (text, kill) => {
      if (sent || !/step \d+\/20/.test(text)) return;
      sent = true;
      kill(signal);
    });
    assert.equal(stopped.code, expected, stopped.stderr);
    assert.match(stopped.stdout, /stopped at step \d+; go on with --resume latest/);
  }
  const resumed = await train([...args("stopped"), "--resume", "latest"]);
  assert.equal(resumed.code, 0, resumed.stderr);
  const weights = (name: string) =>
    readFile(join(folder, name, "checkpoint-20", "pytorch_lora_weights.safetensors"));
  assert.ok((await weights("whole")).equals(await weights("stopped")));
});

test("names of diffusers', finetrainers' and accelerate's trainers mean what they mean there", async () => {
  const config = join(folder, "theirs.yaml");
  await writeFile(
    config,
    `pretrained_model_name_or_path: a/b
instance_data_root: clips
training_type: full-finetune
lr: 3e-4
train_batch_size: 2
num_train_epochs: 3
max_train_steps: 7
checkpoints_total_limit: 4
adam_beta1: 0.8
adam_beta2: 0.9
adam_epsilon: 1e-7
adam_weight_decay: 0.5
caption_dropout_p: 0.25
dataloader_num_workers: 0
log_with: jsonl
`,
  );
  const args = await readArguments({ config });
  const expected = {
    model_path: "a/b",
    data_root: "clips",
    training_type: "sft",
    learning_rate: 3e-4,
    batch_size: 2,
    train_epochs: 3,
    train_steps: 7,
    checkpointing_limit: 4,
    beta1: 0.8,
    beta2: 0.9,
    epsilon: 1e-7,
    weight_decay: 0.5,
    caption_dropout: 0.25,
    num_workers: 0,
    report_to: "jsonl",
  };
  for (const [name, value] of Object.entries(expected))
    assert.equal(args[name as keyof typeof expected], value, name);
  // A flag wins over the file, whichever of the names either uses.
  assert.equal((await readArguments({ config, flags: { learning_rate: "1" } })).learning_rate, 1);
  assert.equal((await readArguments({ config, flags: { lr: "2" } })).learning_rate, 2);
  const { values } = parseCommand("train", commands.train, ["--lr", "1e-3", "--max-train-steps", "9"]);
  assert.deepEqual([values.learning_rate, values.train_steps], ["1e-3", "9"]);

  await assert.rejects(
    readArguments({ config, flags: { lr: "fast" } }),
    /^ArgumentError: --lr: expected a number of at least 0, found fast$/,
  );
  await writeFile(config, "lr: 1\nlearning_rate: 2\n");
  await assert.rejects(
    readArguments({ config }),
    /^ArgumentError: .*theirs\.yaml: lr and learning_rate are the same argument$/,
  );
  const parse = (...argv: string[]) => parseCommand("train", commands.train, argv);
  assert.throws(
    () => parse("--learning_rate", "1", "--lr", "2"),
    /--lr and --learning_rate are the same flag/,
  );
  assert.throws(
    () => parse("--use_8bit_adam"),
    /--use_8bit_adam is not supported; 8-bit moments need bitsandbytes/,
  );
});

test("arguments are refused by file and key, or by flag", async () => {
  const unknown = join(folder, "unknown.yaml");
  await writeFile(unknown, "learning-rate: 1\n");
  const broken = join(folder, "broken.yaml");
  await writeFile(broken, "rank: 4\n  alpha: [\n");
  const deep = join(folder, "deep.yaml");
  await writeFile(deep, `rank: ${"[".repeat(100_000)}`);
  const lora = join(folder, "lora.yaml");
  const refusals: [Parameters<typeof readArguments>[0], RegExp][] = [
    [{ config: unknown }, /unknown\.yaml: learning-rate: unknown argument; did you mean learning_rate\?$/],
    [{ config: broken }, /broken\.yaml: line \d: not valid YAML/],
    [{ config: deep }, /deep\.yaml: not valid YAML \(nested too deeply\)/],
    [
      { config: lora, flags: { learning_rate: "fast" } },
      /^--learning_rate: expected a number of at least 0, found fast$/,
    ],
    [
      { config: lora, flags: { optimizer: "prodigy" } },
      /^--optimizer: expected one of adamw, adam, muon, found prodigy; Prodigy is not there; adamw and muon need a learning_rate/,
    ],
    [
      { config: lora, flags: { optimizer: "adamw-bnb-8bit" } },
      /found adamw-bnb-8bit; 8-bit moments need bitsandbytes/,
    ],
    [{ config: lora, flags: { optimizer: "adam8bit" } }, /found adam8bit; 8-bit moments need bitsandbytes/],
    [
      { config: lora, flags: { optimizer: "Lion" } },
      /found Lion; Lion is not there; adamw takes 3 to 10 times/,
    ],
    [{ config: lora, flags: { use_8bit_adam: "true" } }, /^--use_8bit_adam: not supported; 8-bit moments/],
    [
      { config: lora, flags: { report_to: "wandb" } },
      /^--report_to: expected one of .*, found wandb; it needs its own service; logs\/metrics\.jsonl has a line a step, which its Python SDK can send$/,
    ],
    [{ config: lora, flags: { use_ema: "maybe" } }, /^--use_ema: expected true or false, found maybe$/],
    [
      { config: lora, flags: { batch_size: "0" } },
      /^--batch_size: expected a whole number of at least 1, found 0$/,
    ],
  ];
  for (const [source, message] of refusals) {
    await assert.rejects(readArguments(source), { name: "ArgumentError", message });
  }
  await assert.rejects(readArguments({ config: unknown }), { hint: "did you mean learning_rate?" });
  const args = await readArguments({ config: lora, flags: { target_modules: ["to_q"], rank: "2" } });
  assert.throws(() => assertConsistent({ ...args, allow_changed_arguments: ["sede"] }), {
    message: "allow_changed_arguments: expected arguments or all, found sede; did you mean seed?",
    hint: "did you mean seed?",
  });
  assert.deepEqual([args.target_modules, args.rank, args.lora_alpha, args.beta2], [["to_q"], 2, 4, 0.95]);
  assert.throws(
    () => assertConsistent({ ...args, data_root: undefined }),
    /^ArgumentError: data_root is missing$/,
  );
  assert.throws(
    () => assertConsistent({ ...args, do_validation: true, validation_steps: 4 }),
    /validation_dir is missing: do_validation needs it/,
  );
});

const refusals: [string, string[], RegExp][] = [
  ["a missing file", ["--config", "nowhere.yaml"], /^firstframe: nowhere\.yaml: no such file$/],
  [
    "no model",
    ["--config", "LORA", "--model_path", "DATA"],
    /data: parts of the pipeline are missing: scheduler: no such folder; .*transformer: no such folder$/,
  ],
  ["no checkpoint", ["--config", "LORA", "--resume", "checkpoint-4"], /checkpoint-4: no such checkpoint$/],
];
for (const [what, args, expected] of refusals) {
  test(`bad input in one line, exit code 2, nothing written: ${what}`, async () => {
    const names: Record<string, string> = { LORA: "lora.yaml", DATA: "data" };
    const given = args.map((arg) => (arg in names ? join(folder, names[arg]!) : arg));
    const outputDir = join(folder, "refused");
    const { code, stderr } = await train([...given, "--output_dir", outputDir]);
    const lines = stderr
      .trimEnd()
      .split("\n")
      .filter((line) => line.startsWith("firstframe: "));
    assert.equal(lines.length, 1, stderr);
    assert.match(lines[0]!, expected);
    assert.equal(code, 2);
    assert.ok(!existsSync(outputDir));
  });
}

test("a model without some of its parts, and files where folders belong: one line each, before any work", async () => {
  const model = join(folder, "part");
  await cp(join(folder, "model"), model, { recursive: true });
  for (const name of ["text_encoder", "tokenizer"]) await rm(join(model, name), { recursive: true });
  const file = join(folder, "a-file");
  await writeFile(file, "");
  const config = ["--config", join(folder, "lora.yaml"), "--report_to", "none", "--train_steps", "1"];
  for (const [args, message] of [
    [
      ["--model_path", model, "--output_dir", join(folder, "part-run")],
      /^firstframe: .*part: parts of the pipeline are missing: tokenizer: no such folder; text_encoder: no such folder$/m,
    ],
    [["--output_dir", file], /^firstframe: .*a-file: expected a folder to write to \(.*\)$/m],
    [
      ["--output_dir", join(file, "run")],
      /^firstframe: .*a-file\/run: expected a folder to write to \(.*\)$/m,
    ],
    [
      ["--cache_dir", file, "--output_dir", join(folder, "part-run")],
      /^firstframe: .*a-file: cache_dir: expected a folder to write to \(.*\)$/m,
    ],
  ] as const) {
    const { code, stderr } = await train([...config, ...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /^ +at /m);
  }
});
