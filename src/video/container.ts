/** What a file is by its content, whether all of it is there, and what MP4's edit lists leave of it. */
import { type FileHandle, open } from "node:fs/promises";

/** What a file is, by its content. The extension says nothing. */
export type Content =
  /** MP4, MOV, 3GP, Matroska, WebM, MPEG-TS. */
  | "video"
  /** Pictures that sharp reads, animated ones among them. */
  | "picture"
  /** What only ffmpeg reads, by name. */
  | { readonly foreign: string };

/** Bytes that are enough to tell. */
const HEAD = 1024;

const ascii = (bytes: Uint8Array, from: number, to: number): string =>
  Buffer.from(bytes.subarray(from, to)).toString("latin1");

/** Brands (ISO/IEC 14496-12, `ftyp`) of pictures; the rest are of clips. */
const HEIF: Readonly<Record<string, Content>> = {
  avif: "picture",
  avis: { foreign: "an animated AVIF" },
  heic: { foreign: "HEIC" },
  heix: { foreign: "HEIC" },
  hevc: { foreign: "HEIC" },
  hevx: { foreign: "HEIC" },
  heim: { foreign: "HEIC" },
  heis: { foreign: "HEIC" },
  mif1: { foreign: "HEIC" },
  msf1: { foreign: "HEIC" },
};

/** First bytes, in hexadecimal, and what they mean. */
const SIGNATURES: readonly (readonly [string, Content])[] = [
  ["1a45dfa3", "video"],
  ["ffd8ff", "picture"],
  ["47494638", "picture"],
  ["49492a00", "picture"],
  ["4d4d002a", "picture"],
  ["424d", { foreign: "BMP" }],
  ["000001ba", { foreign: "MPEG" }],
  ["000001b3", { foreign: "MPEG" }],
  ["464c56", { foreign: "FLV" }],
  ["3026b275", { foreign: "WMV" }],
  ["4f676753", { foreign: "Ogg" }],
  ["00000001", { foreign: "a stream of H.264 or HEVC without a container" }],
];

/** What a file with these first bytes is; undefined if that is unknown. */
export function contentOf(head: Uint8Array): Content | undefined {
  const hex = Buffer.from(head.subarray(0, 8)).toString("hex");
  if (ascii(head, 0, 4) === "RIFF") {
    const form = ascii(head, 8, 12);
    if (form === "WEBP") return "picture";
    return form === "AVI " ? { foreign: "AVI" } : undefined;
  }
  if (hex.startsWith("89504e47")) return isAnimatedPng(head) ? { foreign: "an animated PNG" } : "picture";
  const box = ascii(head, 4, 8);
  if (box === "ftyp") return HEIF[ascii(head, 8, 12)] ?? "video";
  if (["moov", "mdat", "wide", "free", "skip", "pnot"].includes(box)) return "video";
  // MPEG-TS has a sync byte at the start of each packet, of 188 bytes, or of 192 with a time in front.
  for (const [first, size] of [
    [0, 188],
    [4, 192],
  ] as const)
    if (head[first] === 0x47 && head[first + size] === 0x47) return "video";
  return SIGNATURES.find(([signature]) => hex.startsWith(signature))?.[1];
}

/** PNG's chunk `acTL` comes before the picture (PNG specification, third edition, section 11.3.6.1). */
function isAnimatedPng(head: Uint8Array): boolean {
  for (let at = 8; at + 8 <= head.length; ) {
    const kind = ascii(head, at + 4, at + 8);
    if (kind === "acTL") return true;
    if (kind === "IDAT") return false;
    at += 12 + Buffer.from(head).readUInt32BE(at);
  }
  return false;
}

/** A part of what is shown, in seconds as the container's reader counts them. */
export interface Edit {
  readonly start: number;
  /** Up to but not including this. */
  readonly end: number;
  /** By how much `end` may be too late, since durations count coarser than frames' times, and writers round them up. */
  readonly slack: number;
}

/** What is known of a file before its pictures are read. */
export interface ContainerFacts {
  readonly content: Content | undefined;
  /** Why the file is known not to be whole; undefined if nothing speaks against it. */
  readonly cut?: string;
  /** What is known to be wrong inside. */
  readonly damage?: string | undefined;
  /** Whether it is MPEG-TS, which has no header for the whole file. */
  readonly streamed: boolean;
  /** MP4 and MOV: what each track shows, in order, by the track's id; a track without an edit list is not in it. */
  readonly edits: ReadonlyMap<number, readonly Edit[]>;
}

