/** Clients as people have them, each from its own package: jupyter console on a terminal, jupytext, nbconvert. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { projectRoot } from "../src/cli/project.js";

const run = promisify(execFile);
const bin = (name: string) => join(projectRoot, ".firstframe/clients/bin", name);
let folder = "";
let env: NodeJS.ProcessEnv = {};
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-clients-"));
  await run(process.execPath, [
    join(projectRoot, "dist/src/cli/main.js"),
    "kernel",
    "install",
    "--prefix",
    folder,
  ]);
  env = {
    ...process.env,
    JUPYTER_PATH: join(folder, "share/jupyter"),
    JUPYTER_CONFIG_DIR: join(folder, "config"),
    JUPYTER_DATA_DIR: join(folder, "data"),
  };
});
after(() => rm(folder, { recursive: true, force: true }));

interface Cell {
  readonly cell_type: string;
  readonly source: string | string[];
  readonly metadata: { readonly tags?: string[] };
  readonly outputs?: {
    readonly output_type: string;
    readonly text?: string[];
    readonly ename?: string;
    readonly data?: Record<string, string[]>;
  }[];
}
const cellsOf = async (path: string) => (JSON.parse(await readFile(path, "utf8")) as { cells: Cell[] }).cells;
const text = (lines: string | string[] = "") => [lines].flat().join("");

test("jupyter console: results, more lines where a statement is not whole, errors of types, Tab, exit", async () => {
  const script = join(projectRoot, "test/kernel/clients/console.py");
  const { stdout } = await run(bin("python"), [script, bin("jupyter")], { env });
  assert.match(stdout, /Out\[2\]: 42/);
  assert.match(stdout, /TS2322/);
});

test("jupytext: a notebook as a TypeScript file that runs, and back without a loss", async () => {
  const source = [
    ...["// ---", "// jupyter:", "//   kernelspec:", "//     display_name: TypeScript (firstframe)"],
    ...[
      "//     language: typescript",
      "//     name: firstframe",
      "// ---",
      "",
      "// %% [markdown]",
      "// # A title",
      "",
    ],
    ...["// %%", "const sizes: number[] = [1, 2, 3];", "", "// %%", "sizes.map((size) => size * 2)", ""],
    ...[
      '// %% tags=["raises-exception"]',
      "const wrong: string = sizes;",
      "",
      "// %%",
      "console.log(sizes.length)",
      "",
    ],
  ];
  await writeFile(join(folder, "made.ts"), source.join("\n"));
  await run(bin("jupytext"), ["--to", "ipynb", "--execute", "made.ts"], { env, cwd: folder });
  const cells = await cellsOf(join(folder, "made.ipynb"));
  assert.deepEqual(
    cells.map(({ cell_type: type, source }) => [type, text(source)]),
    [
      ["markdown", "# A title"],
      ["code", "const sizes: number[] = [1, 2, 3];"],
      ["code", "sizes.map((size) => size * 2)"],
      ["code", "const wrong: string = sizes;"],
      ["code", "console.log(sizes.length)"],
    ],
  );
  assert.equal(text(cells[2]!.outputs![0]!.data!["text/plain"]), "[ 2, 4, 6 ]");
  assert.equal(cells[3]!.outputs![0]!.ename, "TypeScriptError");
  assert.equal(text(cells[4]!.outputs![0]!.text), "3\n");

  const tutorial = join(projectRoot, "notebooks/00-hello-kernel.ipynb");
  await run(bin("jupytext"), ["--to", "ts:percent", tutorial, "-o", "tutorial.ts"], { env, cwd: folder });
  await run(bin("jupytext"), ["--to", "ipynb", "tutorial.ts", "-o", "tutorial.ipynb"], { env, cwd: folder });
  const [before, after] = [await cellsOf(tutorial), await cellsOf(join(folder, "tutorial.ipynb"))];
  assert.deepEqual(
    after.map(({ cell_type: type, source }) => [type, text(source)]),
    before.map(({ cell_type: type, source }) => [type, text(source)]),
  );
});

test("nbconvert: --execute runs a notebook, --to script writes TypeScript", async () => {
  const code = (source: string) => ({
    cell_type: "code",
    source,
    metadata: {},
    outputs: [],
    execution_count: null,
    id: source.length.toString(),
  });
  const kernelspec = { name: "firstframe", display_name: "TypeScript (firstframe)", language: "typescript" };
  const notebook = {
    cells: [code("const total: number = 20 + 22;"), code("console.log(total)")],
    ...{
      metadata: { kernelspec, language_info: { name: "typescript", file_extension: ".ts" } },
      nbformat: 4,
      nbformat_minor: 5,
    },
  };
  await writeFile(join(folder, "run.ipynb"), JSON.stringify(notebook));
  await run(bin("jupyter"), ["nbconvert", "--execute", "--to", "notebook", "--inplace", "run.ipynb"], {
    env,
    cwd: folder,
  });
  assert.equal(text((await cellsOf(join(folder, "run.ipynb")))[1]!.outputs![0]!.text), "42\n");
  await run(bin("jupyter"), ["nbconvert", "--to", "script", "run.ipynb"], { env, cwd: folder });
  assert.equal(
    await readFile(join(folder, "run.ts"), "utf8"),
    "const total: number = 20 + 22;\n\nconsole.log(total)\n",
  );
});
