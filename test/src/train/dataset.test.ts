import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { HELD_OUT_SEED } from "../../../src/procedural/vae-training.js";
import {
  assignBuckets,
  chooseBucket,
  parseBucket,
  prepareClip,
  readDataset,
} from "../../../src/train/dataset.js";
import { readValidationLists } from "../../../src/train/validation.js";
import { Clip } from "../../../src/video/clip.js";
import { FRAME_EXTRACTIONS } from "../../../src/video/frames.js";
import { readClip } from "../../../src/video/read.js";
import { writeClip } from "../../../src/video/write.js";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-dataset-"));
  await mkdir(join(folder, "videos"));
  await mkdir(join(folder, "images"));
  for (const [name, numFrames] of [
    ["a", 20],
    ["b", 5],
  ] as const) {
    const { clip } = proceduralClip({ seed: numFrames, numFrames, height: 32, width: 64, fps: 8 });
    await writeClip(join(folder, "videos", `${name}.webp`), clip, { lossless: true });
  }
  const grey = new Clip({ data: new Uint8Array(40 * 40 * 3).fill(90), width: 40, height: 40, fps: 1 });
  for (const name of ["a", "b"]) await writeClip(join(folder, "images", `${name}.png`), grey);
});
after(() => rm(folder, { recursive: true, force: true }));

const write = (name: string, text: string) => writeFile(join(folder, name), text);

test("the recipe's layout: files of prompts, videos and images", async () => {
  await write("prompts.txt", "a ball rolls\n\n  a star turns  \n");
  await write("videos.txt", "videos/a.webp\nvideos/b.webp\n");
  await write("images.txt", "images/a.png\nimages/b.png\n");
  const dataRoot = folder;
  assert.deepEqual(await readDataset({ dataRoot }), [
    { prompt: "a ball rolls", video: join(folder, "videos/a.webp"), image: undefined },
    { prompt: "a star turns", video: join(folder, "videos/b.webp"), image: undefined },
  ]);
  const withImages = await readDataset({ dataRoot, imageColumn: "images.txt" });
  assert.equal(withImages[1]!.image, join(folder, "images/b.png"));
  await write("fewer.txt", "only one\n");
  await assert.rejects(readDataset({ dataRoot, captionColumn: "fewer.txt" }), {
    name: "DatasetError",
    message: `${folder}: expected as many prompts as videos and images, found 1 prompts, 2 videos`,
  });
  await write("lost.txt", "videos/a.webp\nvideos/lost.mp4\n");
  await assert.rejects(
    readDataset({ dataRoot, videoColumn: "lost.txt" }),
    /files are missing: .*videos\/lost\.mp4 \(lost\.txt, line 2\)$/,
  );
  await assert.rejects(readDataset({ dataRoot, imageColumn: "none.txt" }), /none\.txt: no such file/);
});

test("a folder of clips with a metadata file", async () => {
  const dataRoot = join(folder, "videos");
  await write(
    "videos/metadata.jsonl",
    '{"file_name": "a.webp", "text": "a ball rolls"}\n{"file_name": "b.webp", "text": "a star", "image": "../images/b.png"}\n',
  );
  const entries = await readDataset({ dataRoot });
  assert.deepEqual(
    entries.map(({ prompt }) => prompt),
    ["a ball rolls", "a star"],
  );
  assert.equal(entries[0]!.image, undefined);
  assert.equal(entries[1]!.image, join(folder, "images/b.png"));
  await write(
    "videos/metadata.jsonl",
    '{"file_name": "a.webp", "text": "a ball"}\n{"file_name": "b.webp"}\n',
  );
  await assert.rejects(
    readDataset({ dataRoot }),
    /metadata\.jsonl: line 2: expected text or prompt or caption, found file_name/,
  );
  await write("videos/metadata.jsonl", '{"file_name": "a.webp", "text": "a ball"}\n{oops\n');
  await assert.rejects(readDataset({ dataRoot }), /metadata\.jsonl: line 2 is not JSON/);
  await assert.rejects(
    readDataset({ dataRoot: join(folder, "images") }),
    /neither prompts\.txt, metadata\.jsonl, metadata\.csv nor metadata\.json, nor clips with captions/,
  );
});

