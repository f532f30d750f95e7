/** The clips that all arms are measured on: what they show, the images made from them, and what follows when they are rolled on. */
import { RandomGenerator } from "../../../src/engine/random.js";
import * as tf from "../../../src/engine/tf.js";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { type MotionTruth, truthOf, truthOfScene } from "../../../src/procedural/motion.js";
import { advance, describe, reversed, type Scene, type WorldName } from "../../../src/procedural/scene.js";
import { HELD_OUT_SEED } from "../../../src/procedural/vae-training.js";
import { addImageNoise } from "../../../src/recipe/image-noise.js";
import { Clip } from "../../../src/video/clip.js";
import { sharp } from "../../../src/video/sharp.js";
import { type Corruption, ROLLS } from "./arms.js";

export interface ClipSettings {
  readonly world: WorldName;
  readonly numFrames: number;
  readonly height: number;
  readonly width: number;
  readonly fps: number;
}

export interface HeldOutClip {
  readonly index: number;
  readonly scene: Scene;
  readonly caption: string;
  readonly image: Clip;
  readonly truth: MotionTruth;
  /** With the direction reversed. */
  readonly reversedCaption: string;
  readonly reversedTruth: MotionTruth;
}

export function heldOutClip(index: number, settings: ClipSettings): HeldOutClip {
  const made = proceduralClip({ ...settings, seed: HELD_OUT_SEED + index });
  const turned = reversed(made.scene);
  return {
    index,
    scene: made.scene,
    caption: made.caption,
    image: made.clip.slice(0, 1),
    truth: truthOf(made),
    reversedCaption: describe(turned),
    reversedTruth: truthOfScene(turned, made.clip),
  };
}

/** What should follow when a clip's last frame is taken as the image. */
export interface Roll {
  readonly caption: string;
  readonly truth: MotionTruth;
}

/**
 * The rolls after the first. The direction is reversed each time: there and back, so that no sprite comes nearer to a wall than in
 * the clips of the training.
 */
export function laterRolls({ scene, truth }: HeldOutClip): Roll[] {
  const rolls: Roll[] = [];
  let now = scene;
  for (let roll = 1; roll < ROLLS; roll++) {
    now = after(now, truth.clip);
    rolls.push({ caption: describe(now), truth: truthOfScene(now, truth.clip) });
  }
  return rolls;
}

/** The scene as a clip leaves it, with its direction reversed. */
function after(scene: Scene, { numFrames, fps }: Clip): Scene {
  const copy = reversed(scene);
  const forth: Scene = {
    ...copy,
    sprites: copy.sprites.map((sprite) => ({ ...sprite, vx: -sprite.vx, vy: -sprite.vy })),
  };
  for (let frame = 1; frame < numFrames; frame++) advance(forth, 1 / fps);
  return {
    ...forth,
    sprites: forth.sprites.map((sprite) => ({ ...sprite, vx: -sprite.vx, vy: -sprite.vy })),
  };
}

const SIGMAS = { "sigma-0.05": 0.05, "sigma-0.14": 0.14, "sigma-0.37": 0.37 } as const;

/** A held-out clip's image, spoilt. The same clip is always spoilt in the same way. */
export async function corrupt(clip: HeldOutClip, how: Corruption): Promise<Clip> {
  const { image, index } = clip;
  const { width, height, fps } = image;
  const random = new RandomGenerator(7000 + index);
  const picture = () => sharp(Buffer.from(image.data), { raw: { width, height, channels: 3 } });
  const asClip = (data: Uint8Array) => new Clip({ data: new Uint8Array(data), width, height, fps });
  switch (how) {
    case "sigma-0.05":
    case "sigma-0.14":
    case "sigma-0.37": {
      const pixels = tf.tidy(() => {
        const clean = image.toTensor();
        const noise = random.randn<tf.Rank.R5>(clean.shape);
        return tf.clipByValue(addImageNoise(clean, { sigmas: [SIGMAS[how]], noise }).image, -1, 1);
      });
      const noisy = Clip.fromTensor(pixels, image);
      pixels.dispose();
      return noisy;
    }
    case "jpeg": {
      const bytes = await picture().jpeg({ quality: 10 }).toBuffer();
      return asClip(await sharp(bytes).removeAlpha().raw().toBuffer());
    }
    case "blur":
      return asClip(
        await picture()
          .blur(width / 16)
          .raw()
          .toBuffer(),
      );
    case "small":
      return image.resize({ width: width / 4, height: height / 4 }).resize({ width, height });
    case "box": {
      // Beside the sprite's centre, so that a part of it is missing.
      const side = Math.round(width / 4);
      const [{ path, radius }] = clip.truth.sprites as [(typeof clip.truth.sprites)[number]];
      const angle = random.uniform(0, 2 * Math.PI);
      const corner = (centre: number, way: number, length: number) =>
        Math.max(0, Math.min(length - side, Math.round(centre + radius * way - side / 2)));
      const left = corner(path[0]![0], Math.cos(angle), width);
      const top = corner(path[0]![1], Math.sin(angle), height);
      const data = image.data.slice();
      for (let y = top; y < top + side; y++) {
        data.fill(128, (y * width + left) * 3, (y * width + left + side) * 3);
      }
      return asClip(data);
    }
    case "drawn": {
      const svg = Buffer.from(drawing(clip, random));
      return asClip(await sharp(svg).removeAlpha().raw().toBuffer());
    }
  }
}

/** The first picture as a pencil would: shaky outlines, colour in strokes. */
function drawing({ truth, image }: HeldOutClip, random: RandomGenerator): string {
  const { width, height } = image;
  const rgb = (picture: Uint8Array, x: number, y: number) =>
    `rgb(${[...picture.subarray((y * width + x) * 3, (y * width + x) * 3 + 3)]})`;
  const [first] = truth.sprites;
  const [x, y] = first!.path[0]!;
  const corners = first!.shape === "ball" ? 14 : 4;
  const turn = first!.shape === "ball" ? 0 : Math.PI / 4 + first!.angles[0]!;
  const outline = Array.from({ length: corners }, (_, i) => {
    const angle = turn + (2 * Math.PI * i) / corners;
    const reach = first!.radius + 0.6 * random.normal();
    return `${(x + reach * Math.cos(angle)).toFixed(1)},${(y + reach * Math.sin(angle)).toFixed(1)}`;
  }).join(" ");
  const strokes = (colour: string, gap: number, wide: number) =>
    Array.from({ length: Math.ceil((width + height) / gap) }, (_, i) => {
      const at = i * gap + 0.5 * random.normal();
      return `<line x1="${at.toFixed(1)}" y1="0" x2="${(at - height).toFixed(1)}" y2="${height}" stroke="${colour}" stroke-width="${wide}"/>`;
    }).join("");
  const ground = rgb(truth.ground.frame(0), 0, 0);
  const colour = rgb(image.frame(0), Math.floor(x), Math.floor(y));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">
    <clipPath id="in"><polygon points="${outline}"/></clipPath>
    <rect width="100%" height="100%" fill="white"/>${strokes(ground, 3, 2.6)}
    <g clip-path="url(#in)"><rect width="100%" height="100%" fill="white"/>${strokes(colour, 2, 1.9)}</g>
    <polygon points="${outline}" fill="none" stroke="#333" stroke-width="1"/></svg>`;
}
