import assert from "node:assert/strict";
import { test } from "node:test";
import { firstFrameFidelity, frameDifference, psnr, psnrPerFrame, ssim } from "../../../src/train/metrics.js";
import { Clip } from "../../../src/video/clip.js";

/** Two frames of 20x16 from a formula, so that another program can make them too. */
function pattern(k: number): Clip {
  const data = Uint8Array.from(
    { length: 2 * 16 * 20 * 3 },
    (_, i) => (i * i * k + i * 7 + Math.floor(i / 97) * 13) % 256,
  );
  return new Clip({ data, width: 20, height: 16, fps: 8 });
}

const a = pattern(3);
const b = pattern(5);
const mixed = new Clip({
  data: a.data.map((value, i) => Math.round(0.75 * value + 0.25 * b.data[i]!)),
  width: 20,
  height: 16,
  fps: 8,
});
const near = (found: number, expected: number) =>
  assert.ok(Math.abs(found - expected) < 1e-9, `expected ${expected}, found ${found}`);

test("PSNR and SSIM are those of scikit-image 0.26", () => {
  // peak_signal_noise_ratio; structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False).
  near(psnr(a, b), 7.972569348912134);
  near(psnr(a, mixed), 20.01393668104094);
  near(ssim(a, b), 0.09646503250024285);
  near(ssim(a, mixed), 0.9302312539413866);
});

test("equal clips have infinite PSNR and SSIM 1", () => {
  assert.equal(psnr(a, a), Number.POSITIVE_INFINITY);
  near(ssim(a, a), 1);
});

test("frames are compared with frames of the same place", () => {
  const half = new Clip({
    data: Uint8Array.from([...a.frame(0), ...b.frame(1)]),
    width: 20,
    height: 16,
    fps: 8,
  });
  const [first, second] = psnrPerFrame(a, half);
  assert.equal(first, Number.POSITIVE_INFINITY);
  assert.ok(second! < 20);
  assert.equal(firstFrameFidelity(half, a), Number.POSITIVE_INFINITY);
  assert.throws(
    () => psnr(a, a.slice(1)),
    /expected clips of one size, found 2 frames of 20x16 and 1 frames/,
  );
});

test("a still clip has no frame difference", () => {
  assert.equal(frameDifference(a.select([0, 0, 0])), 0);
  const bytes = new Uint8Array(2 * 3 * 3).map((_, i) => (i < 9 ? 10 : 14));
  assert.equal(frameDifference(new Clip({ data: bytes, width: 3, height: 1, fps: 8 })), 4);
});
