import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import sharp from "sharp";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { Clip } from "../../../src/video/clip.js";
import { probeClip, readClip } from "../../../src/video/read.js";
import { writeClip } from "../../../src/video/write.js";

const clips = "../shared/clips";
let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-video-"));
});
after(() => rm(folder, { recursive: true, force: true }));

const made = proceduralClip({ seed: 5, numFrames: 9, height: 64, width: 96, fps: 8 }).clip;

function meanDifference(a: Clip, b: Clip): number {
  assert.equal(a.data.length, b.data.length);
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) sum += Math.abs(a.data[i]! - b.data[i]!);
  return sum / a.data.length;
}

for (const name of ["kitten.mp4", "horse.mp4"]) {
  const path = `${clips}/${name}`;
  const skip = existsSync(path) ? false : `${path} is not there`;
  test(`${name}: 49 frames of 720x480 at 8 frames per second, each one different`, { skip }, async () => {
    const clip = await readClip(path);
    assert.deepEqual([clip.numFrames, clip.width, clip.height, clip.fps], [49, 720, 480, 8]);
    for (let i = 1; i < clip.numFrames; i++) {
      assert.ok(!Buffer.from(clip.frame(i)).equals(clip.frame(i - 1)), `frame ${i} repeats`);
    }
    const some = await readClip(path, { select: (n) => [n - 1, 0, 0] });
    assert.ok(Buffer.from(some.data).equals(Buffer.concat([48, 0, 0].map((i) => clip.frame(i)))));
  });

  test(`${name}: a cut or damaged copy is refused by name`, { skip }, async () => {
    const bytes = await readFile(path);
    const cut = join(folder, `cut-${name}`);
    await writeFile(cut, bytes.subarray(0, Math.floor(bytes.length * 0.7)));
    await assert.rejects(
      readClip(cut),
      (error: Error) => error.name === "ClipError" && error.message.includes(cut),
    );
    const damaged = join(folder, `damaged-${name}`);
    const middle = Buffer.from(bytes);
    middle.fill(0x55, Math.floor(bytes.length * 0.4), Math.floor(bytes.length * 0.6));
    await writeFile(damaged, middle);
    await assert.rejects(
      readClip(damaged),
      (e: Error) => e.name === "ClipError" && e.message.includes(damaged),
    );
  });
}

// Lossy formats may differ by this much on average (of 255): H.264 and VP9 halve the colours' resolution.
const formats = { ".mp4": 6, ".webp": 6, ".gif": 4, "": 0 } as const;
for (const [extension, tolerance] of Object.entries(formats)) {
  const kind = extension || "folder of PNGs";
  test(`${kind}: what is written is read back`, async () => {
    const path = join(folder, `made${extension}`);
    await writeClip(path, made);
    const back = await readClip(path, { fps: 8 });
    assert.deepEqual([back.numFrames, back.width, back.height], [9, 96, 64]);
    assert.ok(Math.abs(back.fps - 8) < 0.1, `fps ${back.fps}`);
    const difference = meanDifference(made, back);
    assert.ok(difference <= tolerance, `mean difference ${difference}`);
    // Another frame is further away than the same one, so the order is kept.
    for (const i of [0, 4, 8]) {
      const own = meanDifference(made.slice(i, i + 1), back.slice(i, i + 1));
      const other = meanDifference(made.slice(i, i + 1), back.slice((i + 4) % 9, ((i + 4) % 9) + 1));
      assert.ok(own < other, `frame ${i}: ${own} to itself, ${other} to another`);
    }
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.endsWith(".tmp")),
      [],
    );
  });
}

test("lossless WebP keeps every pixel", async () => {
  const path = join(folder, "lossless.webp");
  await writeClip(path, made, { lossless: true });
  assert.ok(Buffer.from((await readClip(path)).data).equals(made.data));
});

test("MP4 holds odd sizes too, with the colours in place", async () => {
  const data = new Uint8Array(5 * 35 * 51 * 3);
  for (let i = 0; i < data.length / 3; i++) data.set([200, 90, 40], 3 * i);
  const clip = new Clip({ data, width: 51, height: 35, fps: 16 });
  const path = join(folder, "odd.mp4");
  await writeClip(path, clip);
  const back = await readClip(path);
  assert.deepEqual([back.numFrames, back.width, back.height, back.fps], [5, 51, 35, 16]);
  const difference = meanDifference(clip, back);
  assert.ok(difference < 3, `mean difference ${difference}`);
});

