import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { interact } from "../../../src/display/interact.js";
import { table } from "../../../src/display/table.js";
import { shown } from "./decode.js";

describe("interact", () => {
  test("is the first picture where no kernel answers", async () => {
    const bundle = await shown(interact({ n: [2, 9] }, ({ n }) => table([{ n }])));
    assert.deepEqual(bundle, await shown(table([{ n: 2 }])));
  });

  test("refuses what is no control", () => {
    assert.throws(() => interact({}, String), /interact: expected at least one control/);
    assert.throws(
      () => interact({ n: [3, 1] }, String),
      /interact: n: expected \[min, max\], .* found \[3,1\]/,
    );
    assert.throws(() => interact({ n: [0, 1, 0] }, String), /interact: n: expected step > 0, found 0/);
    assert.throws(
      () => interact({ n: { min: 0, max: 1, value: 2 } }, String),
      /n: expected a value from 0 to 1, found 2/,
    );
    assert.throws(() => interact({ n: null as never }, String), /interact: n: expected \[min, max\]/);
    assert.throws(
      () => interact({ n: [0, 1] }, 5 as never),
      /expected a function of the controls' values, found number/,
    );
  });
});
