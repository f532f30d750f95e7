import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { readArguments } from "../../../src/train/arguments.js";
import { planTraining, runTraining } from "../../../src/train/run.js";
import { writeLoraTask } from "./command.js";

let folder = "";
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-refused-"));
  await writeLoraTask(folder);
  const flags = { output_dir: join(folder, "run"), train_steps: "1", report_to: "none" };
  await runTraining(await readArguments({ config: join(folder, "lora.yaml"), flags }), { log: () => {} });
  await rm(join(folder, "data/cache"), { recursive: true });
  // From here on no weights can be read, and so no clip can be encoded: whatever is refused is refused before.
  await cp(join(folder, "model"), join(folder, "whole"), { recursive: true });
  for (const name of await readdir(join(folder, "model"), { recursive: true }))
    if (name.endsWith(".safetensors")) await writeFile(join(folder, "model", name), "no weights");
  await cp(join(folder, "data"), join(folder, "held-out"), { recursive: true });
  await variant("learned", "transformer", { use_learned_positional_embeddings: true, patch_size_t: null });
  await variant("other-text", "text_encoder", { d_model: 16 });
  await variant("other-out", "transformer", { out_channels: 8 });
  await variant("text-only", "transformer", { in_channels: 4 });
  const texts = {
    "a-file": "not a folder",
    "logs-taken/logs": "not a folder",
    "samples-taken/validation_res": "not a folder",
    "cache-taken/video_latent": "not a folder",
    "held-out/one.txt": "one\n",
    "held-out/lost.txt": "videos/0.webp\n\nvideos/1.webp\nvideos/lost.webp\n",
    "held-out/folder.txt": "videos\nvideos/0.webp\nvideos/1.webp\n",
    "held-out/none.txt": "\n",
    "held-out/texts.txt": "videos/0.webp\none.txt\nvideos/1.webp\n",
    "data/lost.txt": "videos/0.webp\nvideos/1.webp\nvideos/lost.webp\n",
    "data/texts.txt": "videos/0.webp\ntexts.txt\nvideos/1.webp\n",
    "data/two.txt": "videos/0.webp\nvideos/1.webp\n",
    "data/other.txt": "one\ntwo\nthree\n",
    "data/latin.txt": Buffer.from("a\nb\u00e4r\nc\n", "latin1"),
  };
  for (const [name, text] of Object.entries(texts)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), text);
  }
});
after(() => rm(folder, { recursive: true, force: true }));

/** The model with other values in one of its configurations. */
async function variant(name: string, part: string, values: object): Promise<void> {
  await cp(join(folder, "model"), join(folder, name), { recursive: true });
  const file = join(folder, name, part, "config.json");
  const config = JSON.parse(await readFile(file, "utf8")) as object;
  await writeFile(file, JSON.stringify({ ...config, ...values }));
}

const validation = {
  do_validation: "true",
  validation_steps: "3",
  validation_dir: "@held-out",
  validation_prompts: "prompts.txt",
  validation_videos: "videos.txt",
};

