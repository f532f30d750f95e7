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

export const SHAPES = ["ball", "square", "triangle", "star", "hexagon"] as const;
export const TEXTURES = ["plain", "striped", "dotted", "checkered"] as const;
export const MOTIONS = ["drifts", "bounces", "turns"] as const;
export const PATTERNS = ["cloudy", "wavy", "tiled", "plain"] as const;
type Shape = (typeof SHAPES)[number];
type Texture = (typeof TEXTURES)[number];
type Pattern = (typeof PATTERNS)[number];
type Motion = Sprite["motion"];
type Range = readonly [low: number, high: number];
export const PANS: Readonly<Record<string, readonly [number, number]>> = {
  still: [0, 0],
  left: [-1, 0],
  right: [1, 0],
  up: [0, -1],
  down: [0, 1],
};
/** Eight directions, clockwise from the right; y points down. */
export const DIRECTIONS = [
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
  readonly motion: (typeof MOTIONS)[number];
  readonly direction: string;
  /** The caption's word for its speed: "slowly", "quickly", or an empty string. */
  readonly pace: string;
  /** The range that its speed was drawn from. */
  readonly speeds: readonly [low: number, high: number];
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
  /** A repeating square lattice of values in [0, 1]. */
  readonly lattice: Float64Array;
  readonly phase: number;
}

/** A scene at one moment. */
export interface Scene {
  /** Width / height of the pictures that show it. */
  readonly aspect: number;
  readonly background: Background;
  /** Where the camera pans: still, left, right, up or down. */
  readonly pan: string;
  /** In picture heights per second. */
  readonly panSpeed: number;
  readonly sprites: readonly Sprite[];
}

export const LATTICE = 32;
const GRAVITY = 0.9;
const STEPS_PER_FRAME = 8;

/** What scenes are drawn from. A value listed twice is drawn twice as often. */
export interface World {
  /** Fewest and most sprites. */
  readonly sprites: Range;
  readonly shapes: readonly Shape[];
  readonly textures: readonly Texture[];
  readonly radius: Range;
  readonly motions: readonly Motion[];
  /** Whether what drifts or bounces may spin. */
  readonly spins: boolean;
  /** How far a heading may be from the direction in the caption. */
  readonly swerve: number;
  /** Words for speeds and what they mean, in picture heights per second. */
  readonly paces: Readonly<Record<string, Range>>;
  /** For this many seconds a sprite meets no wall, if the picture is large enough: ahead, and with its direction reversed. */
  readonly room: readonly [ahead: number, behind: number];
  readonly patterns: readonly Pattern[];
  readonly pans: readonly string[];
}

const FULL: World = {
  sprites: [1, 3],
  shapes: SHAPES,
  textures: TEXTURES,
  radius: [0.14, 0.22],
  motions: ["drifts", "drifts", "bounces", "bounces", "turns"],
  spins: true,
  swerve: 0.25,
  paces: { "": [0.25, 0.5] },
  room: [0, 0],
  patterns: PATTERNS.slice(0, 3),
  pans: Object.keys(PANS),
};
const PLAIN: World = {
  sprites: [1, 1],
  shapes: ["ball", "square"],
  textures: ["plain"],
  radius: [0.12, 0.16],
  motions: ["drifts"],
  spins: false,
  swerve: 0,
  paces: { "": [0.175, 0.175] },
  room: [2, 1],
  patterns: ["plain"],
  pans: ["still"],
};
const PACED: World = { ...PLAIN, shapes: SHAPES, paces: { slowly: [0.14, 0.18], quickly: [0.28, 0.34] } };
const PAIR: World = { ...PACED, sprites: [1, 2], room: [1, 1] };
const TEXTURED: World = { ...PAIR, textures: TEXTURES, patterns: FULL.patterns };
const TURNING: World = { ...TEXTURED, motions: ["drifts", "drifts", "turns"], spins: true };

/** From the one where a small model soon learns to move things as told, step by step to the one of the tutorials. */
export const WORLDS = {
  plain: PLAIN,
  paced: PACED,
  pair: PAIR,
  textured: TEXTURED,
  turning: TURNING,
  full: FULL,
} as const;
export type WorldName = keyof typeof WORLDS;
export const WORLD_NAMES = Object.keys(WORLDS) as WorldName[];
/** All words for speeds. */
export const PACES = [...new Set(Object.values(WORLDS).flatMap(({ paces }) => Object.keys(paces)))];

const PAN_SPEED: Range = [0.1, 0.22];
const SPIN: Range = [1, 2.2];
const mean = ([low, high]: Range) => (low + high) / 2;

export interface SceneOptions {
  readonly aspect: number;
  /** Default: drawn. */
  readonly numSprites?: number;
  readonly world: World;
}

/** Draws a scene; the same generator state gives the same scene. */
export function drawScene(random: RandomGenerator, options: SceneOptions): Scene {
  const { aspect, world } = options;
  const background = drawBackground(random, world);
  const pan = pick(random, world.pans);
  const panSpeed = random.uniform(...PAN_SPEED);
  const [least, most] = world.sprites;
  const sprites = drawSprites(random, options.numSprites ?? random.integer(least, most + 1), options);
  return { aspect, background, pan, panSpeed, sprites };
}

/** Moves the sprites on by so many seconds, a frame. */
export function advance({ sprites, aspect }: Scene, seconds: number): void {
  for (let i = 0; i < STEPS_PER_FRAME; i++) {
    for (const sprite of sprites) move(sprite, seconds / STEPS_PER_FRAME, aspect);
  }
}

