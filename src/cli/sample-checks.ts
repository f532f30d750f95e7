/** What `firstframe sample` decides and refuses before a model is read: the output's place, the video's size, the LoRAs. */

import { access, constants, readdir, stat } from "node:fs/promises";
import { dirname, extname, resolve } from "node:path";
import type { CogVideoXTransformer3DModelConfig } from "../models/transformer/transformer.js";
import type { Size } from "../video/clip.js";
import { UsageError } from "./errors.js";

/** The kinds of files that a video can be written to. */
const OUTPUTS = [".mp4", ".webp", ".gif", ""];

/**
 * Makes sure that a video can be written, which is only known to fail after all work otherwise.
 * @returns a line to say if a file is there, which is going to be replaced.
 * @throws UsageError naming what is in the way.
 */
export async function checkOutput(out: string): Promise<string | undefined> {
  const extension = extname(out).toLowerCase();
  if (!OUTPUTS.includes(extension))
    throw new UsageError(`--out: expected a .mp4, .webp or .gif file or a folder, found ${out}`);
  const path = resolve(out);
  const there = await stat(path).catch(() => undefined);
  if (extension !== "" && there?.isDirectory())
    throw new UsageError(`--out: ${out} is a folder, expected a file`, { hint: "give it another name" });
  if (extension === "" && there && !there.isDirectory())
    throw new UsageError(`--out: ${out} is a file, expected a folder for PNGs`, {
      hint: "for a video, end the name in .mp4, .webp or .gif",
    });
  if (there?.isDirectory() && (await readdir(path)).length > 0)
    throw new UsageError(
      `--out: ${out} is a folder with files in it, and frames go into an empty or new one`,
      {
        hint: "give another name, or remove it",
      },
    );
  // The nearest folder that is there has to take the new one.
  let parent = dirname(path);
  for (;;) {
    const found = await stat(parent).catch(() => undefined);
    if (found?.isDirectory()) break;
    if (found) throw new UsageError(`--out: ${out} can't be written: ${parent} is a file`);
    parent = dirname(parent);
  }
  await access(parent, constants.W_OK).catch(() => {
    throw new UsageError(`--out: ${parent} can't be written to`);
  });
  return there?.isFile() ? `out: ${out} is there and will be replaced` : undefined;
}

/** What CogVideoX 1.5 was trained on: a shorter and a longer side of at most so many pixels. */
const SIDES_1_5 = { short: 768, long: 1360 } as const;

/** What decides the sizes that a model can make. */
export type SizeConfig = Pick<
  CogVideoXTransformer3DModelConfig,
  | "sample_height"
  | "sample_width"
  | "patch_size"
  | "patch_size_t"
  | "use_rotary_positional_embeddings"
  | "use_learned_positional_embeddings"
>;

/** A size in pixels, and why it is that one. */
export interface ChosenSize extends Size {
  readonly reason: string;
}

/**
 * The size of the video.
 *
 * CogVideoX 1.0 makes its own, sample_height x sample_width times the VAE's ratio (480x720). 1.5 has the picture's aspect, as
 * large as fits into 768x1360 or 1360x768, in multiples of a patch. A small model of 1.5's kind, whose positions don't reach so far,
 * takes the picture's size, at most its own.
 *
 * @param given height and width in pixels, where the flags say them.
 * @param image the first frame's size; null for models that have none.
 * @param ratio pixels per latent, the VAE's.
 * @throws UsageError for a size that the model's patches or positions don't allow.
 */
export function videoSize(
  given: { readonly height?: number | undefined; readonly width?: number | undefined },
  image: Size | null,
  config: SizeConfig,
  ratio: number,
): ChosenSize {
  const own = { height: config.sample_height * ratio, width: config.sample_width * ratio };
  const multiple = ratio * config.patch_size;
  const { height, width } = given;
  let size: ChosenSize;
  if (height !== undefined && width !== undefined) size = { height, width, reason: "as asked for" };
  else if (config.patch_size_t === null || image === null)
    size = { height: height ?? own.height, width: width ?? own.width, reason: "the model's own" };
  else size = likePicture(given, image, own, multiple);
  checkSize(size, own, config, multiple);
  return size;
}

function likePicture(
  { height, width }: { readonly height?: number | undefined; readonly width?: number | undefined },
  image: Size,
  own: Size,
  multiple: number,
): ChosenSize {
  const aspect = image.width / image.height;
  const fit = (side: number, most: number) =>
    Math.min(Math.max(1, Math.round(side / multiple)), Math.max(1, Math.floor(most / multiple))) * multiple;
  const reason = "the picture's aspect";
  if (height !== undefined) return { height, width: fit(height * aspect, own.width), reason };
  if (width !== undefined) return { height: fit(width / aspect, own.height), width, reason };
  const { short, long } = SIDES_1_5;
  const box = aspect >= 1 ? { height: short, width: long } : { height: long, width: short };
  const isLarge = Math.min(own.height, own.width) >= short;
  const most = {
    height: Math.min(own.height, box.height),
    width: Math.min(own.width, box.width),
  };
  const scale = Math.min(most.height / image.height, most.width / image.width);
  const by = isLarge ? scale : Math.min(1, scale);
  return {
    height: fit(image.height * by, most.height),
    width: fit(image.width * by, most.width),
    reason: isLarge ? `${reason} within ${most.height}x${most.width}` : "the picture's",
  };
}

function checkSize(size: Size, own: Size, config: SizeConfig, multiple: number): void {
  for (const side of ["height", "width"] as const) {
    const found = size[side];
    if (!Number.isInteger(found) || found < 1 || found % multiple !== 0)
      throw new UsageError(
        `--${side}: expected a multiple of ${multiple} (VAE times patch_size), found ${found}`,
      );
    if (config.use_learned_positional_embeddings && found !== own[side])
      throw new UsageError(
        `--${side}: this model's learned positions are for ${own[side]} pixels alone (sample_${side}), found ${found}`,
      );
    // 1.5's positions are counted in patches, of which the model knows so many.
    const most = Math.floor(own[side] / multiple) * multiple;
    if (config.use_rotary_positional_embeddings && config.patch_size_t !== null && found > most)
      throw new UsageError(
        `--${side}: this model's positions reach to ${most} pixels (sample_${side}), found ${found}`,
      );
  }
}
