import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { projectRoot } from "./consumer.js";

// What an import loads, of ES modules and of CommonJS; how long that takes is in test/bench/RESULTS.md.

const folder = mkdtempSync(join(tmpdir(), "firstframe-loading-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** The files that an import of the package brings into a process. */
function loaded(entry: string): string[] {
  const hooks = join(folder, "hooks.mjs");
  const list = join(folder, "list.txt");
  writeFileSync(list, "");
  writeFileSync(
    hooks,
    `import { appendFileSync } from "node:fs";
     import { register } from "node:module";
     if (!import.meta.url.endsWith("#hooks")) register(import.meta.url + "#hooks");
     export async function load(url, context, next) {
       appendFileSync(${JSON.stringify(list)}, url + "\\n");
       return next(url, context);
     }`,
  );
  const program = `await import(${JSON.stringify(entry)});
    const { createRequire } = await import("node:module");
    const { readFileSync } = await import("node:fs");
    const required = Object.keys(createRequire(import.meta.url).cache);
    console.log([...required, readFileSync(${JSON.stringify(list)}, "utf8")].join("\\n"));`;
  const options = { cwd: projectRoot, encoding: "utf8" as const };
  const args = ["--import", hooks, "--input-type=module", "--eval", program];
  return execFileSync(process.execPath, args, options).split("\n");
}

/** What only some use, or only after a while. */
const heavy = [
  "/node_modules/sharp/",
  "/node_modules/jsdom/",
  "/node_modules/plotly",
  "/node_modules/@napi-rs/",
  "/node_modules/ajv/",
  "/node_modules/yaml/",
  "/node_modules/libsql/",
  "/node_modules/tar/",
  "/node_modules/yauzl/",
  "/node_modules/proper-lockfile/",
  "/node_modules/zeromq/",
  "/node_modules/oxc-",
  "/node_modules/webgpu/",
  "/node_modules/@tensorflow/tfjs-backend-w",
  "/vendor/",
  "typescript.cjs",
];

describe("what an import loads", () => {
  const cases: [entry: string, own: string, more: string[]][] = [
    ["firstframe", "/dist/src/index.js", []],
    ["firstframe/engine", "/dist/src/engine/index.js", []],
    [
      "firstframe/video",
      "/dist/src/video/index.js",
      ["/@tensorflow/", "/engine/tf.js", "/engine/gradients.js"],
    ],
  ];
  for (const [entry, own, more] of cases) {
    it(`${entry}: nothing before its use`, () => {
      const files = loaded(entry);
      assert.ok(
        files.some((file) => file.endsWith(own)),
        `${own} of ${files.length}`,
      );
      const early = files.filter((file) => [...heavy, ...more].some((part) => file.includes(part)));
      assert.deepEqual(early, []);
    });
  }
});
