/** Training data on disk, in the recipe's own layout or as clips with a metadata file, and what is done to each clip. */

import { readdir } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { InputError, quote } from "../engine/errors.js";
import { assertFrameRule } from "../recipe/geometry.js";
import { Clip, type Size } from "../video/clip.js";
import { countParts, extractFrames, type FrameExtraction, resampleFrames } from "../video/frames.js";
import { type ClipInfo, probeClip, readClip } from "../video/read.js";
import {
  assertFiles,
  assertFolder,
  DatasetError,
  isFile,
  lineAt,
  locate,
  type NamedFile,
  readLines,
  readPaths,
  readText,
} from "./lists.js";

export { DatasetError };

/** One clip with its caption. Paths are ready to open. */
export interface DatasetEntry {
  readonly prompt: string;
  readonly video: string;
  /** The conditioning image, unless it is the clip's first frame. It has no part in the clip's own frames. */
  readonly image?: string;
  /** Which of the samples that are made of the clip, from 0, where `frameExtraction` is "chunk". Default 0. */
  readonly part?: number;
}

export interface DatasetLocation {
  readonly dataRoot: string;
  /** A file of prompts, one per line, or the metadata's key for them. Default: prompts.txt, or "text" or "prompt". */
  readonly captionColumn?: string;
  /** A file of clips' paths, absolute or relative to its folder, one per line, or the key. Default: videos.txt, or "file_name" or "video". */
  readonly videoColumn?: string;
  /** Like `videoColumn`. Without it a clip's first frame is its image. */
  readonly imageColumn?: string;
  /** Put before each caption, with a space between: a word that the training is to give a meaning. */
  readonly idToken?: string;
}

/**
 * Reads a data set's table of contents.
 *
 * The recipe's layout is files of lines (`prompts.txt`, `videos.txt`, optionally `images.txt`). Otherwise there is metadata, as
 * in the Hugging Face Hub's video folders: `metadata.jsonl` with an object per line, `metadata.csv` with the keys in its first
 * line, or `metadata.json` with a list of objects. Otherwise each clip has its caption beside it: `clip.mp4` and `clip.txt`.
 *
 * @throws DatasetError naming the file, and the line or the counts that do not fit.
 */
export async function readDataset(location: DatasetLocation): Promise<DatasetEntry[]> {
  const { dataRoot, idToken } = location;
  await assertFolder(dataRoot);
  const listed = await readListed(location);
  await assertFiles(
    dataRoot,
    listed.flatMap(({ video, image }) => (image === undefined ? [video] : [video, image])),
  );
  const before = idToken === undefined || idToken.trim() === "" ? "" : `${idToken.trim()} `;
  return listed.map(({ prompt, video, image }) => ({
    prompt: before + prompt,
    video: video.path,
    image: image?.path,
  }));
}

/** Files of metadata, in the order in which they are looked for. */
const METADATA = {
  "metadata.jsonl": parseLines,
  "metadata.csv": parseCsv,
  "metadata.json": parseList,
} as const;

async function readListed(location: DatasetLocation): Promise<ListedEntry[]> {
  const { dataRoot, captionColumn, videoColumn, imageColumn } = location;
  const captions = resolve(dataRoot, captionColumn ?? "prompts.txt");
  if (await isFile(captions)) return readLists(location, captions);
  const columns = { prompt: captionColumn, video: videoColumn, image: imageColumn };
  for (const [name, parse] of Object.entries(METADATA)) {
    const file = join(dataRoot, name);
    if (!(await isFile(file))) continue;
    const rows = await parse(file);
    if (rows.length === 0) throw new DatasetError("expected clips with captions, found none", { file });
    return Promise.all(rows.map((row) => readRow(file, row, columns)));
  }
  const named = Object.values(columns).some((column) => column !== undefined);
  const pairs = named ? [] : await readPairs(dataRoot);
  if (pairs.length > 0) return pairs;
  const files = [captionColumn ?? "prompts.txt", ...Object.keys(METADATA)];
  throw new DatasetError(
    `found neither ${files.slice(0, -1).join(", ")} nor ${files.at(-1)}${named ? "" : ", nor clips with captions beside them"}`,
    { file: dataRoot },
  );
}