/** Flags, "@" for the test's folder, and the beginning and the end of what is said. */
const REFUSED: [Record<string, string | string[]>, RegExp][] = [
  // Values by themselves
  [{ learning_rate: "-1" }, /^--learning_rate: expected a number of at least 0, found -1$/],
  [{ beta1: "1" }, /^--beta1: expected a number of at least 0 and below 1, found 1$/],
  [{ beta2: "1.5" }, /^--beta2: expected a number of at least 0 and below 1, found 1.5$/],
  [{ beta3: "-0.1" }, /^--beta3: expected a number of at least 0 and below 1, found -0.1$/],
  [{ epsilon: "-1" }, /^--epsilon: expected /],
  [{ weight_decay: "-1" }, /^--weight_decay: expected /],
  [{ max_grad_norm: "-1" }, /^--max_grad_norm: expected /],
  [{ rank: "0" }, /^--rank: expected a whole number of at least 1, found 0$/],
  [{ lora_alpha: "high" }, /^--lora_alpha: expected a number of at least 0, found high$/],
  [{ batch_size: "0" }, /^--batch_size: expected /],
  [{ train_steps: "0" }, /^--train_steps: expected /],
  [{ checkpointing_steps: "1.5" }, /^--checkpointing_steps: expected /],
  [{ caption_dropout: "2" }, /^--caption_dropout: expected /],
  [{ noised_image_dropout: "-1" }, /^--noised_image_dropout: expected /],
  [{ fps: "0" }, /^--fps: expected /],
  [
    { optimizer: "prodigy" },
    /^--optimizer: expected one of adamw, adam, muon, found prodigy; Prodigy is not there; .*$/,
  ],
  [{ lr_scheduler: "step" }, /^--lr_scheduler: expected one of /],
  [{ mixed_precision: "fp8" }, /^--mixed_precision: expected one of /],
  [{ model_type: "v2v" }, /^--model_type: expected one of /],
  // Sizes
  [{ train_resolution: "8x32x48" }, /^train_resolution: frames: expected 8 N \+ 1 .*, found 8$/],
  [{ train_resolution: "9x30x48" }, /^train_resolution: expected height to be a multiple of 16, found 30$/],
  [{ train_resolution: "32x48" }, /^train_resolution: expected FRAMESxHEIGHTxWIDTH.*, found 32x48$/],
  [
    { video_resolution_buckets: ["9x32x48", "9x32x40"] },
    /^video_resolution_buckets: expected width .*, found 40$/,
  ],
  [
    { model_path: "@learned", train_resolution: "9x32x64" },
    /^train_resolution: 9x32x64: this model's learned positions are for 4 x 6 latents .*, found 4 x 8$/,
  ],
  [
    { ...validation, train_resolution: "9x64x48" },
    /^train_resolution: 9x64x48: sampling has positions for at most 2 x 3 patches .*, found 4 x 3; do_validation false trains without samples$/,
  ],
  // Layers, schedules, models
  [{ target_modules: ["to_q", "to_kk"] }, /^target_modules: .*, found to_kk; did you mean to_k\?$/],
  [{ target_modules: ["norm_final"] }, /^target_modules: expected names of linear layers, found norm_final/],
  [
    { target_modules: ["all-linear"] },
    /^target_modules: .*, found all-linear; such as to_q to_k to_v to_out.0, ff/,
  ],
  [
    { timestep_bias_strategy: "range", timestep_bias_begin: "9", timestep_bias_end: "9" },
    /^timestep_bias_begin: expected less than timestep_bias_end \(9\), found 9$/,
  ],
  [
    { timestep_bias_strategy: "range", timestep_bias_end: "2000" },
    /^timestep_bias_end: expected at most 1000 /,
  ],
  [{ lr_scheduler: "polynomial", learning_rate: "1e-7" }, /^learning_rate: lr_scheduler polynomial ends at /],
  [
    { transformer_config: "@model/transformer/config.json" },
    /^transformer_config: a new transformer needs .* sft/,
  ],
  [
    { training_type: "sft", transformer_config: "@no.json" },
    /^transformer_config: .*no\.json: no such file$/,
  ],
  [
    { model_type: "t2v" },
    /model: expected a transformer for video from text, .* found 8; model_type i2v trains it$/,
  ],
  [
    { model_path: "@data" },
    /data: parts of the pipeline are missing: scheduler: no such folder; .*: no such folder$/,
  ],
  [
    { model_path: "@other-text" },
    /config\.json: expected the transformer's text_embed_dim \(12\) as d_model, found 16$/,
  ],
  [{ model_path: "@other-out" }, /other-out: expected .* VAE's 4 latent_channels as out_channels, found 8$/],
  [
    { model_path: "@text-only" },
    /text-only: expected a transformer for images and video, with 8 input .* found 4; model_type t2v trains it$/,
  ],
  // Data
  [{ data_root: "@nowhere" }, /nowhere: no such folder$/],
  [{ data_root: "@a-file" }, /a-file: expected a folder, found a file$/],
  [
    { caption_column: "no.txt" },
    /data: found neither no\.txt, metadata\.jsonl, metadata\.csv nor metadata\.json$/,
  ],
  [{ caption_column: "latin.txt" }, /latin\.txt: line 2 is not UTF-8; save the file as UTF-8$/],
  [{ video_column: "two.txt" }, /data: expected as many prompts .*, found 3 prompts, 2 videos$/],
  [{ video_column: "lost.txt" }, /data: files are missing: .*videos\/lost\.webp \(lost\.txt, line 3\)$/],
  [{ video_column: "texts.txt" }, /data\/texts\.txt: /],
  [{ image_column: "no.txt" }, /data\/no\.txt: no such file$/],
  [{ image_column: "two.txt" }, /found 3 prompts, 3 videos, 2 images$/],
  // Validation
  [{ do_validation: "true" }, /^validation_steps is missing: do_validation needs it$/],
  [{ ...validation, validation_steps: "4" }, /^validation_steps: expected a multiple of checkpointing_steps/],
  [{ ...validation, validation_dir: "@nowhere" }, /nowhere: no such folder$/],
  [{ ...validation, validation_prompts: "no.txt" }, /held-out\/no\.txt: no such file$/],
  [
    { ...validation, validation_prompts: "none.txt" },
    /held-out\/none\.txt: expected one entry a line, found an/,
  ],
  [
    { ...validation, validation_prompts: "one.txt" },
    /held-out: expected 1 videos \(one a prompt\), found 3$/,
  ],
  [{ ...validation, validation_images: "one.txt" }, /held-out: expected 3 images \(one a prompt\), found 1$/],
  [
    { ...validation, validation_images: "lost.txt" },
    /held-out: files are missing: .*lost\.webp \(lost\.txt, line 4\)$/,
  ],
  [
    { ...validation, validation_videos: "folder.txt" },
    /held-out: files are missing: .*videos \(folder\.txt, line 1\)$/,
  ],
  [{ ...validation, validation_videos: "texts.txt" }, /held-out\/one\.txt: /],
  // Folders
  [{ output_dir: "@a-file" }, /a-file: expected a folder to write to /],
  [{ output_dir: "@a-file/below" }, /a-file\/below: expected a folder to write to /],
  [{ output_dir: "@logs-taken" }, /logs-taken\/logs: expected a folder to write to .* is a file\)$/],
  [
    { ...validation, output_dir: "@samples-taken" },
    /validation_res: expected a folder to write to .* is a file\)$/,
  ],
  [{ cache_dir: "@a-file" }, /a-file: cache_dir: expected a folder to write to /],
  [
    { cache_dir: "@cache-taken" },
    /cache-taken\/video_latent: cache_dir: expected a folder to write to .* is a file\)$/,
  ],
  [{ tracker_name: "../../elsewhere" }, /^tracker_name: expected a name, found "\.\.\/\.\.\/elsewhere"$/],
  [{ model_name: "/elsewhere" }, /^model_name: expected a name, found "\/elsewhere"$/],
  // Runs
  [{ output_dir: "@run" }, /run: holds a run already \(checkpoint-1\); /],
  [{ resume_from_checkpoint: "@run/checkpoint-9" }, /checkpoint-9: no such checkpoint$/],
  [{ resume_from_checkpoint: "@run" }, /run: expected "latest" or a folder named checkpoint-STEP$/],
  [
    { output_dir: "@run", resume_from_checkpoint: "latest", overwrite_output_dir: "true" },
    /^overwrite_output_dir: /,
  ],
  [{ allow_changed_arguments: ["sede"] }, /^allow_changed_arguments: .*, found sede; did you mean seed\?$/],
];
const resumed = { output_dir: "@run", resume_from_checkpoint: "latest", train_steps: "2" };
/** Checkpoints that belong to other runs. A dry run says first what the run needs, for which it reads the weights. */
const OTHER_RUNS: typeof REFUSED = [
  [
    { ...resumed, rank: "8" },
    /checkpoint-1: was made with other arguments: rank: 4 in the checkpoint, 8 now$/,
  ],
  [{ ...resumed, rank: "8", allow_changed_arguments: "all" }, /rank: 4 in the checkpoint, 8 now$/],
  [
    { ...resumed, target_modules: "to_q" },
    /target_modules: to_q to_k to_v to_out.0 in the checkpoint, to_q now$/,
  ],
  [{ ...resumed, training_type: "sft" }, /training_type: lora in the checkpoint, sft now/],
  [
    { ...resumed, learning_rate: "1" },
    /learning_rate: 0.001 in the checkpoint, 1 now; if that is meant, go on with /,
  ],
  [
    { ...resumed, caption_column: "two.txt", video_column: "two.txt" },
    /data_root: 3 clips in the checkpoint, 2 clips now/,
  ],
  [
    { ...resumed, caption_column: "other.txt" },
    /data_root: captions \w+ in the checkpoint, captions \w+ now/,
  ],
];

