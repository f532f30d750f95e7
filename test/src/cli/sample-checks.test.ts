/** What `firstframe sample` decides before a model is read. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { UsageError } from "../../../src/cli/errors.js";
import { checkOutput, type SizeConfig, videoSize } from "../../../src/cli/sample-checks.js";

const rotary = { use_rotary_positional_embeddings: true, use_learned_positional_embeddings: false };
/** As published: CogVideoX-5b-I2V, -2b, 1.5-5B-I2V and 1.5-5B. */
const OLD: SizeConfig = {
  sample_height: 60,
  sample_width: 90,
  patch_size: 2,
  patch_size_t: null,
  use_rotary_positional_embeddings: true,
  use_learned_positional_embeddings: true,
};
const OLD_2B: SizeConfig = {
  ...OLD,
  use_rotary_positional_embeddings: false,
  use_learned_positional_embeddings: false,
};
const NEW: SizeConfig = { sample_height: 300, sample_width: 300, patch_size: 2, patch_size_t: 2, ...rotary };
const NEW_TEXT: SizeConfig = { ...NEW, sample_height: 96, sample_width: 170 };
const SMALL: SizeConfig = { ...NEW, sample_height: 8, sample_width: 12 };

const size = (
  config: SizeConfig,
  image: [number, number] | null,
  given: { height?: number; width?: number } = {},
) => {
  const picture = image && { height: image[0], width: image[1] };
  const { height, width } = videoSize(given, picture, config, 8);
  return [height, width];
};

test("CogVideoX 1.0 makes its own size, whatever the picture's", () => {
  for (const image of [
    [480, 720],
    [1080, 1920],
    [100, 100],
    [1920, 1080],
  ] as [number, number][])
    for (const config of [OLD, OLD_2B]) assert.deepEqual(size(config, image), [480, 720]);
  assert.deepEqual(size(OLD_2B, null), [480, 720]);
  assert.deepEqual(size(OLD_2B, null, { height: 256 }), [256, 720]);
  assert.equal(videoSize({}, null, OLD, 8).reason, "the model's own");
});

test("CogVideoX 1.5 takes the picture's aspect, as large as fits into 768x1360", () => {
  for (const [image, expected] of [
    [
      [768, 1360],
      [768, 1360],
    ],
    [
      [1080, 1920],
      [768, 1360],
    ],
    [
      [1920, 1080],
      [1360, 768],
    ],
    [
      [480, 720],
      [768, 1152],
    ],
    [
      [1000, 1000],
      [768, 768],
    ],
    [
      [100, 100],
      [768, 768],
    ],
    [
      [500, 2000],
      [336, 1360],
    ],
    [
      [2000, 500],
      [1360, 336],
    ],
    [
      [3, 4],
      [768, 1024],
    ],
  ] as [[number, number], number[]][])
    assert.deepEqual(size(NEW, image), expected, `${image}`);
  assert.equal(
    videoSize({}, { height: 480, width: 720 }, NEW, 8).reason,
    "the picture's aspect within 768x1360",
  );
  // With one side given, the other follows.
  assert.deepEqual(size(NEW, [480, 720], { height: 512 }), [512, 768]);
  assert.deepEqual(size(NEW, [480, 720], { width: 720 }), [480, 720]);
  assert.deepEqual(size(NEW, [480, 720], { height: 256, width: 256 }), [256, 256]);
  assert.deepEqual(size(NEW_TEXT, null), [768, 1360], "from text");
  assert.deepEqual(size(NEW_TEXT, [1920, 1080]), [768, 432], "its positions reach no further");
});

test("a small model of 1.5's kind takes the picture's size, at most its own", () => {
  assert.deepEqual(size(SMALL, [32, 46]), [32, 48]);
  assert.deepEqual(size(SMALL, [64, 96]), [64, 96]);
  assert.deepEqual(size(SMALL, [128, 192]), [64, 96]);
  assert.deepEqual(size(SMALL, [1, 1]), [16, 16]);
});

test("sizes that patches or positions don't allow are refused by flag", () => {
  const refused = (message: RegExp, ...args: Parameters<typeof size>) =>
    assert.throws(
      () => size(...args),
      (error: Error) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, message);
        return true;
      },
    );
  refused(/--height: expected a multiple of 16 \(VAE times patch_size\), found 250/, NEW, [1, 1], {
    height: 250,
  });
  refused(/--width: expected a multiple of 16/, OLD_2B, null, { width: 8 });
  refused(/--height: this model's learned positions are for 480 pixels alone .*found 512/, OLD, [1, 1], {
    height: 512,
  });
  refused(/--width: this model's learned positions are for 720 pixels alone/, OLD, [1, 1], { width: 1360 });
  refused(/--height: this model's positions reach to 768 pixels .*found 1360/, NEW_TEXT, null, {
    height: 1360,
    width: 768,
  });
  refused(/--width: this model's positions reach to 96 pixels/, SMALL, [1, 1], { height: 16, width: 112 });
});

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-output-"));
});
after(() => rm(folder, { recursive: true }));

test("an output is decided before any work: what is there, and what is in the way", async () => {
  const at = (name: string) => join(folder, name);
  await writeFile(at("there.mp4"), "");
  await writeFile(at("plain"), "");
  await mkdir(at("empty"));
  await mkdir(at("full"));
  await mkdir(at("folder.mp4"));
  await writeFile(at("full/0000.png"), "");
  assert.equal(await checkOutput(at("new.mp4")), undefined);
  assert.equal(await checkOutput(at("a/b/new.webp")), undefined);
  assert.equal(await checkOutput(at("frames")), undefined);
  assert.equal(await checkOutput(at("empty")), undefined);
  assert.match((await checkOutput(at("there.mp4")))!, /there\.mp4 is there and will be replaced$/);
  for (const [name, message] of [
    ["x.avi", /--out: expected a \.mp4, \.webp or \.gif file or a folder, found .*x\.avi/],
    ["full", /--out: .*full is a folder with files in it, .*; give another name, or remove it/],
    ["plain", /--out: .*plain is a file, expected a folder for PNGs/],
    ["folder.mp4", /--out: .*folder\.mp4 is a folder, expected a file/],
    ["plain/new.mp4", /--out: .*new\.mp4 can't be written: .*plain is a file/],
    ["there.mp4/a/b.webp", /--out: .*b\.webp can't be written: .*there\.mp4 is a file/],
  ] as const)
    await assert.rejects(checkOutput(at(name)), message);
});
