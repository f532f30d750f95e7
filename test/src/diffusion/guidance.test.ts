import assert from "node:assert/strict";
import { test } from "node:test";
import { dynamicGuidanceScale, fifthPower } from "../../../src/diffusion/guidance.js";

// Python 3.11 on glibc: ((n - t) / n) ** 5.0, and the guidance of 6 that CogVideoX's pipelines make of it.
for (const [steps, timestep, power, guidance] of [
  [3, 999, -4033577618432.0, 1.0000000386950705],
  [3, 666, -527182965101.0, 6.999999981398925],
  [50, 999, -2463094.307135197, 2.291487174551452],
  [50, 979, -2214259.6613620757, 2.5435028667646318],
  [7, 142, -2667955.8740405776, 1.231834343175212],
  [30, 33, -1.0000000000000003e-5, 1.0000000014804407],
  [13, 769, -665108067.9349624, 1.0624035561427378],
] as const) {
  test(`dynamic guidance at timestep ${timestep} of ${steps} steps`, () => {
    assert.equal(fifthPower((steps - timestep) / steps), power);
    assert.ok(Math.abs(dynamicGuidanceScale(6, timestep, steps) - guidance) < 1e-12);
  });
}

test("the fifth power of simple numbers", () => {
  assert.deepEqual([0, 1, -2, 0.5, 10].map(fifthPower), [0, 1, -32, 0.03125, 100000]);
});
