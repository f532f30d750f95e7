/** The commands of the toy world that the small pipeline was made by; those of data set and overfitting are tested with training. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { loadFile, safeOpen } from "../../../src/weights/safetensors.js";

const main = fileURLToPath(new URL("../../../src/cli/main.js", import.meta.url));
const stored = fileURLToPath(new URL("../../../../notebooks/models/procedural", import.meta.url));
let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-procedural-"));
});
after(() => rm(folder, { recursive: true, force: true }));

const procedural = (...argv: string[]) =>
  spawnSync(process.execPath, [main, "procedural", ...argv], { cwd: folder, encoding: "utf8" });

test("procedural pipeline makes the tokenizer and the text encoder of the stored pipeline again", async () => {
  const out = join(folder, "model");
  await cp(join(stored, "vae"), join(out, "vae"), { recursive: true });
  const { status, stdout, stderr } = procedural("pipeline", "--out", out, "--seed", "0");
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^\S+model: \d+ tokens\n$/);
  for (const file of ["tokenizer/tokenizer.json", "model_index.json"])
    assert.equal(await readFile(join(out, file), "utf8"), await readFile(join(stored, file), "utf8"), file);
  const weights = async (from: string) => {
    const tensors = await loadFile(join(from, "text_encoder/model.safetensors"));
    return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor.dataSync()]));
  };
  assert.deepEqual(await weights(out), await weights(stored));
});

test("procedural train-transformer trains in a world, goes on where it was stopped, and stores what it measured", async () => {
  const model = join(folder, "moving");
  const run = (...argv: string[]) => {
    const { status, stdout, stderr } = procedural(...argv);
    assert.equal(status, 0, stderr);
    return stdout;
  };
  const made = run(
    ...[
      "pipeline",
      "--out",
      model,
      "--vae",
      join(stored, "vae"),
      "--worlds",
      "plain,paced",
      "--text-layers",
      "1",
      "--text-steps",
      "2",
    ],
    ...["--layers", "1", "--heads", "2", "--patch-size", "1"],
  );
  assert.match(made, /% of the sprites' words tell their sprite's direction/);
  const config = JSON.parse(await readFile(join(model, "transformer/config.json"), "utf8"));
  assert.deepEqual([config.num_layers, config.num_attention_heads, config.patch_size], [1, 2, 1]);
  const untrained = await readFile(join(model, "transformer/diffusion_pytorch_model.safetensors"));
  const training = (world: string, steps: number) => [
    ...["train-transformer", "--model", model, "--work", "work", "--world", world, "--steps", String(steps)],
    ...["--clips", "2", "--batch-size", "1", "--frames", "9", "--height", "32", "--width", "32"],
    ...["--evaluation-steps", "15", "--evaluation-clips", "1", "--worlds", `${world},pair`],
  ];
  const train = (steps: number) => run(...training("plain", steps));
  assert.match(train(2), /step 2, sampled in 10, guidance 1: left at 1 s /);
  const other = procedural(...training("paced", 3));
  assert.equal(other.status, 2);
  assert.match(
    other.stderr,
    /was made with other arguments: data_root: .*; use another --work folder$/m,
    "no flag is named that the command does not have",
  );
  // Ten times as long, so that what depends on the length would show.
  const said = train(20);
  assert.match(said, /step 15, sampled in 10, guidance 2: /);
  assert.match(said, /step 20, sampled in 1, guidance 1: /);
  assert.doesNotMatch(said, /step 2, sampled/, "it begins anew");
  const { settings, runs, yardsticks } = JSON.parse(await readFile(join(model, "motion.json"), "utf8"));
  assert.deepEqual([settings.world, settings.worlds, settings.steps], ["plain", ["plain", "pair"], 20]);
  assert.deepEqual(
    runs.map(({ steps, guidance }: { steps: number; guidance: number }) => [steps, guidance]),
    [
      [1, 1],
      [10, 1],
      [10, 2],
    ],
  );
  assert.ok(yardsticks.still.psnr > 0);
  const trained = await readFile(join(model, "transformer/diffusion_pytorch_model.safetensors"));
  assert.notDeepEqual(trained, untrained);
  const lines = (await readFile(join(folder, "work/log.jsonl"), "utf8")).trimEnd().split("\n");
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).step),
    Array.from({ length: 20 }, (_, i) => i + 1),
  );
  const wrong = procedural("pipeline", "--out", model, "--worlds", "flat");
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /--worlds: expected plain, paced, .* or all, found "flat"/);
});

test("procedural train makes a pipeline part by part, and takes what is there as it is", async () => {
  const out = join(folder, "from-nothing");
  // The VAE is there: its training has a test of its own, and its steps take long.
  await cp(join(stored, "vae"), join(out, "vae"), { recursive: true });
  const run = () =>
    procedural(
      ...["train", "--out", out, "--work", "train-work"],
      ...["--text-steps", "1", "--steps", "1", "--evaluation-clips", "1"],
    );
  const first = run();
  assert.equal(first.status, 0, first.stderr);
  assert.match(first.stdout, /vae is there/);
  assert.match(first.stdout, /step 1, sampled in 10, guidance 2: /);
  const config = JSON.parse(await readFile(join(out, "transformer/config.json"), "utf8"));
  assert.deepEqual([config.num_layers, config.num_attention_heads, config.patch_size], [6, 8, 2]);
  const files = await readdir(join(out, "transformer"));
  assert.ok(files.includes("diffusion_pytorch_model.safetensors.index.json"), files.join());
  for (const file of files) assert.ok((await stat(join(out, "transformer", file))).size < 3e6, file);
  const again = run();
  assert.equal(again.status, 0, again.stderr);
  assert.match(again.stdout, /text_encoder is there/);
});

test("procedural real-size writes a folder with the real model's shapes, in bfloat16", async () => {
  const out = join(folder, "real-size");
  const { status, stdout, stderr } = procedural("real-size", out, "--layers", "1", "--text-layers", "1");
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^T5EncoderModel: 0.32 billion weights$/m);
  const shapes = async (file: string) => {
    const opened = await safeOpen(join(out, file));
    const all = opened.keys().map((key): [string, string] => {
      const { dtype, shape } = opened.info(key);
      return [key, `${dtype} [${shape}]`];
    });
    await opened.close();
    return Object.fromEntries(all);
  };
  // As the published files have them.
  const transformer = await shapes("transformer/diffusion_pytorch_model.safetensors");
  assert.equal(transformer["transformer_blocks.0.ff.net.0.proj.weight"], "BF16 [12288,3072]");
  assert.equal(transformer["patch_embed.proj.weight"], "BF16 [3072,256]");
  assert.equal(transformer["proj_out.weight"], "BF16 [128,3072]");
  const text = await shapes("text_encoder/model.safetensors");
  assert.equal(text["shared.weight"], "BF16 [32128,4096]");
  assert.equal(text["encoder.block.0.layer.1.DenseReluDense.wi_1.weight"], "BF16 [10240,4096]");
  const vae = await shapes("vae/diffusion_pytorch_model.safetensors");
  assert.equal(vae["decoder.conv_out.conv.weight"], "BF16 [3,128,3,3,3]");
  const config = JSON.parse(await readFile(join(out, "transformer/config.json"), "utf8"));
  assert.deepEqual([config.num_attention_heads, config.sample_frames], [48, 81]);
});

test("procedural commands say in one line that there is nothing to export or to store", async () => {
  await writeFile(
    join(folder, "train.yaml"),
    `model_path: ${stored}\ndata_root: .\noutput_dir: none\ntrain_resolution: 17x64x96\n`,
  );
  for (const argv of [
    ["train-vae", "--export", "--work", "none"],
    ["store-transformer", "--config", "train.yaml"],
  ]) {
    const { status, stderr } = procedural(...argv);
    assert.equal(status, 2, stderr);
    assert.match(stderr, /^firstframe: none: no checkpoint/m);
    assert.ok(!/^ +at /m.test(stderr), stderr);
  }
});

test("procedural evaluate prints what the sprites do, beside the yardsticks, and draws it", async () => {
  const strip = join(folder, "strip.png");
  const film = join(folder, "film.webp");
  const size = ["--clips", "2", "--frames", "9", "--height", "32", "--width", "48"];
  const { status, stdout, stderr } = procedural(
    ...[
      "evaluate",
      "--model",
      stored,
      ...size,
      "--steps",
      "1",
      "--guidance",
      "1",
      "--json",
      "--strip",
      strip,
      "--film",
      film,
    ],
  );
  assert.equal(status, 0, stderr);
  const report = JSON.parse(stdout) as Record<string, unknown> & { yardsticks: Record<string, object> };
  const fields = ["sprites_left", "direction", "swap", "flicker_ratio", "psnr", "ssim"];
  for (const field of fields) assert.ok(field in report, field);
  assert.deepEqual(Object.keys(report.sprites_left as object).sort(), ["0.5", "1", "2"]);
  assert.deepEqual(Object.keys(report.yardsticks), [
    "still",
    "vae",
    "untrained",
    "oracle",
    "oracle_through_vae",
  ]);
  for (const yardstick of Object.values(report.yardsticks))
    for (const field of fields) assert.ok(field in yardstick, field);
  const { width, height } = await sharp(strip).metadata();
  assert.deepEqual([width, height], [6 * 48, 4 * 32]);
  const moving = await sharp(film).metadata();
  assert.deepEqual([moving.width, moving.pageHeight ?? moving.height, moving.pages], [2 * 48, 3 * 32, 9]);
});

test("procedural evaluate says which list of numbers it can't read", () => {
  const { status, stderr } = procedural("evaluate", "--model", stored, "--steps", "1,x");
  assert.equal(status, 2);
  assert.match(stderr, /--steps: expected numbers with commas between them, found 1,x/);
});