/** Names of clips' files. What they hold is told by their content, when they are read. */
const CLIP = /\.(mp4|m4v|mov|webm|mkv|avi|ts|mpe?g|3gp|gif|webp)$/i;

/** Clips with their captions beside them, in the order of their names. */
async function readPairs(dataRoot: string): Promise<ListedEntry[]> {
  const names = (await readdir(dataRoot)).filter((name) => !name.startsWith(".")).sort();
  const texts = new Map(names.filter((name) => /\.txt$/i.test(name)).map((name) => [stem(name), name]));
  const clips = names.filter((name) => CLIP.test(name));
  const paired = clips.filter((name) => texts.has(stem(name)));
  if (paired.length === 0) return []; // another kind of folder
  const refuse = (what: string, found: readonly string[]) => {
    const more = found.length > 5 ? ` and ${found.length - 5} more` : "";
    return new DatasetError(`${what}: ${found.slice(0, 5).join(", ")}${more}`, { file: dataRoot });
  };
  const silent = clips.filter((name) => !texts.has(stem(name)));
  if (silent.length > 0) throw refuse("clips without a caption in a .txt of their name", silent);
  const used = new Set(paired.map(stem));
  const twice = paired.filter((name, i) => i > 0 && stem(name) === stem(paired[i - 1]!));
  if (twice.length > 0) throw refuse("clips that share their caption with another of their name", twice);
  const lone = [...texts].filter(([name]) => !used.has(name)).map(([, text]) => text);
  if (lone.length > 0) throw refuse("captions without a clip of their name", lone);
  return Promise.all(
    paired.map(async (name) => {
      const file = join(dataRoot, texts.get(stem(name))!);
      // A caption is one text, however many lines it has.
      const prompt = (await readText(file)).replace(/\s+/g, " ").trim();
      if (prompt === "") throw new DatasetError("expected a caption, found an empty file", { file });
      return { prompt, video: { path: resolve(dataRoot, name), where: name } };
    }),
  );
}

const stem = (name: string): string => name.slice(0, name.length - extname(name).length);

/** An entry that knows where its files are named. */
interface ListedEntry {
  readonly prompt: string;
  readonly video: NamedFile;
  readonly image?: NamedFile | undefined;
}

async function readLists(
  { dataRoot, captionColumn = "prompts.txt", videoColumn = "videos.txt", imageColumn }: DatasetLocation,
  captions: string,
): Promise<ListedEntry[]> {
  const prompts = await readLines(captions);
  const paths = (column: string) => readPaths(resolve(dataRoot, column), column);
  const videos = await paths(videoColumn);
  const images = imageColumn === undefined ? undefined : await paths(imageColumn);
  if (prompts.length !== videos.length || (images && images.length !== videos.length)) {
    const found = [`${prompts.length} prompts`, `${videos.length} videos`];
    if (images) found.push(`${images.length} images`);
    // The usual reason: a clip without a caption has a blank line, and blank lines don't count.
    const blank = prompts.findIndex(({ number }, i) => number !== i + 1);
    throw new DatasetError(`expected as many prompts as videos and images, found ${found.join(", ")}`, {
      file: dataRoot,
      ...(blank < 0
        ? {}
        : { hint: `line ${blank + 1} of ${captionColumn} is blank, and blank lines don't count` }),
    });
  }
  return prompts.map(({ text: prompt }, i) => ({ prompt, video: videos[i]!, image: images?.[i] }));
}

const KEYS = {
  prompt: ["text", "prompt", "caption"],
  video: ["file_name", "video"],
  image: ["image"],
} as const;

/** One entry of metadata, and where it stands. */
interface Row {
  readonly values: unknown;
  readonly where: string;
}

async function parseLines(file: string): Promise<Row[]> {
  return (await readLines(file)).map(({ text, number }) => {
    const where = `line ${number}`;
    try {
      return { values: JSON.parse(text) as unknown, where };
    } catch (error) {
      throw new DatasetError(`${where} is not JSON (${(error as Error).message})`, { file });
    }
  });
}

