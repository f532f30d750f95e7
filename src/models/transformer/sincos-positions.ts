import { InputError } from "../../engine/errors.js";

/** A position table of {@link get3dSincosPosEmbed}. */
export interface SincosTable {
  /** [frames, height * width, embedDim], row by row. */
  values: Float64Array;
  shape: [frames: number, tokens: number, embedDim: number];
}

export interface SincosPositions {
  embedDim: number;
  /** Columns and rows of patches: the width comes first, as in diffusers. */
  spatialSize: readonly [width: number, height: number];
  temporalSize: number;
  /** Default 1. */
  spatialInterpolationScale?: number;
  /** Default 1. */
  temporalInterpolationScale?: number;
}

/**
 * Fixed sine and cosine positions in three dimensions, in float64 (diffusers' `get_3d_sincos_pos_embed`): a
 * quarter of the features for time, then 3/8 for the column, then 3/8 for the row; in each, sines before cosines.
 *
 * @throws InputError if embedDim is no multiple of 16.
 */
export function get3dSincosPosEmbed(positions: SincosPositions): SincosTable {
  const { embedDim, spatialSize, temporalSize } = positions;
  const { spatialInterpolationScale = 1, temporalInterpolationScale = 1 } = positions;
  const [width, height] = spatialSize;
  if (!(embedDim > 0 && embedDim % 16 === 0)) {
    throw new InputError(`embedDim: expected a multiple of 16, found ${embedDim}`);
  }
  const time = axisTable(temporalSize, temporalInterpolationScale, embedDim / 4);
  const column = axisTable(width, spatialInterpolationScale, (embedDim / 8) * 3);
  const row = axisTable(height, spatialInterpolationScale, (embedDim / 8) * 3);

  const values = new Float64Array(temporalSize * height * width * embedDim);
  let at = 0;
  for (let t = 0; t < temporalSize; t++) {
    for (let h = 0; h < height; h++) {
      for (let w = 0; w < width; w++) {
        for (const part of [time[t]!, column[w]!, row[h]!]) {
          values.set(part, at);
          at += part.length;
        }
      }
    }
  }
  return { values, shape: [temporalSize, height * width, embedDim] };
}

/** Sines, then cosines, of one axis: one array a position. */
function axisTable(count: number, scale: number, dim: number): Float64Array[] {
  const half = dim / 2;
  return Array.from({ length: count }, (_, i) => {
    const position = Math.fround(i / scale);
    const table = new Float64Array(dim);
    for (let k = 0; k < half; k++) {
      const angle = position * (1 / 10000 ** (k / half));
      table[k] = Math.sin(angle);
      table[half + k] = Math.cos(angle);
    }
    return table;
  });
}
