import { RandomGenerator } from "../engine/random.js";
import { Clip, type Size } from "../video/clip.js";

export interface ProceduralClipOptions extends Partial<Size> {
  /** Where the scene's draws come from; give this or `seed`. */
  readonly generator?: RandomGenerator;
  /** Default 0. */
  readonly seed?: number;
  /** Default 81, CogVideoX-1.5's five seconds. */
  readonly numFrames?: number;
  /** Default 16. */
  readonly fps?: number;
  /** 1 to 4; by default drawn from 1 to 3. */
  readonly numSprites?: number;
}

export interface ProceduralClip {
  readonly clip: Clip;
  /** Says what is there and how it moves. */
  readonly caption: string;
}

type Rgb = readonly [number, number, number];

const COLOURS: Readonly<Record<string, Rgb>> = {
  red: [214, 62, 54],
  orange: [236, 139, 48],
  yellow: [242, 205, 74],
  green: [72, 160, 84],
  blue: [58, 108, 196],
  purple: [132, 84, 176],
  pink: [234, 138, 172],
  white: [240, 238, 230],
};

const BACKGROUNDS: Readonly<Record<string, readonly [Rgb, Rgb]>> = {
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
const PANS: Readonly<Record<string, readonly [number, number]>> = {
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
interface Sprite {
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

interface Background {
  readonly palette: string;
  readonly pattern: (typeof PATTERNS)[number];
  /** A square lattice of values in [0, 1] that repeats. */
  readonly lattice: Float64Array;
  readonly phase: number;
}

const LATTICE = 32;
const GRAVITY = 0.9;
const STEPS_PER_FRAME = 8;

/**
 * A clip made from a seed: textured sprites that drift, bounce under gravity or turn in front of a textured
 * background, past which the camera pans. The same seed gives the same scene at every size and length.
 *
 * @throws RangeError for sizes, counts or rates that are not positive.
 */
export function proceduralClip(options: ProceduralClipOptions = {}): ProceduralClip {
  const { numFrames = 81, height = 128, width = 192, fps = 16, numSprites } = options;
  for (const [name, value] of Object.entries({ numFrames, height, width })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new RangeError(`proceduralClip: expected ${name} to be a positive integer, found ${value}`);
    }
  }
  if (!(fps > 0)) throw new RangeError(`proceduralClip: expected fps > 0, found ${fps}`);
  if (numSprites !== undefined && ![1, 2, 3, 4].includes(numSprites)) {
    throw new RangeError(`proceduralClip: expected numSprites from 1 to 4, found ${numSprites}`);
  }
  const random = options.generator ?? new RandomGenerator(options.seed ?? 0);
  const aspect = width / height;
  const background = drawBackground(random);
  const pan = pick(random, Object.keys(PANS));
  const panSpeed = random.uniform(0.1, 0.22);
  const sprites = drawSprites(random, numSprites ?? random.integer(1, 4), aspect);
  const caption = describe(sprites, background, pan);

  const data = new Uint8Array(numFrames * height * width * 3);
  const picture = new Float32Array(height * width * 3);
  for (let f = 0; f < numFrames; f++) {
    const [panX, panY] = PANS[pan]!;
    const travelled = (panSpeed * f) / fps;
    paintBackground(picture, height, width, background, panX * travelled, panY * travelled);
    for (const sprite of sprites) paintSprite(picture, height, width, sprite);
    const offset = f * picture.length;
    for (let i = 0; i < picture.length; i++)
      data[offset + i] = Math.min(Math.max(Math.round(picture[i]!), 0), 255);
    for (let i = 0; i < STEPS_PER_FRAME; i++) {
      for (const sprite of sprites) move(sprite, 1 / fps / STEPS_PER_FRAME, aspect);
    }
  }
  return { clip: new Clip({ data, width, height, fps }), caption };
}

function pick<T>(random: RandomGenerator, choices: readonly T[]): T {
  return choices[random.integer(0, choices.length)]!;
}

// -- the scene ---------------------------------------------------------------------------------------------------

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
    const speed = random.uniform(0.25, 0.5);
    const turning = motion === "turns" || random.uniform() < 0.5;
    const spin = pick(random, [-1, 1]) * random.uniform(1, 2.2) * (turning ? 1 : 0);
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

function describe(sprites: readonly Sprite[], background: Background, pan: string): string {
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

// -- the picture -------------------------------------------------------------------------------------------------

const smooth = (t: number) => t * t * (3 - 2 * t);

/** Value noise: the lattice, smoothly interpolated. */
function noise(lattice: Float64Array, x: number, y: number): number {
  const x0 = Math.floor(x);
  const y0 = Math.floor(y);
  const at = (i: number, j: number) => lattice[(j & (LATTICE - 1)) * LATTICE + (i & (LATTICE - 1))]!;
  const u = smooth(x - x0);
  const v = smooth(y - y0);
  const top = at(x0, y0) * (1 - u) + at(x0 + 1, y0) * u;
  const bottom = at(x0, y0 + 1) * (1 - u) + at(x0 + 1, y0 + 1) * u;
  return top * (1 - v) + bottom * v;
}

function paintBackground(
  picture: Float32Array,
  height: number,
  width: number,
  background: Background,
  left: number,
  top: number,
): void {
  const { pattern, lattice, phase } = background;
  const [light, dark] = BACKGROUNDS[background.palette]!;
  for (let row = 0, o = 0; row < height; row++) {
    const y = (row + 0.5) / height + top + phase;
    for (let column = 0; column < width; column++) {
      const x = (column + 0.5) / height + left + phase;
      const cloud = 0.75 * noise(lattice, 2.5 * x, 2.5 * y) + 0.25 * noise(lattice, 6 * x + 7, 6 * y + 3);
      let shade = cloud;
      if (pattern === "wavy")
        shade = 0.5 * cloud + 0.25 + 0.25 * Math.sin(14 * y + 2.5 * Math.sin(5 * x) + 3 * cloud);
      if (pattern === "tiled") {
        const tile = noise(lattice, Math.floor(3 * x), Math.floor(3 * y));
        const edge = Math.min(Math.abs(((3 * x) % 1) - 0.5), Math.abs(((3 * y) % 1) - 0.5)) * 2;
        shade = 0.6 * tile + 0.3 * cloud + 0.1 * edge;
      }
      for (let c = 0; c < 3; c++) picture[o++] = dark[c]! + (light[c]! - dark[c]!) * shade;
    }
  }
}

/** Distance to the outline in units of the radius, negative inside (regular polygons, star and circle). */
function outline(shape: Sprite["shape"], u: number, v: number): number {
  if (shape === "ball") return Math.hypot(u, v) - 1;
  if (shape === "square") return Math.max(Math.abs(u), Math.abs(v)) - 0.8;
  const corners = shape === "triangle" ? 3 : shape === "hexagon" ? 6 : 5;
  const sector = (2 * Math.PI) / corners;
  const angle = Math.atan2(u, -v);
  const folded = angle - sector * Math.round(angle / sector);
  const distance = Math.hypot(u, v);
  const along = distance * Math.cos(folded);
  const across = distance * Math.abs(Math.sin(folded));
  if (shape !== "star") {
    // The nearest corner points along `folded = 0`; the edge runs from there to half a sector on.
    const half = sector / 2;
    return along * Math.cos(half) + across * Math.sin(half) - Math.cos(half);
  }
  const inner = 0.5;
  const edgeX = inner * Math.cos(sector / 2) - 1;
  const edgeY = inner * Math.sin(sector / 2);
  return ((along - 1) * edgeY - across * edgeX) / Math.hypot(edgeX, edgeY);
}

/** 1 where the second colour shows, 0 where the first does, with soft edges. */
function surface(texture: Sprite["texture"], u: number, v: number): number {
  const soft = (value: number) => Math.min(Math.max(0.5 + 3 * value, 0), 1);
  if (texture === "striped") return soft(Math.sin(2.2 * Math.PI * u));
  if (texture === "checkered") return soft(1.6 * Math.sin(1.7 * Math.PI * u) * Math.sin(1.7 * Math.PI * v));
  if (texture === "dotted") {
    const near = (value: number) => value - 0.8 * Math.round(value / 0.8);
    return soft(2.5 * (0.24 - Math.hypot(near(u), near(v))));
  }
  return 0;
}

function paintSprite(picture: Float32Array, height: number, width: number, sprite: Sprite): void {
  const { shape, texture, radius, angle } = sprite;
  const first = COLOURS[sprite.colour]!;
  const darker: Rgb = [first[0] * 0.5, first[1] * 0.5, first[2] * 0.5];
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  const pixel = 1 / (height * radius);
  const shadow = 0.12;
  const reach = radius * (1.1 + 2 * shadow);
  const firstRow = Math.max(0, Math.floor((sprite.y - reach) * height));
  const lastRow = Math.min(height - 1, Math.ceil((sprite.y + reach) * height));
  const firstColumn = Math.max(0, Math.floor((sprite.x - reach) * height));
  const lastColumn = Math.min(width - 1, Math.ceil((sprite.x + reach) * height));
  for (let row = firstRow; row <= lastRow; row++) {
    const dy = ((row + 0.5) / height - sprite.y) / radius;
    for (let column = firstColumn; column <= lastColumn; column++) {
      const dx = ((column + 0.5) / height - sprite.x) / radius;
      const o = (row * width + column) * 3;
      const cast = outline(
        shape,
        (dx - shadow) * cos + (dy - shadow) * sin,
        (dy - shadow) * cos - (dx - shadow) * sin,
      );
      const shade = 1 - 0.4 * Math.min(Math.max(0.5 - cast / 0.25, 0), 1);
      const u = dx * cos + dy * sin;
      const v = dy * cos - dx * sin;
      const cover = Math.min(Math.max(0.5 - outline(shape, u, v) / pixel, 0), 1);
      const second = surface(texture, u, v);
      // Light from the upper left, which stays there while the sprite turns.
      const light = 1.06 - 0.16 * (dx + dy) * (shape === "ball" ? 1.3 : 0.7);
      for (let c = 0; c < 3; c++) {
        const own = (first[c]! * (1 - second) + darker[c]! * second) * light;
        picture[o + c] = picture[o + c]! * shade * (1 - cover) + own * cover;
      }
    }
  }
}
