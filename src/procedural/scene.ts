/** The procedural world: what is in a scene, how it moves, and the words for it. */
import type { RandomGenerator } from "../engine/random.js";

export type Rgb = readonly [number, number, number];

export const COLOURS: Readonly<Record<string, Rgb>> = {
  red: [214, 62, 54],
  orange: [236, 139, 48],
  yellow: [242, 205, 74],
  green: [72, 160, 84],
  blue: [58, 108, 196],
  purple: [132, 84, 176],
  pink: [234, 138, 172],
  white: [240, 238, 230],
};

export const BACKGROUNDS: Readonly<Record<string, readonly [Rgb, Rgb]>> = {
  sand: [
    [206, 178, 134],
    [164, 130, 92],
  ],
  sea: [
    [92, 150, 168],
    [44, 92, 120],
  ],
  meadow: [
    [140, 172, 104],
    [84, 124, 76],
  ],
  dusk: [
    [176, 128, 150],
    [88, 76, 120],
  ],
  slate: [
    [138, 144, 152],
    [84, 90, 100],
  ],
};

const SHAPES = ["ball", "square", "triangle", "star", "hexagon"] as const;
const TEXTURES = ["plain", "striped", "dotted", "checkered"] as const;
const PATTERNS = ["cloudy", "wavy", "tiled"] as const;
export const PANS: Readonly<Record<string, readonly [number, number]>> = {
  still: [0, 0],
  left: [-1, 0],
  right: [1, 0],
  up: [0, -1],
  down: [0, 1],
};
/** Eight directions, clockwise from the right; y points down. */
const DIRECTIONS = [
  "right",
  "down and right",
  "down",
  "down and left",
  "left",
  "up and left",
  "up",
  "up and right",
];

/** Lengths are in picture heights, times in seconds, angles in radians (clockwise, since y points down). */
export interface Sprite {
  readonly shape: (typeof SHAPES)[number];
  readonly texture: (typeof TEXTURES)[number];
  readonly colour: string;
  readonly radius: number;
  readonly motion: "drifts" | "bounces" | "turns";
  readonly direction: string;
  readonly spin: number;
  x: number;
  y: number;
  vx: number;
  vy: number;
  angle: number;
}

export interface Background {
  readonly palette: string;
  readonly pattern: (typeof PATTERNS)[number];
  /** A square lattice of values in [0, 1] that repeats. */
  readonly lattice: Float64Array;
  readonly phase: number;
}

/** A scene at one moment. */
export interface Scene {
  /** Of the pictures that show it: width / height. */
  readonly aspect: number;
  readonly background: Background;
  /** Where the camera pans: a key of the words for it. */
  readonly pan: string;
  /** In picture heights a second. */
  readonly panSpeed: number;
  readonly sprites: readonly Sprite[];
}

export const LATTICE = 32;
const GRAVITY = 0.9;
const STEPS_PER_FRAME = 8;

/** Speeds (picture heights a second; radians for spins) are drawn from these ranges and are in no caption. */
const SPEED = [0.25, 0.5] as const;
const PAN_SPEED = [0.1, 0.22] as const;
const SPIN = [1, 2.2] as const;
const mean = ([low, high]: readonly [number, number]) => (low + high) / 2;

/** Draws a scene; the same generator gives the same one. */
export function drawScene(random: RandomGenerator, aspect: number, numSprites?: number): Scene {
  const background = drawBackground(random);
  const pan = pick(random, Object.keys(PANS));
  const panSpeed = random.uniform(...PAN_SPEED);
  const sprites = drawSprites(random, numSprites ?? random.integer(1, 4), aspect);
  return { aspect, background, pan, panSpeed, sprites };
}

/** Moves sprites on by a frame. */
export function advance({ sprites, aspect }: Scene, seconds: number): void {
  for (let i = 0; i < STEPS_PER_FRAME; i++) {
    for (const sprite of sprites) move(sprite, seconds / STEPS_PER_FRAME, aspect);
  }
}

const copyOf = (scene: Scene, change: (sprite: Sprite) => Sprite): Scene => ({
  ...scene,
  sprites: scene.sprites.map(change),
});

/** The same first picture and the opposite directions: what drifts or bounces sets out the other way. */
export function reversed(scene: Scene): Scene {
  return copyOf(scene, (sprite) => ({
    ...sprite,
    direction: DIRECTIONS[(DIRECTIONS.indexOf(sprite.direction) + 4) % 8]!,
    vx: -sprite.vx,
    vy: -sprite.vy,
  }));
}

/**
 * The scene as one expects it who knows its first picture and its caption: what moves does so at the mean of all speeds,
 * exactly as the words say.
 */
