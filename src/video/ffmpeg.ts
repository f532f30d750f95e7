/** An installed ffmpeg, for clips that nothing in this package decodes. */
import { execFile, spawn } from "node:child_process";
import { basename, extname, resolve } from "node:path";
import { promisify } from "node:util";
import { firstLine } from "../engine/errors.js";
import { HDR_TRANSFERS, refuseHdr } from "./decode.js";
import { ClipError } from "./errors.js";

const run = promisify(execFile);

/** What to do about a clip that only ffmpeg reads where there is none. */
export function conversion(path: string): string {
  const name = basename(path);
  const plain = basename(name, extname(name));
  const target = `${plain}${name.endsWith(".mp4") ? "-h264" : ""}.mp4`;
  return `install ffmpeg, or convert the clip where there is one: \`ffmpeg -i ${quoted(name)} -c:v libx264 -pix_fmt yuv420p ${quoted(target)}\``;
}

/** A word of a shell's command line. */
const quoted = (word: string): string =>
  /^[\w.][\w.-]*$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

let found: Promise<string | undefined> | undefined;

/** The version of the ffmpeg in PATH, which has to have its ffprobe beside it; undefined if there is none. */
export function ffmpegVersion(): Promise<string | undefined> {
  found ??= (async () => {
    try {
      const [{ stdout }] = await Promise.all([run("ffmpeg", ["-version"]), run("ffprobe", ["-version"])]);
      return /^ffmpeg version (\S+)/.exec(stdout)?.[1] ?? "of unknown version";
    } catch {
      return undefined;
    }
  })();
  return found;
}

/** What ffmpeg says about a clip. */
export interface FfmpegFacts {
  readonly numFrames: number;
  readonly width: number;
  readonly height: number;
  /** Undefined for a single picture. */
  readonly fps: number | undefined;
  /** Width of a pixel by its height. */
  readonly pixelAspect: number;
}

interface Stream {
  width?: number;
  height?: number;
  nb_read_frames?: string;
  avg_frame_rate?: string;
  r_frame_rate?: string;
  sample_aspect_ratio?: string;
  color_transfer?: string;
  side_data_list?: { rotation?: number }[];
}

/** Only this file is opened, whatever the file itself or its name say. */
const input = (path: string): string[] => ["-protocol_whitelist", "file", "-i", `file:${resolve(path)}`];

const ratio = (text: string | undefined, separator: string): number => {
  const [a, b] = (text ?? "").split(separator).map(Number);
  return a! / b!;
};

const cannot = (path: string, said: string): ClipError =>
  new ClipError(`ffmpeg can't read it (${firstLine(said.replace(/^\[[^\]]*\] */, ""))})`, { file: path });

/**
 * Counts a clip's frames, which means decoding it, and asks for its size.
 *
 * @throws ClipError naming the file
 */
export async function ffmpegProbe(path: string): Promise<FfmpegFacts> {
  const fields = "width,height,nb_read_frames,avg_frame_rate,r_frame_rate,sample_aspect_ratio,color_transfer";
  const options = ["-v", "error", "-select_streams", "v:0", "-count_frames", "-of", "json"];
  const show = ["-show_entries", `stream=${fields}:stream_side_data=rotation`];
  const { stdout } = await run("ffprobe", [...options, ...show, ...input(path)]).catch(
    (error: Error & { stderr?: string }) => {
      throw cannot(path, error.stderr ?? error.message);
    },
  );
  const stream = (JSON.parse(stdout) as { streams?: Stream[] }).streams?.[0];
  const numFrames = Number(stream?.nb_read_frames ?? 0);
  if (stream === undefined || !(numFrames > 0)) throw new ClipError("no frames in it", { file: path });
  refuseHdr(path, HDR_TRANSFERS[stream.color_transfer ?? ""]);
  const aspect = ratio(stream.sample_aspect_ratio, ":");
  const pixelAspect = aspect > 0 && Number.isFinite(aspect) ? aspect : 1;
  const lying = stream.side_data_list?.some(({ rotation = 0 }) => Math.abs(rotation) % 180 === 90) ?? false;
  // One side grows, and none shrinks, as in other clips.
  const size = [
    Math.round(stream.width! * Math.max(1, pixelAspect)),
    Math.round(stream.height! / Math.min(1, pixelAspect)),
  ] as const;
  const rates = [ratio(stream.avg_frame_rate, "/"), ratio(stream.r_frame_rate, "/")];
  const fps = rates.find((rate) => rate > 0 && Number.isFinite(rate));
  return {
    numFrames,
    width: size[lying ? 1 : 0],
    height: size[lying ? 0 : 1],
    fps: numFrames > 1 ? fps : undefined,
    pixelAspect,
  };
}

/**
 * A clip's frames as RGB bytes, turned as it says and with square pixels.
 *
 * @throws ClipError naming the file, with what ffmpeg says
 */
export async function* ffmpegFrames(
  path: string,
  { pixelAspect }: FfmpegFacts,
): AsyncGenerator<{ rgb: Uint8Array; width: number; height: number }> {
  const version = await ffmpegVersion();
  // What keeps each frame once was renamed in 5.1, and its old name is gone from later ones. A build from git has no such number.
  const major = /^n?(\d+)\./.exec(version ?? "")?.[1];
  const once = major !== undefined && Number(major) < 6 ? "-vsync" : "-fps_mode";
  const flags = "flags=bilinear+accurate_rnd+full_chroma_int";
  const square = pixelAspect > 1 ? "round(iw*sar):ih" : "iw:round(ih/sar)";
  const scale = pixelAspect === 1 ? `scale=${flags}` : `scale=${square}:${flags},setsar=1`;
  const output = ["-map", "0:v:0", "-vf", scale, once, "passthrough", "-pix_fmt", "rgb24"];
  const process = spawn(
    "ffmpeg",
    ["-v", "error", "-nostdin", ...input(path), ...output, "-f", "image2pipe", "-c:v", "ppm", "-"],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let said = "";
  process.stderr.on("data", (text: Buffer) => {
    if (said.length < 10_000) said += text.toString();
  });
  const ended = new Promise<number | null>((done) => {
    process.on("error", (error) => {
      said = error.message;
      done(null);
    });
    process.on("close", done);
  });
  let buffer = Buffer.alloc(0);
  let parts: Buffer[] = [];
  let waiting = 0;
  let needed = 0;
  try {
    for await (const part of process.stdout as AsyncIterable<Buffer>) {
      parts.push(part);
      waiting += part.length;
      if (waiting < needed) continue;
      buffer = Buffer.concat(parts);
      for (;;) {
        const header = /^P6\s(\d+)\s(\d+)\s255\s/.exec(buffer.subarray(0, 40).toString("latin1"));
        if (header === null) break;
        const [width, height] = [Number(header[1]), Number(header[2])];
        const end = header[0].length + width * height * 3;
        needed = end;
        if (buffer.length < end) break;
        yield { rgb: Uint8Array.from(buffer.subarray(header[0].length, end)), width, height };
        buffer = buffer.subarray(end);
        needed = 0;
      }
      parts = [buffer];
      waiting = buffer.length;
    }
    const code = await ended;
    if (code !== 0) throw cannot(path, said);
  } finally {
    if (process.exitCode === null) process.kill();
  }
}