async function parseList(file: string): Promise<Row[]> {
  const text = await readText(file);
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (error) {
    const { message } = error as Error;
    const at = /position (\d+)/.exec(message)?.[1];
    const where = at === undefined ? "" : `line ${lineAt(text, Number(at))}: `;
    throw new DatasetError(`${where}not JSON (${message})`, { file });
  }
  if (!Array.isArray(list))
    throw new DatasetError(`expected a list of objects, found ${quote(list)}`, { file });
  return list.map((values: unknown, i) => ({ values, where: `entry ${i + 1}` }));
}

/** Comma-separated values (RFC 4180): the first line has the keys; values in quotes may have commas, quotes and line ends. */
async function parseCsv(file: string): Promise<Row[]> {
  const text = await readText(file);
  const records: { readonly cells: string[]; readonly line: number }[] = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\n|\r|$)/y;
  let cells: string[] = [];
  let line = 1;
  let start = 1;
  while (cell.lastIndex < text.length || cells.length > 0) {
    const found = cell.exec(text);
    if (!found)
      throw new DatasetError(
        `line ${line}: expected a quote at the end of the value, and a comma or a new line after it`,
        { file },
      );
    const [all, quoted, plain, end] = found;
    cells.push(quoted?.replaceAll('""', '"') ?? plain!.trim());
    line += lineAt(all, all.length) - 1;
    if (end === ",") continue;
    if (cells.some((value) => value !== "")) records.push({ cells, line: start });
    [cells, start] = [[], line];
  }
  const [keys, ...rows] = records;
  if (keys === undefined) return [];
  return rows.map(({ cells: found, line: number }) => {
    const where = `line ${number}`;
    if (found.length !== keys.cells.length) {
      throw new DatasetError(
        `${where}: expected ${keys.cells.length} values (${keys.cells.join(", ")}), found ${found.length}`,
        { file, hint: "a value with a comma in it belongs in quotes" },
      );
    }
    // A cell that is empty has no value, such as an image that only some clips have.
    const entries = keys.cells.map((key, i) => [key, found[i]!] as const).filter(([, value]) => value !== "");
    return { values: Object.fromEntries(entries), where };
  });
}

/** The entry that a row of metadata describes. */
async function readRow(
  path: string,
  { values: row, where }: Row,
  columns: Readonly<Record<keyof typeof KEYS, string | undefined>>,
): Promise<ListedEntry> {
  const refuse = (expected: string, found: string) =>
    new DatasetError(`${where}: expected ${expected}, found ${found}`, { file: path });
  if (typeof row !== "object" || row === null || Array.isArray(row))
    throw refuse("keys with their values", quote(row));
  const values = new Map(Object.entries(row));
  const value = (kind: keyof typeof KEYS): string | undefined => {
    const keys = columns[kind] === undefined ? KEYS[kind] : [columns[kind]];
    const key = keys.find((name) => values.get(name) !== undefined);
    if (key === undefined) {
      if (kind === "image" && columns.image === undefined) return undefined;
      throw refuse(keys.join(" or "), [...values.keys()].join(", ") || "nothing");
    }
    const found = values.get(key);
    if (typeof found !== "string") throw refuse(`${key} to be text`, quote(found));
    return found;
  };
  const file = async (name: string) => ({
    path: await locate(dirname(path), name),
    where: `${basename(path)}, ${where}`,
  });
  const image = value("image");
  return {
    prompt: value("prompt")!.trim(),
    video: await file(value("video")!),
    ...(image === undefined ? {} : { image: await file(image) }),
  };
}

/** Frames, height and width that clips are brought to. */
export interface Bucket extends Size {
  readonly numFrames: number;
}

export const bucketName = ({ numFrames, height, width }: Bucket): string => `${numFrames}x${height}x${width}`;

/**
 * Reads "81x768x1360": frames x height x width.
 *
 * @param multiple pixels that both sides are divisible by: those of a patch.
 * @param name the argument, as the message names it.
 * @throws InputError unless frames are 8 N + 1 and the sides divisible by `multiple`.
 */
