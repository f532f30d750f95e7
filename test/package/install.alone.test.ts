import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import * as tar from "tar";
import { projectRoot } from "../src/cli/project.js";
import { binary, Consumer, type Ended, python, typescriptVersion } from "./consumer.js";

// What a person has who installs the package in an empty project, from nothing but npm's registry.

let packer: Consumer;
let tarball: string;
before(async () => {
  packer = new Consumer();
  tarball = await packer.pack();
});
after(() => packer.dispose());

const succeeded = ({ code, stdout, stderr }: Ended): string => {
  assert.equal(code, 0, `${stderr}\n${stdout}`);
  return stdout;
};

const notebook = (...cells: string[]) => ({
  cells: cells.map((source, i) => ({
    cell_type: "code",
    id: `cell-${i}`,
    execution_count: null,
    metadata: {},
    outputs: [],
    source,
  })),
  metadata: { kernelspec: { name: "firstframe", display_name: "TypeScript (firstframe)" } },
  nbformat: 4,
  nbformat_minor: 5,
});

describe("the packed package", () => {
  it("has the program, the tutorials and their models, and no tests", async () => {
    const files: string[] = [];
    await tar.list({ file: tarball, onReadEntry: ({ path }) => files.push(path.replace(/^package\//, "")) });
    for (const file of [
      "LICENSE",
      "README.md",
      "CHANGELOG.md",
      "dist/src/index.js",
      "dist/src/index.d.ts",
      "dist/src/cli/main.js",
      "dist/src/engine/gradients.js",
      "dist/kernel/main.js",
      "dist/kernel/language/typescript.cjs",
      "kernel/executor/globals.d.ts",
      "src/engine/packages.json",
      "src/engine/wheels.json",
      "notebooks/01-vae-compression.ipynb",
      "notebooks/models/procedural/model_index.json",
      "notebooks/zh/README.md",
      "notebooks/zh/translations/01-vae-compression.md",
    ]) {
      assert.ok(files.includes(file), file);
    }
    assert.deepEqual(
      files.filter((file) => /^(dist\/)?test\/|\.test\.|^node_modules|\.map$/.test(file)),
      [],
    );
    // The Chinese edition's notebooks, most of which is pictures, are made where the tutorials are copied.
    assert.deepEqual(
      files.filter((file) => /^notebooks\/zh\/.*\.ipynb$/.test(file)),
      [],
    );
  });

  it("is as publint and attw want it", () => {
    execFileSync(binary("publint", "publint"), [tarball, "--strict"]);
    execFileSync(binary("attw", "@arethetypeswrong/cli"), [tarball, "--profile", "esm-only"]);
  });
});

describe("a project that installs it with npm, scripts and all", () => {
  let user: Consumer;
  before(async () => {
    user = new Consumer();
    succeeded(await user.install("npm", `typescript@${typescriptVersion}`, tarball));
  });
  after(() => user.dispose());

  it("keeps its own tsc", async () => {
    assert.equal(succeeded(await user.run("npx", "tsc", "--version")).trim(), `Version ${typescriptVersion}`);
  });

  it("has the program", async () => {
    assert.match(succeeded(await user.run("npx", "firstframe", "--help")), /^Usage: firstframe COMMAND/);
    assert.match(succeeded(await user.firstframe("doctor")), /^runs: wasm on /m);
  });

  for (const [module, resolution] of [
    ["NodeNext", "NodeNext"],
    ["ESNext", "Bundler"],
  ] as const) {
    it(`compiles strictly against its types with ${resolution}, and they are checked as well`, async () => {
      user.write(
        "program.ts",
        `import { Clip, tf, useEngine } from "firstframe";
         await useEngine("wasm");
         const gradient = tf.grad((x) => x.mul(x).sum());
         const slope: tf.Tensor = gradient(tf.tensor1d([1, 2, 3]));
         const clip: Clip | undefined = undefined;
         console.log(String(slope), clip);`,
      );
      const flags = ["--strict", "--skipLibCheck", "false", "--target", "ES2022"];
      succeeded(
        await user.run(
          "npx",
          "tsc",
          ...flags,
          "--module",
          module,
          "--moduleResolution",
          resolution,
          "program.ts",
        ),
      );
      assert.equal(succeeded(await user.run("node", "program.js")), "tensor([2., 4., 6.]) undefined\n");
    });
  }

  it("says to a require what it is, where it can't be required", async () => {
    user.write("program.cjs", 'console.log(typeof require("firstframe").Clip);');
    const { code, stdout, stderr } = await user.run("node", "program.cjs");
    if (code === 0) assert.equal(stdout, "function\n");
    else assert.match(stderr, /require\(\) .*(ES Module|ESM).*\bimport\(\)/s);
  });

  it("says which packages bring what only some need", async () => {
    user.write(
      "optional.mjs",
      `import { Clip, useEngine, writeClip } from "firstframe";
       const clip = new Clip({ data: new Uint8Array(2 * 2 * 3), width: 2, height: 2, fps: 8 });
       await writeClip("clip.webp", clip);
       await writeClip("clip.mp4", clip).catch(({ message }) => console.log(message));
       await useEngine("webgpu").catch(({ message }) => console.log(message));`,
    );
    assert.match(
      succeeded(await user.run("node", "optional.mjs")),
      /run `npm install @napi-rs\/webcodecs@[\d.]+`\nwebgpu: .*run `npm install webgpu@[\d.]+ @tensorflow\/tfjs-backend-webgpu@[\d.]+`\n$/,
    );
  });

  it("puts the kernel where Jupyter finds it", async () => {
    succeeded(await user.firstframe("kernel", "install", "--user"));
    const listed = JSON.parse(
      succeeded(await user.run(python("jupyter"), "kernelspec", "list", "--json")),
    ) as {
      kernelspecs: Record<string, { resource_dir: string; spec: { argv: string[] } }>;
    };
    const { resource_dir, spec } = listed.kernelspecs.firstframe!;
    assert.ok(resource_dir.startsWith(user.home), resource_dir);
    const main = spec.argv.find((part) => part.endsWith("main.js"))!;
    assert.ok(main.includes(join("node_modules", "firstframe")) && existsSync(main), main);
  });

  it("runs a notebook: the package, tslab's display API, modules of its own", async () => {
    user.write("own.ts", "export enum Answer { yes = 42 }\nexport const answer: Answer = Answer.yes;\n");
    user.write(
      "small.ipynb",
      notebook(
        'import { tf, useEngine } from "firstframe"; await useEngine("wasm"); console.log(String(tf.tensor1d([1, 2]).add(1)));',
        'import { display, type Display } from "tslab"; const shown: Display = display; shown.html("<b>bold</b>");',
        'import { answer } from "./own"; answer',
      ),
    );
    succeeded(await user.firstframe("run", "small.ipynb", "--out", "out"));
    const ran = JSON.parse(readFileSync(join(user.folder, "out", "small.ipynb"), "utf8")) as {
      cells: { outputs: { text?: string | string[]; data?: Record<string, string | string[]> }[] }[];
    };
    const text = (cell: number, type: string) => {
      const [output] = ran.cells[cell]!.outputs;
      return [output?.data?.[type] ?? output?.text ?? []].flat().join("").trim();
    };
    assert.equal(text(0, "text/plain"), "tensor([2., 3.])");
    assert.equal(text(1, "text/html"), "<b>bold</b>");
    assert.equal(text(2, "text/plain"), "42");
  });

  it("has the tutorials in a folder of its own, which keeps what is changed there", async () => {
    const made = await user.firstframe("site");
    assert.match(succeeded(made), /^\d+ pages and /m);
    assert.match(made.stderr, /^The tutorials are in .*firstframe-tutorials now\.$/m);
    assert.ok(existsSync(join(user.folder, "out", "site", "01-vae-compression.html")));
    const chinese = join(user.folder, "firstframe-tutorials", "zh");
    assert.equal(
      readFileSync(join(chinese, "00-hello-kernel.ipynb"), "utf8"),
      readFileSync(join(projectRoot, "notebooks/zh/00-hello-kernel.ipynb"), "utf8"),
    );
    assert.ok(existsSync(join(chinese, "models/procedural/model_index.json")));
    user.write("firstframe-tutorials/mine.ipynb", notebook("1 + 1"));
    const again = await user.firstframe("site");
    succeeded(again);
    assert.doesNotMatch(again.stderr, /tutorials/);
    assert.ok(existsSync(join(user.folder, "out", "site", "mine.html")));
  });

  it("installs TensorFlow's engine with the backend from npm's registry", async (context) => {
    if (!user.lendLibrary()) return context.skip("no libtensorflow on this machine");
    const installed = await user.firstframe("engine", "install", "tensorflow");
    assert.equal(installed.code, 0, installed.stderr);
    assert.match(installed.stderr, /^downloading @tensorflow\/tfjs-node-gpu@4\.22\.0 from npm's registry$/m);
    user.write(
      "engine.mjs",
      `import { tf, useEngine } from "firstframe"; const { name } = await useEngine("tensorflow");
       console.log(name, String(tf.grad((x) => x.mul(x).sum())(tf.tensor1d([1, 2]))));`,
    );
    assert.equal(succeeded(await user.run("node", "engine.mjs")), "tensorflow tensor([2., 4.])\n");
  });
});

describe("a project that installs it with pnpm", () => {
  let user: Consumer;
  before(async () => {
    user = new Consumer();
    succeeded(await user.install("pnpm", tarball));
  });
  after(() => user.dispose());

  it("has the program, and a package that computes", async () => {
    assert.match(succeeded(await user.firstframe("--help")), /^Usage: firstframe COMMAND/);
    user.write(
      "program.mjs",
      `import { tf, useEngine } from "firstframe"; await useEngine("wasm");
       console.log(String(tf.grad((x) => x.mul(x).sum())(tf.tensor1d([1, 2]))));`,
    );
    assert.equal(succeeded(await user.run("node", "program.mjs")), "tensor([2., 4.])\n");
  });

  it("has a kernel", async () => {
    succeeded(await user.firstframe("kernel", "install", "--user"));
    user.write(
      "small.ipynb",
      notebook(
        'import { tf, useEngine } from "firstframe"; await useEngine("wasm"); tf.tensor1d([1, 2]).size',
      ),
    );
    succeeded(await user.firstframe("run", "small.ipynb", "--out", "out"));
    assert.match(readFileSync(join(user.folder, "out", "small.ipynb"), "utf8"), /"text\/plain": (\[\s*)?"2"/);
  });
});
