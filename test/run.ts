/**
 * Runs the tests: `node dist/test/run.js [part of a path ...]`. Node's own runner, one process per file.
 * Two files run at a time; what measures or trains alone is marked by the suffix `.alone.test.js`.
 */
import { readdirSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { finished } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";
import { setUp } from "./setup.js";

const root = dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2);
/** A file that hangs fails, and the rest still runs. The VAE's reference numbers take an hour on SwiftShader. */
const limitPerFile = (process.env.FIRSTFRAME_ENGINE === "webgpu" ? 180 : 15) * 60_000;

const chosen = readdirSync(root, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".test.js"))
  .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll(sep, "/"))
  .filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part)))
  .sort();

if (chosen.length === 0) {
  console.error(`no test file matches ${wanted.join(" ")} in ${root}`);
  process.exit(2);
}

const files = await setUp(chosen);
const alone = files.filter((file) => file.endsWith(".alone.test.js"));
const together = files.filter((file) => !alone.includes(file));
for (const [batch, concurrency] of [
  [together, 2],
  [alone, 1],
] as const) {
  if (batch.length === 0) continue;
  const results = run({ files: batch.map((file) => join(root, file)), concurrency, timeout: limitPerFile });
  results.on("test:fail", (event) => {
    if (event.todo === undefined || event.todo === false) process.exitCode = 1;
  });
  const printed = results.compose(new spec());
  printed.pipe(process.stdout, { end: false });
  await finished(printed);
}