export function parseBucket(text: string, multiple = 16, name = "train_resolution"): Bucket {
  const parts = /^(\d+)x(\d+)x(\d+)$/.exec(text.trim());
  if (!parts)
    throw new InputError(`${name}: expected FRAMESxHEIGHTxWIDTH, such as 81x768x1360, found ${text}`);
  const bucket = { numFrames: Number(parts[1]), height: Number(parts[2]), width: Number(parts[3]) };
  assertFrameRule(bucket.numFrames, `${name}: frames`);
  for (const side of ["height", "width"] as const) {
    if (bucket[side] < multiple || bucket[side] % multiple !== 0) {
      throw new InputError(
        `${name}: expected ${side} to be a multiple of ${multiple}, found ${bucket[side]}`,
      );
    }
  }
  return bucket;
}

/**
 * The bucket for a clip: of those with no more frames than it has, the ones with the most; among these the one whose
 * shape is nearest to the clip's, then whose size is. A clip shorter than all takes the shortest.
 */
export function chooseBucket(clip: ClipInfo, buckets: readonly Bucket[]): Bucket {
  const fitting = buckets.filter(({ numFrames }) => numFrames <= clip.numFrames);
  const frames =
    fitting.length > 0
      ? Math.max(...fitting.map(({ numFrames }) => numFrames))
      : Math.min(...buckets.map(({ numFrames }) => numFrames));
  const distance = ({ height, width }: Size) => [
    Math.abs(Math.log(height / width) - Math.log(clip.height / clip.width)),
    Math.abs(height - clip.height) + Math.abs(width - clip.width),
  ];
  const [first, ...rest] = buckets.filter(({ numFrames }) => numFrames === frames);
  return rest.reduce((best, bucket) => {
    const [a, b] = [distance(bucket), distance(best)];
    return a[0]! < b[0]! || (a[0] === b[0] && a[1]! < b[1]!) ? bucket : best;
  }, first!);
}

export interface PreprocessOptions {
  /** "resize" changes the aspect ratio, as the recipe does; "crop" keeps it and cuts out the middle. Default "resize". */
  readonly fit?: "resize" | "crop";
  /** What happens to clips with too few frames: their last frame is repeated, or they are refused. Default "repeat". */
  readonly shortClips?: "repeat" | "refuse";
  /** Frames per second that clips are brought to before frames are taken. Default: each clip's own. */
  readonly fps?: number | undefined;
  /** Which frames are taken of clips with more than wanted; see {@link extractFrames}. Default "spread", the recipe's way. */
  readonly frameExtraction?: FrameExtraction;
}

/** A clip ready for the VAE. */
export interface PreparedClip {
  readonly video: Clip;
  /** The conditioning image: one frame. */
  readonly image: Clip;
  /** What was done to the clip, in words. */
  readonly report: string;
}

/**
 * Brings a clip to its bucket: its rate changed as by {@link resampleFrames}, frames chosen as by {@link extractFrames},
 * resized as by `cv2.resize` while they are decoded, so that only the results take memory. An image of its own takes the first
 * frame's place as the condition, and only there: the clip's frames are the same with it and without, as in the recipe.
 *
 * @throws ClipError naming the file that can't be read; DatasetError for a short clip that is refused.
 */
