import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import {
  formatNotebook,
  type Notebook,
  notebookFault,
  parseNotebook,
  readNotebook,
  writeNotebook,
} from "../../../src/cli/notebook/format.js";
import { projectPython } from "./project.js";

const python = projectPython();
const folder = mkdtempSync(join(tmpdir(), "firstframe-notebook-"));
after(() => rmSync(folder, { recursive: true }));

/** A notebook that uses every field of the format. */
const everything = {
  cells: [
    {
      attachments: { "a.png": { "image/png": "aGk=", "text/plain": ["a\n", "b"] } },
      cell_type: "markdown",
      id: "title",
      metadata: { tags: ["a", "b"], name: "first", jupyter: { source_hidden: true }, 10: "x", 9: "y" },
      source: "# Ünïcode 🎞\u2028next\r\nline\vend\n",
    },
    { cell_type: "raw", id: "raw_1", metadata: { format: "text/latex" }, source: ["\\LaTeX\n", ""] },
    {
      cell_type: "code",
      execution_count: 3,
      id: "code-1",
      metadata: {
        collapsed: false,
        scrolled: "auto",
        execution: { "shell.execute_reply": "2024" },
        tags: [],
      },
      outputs: [
        { name: "stdout", output_type: "stream", text: ["one\n", "two"] },
        {
          data: { "image/png": "aGk=", "image/svg+xml": "<svg>\n</svg>" },
          metadata: {},
          output_type: "display_data",
        },
        {
          data: { "application/vnd.plotly.v1+json": { data: [1, null, { z: true }] }, "text/plain": "a\nb" },
          execution_count: 3,
          metadata: { "image/png": { width: 3 } },
          output_type: "execute_result",
        },
        { ename: "TypeError", evalue: "x is not a function", output_type: "error", traceback: ["a", "b"] },
      ],
      source: "const a = 1;\na\n",
    },
    { cell_type: "code", execution_count: null, id: "empty", metadata: {}, outputs: [], source: "" },
  ],
  metadata: {
    authors: [{ name: "someone" }],
    kernelspec: { display_name: "TypeScript", language: "typescript", name: "firstframe" },
    language_info: { codemirror_mode: { name: "javascript" }, file_extension: ".ts", name: "typescript" },
    title: "a",
  },
  nbformat: 4,
  nbformat_minor: 5,
};

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The notebook with one place changed, in every way that could matter, for every place. */
function variants(root: Json): Json[] {
  const found: Json[] = [root];
  const replacements: Json[] = [
    null,
    1,
    -1,
    1.5,
    "",
    "a,b",
    "a b",
    true,
    [],
    ["x", 1],
    ["x", "x"],
    {},
    { k: 1 },
  ];
  const visit = (value: Json, path: (string | number)[]) => {
    if (path.length > 0) {
      for (const replacement of replacements) found.push(changed(root, path, () => replacement));
      found.push(changed(root, path, () => undefined));
    }
    if (Array.isArray(value)) {
      for (const [index, item] of value.entries()) visit(item, [...path, index]);
    } else if (typeof value === "object" && value !== null) {
      found.push(changed(root, path, (old) => ({ ...(old as object), unknown_field: 1 })));
      for (const [key, item] of Object.entries(value)) visit(item, [...path, key]);
    }
  };
  visit(root, []);
  return found;
}

function changed(root: Json, path: (string | number)[], change: (old: Json) => Json | undefined): Json {
  const copy = { root: structuredClone(root) };
  let parent = copy as unknown as Record<string | number, Json>;
  let key: string | number = "root";
  for (const step of path) {
    parent = parent[key] as unknown as Record<string | number, Json>;
    key = step;
  }
  const value = change(parent[key]!);
  if (value !== undefined) parent[key] = value;
  else if (Array.isArray(parent)) parent.splice(key as number, 1);
  else delete parent[key];
  return copy.root;
}

function ask(script: string, input: unknown): unknown {
  const file = join(folder, "input.json");
  writeFileSync(file, JSON.stringify(input));
  const text = execFileSync(python, ["-c", script, file], { encoding: "utf8", maxBuffer: 1 << 28 });
  return JSON.parse(text);
}

