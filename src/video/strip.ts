import { InputError } from "../engine/errors.js";
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

/**
 * Cuts a film strip, a picture whose rows are clips and whose columns their frames, into these clips.
 *
 * @throws InputError if the picture can't be divided into so many rows and columns.
 */
export function cutStrip(
  picture: Clip,
  { rows, columns }: { readonly rows: number; readonly columns: number },
): Clip[] {
  const [width, height] = [picture.width / columns, picture.height / rows];
  if (!Number.isInteger(width) || !Number.isInteger(height))
    throw new InputError(
      `cutStrip: expected a picture of ${rows} rows and ${columns} columns, found ${picture.width}x${picture.height}`,
    );
  return Array.from({ length: rows }, (_, row) => {
    const frames = Array.from(
      { length: columns },
      (_, column) =>
        picture.slice(0, 1).crop({ width, height, left: column * width, top: row * height }).data,
    );
    return Clip.fromFrames(frames, { width, height, fps: picture.fps });
  });
}

/**
 * One clip of clips of the same size, length and rate that play side by side, in rows and columns.
 *
 * @throws InputError if they differ, or rows have different lengths.
 */
export function filmGrid(rows: readonly (readonly Clip[])[]): Clip {
  const [first] = rows.flat();
  if (first === undefined || rows.some((row) => row.length !== rows[0]!.length))
    throw new InputError(`filmGrid: expected rows of equal lengths, found ${rows.map((row) => row.length)}`);
  const { width, height, numFrames, fps } = first;
  for (const clip of rows.flat()) {
    if (clip.width !== width || clip.height !== height || clip.numFrames !== numFrames)
      throw new InputError(
        `filmGrid: expected clips of ${numFrames}x${height}x${width}, found ${clip.numFrames}x${clip.height}x${clip.width}`,
      );
  }
  const columns = rows[0]!.length;
  const size = { width: width * columns, height: height * rows.length };
  const data = new Uint8Array(numFrames * size.width * size.height * 3);
  for (const [r, row] of rows.entries()) {
    for (const [c, clip] of row.entries()) {
      for (let f = 0; f < numFrames; f++) {
        const frame = clip.frame(f);
        for (let y = 0; y < height; y++) {
          const to = ((f * size.height + r * height + y) * size.width + c * width) * 3;
          data.set(frame.subarray(y * width * 3, (y + 1) * width * 3), to);
        }
      }
    }
  }
  return new Clip({ data, ...size, fps });
}
