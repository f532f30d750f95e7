// node .ci/translate-notebooks.mjs [--check] [FOLDER]: writes the tutorials' Chinese edition (src/cli/notebook/translate.ts
// says what of), or with --check only looks whether it is as it should be. Exit code 1 if something is not translated.
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chineseEdition } from "../dist/src/cli/notebook/translate.js";

const { values, positionals } = parseArgs({
  options: { check: { type: "boolean", default: false } },
  allowPositionals: true,
});
const folder = positionals[0] ?? new URL("../notebooks/", import.meta.url).pathname;
const { files, faults } = await chineseEdition(folder);
const problems = [...faults];
for (const name of readdirSync(join(folder, "zh")).filter((name) => name.endsWith(".ipynb")))
  if (!files.has(join("zh", name))) problems.push(`zh/${name}: there is no English notebook of this name`);
for (const [path, text] of files) {
  const present = (() => {
    try {
      return readFileSync(join(folder, path), "utf8");
    } catch {
      return undefined;
    }
  })();
  if (present === text) continue;
  if (values.check) problems.push(`${path} is not what \`npm run translate\` makes`);
  else writeFileSync(join(folder, path), text);
}
// A page shows pictures in its notebook's own folder only: the film is there twice.
const [film, copy] = ["moving.webp", join("zh", "moving.webp")].map((name) => join(folder, name));
if (existsSync(film) && !(existsSync(copy) && readFileSync(film).equals(readFileSync(copy)))) {
  if (values.check) problems.push("zh/moving.webp is not the film that `npm run translate` copies");
  else copyFileSync(film, copy);
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
