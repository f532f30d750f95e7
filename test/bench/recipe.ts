/**
 * Tests what CogVideoX's image-to-video recipe is said to be good for: `npm run recipe`.
 *
 *     node dist/test/bench/recipe.js [--seeds 0,1,2] [--arms recipe,zeros] [--work out/recipe] [--out FILE] [--settings FILE]
 *
 * Small transformers are trained from random weights in the world of one sprite, by the recipe and by others that differ in one rule
 * (`recipe/arms.ts`: what is compared, and what is said to be expected), several seeds each. With a seed all arms see the same clips in
 * the same order under the same draws, and all are measured on the same 200 held-out clips from the same noise. What is done is
 * kept in `--work`, also in the midst of a training; started again, it goes on. After each arm, `--out` has all figures so far: a value
 * for each clip, and differences from the recipe with paired-bootstrap intervals. `--report` only writes it anew. `--settings` names a JSON file with some of the
 * settings of `recipe/runner.ts`.
 */
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { useEngine } from "../../src/engine/index.js";
import { ARM_NAMES, type ArmName } from "./recipe/arms.js";
import { printTables, readResults, writeReport } from "./recipe/report.js";
import { Runner, SETTINGS } from "./recipe/runner.js";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "0,1,2" },
    arms: { type: "string", default: ARM_NAMES.join(",") },
    work: { type: "string", default: "out/recipe" },
    vae: { type: "string", default: "notebooks/models/procedural/vae" },
    out: { type: "string", default: "notebooks/models/procedural/recipe.json" },
    settings: { type: "string" },
    report: { type: "boolean", default: false },
  },
});
const log = (line: string) => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`);
const seeds = values.seeds.split(",").map(Number);
const arms = values.arms.split(",").map((name): ArmName => {
  const found = ARM_NAMES.find((each) => each === name);
  if (found === undefined) throw new Error(`--arms: expected ${ARM_NAMES.join(", ")}, found ${name}`);
  return found;
});

const engine = await useEngine();
log(`${engine.name} on ${engine.device}`);
const changed = values.settings === undefined ? {} : JSON.parse(await readFile(values.settings, "utf8"));
const settings: typeof SETTINGS = { ...SETTINGS, ...changed };
const runner = await Runner.open({ work: values.work, vae: values.vae, settings, log });
// One seed of every arm first, so that there is something of everything early.
for (const seed of values.report ? [] : seeds) {
  for (const arm of arms) {
    if ((await runner.result(arm, seed)) !== undefined) continue;
    await runner.run(arm, seed);
    await writeReport(runner, await readResults(runner, seeds), values.out);
  }
}
printTables(await writeReport(runner, await readResults(runner, seeds), values.out), console.log);
await runner.dispose();
