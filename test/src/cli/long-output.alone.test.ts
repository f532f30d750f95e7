import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { type CodeCell, parseNotebook } from "../../../src/cli/notebook/format.js";
import { Cli, type Ended, notebook } from "./cli.js";
import { projectPython } from "./project.js";

let cli: Cli;
before(async () => {
  cli = await Cli.make();
});
after(() => cli.dispose());

/** Runs with a heap that could not hold what is printed. */
async function run(...argv: string[]): Promise<Ended & { peak: number }> {
  const { child, ended } = cli.start(["run", ...argv], { NODE_OPTIONS: "--max-old-space-size=400" });
  let peak = 0;
  const watch = setInterval(() => {
    const status = `/proc/${child.pid}/status`;
    const found = existsSync(status) && /VmHWM:\s*(\d+) kB/.exec(readFileSync(status, "utf8"));
    if (found) peak = Math.max(peak, Number(found[1]) * 1024);
  }, 100);
  const result = await ended;
  clearInterval(watch);
  return { ...result, peak };
}

const cells = (path: string) =>
  parseNotebook(readFileSync(cli.path(path), "utf8"), path).cells.filter(
    (cell): cell is CodeCell => cell.cell_type === "code",
  );
const printed = (cell: CodeCell | undefined, name: string) =>
  cell!.outputs
    .map((output) => (output.output_type === "stream" && output.name === name ? output.text : ""))
    .join("");

describe("a cell that prints more than a notebook can hold", () => {
  it("has the start and the end of it in the notebook, with how much is left out", async (t) => {
    const lines = 6_200_000;
    cli.write(
      "long.ipynb",
      notebook([
        "console.log('before')",
        `const line = (i: number) => String(i).padStart(99, "0") + "\\n";\nfor (let i = 0; i < ${lines}; i += 1000) {\n  let block = "";\n  for (let k = i; k < i + 1000; k++) block += line(k);\n  process.stdout.write(block);\n}`,
        "console.log('after')",
      ]),
    );
    const { code, stderr, peak } = await run("long.ipynb", "--out", "long");
    assert.equal(code, 0, stderr);
    const [first, long, last] = cells("long/long.ipynb");
    assert.deepEqual([printed(first, "stdout"), printed(last, "stdout")], ["before\n", "after\n"]);
    const kept = printed(long, "stdout");
    assert.ok(kept.startsWith(`${"0".repeat(99)}\n`));
    assert.ok(kept.endsWith(`${String(lines - 1).padStart(99, "0")}\n`));
    assert.ok(kept.length > 10_000_000 && kept.length < 17_000_000, `${kept.length}`);
    const left = /^\n\[(\d+) characters are left out here: /.exec(printed(long, "stderr"))?.[1];
    assert.equal(Number(left) + kept.length, lines * 100);
    assert.match(readFileSync(cli.path("long/long.html"), "utf8"), /characters are left out/);
    const check = "import nbformat; nbformat.validate(nbformat.read('long/long.ipynb', 4))";
    const python = await cli.program(projectPython(), ["-c", check]).ended;
    assert.equal(python.code, 0, python.stderr);
    t.diagnostic(`620 MB printed, at most ${Math.round(peak / 1e6)} MB in memory`);
  });

  it("is interrupted when its time is up, although it prints all the while", async () => {
    cli.write("flood.ipynb", notebook(["while (true) console.log('x'.repeat(1000));"]));
    const { code, stderr } = await run("flood.ipynb", "--out", "flood", "--timeout", "4");
    assert.equal(code, 1, stderr);
    assert.match(
      stderr,
      /^flood\.ipynb, cell \[1\](, line 1)?: CellTimeoutError: the cell ran longer than 4 s/m,
    );
    assert.match(printed(cells("flood/flood.ipynb")[0], "stdout"), /^x{1000}\n/);
  });

  it("shares what a notebook may hold with pictures and errors", async () => {
    cli.write(
      "large.ipynb",
      notebook([
        "for (let i = 0; i < 30; i++) { display.html(String(i % 10).repeat(10_000_000)); await new Promise((r) => setTimeout(r, 1)); }",
        { source: "throw new Error('e'.repeat(60_000_000))", tags: ["raises-exception"] },
        "console.log('after')",
      ]),
    );
    const { code, stderr } = await cli.run("run", "large.ipynb", "--inplace");
    assert.equal(code, 0, stderr.slice(0, 2000));
    const [shown, , last] = cells("large.ipynb");
    assert.equal(printed(last, "stdout"), "after\n");
    const texts = shown!.outputs.map((output) => ("data" in output ? output.data : {}));
    assert.equal(texts.length, 30);
    assert.equal(texts.filter((data) => "text/html" in data).length, 26);
    assert.match(
      String(texts.at(-1)!["text/plain"]),
      /^\[text\/html, text\/plain \(10\.0 MB\) is left out: /,
    );
  });
});
