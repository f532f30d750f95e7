/**
 * What a clip does with the sprites of its first frame, compared with the truth: whether they are still there, where they go,
 * and whether the background behind them stays still. A plain difference of frames can't tell motion from flicker.
 */
import { psnr, ssim } from "../train/metrics.js";
import type { Clip } from "../video/clip.js";
import type { ProceduralClip } from "./clip.js";
import { render, type SpriteTruth } from "./picture.js";
import { COLOURS, type Scene } from "./scene.js";

/** A scene's whole clip, and its background alone. */
export interface MotionTruth {
  readonly clip: Clip;
  readonly ground: Clip;
  readonly sprites: readonly SpriteTruth[];
  /** What can be seen of each sprite in the true clip, measured the same way as in samples. */
  readonly seen: readonly Track[];
}

/** A sprite in a clip, frame by frame. */
export interface Track {
  /** Its centre, [x, y] in pixels. */
  readonly centre: readonly (readonly [number, number])[];
  /** How many pixels belong to it. */
  readonly area: readonly number[];
}

/** Times, in seconds, at which sprites are counted. */
export const TIMES = ["0.5", "1", "2"] as const;
export type MotionTime = (typeof TIMES)[number];

/** Counts over sprites and clips; {@link summarize} turns them into means. */
export interface MotionCounts {
  readonly left: Record<MotionTime, number[]>;
  /** One per moving sprite: whether it went the right way within a second. */
  readonly direction: boolean[];
  /** From where a sprite ends to where it should, in picture heights; only for sprites that are left. */
  readonly endDistance: number[];
  readonly flicker: number[];
  readonly seam: number[];
  readonly psnr: number[];
  readonly ssim: number[];
}

/** A cosine above this to the true way counts as right: within 31.8 degrees, a little more than half an octant. */
const RIGHT_WAY = 0.85;
/** Share of the true way within a second: a sprite that goes less has not moved. */
const LEAST_WAY = 0.25;
/** In picture heights per second: a sprite that truly moves less says nothing about directions. */
const MOVES = 0.1;
/** A sprite of which less is left has no measurable position. */
const LEAST_SHARE = 0.25;
/** Share of a sprite's largest area: if less of it can be seen in the true clip, it is hidden behind another. */
const HIDDEN = 0.3;
/** A pixel further than this (0 to 255) from a sprite's colour, in any light, is no sprite's: noise counts as gone. */
const NEAR = 40;
/** How far light and shade take a sprite's colour from the table's. */
const LIGHT = [0.75, 1.3] as const;
/** How dark a shadow makes the background. */
const SHADOW = 0.6;

export function emptyCounts(): MotionCounts {
  const left = { "0.5": [], "1": [], "2": [] };
  return { left, direction: [], endDistance: [], flicker: [], seam: [], psnr: [], ssim: [] };
}

/** What is needed to measure clips that begin like this one. */
export function truthOf({
  clip,
  sprites,
  scene,
}: Pick<ProceduralClip, "clip" | "sprites" | "scene">): MotionTruth {
  const ground = render(scene, clip, { withSprites: false }).clip;
  return { clip, ground, sprites, seen: track(clip, ground, sprites) };
}

/** The truth of another scene at the same size, such as the one with all directions reversed. */
export function truthOfScene(scene: Scene, like: Clip): MotionTruth {
  return truthOf({ ...render(scene, like), scene });
}

/**
 * Adds a clip to the counts. It must have the truth's size; its first frame counts only for the seam.
 *
 * @param options.similarity false leaves out SSIM, which takes longer than all else.
 */
export function measureMotion(
  sample: Clip,
  truth: MotionTruth,
  counts: MotionCounts,
  { similarity = true }: { readonly similarity?: boolean } = {},
): void {
  const tracks = track(sample, truth.ground, truth.sprites);
  const last = sample.numFrames - 1;
  for (const [i, { area, centre }] of tracks.entries()) {
    const { path } = truth.sprites[i]!;
    const seen = truth.seen[i]!;
    const whole = Math.max(...seen.area);
    const share = (frame: number) => Math.min(1, area[frame]! / seen.area[frame]!);
    const shown = (frame: number) => frame <= last && seen.area[frame]! >= HIDDEN * whole;
    for (const time of TIMES) {
      const frame = Math.round(Number(time) * sample.fps);
      if (shown(frame)) counts.left[time].push(share(frame));
    }
    if (shown(last) && share(last) >= LEAST_SHARE) {
      const [x, y] = difference(centre[last]!, seen.centre[last]!);
      counts.endDistance.push(Math.hypot(x, y) / sample.height);
    }
    const second = Math.round(sample.fps);
    if (!shown(second) || !shown(0)) continue;
    if (Math.hypot(...difference(path[second]!, path[0]!)) < MOVES * sample.height) continue;
    // Measured the same way, since a sprite in front of another shifts the result a little.
    const way = difference(seen.centre[second]!, seen.centre[0]!);
    const went = difference(centre[second]!, seen.centre[0]!);
    counts.direction.push(
      share(second) >= LEAST_SHARE &&
        Math.hypot(...went) >= LEAST_WAY * Math.hypot(...way) &&
        way[0] * went[0] + way[1] * went[1] >= RIGHT_WAY * Math.hypot(...way) * Math.hypot(...went),
    );
  }
  counts.flicker.push(flicker(sample, truth, tracks));
  counts.seam.push(seam(sample) - seam(truth.clip));
  counts.psnr.push(psnr(sample.slice(1), truth.clip.slice(1)));
  if (similarity) counts.ssim.push(ssim(sample.slice(1), truth.clip.slice(1)));
}

