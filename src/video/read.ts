import { readdir, readFile, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import type { InputVideoTrack } from "#mediabunny";
import { fileProblem } from "../engine/errors.js";
import { Clip } from "./clip.js";
import { type ContainerFacts, inspectFile } from "./container.js";
import {
  BeyondDecoder,
  decodeTrack,
  refuseHdr,
  type ShownFrames,
  shownFrames,
  trackShape,
} from "./decode.js";
import { ClipError, reading } from "./errors.js";
import { conversion, ffmpegFrames, ffmpegProbe, ffmpegVersion } from "./ffmpeg.js";
import { gifIsWhole } from "./gif.js";
import { sharp } from "./sharp.js";
import { withMediabunny } from "./webcodecs.js";

export { ClipError };

export interface ReadClipOptions {
  /** Frames per second of a folder of images, which has no rate of its own. Default 16, CogVideoX-1.5's. */
  readonly fps?: number;
  /** Which frames to keep, given how many there are, at how many a second. Frames that are not kept take no memory. Default: all. */
  readonly select?: (numFrames: number, fps: number) => readonly number[];
  /**
   * Applied to each frame that is kept, as soon as it is decoded, so that only what it returns takes memory; such as
   * `(frame) => frame.resize({ height: 768, width: 1360 })`. It gets a clip of one frame, and returns one.
   */
  readonly frame?: (frame: Clip) => Clip;
}

/** CogVideoX-1.5's rate, for what has none of its own. */
const DEFAULT_FPS = 16;

const IMAGES = new Set([".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".avif"]);

interface Frames {
  /** Called with each frame that is kept, in the order of the file. */
  readonly take: (index: number, rgb: Uint8Array, width: number, height: number) => void;
  readonly wanted: (index: number) => boolean;
}

/**
 * Reads a clip: MP4, MOV, MPEG-TS, WebM and Matroska video, animated WebP and GIF, a folder of images in the natural order
 * of their names, or a single image (one frame). What a file is, is told by its content. Of other formats (ProRes, AVI, HEIC
 * and more) an installed ffmpeg reads what it can.
 *
 * Frames are those that a player shows: edit lists are kept to, frames are turned and mirrored as the file says, their pixels
 * are square, and their colours are converted with the matrix and range that the file names (BT.601 if it names none).
 * Transparency is dropped, as `PIL.Image.convert("RGB")` does.
 *
 * @throws ClipError naming the file if it is missing, empty, not a clip, HDR, or not whole.
 */
export async function readClip(path: string, options: ReadClipOptions = {}): Promise<Clip> {
  return open(path, {
    folder: () => readFolder(path, options),
    image: () => readImage(path, options),
    video: (mediabunny, facts) => readVideo(path, options, mediabunny, facts),
    foreign: () => readForeign(path, options),
  });
}

/** What a clip's file says about it, without its pixels. */
export interface ClipInfo {
  readonly numFrames: number;
  readonly width: number;
  readonly height: number;
  readonly fps: number;
}

/**
 * Reads only what a clip's file says about frames, size and rate; takes what {@link readClip} takes.
 *
 * @throws ClipError naming the file if it is missing, empty or not a clip. Damaged pictures inside go unnoticed.
 */
export async function probeClip(path: string, options: Pick<ReadClipOptions, "fps"> = {}): Promise<ClipInfo> {
  return open(path, {
    async folder() {
      const names = await imageNames(path);
      const first = sharp(join(path, names[0]!));
      const { width, height } = (await reading(path, first.metadata())).autoOrient;
      return { numFrames: names.length, width, height, fps: options.fps ?? DEFAULT_FPS };
    },
    async image() {
      const metadata = await reading(path, sharp(path).metadata());
      const { autoOrient, width, pageHeight, pages = 1, delay = [] } = metadata;
      const size = pages === 1 ? autoOrient : { width, height: pageHeight ?? metadata.height };
      return { numFrames: pages, width: size.width, height: size.height, fps: fpsOf(delay, options) };
    },
    video: (mediabunny, facts) =>
      withTrack(path, mediabunny, facts, async (track, { places, fps = options.fps ?? DEFAULT_FPS }) => {
        const { width, height } = facts.streamed ? await firstFrame(path) : await trackShape(path, track);
        return { numFrames: places.length, fps, width, height };
      }),
    async foreign() {
      const { numFrames, width, height, fps = options.fps ?? DEFAULT_FPS } = await ffmpegProbe(path);
      return { numFrames, width, height, fps };
    },
  });
}

/** MPEG-TS has a frame's size in the stream alone, and it is not always read right: an interlaced stream's was half as high. */
const firstFrame = (path: string): Promise<Clip> => readClip(path, { select: () => [0] });

interface Kinds<T> {
  readonly folder: () => Promise<T>;
  readonly image: () => Promise<T>;
  readonly video: (mediabunny: typeof import("#mediabunny"), facts: ContainerFacts) => Promise<T>;
  /** What only ffmpeg reads; it is there. */
  readonly foreign: () => Promise<T>;
}

/** Does what suits the kind of clip at `path`. */
async function open<T>(path: string, kinds: Kinds<T>): Promise<T> {
  const info = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new ClipError(fileProblem(error, "no such file or folder"), {
      file: path,
    });
  });
  if (info.isFile() && info.size === 0) throw new ClipError("the file is empty", { file: path });
  if (info.isDirectory()) return await kinds.folder();
  const facts = await reading(path, inspectFile(path));
  if (facts.cut !== undefined) throw new ClipError(`the file is cut off: ${facts.cut}`, { file: path });
  if (facts.damage !== undefined) throw new ClipError(`the file is damaged: ${facts.damage}`, { file: path });
  const { content } = facts;
  if (content === undefined)
    throw new ClipError("expected a folder of images, a picture or a video, found neither by its content", {
      file: path,
      hint: "MP4, MOV, MPEG-TS, WebM, Matroska, PNG, JPEG, WebP, GIF, TIFF and AVIF are read, and with ffmpeg AVI, HEIC and others",
    });
  if (content === "picture") return await kinds.image();
  let problem: string;
  if (content === "video") {
    try {
      return await withMediabunny((mediabunny) => kinds.video(mediabunny, facts));
    } catch (error) {
      if (!(error instanceof BeyondDecoder)) throw error;
      problem = error.problem;
    }
  } else {
    problem = `it is ${content.foreign}, which only ffmpeg reads here`;
  }
  if ((await ffmpegVersion()) !== undefined) return await kinds.foreign();
  throw new ClipError(`${problem}, and no ffmpeg is installed`, { file: path, hint: conversion(path) });
}

/** Collects the wanted frames of a file with `numFrames` frames. */
async function collect(
  path: string,
  numFrames: number,
  fps: number,
  options: ReadClipOptions,
  run: (frames: Frames) => Promise<void>,
): Promise<Clip> {
  const order = options.select?.(numFrames, fps) ?? Array.from({ length: numFrames }, (_, i) => i);
  const outside = order.find((i) => !Number.isInteger(i) || i < 0 || i >= numFrames);
  if (outside !== undefined || order.length === 0) {
    throw new ClipError(`expected frames 0 to ${numFrames - 1}, found ${outside ?? "none"} selected`, {
      file: path,
    });
  }
  const kept = new Map<number, Uint8Array>();
  const needed = new Set(order);
  let size: { width: number; height: number } | undefined;
  await run({
    wanted: (index) => needed.has(index),
    take(index, decoded, decodedWidth, decodedHeight) {
      const whole = { data: decoded, width: decodedWidth, height: decodedHeight, fps };
      const { data: rgb, width, height } = options.frame?.(new Clip(whole)) ?? whole;
      size ??= { width, height };
      if (size.width !== width || size.height !== height) {
        throw new ClipError(
          `expected every frame to be ${size.width}x${size.height}, found ${width}x${height} at frame ${index}`,
          { file: path },
        );
      }
      kept.set(index, rgb);
    },
  });
  const frames = order.map((index) => {
    const frame = kept.get(index);
    if (frame === undefined) {
      throw new ClipError(
        `the file is cut off or damaged: expected ${numFrames} frames, frame ${index} is not there`,
        {
          file: path,
        },
      );
    }
    return frame;
  });
  return Clip.fromFrames(frames, { ...size!, fps });
}

/** `frame2.png` comes before `frame10.png`. */
const naturally = new Intl.Collator("en", { numeric: true });

async function imageNames(path: string): Promise<string[]> {
  const names = (await reading(path, readdir(path)))
    .filter((name) => !name.startsWith(".") && IMAGES.has(extname(name).toLowerCase()))
    .sort(naturally.compare);
  if (names.length === 0)
    throw new ClipError("expected a folder of images, found none in it", { file: path });
  return names;
}

async function readFolder(path: string, options: ReadClipOptions): Promise<Clip> {
  const names = await imageNames(path);
  return collect(path, names.length, options.fps ?? DEFAULT_FPS, options, async ({ wanted, take }) => {
    for (const [index, name] of names.entries()) {
      if (!wanted(index)) continue;
      const file = join(path, name);
      const { data, info } = await sharp(file)
        .autoOrient()
        .toColourspace("srgb")
        .removeAlpha()
        .raw()
        .toBuffer({ resolveWithObject: true })
        .catch((error: Error) => {
          throw new ClipError(`not a readable image (${error.message})`, { file, cause: error });
        });
      take(index, data, info.width, info.height);
    }
  });
}

async function readImage(path: string, options: ReadClipOptions): Promise<Clip> {
  const { delay = [], format, pages = 1 } = await reading(path, sharp(path).metadata());
  if (format === "gif" && !gifIsWhole(await reading(path, readFile(path))))
    throw new ClipError("the file is cut off", { file: path });
  // All pages at once, because decoding a single one starts from the first.
  const picture = sharp(path, { pages: -1, failOn: "truncated", limitInputPixels: false });
  const pixels = (pages === 1 ? picture.autoOrient() : picture).toColourspace("srgb").removeAlpha().raw();
  const { data, info } = await reading(path, pixels.toBuffer({ resolveWithObject: true }));
  const height = info.height / pages;
  const bytes = info.width * height * 3;
  return collect(path, pages, fpsOf(delay, options), options, async ({ take }) => {
    for (let i = 0; i < pages; i++) take(i, data.subarray(i * bytes, (i + 1) * bytes), info.width, height);
  });
}

/** Frames per second of an animation, from the milliseconds that each frame is shown. */
function fpsOf(delay: readonly number[], options: Pick<ReadClipOptions, "fps">): number {
  const seconds = delay.reduce((sum, ms) => sum + ms, 0) / 1000;
  return seconds > 0 ? delay.length / seconds : (options.fps ?? DEFAULT_FPS);
}

async function readVideo(
  path: string,
  options: ReadClipOptions,
  mediabunny: typeof import("#mediabunny"),
  facts: ContainerFacts,
): Promise<Clip> {
  return withTrack(path, mediabunny, facts, async (track, shown) => {
    const { places, fps = options.fps ?? DEFAULT_FPS } = shown;
    return collect(path, places.length, fps, options, async ({ wanted, take }) => {
      /** Which frames of the clip are still to come, by their places among those that are decoded. */
      const missing = new Map<number, number[]>();
      places.forEach((place, index) => {
        if (wanted(index)) missing.set(place, [...(missing.get(place) ?? []), index]);
      });
      await decodeTrack(path, track, mediabunny, shown, async (place, picture) => {
        const indices = missing.get(place);
        if (indices !== undefined) {
          const { rgb, width, height } = await picture();
          for (const index of indices) take(index, rgb, width, height);
          missing.delete(place);
        }
        return missing.size > 0;
      });
    });
  });
}

async function withTrack<T>(
  path: string,
  mediabunny: typeof import("#mediabunny"),
  { edits }: ContainerFacts,
  use: (track: InputVideoTrack, shown: ShownFrames) => Promise<T>,
): Promise<T> {
  const { ALL_FORMATS, FilePathSource, Input, Logging, LogLevel } = mediabunny;
  Logging.level = LogLevel.Silent; // what matters of it is thrown, and edit lists, of which it warns, are read here
  const input = new Input({ source: new FilePathSource(path), formats: ALL_FORMATS });
  try {
    const track = await reading(path, input.getPrimaryVideoTrack());
    if (track === null)
      throw new BeyondDecoder("no video in it that the built-in reader knows", { file: path });
    if (!(await reading(path, track.canDecode())))
      throw new BeyondDecoder(
        `its codec is ${await codecName(track)}, which the built-in decoder does not have`,
        { file: path },
      );
    refuseHdr(path, (await reading(path, track.getColorSpace())).transfer ?? undefined);
    const shown = await shownFrames(path, track, mediabunny, edits.get(track.id));
    if (shown.places.length === 0) throw new ClipError("no frames in it", { file: path });
    return await use(track, shown);
  } finally {
    input.dispose();
  }
}

/** A codec by its own name, or by the one that the container has for it. */
async function codecName(track: InputVideoTrack): Promise<string> {
  if (track.codec !== null) return track.codec;
  const id = await track.getInternalCodecId();
  if (id === null) return "unknown";
  return typeof id === "string" ? id.trim() : String(id);
}

async function readForeign(path: string, options: ReadClipOptions): Promise<Clip> {
  const facts = await ffmpegProbe(path);
  const { numFrames, fps = options.fps ?? DEFAULT_FPS } = facts;
  return collect(path, numFrames, fps, options, async ({ wanted, take }) => {
    let index = 0;
    for await (const { rgb, width, height } of ffmpegFrames(path, facts)) {
      if (wanted(index)) take(index, rgb, width, height);
      index++;
    }
  });
}
