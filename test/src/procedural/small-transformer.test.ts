/** The transformer that the notebooks use has learnt: measured anew on clips that were in no training. */
import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { useEngine } from "../../../src/engine/index.js";
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { HELD_OUT_SEED } from "../../../src/procedural/vae-training.js";
import { repeatFirstFrame, type ValidationSample, validate } from "../../../src/train/validation.js";

const folder = fileURLToPath(new URL("../../../../notebooks/models/procedural", import.meta.url));
const CLIPS = 8;

interface Report {
  readonly seed: number;
  readonly sampling: { readonly num_inference_steps: number; readonly guidance_scale: number };
  readonly held_out: {
    readonly numFrames: number;
    readonly height: number;
    readonly width: number;
    readonly fps: number;
    readonly trained: Scores;
    readonly untrained: Scores;
    readonly first_frame_repeated: Scores;
  };
}
interface Scores {
  readonly psnr: number;
  readonly ssim: number;
}

const assertBeats = (one: Scores, other: Scores, what: string) => {
  assert.ok(one.psnr > other.psnr, `${what}: ${one.psnr} dB, ${other.psnr} dB`);
  assert.ok(one.ssim > other.ssim, `${what}: SSIM ${one.ssim}, ${other.ssim}`);
};

test("the stored transformer beats the first frame repeated and an untrained one on held-out clips", async () => {
  const text = await readFile(join(folder, "transformer-training.json"), "utf8");
  const { seed, sampling, held_out: heldOut } = JSON.parse(text) as Report;
  assertBeats(heldOut.trained, heldOut.first_frame_repeated, "as recorded, repeated");
  assertBeats(heldOut.trained, heldOut.untrained, "as recorded, untrained");

  await useEngine();
  const { numFrames, height, width, fps } = heldOut;
  const pipeline = await CogVideoXImageToVideoPipeline.fromPretrained(folder);
  const { vae, scheduler, transformer } = pipeline;
  const samples: ValidationSample[] = [];
  const repeated: Scores[] = [];
  for (let i = 0; i < CLIPS; i++) {
    const { clip, caption } = proceduralClip({ seed: HELD_OUT_SEED + i, numFrames, height, width, fps });
    const { promptEmbeds } = await pipeline.encodePrompt({
      prompt: caption,
      doClassifierFreeGuidance: false,
    });
    samples.push({ prompt: caption, image: clip.slice(0, 1), reference: clip, promptEmbeds });
    repeated.push(repeatFirstFrame(clip));
  }
  const score = async (model: CogVideoXTransformer3DModel): Promise<Scores> => {
    const { metrics } = await validate(
      { vae, scheduler, transformer: model },
      samples,
      {
        numFrames,
        numInferenceSteps: sampling.num_inference_steps,
        guidanceScale: sampling.guidance_scale,
        seed,
        fps,
      },
      0,
    );
    return { psnr: metrics.psnr!, ssim: metrics.ssim! };
  };
  const mean = (key: keyof Scores) => repeated.reduce((sum, scores) => sum + scores[key], 0) / CLIPS;
  const trained = await score(transformer);
  assertBeats(trained, { psnr: mean("psnr"), ssim: mean("ssim") }, "repeated");
  const untrained = CogVideoXTransformer3DModel.fromConfig(transformer.config, new RandomGenerator(seed));
  assertBeats(trained, await score(untrained), "untrained");
  tf.dispose(samples.map(({ promptEmbeds }) => promptEmbeds));
});

test("its file is small enough for the repository", async () => {
  const { size } = await stat(join(folder, "transformer", "diffusion_pytorch_model.safetensors"));
  assert.ok(size < 3e6, `${size} bytes`);
});