const everything = async () => (await readdir(folder, { recursive: true })).sort();

async function assertRefused(
  run: typeof runTraining | typeof planTraining,
  table: typeof REFUSED,
): Promise<void> {
  const found = await everything();
  for (const [given, message] of table) {
    const flags = Object.fromEntries(
      Object.entries({ output_dir: "@out", ...given }).map(([name, value]) => [
        name,
        typeof value === "string" ? value.replace(/^@/, `${folder}/`) : value,
      ]),
    );
    const lines: string[] = [];
    const refused = async () => {
      const args = await readArguments({ config: join(folder, "lora.yaml"), flags });
      await run(args, { log: (line) => lines.push(line) });
    };
    await assert.rejects(
      refused,
      (error: Error & { kind?: string }) => {
        assert.ok(error.kind !== undefined, error.stack);
        assert.match(error.message, message);
        return true;
      },
      JSON.stringify(given),
    );
    assert.deepEqual(
      lines.filter((line) => line.startsWith("encoded")),
      [],
    );
  }
  assert.deepEqual(await everything(), found, "nothing is written");
}

test("what can be refused is refused before weights are read and clips decoded", async () => {
  await assertRefused(runTraining, [...REFUSED, ...OTHER_RUNS]);
});

test("a dry run refuses the same", async () => {
  const others = [...REFUSED, ...OTHER_RUNS].filter(isAboutRuns);
  await assertRefused(
    planTraining,
    REFUSED.filter((row) => !isAboutRuns(row)),
  );
  // Before these it says what the run would need.
  await assertRefused(
    planTraining,
    others.map(([flags, message]) => [{ ...flags, model_path: "@whole" }, message]),
  );
});