test("resolutions are checked", () => {
  assert.deepEqual(parseBucket("81x768x1360"), { numFrames: 81, height: 768, width: 1360 });
  assert.throws(() => parseBucket("80x768x1360"), /8 N \+ 1 .*found 80/);
  assert.throws(() => parseBucket("81x770x1360"), /height to be a multiple of 16, found 770/);
  assert.throws(() => parseBucket("768x1360"), /expected FRAMESxHEIGHTxWIDTH.*found 768x1360/);
});

test("a clip takes the bucket with the most frames it has, of the nearest shape", () => {
  const buckets = ["9x32x64", "17x32x64", "17x64x32", "17x64x128", "49x32x64"].map((text) =>
    parseBucket(text),
  );
  const choose = (numFrames: number, width: number, height: number) => {
    const {
      numFrames: frames,
      height: h,
      width: w,
    } = chooseBucket({ numFrames, width, height, fps: 8 }, buckets);
    return `${frames}x${h}x${w}`;
  };
  assert.equal(choose(20, 640, 320), "17x64x128");
  assert.equal(choose(20, 70, 34), "17x32x64");
  assert.equal(choose(20, 300, 640), "17x64x32");
  assert.equal(choose(60, 300, 640), "49x32x64");
  assert.equal(choose(5, 300, 640), "9x32x64");
});

test("clips are brought to their bucket, and it is said how", async () => {
  const long = { prompt: "", video: join(folder, "videos/a.webp") };
  const bucket = parseBucket("9x32x48");
  const resized = await prepareClip(long, bucket);
  assert.deepEqual([resized.video.numFrames, resized.video.height, resized.video.width], [9, 32, 48]);
  assert.match(
    resized.report,
    /a\.webp: 20 frames 64x32 at 8 fps -> 9x32x48 \(9 of 20 frames, 1 in 2; resized, shape changed\)$/,
  );
  assert.deepEqual(resized.image.data, resized.video.frame(0));
  const cropped = await prepareClip(long, bucket, { fit: "crop" });
  assert.match(cropped.report, /cropped to 48x32, resized/);
  const whole = proceduralClip({ seed: 20, numFrames: 20, height: 32, width: 64, fps: 8 }).clip;
  const middle = whole.crop({ top: 0, left: 8, height: 32, width: 48 });
  assert.ok(Buffer.from(cropped.video.frame(3)).equals(middle.frame(6)));

  const short = { prompt: "", video: join(folder, "videos/b.webp") };
  const repeated = await prepareClip(short, bucket);
  assert.match(repeated.report, /last frame repeated 4 times/);
  assert.deepEqual(repeated.video.frame(8), repeated.video.frame(4));
  await assert.rejects(prepareClip(short, bucket, { shortClips: "refuse" }), {
    name: "DatasetError",
    message: `${short.video}: expected at least 9 frames, found 5`,
  });
});

test("clips are brought to a rate, and one sample or several are taken of each", async () => {
  const clip = proceduralClip({ seed: 3, numFrames: 60, height: 16, width: 32, fps: 30 }).clip;
  const path = join(folder, "videos", "fast.webp");
  // 40 ms a frame: 25 frames per second.
  await writeClip(path, new Clip({ ...clip, fps: 25 }), { lossless: true });
  const entry = { prompt: "", video: path };
  const bucket = parseBucket("9x16x32");
  const at = (prepared: { video: Clip }, frame: number) => Buffer.from(prepared.video.frame(frame));
  const rated = await prepareClip(entry, bucket, { fps: 8 });
  assert.match(
    rated.report,
    /fast\.webp: 60 frames 32x16 at 25 fps -> 9x16x32 \(19 frames at 8 fps; 9 of 19 frames, 1 in 2\)$/,
  );
  assert.equal(rated.video.fps, 8);
  assert.ok(at(rated, 1).equals(clip.frame(6)), "frame 2 at 8 per second, shown at 0.25 s");
  const head = await prepareClip(entry, bucket, { fps: 8, frameExtraction: "head" });
  assert.match(head.report, /19 frames at 8 fps; the first 9 of 19 frames\)$/);
  assert.ok(at(head, 1).equals(clip.frame(3)));
  const middle = await prepareClip(entry, bucket, { frameExtraction: "middle" });
  assert.match(middle.report, /9 of 60 frames, in the middle\)$/);
  assert.ok(at(middle, 0).equals(clip.frame(25)));
  const part = await prepareClip({ ...entry, part: 1 }, bucket, { fps: 8, frameExtraction: "chunk" });
  assert.match(part.report, /part 2 of 2, of 9 frames each\)$/);
  assert.ok(at(part, 0).equals(clip.frame(28)), "frame 9 at 8 per second, shown at 1.125 s");
  const options = { fps: 8, frameExtraction: "chunk" } as const;
  const [parts, one] = await assignBuckets(
    [entry, { ...entry, image: join(folder, "images/a.png") }],
    [bucket],
    options,
  );
  assert.deepEqual(
    [parts, one],
    [
      { bucket, parts: 2 },
      { bucket, parts: 2 },
    ],
  );
  // Buckets are chosen by the frames that are left.
  const [chosen] = await assignBuckets([entry], [bucket, parseBucket("49x16x32")], { fps: 8 });
  assert.deepEqual(chosen, { bucket, parts: 1 });
  await assert.rejects(prepareClip(entry, parseBucket("49x16x32"), { fps: 8, shortClips: "refuse" }), {
    name: "DatasetError",
    message: `${path}: expected at least 49 frames at 8 fps, found 19`,
  });
});

