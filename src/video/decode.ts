/** Frames of a video track, as RGB, one after another. */
import type { InputVideoTrack } from "#mediabunny";
import { firstLine } from "../engine/errors.js";
import { isKnownFormat, MATRIX_NUMBERS, type Plane, pictureToRgb, UNSPECIFIED } from "./color.js";
import type { Edit } from "./container.js";
import { ClipError, notReadable, reading, readingAll } from "./errors.js";
import { type Orientation, orient, type TurnedPicture } from "./orient.js";
import { resizeRgb } from "./resize.js";
import { asPlanes, type StoredPixels, storedPixels, storedPixelsInPacket } from "./sps.js";

/** What the decoder here can't give; ffmpeg may. The message is about the clip. */
export class BeyondDecoder extends ClipError {}

/** The frames of a track that are shown. */
export interface ShownFrames {
  /** Their places among all frames that come out of the decoder. One is in it more than once if edits show it more than once. */
  readonly places: readonly number[];
  /** Packets, by their places in the file, that are not given to the decoder, since it can't decode them. */
  readonly lost: ReadonlySet<number>;
  /** Mean rate; undefined if there is one frame. */
  readonly fps: number | undefined;
}

/** How a track's frames become what is shown. */
export interface TrackShape {
  readonly orientation: Orientation;
  /** By how much frames are stretched before they are turned, so that pixels are square. */
  readonly stretch: readonly [x: number, y: number];
  /** Of what is shown. */
  readonly width: number;
  readonly height: number;
}

/** Pixels that are more times as wide as high, or as high as wide, are a mistake that would take all memory. */
const MOST_STRETCHED = 16;

/** @throws ClipError naming the file if its pixels have an impossible shape */
export async function trackShape(path: string, track: InputVideoTrack): Promise<TrackShape> {
  const [rotation, flip] = [await track.getRotation(), await track.getFlip()];
  const coded = [await track.getCodedWidth(), await track.getCodedHeight()] as const;
  const square = [await track.getSquarePixelWidth(), await track.getSquarePixelHeight()] as const;
  const aspect = ((square[0] / coded[0]) * coded[1]) / square[1];
  if (!(aspect <= MOST_STRETCHED && aspect >= 1 / MOST_STRETCHED))
    throw new ClipError(`expected pixels that are about square, found ones ${aspect} times as wide as high`, {
      file: path,
    });
  const lying = rotation === 90 || rotation === 270;
  const [width, height] = lying ? [square[1], square[0]] : square;
  return {
    orientation: { rotation, flip },
    stretch: [square[0] / coded[0], square[1] / coded[1]],
    width,
    height,
  };
}

/**
 * Which frames there are. Packets are not frames: some hold pictures that others refer to but that are not shown, some
 * can't be decoded since what they refer to was cut away, and edit lists leave some out.
 */
export async function shownFrames(
  path: string,
  track: InputVideoTrack,
  { EncodedPacketSink }: typeof import("#mediabunny"),
  edits: readonly Edit[] | undefined,
): Promise<ShownFrames> {
  const { codec } = track;
  const config = await reading(path, track.getDecoderConfig());
  const description = config?.description as Uint8Array | undefined;
  // Only these say in the packet itself whether it is shown.
  const look = codec === "vp8" ? vp8IsShown : codec === "vp9" ? vp9IsShown : undefined;
  const sink = new EncodedPacketSink(track);
  const times: number[] = [];
  const seen: boolean[] = [];
  const lost = new Set<number>();
  const all = sink.packets(undefined, undefined, { metadataOnly: look === undefined });
  for await (const { timestamp, data } of readingAll(path, all)) {
    times.push(timestamp);
    seen.push(look?.(data) ?? true);
  }
  if (codec === "hevc") {
    // Leading pictures of the first key frame refer to what came before it.
    let index = -1;
    for await (const { data } of readingAll(path, sink.packets())) {
      index++;
      if (index === 0) continue;
      if (!hasLeadingPicture(data, description)) break;
      seen[index] = false;
      lost.add(index);
    }
  }
  // A decoder gives frames in the order of presentation.
  const visible = times.filter((_, i) => seen[i]).sort((a, b) => a - b);
  const frame = 1 / (meanRate(visible) ?? 1);
  const parts = edits ?? [{ start: Number.NEGATIVE_INFINITY, end: Number.POSITIVE_INFINITY, slack: 0 }];
  const shown = parts.map(({ start, end, slack }) => {
    // Times are fractions that were rounded on the way here.
    const [from, to] = [start - 1e-6, end - Math.min(slack, frame / 2) - 1e-6];
    return visible.flatMap((time, place) => (time >= from && time < to ? [place] : []));
  });
  const places = shown.flat();
  const rated = shown.length === 1 ? places.map((place) => visible[place]!) : visible;
  return { places, lost, fps: meanRate(rated) };
}

/** Frames per second of frames at these times, in order; undefined for a single one. */
function meanRate(times: readonly number[]): number | undefined {
  const length = times.length > 1 ? times.at(-1)! - times[0]! : 0;
  return length > 0 ? Number(((times.length - 1) / length).toFixed(6)) : undefined;
}