export async function prepareClip(
  entry: DatasetEntry,
  bucket: Bucket,
  { fit = "resize", shortClips = "repeat", fps, frameExtraction = "spread" }: PreprocessOptions = {},
): Promise<PreparedClip> {
  const frames = bucket.numFrames;
  const rateNotes: string[] = [];
  const sizeNotes: string[] = [];
  let source = "";
  let found = 0;
  const clip = await readClip(entry.video, {
    ...(fps === undefined ? {} : { fps }),
    select: (all, rate) => {
      const base = fps === undefined ? undefined : resampleFrames(all, rate, fps);
      found = base?.length ?? all;
      source = `${all} frames SIZE at ${short(rate)} fps`;
      if (base !== undefined && found !== all) rateNotes.push(`${framesOf(found)} at ${short(fps!)} fps`);
      if (found < frames && shortClips === "refuse") {
        throw new DatasetError(`expected at least ${frames} frames${at(fps)}, found ${found}`, {
          file: entry.video,
        });
      }
      const chosen = extractFrames(found, frames, frameExtraction, entry.part);
      return base === undefined ? chosen : chosen.map((i) => base[i]!);
    },
    frame(frame) {
      source = source.replace("SIZE", `${frame.width}x${frame.height}`);
      return fitTo(frame, bucket, fit, sizeNotes);
    },
  });
  if (found < frames) rateNotes.push(`last frame repeated ${frames - found} times`);
  else if (found > frames) rateNotes.push(extractionNote(found, frames, frameExtraction, entry.part));
  const notes = [...rateNotes, ...new Set(sizeNotes)];
  const video = fps === undefined ? clip : new Clip({ ...clip, fps });
  let image = video.slice(0, 1);
  if (entry.image !== undefined) {
    const given = await readClip(entry.image, { select: () => [0] });
    image = fitTo(given, bucket, fit, []);
    notes.push("own image");
  }
  const report = `${entry.video}: ${source} -> ${bucketName(bucket)}${notes.length > 0 ? ` (${notes.join("; ")})` : ""}`;
  return { video, image, report };
}

const framesOf = (count: number): string => `${count} ${count === 1 ? "frame" : "frames"}`;
const short = (rate: number): number => Number(rate.toFixed(2));
const at = (fps: number | undefined): string => (fps === undefined ? "" : ` at ${short(fps)} fps`);

/** Which frames were taken of more, in words. */
function extractionNote(found: number, frames: number, how: FrameExtraction, part = 0): string {
  const stride = Math.floor(found / frames);
  if (how === "spread" && stride > 1) return `${frames} of ${found} frames, 1 in ${stride}`;
  if (how === "middle") return `${frames} of ${found} frames, in the middle`;
  if (how === "chunk")
    return `part ${part + 1} of ${countParts(found, frames, how)}, of ${framesOf(frames)} each`;
  return `the first ${frames} of ${found} frames`;
}

function fitTo(clip: Clip, size: Size, fit: "resize" | "crop", notes: string[]): Clip {
  if (clip.width === size.width && clip.height === size.height) return clip;
  const same = clip.width * size.height === clip.height * size.width;
  if (fit === "resize" || same) {
    notes.push(same ? "resized" : "resized, shape changed");
    return clip.resize(size);
  }
  // The largest area with the bucket's aspect ratio, around the middle.
  const scale = Math.min(clip.width / size.width, clip.height / size.height);
  const width = Math.min(clip.width, Math.round(size.width * scale));
  const height = Math.min(clip.height, Math.round(size.height * scale));
  const left = Math.floor((clip.width - width) / 2);
  const top = Math.floor((clip.height - height) / 2);
  notes.push(`cropped to ${width}x${height}, resized`);
  return clip.crop({ top, left, width, height }).resize(size);
}

/** Files probed at a time. */
const PROBES = 16;

/** A clip's bucket and how many samples are made of it, or why it can't be read. */
export type BucketOrProblem =
  | { readonly bucket: Bucket; readonly parts: number }
  | { readonly problem: string };

/** Each entry's bucket, or why its clip can't be read. */
export async function assignBuckets(
  entries: readonly DatasetEntry[],
  buckets: readonly Bucket[],
  { fps, frameExtraction }: Pick<PreprocessOptions, "fps" | "frameExtraction"> = {},
): Promise<BucketOrProblem[]> {
  const assigned: BucketOrProblem[] = [];
  for (let i = 0; i < entries.length; i += PROBES) {
    const part = entries.slice(i, i + PROBES).map(async ({ video }) => {
      try {
        const found = await probeClip(video, fps === undefined ? {} : { fps });
        const clip =
          fps === undefined
            ? found
            : { ...found, fps, numFrames: resampleFrames(found.numFrames, found.fps, fps).length };
        const bucket = chooseBucket(clip, buckets);
        return { bucket, parts: countParts(clip.numFrames, bucket.numFrames, frameExtraction) };
      } catch (error) {
        return { problem: (error as Error).message };
      }
    });
    assigned.push(...(await Promise.all(part)));
  }
  return assigned;
}
