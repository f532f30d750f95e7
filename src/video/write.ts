import { writeFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { InputError } from "../engine/errors.js";
import { writeFileAtomic, writeFolderAtomic } from "../files/atomic.js";
import { encodeGif, encodeStill, encodeWebp, type WebpOptions } from "./animated.js";
import type { Clip } from "./clip.js";
import { withMediabunny } from "./webcodecs.js";

export { encodeGif, encodeWebp };

/** For MP4, and for WebP those of {@link encodeWebp}. */
export interface WriteClipOptions extends WebpOptions {
  /** MP4: mean bits per second. Default: about 0.6 bits per pixel. */
  readonly bitrate?: number;
}

/**
 * Writes a clip in the format of `path`'s extension: `.mp4` (H.264; VP9 if a side is odd, which H.264 can't store), `.webp`
 * and `.gif` (animated, looping), `.png` (one frame), or a folder of PNGs if there is no extension. The file appears
 * whole or not at all.
 *
 * @throws InputError for another extension, or several frames into one `.png`.
 */
export async function writeClip(path: string, clip: Clip, options: WriteClipOptions = {}): Promise<void> {
  const extension = extname(path).toLowerCase();
  if (extension === "") return writeFolder(path, clip);
  let bytes: Uint8Array;
  if (extension === ".mp4")
    bytes = await withMediabunny((mediabunny) => encodeMp4(clip, options, mediabunny));
  else if (extension === ".webp") bytes = await encodeWebp(clip, options);
  else if (extension === ".gif") bytes = await encodeGif(clip);
  else if (extension === ".png" && clip.numFrames === 1) bytes = await encodePng(clip);
  else if (extension === ".png") {
    throw new InputError(`expected one frame for a .png, found ${clip.numFrames}`, { file: path });
  } else {
    throw new InputError(`expected .mp4, .webp, .gif, .png or a folder, found "${extension}"`, {
      file: path,
    });
  }
  await writeFileAtomic(path, bytes);
}

/** One frame as PNG. */
export async function encodePng(clip: Clip, frame = 0): Promise<Uint8Array> {
  return encodeStill({ ...clip, data: clip.frame(frame) });
}

async function encodeMp4(
  clip: Clip,
  options: WriteClipOptions,
  { BufferTarget, Mp4OutputFormat, Output, VideoSample, VideoSampleSource }: typeof import("#mediabunny"),
): Promise<Uint8Array> {
  const { width, height, fps } = clip;
  const bitrate = options.bitrate ?? Math.max(500_000, Math.round(0.6 * width * height * fps));
  const codec = width % 2 === 0 && height % 2 === 0 ? "avc" : "vp9";
  const target = new BufferTarget();
  const output = new Output({ format: new Mp4OutputFormat({ fastStart: "in-memory" }), target });
  const source = new VideoSampleSource({ codec, bitrate, keyFrameInterval: 2 });
  output.addVideoTrack(source, { frameRate: fps });
  await output.start();
  // The encoder converts with the BT.601 matrix, so that is the tag; readers without one assume the same.
  const matrix = "smpte170m";
  const colorSpace = { primaries: matrix, transfer: matrix, matrix, fullRange: false } as const;
  const rgba = new Uint8Array(width * height * 4).fill(255);
  for (let i = 0; i < clip.numFrames; i++) {
    const rgb = clip.frame(i);
    for (let p = 0, q = 0; p < rgb.length; p += 3, q += 4) {
      rgba[q] = rgb[p]!;
      rgba[q + 1] = rgb[p + 1]!;
      rgba[q + 2] = rgb[p + 2]!;
    }
    using sample = new VideoSample(rgba, {
      format: "RGBA",
      codedWidth: width,
      codedHeight: height,
      timestamp: i / fps,
      duration: 1 / fps,
      colorSpace,
    });
    await source.add(sample);
  }
  await output.finalize();
  return new Uint8Array(target.buffer!);
}

async function writeFolder(path: string, clip: Clip): Promise<void> {
  const digits = Math.max(4, String(clip.numFrames - 1).length);
  await writeFolderAtomic(path, async (folder) => {
    for (let i = 0; i < clip.numFrames; i++) {
      await writeFile(join(folder, `${String(i).padStart(digits, "0")}.png`), await encodePng(clip, i));
    }
  });
}
