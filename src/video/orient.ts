/** The same picture, turned; width and height may be exchanged. */
export interface TurnedPicture {
  readonly rgb: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** How a clip's frames are to be shown: turned clockwise by these degrees, then mirrored left to right. */
export interface Orientation {
  readonly rotation: 0 | 90 | 180 | 270;
  readonly flip: boolean;
}

/**
 * Turns and mirrors a picture. The eight orientations are what EXIF, the display matrix of MP4 and MOV and Matroska's projection
 * can say: phones store portrait clips as landscape, front cameras mirrored ones.
 *
 * @param rgb `height * width * 3` bytes
 */
export function orient(
  rgb: Uint8Array,
  width: number,
  height: number,
  { rotation, flip }: Orientation,
): TurnedPicture {
  if (rotation === 0 && !flip) return { rgb, width, height };
  const lying = rotation === 90 || rotation === 270;
  const [toWidth, toHeight] = lying ? [height, width] : [width, height];
  const out = new Uint8Array(rgb.length);
  // From where the first pixel comes, and how far apart in the source are neighbours of a row and of a column.
  const [origin, right, down] = {
    0: [0, 1, width],
    90: [(height - 1) * width, -width, 1],
    180: [height * width - 1, -1, -width],
    270: [width - 1, width, -1],
  }[rotation] as [number, number, number];
  const [start, step] = flip ? [origin + (toWidth - 1) * right, -right] : [origin, right];
  for (let y = 0, to = 0; y < toHeight; y++) {
    for (let x = 0, from = 3 * (start + y * down); x < toWidth; x++, from += 3 * step) {
      out[to++] = rgb[from]!;
      out[to++] = rgb[from + 1]!;
      out[to++] = rgb[from + 2]!;
    }
  }
  return { rgb: out, width: toWidth, height: toHeight };
}