describe("notebook format", () => {
  it("accepts and refuses what Jupyter's own schema accepts and refuses", () => {
    const cases = variants(everything as unknown as Json);
    const expected = ask(
      `
import json, sys
from nbformat.validator import get_validator
validator = get_validator(4, 5, name="jsonschema")
cases = json.load(open(sys.argv[1]))
print(json.dumps([next(iter(validator.iter_errors(case)), None) is None for case in cases]))
`,
      cases,
    ) as boolean[];
    assert.ok(cases.length > 1000 && expected.includes(true) && expected.includes(false));
    // 4.5's schema allows any minor number from 5; what later ones may add is another test.
    cases.forEach((notebook, index) => {
      const fault = notebookFault(notebook);
      assert.equal(fault === undefined, expected[index], `${fault} in ${JSON.stringify(notebook)}`);
    });
  });

  it("writes byte for byte what nbformat writes", () => {
    const expected = ask(
      `
import json, sys, nbformat
text = open(sys.argv[1], encoding="utf8").read()
print(json.dumps(nbformat.writes(nbformat.reads(text, 4)) + "\\n"))
`,
      everything,
    );
    assert.equal(formatNotebook(parseNotebook(JSON.stringify(everything), "x")), expected);
  });

  it("gives cells of formats 4.0 to 4.4 ids, the same ones each time, and repairs doubles", () => {
    const old = structuredClone(everything) as unknown as Notebook;
    old.nbformat_minor = 2;
    for (const cell of old.cells) delete (cell as { id?: string }).id;
    const text = JSON.stringify(old);
    const upgraded = parseNotebook(text, "old.ipynb");
    assert.equal(upgraded.nbformat_minor, 5);
    assert.equal(new Set(upgraded.cells.map((cell) => cell.id)).size, 4);
    assert.deepEqual(parseNotebook(text, "old.ipynb"), upgraded);
    const doubled = structuredClone(everything);
    doubled.cells[1]!.id = "title";
    const ids = parseNotebook(JSON.stringify(doubled), "x").cells.map((cell) => cell.id);
    assert.equal(ids[0], "title");
    assert.equal(new Set(ids).size, 4);
  });

  it("keeps what a later minor version added", () => {
    const later = { ...structuredClone(everything), nbformat_minor: 7, novelty: { a: 1 } };
    assert.match(formatNotebook(parseNotebook(JSON.stringify(later), "x")), /"novelty": \{\n {2}"a": 1\n \}/);
    assert.throws(() => parseNotebook(JSON.stringify({ ...later, nbformat_minor: 5 }), "x"), /novelty/);
  });

  it("names the file and the field of what is wrong, on one line", async () => {
    const broken: [string, RegExp][] = [
      ["", /^x\.ipynb: the file is empty, expected a notebook$/],
      ['{\n "a": 1,\n}', /^x\.ipynb: not JSON.*, expected a notebook$/],
      ["[1]", /^x\.ipynb: not a notebook: it has no "nbformat"$/],
      ['{"nbformat": 3, "worksheets": []}', /^x\.ipynb: notebook format 3, expected 4/],
      [
        JSON.stringify(changed(everything as unknown as Json, ["cells", 2, "outputs", 0, "name"], () => 4)),
        /^x\.ipynb: not a valid notebook: \/cells\/2\/outputs\/0\/name must be string in cell "code-1"$/,
      ],
      [
        JSON.stringify(changed(everything as unknown as Json, ["cells", 0, "cell_type"], () => "heading")),
        /^x\.ipynb: not a valid notebook: \/cells\/0 .*"heading"/,
      ],
    ];
    for (const [text, expected] of broken) {
      assert.throws(
        () => parseNotebook(text, "x.ipynb"),
        (error: Error) =>
          error.name === "UsageError" && expected.test(error.message) && !error.message.includes("\n"),
        text,
      );
    }
    const missing = join(folder, "missing.ipynb");
    await assert.rejects(readNotebook(missing), { message: `${missing}: no such file` });
    await assert.rejects(readNotebook(folder), { message: `${folder}: is a folder, expected a notebook` });
  });

  it("never leaves half a notebook", async () => {
    const path = join(folder, "whole.ipynb");
    const notebook = parseNotebook(JSON.stringify(everything), path);
    await writeNotebook(path, notebook);
    const before = readFileSync(path, "utf8");
    const wrong = structuredClone(notebook);
    (wrong.cells[0] as unknown as { source: number }).source = 4;
    await assert.rejects(writeNotebook(path, wrong));
    assert.equal(readFileSync(path, "utf8"), before);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes("whole")),
      ["whole.ipynb"],
    );
  });
});
