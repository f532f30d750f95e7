import assert from "node:assert/strict";
import { appendFile, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { crc32c } from "@aws-crypto/crc32c";
import { PbfReader } from "pbf";
import { proceduralClip } from "../../../src/procedural/clip.js";
import { SummaryWriter } from "../../../src/train/tensorboard.js";
import { JsonlTracker, TensorBoardTracker } from "../../../src/train/trackers.js";
import { missingPython, runPython } from "../roundtrip/python.js";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-trackers-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** The records of a TFRecord file, their checksums verified. */
function records(bytes: Buffer): Buffer[] {
  const masked = (data: Uint8Array) => {
    const crc = crc32c(data) >>> 0;
    return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  };
  const found: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    assert.equal(bytes.readUInt32LE(at + 8), masked(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    assert.equal(bytes.readUInt32LE(at + 12 + length), masked(data));
    found.push(data);
    at += length + 16;
  }
  return found;
}

interface Event {
  step?: number;
  version?: string;
  values: Record<string, number>;
}

function parse(data: Buffer): Event {
  const event: Event = { values: {} };
  return new PbfReader(data).readFields((tag, result: Event, pbf) => {
    if (tag === 2) result.step = pbf.readVarint();
    if (tag === 3) result.version = pbf.readString();
    if (tag !== 5) return;
    pbf.readMessage((summaryTag, _: undefined, summary) => {
      if (summaryTag !== 1) return;
      const value = { tag: "", number: 0 };
      summary.readMessage((field, into: typeof value, inner) => {
        if (field === 1) into.tag = inner.readString();
        if (field === 2) into.number = inner.readFloat();
      }, value);
      result.values[value.tag] = value.number;
    }, undefined);
  }, event);
}

test("event files hold what was written, with checksums", async () => {
  const writer = await SummaryWriter.create(join(folder, "own"), { now: () => 1234.5 });
  await Promise.all([writer.addScalar("loss", 0.5, 1), writer.addScalars({ loss: 0.25, lr: 1e-4 }, 300)]);
  await writer.close();
  const events = records(await readFile(writer.path)).map(parse);
  assert.equal(events[0]!.version, "brain.Event:2");
  assert.deepEqual(events[1], { step: 1, values: { loss: 0.5 } });
  assert.equal(events[2]!.step, 300);
  assert.ok(Math.abs(events[2]!.values.lr! - 1e-4) < 1e-9);
  const second = await SummaryWriter.create(join(folder, "own"), { now: () => 1234.5 });
  await second.close();
  assert.notEqual(second.path, writer.path);
});

const missing = missingPython("tensorboard");

test("TensorBoard reads them", { skip: missing ?? false }, async () => {
  const logDir = join(folder, "board");
  const { clip } = proceduralClip({ height: 32, width: 48, numFrames: 5 });
  const tracker = new TensorBoardTracker(logDir);
  await tracker.start({ learning_rate: 1e-4 }, 0);
  for (let step = 1; step <= 10; step++)
    await tracker.log({ loss: 1 / step, "validation/psnr": 20 + step }, step);
  await tracker.sample("sample/0", clip, 5);
  await tracker.finish();
  // Resumed from step 6: what was said of later steps no longer counts.
  const resumed = new TensorBoardTracker(logDir);
  await resumed.start({}, 6);
  for (let step = 7; step <= 8; step++) await resumed.log({ loss: 10 + step }, step);
  await resumed.finish();
  const before = JSON.parse(runPython("../train/read_events.py", logDir));
  assert.deepEqual(before.tags.sort(), ["loss", "validation/psnr"]);
  assert.deepEqual(before.text, ["config/text_summary"]);
  const losses = new Map<number, number>(before.loss);
  assert.deepEqual([...losses.keys()], [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.ok(Math.abs(losses.get(6)! - 1 / 6) < 1e-6);
  assert.equal(losses.get(7), 17);
  assert.deepEqual(before.image.slice(0, 2), [48, 32]);
});

test("a resumed JSONL log goes on after the checkpoint's step, and a cut last line is dropped", async () => {
  const path = join(folder, "logs", "metrics.jsonl");
  const tracker = new JsonlTracker(path);
  await tracker.start({}, 0);
  for (let step = 1; step <= 4; step++) await tracker.log({ loss: step }, step);
  await appendFile(path, '{"step":5,"lo');
  await tracker.start({}, 2);
  await tracker.log({ loss: 30 }, 3);
  const rows = (await readFile(path, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    rows.map(({ step, loss }) => [step, loss]),
    [
      [1, 1],
      [2, 2],
      [3, 30],
    ],
  );
  assert.deepEqual(await readdir(join(folder, "logs")), ["metrics.jsonl"]);
});