/** RFC 6386, section 9.1. */
const vp8IsShown = (data: Uint8Array): boolean => ((data[0] ?? 0) & 0x10) !== 0;

/** The uncompressed header of VP9's bitstream specification, section 6.2. A superframe always has one frame that is shown. */
function vp9IsShown(data: Uint8Array): boolean {
  if (((data.at(-1) ?? 0) & 0xe0) === 0xc0) return true;
  const bit = (index: number) => ((data[index >> 3] ?? 0) >> (7 - (index & 7))) & 1;
  let at = 4;
  if (bit(2) === 1 && bit(3) === 1) at++; // profile 3 has a bit more
  return bit(at) === 1 || bit(at + 2) === 1;
}

/** Whether a packet of HEVC has a "random access skipped leading" picture (ITU-T H.265, table 7-1). */
function hasLeadingPicture(data: Uint8Array, description: Uint8Array | undefined): boolean {
  const kinds: number[] = [];
  if (description === undefined) {
    for (let i = 2; i + 1 < data.length; i++)
      if (data[i] === 1 && data[i - 1] === 0 && data[i - 2] === 0) kinds.push((data[i + 1]! >> 1) & 63);
  } else {
    const lengthBytes = ((description[21] ?? 3) & 3) + 1;
    for (let at = 0; at + lengthBytes < data.length; ) {
      let length = 0;
      for (let i = 0; i < lengthBytes; i++) length = length * 256 + data[at + i]!;
      kinds.push((data[at + lengthBytes]! >> 1) & 63);
      at += lengthBytes + length;
    }
  }
  return kinds.some((kind) => kind === 8 || kind === 9);
}

/** Called with each frame in the order of presentation. Decoding ends when it returns false. */
export type TakeFrame = (place: number, picture: () => Promise<TurnedPicture>) => Promise<boolean>;

/** Packets and frames that wait on either side of the decoder. */
const WAITING = 8;

/**
 * Decodes a track from its start. Frames are counted as they come: the decoder's times are those of the packets in the order of
 * the file, and say nothing about frames that are shown in another.
 *
 * @throws BeyondDecoder if its pixels are of a kind that the decoder can't give
 */
export async function decodeTrack(
  path: string,
  track: InputVideoTrack,
  { EncodedPacketSink }: typeof import("#mediabunny"),
  { lost }: ShownFrames,
  take: TakeFrame,
): Promise<void> {
  const config = (await reading(path, track.getDecoderConfig()))!;
  const shape = await trackShape(path, track);
  const description = config.description as Uint8Array | undefined;
  const stored =
    track.codec === "avc" ? await avcPixels(path, track, description, EncodedPacketSink) : undefined;
  const plain =
    description !== undefined &&
    stored !== undefined &&
    stored.chroma > 1 &&
    (stored.matrix === 0 || stored.fullRange === true);
  const frames: VideoFrame[] = [];
  let failure: Error | undefined;
  const decoder = new VideoDecoder({
    output: (frame) => frames.push(frame),
    error: (error) => {
      failure = error;
    },
  });
  let place = 0;
  let going = true;
  /** Hands on the frames that are there. */
  const drain = async () => {
    while (going && frames.length > 0) {
      const frame = frames.shift()!;
      try {
        going = await take(place++, () => toPicture(path, frame, track, config, stored, shape));
      } finally {
        frame.close();
      }
    }
  };
  try {
    decoder.configure(plain ? { ...config, description: asPlanes(description), colorSpace: {} } : config);
    let packet = 0;
    for await (const { type, data } of readingAll(path, new EncodedPacketSink(track).packets())) {
      if (lost.has(packet++)) continue;
      const timestamp = packet * 1000; // microseconds
      if (failure !== undefined) throw notReadable(path, failure);
      try {
        decoder.decode(new EncodedVideoChunk({ type, timestamp, data: data as Uint8Array<ArrayBuffer> }));
      } catch (error) {
        // The decoder closes first, and says why a moment later.
        await new Promise((resolve) => setTimeout(resolve, 1));
        throw notReadable(path, failure ?? error);
      }
      do {
        if (failure !== undefined) throw notReadable(path, failure);
        await drain();
        if (decoder.decodeQueueSize > WAITING) await new Promise((resolve) => setTimeout(resolve, 1));
      } while (going && decoder.decodeQueueSize > WAITING);
      if (!going) return;
    }
    await reading(path, decoder.flush());
    if (failure !== undefined) throw notReadable(path, failure);
    await drain();
  } finally {
    for (const frame of frames) frame.close();
    if (decoder.state !== "closed") decoder.close();
  }
}

/** Of the description, or of the first packet in a container that has none. */
async function avcPixels(
  path: string,
  track: InputVideoTrack,
  description: Uint8Array | undefined,
  EncodedPacketSink: typeof import("#mediabunny").EncodedPacketSink,
): Promise<StoredPixels | undefined> {
  if (description !== undefined) return storedPixels(description);
  const first = await reading(path, new EncodedPacketSink(track).getFirstKeyPacket());
  return first === null ? undefined : storedPixelsInPacket(first.data);
}

