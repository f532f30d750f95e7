import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { contentOf } from "../../../src/video/container.js";
import { ffmpegVersion } from "../../../src/video/ffmpeg.js";
import { Clip, ClipError, probeClip, readClip } from "../../../src/video/index.js";

/** Made by make.sh there. */
const media = "test/src/video/media";

interface Expected {
  readonly frames: number;
  readonly width: number;
  readonly height: number;
  /** Means of 4x4 blocks of the first and the last frame. */
  readonly first: readonly number[];
  readonly last: readonly number[];
}
const expected = JSON.parse(await readFile(`${media}/expected.json`, "utf8")) as Record<string, Expected>;

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-media-"));
});
after(() => rm(folder, { recursive: true, force: true }));

const ffmpeg = await ffmpegVersion();
const skipped =
  ffmpeg === undefined ? "there is no ffmpeg, which these need; how they are refused is tested" : false;

/** Means of blocks whose edges are where they were before the frame was stretched. */
function blocks(clip: Clip, index: number): number[] {
  const { width, height } = clip;
  const frame = clip.frame(index);
  const means: number[] = [];
  for (let by = 0; by < 4; by++)
    for (let bx = 0; bx < 4; bx++)
      for (let c = 0; c < 3; c++) {
        let [sum, count] = [0, 0];
        for (let y = Math.floor((by * height) / 4); y < Math.floor(((by + 1) * height) / 4); y++)
          for (let x = Math.floor((bx * width) / 4); x < Math.floor(((bx + 1) * width) / 4); x++, count++)
            sum += frame[(y * width + x) * 3 + c]!;
        means.push(sum / count);
      }
  return means;
}

/** The clip has the frames that ffmpeg finds, with its colours, and a probe says the same. */
async function assertAsFfmpeg(name: string, stretch: readonly [number, number] = [1, 1]) {
  const want = expected[name]!;
  const path = join(media, name);
  const [clip, probe] = await Promise.all([readClip(path), probeClip(path)]);
  const size = [Math.round(want.width * stretch[0]), Math.round(want.height * stretch[1])];
  assert.deepEqual([clip.numFrames, clip.width, clip.height], [want.frames, ...size], name);
  assert.deepEqual(
    [probe.numFrames, probe.width, probe.height, probe.fps],
    [clip.numFrames, clip.width, clip.height, clip.fps],
    `${name}: the probe`,
  );
  for (const [index, means] of [
    [0, want.first],
    [-1, want.last],
  ] as const) {
    const found = blocks(clip, index);
    const error = found.reduce((sum, value, i) => sum + Math.abs(value - means[i]!), 0) / found.length;
    assert.ok(error <= 2.5, `${name}, frame ${index}: mean error ${error.toFixed(2)} levels`);
  }
}

/** What the decoder that comes with the package does not have. */
const foreign = [
  "foreign-mjpeg.avi",
  "foreign-prores.mov",
  "foreign-mpeg4.mp4",
  "foreign-h263.3gp",
  "foreign.apng",
  "foreign-mpeg2.mpegts",
  "foreign.avif",
  "foreign.bmp",
];
const beyond = ["hevc-gray.mp4", "hevc-rgb.mp4", "vp9-yuv440p.webm", "avc-pc-yuv444p.mpegts"];
const aspects: Record<string, readonly [number, number]> = {
  "aspect-4-3.mp4": [4 / 3, 1],
  "aspect-4-3.webm": [4 / 3, 1],
  "aspect-3-4.mp4": [1, 4 / 3],
};

for (const name of Object.keys(expected).filter((each) => ![...foreign, ...beyond].includes(each)))
  test(`${name}: frames, size and colours are ffmpeg's`, () => assertAsFfmpeg(name, aspects[name]));
for (const name of [...foreign, ...beyond])
  test(`${name}: an installed ffmpeg reads it`, { skip: skipped }, () => assertAsFfmpeg(name));

