import { Clip } from "./clip.js";

/** A given number of indices below `length`, including the first and the last, as evenly spaced as possible. */
export function spread(length: number, count: number): number[] {
  const most = Math.min(count, length);
  return Array.from({ length: most }, (_, i) =>
    most === 1 ? 0 : Math.round((i * (length - 1)) / (most - 1)),
  );
}

/**
 * One picture of clips of the same size and length: one row per clip, with at most a given number of its frames.
 * @returns a clip of one frame
 */
export function filmStrip(rows: readonly Clip[], count: number): Clip {
  const { width, height, numFrames, fps } = rows[0]!;
  const columns = spread(numFrames, count);
  const data = new Uint8Array(rows.length * height * columns.length * width * 3);
  for (const [r, row] of rows.entries()) {
    for (const [c, index] of columns.entries()) {
      const frame = row.frame(index);
      for (let y = 0; y < height; y++) {
        const to = ((r * height + y) * columns.length + c) * width * 3;
        data.set(frame.subarray(y * width * 3, (y + 1) * width * 3), to);
      }
    }
  }
  return new Clip({ data, width: width * columns.length, height: height * rows.length, fps });
}
