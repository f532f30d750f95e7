import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { JSDOM } from "jsdom";
import { type Notebook, readNotebook, writeNotebook } from "../../../src/cli/notebook/format.js";
import { chineseEdition, SHARED_FOLDERS } from "../../../src/cli/notebook/translate.js";
import { renderMarkdown } from "../../../src/cli/page/markdown.js";
import { renderPage } from "../../../src/cli/page/page.js";
import { projectRoot } from "./project.js";

const folder = join(projectRoot, "notebooks");
const names = readdirSync(folder).filter((name) => name.endsWith(".ipynb"));
const script = join(projectRoot, ".ci/translate-notebooks.mjs");

const isText = ({ cell_type }: Notebook["cells"][number]) => cell_type !== "code";

describe("the Chinese edition", () => {
  it("is what `npm run translate` makes of the English notebooks and the translations, and nothing is missing", async () => {
    const { files, faults } = await chineseEdition(folder);
    assert.deepEqual(faults, []);
    for (const [path, text] of files)
      assert.ok(
        readFileSync(join(folder, path), "utf8") === text,
        `${path}: \`npm run translate\` renews it`,
      );
    assert.deepEqual(
      readdirSync(join(folder, "zh")).filter((name) => name.endsWith(".ipynb")),
      names,
    );
  });

  it("shares code, outputs and metadata with the English notebooks, and has every text in Chinese", async () => {
    for (const name of names) {
      const english = await readNotebook(join(folder, name));
      const chinese = await readNotebook(join(folder, "zh", name));
      const shared = ({ cells, ...rest }: Notebook) => ({
        ...rest,
        cells: cells.map((cell) => (isText(cell) ? { ...cell, source: "" } : cell)),
      });
      assert.deepEqual(shared(chinese), shared(english), name);
      for (const { id, source } of chinese.cells.filter(isText)) {
        assert.match(source, /\p{Script=Han}/u, `${name}, cell ${id}`);
        // Where a paragraph's line ended, a page would show a blank between two characters.
        assert.doesNotMatch(source, /\p{Script=Han}\n\p{Script=Han}/u, `${name}, cell ${id}`);
      }
    }
  });

  it("has the same formulas, commands and programs in its texts", async () => {
    const parts = (source: string) => ({
      formulas: source.match(/\$\$[^$]+\$\$/g) ?? [],
      // Comments are prose.
      programs: (source.match(/^```[\s\S]+?^```/gm) ?? []).map((text) =>
        text.replace(/ +(\/\/|#) .*$/gm, ""),
      ),
    });
    for (const name of names) {
      const [english, chinese] = await Promise.all([
        readNotebook(join(folder, name)),
        readNotebook(join(folder, "zh", name)),
      ]);
      for (const [i, { id, source }] of english.cells.entries())
        assert.deepEqual(parts(chinese.cells[i]!.source), parts(source), `${name}, cell ${id}`);
    }
  });

  it("has marks of emphasis that a page takes for such, though Chinese has no blanks around them", async () => {
    for (const name of names) {
      const { cells } = await readNotebook(join(folder, "zh", name));
      for (const { id, source } of cells.filter(isText)) {
        const { html } = await renderMarkdown(source, { folder, pages: new Set() });
        const { body } = new JSDOM(html).window.document;
        for (const part of body.querySelectorAll("code, .katex")) part.remove();
        assert.doesNotMatch(body.textContent!, /[*`$]/, `${name}, cell ${id}`);
      }
    }
  });

  it("has pages that say that they are in Chinese", async () => {
    for (const [path, language] of [
      ["", "en"],
      ["zh", "zh"],
    ] as const) {
      const notebook = await readNotebook(join(folder, path, names[0]!));
      const page = await renderPage(notebook, { folder, pages: new Set(), name: "page" });
      assert.equal(new JSDOM(page).window.document.documentElement.lang, language);
    }
  });

  it("has the film that both begin with", () => {
    const [film, copy] = ["", "zh"].map((path) => readFileSync(join(folder, path, "moving.webp")));
    assert.ok(film!.equals(copy!), "npm run translate copies it");
  });

  it("finds models and clips where the code that it shares looks for them", () => {
    for (const name of SHARED_FOLDERS) assert.equal(readlinkSync(join(folder, "zh", name)), `../${name}`);
  });
});

describe("npm run translate", () => {
  let copy: string;
  before(() => {
    copy = mkdtempSync(join(tmpdir(), "firstframe-zh-"));
    cpSync(join(folder, names[0]!), join(copy, names[0]!));
    for (const path of [names[0]!, `translations/${names[0]!.replace(/ipynb$/, "md")}`])
      cpSync(join(folder, "zh", path), join(copy, "zh", path));
  });
  after(() => rmSync(copy, { recursive: true }));

  const translate = (...options: string[]) => {
    const { status, stderr } = spawnSync(process.execPath, [script, ...options, copy], { encoding: "utf8" });
    return { status, stderr };
  };

  it("names notebook and cell of a text that changed or is new, until it is translated", async () => {
    assert.deepEqual(translate("--check"), { status: 0, stderr: "" });
    const english = await readNotebook(join(copy, names[0]!));
    const texts = english.cells.filter(isText);
    texts[1]!.source += "\n\nOne more sentence.";
    const added = { ...structuredClone(texts[2]!), id: "brand-new", source: "Something new." };
    english.cells.push(added);
    await writeNotebook(join(copy, names[0]!), english);

    const { status, stderr } = translate("--check");
    assert.equal(status, 1);
    assert.match(
      stderr,
      new RegExp(`^${names[0]}, cell ${texts[1]!.id} has changed since it was translated`, "m"),
    );
    assert.match(stderr, new RegExp(`^${names[0]}, cell brand-new has no translation`, "m"));
    assert.ok(stderr.includes("One more sentence.") && stderr.includes("Something new."), stderr);

    // Who writes no hash says that the translation is of the present text: it is filled in.
    const file = join(copy, "zh/translations", names[0]!.replace(/ipynb$/, "md"));
    const before = readFileSync(file, "utf8");
    const renewed = before.replace(new RegExp(`(?<=<!-- cell ${texts[1]!.id}), of \\w+`), "");
    assert.notEqual(renewed, before);
    writeFileSync(file, `${renewed}\n<!-- cell brand-new -->\n\n新的内容。\n`);
    assert.deepEqual(translate(), { status: 0, stderr: "" });
    assert.deepEqual(translate("--check"), { status: 0, stderr: "" });
    assert.match(readFileSync(file, "utf8"), /<!-- cell brand-new, of [\da-f]{8} -->/);
    const made = await readNotebook(join(copy, "zh", names[0]!));
    assert.equal(made.cells.at(-1)!.source, "新的内容。");
  });

  it("says which translations are of nothing, and which notebooks were changed by hand", async () => {
    const english = await readNotebook(join(copy, names[0]!));
    english.cells.pop();
    await writeNotebook(join(copy, names[0]!), english);
    const { status, stderr } = translate("--check");
    assert.equal(status, 1);
    assert.match(stderr, /cell brand-new is translated, and is not there any more/);
    assert.match(stderr, new RegExp(`zh/${names[0]} is not what`));
  });
});

describe("the Chinese README", () => {
  const read = (path: string) => readFileSync(join(projectRoot, path), "utf8");
  const [english, chinese] = [read("README.md"), read("notebooks/zh/README.md")];
  /** The parts from one heading to the next. Comments in programs begin like headings. */
  const sections = (text: string) =>
    text
      .replace(/^```[\s\S]+?^```/gm, (program) => program.replaceAll(/^#/gm, "\\#"))
      .split(/^(?=#+ )/m)
      .map((section) => section.replaceAll(/^\\#/gm, "#"));

  it("and the English one name each other at the top", () => {
    assert.match(english, /^# firstframe\n\nEnglish \| \[简体中文\]\(notebooks\/zh\/README\.md\)\n/);
    assert.match(chinese, /^# firstframe\n\n\[English\]\(\.\.\/\.\.\/README\.md\) \| 简体中文\n/);
  });

  it("has the same programs and figures, section by section", () => {
    const ours = sections(chinese);
    for (const [i, section] of sections(english).entries()) {
      const [heading] = section.split("\n");
      const other = ours[i] ?? "";
      assert.equal(/^#+/.exec(other)?.[0], /^#+/.exec(section)![0], `${heading}: ${other.split("\n")[0]}`);
      const programs = (text: string) => text.match(/^```[\s\S]+?^```/gm) ?? [];
      assert.deepEqual(programs(other), programs(section), heading);
      const figures = (text: string) => {
        const prose = text.replace(/^```[\s\S]+?^```/gm, "").replaceAll(/\]\([^)]*\)|`[^`]*`/g, "");
        return (prose.match(/\d[\d,.:]*(?<![,.:])/g) ?? []).sort();
      };
      // What is said besides of the Chinese edition is in sections of its own, and in the first one.
      if (i > 0) assert.deepEqual(figures(other), figures(section), heading);
    }
  });
});