/** Reads from a file what {@link ContainerFacts} says. Errors are the system's. */
export async function inspectFile(path: string): Promise<ContainerFacts> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const head = await bytesAt(file, 0, Math.min(HEAD, size));
    const content = contentOf(head);
    const streamed = content === "video" && (head[0] === 0x47 || (head[0] !== 0x1a && head[4] === 0x47));
    const none = { content, streamed, edits: new Map<number, Edit[]>() };
    if (content === "video" && head[0] === 0x1a) return { ...none, ...(await matroskaFacts(file, size)) };
    if (content === "video" && head[0] === 0x47 && size % 188 !== 0)
      return { ...none, cut: `its last packet has ${size % 188} of 188 bytes` };
    if (content === "video" && !streamed) return { ...none, ...(await boxFacts(file, size)) };
    if (typeof content === "object" && content.foreign === "AVI") {
      const promised = Buffer.from(head).readUInt32LE(4) + 8;
      if (promised > size) return { ...none, cut: shorter("it", promised, size) };
    }
    return none;
  } finally {
    await file.close();
  }
}

const shorter = (what: string, promised: number, found: number): string =>
  `${what} says ${promised} bytes, found ${found}`;

async function bytesAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await file.read(buffer, 0, length, position);
  return buffer.subarray(0, bytesRead);
}

/** A variable-size integer of EBML (RFC 8794, section 4); with its marker for ids. */
function vint(bytes: Buffer, at: number, marker: boolean): { value: number; length: number } | undefined {
  const first = bytes[at];
  if (first === undefined || first === 0) return undefined;
  const length = Math.clz32(first) - 23;
  if (at + length > bytes.length) return undefined;
  let value = marker ? first : first & (0xff >> length);
  let ones = value === 0xff >> length;
  for (let i = 1; i < length; i++) {
    value = value * 256 + bytes[at + i]!;
    ones &&= bytes[at + i] === 0xff;
  }
  return { value: !marker && ones ? Number.POSITIVE_INFINITY : value, length };
}

const SEGMENT = 0x18538067;

/** Walks over the elements of the file and of its segment. One of unknown size, of a live recording, ends the walk. */
async function matroskaFacts(file: FileHandle, size: number): Promise<{ cut?: string }> {
  for (let at = 0; at < size; ) {
    const bytes = await bytesAt(file, at, 12);
    const id = vint(bytes, 0, true);
    const length = id === undefined ? undefined : vint(bytes, id.length, false);
    if (id === undefined || length === undefined) return {};
    const begin = at + id.length + length.length;
    const end = begin + length.value;
    if (end === Number.POSITIVE_INFINITY && id.value !== SEGMENT) return {};
    if (end > size && end !== Number.POSITIVE_INFINITY)
      return { cut: shorter(id.value === SEGMENT ? "its segment" : "an element", end, size) };
    if (id.value === SEGMENT && end !== Number.POSITIVE_INFINITY) return {};
    at = id.value === SEGMENT ? begin : end;
  }
  return {};
}

interface Box {
  readonly kind: string;
  readonly begin: number;
  readonly end: number;
}

/** The boxes among these bytes (ISO/IEC 14496-12, section 4.2). */
function* boxesIn(bytes: Buffer, from: number, to: number): Generator<Box> {
  for (let at = from; at + 8 <= to; ) {
    const long = bytes.readUInt32BE(at) === 1;
    if (long && at + 16 > to) return;
    const size = long ? Number(bytes.readBigUInt64BE(at + 8)) : bytes.readUInt32BE(at) || to - at;
    if (size < 8) return;
    yield { kind: ascii(bytes, at + 4, at + 8), begin: at + (long ? 16 : 8), end: Math.min(at + size, to) };
    at += size;
  }
}

const KNOWN = new Set([
  "ftyp",
  "moov",
  "mdat",
  "moof",
  "free",
  "skip",
  "wide",
  "udta",
  "meta",
  "uuid",
  "sidx",
]);

async function boxFacts(
  file: FileHandle,
  size: number,
): Promise<{ cut?: string; damage?: string | undefined; edits: Map<number, Edit[]> }> {
  let edits = new Map<number, Edit[]>();
  let damage: string | undefined;
  for (let at = 0; at + 8 <= size; ) {
    const head = await bytesAt(file, at, 16);
    const kind = ascii(head, 4, 8);
    const short = head.readUInt32BE(0);
    const length = short === 1 && head.length === 16 ? Number(head.readBigUInt64BE(8)) : short || size - at;
    // What follows the last box is no box, and not missed.
    if (length < 8 || !KNOWN.has(kind)) break;
    if (at + length > size && ["moov", "mdat", "moof"].includes(kind))
      return { cut: `${shorter(`its box ${kind}`, length, size - at)}`, edits };
    if (kind === "moov") {
      const moov = await bytesAt(file, at, length);
      edits = editsOf(moov);
      damage ??= tableFault(moov, size);
    }
    at += length;
  }
  return { edits, damage };
}