test("without ffmpeg, one line says what the file is and how to convert it", async () => {
  const script = `
    const { readClip } = await import(${JSON.stringify(new URL("../../../src/video/index.js", import.meta.url).href)});
    for (const name of process.argv.slice(1)) {
      const error = await readClip(name).catch((error) => error);
      console.log(error.name + " " + error.message);
    }
    process.exit(0);`;
  const names = [...foreign, ...beyond];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--input-type=module", "-e", script, ...names.map((name) => join(media, name))],
    { env: { ...process.env, PATH: folder } },
  );
  const lines = stdout.trim().split("\n");
  assert.equal(lines.length, names.length, stdout);
  const kinds = [
    "AVI",
    "prores",
    "mp4v|mpeg4",
    "s263|h263",
    "an animated PNG",
    "no video in it that the built-in reader knows",
    "an animated AVIF",
    "BMP",
    "grey of 8 bits in hevc",
    "RGB of 8 bits in hevc",
    "4:4:0 of 8 bits in vp9",
    "4:4:4 or 4:4:0 of 8 bits in avc",
  ];
  for (const [i, name] of names.entries()) {
    const start = `ClipError ${join(media, name)}: `;
    assert.ok(lines[i]!.startsWith(start), lines[i]);
    assert.match(lines[i]!, new RegExp(kinds[i]!));
    assert.match(lines[i]!, /no ffmpeg is installed; install ffmpeg, or convert the clip .*`ffmpeg -i .*`$/);
  }
});

