import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, it } from "node:test";
import { type NewExpression, parseSync, Visitor } from "oxc-parser";
import { projectRoot } from "./project.js";

interface Source {
  readonly path: string;
  readonly text: string;
  readonly imports: readonly string[];
  /** Without those that only bring types. */
  readonly needed: readonly string[];
}

const read = (path: string) => readFileSync(join(projectRoot, path), "utf8");
const manifest = JSON.parse(read("package.json")) as Record<string, Record<string, string>>;

function sources(folder: string): Source[] {
  return readdirSync(join(projectRoot, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|mts|cjs|mjs|js)$/.test(entry.name))
    .map((entry) => {
      const path = relative(projectRoot, join(entry.parentPath, entry.name));
      const text = read(path);
      const { module } = parseSync(path, text);
      const dynamic = module.dynamicImports
        .map(({ moduleRequest }) => text.slice(moduleRequest.start, moduleRequest.end))
        .filter((request) => /^["'`]/.test(request))
        .map((request) => request.slice(1, -1));
      const onlyTypes = (entries: { isType: boolean }[]) =>
        entries.length > 0 && entries.every(({ isType }) => isType);
      const values = module.staticImports.filter(({ entries }) => !onlyTypes(entries));
      const imports = [
        ...module.staticImports.map(({ moduleRequest }) => moduleRequest.value),
        ...module.staticExports.flatMap(({ entries }) =>
          entries.flatMap((entry) => entry.moduleRequest?.value ?? []),
        ),
        ...dynamic,
      ];
      const needed = [...values.map(({ moduleRequest }) => moduleRequest.value), ...dynamic];
      return { path, text, imports, needed };
    });
}

function pick(from: Record<string, unknown>, ...keys: string[]): Record<string, unknown> {
  return Object.fromEntries(keys.map((key) => [key, from[key]]));
}

/** The folder of the house that an import leads to, or undefined for packages. */
function target(source: Source, specifier: string): string | undefined {
  if (specifier === "firstframe" || specifier.startsWith("firstframe/")) return "src";
  if (!specifier.startsWith(".")) return undefined;
  return relative(projectRoot, resolve(projectRoot, dirname(source.path), specifier));
}

/**
 * What each room may import besides itself. The package's root is `src`; its rooms are folders of src, those of models
 * a room each, so that no model knows another's layers.
 */
const FILES = ["src/files"];
const ENGINE = ["src/engine", ...FILES];
const WEIGHTS = ["src/weights", ...ENGINE];
const NN = ["src/nn", ...WEIGHTS];
const MODEL = [...NN, "src/recipe"];
const VIDEO = ["src/video", ...ENGINE];
const MODELS = ["src/models/vae", "src/models/transformer", "src/models/text", ...MODEL];
const DIFFUSION = ["src/diffusion", ...MODELS, "src/video"];
const DISPLAY = ["src/display", ...VIDEO];
const TRAIN = ["src/train", ...DIFFUSION, "src/display"];
const PROCEDURAL = ["src/procedural", ...TRAIN];
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  "src/files": [],
  kernel: FILES,
  "src/engine": FILES,
  "src/weights": [...ENGINE, "src/display"], // downloads show how far they are
  "src/nn": WEIGHTS,
  "src/recipe": ENGINE,
  "src/models/vae": MODEL,
  "src/models/transformer": MODEL,
  "src/models/text": MODEL,
  "src/video": ENGINE,
  "src/display": VIDEO,
  "src/diffusion": [...MODELS, ...VIDEO],
  "src/train": [...DIFFUSION, ...DISPLAY],
  "src/procedural": TRAIN,
  src: PROCEDURAL,
  "src/cli": ["src", "kernel", ...PROCEDURAL],
};

/** Where a plain Error is right: no input leads there, or it never gets out. */
const OWN_FAULTS: Readonly<Record<string, string>> = {
  "src/display/plotly/canvas.ts": "plotly.js asks for a colour that the canvas does not know",
  "src/display/plotly/render.ts": "the drawing thread is stuck or gone",
  "src/engine/backends/shared-shapes.ts": "TensorFlow.js asks for a shape that can't be",
  "src/engine/backends/wasm.ts": "becomes an EngineError three lines on",
  "src/engine/download.ts": "tried again, then a DownloadError",
  "src/engine/ops/head-norm/head-norm.ts": "nothing asks for that gradient",
  "src/engine/ops/wasm-conv2d-gradient.ts": "no convolution here is NCHW",
  "src/engine/ops/tape.ts": "an operation without a gradient, or with one of another shape",
  "src/files/lock.ts": "ends a turn that is another's by now, and never gets out",
  "src/models/vae/layers.ts": "a decoder built without its latent",
  "src/nn/module.ts": "a model that declares a parameter twice",
  "src/train/trainer.ts": "a training step that loses tensors",
};

/** A decision by an error's words or its name. */
const COMPARED =
  /^.*(\.message\)?\.(includes|startsWith|endsWith|match|search)\(|\.message (===|!==) |\.name (===|!==) "\w*Error"|\.test\([^()]*\.message|\.test\(firstLine\().*$/gm;

/** What follows a semicolon, and what asks or tells the reader to do something. */
const HINT = /;\s|\bdid you mean\b|\b(run|try|see|use) `/i;

/** What says more of the problem after a semicolon, so that it is no hint. */
const NO_HINTS = ["; no whole checkpoint is left", "step ……: …; …"];

/** The words of all errors that a source makes, with … for what is put in. */
function thrown(path: string, text: string): string[] {
  const found: string[] = [];
  new Visitor({
    NewExpression({ callee, arguments: [first] }) {
      if (first && callee.type === "Identifier" && /(Error|Failure)$/.test(callee.name))
        found.push(words(first));
    },
  }).visit(parseSync(path, text).program);
  return found;
}

function words(node: NewExpression["arguments"][number]): string {
  switch (node.type) {
    case "Literal":
      return typeof node.value === "string" ? node.value : "…";
    case "TemplateLiteral":
      return node.quasis
        .map(({ value }, i) => value.cooked + (node.expressions[i] ? words(node.expressions[i]) : ""))
        .join("");
    case "BinaryExpression":
      return node.left.type === "PrivateIdentifier" ? "…" : words(node.left) + words(node.right);
    case "ConditionalExpression":
      return `${words(node.consequent)} … ${words(node.alternate)}`;
    default:
      return "…";
  }
}

function room(path: string): string {
  const [top = "", first = "", second = ""] = path.split("/");
  if (top !== "src") return top;
  if (first === "models") return `src/models/${second}`;
  return /\.(ts|js)$/.test(first) ? "src" : `src/${first}`;
}

const kernel = sources("kernel");
const src = sources("src");
const tests = sources("test");

describe("the house", () => {
  it("lets imports go one way only", () => {
    assert.ok(kernel.length > 10 && src.length > 10);
    const wrong: string[] = [];
    for (const source of [...kernel, ...src]) {
      const from = room(source.path);
      for (const specifier of source.imports) {
        const to = target(source, specifier);
        if (to === undefined || room(to) === from || ROOMS[from]!.includes(room(to))) continue;
        wrong.push(
          `${source.path} imports ${specifier}: ${from} may import ${ROOMS[from]!.join(", ") || "nothing"}`,
        );
      }
    }
    assert.deepEqual(wrong, []);
  });

  it("has no circle of imports, types included", () => {
    const files = new Map([...kernel, ...src].map((source) => [source.path, source]));
    const next = ({ path, imports }: Source): Source[] =>
      imports.flatMap((specifier) => {
        const to = target({ path } as Source, specifier)?.replace(/\.js$/, ".ts");
        return files.get(to ?? "") ?? [];
      });
    const done = new Set<Source>();
    const visit = (source: Source, way: readonly Source[]): void => {
      const at = way.indexOf(source);
      if (at >= 0) {
        const circle = [...way.slice(at), source].map(({ path }) => path).join(" -> ");
        throw new assert.AssertionError({ message: `a circle: ${circle}` });
      }
      if (done.has(source)) return;
      for (const other of next(source)) visit(other, [...way, source]);
      done.add(source);
    };
    for (const source of files.values()) visit(source, []);
  });

  it("has one instance of tfjs and no hidden randomness", () => {
    const wrong: string[] = [];
    for (const { path, text, imports } of src) {
      if (!path.startsWith("src/engine/")) {
        wrong.push(
          ...imports
            .filter((name) => name.startsWith("@tensorflow/"))
            .map((name) => `${path} imports ${name}`),
        );
      }
      for (const [call] of text.matchAll(
        /Math\.random\(|tf\.(random(Normal|Uniform|Gamma)|truncatedNormal|dropout)\(/g,
      )) {
        wrong.push(`${path} calls ${call})`);
      }
    }
    assert.deepEqual(wrong, []);
  });

  it("throws its own errors for input, and tells errors apart by class or code, not by their words", () => {
    const wrong: string[] = [];
    for (const { path, text } of src) {
      for (const [call] of text.matchAll(/new (Range|Type|Syntax|Reference)Error\(/g))
        wrong.push(`${path}: ${call}): InputError is for what is given, Error for a fault of our own`);
      if (!Object.hasOwn(OWN_FAULTS, path) && /new Error\(/.test(text))
        wrong.push(`${path}: new Error(): InputError, or a reason in OWN_FAULTS`);
      for (const [line] of text.matchAll(COMPARED)) wrong.push(`${path}: ${line.trim()}`);
    }
    for (const path of Object.keys(OWN_FAULTS)) {
      const { text } = src.find((source) => source.path === path) ?? { text: "" };
      if (!text.includes("new Error(")) wrong.push(`${path} throws no Error any more`);
    }
    assert.deepEqual(wrong, []);
  });

  it("keeps what to do about an error in its hint, not in the words of the problem", () => {
    const wrong: string[] = [];
    const problems = src.flatMap(({ path, text }) => thrown(path, text).map((words) => ({ path, words })));
    assert.ok(problems.length > 300);
    for (const { path, words } of problems) {
      if (HINT.test(words) && !NO_HINTS.some((known) => words.includes(known)))
        wrong.push(`${path}: ${words}`);
    }
    assert.deepEqual(wrong, []);
    for (const known of NO_HINTS) {
      assert.ok(
        problems.some(({ words }) => words.includes(known)),
        `nobody says "${known}" any more`,
      );
    }
  });

  it("declares, uses and explains every dependency", () => {
    const brought = { ...manifest.dependencies, ...manifest.peerDependencies };
    const declared = [...Object.keys(brought), ...Object.keys(manifest.devDependencies!)];
    const text = [
      ...[...kernel, ...src, ...tests].map((source) => source.text),
      ...["biome.json", ".ci/bundle.mjs", "src/engine/packages.json"].map(read),
      ...[22, 24, 26].map((major) => read(`kernel/language/node-types/${major}/node/index.d.ts`)),
    ].join("\n");
    const unused = declared.filter((name) => !name.startsWith("@types/") && !text.includes(name));
    assert.deepEqual(unused, [], "declared but nowhere used");
    const contributing = read("CONTRIBUTING.md");
    const family = (name: string) => [`\`${name}\``, `\`${name.replace(/^@tensorflow\/tfjs/, "")}\``];
    const unexplained = declared.filter(
      (name) => !name.startsWith("@types/") && !family(name).some((quoted) => contributing.includes(quoted)),
    );
    assert.deepEqual(unexplained, [], "without a word in CONTRIBUTING.md");
    const builtIn = /^(node:|\.|#)/;
    const missing = [...kernel, ...src].flatMap(({ path, needed }) =>
      needed
        .filter((name) => !builtIn.test(name) && /^(@[\w-]+\/)?[\w.-]+/.test(name))
        .map((name) => /^(@[^/]+\/)?[^/]+/.exec(name)![0])
        .filter((name) => !(name in brought))
        .map((name) => `${path} imports ${name}`),
    );
    assert.deepEqual(missing, [], "imported but not among the dependencies");
  });

  it("pins versions exactly and keeps addresses of registries out of the lock file", () => {
    for (const [name, version] of [
      ...Object.entries(manifest.dependencies!),
      ...Object.entries(manifest.devDependencies!),
    ]) {
      assert.match(version, /^(npm:[@/\w-]+@)?\d+\.\d+\.\d+(-[\w.]+)?$/, name);
    }
    assert.ok(!/"resolved": "https?:/.test(read("package-lock.json")));
  });

  it("has a lock file that `npm ci` takes: packages for other platforms included", () => {
    const { packages } = JSON.parse(read("package-lock.json")) as {
      packages: Record<string, { version?: string; optionalDependencies?: Record<string, string> }>;
    };
    const locked = new Set(Object.keys(packages).map((path) => path.replace(/^.*node_modules\//, "")));
    const missing = Object.values(packages)
      .flatMap(({ optionalDependencies = {} }) => Object.keys(optionalDependencies))
      .filter((name) => !locked.has(name));
    assert.deepEqual(missing, [], "`node .ci/complete-lock.mjs` adds them");
    assert.deepEqual(packages[""]!, {
      ...packages[""]!,
      ...pick(manifest, "dependencies", "devDependencies"),
    });
  });

  it("has documents whose links lead somewhere", () => {
    for (const document of ["README.md", "CONTRIBUTING.md"]) {
      for (const [, link] of read(document).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)) {
        assert.ok(existsSync(join(projectRoot, link!)), `${document}: ${link}`);
      }
    }
  });
});
