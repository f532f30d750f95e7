/** A LoRA on a real clip: what it samples from the first frame gets near to what the VAE leaves of the clip. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { probeClip } from "../../../src/video/read.js";

const root = fileURLToPath(new URL("../../../..", import.meta.url));
const clip = join(root, "../shared/clips/kitten.mp4");
const script = fileURLToPath(new URL("../../../src/cli/main.js", import.meta.url));

interface Figures {
  readonly with_lora: { readonly psnr: number };
  readonly without_lora: { readonly psnr: number };
  readonly first_frame_repeated: { readonly psnr: number };
}

test("a LoRA learns one clip by heart", {
  skip: existsSync(clip) ? false : `no clip at ${clip}`,
}, async () => {
  const out = await mkdtemp(join(tmpdir(), "firstframe-overfit-"));
  try {
    const argv = [
      script,
      "procedural",
      "overfit-clip",
      "--clip",
      clip,
      "--caption",
      "a kitten",
      "--out",
      out,
      "--steps",
      "60",
    ];
    const { status, stderr } = spawnSync(process.execPath, argv, { cwd: root, encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const figures = JSON.parse(await readFile(join(out, "figures.json"), "utf8")) as Figures;
    const { with_lora: after, without_lora: before, first_frame_repeated: still } = figures;
    assert.ok(after.psnr > before.psnr + 0.3, `${before.psnr} dB without, ${after.psnr} dB with the LoRA`);
    assert.ok(after.psnr > still.psnr, `${after.psnr} dB; the first frame repeated has ${still.psnr} dB`);
    const strip = await probeClip(join(out, "strip.png"));
    assert.deepEqual([strip.width, strip.height], [6 * 96, 4 * 64]);
  } finally {
    await rm(out, { recursive: true, force: true });
  }
});
