import { readdir, readFile, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import type { InputVideoTrack, VideoSample } from "#mediabunny";
import { fileProblem, InputError } from "../engine/errors.js";
import { Clip } from "./clip.js";
import { bt709ToRgb, type Plane } from "./color.js";
import { gifIsWhole } from "./gif.js";
import { sharp } from "./sharp.js";
import { withMediabunny } from "./webcodecs.js";

/** A clip that can't be read; the message names the file. */
export class ClipError extends InputError {
  override get kind() {
    return "clip" as const;
  }
}

export interface ReadClipOptions {
  /** Frames per second of a folder of images, which has no rate of its own. Default 16, CogVideoX-1.5's. */
  readonly fps?: number;
  /** Which frames to keep, given how many there are. Frames that are not kept take no memory. Default: all. */
  readonly select?: (numFrames: number) => readonly number[];
}

/** CogVideoX-1.5's rate, for what has none of its own. */
const DEFAULT_FPS = 16;

const IMAGES = new Set([".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".avif"]);
const VIDEOS = new Set([".mp4", ".m4v", ".mov", ".webm", ".mkv"]);

interface Frames {
  /** Called with each frame that is kept, in the order of the file. */
  readonly take: (index: number, rgb: Uint8Array, width: number, height: number) => void;
  readonly wanted: (index: number) => boolean;
}

/**
 * Reads a clip: MP4, MOV, WebM and Matroska video, animated WebP and GIF, a folder of images in the natural order
 * of their names, or a single image (one frame). Transparency is dropped, as `PIL.Image.convert("RGB")` does.
 *
 * @throws ClipError naming the file if it is missing, empty, not a clip, or ends before its last frame.
 */
export async function readClip(path: string, options: ReadClipOptions = {}): Promise<Clip> {
  return open(path, {
    folder: () => readFolder(path, options),
    image: () => readImage(path, options),
    video: (mediabunny) => readVideo(path, options, mediabunny),
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
      const { autoOrient, pages = 1, delay = [] } = await reading(path, sharp(path).metadata());
      const { width, height } = autoOrient;
      return { numFrames: pages, width, height, fps: fpsOf(delay, options) };
    },
    video: (mediabunny) =>
      withTrack(path, mediabunny, async (track) => {
        const { numFrames, fps } = await countFrames(path, track, options);
        return { numFrames, fps, width: track.displayWidth, height: track.displayHeight };
      }),
  });
}

interface Kinds<T> {
  readonly folder: () => Promise<T>;
  readonly image: () => Promise<T>;
  readonly video: (mediabunny: typeof import("#mediabunny")) => Promise<T>;
}

/** Does what suits the kind of clip at `path`. */
async function open<T>(path: string, kinds: Kinds<T>): Promise<T> {
  const info = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new ClipError(fileProblem(error, "no such file or folder"), {
      file: path,
    });
  });
  const extension = extname(path).toLowerCase();
  if (info.isFile() && info.size === 0) throw new ClipError("the file is empty", { file: path });
  if (info.isDirectory()) return await kinds.folder();
  if (VIDEOS.has(extension)) return await withMediabunny(kinds.video);
  if (IMAGES.has(extension)) return await kinds.image();
  const known = [...VIDEOS, ...IMAGES].join(" ");
  throw new ClipError(`expected a folder of images or one of ${known}, found "${extension}"`, { file: path });
}

/**
 * What the system or a library reads from a file. Any error from it is about that file and becomes a ClipError of one line.
 * Errors from our own code between such calls are not about the file, and stay what they are.
 */
async function reading<T>(path: string, result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    throw new ClipError(`not a readable clip (${oneLine(error as Error)})`, { file: path, cause: error });
  }
}

/** The same for a sequence. */
async function* readingAll<T>(path: string, all: AsyncIterable<T>): AsyncGenerator<T> {
  const iterator = all[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await reading(path, iterator.next());
      if (done) return;
      yield value;
    }
  } finally {
    await iterator.return?.();
  }
}

const oneLine = (error: Error): string => error.message.trim().replaceAll(/\s*\n\s*/g, "; ");

