/** The procedural world's pictures. */
import { Clip, type Size } from "../video/clip.js";
import {
  advance,
  BACKGROUNDS,
  type Background,
  COLOURS,
  LATTICE,
  PANS,
  type Scene,
  type Sprite,
} from "./scene.js";

export interface Rendering extends Size {
  readonly numFrames: number;
  readonly fps: number;
}

/** A sprite of a rendered clip, with what its caption does not tell. Lengths are in pixels. */
export interface SpriteTruth {
  readonly shape: Sprite["shape"];
  readonly texture: Sprite["texture"];
  readonly colour: string;
  readonly motion: Sprite["motion"];
  /** Where it heads at first, in the caption's words. */
  readonly direction: string;
  /** Distance from its centre to its corners, the same in all frames. */
  readonly radius: number;
  /** Its centre in each frame: [x, y], from the picture's upper left corner. */
  readonly path: readonly (readonly [number, number])[];
  /** Its rotation in each frame, in radians clockwise. */
  readonly angles: readonly number[];
}

export interface Rendered {
  readonly clip: Clip;
  readonly sprites: readonly SpriteTruth[];
}

/**
 * Renders a scene as a clip. The scene itself is not changed.
 *
 * @param options.withSprites false renders the background alone.
 * @param options.unseen what pans uncover: "seen" as it is, or "guessed" by extending the first picture's edge, which is all
 *   that someone who knows only that picture can do.
 */
export function render(
  { sprites: start, ...scene }: Scene,
  { numFrames, height, width, fps }: Rendering,
  { withSprites = true, unseen = "seen" }: { withSprites?: boolean; unseen?: "seen" | "guessed" } = {},
): Rendered {
  const sprites = start.map((sprite) => ({ ...sprite }));
  const paths = sprites.map((): { path: [number, number][]; angles: number[] } => ({ path: [], angles: [] }));
  const data = new Uint8Array(numFrames * height * width * 3);
  const picture = new Float32Array(height * width * 3);
  const first = new Float32Array(height * width * 3);
  paintBackground(first, height, width, scene.background, 0, 0);
  const [panX, panY] = PANS[scene.pan]!;
  for (let f = 0; f < numFrames; f++) {
    const travelled = (scene.panSpeed * f) / fps;
    if (unseen === "seen")
      paintBackground(picture, height, width, scene.background, panX * travelled, panY * travelled);
    else shift(first, picture, height, width, panX * travelled * height, panY * travelled * height);
    for (const [i, sprite] of sprites.entries()) {
      if (withSprites) paintSprite(picture, height, width, sprite);
      paths[i]!.path.push([sprite.x * height, sprite.y * height]);
      paths[i]!.angles.push(sprite.angle);
    }
    const offset = f * picture.length;
    for (let i = 0; i < picture.length; i++)
      data[offset + i] = Math.min(Math.max(Math.round(picture[i]!), 0), 255);
    advance({ ...scene, sprites }, 1 / fps);
  }
  const truth = start.map(({ shape, texture, colour, motion, direction, radius }, i) => {
    return { shape, texture, colour, motion, direction, radius: radius * height, ...paths[i]! };
  });
  return { clip: new Clip({ data, width, height, fps }), sprites: truth };
}

/** Shifts a picture, interpolating between pixels and repeating the edge beyond it. */
function shift(
  from: Float32Array,
  to: Float32Array,
  height: number,
  width: number,
  right: number,
  down: number,
): void {
  const within = (value: number, size: number) => Math.min(Math.max(value, 0), size - 1);
  for (let row = 0, o = 0; row < height; row++) {
    const y = within(row + down, height);
    const [y0, v] = [Math.floor(y), y % 1];
    const y1 = within(y0 + 1, height);
    for (let column = 0; column < width; column++) {
      const x = within(column + right, width);
      const [x0, u] = [Math.floor(x), x % 1];
      const x1 = within(x0 + 1, width);
      for (let c = 0; c < 3; c++) {
        const at = (j: number, i: number) => from[(j * width + i) * 3 + c]!;
        to[o++] =
          (at(y0, x0) * (1 - u) + at(y0, x1) * u) * (1 - v) + (at(y1, x0) * (1 - u) + at(y1, x1) * u) * v;
      }
    }
  }
}

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
      let shade = pattern === "plain" ? 0.7 : cloud;
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
  const darker = [first[0] * 0.5, first[1] * 0.5, first[2] * 0.5];
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
      // Light from the upper left; it stays there while the sprite turns.
      const light = 1.06 - 0.16 * (dx + dy) * (shape === "ball" ? 1.3 : 0.7);
      for (let c = 0; c < 3; c++) {
        const own = (first[c]! * (1 - second) + darker[c]! * second) * light;
        picture[o + c] = picture[o + c]! * shade * (1 - cover) + own * cover;
      }
    }
  }
}