export function expected(scene: Scene): Scene {
  const changed = copyOf(scene, (sprite) => {
    const moves = sprite.motion !== "turns";
    const heading = DIRECTIONS.indexOf(sprite.direction) * (Math.PI / 4);
    return {
      ...sprite,
      spin: Math.sign(sprite.spin) * mean(SPIN),
      vx: moves ? mean(SPEED) * Math.cos(heading) : 0,
      vy: sprite.motion === "drifts" ? mean(SPEED) * Math.sin(heading) : 0,
    };
  });
  return { ...changed, panSpeed: mean(PAN_SPEED) };
}

function pick<T>(random: RandomGenerator, choices: readonly T[]): T {
  return choices[random.integer(0, choices.length)]!;
}

function drawBackground(random: RandomGenerator): Background {
  const palette = pick(random, Object.keys(BACKGROUNDS));
  const pattern = pick(random, PATTERNS);
  const lattice = Float64Array.from({ length: LATTICE * LATTICE }, () => random.uniform());
  return { palette, pattern, lattice, phase: random.uniform(0, 10) };
}

function drawSprites(random: RandomGenerator, count: number, aspect: number): Sprite[] {
  const colours = random.permutation(Object.keys(COLOURS).length).map((i) => Object.keys(COLOURS)[i]!);
  return Array.from({ length: count }, (_, i) => {
    const shape = pick(random, SHAPES);
    const motion = pick(random, ["drifts", "drifts", "bounces", "bounces", "turns"] as const);
    // What turns in place has to show that it turns.
    const textures = motion === "turns" && shape === "ball" ? TEXTURES.slice(1) : TEXTURES;
    const texture = pick(random, textures);
    const radius = Math.min(random.uniform(0.14, 0.22), 0.4 * aspect);
    const octant = motion === "bounces" ? pick(random, [0, 4]) : random.integer(0, 8);
    const heading = octant * (Math.PI / 4) + random.uniform(-0.25, 0.25);
    const speed = random.uniform(...SPEED);
    const turning = motion === "turns" || random.uniform() < 0.5;
    const spin = pick(random, [-1, 1]) * random.uniform(...SPIN) * (turning ? 1 : 0);
    const x = random.uniform(radius, Math.max(radius, aspect - radius));
    const y = motion === "bounces" ? random.uniform(radius, 0.5) : random.uniform(radius, 1 - radius);
    const still = motion === "turns";
    return {
      shape,
      texture,
      colour: colours[i]!,
      radius,
      motion,
      direction: DIRECTIONS[octant]!,
      spin,
      x,
      y,
      vx: still ? 0 : speed * Math.cos(heading),
      vy: still || motion === "bounces" ? 0 : speed * Math.sin(heading),
      angle: random.uniform(0, 2 * Math.PI),
    };
  });
}

function move(sprite: Sprite, seconds: number, aspect: number): void {
  if (sprite.motion === "bounces") sprite.vy += GRAVITY * seconds;
  sprite.x += sprite.vx * seconds;
  sprite.y += sprite.vy * seconds;
  sprite.angle += sprite.spin * seconds;
  if (sprite.x < sprite.radius) [sprite.x, sprite.vx] = [sprite.radius, Math.abs(sprite.vx)];
  if (sprite.x > aspect - sprite.radius)
    [sprite.x, sprite.vx] = [aspect - sprite.radius, -Math.abs(sprite.vx)];
  if (sprite.y < sprite.radius) [sprite.y, sprite.vy] = [sprite.radius, Math.abs(sprite.vy)];
  if (sprite.y > 1 - sprite.radius) [sprite.y, sprite.vy] = [1 - sprite.radius, -0.96 * Math.abs(sprite.vy)];
}

/** Says what is there and how it moves. */
export function describe({ sprites, background, pan }: Scene): string {
  const parts = sprites.map((sprite) => {
    const surface = sprite.texture === "plain" ? "" : `${sprite.texture} `;
    const seen = sprite.texture !== "plain" || sprite.shape !== "ball";
    const way = sprite.spin > 0 ? "clockwise" : "counterclockwise";
    let moves = `${sprite.motion} ${sprite.direction}`;
    if (sprite.motion === "turns") moves = `turns ${way} in place`;
    else if (sprite.spin !== 0 && seen) moves += `, spinning ${way}`;
    return `${sprite.colour === "orange" ? "an" : "a"} ${sprite.colour} ${surface}${sprite.shape} ${moves}`;
  });
  const camera = pan === "still" ? "the camera holds still" : `the camera pans ${pan}`;
  const text = `${parts.join("; ")}; ${background.pattern} ${background.palette} background; ${camera}.`;
  return text[0]!.toUpperCase() + text.slice(1);
}
