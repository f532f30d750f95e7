import "@tensorflow/tfjs-backend-cpu";
import assert from "node:assert/strict";
import { test } from "node:test";
import * as tf from "../../../src/engine/tf.js";
import {
  type CropRegion,
  get3dRotaryPosEmbed,
  getResizeCropRegionForGrid,
  type RotaryTables,
} from "../../../src/models/transformer/rotary-positions.js";
import { get3dSincosPosEmbed } from "../../../src/models/transformer/sincos-positions.js";
import { getTimestepEmbedding } from "../../../src/models/transformer/timestep-embedding.js";
import { casesOf, type GoldenCase } from "./case.js";

interface RotaryRow {
  index: number;
  grid_type: "slice" | "linspace";
  temporal_size: number;
  grid_size: [number, number];
  embed_dim: number;
  max_size: [number, number];
  base_size_height_width: [number, number];
  crops_coords: CropRegion;
  rows_total: number;
}

function rotary(row: RotaryRow): RotaryTables {
  const { grid_size: gridSize, temporal_size: temporalSize, embed_dim: embedDim } = row;
  if (row.grid_type === "slice") {
    return get3dRotaryPosEmbed({
      gridType: "slice",
      gridSize,
      temporalSize,
      embedDim,
      maxSize: row.max_size,
    });
  }
  const [baseHeight, baseWidth] = row.base_size_height_width;
  const cropsCoords = getResizeCropRegionForGrid(gridSize, baseWidth, baseHeight);
  assert.deepEqual(cropsCoords, row.crops_coords);
  return get3dRotaryPosEmbed({ gridType: "linspace", gridSize, temporalSize, embedDim, cropsCoords });
}

const checks: Record<string, (golden: GoldenCase) => Promise<void>> = {
  async rope_tables(golden) {
    for (const row of golden.measured.tables as RotaryRow[]) {
      const { cos, sin } = rotary(row);
      await golden.compare(`${row.index}.cos`, cos);
      await golden.compare(`${row.index}.sin`, sin);
      tf.dispose([cos, sin]);
    }
    for (const row of golden.measured.full_size_tables as RotaryRow[]) {
      const tables = rotary(row);
      assert.equal(tables.cos.shape[0], row.rows_total);
      const rows = await golden.tensor<tf.Rank.R1>(`full${row.index}.rows`);
      for (const part of ["cos", "sin"] as const) {
        const kept = tf.gather(tables[part], rows);
        await golden.compare(`full${row.index}.${part}`, kept);
        kept.dispose();
      }
      tf.dispose([rows, tables.cos, tables.sin]);
    }
    for (const row of golden.measured.crop_regions as Record<string, never>[]) {
      const { grid_height: height, grid_width: width, base_width, base_height, region } = row;
      assert.deepEqual(getResizeCropRegionForGrid([height!, width!], base_width!, base_height!), region);
    }
  },

  async timestep_embedding(golden) {
    const { data: timesteps } = await golden.values("timesteps");
    const { data: ofs } = await golden.values("ofs");
    for (const name of golden.names("table")) {
      const dim = Number(/dim(\d+)/.exec(name)![1]);
      const embedding = name.endsWith("sin_first_shift1")
        ? getTimestepEmbedding(timesteps, dim)
        : getTimestepEmbedding(name.startsWith("ofs") ? ofs : timesteps, dim, {
            flipSinToCos: true,
            downscaleFreqShift: 0,
          });
      await golden.compare(name, embedding);
      embedding.dispose();
    }
  },

  async sincos_tables(golden) {
    for (const table of golden.params.tables as Record<string, number>[]) {
      const { shape, values } = get3dSincosPosEmbed({
        embedDim: table.embed_dim!,
        spatialSize: [table.width!, table.height!],
        temporalSize: table.frames!,
        spatialInterpolationScale: table.spatial_interpolation_scale!,
        temporalInterpolationScale: table.temporal_interpolation_scale!,
      });
      await golden.compare(`${table.index}.pos`, { shape, data: values });
    }
  },
};

for (const golden of await casesOf("tables")) {
  test(golden.name, async () => {
    const check = checks[golden.name];
    assert.ok(check, `no check for ${golden.name}`);
    const before = tf.memory().numTensors;
    await check(golden);
    golden.assertAllCompared();
    assert.equal(tf.memory().numTensors, before);
  });
}