for (const extension of [".mp4", ".webp", ".gif"]) {
  test(`${extension}: missing, empty, cut off and other files are refused by name`, async () => {
    const whole = join(folder, `whole${extension}`);
    await writeClip(whole, made);
    const bytes = await readFile(whole);
    const bad: Record<string, Uint8Array> = { empty: Buffer.alloc(0), other: Buffer.alloc(4000, 7) };
    for (const part of [0.05, 0.4, 0.9])
      bad[`cut-${part}`] = bytes.subarray(0, Math.floor(part * bytes.length));
    for (const [name, content] of Object.entries(bad)) {
      const path = join(folder, name + extension);
      await writeFile(path, content);
      await assert.rejects(readClip(path), (error: Error) => {
        assert.equal(error.name, "ClipError");
        assert.ok(error.message.startsWith(`${path}: `), error.message);
        assert.doesNotMatch(error.message, /\n/);
        return true;
      });
    }
    const missing = join(folder, `missing${extension}`);
    await assert.rejects(readClip(missing), {
      name: "ClipError",
      message: `${missing}: no such file or folder`,
    });
  });
}

test("a folder's images come in the natural order of their names and have to be of one size", async () => {
  const path = join(folder, "images");
  await mkdir(path);
  const image = (grey: number, width = 20) =>
    sharp({ create: { width, height: 10, channels: 3, background: { r: grey, g: grey, b: grey } } })
      .png()
      .toBuffer();
  await writeFile(join(path, "frame10.png"), await image(30));
  await writeFile(join(path, "frame2.png"), await image(20));
  await writeFile(join(path, "frame1.png"), await image(10));
  await writeFile(join(path, "notes.txt"), "not an image");
  const clip = await readClip(path, { fps: 12 });
  assert.equal(clip.fps, 12);
  assert.deepEqual(
    [0, 1, 2].map((i) => clip.frame(i)[0]),
    [10, 20, 30],
  );
  await writeFile(join(path, "frame11.png"), await image(40, 22));
  await assert.rejects(readClip(path), /expected every frame to be 20x10, found 22x10 at frame 3/);
  await writeFile(join(path, "frame11.png"), "broken");
  await assert.rejects(readClip(path), /frame11\.png: not a readable image/);
  // Only what is wrong with the file is: a fault in the code that chooses frames is shown as one.
  const fault = new TypeError("our own");
  const select = () => {
    throw fault;
  };
  await assert.rejects(readClip(path, { select }), fault);
  const empty = join(folder, "no-images");
  await mkdir(empty);
  await assert.rejects(readClip(empty), /expected a folder of images, found none/);
});

test("a failed write leaves nothing behind", async () => {
  const target = join(folder, "taken.mp4");
  await mkdir(join(target, "inside"), { recursive: true });
  await assert.rejects(writeClip(target, made));
  assert.deepEqual(await readdir(target), ["inside"]);
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.endsWith(".tmp")),
    [],
  );
  await assert.rejects(writeClip(join(folder, "clip.avi"), made), /expected \.mp4, .*found "\.avi"/);
});

test("a probe says what a clip is without reading its pixels", async () => {
  for (const extension of [".mp4", ".webp", ".gif", ""]) {
    const path = join(folder, `probed${extension}`);
    await writeClip(path, made);
    const { numFrames, width, height, fps } = await probeClip(path, { fps: 8 });
    assert.deepEqual([numFrames, width, height], [9, 96, 64], extension);
    assert.ok(Math.abs(fps - 8) < 0.1, `${extension}: ${fps}`);
  }
  await writeClip(join(folder, "still.png"), made.slice(0, 1));
  assert.equal((await probeClip(join(folder, "still.png"))).numFrames, 1);
  await assert.rejects(probeClip(join(folder, "nothing.mp4")), /nothing\.mp4: no such file/);
});