for (const [name, kind] of [
  ["hdr-smpte2084.mp4", "PQ"],
  ["hdr-arib-std-b67.mp4", "HLG"],
] as const)
  test(`${name}: HDR is refused, and by the probe, too`, async () => {
    const path = join(media, name);
    for (const read of [readClip, probeClip])
      await assert.rejects(read(path), (error: Error) => {
        assert.ok(error instanceof ClipError);
        assert.match(
          error.message,
          new RegExp(`${name}: expected colours of standard range, found HDR \\(${kind}, `),
        );
        assert.match(error.message, /convert it, for instance with `ffmpeg .*tonemap/);
        return true;
      });
  });

/** Where a box's content begins in the bytes of an MP4 file. */
const boxAt = (bytes: Buffer, kind: string): number => bytes.indexOf(kind, 0, "latin1") + 4;

/** How a picture of given width is turned by 90 degrees and mirrored, by pixels. */
function turned(clip: Clip, rotation: number, flip: boolean): Clip {
  const lying = rotation % 180 === 90;
  const [width, height] = lying ? [clip.height, clip.width] : [clip.width, clip.height];
  const frames = clip.frames().map((frame) => {
    const out = new Uint8Array(frame.length);
    for (let y = 0; y < clip.height; y++)
      for (let x = 0; x < clip.width; x++) {
        const places: Record<number, readonly [number, number]> = {
          0: [x, y],
          90: [clip.height - 1 - y, x],
          180: [clip.width - 1 - x, clip.height - 1 - y],
          270: [y, clip.width - 1 - x],
        };
        const [toX, toY] = places[rotation]!;
        const from = (y * clip.width + x) * 3;
        out.set(frame.subarray(from, from + 3), (toY * width + (flip ? width - 1 - toX : toX)) * 3);
      }
    return out;
  });
  return Clip.fromFrames(frames, { width, height, fps: clip.fps });
}

test("a display matrix turns and mirrors: all eight orientations", async () => {
  const source = join(media, "avc-yuv444p.mp4");
  const plain = await readClip(source);
  const bytes = await readFile(source);
  // Matrices a, b, c, d of ISO/IEC 14496-12, section 8.3.2: x' = a x + c y, y' = b x + d y.
  const matrices = {
    "0": [1, 0, 0, 1],
    "90": [0, 1, -1, 0],
    "180": [-1, 0, 0, -1],
    "270": [0, -1, 1, 0],
    "0 flipped": [-1, 0, 0, 1],
    "90 flipped": [0, 1, 1, 0],
    "180 flipped": [1, 0, 0, -1],
    "270 flipped": [0, -1, -1, 0],
  };
  for (const [name, [a, b, c, d]] of Object.entries(matrices)) {
    const changed = Buffer.from(bytes);
    const at = boxAt(changed, "tkhd") + 40;
    [a, b, 0, c, d, 0].forEach((value, i) => {
      changed.writeInt32BE(value! * 65536, at + 4 * i);
    });
    const path = join(folder, `turned ${name}.mp4`);
    await writeFile(path, changed);
    const [clip, probe] = await Promise.all([readClip(path), probeClip(path)]);
    const want = turned(plain, Number.parseInt(name, 10), name.endsWith("flipped"));
    assert.deepEqual([clip.width, clip.height], [want.width, want.height], name);
    assert.deepEqual([probe.width, probe.height], [want.width, want.height], name);
    assert.ok(Buffer.from(clip.data).equals(want.data), name);
  }
});

test("edit lists are kept to: cuts, pauses, and several edits in their order", async () => {
  const source = join(media, "whole-avc.mp4"); // 48 frames at 30 per second; its moov is at the end
  const whole = await readClip(source);
  const bytes = await readFile(source);
  const list = boxAt(bytes, "elst");
  const mediaScale = bytes.readUInt32BE(boxAt(bytes, "mdhd") + 12);
  const movieScale = bytes.readUInt32BE(boxAt(bytes, "mvhd") + 12);
  const zero = bytes.readInt32BE(list + 12); // where the first frame is, since B-frames come late
  /** A copy with these edits: seconds of media and of duration. */
  const edited = async (name: string, edits: readonly (readonly [start: number, duration: number])[]) => {
    const entries = Buffer.alloc(12 * edits.length);
    edits.forEach(([start, duration], i) => {
      entries.writeUInt32BE(Math.ceil(duration * movieScale), 12 * i);
      entries.writeInt32BE(start < 0 ? -1 : Math.round(start * mediaScale) + zero, 12 * i + 4);
      entries.writeUInt32BE(65536, 12 * i + 8);
    });
    const changed = Buffer.concat([bytes.subarray(0, list + 8), entries, bytes.subarray(list + 20)]);
    changed.writeUInt32BE(edits.length, list + 4);
    for (const kind of ["moov", "trak", "edts", "elst"]) {
      const at = boxAt(changed, kind) - 8;
      changed.writeUInt32BE(changed.readUInt32BE(at) + entries.length - 12, at);
    }
    const path = join(folder, `${name}.mp4`);
    await writeFile(path, changed);
    return path;
  };
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
  const cases: Record<string, [readonly (readonly [number, number])[], number[]]> = {
    all: [[[0, 1.6]], range(0, 48)],
    "no duration": [[[0.5, 0]], range(15, 48)],
    middle: [[[0.5, 0.7]], range(15, 36)],
    "rounded up": [[[10 / 30, 11 / 30]], range(10, 21)],
    paused: [
      [
        [-1, 0.5],
        [0.2, 0.4],
      ],
      range(6, 18),
    ],
    "two in order": [
      [
        [1, 0.2],
        [0.3, 0.3],
      ],
      [...range(30, 36), ...range(9, 18)],
    ],
    repeated: [
      [
        [0.5, 0.1],
        [0.5, 0.1],
      ],
      [15, 16, 17, 15, 16, 17],
    ],
  };
  for (const [name, [edits, frames]] of Object.entries(cases)) {
    const path = await edited(name, edits);
    const [clip, probe] = await Promise.all([readClip(path), probeClip(path)]);
    assert.equal(clip.numFrames, frames.length, name);
    assert.equal(probe.numFrames, frames.length, name);
    assert.ok(Buffer.from(clip.data).equals(whole.select(frames).data), name);
    assert.ok(Math.abs(clip.fps - 30) < 1e-3, `${name}: ${clip.fps}`);
    const some = await readClip(path, { select: (n) => [n - 1, 0] });
    assert.ok(Buffer.from(some.data).equals(whole.select([frames.at(-1)!, frames[0]!]).data), name);
  }
});

for (const name of [
  "whole-avc.mp4",
  "whole-vp9.webm",
  "cut-avc.mkv",
  "whole-avc.mpegts",
  "foreign-mjpeg.avi",
])
  test(`${name}: a copy that ends early is refused, and by the probe, too`, async () => {
    const bytes = await readFile(join(media, name));
    for (const part of [0.3, 0.6, 0.95]) {
      const path = join(folder, `part ${part} ${name}`);
      await writeFile(path, bytes.subarray(0, Math.floor(bytes.length * part)));
      for (const read of [readClip, probeClip])
        await assert.rejects(read(path), (error: Error) => {
          assert.ok(error instanceof ClipError, `${error.stack}`);
          assert.ok(error.message.startsWith(`${path}: the file is cut off: `), error.message);
          assert.doesNotMatch(error.message, /\n/);
          return true;
        });
    }
  });

for (const name of ["whole-avc.mp4", "whole-hevc.mp4", "whole-avc.mpegts"])
  test(`${name}: a damaged copy is refused by name, in one line`, async () => {
    const bytes = await readFile(join(media, name));
    bytes.fill(0x55, Math.floor(bytes.length * 0.3), Math.floor(bytes.length * 0.6));
    const path = join(folder, `damaged ${name}`);
    await writeFile(path, bytes);
    await assert.rejects(readClip(path), (error: Error) => {
      assert.ok(error instanceof ClipError, `${error.stack}`);
      assert.ok(error.message.startsWith(`${path}: `), error.message);
      assert.doesNotMatch(error.message, /\n|closed codec/);
      return true;
    });
  });

test("numbers in a damaged file that would take all memory are refused", async () => {
  const bytes = await readFile(join(media, "whole-avc.mp4"));
  for (const [kind, place] of [
    ["stts", 8],
    ["ctts", 8],
    ["stsz", 8],
  ] as const) {
    const changed = Buffer.from(bytes);
    changed[boxAt(changed, kind) + place] = 0x35;
    const path = join(folder, `${kind}.mp4`);
    await writeFile(path, changed);
    for (const read of [readClip, probeClip])
      await assert.rejects(read(path), (error: Error) => {
        assert.ok(error instanceof ClipError, `${error.stack}`);
        assert.match(
          error.message,
          new RegExp(`the file is damaged: its table ${kind} counts 889\\d{6} frames, in `),
        );
        return true;
      });
  }
  const stretched = await readFile(join(media, "aspect-4-3.mp4"));
  stretched.writeUInt32BE(4_000_000, boxAt(stretched, "pasp"));
  const path = join(folder, "stretched.mp4");
  await writeFile(path, stretched);
  for (const read of [readClip, probeClip])
    await assert.rejects(read(path), /stretched\.mp4: expected pixels that are about square, found ones \d+/);
});

test("a file is what its content says, whatever its name", async () => {
  const [video, picture] = [join(folder, "video.png"), join(folder, "picture.mp4")];
  await writeFile(video, await readFile(join(media, "avc-gray.mp4")));
  assert.equal((await readClip(video)).numFrames, 3);
  const { writeClip } = await import("../../../src/video/index.js");
  const still = new Clip({ data: new Uint8Array(12).fill(9), width: 2, height: 2, fps: 1 });
  await writeClip(join(folder, "still.png"), still);
  await writeFile(picture, await readFile(join(folder, "still.png")));
  assert.deepEqual((await readClip(picture)).data, still.data);
  const text = join(folder, "text.mp4");
  await writeFile(text, "this is no clip");
  await assert.rejects(
    readClip(text),
    /text\.mp4: expected a folder of images, a picture or a video, found neither by its content; MP4, MOV,/,
  );
  for (const [bytes, content] of [
    ["\0\0\0\x18ftypheic", { foreign: "HEIC" }],
    ["\0\0\0\x18ftypavif", "picture"],
    ["\0\0\0\x18ftyp3gp4", "video"],
    ["\0\0\0\x14ftypqt  ", "video"],
    ["\0\0\0\x08wide\0\0\0\x08mdat", "video"],
    ["BM\x40\0\0\0", { foreign: "BMP" }],
    ["RIFF\0\0\0\0AVI LIST", { foreign: "AVI" }],
    ["RIFF\0\0\0\0WAVEfmt ", undefined],
    ["#EXTM3U\n", undefined],
  ] as const)
    assert.deepEqual(contentOf(Buffer.from(bytes, "latin1")), content, bytes);
});

test("frames are changed as they are decoded, so that only the result is kept", async () => {
  const path = join(media, "whole-avc.mp4");
  const sizes = new Set<string>();
  const clip = await readClip(path, {
    select: () => [40, 3, 3],
    frame(frame) {
      sizes.add(`${frame.numFrames}x${frame.height}x${frame.width}`);
      return frame.resize({ height: 16, width: 24 });
    },
  });
  assert.deepEqual([...sizes], ["1x64x96"]);
  assert.deepEqual([clip.numFrames, clip.height, clip.width, clip.fps], [3, 16, 24, 30]);
  const whole = await readClip(path);
  assert.ok(Buffer.from(clip.data).equals(whole.select([40, 3, 3]).resize({ height: 16, width: 24 }).data));
  const fault = new TypeError("our own");
  const broken = readClip(path, {
    frame() {
      throw fault;
    },
  });
  await assert.rejects(broken, fault);
});