test("an image of its own is the condition, and changes no frame of the clip, however they are taken", async () => {
  const video = join(folder, "videos/a.webp");
  const image = join(folder, "images/a.png");
  const bucket = parseBucket("9x32x64");
  for (const frameExtraction of FRAME_EXTRACTIONS) {
    for (const fps of [undefined, 5]) {
      const options = { frameExtraction, fps };
      const alone = await prepareClip({ prompt: "", video }, bucket, options);
      const withImage = await prepareClip({ prompt: "", video, image }, bucket, options);
      assert.ok(Buffer.from(alone.video.data).equals(withImage.video.data), frameExtraction);
      assert.ok(withImage.image.data.every((value) => value === 90));
      assert.match(withImage.report, /own image/);
      const assigned = await assignBuckets(
        [
          { prompt: "", video },
          { prompt: "", video, image },
        ],
        [bucket],
        options,
      );
      assert.deepEqual(assigned[0], assigned[1], "as many samples of it");
    }
  }
  // The recipe's images.txt names the clips' own first frames: nothing may come twice.
  const whole = proceduralClip({ seed: 20, numFrames: 20, height: 32, width: 64, fps: 8 }).clip;
  const { video: taken } = await prepareClip({ prompt: "", video, image }, bucket);
  for (let i = 0; i < 9; i++) assert.ok(Buffer.from(taken.frame(i)).equals(whole.frame(2 * i)), `${i}`);
});

/** Lists of two clips, and what is made of them: the paths below the folder, or the refusal. */
const utf16 = (text: string, bigEndian = false) => {
  const bytes = Buffer.from(`\ufeff${text}`, "utf16le");
  return bigEndian ? bytes.swap16() : bytes;
};
const TWO = "videos/a.webp\nvideos/b.webp\n";
const LISTS: [string, (root: string) => string | Buffer, RegExp?][] = [
  ["relative paths", () => TWO],
  ["absolute paths", (root) => `${root}/videos/a.webp\n${root}/videos/b.webp\n`],
  ["both kinds, with dots", (root) => `./videos/../videos/a.webp\n${root}/videos/b.webp`],
  ["lines that end as on Windows", () => TWO.replaceAll("\n", "\r\n")],
  ["lines that end as on old Macs", () => TWO.replaceAll("\n", "\r")],
  ["spaces and blank lines", () => "\n  videos/a.webp \t\n\n videos/b.webp\n\n"],
  ["backslashes", () => TWO.replaceAll("/", "\\")],
  ["UTF-8 with a byte order mark", () => `\ufeff${TWO}`],
  ["UTF-16, little end first", () => utf16(TWO)],
  ["UTF-16, big end first", () => utf16(TWO, true)],
  ["names beyond ASCII", () => "videos/a.webp\nvideos/\u00e9t\u00e9 \u96ea.webp\n"],
  ["a file name that has a backslash", () => "videos/a.webp\nvideos/back\\slash.webp\n"],
  [
    "Latin-1",
    () => Buffer.from("videos/a.webp\nvideos/\u00e9t\u00e9.webp\n", "latin1"),
    /line 2 is not UTF-8; save /,
  ],
  [
    "UTF-16 without a mark",
    () => Buffer.from(TWO, "utf16le"),
    /line 1: expected text, found a zero byte; save it as UTF-8/,
  ],
  [
    "half of UTF-16",
    () => utf16(TWO).subarray(0, -1),
    /line 2 is not UTF-16, which the file begins as; save it as UTF-8/,
  ],
  ["zero bytes", () => "videos/a.webp\nvideos/\0\n", /line 2: expected text, found a zero byte/],
  ["an empty list", () => "", /expected one entry a line, found an empty list$/],
  ["blank lines alone", () => " \n\t\n", /expected one entry a line, found an empty list$/],
  ["a mark alone", () => "\ufeff", /expected one entry a line, found an empty list$/],
  ["a Windows drive", () => "C:\\a.webp\nvideos/b.webp\n", /files are missing: .*a\.webp \(LIST, line 1\)$/],
  ["a folder", () => "videos/a.webp\n\nvideos\n", /files are missing: .*videos \(LIST, line 3\)$/],
];

