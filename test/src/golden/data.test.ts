import assert from "node:assert/strict";
import { test } from "node:test";
import { Clip } from "../../../src/video/clip.js";
import { selectFrames } from "../../../src/video/frames.js";
import { resizeRgb } from "../../../src/video/resize.js";
import { casesOf } from "./case.js";

interface FrameSelection {
  readonly video_frames: number;
  readonly wanted: number;
  readonly indices: readonly number[];
}

for (const golden of await casesOf("data")) {
  test(`${golden.name}: ${golden.title}`, async () => {
    if (golden.name === "data_preprocess") {
      for (const row of golden.params.frame_selection as FrameSelection[]) {
        assert.deepEqual(selectFrames(row.video_frames, row.wanted), row.indices, JSON.stringify(row));
      }
      const { data } = await golden.values("pixels");
      const clip = new Clip({
        data: Uint8Array.from({ length: data.length * 3 }, (_, i) => data[Math.floor(i / 3)]!),
        width: data.length,
        height: 1,
        fps: 1,
      });
      const video = clip.toTensor();
      assert.deepEqual(Clip.fromTensor(video, { fps: 1 }).data, clip.data);
      await golden.compare("normalised", {
        shape: [data.length],
        data: video.dataSync().slice(0, data.length),
      });
      video.dispose();
    } else {
      const sizes = golden.params.sizes_h_w_to_h_w as [number, number, number, number][];
      for (const [i, [height, width, newHeight, newWidth]] of sizes.entries()) {
        const { data } = await golden.values(`${i}.image`);
        const to = { height: newHeight, width: newWidth };
        const resized = resizeRgb(Uint8Array.from(data), { height, width }, to);
        await golden.compare(`${i}.resized`, { shape: [newHeight, newWidth, 3], data: resized });
      }
    }
    golden.assertAllCompared();
  });
}
