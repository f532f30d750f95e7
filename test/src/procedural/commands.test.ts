/** The commands of the toy world that the small pipeline was made by; those of data set and overfitting are tested with training. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { loadFile } from "../../../src/weights/safetensors.js";

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
});

test("procedural evaluate says which list of numbers it can't read", () => {
  const { status, stderr } = procedural("evaluate", "--model", stored, "--steps", "1,x");
  assert.equal(status, 2);
  assert.match(stderr, /--steps: expected numbers with commas between them, found 1,x/);
});
