import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import sharp from "sharp";
import { type Notebook, parseNotebook } from "../../../src/cli/notebook/format.js";
import { applyParameters, readGiven } from "../../../src/cli/notebook/parameters.js";

const folder = mkdtempSync(join(tmpdir(), "firstframe-parameters-"));
after(() => rmSync(folder, { recursive: true }));

const declarations = `
// what the notebook takes
let clip: string | null = null;
const frames = 81, scale = -1.5;
let prompt = "a dog";
let tiling = false;
let mode: "sft" | "lora" = "lora";
let sizes: number[] = [256, 256];
let limit: number | string = 3;
let free;
let weights: string = "";
const otherClip: string = "procedural";
`;

function notebook(source = declarations, language = "typescript"): Notebook {
  const code = (id: string, text: string, tags: string[] = []) => ({
    cell_type: "code",
    id,
    metadata: { tags },
    source: text,
    outputs: [],
    execution_count: null,
  });
  const cells = [code("a", "1"), code("p", source, ["parameters"]), code("b", "2")];
  const metadata = { kernelspec: { name: "firstframe", display_name: "TypeScript", language } };
  return parseNotebook(JSON.stringify({ cells, metadata, nbformat: 4, nbformat_minor: 5 }), "n.ipynb");
}

async function injected(...args: string[]): Promise<string> {
  const [result] = await applyParameters(
    [{ path: "n.ipynb", notebook: notebook() }],
    readGiven(args),
    folder,
  );
  assert.deepEqual(
    result!.cells.map((cell) => cell.metadata.tags),
    [[], ["parameters"], ["injected-parameters"], []],
  );
  return result!.cells[2]!.source;
}

const refused = (args: string[], message: RegExp) =>
  assert.rejects(injected(...args), (error: Error) => {
    assert.equal(error.name, "UsageError");
    assert.match(error.message, message);
    assert.ok(!error.message.includes("\n"));
    return true;
  });

describe("parameters of a notebook", () => {
  it("reads values as the declared types and keeps the declaration's form", async () => {
    assert.equal(await injected("frames=49"), "// Parameters\nconst frames = 49;");
    assert.equal(await injected("scale=-2.5e-1"), "// Parameters\nconst scale = -0.25;");
    assert.equal(await injected("prompt=42"), '// Parameters\nlet prompt = "42";');
    assert.equal(await injected('prompt=say "hi"=yes'), '// Parameters\nlet prompt = "say \\"hi\\"=yes";');
    assert.equal(await injected("tiling=true"), "// Parameters\nlet tiling = true;");
    assert.equal(await injected("mode=sft"), '// Parameters\nlet mode: "sft" | "lora" = "sft";');
    assert.equal(await injected("sizes=[1, 2]"), "// Parameters\nlet sizes: number[] = [1,2];");
    assert.equal(await injected("limit=7"), "// Parameters\nlet limit: number | string = 7;");
    assert.equal(await injected("limit=all"), '// Parameters\nlet limit: number | string = "all";');
    assert.equal(await injected("clip=null"), "// Parameters\nlet clip: string | null = null;");
  });

  it("reads values of parameters without a type as numbers, booleans, JSON, or strings", async () => {
    for (const [text, value] of [
      ["1e3", "1000"],
      ["true", "true"],
      ["null", "null"],
      ['{"a": [1]}', '{"a":[1]}'],
      ["some text", '"some text"'],
      ["1.2.3", '"1.2.3"'],
    ]) {
      assert.equal(await injected(`free=${text}`), `// Parameters\nlet free = ${value};`);
    }
  });

  it("refuses what the declaration does not take, and what no cell declares", async () => {
    await refused(
      ["frames=many"],
      /--param frames: expected number, found "many" \(it is declared as `const frames = 81`\)/,
    );
    await refused(["mode=full"], /expected "sft" or "lora", found "full"/);
    await refused(["tiling=1"], /expected boolean/);
    await refused(
      ["frame=49"],
      /^unknown parameter frame of n\.ipynb; did you mean frames\? \(declared: clip, frames, .*\)$/,
    );
    await refused(["frames"], /expected NAME=VALUE, found "frames"/);
    await refused(["frames=1", "frames=2"], /frames was given twice/);
    const none = {
      path: "n.ipynb",
      notebook: parseNotebook('{"cells":[],"metadata":{},"nbformat":4,"nbformat_minor":5}', "n"),
    };
    await assert.rejects(
      applyParameters([none], readGiven(["a=1"]), folder),
      /no cell is tagged `parameters`/,
    );
    const python = { path: "n.ipynb", notebook: notebook("clip = 1", "python") };
    await assert.rejects(
      applyParameters([python], readGiven(["clip=1"]), folder),
      /need a TypeScript notebook/,
    );
  });

  it("gives a parameter to the notebooks that declare it and to no others", async () => {
    const plain = parseNotebook('{"cells":[],"metadata":{},"nbformat":4,"nbformat_minor":5}', "plain");
    const results = await applyParameters(
      [
        { path: "plain.ipynb", notebook: plain },
        { path: "n.ipynb", notebook: notebook() },
      ],
      readGiven(["frames=9"]),
      folder,
    );
    assert.deepEqual(results[0], plain);
    assert.equal(results[1]!.cells.length, 4);
  });

  it("replaces what was injected before", async () => {
    const [once] = await applyParameters(
      [{ path: "n", notebook: notebook() }],
      readGiven(["frames=9"]),
      folder,
    );
    const [twice] = await applyParameters([{ path: "n", notebook: once! }], readGiven(["frames=17"]), folder);
    assert.equal(twice!.cells.length, 4);
    assert.equal(twice!.cells[2]!.source, "// Parameters\nconst frames = 17;");
  });

  it("finds clips from where the command was typed, and refuses missing and broken ones", async () => {
    const frame = await sharp({ create: { width: 16, height: 16, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    writeFileSync(join(folder, "one.png"), frame);
    writeFileSync(join(folder, "broken.mp4"), "not a video");
    writeFileSync(join(folder, "empty.webp"), "");
    assert.equal(
      await injected("clip=one.png"),
      `// Parameters\nlet clip: string | null = ${JSON.stringify(join(folder, "one.png"))};`,
    );
    await refused(["clip=missing.mp4"], /missing\.mp4: no such file or folder/);
    await refused(["clip=broken.mp4"], /broken\.mp4: /);
    await refused(["clip=empty.webp"], /empty\.webp: the file is empty/);
    assert.match(await injected("weights=./models"), new RegExp(`"${join(folder, "models")}"`));
    assert.match(await injected("weights=models"), /"models"/);
    // The declared value may be a word that is no path.
    assert.match(await injected("otherClip=procedural"), /= "procedural"/);
    await refused(["otherClip=synthetic"], /synthetic: no such file/);
  });
});