/** Collects the wanted frames of a file with `numFrames` frames. */
async function collect(
  path: string,
  numFrames: number,
  fps: number,
  options: ReadClipOptions,
  run: (frames: Frames) => Promise<void>,
): Promise<Clip> {
  const order = options.select?.(numFrames) ?? Array.from({ length: numFrames }, (_, i) => i);
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
    take(index, rgb, width, height) {
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
      throw new ClipError(`the file is cut off: expected ${numFrames} frames, frame ${index} is not there`, {
        file: path,
      });
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
): Promise<Clip> {
  return withTrack(path, mediabunny, async (track) => {
    const { numFrames, fps } = await countFrames(path, track, options);
    return collect(path, numFrames, fps, options, async ({ wanted, take }) => {
      let index = 0;
      const samples = new mediabunny.VideoSampleSink(track).samples();
      for await (const sample of readingAll(path, samples)) {
        using frame = sample;
        if (wanted(index)) {
          const { codedWidth, codedHeight } = frame;
          const [pixels, width, height] = await turn(
            await sampleToRgb(path, frame),
            codedWidth,
            codedHeight,
            track.rotation,
          );
          take(index, pixels, width, height);
        }
        index++;
      }
    });
  });
}

async function withTrack<T>(
  path: string,
  { ALL_FORMATS, FilePathSource, Input }: typeof import("#mediabunny"),
  use: (track: InputVideoTrack) => Promise<T>,
): Promise<T> {
  const input = new Input({ source: new FilePathSource(path), formats: ALL_FORMATS });
  try {
    const track = await reading(path, input.getPrimaryVideoTrack());
    if (track === null) throw new ClipError("no video in it (is the file cut off?)", { file: path });
    if (!(await reading(path, track.canDecode()))) {
      throw new ClipError(`no decoder for its codec ${track.codec ?? "(unknown)"}`, { file: path });
    }
    return await use(track);
  } finally {
    input.dispose();
  }
}

async function countFrames(
  path: string,
  track: InputVideoTrack,
  options: Pick<ReadClipOptions, "fps">,
): Promise<{ numFrames: number; fps: number }> {
  const { packetCount, averagePacketRate } = await reading(path, track.computePacketStats());
  if (packetCount === 0) throw new ClipError("no frames in it", { file: path });
  return { numFrames: packetCount, fps: packetCount > 1 ? averagePacketRate : (options.fps ?? DEFAULT_FPS) };
}

/**
 * The decoder's own conversion to RGB knows only the BT.601 matrix (which OpenCV and decord also assume if a file names
 * none), so pictures marked as BT.709 are converted from their planes.
 */
async function sampleToRgb(path: string, sample: VideoSample): Promise<Uint8Array> {
  const { codedWidth: width, codedHeight: height, colorSpace } = sample;
  if (sample.format === "I420" && colorSpace.matrix === "bt709") {
    const planes = new Uint8Array(sample.allocationSize());
    const layout = await reading(path, sample.copyTo(planes));
    return bt709ToRgb(
      planes,
      layout as [Plane, Plane, Plane],
      { width, height },
      colorSpace.fullRange === true,
    );
  }
  const options = { format: "RGBA" } as VideoFrameCopyToOptions; // the type it comes with lacks the format
  const rgba = new Uint8Array(sample.allocationSize(options));
  const [plane] = await reading(path, sample.copyTo(rgba, options));
  const { offset, stride } = plane!;
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0, from = offset + y * stride; x < width; x++, from += 4) {
      rgb[to++] = rgba[from]!;
      rgb[to++] = rgba[from + 1]!;
      rgb[to++] = rgba[from + 2]!;
    }
  }
  return rgb;
}

/** Phones store portrait videos as landscape, with a note to rotate them clockwise. */
async function turn(
  rgb: Uint8Array,
  width: number,
  height: number,
  rotation: number,
): Promise<[Uint8Array, number, number]> {
  if (rotation === 0) return [rgb, width, height];
  const { data, info } = await sharp(rgb, { raw: { width, height, channels: 3 } })
    .rotate(rotation)
    .raw()
    .toBuffer({ resolveWithObject: true });
  return [data, info.width, info.height];
}
