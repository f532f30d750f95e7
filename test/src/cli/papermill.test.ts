import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Cli, type Ended, notebook } from "./cli.js";
import { projectRoot } from "./project.js";

let cli: Cli;
before(async () => {
  cli = await Cli.make();
});
after(() => cli.dispose());

function papermill(...argv: string[]): Promise<Ended> {
  return cli.program(join(projectRoot, ".venv/bin/papermill"), argv).ended;
}

interface Cell {
  readonly source: string | string[];
  readonly metadata: { readonly tags?: string[] };
  readonly outputs?: readonly { readonly text?: string | string[] }[];
}
const cells = (name: string) => (JSON.parse(readFileSync(cli.path(name), "utf8")) as { cells: Cell[] }).cells;
const text = (lines: string | string[] | undefined) => [lines ?? ""].flat().join("");

/** The cell that papermill put in. */
function injected(name: string): string {
  const found = cells(name).filter(({ metadata }) => metadata.tags?.includes("injected-parameters"));
  assert.equal(found.length, 1);
  return text(found[0]!.source).trimEnd();
}

describe("papermill", () => {
  it("sets parameters with the types that the notebook declares, and runs it", async () => {
    const declared = [
      'const mode: "sft" | "lora" = "sft"; // how to train',
      'let clip: string = "procedural";',
      "const rate: number = 1e-3;",
      "const seed: number | null = 3;",
      "let sizes = [1];",
      'const untyped = "a";',
    ].join("\n");
    cli.write(
      "in.ipynb",
      notebook([
        { source: declared, tags: ["parameters"] },
        'const known: "sft" | "lora" = mode;\nconsole.log(known, clip, rate, seed, sizes.length, untyped === "a", flag);',
      ]),
    );
    cli.write(
      "values.yaml",
      [
        'clip: "ein \\"Kätzchen\\"\\n\\\\.mp4"',
        "rate: 2.5e-4",
        "seed: null",
        "sizes: [1, {a: true}, 2.5]",
        "flag: false",
      ].join("\n"),
    );
    const ended = await papermill(
      "in.ipynb",
      "out.ipynb",
      "-f",
      "values.yaml",
      "-p",
      "mode",
      "lora",
      "-p",
      "untyped",
      "b",
    );
    assert.equal(ended.code, 0, ended.stderr);
    assert.equal(
      injected("out.ipynb"),
      [
        "// Parameters",
        'let clip: string = "ein \\"Kätzchen\\"\\n\\\\.mp4";',
        "const rate: number = 0.00025;",
        "const seed: number | null = null;",
        'let sizes = [1, {"a": true}, 2.5];',
        "let flag = false;",
        'const mode: "sft" | "lora" = "lora";',
        'let untyped = "b";',
      ].join("\n"),
    );
    assert.equal(
      text(cells("out.ipynb").at(-1)!.outputs![0]!.text),
      'lora ein "Kätzchen"\n\\.mp4 0.00025 null 3 false false\n',
    );
    const help = await papermill("--help-notebook", "in.ipynb");
    assert.match(help.stdout, /mode: "sft" \| "lora" \(default "sft"\)\s+how to train/);
    assert.match(help.stdout, /seed: number \| null \(default 3\)/);
  });

  it("sets parameters of every tutorial", async () => {
    const folder = join(projectRoot, "notebooks");
    const names = readdirSync(folder).filter((name) => name.endsWith(".ipynb"));
    assert.ok(names.length > 0);
    for (const name of names) {
      const ended = await papermill(join(folder, name), name, "--prepare-only", "-p", "seed", "11");
      assert.equal(ended.code, 0, ended.stderr);
      assert.doesNotMatch(ended.stderr, /unknown parameter|does not support/i);
      assert.equal(injected(name), "// Parameters\nconst seed: number = 11;");
    }
  });
});
