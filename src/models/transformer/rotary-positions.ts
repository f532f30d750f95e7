import { InputError } from "../../engine/errors.js";
import type { RotaryTables } from "../../engine/ops/rotary/rotary.js";
import { linspace, roundHalfEven } from "../../engine/rounding.js";
import * as tf from "../../engine/tf.js";
import { type LatentSize, type PatchSizes, patchGrid } from "../../recipe/geometry.js";

export type { RotaryTables };

/** A crop of the position grid: top left and bottom right corner, as [row, column]. */
export type CropRegion = readonly [readonly [number, number], readonly [number, number]];

export type RotaryPositions = {
  /** The attention heads' width; a multiple of 16. */
  embedDim: number;
  /** Rows and columns of patches. */
  gridSize: readonly [height: number, width: number];
  /** Patches in time. */
  temporalSize: number;
  /** Base of the frequencies. Default 10000. */
  theta?: number;
} & (
  | {
      /** CogVideoX 1.0 when sampling: positions run evenly over the crop region. */
      gridType: "linspace";
      cropsCoords: CropRegion;
    }
  | {
      /** CogVideoX 1.5, and training with either: the first positions of the largest grid. */
      gridType: "slice";
      maxSize: readonly [height: number, width: number];
    }
);

/**
 * Rotary position tables in three dimensions (Su et al. 2021, arXiv 2104.09864, an axis at a time): a quarter of
 * the features for time, 3/8 for height, 3/8 for width. Angles are float32, as in diffusers'
 * `get_3d_rotary_pos_embed`.
 *
 * @throws InputError if embedDim is no multiple of 16, a size is not positive, or a "slice" grid exceeds its maxSize.
 */
export function get3dRotaryPosEmbed(positions: RotaryPositions): RotaryTables {
  const { embedDim, gridSize, temporalSize, theta = 10000 } = positions;
  const [height, width] = gridSize;
  if (!(embedDim > 0 && embedDim % 16 === 0)) {
    throw new InputError(`embedDim: expected a multiple of 16, found ${embedDim}`);
  }
  for (const [name, size] of Object.entries({ height, width, temporalSize })) {
    if (!Number.isInteger(size) || size < 1) {
      throw new InputError(`rotary grid: expected a positive ${name}, found ${size}`);
    }
  }
  const grids = positions.gridType === "slice" ? sliceGrids(positions) : linspaceGrids(positions);
  const axes = [
    axisTable(grids.t, embedDim / 4, theta),
    axisTable(grids.h, (embedDim / 8) * 3, theta),
    axisTable(grids.w, (embedDim / 8) * 3, theta),
  ] as const;

  const rows = temporalSize * height * width;
  const combine = (part: "cos" | "sin") => {
    const table = new Float32Array(rows * embedDim);
    let at = 0;
    for (let t = 0; t < temporalSize; t++) {
      for (let h = 0; h < height; h++) {
        for (let w = 0; w < width; w++) {
          for (const [axis, position] of [t, h, w].entries()) {
            const { dim, [part]: values } = axes[axis]!;
            table.set(values.subarray(position * dim, (position + 1) * dim), at);
            at += dim;
          }
        }
      }
    }
    return tf.tensor2d(table, [rows, embedDim], "float32");
  };
  return { cos: combine("cos"), sin: combine("sin") };
}

/**
 * The region of a base grid that a picture of another shape covers when it is resized to fit inside and centred
 * (diffusers' `get_resize_crop_region_for_grid`).
 */
export function getResizeCropRegionForGrid(
  [height, width]: readonly [number, number],
  baseWidth: number,
  baseHeight: number,
): CropRegion {
  let resizedHeight = baseHeight;
  let resizedWidth = baseWidth;
  if (height / width > baseHeight / baseWidth) {
    resizedWidth = roundHalfEven((baseHeight / height) * width);
  } else {
    resizedHeight = roundHalfEven((baseWidth / width) * height);
  }
  const top = roundHalfEven((baseHeight - resizedHeight) / 2);
  const left = roundHalfEven((baseWidth - resizedWidth) / 2);
  return [
    [top, left],
    [top + resizedHeight, left + resizedWidth],
  ];
}

type Grids = Record<"t" | "h" | "w", Float64Array>;

function sliceGrids({ gridSize, temporalSize, maxSize }: RotaryPositions & { gridType: "slice" }): Grids {
  const [height, width] = gridSize;
  if (height > maxSize[0] || width > maxSize[1]) {
    throw new InputError(
      `rotary grid: expected at most ${maxSize[0]} x ${maxSize[1]} patches (height x width), found ${height} x ${width}`,
    );
  }
  const range = (length: number) => Float64Array.from({ length }, (_, i) => i);
  return { t: range(temporalSize), h: range(height), w: range(width) };
}

