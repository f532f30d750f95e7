import assert from "node:assert/strict";
import { test } from "node:test";
import { RandomGenerator } from "../../../src/engine/random.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import type { Clip } from "../../../src/video/clip.js";

const small = { height: 48, width: 64, numFrames: 17 } as const;

test("by default 81 frames at 16 per second", () => {
  const { clip } = proceduralClip({ height: 16, width: 16 });
  assert.deepEqual([clip.numFrames, clip.fps, clip.width, clip.height], [81, 16, 16, 16]);
});

test("the same seed gives the same clip, every other seed another one", () => {
  const made = Array.from({ length: 40 }, (_, seed) => proceduralClip({ ...small, numFrames: 2, seed }));
  assert.deepEqual(proceduralClip({ ...small, numFrames: 2, seed: 7 }), made[7]);
  assert.deepEqual(proceduralClip({ ...small, numFrames: 2, generator: new RandomGenerator(7) }), made[7]);
  assert.equal(new Set(made.map(({ clip }) => Buffer.from(clip.data).toString("base64"))).size, made.length);
  assert.ok(new Set(made.map(({ caption }) => caption)).size >= made.length - 2);
});

test("a shorter clip is the beginning of a longer one", () => {
  const long = proceduralClip({ ...small, seed: 3 }).clip;
  const short = proceduralClip({ ...small, seed: 3, numFrames: 9 }).clip;
  assert.ok(Buffer.from(short.data).equals(long.data.subarray(0, short.data.length)));
});

/** How far the picture moved between two frames, in columns and rows, by the best match of whole shifts. */
function shift(clip: Clip, from: number, to: number): [number, number] {
  const reach = 8;
  const a = clip.frame(from);
  const b = clip.frame(to);
  let best: [number, number] = [0, 0];
  let least = Number.POSITIVE_INFINITY;
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      let sum = 0;
      for (let y = reach; y < clip.height - reach; y++) {
        for (let x = reach; x < clip.width - reach; x++) {
          const i = (y * clip.width + x) * 3;
          const j = ((y + dy) * clip.width + x + dx) * 3;
          sum += Math.min(Math.abs(a[i]! - b[j]!), 12); // a sprite counts little
        }
      }
      if (sum < least) {
        least = sum;
        best = [dx, dy];
      }
    }
  }
  return best;
}

test("the camera pans where the caption says", () => {
  const moves: Record<string, (dx: number, dy: number) => boolean> = {
    "camera holds still": (dx, dy) => dx === 0 && dy === 0,
    "camera pans left": (dx, dy) => dx > 0 && dy === 0,
    "camera pans right": (dx, dy) => dx < 0 && dy === 0,
    "camera pans up": (dx, dy) => dy > 0 && dx === 0,
    "camera pans down": (dx, dy) => dy < 0 && dx === 0,
  };
  const seen = new Set<string>();
  for (let seed = 0; seed < 20; seed++) {
    const { clip, caption } = proceduralClip({ seed, height: 64, width: 96, numFrames: 9, numSprites: 1 });
    const said = Object.keys(moves).find((text) => caption.includes(text));
    assert.ok(said, caption);
    seen.add(said);
    const [dx, dy] = shift(clip, 0, 8);
    assert.ok(moves[said]!(dx, dy), `${caption} The picture moved by ${dx}, ${dy}.`);
  }
  assert.equal(seen.size, 5, [...seen].join(", "));
});

test("a sprite drifts the way the caption says", () => {
  let checked = 0;
  for (let seed = 0; seed < 1200 && checked < 6; seed++) {
    const { clip, caption } = proceduralClip({ seed, height: 64, width: 96, numFrames: 3, numSprites: 1 });
    const said = /^A white .* drifts (right|left|up|down)[;,]/.exec(caption)?.[1];
    if (said === undefined) continue;
    // White pixels are brighter than any background.
    const centre = (frame: Uint8Array) => {
      let [x, y, n] = [0, 0, 0];
      for (let i = 0; i < frame.length / 3; i++) {
        if (Math.min(frame[3 * i]!, frame[3 * i + 1]!, frame[3 * i + 2]!) < 205) continue;
        x += i % 96;
        y += Math.floor(i / 96);
        n++;
      }
      return [x / n, y / n] as const;
    };
    const [x0, y0] = centre(clip.frame(0));
    const [x1, y1] = centre(clip.frame(2));
    // At an edge it turns around.
    if (Math.min(x0, x1) < 16 || Math.max(x0, x1) > 80 || Math.min(y0, y1) < 16 || Math.max(y0, y1) > 48)
      continue;
    const along = { right: x1 - x0, left: x0 - x1, down: y1 - y0, up: y0 - y1 }[said]!;
    assert.ok(along > 1, `${caption} It went from ${x0},${y0} to ${x1},${y1}.`);
    checked++;
  }
  assert.ok(checked >= 2, `only ${checked} clips to check`);
});

test("bad sizes and counts are refused by name", () => {
  assert.throws(() => proceduralClip({ numFrames: 0 }), /numFrames to be a positive integer, found 0/);
  assert.throws(() => proceduralClip({ width: 1.5 }), /width to be a positive integer, found 1.5/);
  assert.throws(() => proceduralClip({ fps: 0 }), /fps > 0, found 0/);
  assert.throws(() => proceduralClip({ numSprites: 9 }), /numSprites from 1 to 4, found 9/);
});