/** The box at a path of kinds below another. */
function childOf(bytes: Buffer, { begin, end }: Box, ...path: string[]): Box | undefined {
  const [kind, ...rest] = path;
  const box = [...boxesIn(bytes, begin, end)].find((each) => each.kind === kind);
  return box === undefined || rest.length === 0 ? box : childOf(bytes, box, ...rest);
}

/**
 * What is wrong with the tables of a clip's frames. A reader makes a list as long as they say, so that one wrong byte takes all
 * memory.
 */
function tableFault(moov: Buffer, fileSize: number): string | undefined {
  const [whole] = boxesIn(moov, 0, moov.length);
  for (const track of whole === undefined ? [] : boxesIn(moov, whole.begin, whole.end)) {
    const handler = childOf(moov, track, "mdia", "hdlr");
    if (handler === undefined || ascii(moov, handler.begin + 8, handler.begin + 12) !== "vide") continue;
    for (const kind of ["stsz", "stts", "ctts"]) {
      const table = childOf(moov, track, "mdia", "minf", "stbl", kind);
      if (table === undefined || table.begin + 12 > table.end) continue;
      // stsz: one size for all, how many; stts and ctts: runs, and for each of these how many, and what they have in common.
      const runs = kind === "stsz" ? 1 : moov.readUInt32BE(table.begin + 4);
      let frames = 0;
      for (let i = 0, at = table.begin + 8; i < runs && at + 4 <= table.end; i++, at += 8)
        frames += moov.readUInt32BE(at);
      if (frames > fileSize) return `its table ${kind} counts ${frames} frames, in ${fileSize} bytes`;
    }
  }
  return undefined;
}

/** The edit lists of all tracks of a `moov` box, on the time line on which the first edit begins where it is shown. */
function editsOf(moov: Buffer): Map<number, Edit[]> {
  const found = new Map<number, Edit[]>();
  const child = (box: Box, ...path: string[]) => childOf(moov, box, ...path);
  /** A 32-bit number whose place depends on whether times have 64 bits. */
  const number = (box: Box, place: number, longPlace: number) =>
    moov.readUInt32BE(box.begin + (moov[box.begin] === 1 ? longPlace : place));
  try {
    const [whole] = boxesIn(moov, 0, moov.length);
    const header = whole && child(whole, "mvhd");
    if (header === undefined) return found;
    const movieScale = number(header, 12, 20);
    for (const track of boxesIn(moov, whole!.begin, whole!.end)) {
      if (track.kind !== "trak") continue;
      const [about, media, list] = [
        child(track, "tkhd"),
        child(track, "mdia", "mdhd"),
        child(track, "edts", "elst"),
      ];
      if (about === undefined || media === undefined || list === undefined) continue;
      const edits = readEdits(moov, list, movieScale, number(media, 12, 20));
      if (edits.length > 0) found.set(number(about, 12, 20), edits);
    }
  } catch (error) {
    // A box that ends early: the file is damaged, which whoever reads its pictures will say.
    if (!(error instanceof RangeError)) throw error;
  }
  return found;
}

/** ISO/IEC 14496-12, section 8.6.6. A media time of -1 is a pause before the track begins. */
function readEdits(moov: Buffer, list: Box, movieScale: number, mediaScale: number): Edit[] {
  const long = moov[list.begin] === 1;
  const edits: Edit[] = [];
  let pause = 0;
  let zero: number | undefined;
  const count = moov.readUInt32BE(list.begin + 4);
  for (let i = 0, at = list.begin + 8; i < count && at < list.end; i++, at += long ? 20 : 12) {
    const duration = long ? Number(moov.readBigUInt64BE(at)) : moov.readUInt32BE(at);
    const time = long ? Number(moov.readBigInt64BE(at + 8)) : moov.readInt32BE(at + 4);
    if (time === -1) {
      if (zero === undefined) pause += duration / movieScale;
      continue;
    }
    zero ??= time;
    const start = (time - zero) / mediaScale + pause;
    const length = duration === 0 ? Number.POSITIVE_INFINITY : duration / movieScale; // 0: until the end
    edits.push({ start, end: start + length, slack: 1 / movieScale });
  }
  return edits;
}