/** Means; null where nothing was counted. */
export interface MotionScore {
  /** How much of each sprite is left after so many seconds, 0 to 1. */
  readonly sprites_left: Readonly<Record<MotionTime, number | null>>;
  /** Share of sprites that went the right way within a second. */
  readonly direction: number | null;
  /** Distance from the true end, in picture heights. */
  readonly end_distance: number | null;
  /** How unsteady the background is: mean second difference of its pixels in time, 0 to 255. */
  readonly flicker: number;
  /** How much more frame 1 differs from frame 0 than it should: mean over pixels, 0 to 255. */
  readonly seam: number;
  /** Of the frames after the first. */
  readonly psnr: number;
  readonly ssim: number;
}

export function summarize(counts: MotionCounts): MotionScore {
  const mean = (values: readonly number[]) =>
    values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    sprites_left: {
      "0.5": mean(counts.left["0.5"]),
      "1": mean(counts.left["1"]),
      "2": mean(counts.left["2"]),
    },
    direction: mean(counts.direction.map(Number)),
    end_distance: mean(counts.endDistance),
    flicker: mean(counts.flicker) ?? 0,
    seam: mean(counts.seam) ?? 0,
    psnr: mean(counts.psnr) ?? 0,
    ssim: mean(counts.ssim) ?? 0,
  };
}

const difference = (a: readonly [number, number], b: readonly [number, number]): [number, number] => [
  a[0] - b[0],
  a[1] - b[1],
];

/**
 * Finds sprites by their colours. A pixel belongs to a sprite if its colour is nearer to that sprite's, in any light, than to
 * any other's and to the background there, in light or shadow: half faded counts as gone, and so does a colour far from all.
 */
export function track(clip: Clip, ground: Clip, sprites: readonly SpriteTruth[]): Track[] {
  const { width, height, numFrames } = clip;
  const tracks = sprites.map((): { centre: [number, number][]; area: number[] } => ({
    centre: [],
    area: [],
  }));
  const own = sprites.map(() => new Uint8Array(width * height));
  for (let f = 0; f < numFrames; f++) {
    const picture = clip.frame(f);
    const behind = ground.frame(f);
    for (let i = 0; i < width * height; i++) {
      let [nearest, owner] = [NEAR ** 2, -1];
      for (let s = 0; s < sprites.length; s++) {
        const distance = spriteDistance(picture, i, sprites[s]!);
        if (distance < nearest) [nearest, owner] = [distance, s];
        own[s]![i] = 0;
      }
      if (owner >= 0 && !isGround(picture, behind, i, width, height, nearest)) own[owner]![i] = 1;
    }
    for (const [s, { radius }] of sprites.entries()) {
      const found = densest(own[s]!, width, height, radius);
      tracks[s]!.centre.push(found.centre);
      tracks[s]!.area.push(found.area);
    }
  }
  return tracks;
}

/** Squared distance of a pixel's colour from a colour in lights between `low` and `high`. */
function rayDistance(
  picture: Uint8Array,
  i: number,
  r: number,
  g: number,
  b: number,
  low: number,
  high: number,
): number {
  const x = picture[3 * i]!;
  const y = picture[3 * i + 1]!;
  const z = picture[3 * i + 2]!;
  const t = Math.min(Math.max((x * r + y * g + z * b) / (r * r + g * g + b * b || 1), low), high);
  return (x - t * r) ** 2 + (y - t * g) ** 2 + (z - t * b) ** 2;
}

function spriteDistance(picture: Uint8Array, i: number, { colour, texture }: SpriteTruth): number {
  const rgb = COLOURS[colour]!;
  const light = rayDistance(picture, i, rgb[0], rgb[1], rgb[2], LIGHT[0], LIGHT[1]);
  if (texture === "plain") return light;
  // The pattern's second colour is half as bright.
  return Math.min(light, rayDistance(picture, i, rgb[0], rgb[1], rgb[2], LIGHT[0] / 2, LIGHT[1] / 2));
}