test("lists are read in any encoding that can be told, or refused with the line", async () => {
  const dataRoot = folder;
  const names = ["\u00e9t\u00e9 \u96ea.webp", "back\\slash.webp"];
  for (const name of names) await cp(join(folder, "videos/b.webp"), join(folder, "videos", name));
  await write("two.txt", "a ball rolls\na star turns\n");
  const location = { validationDir: folder, validationPrompts: "two.txt" };
  for (const [what, make, refused] of LISTS) {
    await writeFile(join(folder, "list.txt"), make(folder));
    // Every list of files is read in the same way, named by itself or by its place.
    for (const list of ["list.txt", join(folder, "list.txt")]) {
      const surfaces = {
        videos: async () =>
          (await readDataset({ dataRoot, captionColumn: "two.txt", videoColumn: list })).map(
            ({ video }) => video,
          ),
        images: async () =>
          (
            await readDataset({
              dataRoot,
              captionColumn: "two.txt",
              videoColumn: "videos.txt",
              imageColumn: list,
            })
          ).map(({ image }) => image!),
        validationImages: async () =>
          (await readValidationLists({ ...location, validationImages: list })).map(({ image }) => image!),
        validationVideos: async () =>
          (await readValidationLists({ ...location, validationVideos: list })).map(({ video }) => video!),
      };
      for (const [surface, read] of Object.entries(surfaces)) {
        if (refused) {
          const message = new RegExp(refused.source.replace("LIST", list));
          await assert.rejects(read, { name: "DatasetError", message }, `${what}: ${surface}`);
          continue;
        }
        const paths = await read();
        assert.equal(paths[0], join(folder, "videos/a.webp"), `${what}: ${surface}`);
        assert.equal(paths.length, 2);
        assert.match(paths[1]!, /videos\/(b|\u00e9t\u00e9 \u96ea|back\\slash)\.webp$/, `${what}: ${surface}`);
      }
    }
  }
  // Captions, too, and the metadata's lines count the blank ones.
  await writeFile(join(folder, "captions.txt"), utf16("une fl\u00e8che\nein B\u00e4r\n"));
  const captions = await readDataset({ dataRoot, captionColumn: join(folder, "captions.txt") });
  assert.deepEqual(
    captions.map(({ prompt }) => prompt),
    ["une fl\u00e8che", "ein B\u00e4r"],
  );
  await writeFile(join(folder, "captions.txt"), Buffer.from("ok\n\nein B\u00e4r\n", "latin1"));
  await assert.rejects(readDataset({ dataRoot, captionColumn: "captions.txt" }), {
    message: `${folder}/captions.txt: line 3 is not UTF-8; save the file as UTF-8`,
  });
  await write("captions.txt", "one\n\nthree\nfour\n");
  await assert.rejects(readDataset({ dataRoot, captionColumn: "captions.txt" }), {
    message: `${folder}: expected as many prompts as videos and images, found 3 prompts, 2 videos; line 2 of captions.txt is blank, and blank lines don't count`,
  });
  await write("videos/metadata.jsonl", `\n{"file_name": "${folder}/videos/a.webp", "text": "a"}\n\n[1]\n`);
  await assert.rejects(readDataset({ dataRoot: join(folder, "videos") }), {
    message: `${folder}/videos/metadata.jsonl: line 4: expected keys with their values, found [1]`,
  });
  await write(
    "videos/metadata.jsonl",
    `\n{"file_name": "${folder}/videos/a.webp", "text": "a", "image": "..\\\\images\\\\a.png"}\n`,
  );
  assert.deepEqual(await readDataset({ dataRoot: join(folder, "videos") }), [
    { prompt: "a", video: join(folder, "videos/a.webp"), image: join(folder, "images/a.png") },
  ]);
});