const copyOf = (scene: Scene, change: (sprite: Sprite) => Sprite): Scene => ({
  ...scene,
  sprites: scene.sprites.map(change),
});

/** The same first picture with opposite directions: what drifts or bounces starts the other way. */
export function reversed(scene: Scene): Scene {
  return copyOf(scene, (sprite) => ({
    ...sprite,
    direction: DIRECTIONS[(DIRECTIONS.indexOf(sprite.direction) + 4) % 8]!,
    vx: -sprite.vx,
    vy: -sprite.vy,
  }));
}

/**
 * The scene to expect from its first picture and caption alone: what moves does so exactly as the words say, at the mean of
 * the speeds that they leave open.
 */
export function expected(scene: Scene): Scene {
  const changed = copyOf(scene, (sprite) => {
    const moves = sprite.motion !== "turns";
    const heading = DIRECTIONS.indexOf(sprite.direction) * (Math.PI / 4);
    return {
      ...sprite,
      spin: Math.sign(sprite.spin) * mean(SPIN),
      vx: moves ? mean(sprite.speeds) * Math.cos(heading) : 0,
      vy: sprite.motion === "drifts" ? mean(sprite.speeds) * Math.sin(heading) : 0,
    };
  });
  return { ...changed, panSpeed: mean(PAN_SPEED) };
}

function pick<T>(random: RandomGenerator, choices: readonly T[]): T {
  return choices[random.integer(0, choices.length)]!;
}

function drawBackground(random: RandomGenerator, { patterns }: World): Background {
  const palette = pick(random, Object.keys(BACKGROUNDS));
  const pattern = pick(random, patterns);
  const lattice = Float64Array.from({ length: LATTICE * LATTICE }, () => random.uniform());
  return { palette, pattern, lattice, phase: random.uniform(0, 10) };
}

function drawSprites(random: RandomGenerator, count: number, { aspect, world }: SceneOptions): Sprite[] {
  const colours = random.permutation(Object.keys(COLOURS).length).map((i) => Object.keys(COLOURS)[i]!);
  return Array.from({ length: count }, (_, i) => {
    const shape = pick(random, world.shapes);
    const motion = pick(random, world.motions);
    // A sprite that turns in place needs a texture or shape that shows it.
    const shows = world.textures.filter((texture) => texture !== "plain");
    const texture = pick(random, motion === "turns" && shape === "ball" ? shows : world.textures);
    const radius = Math.min(random.uniform(...world.radius), 0.4 * aspect);
    const octant = motion === "bounces" ? pick(random, [0, 4]) : random.integer(0, 8);
    const heading = octant * (Math.PI / 4) + random.uniform(-world.swerve, world.swerve);
    const paces = Object.keys(world.paces);
    const pace = paces.length === 1 ? paces[0]! : pick(random, paces);
    const speeds = world.paces[pace]!;
    const speed = random.uniform(...speeds);
    const turning = motion === "turns" || (random.uniform() < 0.5 && world.spins);
    const spin = pick(random, [-1, 1]) * random.uniform(...SPIN) * (turning ? 1 : 0);
    const still = motion === "turns";
    const vx = still ? 0 : speed * Math.cos(heading);
    const vy = still || motion === "bounces" ? 0 : speed * Math.sin(heading);
    const x = random.uniform(...between(radius, aspect - radius, vx, world.room));
    const y = random.uniform(...between(radius, motion === "bounces" ? 0.5 : 1 - radius, vy, world.room));
    return {
      shape,
      texture,
      colour: colours[i]!,
      radius,
      motion,
      direction: DIRECTIONS[octant]!,
      pace: still ? "" : pace,
      speeds,
      spin,
      x,
      y,
      vx,
      vy,
      angle: random.uniform(0, 2 * Math.PI),
    };
  });
}

/** Where between two walls something that moves at `speed` may start to have room; in the middle if there is too little. */
function between(first: number, last: number, speed: number, [ahead, behind]: World["room"]): Range {
  const low = first + Math.max(ahead * -speed, behind * speed);
  const high = last - Math.max(ahead * speed, behind * -speed);
  if (ahead === 0) return [low, Math.max(low, high)];
  return low <= high ? [low, high] : [(low + high) / 2, (low + high) / 2];
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

/** The turning that a caption names: 1 for clockwise, -1 for counterclockwise, 0 if none is named or visible. */
export function spinSaid({ motion, texture, shape, spin }: Sprite): number {
  const seen = texture !== "plain" || shape !== "ball";
  return motion === "turns" || seen ? Math.sign(spin) : 0;
}

/** Says what is there and how it moves. */
export function describe({ sprites, background, pan }: Scene): string {
  const parts = sprites.map((sprite) => {
    const surface = sprite.texture === "plain" ? "" : `${sprite.texture} `;
    const spin = spinSaid(sprite);
    const way = spin > 0 ? "clockwise" : "counterclockwise";
    const pace = sprite.pace === "" ? "" : `${sprite.pace} `;
    let moves = `${sprite.motion} ${pace}${sprite.direction}`;
    if (sprite.motion === "turns") moves = `turns ${way} in place`;
    else if (spin !== 0) moves += `, spinning ${way}`;
    return `${sprite.colour === "orange" ? "an" : "a"} ${sprite.colour} ${surface}${sprite.shape} ${moves}`;
  });
  const camera = pan === "still" ? "the camera holds still" : `the camera pans ${pan}`;
  const text = `${parts.join("; ")}; ${background.pattern} ${background.palette} background; ${camera}.`;
  return text[0]!.toUpperCase() + text.slice(1);
}