/** Whether a pixel is as near to the background there or next to it: nobody sees a shift of one pixel. */
function isGround(
  picture: Uint8Array,
  behind: Uint8Array,
  i: number,
  width: number,
  height: number,
  nearest: number,
): boolean {
  const x = i % width;
  const y = (i - x) / width;
  for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++) {
    for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++) {
      const o = (row * width + column) * 3;
      if (rayDistance(picture, i, behind[o]!, behind[o + 1]!, behind[o + 2]!, SHADOW, 1) <= nearest)
        return true;
    }
  }
  return false;
}

/** Where most of a sprite is, and how much of it is there; stray pixels elsewhere do not count. */
function densest(
  own: Uint8Array,
  width: number,
  height: number,
  radius: number,
): { centre: [number, number]; area: number } {
  // Sums over rectangles that start at the corner.
  const sums = new Int32Array((width + 1) * (height + 1));
  for (let y = 0; y < height; y++) {
    for (let x = 0, row = 0; x < width; x++) {
      row += own[y * width + x]!;
      sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1]! + row;
    }
  }
  const reach = Math.max(1, Math.round(radius));
  let [most, centre]: [number, [number, number]] = [0, [width / 2, height / 2]];
  for (let y = 0; y < height; y++) {
    const [top, bottom] = [Math.max(0, y - reach), Math.min(height, y + reach + 1)];
    for (let x = 0; x < width; x++) {
      const [left, right] = [Math.max(0, x - reach), Math.min(width, x + reach + 1)];
      const at = (row: number, column: number) => sums[row * (width + 1) + column]!;
      const count = at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left);
      if (count > most) [most, centre] = [count, [x + 0.5, y + 0.5]];
    }
  }
  let area = most;
  for (let round = 0; round < 3 && area > 0; round++) {
    const within = 1.5 * radius;
    let [sumX, sumY, count] = [0, 0, 0];
    for (let y = Math.max(0, Math.floor(centre[1] - within)); y < Math.min(height, centre[1] + within); y++) {
      for (
        let x = Math.max(0, Math.floor(centre[0] - within));
        x < Math.min(width, centre[0] + within);
        x++
      ) {
        if (own[y * width + x] === 0 || Math.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) > within)
          continue;
        sumX += x + 0.5;
        sumY += y + 0.5;
        count += 1;
      }
    }
    area = count;
    if (count > 0) centre = [sumX / count, sumY / count];
  }
  // Noise has every colour everywhere: what is as dense outside is no sprite.
  const total = sums[sums.length - 1]!;
  const disk = Math.min(Math.PI * (1.5 * radius) ** 2, width * height - 1);
  const outside = (total - area) / (width * height - disk);
  return { centre, area: Math.max(0, area - outside * disk) };
}

/**
 * Mean absolute second difference in time of pixels that are background in three frames, both in the truth and in the clip: a
 * steady pan hardly counts, flicker counts fourfold.
 */
function flicker(clip: Clip, { sprites }: MotionTruth, tracks: readonly Track[]): number {
  const { width, height, numFrames } = clip;
  const ground = Array.from({ length: numFrames }, (_, f) => {
    const mask = new Uint8Array(width * height).fill(1);
    for (const [s, { radius, path }] of sprites.entries()) {
      const { centre, area } = tracks[s]!;
      // Sprites have shadows.
      cover(mask, width, height, path[f]!, 1.5 * radius);
      if (area[f]! > 0) cover(mask, width, height, centre[f]!, 1.5 * radius);
    }
    return mask;
  });
  let [sum, count] = [0, 0];
  for (let f = 1; f + 1 < numFrames; f++) {
    const [a, b, c] = [clip.frame(f - 1), clip.frame(f), clip.frame(f + 1)];
    const [before, now, after] = [ground[f - 1]!, ground[f]!, ground[f + 1]!];
    for (let i = 0; i < width * height; i++) {
      if ((before[i]! & now[i]! & after[i]!) === 0) continue;
      for (let o = 3 * i; o < 3 * i + 3; o++) sum += Math.abs(a[o]! - 2 * b[o]! + c[o]!);
      count += 3;
    }
  }
  return count === 0 ? 0 : sum / count;
}

/** Removes a disk from a mask. */
function cover(
  mask: Uint8Array,
  width: number,
  height: number,
  [x, y]: readonly [number, number],
  radius: number,
): void {
  for (let row = Math.max(0, Math.floor(y - radius)); row < Math.min(height, y + radius); row++) {
    for (let column = Math.max(0, Math.floor(x - radius)); column < Math.min(width, x + radius); column++) {
      if (Math.hypot(column + 0.5 - x, row + 0.5 - y) < radius) mask[row * width + column] = 0;
    }
  }
}

/** Mean difference between the first two frames. */
function seam(clip: Clip): number {
  const [a, b] = [clip.frame(0), clip.frame(1)];
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i]! - b[i]!);
  return sum / a.length;
}