/** Other data sets than lists of lines: their files, and the captions and clips, or the refusal. */
const A = "videos/a.webp";
const B = "videos/b.webp";
const BOTH = [
  ["a ball, red", A],
  ["a star", B],
];
const SETS: [string, Record<string, string | Buffer>, string[][] | RegExp, object?][] = [
  ["csv", { "metadata.csv": `file_name,text\n${A},"a ball, red"\n${B},a star\n` }, BOTH],
  [
    "csv of Windows",
    { "metadata.csv": `\ufefftext,file_name\r\n"a ball, red",${A}\r\n\r\na star,videos\\b.webp` },
    BOTH,
  ],
  ["csv in UTF-16", { "metadata.csv": utf16(`video,prompt\n${A},"a ball, red"\n${B},a star`) }, BOTH],
  [
    "csv with quotes and lines in values",
    { "metadata.csv": `file_name,text\n${A},"a ""ball""\nrolls"\n"${B}",\n` },
    /metadata\.csv: line 4: expected text or prompt or caption, found file_name$/,
  ],
  ["csv, quoted", { "metadata.csv": `file_name,text\n${A},"a ""ball"""\n` }, [['a "ball"', A]]],
  [
    "csv, an image of some",
    { "metadata.csv": `file_name,text,image\n${A},a,\n${B},b,images/b.png` },
    [
      ["a", A],
      ["b", B, "images/b.png"],
    ],
  ],
  [
    "csv, own keys",
    { "metadata.csv": `clip,words\n${A},a\n` },
    [["a", A]],
    { captionColumn: "words", videoColumn: "clip" },
  ],
  [
    "csv with too many values",
    { "metadata.csv": `file_name,text\n${A},a\n${B},a star, blue\n` },
    /metadata\.csv: line 3: expected 2 values \(file_name, text\), found 3; a value with a comma in it belongs in quotes$/,
  ],
  [
    "csv, a quote left open",
    { "metadata.csv": `file_name,text\n${A},"a ball\n` },
    /metadata\.csv: line 2: expected a quote at the end/,
  ],
  [
    "csv of keys alone",
    { "metadata.csv": "file_name,text\n" },
    /metadata\.csv: expected clips with captions, found none$/,
  ],
  [
    "csv, a missing clip",
    { "metadata.csv": "file_name,text\nno.mp4,a\n" },
    /missing: .*no\.mp4 \(metadata\.csv, line 2\)$/,
  ],
  [
    "json",
    {
      "metadata.json": JSON.stringify(
        BOTH.map(([text, file_name]) => ({ text, file_name })),
        null,
        1,
      ),
    },
    BOTH,
  ],
  [
    "json, broken",
    { "metadata.json": '[\n{"text": "a"},\n{"text" "b"}]' },
    /metadata\.json: (line 3: )?not JSON \(/,
  ],
  [
    "json, no list",
    { "metadata.json": '{"text": "a"}' },
    /metadata\.json: expected a list of objects, found \{"text":"a"\}$/,
  ],
  [
    "json, an empty list",
    { "metadata.json": "[]" },
    /metadata\.json: expected clips with captions, found none$/,
  ],
  [
    "json, a number",
    { "metadata.json": `[{"text": "a", "video": "${A}"}, {"text": 3, "video": "${B}"}]` },
    /entry 2: expected text to be text, found 3$/,
  ],
  [
    "jsonl before csv",
    { "metadata.jsonl": `{"text": "a", "video": "${A}"}`, "metadata.csv": "broken" },
    [["a", A]],
  ],
  ["lists before metadata", { "prompts.txt": "a", "videos.txt": A, "metadata.csv": "broken" }, [["a", A]]],
  [
    "pairs",
    { "2.webp": "", "2.txt": " a star\n", "10.webp": "", "10.txt": "a ball,\nred" },
    [
      ["a ball, red", "10.webp"],
      ["a star", "2.webp"],
    ],
  ],
  ["pairs, any case", { "A.MP4": "", "A.TXT": "a" }, [["a", "A.MP4"]]],
  [
    "a clip without a caption",
    { "1.mp4": "", "1.txt": "a", "2.mp4": "" },
    /clips without a caption in a \.txt of their name: 2\.mp4$/,
  ],
  [
    "a caption without a clip",
    { "1.mp4": "", "1.txt": "a", "2.txt": "b" },
    /captions without a clip of their name: 2\.txt$/,
  ],
  [
    "two clips of a name",
    { "1.mp4": "", "1.webm": "", "1.txt": "a" },
    /share their caption with another of their name: 1\.webm$/,
  ],
  ["an empty caption", { "1.mp4": "", "1.txt": " \n" }, /1\.txt: expected a caption, found an empty file$/],
  [
    "a caption in Latin-1",
    { "1.mp4": "", "1.txt": Buffer.from("x\nb\u00e4r", "latin1") },
    /1\.txt: line 2 is not UTF-8/,
  ],
  [
    "clips alone",
    { "1.mp4": "", "2.mp4": "" },
    /neither prompts\.txt, .*metadata\.json, nor clips with captions beside them$/,
  ],
  [
    "a word before each",
    { "1.mp4": "", "1.txt": "a ball" },
    [["SPRITE a ball", "1.mp4"]],
    { idToken: " SPRITE " },
  ],
  ["no word", { "1.mp4": "", "1.txt": "a ball" }, [["a ball", "1.mp4"]], { idToken: " " }],
];

test("metadata in CSV and JSON, clips with captions beside them, a word before each caption", async () => {
  for (const [what, files, expected, options = {}] of SETS) {
    const dataRoot = await mkdtemp(join(folder, "set-"));
    for (const name of ["videos", "images"])
      await cp(join(folder, name), join(dataRoot, name), { recursive: true });
    await rm(join(dataRoot, "videos/metadata.jsonl"), { force: true });
    for (const [name, text] of Object.entries(files)) await writeFile(join(dataRoot, name), text);
    const read = () => readDataset({ dataRoot, ...options });
    if (expected instanceof RegExp) {
      await assert.rejects(read, { name: "DatasetError", message: expected }, what);
      continue;
    }
    const found = expected.map(([prompt, video, image]) => ({
      prompt: prompt!,
      video: join(dataRoot, video!),
      image: image === undefined ? undefined : join(dataRoot, image),
    }));
    assert.deepEqual(await read(), found, what);
  }
});

test("clips that can't be read are told apart from those that can", async () => {
  await write("videos/broken.mp4", "not a video");
  const entries = ["a.webp", "broken.mp4"].map((name) => ({
    prompt: "",
    video: join(folder, "videos", name),
  }));
  const [good, bad] = await assignBuckets(entries, [parseBucket("9x32x64")]);
  assert.ok("bucket" in good!);
  assert.ok("problem" in bad! && bad.problem.includes("broken.mp4"));
});

test("procedural clips are written as a data set, with clips held out", async () => {
  const out = join(folder, "procedural");
  const script = fileURLToPath(new URL("../../../src/cli/main.js", import.meta.url));
  const size = ["--frames", "9", "--height", "16", "--width", "24"];
  const argv = [
    script,
    "procedural",
    "dataset",
    "--out",
    out,
    "--clips",
    "3",
    "--held-out",
    "2",
    "--seed",
    "5",
    ...size,
  ];
  const { status, stderr } = spawnSync(process.execPath, argv, { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  const entries = await readDataset({ dataRoot: out });
  const heldOut = await readDataset({ dataRoot: join(out, "held-out") });
  assert.deepEqual([entries.length, heldOut.length], [3, 2]);
  const scene = { numFrames: 9, height: 16, width: 24, fps: 8 };
  for (const [entry, seed] of [
    [entries[2]!, 7],
    [heldOut[1]!, HELD_OUT_SEED + 6],
  ] as const) {
    const { clip, caption } = proceduralClip({ ...scene, seed });
    assert.equal(entry.prompt, caption);
    assert.deepEqual((await readClip(entry.video)).data, clip.data);
  }
});
