// node .ci/bundle.mjs: makes the part of dist/ that the TypeScript compiler doesn't, as the last step of `npm run build`.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { parseSync } from "oxc-parser";
import { makeTypes } from "./types.mjs";

/** Apache's licence asks that its notice goes along. */
const notice = (name) =>
  `/*! ${name}, licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0 */`;

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL("..", import.meta.url));
const engine = join(root, "dist", "src", "engine");
const core = require("@tensorflow/tfjs-core");
const coreFolder = join(dirname(require.resolve("@tensorflow/tfjs-core/package.json")), "dist");

/** Where tfjs-core's index has an export of one of its modules: under its own name, or in a namespace. */
function placeOf(name, space) {
  if (space in core && name in core[space]) return space;
  if (name in core) return "";
  return ["backend_util", "broadcast_util", "slice_util", "util"].find((space) => name in core[space]);
}

/** A module that gives what tfjs-core's index has of a file. */
function fromIndex(file) {
  const { module } = parseSync(file, readFileSync(file, "utf8"));
  const entries = module.staticExports.flatMap(({ entries }) => entries);
  const space = basename(file, ".js");
  const star = entries.some(({ exportName }) => exportName.kind === "None");
  if (star && !(space in core)) return 'export * from "@tensorflow/tfjs-core";';
  const names = star ? Object.keys(core[space]) : entries.map(({ exportName }) => exportName.name);
  const lines = names.map((name) => {
    const place = placeOf(name, space);
    if (place === "") return `export { ${name} } from "@tensorflow/tfjs-core";`;
    if (place === undefined) return "";
    return `import { ${place} as from_${name} } from "@tensorflow/tfjs-core"; export const ${name} = from_${name}.${name};`;
  });
  if (names.includes("ENGINE"))
    lines.push('import { engine } from "@tensorflow/tfjs-core"; export const ENGINE = engine();');
  if (names.includes("getGlobalTensorClass"))
    lines.push(
      'import { Tensor as Class } from "@tensorflow/tfjs-core"; export const getGlobalTensorClass = () => Class;',
    );
  return lines.join("\n");
}

/**
 * Files that are taken as they are: gradients, chained methods, the operations that only gradients use. All else comes from
 * tfjs-core's index, so that there is one instance of it.
 */
const taken =
  /[\\/](gradients|chained_ops)[\\/]|[\\/](register_all_gradients|tensor_util_env|types|\w+_(backprop(_\w+)?|grad))\.js$/;

const oneInstance = {
  name: "one tfjs-core",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^@tensorflow\/tfjs-core$/ }, () => ({ path: "./core.js", external: true }));
    onResolve({ filter: /^\./ }, ({ path, resolveDir }) => {
      const file = `${join(resolveDir, path)}.js`;
      return taken.test(file) ? undefined : { path: file, namespace: "index", sideEffects: false };
    });
    onLoad({ filter: /.*/, namespace: "index" }, ({ path }) => ({ contents: fromIndex(path) }));
  },
};

await build({
  stdin: {
    contents: `import "./register_all_gradients"; import "./public/chained_ops/register_all_chained_ops";`,
    resolveDir: coreFolder,
  },
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  legalComments: "none",
  banner: { js: notice(`Parts of @tensorflow/tfjs-core ${core.version_core}, Copyright Google LLC`) },
  outfile: join(engine, "gradients.js"),
  plugins: [oneInstance],
  logLevel: "warning",
  logLimit: 5,
});
// An import of CommonJS has Node read all of it for its names, 0.3 seconds here; these are known.
const names = Object.keys(core).filter((name) => /^[A-Za-z_$][\w$]*$/.test(name) && name !== "default");
writeFileSync(
  join(engine, "core.js"),
  `import { createRequire } from "node:module";
const require = createRequire(import.meta.url);
export const { ${names.join(", ")} } = require("@tensorflow/tfjs-core");
`,
);
for (const name of ["core.d.ts", "gradients.d.ts"])
  copyFileSync(join(root, "src", "engine", name), join(engine, name));

