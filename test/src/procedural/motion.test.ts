import assert from "node:assert/strict";
import { test } from "node:test";
import { proceduralClip } from "../../../src/procedural/clip.js";
import {
  emptyCounts,
  type MotionScore,
  type MotionTruth,
  measureMotion,
  summarize,
  truthOf,
  truthOfScene,
} from "../../../src/procedural/motion.js";
import { describe, expected, reversed } from "../../../src/procedural/scene.js";
import { Clip } from "../../../src/video/clip.js";

const size = { numFrames: 17, height: 64, width: 96, fps: 8 };
const made = Array.from({ length: 24 }, (_, seed) => proceduralClip({ ...size, seed: 5000 + seed }));
const truths = made.map(truthOf);

/** Measures what `change` makes of each true clip. */
function score(change: (truth: MotionTruth, i: number) => Clip): MotionScore {
  const counts = emptyCounts();
  truths.forEach((truth, i) => void measureMotion(change(truth, i), truth, counts));
  return summarize(counts);
}

const change = (clip: Clip, pixel: (value: number, o: number, f: number) => number): Clip =>
  new Clip({
    ...clip,
    data: clip.data.map((value, o) =>
      Math.min(
        255,
        Math.max(0, Math.round(pixel(value, o, Math.floor(o / (clip.data.length / clip.numFrames))))),
      ),
    ),
  });

test("the truth itself has every sprite, every direction, no seam", () => {
  const found = score(({ clip }) => clip);
  assert.deepEqual(found.sprites_left, { "0.5": 1, "1": 1, "2": 1 });
  assert.equal(found.direction, 1);
  assert.equal(found.end_distance, 0);
  assert.equal(found.seam, 0);
  assert.equal(found.psnr, Number.POSITIVE_INFINITY);
  assert.ok(found.flicker < 2, `${found.flicker}`);
});

test("sprites of the truth are found where they are", () => {
  for (const { sprites, seen } of truths) {
    for (const [s, { path, radius }] of sprites.entries()) {
      const whole = Math.max(...seen[s]!.area);
      for (const [f, [x, y]] of path.entries()) {
        if (seen[s]!.area[f]! < 0.9 * whole) continue; // partly hidden
        const [cx, cy] = seen[s]!.centre[f]!;
        assert.ok(Math.hypot(cx - x, cy - y) < 0.45 * radius, `frame ${f}: ${cx}, ${cy} of ${x}, ${y}`);
      }
    }
  }
});

test("sprites that fade into the ground are gone", () => {
  const faded = score(({ clip, ground }) =>
    change(clip, (value, o, f) => {
      const left = 1 - f / (clip.numFrames - 1);
      return left * value + (1 - left) * ground.data[o]!;
    }),
  );
  assert.ok(faded.sprites_left["0.5"]! > 0.8, JSON.stringify(faded.sprites_left));
  assert.ok(faded.sprites_left["2"]! < 0.05, JSON.stringify(faded.sprites_left));
});

test("nothing moves: all sprites left, no direction right, no flicker, a seam that is missing", () => {
  const frozen = score(({ clip }) => clip.select(Array.from({ length: clip.numFrames }, () => 0)));
  assert.ok(frozen.sprites_left["2"]! > 0.85, JSON.stringify(frozen.sprites_left));
  assert.equal(frozen.direction, 0);
  assert.equal(frozen.flicker, 0);
  assert.ok(frozen.seam < -0.5, `${frozen.seam}`);
  assert.ok(frozen.end_distance! > 0.1);
});

test("a flicker is seen as such and changes nothing else", () => {
  const [calm, flickering] = [0, 6].map((size) =>
    score(({ clip }) => change(clip, (value, _, f) => value + (f % 2 === 0 ? size : -size))),
  );
  assert.ok(flickering!.flicker > calm!.flicker + 15, `${calm!.flicker} ${flickering!.flicker}`);
  assert.ok(flickering!.direction! > 0.95);
  assert.ok(flickering!.sprites_left["1"]! > 0.95);
});

test("a clip that goes the other way is right for the reversed scene alone", () => {
  const [forward, backward] = [emptyCounts(), emptyCounts()];
  for (const { scene, clip } of made) {
    const other = truthOfScene(reversed(scene), clip);
    assert.deepEqual(other.clip.frame(0), clip.frame(0));
    measureMotion(other.clip, other, backward);
    measureMotion(clip, other, forward);
  }
  assert.equal(summarize(backward).direction, 1);
  // Who reverses beside a wall comes back from it.
  assert.ok(summarize(forward).direction! < 0.1, `${summarize(forward).direction}`);
});

test("who knows first picture and caption alone is right about directions", () => {
  const oracle = score((truth, i) => truthOfScene(expected(made[i]!.scene), truth.clip).clip);
  assert.ok(oracle.direction! > 0.9, `${oracle.direction}`);
  assert.ok(oracle.psnr > 22, `${oracle.psnr}`);
});

test("a reversed caption has every direction turned round and all else as it was", () => {
  const opposite: Record<string, string> = { left: "right", right: "left", up: "down", down: "up" };
  for (const { scene, caption } of made) {
    const turned = caption.replace(
      /(?<=drifts |bounces |(?:drifts )(?:up|down) and )(\w+)/g,
      (word) => opposite[word]!,
    );
    assert.equal(describe(reversed(scene)), turned);
  }
});
