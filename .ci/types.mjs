// The types that cells have without importing anything, as a few files instead of hundreds: for each cell, the compiler joins
// what files declare in parts, and with one file there is nothing to join. `.ci/bundle.mjs` calls this.
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseSync } from "oxc-parser";

const root = fileURLToPath(new URL("..", import.meta.url));
const language = join(root, "dist", "kernel", "language");
const compiler = dirname(fileURLToPath(import.meta.resolve("typescript/package.json")));
/** By Node's major version, a folder in which a package `node` names the package with its types. */
const versions = join(root, "kernel", "language", "node-types");
/** How many characters a file gets, unless one that it consists of has more. */
const longest = 1_200_000;

export function makeTypes() {
  for (const major of readdirSync(versions)) {
    const named = readFileSync(join(versions, major, "node", "index.d.ts"), "utf8");
    const name = /types="(.*?)"/.exec(named)[1];
    const folder = join(root, "node_modules", name);
    const node = join(language, "node-types", major, "node");
    const made = statSync(join(node, "index.d.ts"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    const from = [
      join(folder, "package.json"),
      join(compiler, "package.json"),
      fileURLToPath(import.meta.url),
    ];
    if (from.every((file) => statSync(file).mtimeMs < made)) continue;
    const files = filesOf(major);
    const library = files.filter((file) => /^lib\..*\.d\.ts$/.test(basename(file)));
    const undici = files.filter((file) => file.includes(`${sep}undici-types${sep}`));
    const rest = files.filter((file) => file.startsWith(folder + sep) && !undici.includes(file));
    if (library.length + undici.length + rest.length !== files.length)
      throw new Error(`the types of ${name} need those of another package`);
    write(join(language, "library", "index.d.ts"), library);
    copyFileSync(join(compiler, "LICENSE"), join(language, "library", "LICENSE"));
    write(join(node, "index.d.ts"), rest);
    copyFileSync(join(folder, "LICENSE"), join(node, "LICENSE"));
    const index = undici.find((file) => basename(file) === "index.d.ts");
    for (const file of undici) {
      const copy = join(language, "node-types", major, "undici", relative(dirname(index), file));
      mkdirSync(dirname(copy), { recursive: true });
      copyFileSync(file, copy);
    }
    copyFileSync(join(dirname(index), "LICENSE"), join(language, "node-types", major, "undici", "LICENSE"));
  }
}

/** The files with types that the compiler reads, in its order, which is that of overloads. */
function filesOf(major) {
  const folder = mkdtempSync(join(tmpdir(), "firstframe-types-"));
  try {
    const cell = join(folder, "cell.ts");
    writeFileSync(cell, "");
    const options = {
      target: "ESNext",
      lib: ["ESNext"],
      module: "ESNext",
      moduleResolution: "Bundler",
      typeRoots: [join(versions, major)],
      types: ["node"],
      noEmit: true,
    };
    writeFileSync(
      join(folder, "tsconfig.json"),
      JSON.stringify({ compilerOptions: options, files: ["cell.ts"] }),
    );
    const listed = execFileSync(
      process.execPath,
      [join(compiler, "bin", "tsc"), "-p", folder, "--listFilesOnly"],
      { encoding: "utf8" },
    );
    return listed
      .trim()
      .split("\n")
      .filter((file) => file !== realpathSync(cell) && !file.startsWith(versions));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Joins scripts to one file. Modules, whose names are their own, stay files, to which it refers. */
function write(file, parts) {
  rmSync(dirname(file), { recursive: true, force: true });
  mkdirSync(dirname(file), { recursive: true });
  const modules = [];
  const scripts = [];
  for (const part of parts) {
    const text = readFileSync(part, "utf8")
      .replace(/^\ufeff/, "")
      .replace(/^\/\/\/[ \t]*<reference .*$/gm, "");
    const { program } = parseSync(part, text);
    if (program.body.some(({ type }) => /^(?:Import|Export|TSExport)/.test(type)))
      modules.push({ part, text });
    // The licence, which lies beside it, need not be said by each part.
    else scripts.push(text.replace(/^\s*\/\*! \*+[\s\S]*?\*\/\s*/, ""));
  }
  for (const { part, text } of modules)
    writeFileSync(join(dirname(file), basename(part)), text, { flag: "wx" });
  // In pieces that are read at the same time; few names are declared in more than one.
  const pieces = [""];
  for (const script of scripts) {
    if (pieces.at(-1).length + script.length > longest && pieces.at(-1) !== "") pieces.push("");
    pieces[pieces.length - 1] += `${script}\n`;
  }
  for (const [i, piece] of pieces.entries()) writeFileSync(join(dirname(file), `part-${i + 1}.d.ts`), piece);
  const named = [...modules.map(({ part }) => basename(part)), ...pieces.map((_, i) => `part-${i + 1}.d.ts`)];
  writeFileSync(file, named.map((name) => `/// <reference path="${name}" />\n`).join(""));
}