/** Builds a file of the package unless it is newer than what it is made of. */
async function make(file, from, options) {
  const made = statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (made > statSync(from).mtimeMs && made > statSync(fileURLToPath(import.meta.url)).mtimeMs) return;
  await build({
    minify: true,
    platform: "node",
    target: "node20",
    legalComments: "none",
    logLevel: "error",
    ...options,
    outfile: file,
  });
}

// TypeScript 5's compiler without its program: a second package with a `tsc` would take the place of the user's own.
await make(join(root, "dist", "kernel", "language", "typescript.cjs"), require.resolve("typescript-js"), {
  entryPoints: [require.resolve("typescript-js")],
  banner: {
    js: notice(
      `TypeScript ${require("typescript-js/package.json").version}, Copyright Microsoft Corporation`,
    ),
  },
});

makeTypes();

// Programs of the kernel as one file each: somebody waits for each start, and each module takes Node a millisecond.
const kernel = join(root, "dist", "kernel");
const inPlace = {
  name: "addresses of the modules that are joined",
  setup({ onLoad, onResolve }) {
    // What a program loads later stays where it is, as do the packages that it needs.
    onResolve({ filter: /^\./ }, ({ kind, path, resolveDir }) =>
      kind === "dynamic-import"
        ? { path: `./${relative(kernel, join(resolveDir, path)).replaceAll("\\", "/")}`, external: true }
        : undefined,
    );
    onLoad({ filter: /[\\/]dist[\\/]kernel[\\/].*\.js$/ }, ({ path }) => {
      const address = `new URL(${JSON.stringify(relative(kernel, path).replaceAll("\\", "/"))}, import.meta.url)`;
      return { contents: readFileSync(path, "utf8").replace(/\bimport\.meta\.url\b/g, `${address}.href`) };
    });
  },
};
for (const [program, entry] of [["main.js", "server/main.js"]])
  await build({
    entryPoints: [join(kernel, entry)],
    outfile: join(kernel, program),
    allowOverwrite: true,
    bundle: true,
    packages: "external",
    format: "esm",
    platform: "node",
    target: "node20",
    plugins: [inPlace],
    logLevel: "warning",
  });

// What is used of libraries that are many times larger installed; package.json's `imports` name these files.
const vendor = join(root, "dist", "vendor");
mkdirSync(vendor, { recursive: true });
const languages = ["bash", "css", "diff", "json", "markdown", "python", "typescript", "xml", "yaml"];
for (const [name, contents] of Object.entries({
  mediabunny: 'export * from "mediabunny";',
  "@huggingface/hub": 'export { listFiles, modelInfo } from "@huggingface/hub";',
  "highlight.js": [
    'import hljs from "highlight.js/lib/core"; export default hljs;',
    ...languages.map(
      (each) =>
        `import ${each} from "highlight.js/lib/languages/${each}"; hljs.registerLanguage("${each}", ${each});`,
    ),
  ].join("\n"),
})) {
  const folder = join(root, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const short = name.replace(/^.*\/|\.js$/g, "");
  await make(join(vendor, `${short}.js`), join(folder, "package.json"), {
    stdin: { contents, resolveDir: root },
    bundle: true,
    format: "esm",
    banner: {
      js: `/*! Of ${name} ${version}, licensed under ${license}; its source: https://www.npmjs.com/package/${name}/v/${version} */`,
    },
  });
  const licence = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file));
  if (licence !== undefined) copyFileSync(join(folder, licence), join(vendor, `${short}.LICENSE.txt`));
}
const fonts = join(root, "node_modules", "dejavu-fonts-ttf");
for (const family of ["DejaVuSans", "DejaVuSerif", "DejaVuSansMono"]) {
  const slant = family === "DejaVuSerif" ? "Italic" : "Oblique";
  for (const variant of ["", "-Bold", `-${slant}`, `-Bold${slant}`])
    copyFileSync(join(fonts, "ttf", `${family}${variant}.ttf`), join(vendor, `${family}${variant}.ttf`));
}
copyFileSync(join(fonts, "LICENSE"), join(vendor, "DejaVu.LICENSE.txt"));
for (const file of ["NotoSansSC.ttf", "NotoSansSC.LICENSE.txt"])
  copyFileSync(join(root, ".ci", "fonts", file), join(vendor, file));