function linspaceGrids(positions: RotaryPositions & { gridType: "linspace" }): Grids {
  const { gridSize, temporalSize, cropsCoords } = positions;
  const [[top, left], [bottom, right]] = cropsCoords;
  const axis = (start: number, stop: number, count: number) =>
    linspace(start, (stop * (count - 1)) / count, count);
  return {
    t: axis(0, temporalSize, temporalSize),
    h: axis(top, bottom, gridSize[0]),
    w: axis(left, right, gridSize[1]),
  };
}

/** Cosines and sines of one axis, [positions, dim] each. */
function axisTable(positions: Float64Array, dim: number, theta: number) {
  const cos = new Float32Array(positions.length * dim);
  const sin = new Float32Array(positions.length * dim);
  for (let i = 0; i < dim / 2; i++) {
    const frequency = Math.fround(1 / Math.fround(theta ** Math.fround((2 * i) / dim)));
    for (const [row, position] of positions.entries()) {
      const angle = Math.fround(Math.fround(position) * frequency);
      cos.fill(Math.cos(angle), row * dim + 2 * i, row * dim + 2 * i + 2);
      sin.fill(Math.sin(angle), row * dim + 2 * i, row * dim + 2 * i + 2);
    }
  }
  return { dim, cos, sin };
}

export type RotaryConfig = PatchSizes & {
  readonly use_rotary_positional_embeddings: boolean;
  readonly attention_head_dim: number;
};

/**
 * The rotary tables that CogVideoX is trained with: always the "slice" grid, for latents of a given size. (The
 * pipeline takes "linspace" for 1.0 models.)
 *
 * @param config the transformer's.
 * @param size latent frames (padded for the temporal patches), rows and columns.
 * @returns null for a model without rotary positions.
 */
export function trainingRotaryTables(config: RotaryConfig, size: LatentSize): RotaryTables | null {
  if (!config.use_rotary_positional_embeddings) return null;
  const [temporalSize, ...gridSize] = patchGrid(size, config);
  return get3dRotaryPosEmbed({
    gridType: "slice",
    embedDim: config.attention_head_dim,
    gridSize,
    maxSize: gridSize,
    temporalSize,
  });
}

/**
 * The rotary tables that CogVideoX's pipelines sample with: "slice" for 1.5, out of the largest grid that the
 * configuration allows; "linspace" over a crop of the configured grid for 1.0.
 *
 * @param config the transformer's.
 * @param size latent frames (padded for the temporal patches), rows and columns.
 * @returns null for a model without rotary positions.
 * @throws InputError for a 1.5 model when the size exceeds the configured one.
 */
export function samplingRotaryTables(
  config: RotaryConfig & { readonly sample_height: number; readonly sample_width: number },
  size: LatentSize,
): RotaryTables | null {
  if (!config.use_rotary_positional_embeddings) return null;
  const { patch_size_t: pt, attention_head_dim: embedDim } = config;
  const [temporalSize, ...gridSize] = patchGrid(size, config);
  const base = sampleGrid(config);
  if (pt !== null) {
    return get3dRotaryPosEmbed({ gridType: "slice", embedDim, gridSize, maxSize: base, temporalSize });
  }
  const cropsCoords = getResizeCropRegionForGrid(gridSize, base[1], base[0]);
  return get3dRotaryPosEmbed({ gridType: "linspace", embedDim, gridSize, cropsCoords, temporalSize });
}

type SampleSize = { readonly sample_height: number; readonly sample_width: number };

/** Rows and columns of patches at the configured size. */
const sampleGrid = ({ sample_height, sample_width, patch_size: p }: SampleSize & PatchSizes) =>
  [Math.floor(sample_height / p), Math.floor(sample_width / p)] as const;

/**
 * Why a model that can be trained on latents of a size can't sample them: CogVideoX 1.5 has no positions beyond its configured
 * grid then, although training takes any. Undefined if it can.
 */
export function samplingSizeProblem(config: RotaryConfig & SampleSize, size: LatentSize): string | undefined {
  if (!config.use_rotary_positional_embeddings || config.patch_size_t === null) return undefined;
  const [, height, width] = patchGrid(size, config);
  const [most, widest] = sampleGrid(config);
  if (height <= most && width <= widest) return undefined;
  return `sampling has positions for at most ${most} x ${widest} patches (sample_height x sample_width, divided by patch_size), found ${height} x ${width}`;
}
