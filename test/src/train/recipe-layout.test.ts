import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { readArguments } from "../../../src/train/arguments.js";
import { encodeVideo } from "../../../src/train/data.js";
import { runTraining } from "../../../src/train/run.js";
import type { Clip } from "../../../src/video/clip.js";
import { writeClip } from "../../../src/video/write.js";
import { safeOpen } from "../../../src/weights/safetensors.js";
import { main } from "./command.js";
import { writeTinyPipeline } from "./tiny.js";

let folder = "";
before(async () => {
  await useEngine();
  folder = await mkdtemp(join(tmpdir(), "firstframe-layout-"));
  await writeTinyPipeline(join(folder, "model"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** Clips of 9, 20 and 30 frames with captions, in the recipe's layout, and the frames that the recipe takes of each. */
async function writeLayout(dataRoot: string): Promise<Clip[]> {
  for (const name of ["videos", "images"]) await mkdir(join(dataRoot, name), { recursive: true });
  const taken: Clip[] = [];
  const lists = { prompts: [] as string[], videos: [] as string[], images: [] as string[] };
  for (const [i, numFrames] of [9, 20, 30].entries()) {
    const { clip, caption } = proceduralClip({ seed: i, numFrames, height: 32, width: 48 });
    const stride = Math.floor(numFrames / 9);
    taken.push(clip.select(Array.from({ length: 9 }, (_, at) => at * stride)));
    await writeClip(join(dataRoot, `videos/0000${i}.webp`), clip, { lossless: true });
    await writeClip(join(dataRoot, `images/0000${i}.png`), clip.slice(0, 1));
    lists.prompts.push(caption);
    lists.videos.push(`videos/0000${i}.webp`);
    lists.images.push(`images/0000${i}.png`);
  }
  for (const [name, lines] of Object.entries(lists))
    await writeFile(join(dataRoot, `${name}.txt`), `${lines.join("\n")}\n`);
  return taken;
}

test("the recipe's own layout trains, and its cache is what its clips' frames are, with images.txt and without", async () => {
  const dataRoot = join(folder, "data");
  const clips = await writeLayout(dataRoot);
  const vae = await AutoencoderKLCogVideoX.fromPretrained(join(folder, "model", "vae"));
  vae.enableSlicing();
  try {
    for (const image_column of [undefined, "images.txt"]) {
      const cache_dir = join(folder, `cache-${image_column}`);
      const data = {
        data_root: dataRoot,
        caption_column: "prompts.txt",
        video_column: "videos.txt",
        image_column,
      };
      const run = {
        output_dir: join(folder, `run-${image_column}`),
        cache_dir,
        report_to: "none",
        train_steps: "1",
      };
      const model = {
        model_path: join(folder, "model"),
        train_resolution: "9x32x48",
        enable_tiling: "false",
        rank: "4",
      };
      const args = await readArguments({ flags: { ...data, ...run, ...model } });
      assert.equal((await runTraining(args, { log: () => {} })).finished, true);
      const latents = join(cache_dir, "video_latent", "cogvideox1.5-i2v", "9x32x48");
      const files = await readdir(latents);
      assert.equal(files.length, clips.length);
      for (const name of files) {
        const file = await safeOpen(join(latents, name));
        const source = file.metadata().get("source")!;
        const clip = clips[Number(/0000(\d)\.webp$/.exec(source)![1])]!;
        const key = name.replace(".safetensors", "");
        const expected = await encodeVideo(
          vae,
          clip,
          new RandomGenerator(Number.parseInt(key.slice(-8), 16)),
        );
        const found = await file.getTensor("encoded_video");
        assert.deepEqual(found.shape, expected.shape);
        for (let frame = 0; frame < expected.shape[1]; frame++) {
          const of = (tensor: typeof found) => tensor.slice([0, frame], [-1, 1]).dataSync();
          assert.deepEqual(of(found), of(expected), `${source}, latent frame ${frame}`);
        }
        const image = await file.getTensor("image");
        assert.deepEqual(Buffer.from(image.dataSync()), Buffer.from(clip.frame(0)));
        await file.close();
      }
    }
  } finally {
    vae.dispose();
  }
});

/** The flags of zai-org/CogVideo's finetune/train_ddp_i2v.sh, with its values but for paths, sizes and lengths. */
test("the recipe's own script trains with its flags as they are", async () => {
  const dataRoot = join(folder, "script-data");
  await writeLayout(dataRoot);
  const flags = [
    ...["--model_path", join(folder, "model"), "--model_name", "cogvideox1.5-i2v"],
    ...["--model_type", "i2v", "--training_type", "lora"],
    ...["--output_dir", join(folder, "script-run"), "--report_to", "tensorboard"],
    ...["--data_root", dataRoot, "--caption_column", "prompts.txt", "--video_column", "videos.txt"],
    ...["--image_column", "images.txt", "--train_resolution", "9x32x48"],
    // Pictures this small can't be cut into tiles.
    ...["--enable_tiling", "false"],
    ...["--seed", "42", "--batch_size", "1", "--gradient_accumulation_steps", "1"],
    ...["--mixed_precision", "bf16"],
    ...["--num_workers", "8", "--pin_memory", "True", "--nccl_timeout", "1800"],
    ...["--checkpointing_steps", "2", "--checkpointing_limit", "2"],
    ...["--do_validation", "false", "--validation_dir", dataRoot, "--validation_steps", "2"],
    ...["--validation_prompts", "prompts.txt", "--validation_images", "images.txt", "--gen_fps", "16"],
  ];
  const run = (epochs: string, ...more: string[]) =>
    spawnSync(process.execPath, [main, "train", ...flags, "--train_epochs", epochs, ...more], {
      cwd: folder,
      encoding: "utf8",
    });
  const { status, stdout, stderr } = run("1");
  assert.equal(status, 0, stdout + stderr);
  const made = await readdir(join(folder, "script-run"), { recursive: true });
  for (const name of [/checkpoint-2\/pytorch_lora_weights\.safetensors$/, /events\.out\.tfevents/])
    assert.ok(
      made.some((file) => name.test(file)),
      `${name} in ${made.join(", ")}`,
    );
  // As its users go on: the same command with the checkpoint that it names.
  const checkpoint = join(folder, "script-run", "checkpoint-2");
  const resumed = run("2", "--resume_from_checkpoint", checkpoint);
  assert.equal(resumed.status, 0, resumed.stdout + resumed.stderr);
});
