import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { describe, it } from "node:test";
import { cruise, type ICruiseResult } from "dependency-cruiser";
import { projectRoot } from "./project.js";

/** The circles that dependency-cruiser finds among these files and what they import of the same folder. */
async function circles(baseDir: string, files: string[]): Promise<{ circles: string[]; modules: string[] }> {
  const { output } = await cruise(files, {
    baseDir,
    exclude: { path: "node_modules" },
    validate: true,
    ruleSet: { forbidden: [{ name: "no-circle", severity: "error", from: {}, to: { circular: true } }] },
  });
  const { summary, modules } = output as ICruiseResult;
  return {
    circles: summary.violations.map(({ from, cycle = [] }) =>
      [from, ...cycle.map(({ name }) => name)].join(" -> "),
    ),
    modules: modules.map(({ source }) => source),
  };
}

describe("the import graph that dependency-cruiser draws", () => {
  it("of the built package and kernel has no circle", async () => {
    const files = ["src", "kernel"].flatMap((folder) =>
      readdirSync(join(projectRoot, folder), { recursive: true, withFileTypes: true })
        .filter(({ name }) => name.endsWith(".ts") && !name.endsWith(".d.ts"))
        .map((entry) => relative(projectRoot, join(entry.parentPath, entry.name)))
        .map((path) => `dist/${path.replace(/\.ts$/, ".js")}`),
    );
    assert.ok(files.length > 100);
    const found = await circles(projectRoot, files);
    assert.deepEqual(
      files.filter((file) => !found.modules.includes(file)),
      [],
      "not in the graph",
    );
    assert.deepEqual(found.circles, []);
  });

  it("shows a circle where there is one, by import() too", async () => {
    const folder = mkdtempSync(join(tmpdir(), "firstframe-circle-"));
    mkdirSync(join(folder, "a"));
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
    writeFileSync(join(folder, "a/one.js"), 'import "../two.js";\n');
    writeFileSync(join(folder, "two.js"), 'export const one = () => import("./a/one.js");\n');
    const found = await circles(folder, ["a/one.js"]);
    rmSync(folder, { recursive: true });
    assert.ok(found.circles.includes("a/one.js -> two.js -> a/one.js"), found.circles.join("; "));
  });
});