const isAboutRuns = ([flags]: (typeof REFUSED)[number]): boolean =>
  flags.resume_from_checkpoint !== undefined || flags.output_dir === "@run";

test("captions that are cut are counted, once for the data set", async () => {
  await writeFile(
    join(folder, "data/long.txt"),
    `${"a red ball ".repeat(9)}\na ball\na blue star turns left\n`,
  );
  for (const [file, line] of [
    ["prompts.txt", /^captions: 3 of 3 are cut at 4 tokens \(max_text_seq_length\); the longest has \d+: "/],
    [
      "long.txt",
      /^captions: 2 of 3 are cut at 4 tokens \(max_text_seq_length\); the longest has 28: "a red ball a red .*\.\.\.$/,
    ],
  ] as const) {
    const lines: string[] = [];
    const own = { caption_column: file, output_dir: join(folder, "out"), model_path: join(folder, "whole") };
    const flags = { ...own, ...validation, validation_dir: join(folder, "held-out") };
    const args = await readArguments({ config: join(folder, "lora.yaml"), flags });
    await planTraining(args, { log: (text) => lines.push(text) });
    const said = lines.filter((text) => text.includes("cut at"));
    assert.equal(said.length, 2, said.join("\n"));
    assert.match(said[0]!, line);
    assert.match(said[1]!, /^validation: captions: 3 of 3 are cut at 4 tokens/);
  }
});
