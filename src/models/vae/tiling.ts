/** Spatial tiling: overlapping tiles are processed separately and blended where they overlap. */
import * as tf from "../../engine/tf.js";

/** Which tiles to cut and how to put their results together; sizes in pixels of the input or of the output. */
export interface TileGrid {
  /** Height and width of a tile in the input. */
  readonly tile: readonly [number, number];
  /** From the start of one tile to the next, in the input. */
  readonly step: readonly [number, number];
  /** Rows and columns over which neighbours are blended, in the output. */
  readonly blend: readonly [number, number];
  /** Rows and columns that a tile adds to the output. */
  readonly keep: readonly [number, number];
}

/**
 * Encodes or decodes x [N, H, W, C] tile by tile. As in diffusers, which blends in place, a tile is blended with the tiles
 * above and to the left after their own blending.
 * @param code the coder, given the tile and its number.
 */
export function tiled(
  x: tf.Tensor4D,
  grid: TileGrid,
  code: (tile: tf.Tensor4D, index: number) => tf.Tensor4D,
): tf.Tensor4D {
  const [rows, height, width, channels] = x.shape;
  return tf.tidy(() => {
    const bands: tf.Tensor4D[] = [];
    let above: tf.Tensor4D[] = [];
    let index = 0;
    for (let i = 0; i < height; i += grid.step[0]) {
      const row: tf.Tensor4D[] = [];
      for (let j = 0; j < width; j += grid.step[1]) {
        const [top, left] = [above[row.length], row.at(-1)];
        const size = [rows, Math.min(grid.tile[0], height - i), Math.min(grid.tile[1], width - j), channels];
        row.push(
          tf.tidy(() => {
            let tile = code(tf.slice(x, [0, i, j, 0], size), index++);
            if (top) tile = blend(top, tile, 1, grid.blend[0]);
            if (left) tile = blend(left, tile, 2, grid.blend[1]);
            return tile;
          }),
        );
      }
      bands.push(
        tf.concat(
          row.map((tile) => crop(tile, grid.keep)),
          2,
        ),
      );
      above = row;
    }
    return tf.concat(bands, 1);
  });
}

/** `tile` with its first rows (axis 1) or columns (axis 2) faded in over the last ones of the tile before it. */
function blend(before: tf.Tensor4D, tile: tf.Tensor4D, axis: 1 | 2, extent: number): tf.Tensor4D {
  const length = Math.min(before.shape[axis], tile.shape[axis], extent);
  if (length === 0) return tile;
  return tf.tidy(() => {
    const ramp = Float32Array.from({ length }, (_, i) => i / length);
    const shape = axis === 1 ? [1, length, 1, 1] : [1, 1, length, 1];
    const own = tf.tensor(ramp, shape);
    const others = tf.tensor(
      Float32Array.from({ length }, (_, i) => 1 - i / length),
      shape,
    );
    const faded = tf.add(
      tf.mul(cut(before, axis, before.shape[axis] - length, length), others),
      tf.mul(cut(tile, axis, 0, length), own),
    ) as tf.Tensor4D;
    const rest = tile.shape[axis] - length;
    return rest === 0 ? faded : tf.concat([faded, cut(tile, axis, length, rest)], axis);
  });
}

function cut(x: tf.Tensor4D, axis: 1 | 2, start: number, length: number): tf.Tensor4D {
  const [begin, size] = [[0, 0, 0, 0], [...x.shape]];
  begin[axis] = start;
  size[axis] = length;
  return tf.slice(x, begin, size);
}

function crop(tile: tf.Tensor4D, [height, width]: readonly [number, number]): tf.Tensor4D {
  const [rows, tileHeight, tileWidth, channels] = tile.shape;
  return tf.slice(
    tile,
    [0, 0, 0, 0],
    [rows, Math.min(tileHeight, height), Math.min(tileWidth, width), channels],
  );
}
