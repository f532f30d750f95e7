import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { promisify } from "node:util";
import createDOMPurify from "dompurify";
import { JSDOM } from "jsdom";
import { parseSync } from "oxc-parser";
import sharp from "sharp";
import { type MimeBundle, readNotebook } from "../../../src/cli/notebook/format.js";
import { otherEngine, tutorials } from "../../browser/tutorial.js";
import { Cli } from "./cli.js";
import { projectPython, projectRoot } from "./project.js";

const folder = join(projectRoot, "notebooks");
const names = readdirSync(folder).filter((name) => name.endsWith(".ipynb"));
const elsewhere = await otherEngine();

/** Whether a cell is a picture's description and what goes into it: more than half of it, and long. */
function onlyDraws(source: string): boolean {
  const { program } = parseSync("cell.ts", source, { lang: "ts", sourceType: "module" });
  const statements = program.body.map((node) => ({ node, text: source.slice(node.start, node.end) }));
  const draws = statements.filter(({ text }) =>
    /^(await display\(\s*)?(figure|frames|compare|interact|channels|animate|bars|lines|heatmap|sequencePicture)\(/.test(
      text,
    ),
  );
  const rest = statements.filter((statement) => !draws.includes(statement));
  const drawn = draws.reduce((length, { text }) => length + text.length, 0);
  return (
    source.split("\n").length >= 10 &&
    drawn > 0.6 * source.length &&
    rest.every(({ node }) => node.type === "VariableDeclaration")
  );
}

describe("the committed tutorials", () => {
  it("are below 3 MB, were run from top to bottom without an error, and say nothing of when", async () => {
    assert.ok(names.length >= 6, names.join(", "));
    for (const name of names) {
      assert.ok(statSync(join(folder, name)).size < 3_000_000, name);
      const { cells } = await readNotebook(join(folder, name));
      let count = 0;
      for (const cell of cells) {
        if (cell.cell_type !== "code") continue;
        assert.equal(cell.execution_count, ++count, `${name}, cell ${cell.id}`);
        assert.ok(!("execution" in cell.metadata), `${name}, cell ${cell.id}: execution times`);
        const failed = cell.outputs.some((output) => output.output_type === "error");
        const meant = cell.metadata.tags?.includes("raises-exception") ?? false;
        assert.equal(failed, meant, `${name}, cell ${cell.id}: error`);
      }
    }
  });

  it("open with what is to be seen and the one question, and say at the end what was measured", async () => {
    for (const name of names) {
      const { cells } = await readNotebook(join(folder, name));
      // The first of them begins with the film.
      const film = name.startsWith("00") ? /!\[.+\]\(moving\.webp\)\n\n/.source : "";
      const opening = new RegExp(`^# \\d\\. .*\\n\\n${film}\\*\\*What you will see\\.\\*\\*`);
      assert.match(cells[0]!.source, opening, name);
      assert.match(
        cells[0]!.source,
        /\n\n\*\*The question\.\*\* \*How does one picture become a film\?\* \w/,
        name,
      );
      const texts = cells.filter(({ cell_type }) => cell_type === "markdown").map(({ source }) => source);
      assert.ok(
        texts.some((text) =>
          /^## What we measured\n\n- [\s\S]*^## Exercises\n\n1\. [\s\S]*^2\. /m.test(text),
        ),
        name,
      );
    }
  });

  it("close with exercises, whose answers are folded and check themselves", async () => {
    for (const name of names) {
      const { cells } = await readNotebook(join(folder, name));
      const exercises = cells.findIndex(({ source }) => /^## Exercises$/m.test(source));
      const asked = [...cells[exercises]!.source.matchAll(/^(\d)\. /gm)].map(([, number]) => number!);
      const answers = cells.slice(exercises + 1).filter(({ cell_type }) => cell_type === "code");
      assert.deepEqual(
        answers.map(({ source }) => /^\/\/ Answer (\d): /.exec(source)?.[1]),
        asked,
        name,
      );
      for (const { id, source, metadata } of answers) {
        assert.ok(metadata.tags?.includes("answer"), `${name}, cell ${id}`);
        assert.deepEqual(
          metadata.jupyter,
          { source_hidden: true, outputs_hidden: true },
          `${name}, cell ${id}`,
        );
        assert.match(source, /\bassert\b/, `${name}, cell ${id}`);
      }
    }
  });

  it("show pictures first: code that does nothing but draw is folded, as answers are, and no other", async () => {
    for (const name of names) {
      const { cells } = await readNotebook(join(folder, name));
      for (const { cell_type, id, source, metadata } of cells) {
        if (cell_type !== "code") continue;
        const { source_hidden = false } = (metadata.jupyter ?? {}) as { source_hidden?: boolean };
        const answer = metadata.tags?.includes("answer") ?? false;
        assert.equal(source_hidden, answer || onlyDraws(source), `${name}, cell ${id}`);
      }
    }
  });

  it("give the outputs that they carry: firstframe run --check", { skip: elsewhere }, async () => {
    // The others are compared where JupyterLab runs them: `test/browser/notebooks.test.ts`.
    const cli = await Cli.make();
    try {
      const paths = tutorials().wasm.map((name) => join(folder, name));
      const ended = await cli.run("run", "--check", "--jobs", "2", ...paths, "--junit", "junit.xml");
      assert.equal(ended.code, 0, `${ended.stdout}\n${ended.stderr}`);
      assert.match(readFileSync(cli.path("junit.xml"), "utf8"), /failures="0" errors="0"/);
    } finally {
      cli.dispose();
    }
  });
});

/** What notebooks show in their outputs, one bundle each. */
async function bundlesOf(name: string): Promise<MimeBundle[]> {
  const { cells } = await readNotebook(join(folder, name));
  const outputs = cells.flatMap((cell) => (cell.cell_type === "code" ? cell.outputs : []));
  return outputs.flatMap((output) => ("data" in output ? [output.data] : []));
}

const pictured = (bundle: MimeBundle) =>
  "image/png" in bundle || /<img /.test(String(bundle["text/html"] ?? ""));

describe("every figure of the tutorials shows where nothing runs", () => {
  const made = mkdtempSync(join(tmpdir(), "firstframe-export-"));
  after(() => rmSync(made, { recursive: true }));
  const paths = names.map((name) => join(folder, name));
  const nbconvert = (format: string) =>
    promisify(execFile)(projectPython().replace(/python$/, "jupyter-nbconvert"), [
      ...["--to", format, "--output-dir", made],
      ...paths,
    ]);

  it("in nbconvert's HTML", async () => {
    await nbconvert("html");
    for (const name of names) {
      const html = readFileSync(join(made, name.replace(/ipynb$/, "html")), "utf8");
      const images = new JSDOM(html).window.document.querySelectorAll<HTMLImageElement>(
        ".jp-OutputArea-output img",
      );
      assert.equal(images.length, (await bundlesOf(name)).filter(pictured).length, name);
      for (const { src } of images) assert.match(src, /^data:image\//, name);
    }
  });

  const withoutPandoc =
    !process.env.CI && spawnSync("pandoc", ["--version"]).error !== undefined && "pandoc is not on PATH";
  it("in nbconvert's LaTeX, as PNG files that it includes", { skip: withoutPandoc }, async () => {
    await nbconvert("latex");
    for (const name of names) {
      const stem = name.replace(/\.ipynb$/, "");
      const tex = readFileSync(join(made, `${stem}.tex`), "utf8");
      const files = readdirSync(join(made, `${stem}_files`)).filter((file) => file.endsWith(".png"));
      assert.equal(files.length, (await bundlesOf(name)).filter(pictured).length, name);
      for (const file of files) {
        assert.ok(tex.includes(file), `${file} is not included`);
        assert.ok((await sharp(join(made, `${stem}_files`, file)).metadata()).width! > 50, file);
      }
    }
  });

  it("on GitHub, which drops scripts, styles and what it does not know", async () => {
    const purify = createDOMPurify(new JSDOM("").window);
    const options = { USE_PROFILES: { html: true }, FORBID_ATTR: ["style"], FORBID_TAGS: ["style"] };
    for (const name of names) {
      for (const bundle of (await bundlesOf(name)).filter(pictured)) {
        const html = bundle["text/html"];
        const kept =
          html !== undefined && /<img [^>]*src="data:/.test(purify.sanitize(String(html), options));
        assert.ok(kept || bundle["image/png"], `${name}: ${bundle["text/plain"]}`);
      }
    }
  });

  it("in Visual Studio Code, by a type that it draws itself", async () => {
    // Of https://code.visualstudio.com/docs/datascience/jupyter-notebooks; plotly's type needs one more extension.
    const own = ["text/html", "image/png", "text/latex", "text/markdown", "text/plain"];
    for (const name of names) {
      for (const bundle of await bundlesOf(name)) {
        const types = Object.keys(bundle).filter((type) => own.includes(type));
        assert.ok(types.length > 0, `${name}: ${Object.keys(bundle)}`);
        const figure = Object.keys(bundle).some((type) => type.startsWith("application/vnd."));
        if (figure) assert.ok(pictured(bundle), `${name}: ${Object.keys(bundle)}`);
      }
    }
  });
});