/** Numbers of the matrix and of chroma's resolution in the codec strings of VP9 and AV1, which WebCodecs' names leave out. */
function fromCodecString(codec: string): { matrix?: number; chroma?: number; bits?: number } {
  const parts = codec.split(".");
  const number = (index: number) => (parts[index] === undefined ? undefined : Number(parts[index]));
  if (parts[0] === "vp09") {
    const odd = number(1)! % 2 === 1; // profiles 1 and 3 are for all but 4:2:0
    return { matrix: number(7), bits: number(3), ...(odd ? { chroma: 3 } : {}) };
  }
  if (parts[0] === "av01") {
    // Where the stream names none, the string says BT.709, which has a name in WebCodecs and is known by that.
    const matrix = number(8) === MATRIX_NUMBERS.bt709 ? undefined : number(8);
    return { matrix, bits: number(3), chroma: number(4) === 1 ? 0 : number(1) === 1 ? 3 : 1 };
  }
  return {};
}

/** `hvcC` (ISO/IEC 14496-15, section 8.3.3.1). */
const hevcPixels = (description: Uint8Array): StoredPixels => ({
  chroma: (description[16] ?? 1) & 3,
  bits: ((description[17] ?? 0) & 7) + 8,
});

async function toPicture(
  path: string,
  frame: VideoFrame,
  track: InputVideoTrack,
  config: VideoDecoderConfig,
  stored: StoredPixels | undefined,
  { orientation, stretch }: TrackShape,
): Promise<TurnedPicture> {
  const format: string = frame.format ?? "unknown";
  const { codedWidth: width, codedHeight: height, colorSpace } = frame;
  refuseHdr(path, colorSpace.transfer ?? undefined);
  const written = fromCodecString(config.codec);
  const name = colorSpace.matrix ?? config.colorSpace?.matrix ?? undefined;
  const named = name === undefined || name === null ? undefined : MATRIX_NUMBERS[name];
  const fromStream = [stored?.matrix, written.matrix].find(
    (each) => each !== undefined && each !== UNSPECIFIED,
  );
  const matrix = fromStream ?? named ?? UNSPECIFIED;
  // The decoder calls I420 whatever it has no name for, and gives the wrong bytes.
  if (format === "I420" || !isKnownFormat(format)) {
    const { chroma = 1, bits = 8 } =
      stored ??
      (track.codec === "hevc" && config.description !== undefined
        ? hevcPixels(config.description as Uint8Array)
        : written);
    const grey = chroma === 0 && track.codec === "avc"; // which has them as 4:2:0 without colour
    if (!isKnownFormat(format) || bits !== 8 || matrix === 0 || !(chroma === 1 || grey)) {
      const kind = matrix === 0 ? "RGB" : (["grey", "4:2:0", "4:2:2", "4:4:4 or 4:4:0"][chroma] ?? "unknown");
      throw new BeyondDecoder(
        `its pixels are ${kind} of ${bits} bits in ${track.codec}, which the built-in decoder can't give`,
        { file: path },
      );
    }
  }
  const bytes = new Uint8Array(frame.allocationSize());
  const planes = (await frame.copyTo(bytes).catch((error: Error) => {
    throw new BeyondDecoder(`the built-in decoder can't give its pixels (${firstLine(error)})`, {
      file: path,
    });
  })) as Plane[];
  // RGB has no other range, whatever is written.
  const fullRange =
    matrix === MATRIX_NUMBERS.rgb ||
    (stored?.fullRange ?? colorSpace.fullRange ?? config.colorSpace?.fullRange) === true;
  const rgb = pictureToRgb({ bytes, planes, format, width, height, path }, { matrix, fullRange });
  const square = {
    width: Math.max(1, Math.round(width * stretch[0])),
    height: Math.max(1, Math.round(height * stretch[1])),
  };
  const same = square.width === width && square.height === height;
  return orient(
    same ? rgb : resizeRgb(rgb, { width, height }, square),
    square.width,
    square.height,
    orientation,
  );
}

/** Transfer functions of HDR by ffmpeg's names; their names in WebCodecs. */
export const HDR_TRANSFERS: Readonly<Record<string, string>> = { smpte2084: "pq", "arib-std-b67": "hlg" };

const HDR: Readonly<Record<string, string>> = { pq: "PQ, SMPTE ST 2084", hlg: "HLG, ARIB STD-B67" };

/**
 * HDR's numbers mean other amounts of light than those that models are trained on: taken as they are, clips are pale and grey.
 *
 * @param transfer WebCodecs' name of it
 */
export function refuseHdr(path: string, transfer: string | undefined): void {
  const kind = transfer === undefined ? undefined : HDR[transfer];
  if (kind === undefined) return;
  throw new ClipError(`expected colours of standard range, found HDR (${kind})`, {
    file: path,
    hint: `convert it, for instance with \`ffmpeg -i IN -vf ${TO_SDR} OUT.mp4\``,
  });
}

const TO_SDR =
  "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,format=yuv420p";
