import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isAlive } from "../../../kernel/server/parent.js";
import { type CodeCell, type Notebook, parseNotebook } from "../../../src/cli/notebook/format.js";
import { Cli, type Ended, notebook } from "./cli.js";
import { projectPython } from "./project.js";

let cli: Cli;
before(async () => {
  cli = await Cli.make();
});
after(() => cli.dispose());

const read = (path: string): Notebook => parseNotebook(readFileSync(cli.path(path), "utf8"), path);
const codeCells = (path: string) =>
  read(path).cells.filter((cell): cell is CodeCell => cell.cell_type === "code");
const stream = (cell: CodeCell | undefined) =>
  cell!.outputs.map((output) => ("text" in output ? output.text : "")).join("");

/** Exit code 2, one line, nothing written. */
async function refused(argv: string[], message: RegExp): Promise<void> {
  const before = readdirSync(cli.folder, { recursive: true }).sort();
  const { code, stderr, stdout } = await cli.run("run", "--out", "refused", ...argv);
  assert.equal(code, 2, stderr);
  assert.match(stderr, message);
  assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
  assert.equal(stdout, "");
  assert.deepEqual(readdirSync(cli.folder, { recursive: true }).sort(), before);
}

function assertEnded({ code, stdout, stderr }: Ended, expected: number): void {
  assert.equal(code, expected, `${stdout}\n${stderr}`);
}

describe("firstframe run", () => {
  it("executes a notebook in its folder and writes it with a page", async () => {
    cli.write("deep/helper.ts", "export const twice = (x: number): number => 2 * x;\n");
    cli.write(
      "deep/good.ipynb",
      notebook([
        "# A title with $x^2$",
        { source: "let frames = 81;\nlet name = 'none';", tags: ["parameters"] },
        'import { basename } from "node:path";\nimport { twice } from "./helper.ts";\nconsole.log(basename(process.cwd()), twice(frames), name);',
        "await Promise.resolve([1, 2, 3].map((x) => x * frames))",
        "display.html('<b>bold</b>', { displayId: 'one' });\nconsole.error('careful');",
        "display.html('<i>newer</i>', { displayId: 'one', update: true });",
      ]),
    );
    const source = readFileSync(cli.path("deep/good.ipynb"), "utf8");
    assertEnded(
      await cli.run("run", "deep/good.ipynb", "--out", "good", "-p", "frames=9", "--param", "name=kit ten"),
      0,
    );
    assert.deepEqual(readdirSync(cli.path("good")).sort(), ["good.html", "good.ipynb"]);
    assert.equal(
      readFileSync(cli.path("deep/good.ipynb"), "utf8"),
      source,
      "the notebook itself is left alone",
    );

    const cells = codeCells("good/good.ipynb");
    assert.deepEqual(
      cells.map((cell) => cell.execution_count),
      [1, 2, 3, 4, 5, 6],
    );
    assert.deepEqual(cells[1]!.metadata.tags, ["injected-parameters"]);
    assert.equal(stream(cells[2]), "deep 18 kit ten\n");
    assert.deepEqual(cells[3]!.outputs, [
      {
        output_type: "execute_result",
        data: { "text/plain": "[ 9, 18, 27 ]" },
        metadata: {},
        execution_count: 4,
      },
    ]);
    const shown = cells[4]!.outputs.find((output) => output.output_type === "display_data");
    assert.equal((shown as { data: Record<string, unknown> }).data["text/html"], "<i>newer</i>");
    assert.ok(!readFileSync(cli.path("good/good.ipynb"), "utf8").includes("iopub"), "no execution times");
    const page = readFileSync(cli.path("good/good.html"), "utf8");
    assert.match(page, /<title>A title with .*<\/title>/);
    assert.ok(page.includes("<i>newer</i>") && page.includes('class="katex"'));

    const valid = cli.program(projectPython(), [
      "-c",
      "import nbformat; nb = nbformat.read('good/good.ipynb', nbformat.NO_CONVERT); nbformat.validate(nb); print(nb.nbformat_minor)",
    ]);
    const python = await valid.ended;
    assert.equal(python.stdout.trim(), "5", python.stderr);
    assert.ok(!/warn/i.test(python.stderr), python.stderr);
  });

  it("ends at a failing cell with its error, notebook and line", async () => {
    cli.write(
      "bad.ipynb",
      notebook([
        "const x = 1;",
        `\nfunction f(): never {\n  throw new TypeError("broken " + x);\n}\nf();`,
        "console.log('never');",
      ]),
    );
    cli.write("next.ipynb", notebook(["1"]));
    const ended = await cli.run("run", "bad.ipynb", "next.ipynb", "--out", "failed");
    assertEnded(ended, 1);
    const lines = ended.stderr.trimEnd().split("\n");
    assert.equal(lines.at(-1), "bad.ipynb, cell [2], line 3: TypeError: broken 1");
    assert.match(ended.stderr, /> 3 \| {3}throw new TypeError/);
    assert.deepEqual(readdirSync(cli.path("failed")).sort(), ["bad.html", "bad.ipynb"]);
    const cells = codeCells("failed/bad.ipynb");
    assert.equal(cells[1]!.outputs[0]!.output_type, "error");
    assert.deepEqual([cells[2]!.execution_count, cells[2]!.outputs], [null, []]);
    assert.ok(!ended.stdout.includes("next.ipynb"));
  });

  it("names the line of a type error, before the cell has run", async () => {
    cli.write("types.ipynb", notebook(["console.log('runs?');\nconst y: number = 'text';"]));
    const ended = await cli.run("run", "types.ipynb", "--out", "types");
    assertEnded(ended, 1);
    assert.match(ended.stderr, /types\.ipynb, cell \[1\], line 2: .*TS2322/);
    assert.equal(stream(codeCells("types/types.ipynb")[0]), "");
  });

  it("goes on after errors that are allowed, and leaves out cells that ask for it", async () => {
    const raise = "throw new Error('on purpose');";
    cli.write(
      "tags.ipynb",
      notebook([
        { source: raise, tags: ["raises-exception"] },
        { source: raise, tags: ["skip-execution"] },
        "console.log('on');",
      ]),
    );
    assertEnded(await cli.run("run", "tags.ipynb", "--out", "tags"), 0);
    const tagged = codeCells("tags/tags.ipynb");
    assert.deepEqual(
      tagged.map((cell) => cell.execution_count),
      [1, null, 2],
    );
    assert.equal(stream(tagged[2]), "on\n");
    cli.write("errors.ipynb", notebook([raise, "console.log('on');"]));
    assertEnded(await cli.run("run", "errors.ipynb", "--out", "errors", "--allow-errors"), 0);
    assert.equal(stream(codeCells("errors/errors.ipynb")[1]), "on\n");
  });

  it("interrupts a cell, or a notebook, that takes too long", async () => {
    cli.write("loop.ipynb", notebook(["console.log('begun'); while (true) {}", "1"]));
    const cell = await cli.run("run", "loop.ipynb", "--out", "loop", "--timeout", "6");
    assertEnded(cell, 1);
    assert.match(
      cell.stderr,
      /^loop\.ipynb, cell \[1\], line 1: CellTimeoutError: the cell ran longer than 6 s$/m,
    );
    assert.equal(stream(codeCells("loop/loop.ipynb")[0]), "begun\n");
    cli.write(
      "slow.ipynb",
      notebook(["await new Promise((r) => setTimeout(r, 1000));", "await new Promise(() => {});"]),
    );
    const whole = await cli.run("run", "slow.ipynb", "--out", "slow", "--notebook-timeout", "6");
    assertEnded(whole, 1);
    assert.match(whole.stderr, /^slow\.ipynb: it ran longer than 6 s$/m);
  });

  it("says so when the kernel dies", async () => {
    cli.write(
      "dies.ipynb",
      notebook(["process.kill(process.ppid, 'SIGKILL'); await new Promise(() => {});"]),
    );
    const ended = await cli.run("run", "dies.ipynb", "--out", "dies");
    assertEnded(ended, 1);
    assert.match(ended.stderr, /dies\.ipynb, cell \[1\]: DeadKernel: the kernel ended by SIGKILL/);
  });

  it("writes only the page with --html", async () => {
    cli.write("paged.ipynb", notebook(["'shown'"]));
    assertEnded(await cli.run("run", "paged.ipynb", "--out", "paged", "--html"), 0);
    assert.deepEqual(readdirSync(cli.path("paged")), ["paged.html"]);
    await refused(["paged.ipynb", "--html", "--check"], /--html and --check exclude each other/);
    await refused(["paged.ipynb", "--html", "--inplace"], /--html and --inplace exclude each other/);
  });

  it("runs notebooks side by side", async () => {
    const meet = (own: string, other: string) =>
      notebook([
        `import { existsSync, writeFileSync } from "node:fs";\nwriteFileSync("${own}", "");\nwhile (!existsSync("${other}")) await new Promise((r) => setTimeout(r, 20));`,
      ]);
    cli.write("meet/a.ipynb", meet("a.here", "b.here"));
    cli.write("meet/b.ipynb", meet("b.here", "a.here"));
    const ended = await cli.run(
      "run",
      "meet/a.ipynb",
      "meet/b.ipynb",
      "--out",
      "met",
      "--jobs",
      "2",
      "--timeout",
      "60",
    );
    assertEnded(ended, 0);
    assert.match(ended.stdout, /^meet\/a\.ipynb ✓ 1\/1/m);
    assert.match(ended.stdout, /^meet\/b\.ipynb ✓ 1\/1/m);
  });

  it("finds bad input before anything runs", async () => {
    cli.write("plain.ipynb", notebook(["1"]));
    cli.write("with.ipynb", notebook([{ source: "let clip: string | null = null;", tags: ["parameters"] }]));
    cli.write("text.ipynb", "no notebook");
    cli.write("other/plain.ipynb", notebook(["1"]));
    cli.write("gone.ipynb", notebook(["1"], "gone"));
    cli.write("broken.ipynb", notebook(["1"], "broken"));
    cli.write("prefix/share/jupyter/kernels/gone/kernel.json", {
      argv: ["/nowhere/node", "main.js", "{connection_file}"],
      display_name: "Gone",
      language: "typescript",
    });
    cli.write("prefix/share/jupyter/kernels/broken/kernel.json", "{");
    cli.write("video.mp4", "not a video");
    cli.write("file", "");
    await refused([], /a notebook is missing/);
    await refused(["missing.ipynb"], /missing\.ipynb: no such file$/m);
    await refused(["plain.ipynb", "text.ipynb"], /text\.ipynb: not JSON/);
    await refused(["plain.ipynb", "--param", "clip=a"], /unknown parameter clip of plain\.ipynb/);
    await refused(["with.ipynb", "--param", "clip=missing.mp4"], /missing\.mp4: no such file or folder$/m);
    await refused(["with.ipynb", "--param", "clip=video.mp4"], /video\.mp4: /);
    await refused(
      ["plain.ipynb", "--kernel", "nowhere"],
      /no kernel named nowhere is installed \(found broken, firstframe, gone/,
    );
    await refused(["gone.ipynb"], /starts \/nowhere\/node, which is not there/);
    await refused(["broken.ipynb"], /kernelspec .*broken\/kernel\.json/);
    await refused(
      ["plain.ipynb", "other/plain.ipynb"],
      /plain\.ipynb and other\/plain\.ipynb would both be written as plain/,
    );
    await refused(["plain.ipynb", "./plain.ipynb"], /given twice/);
    await refused(
      ["plain.ipynb", "--timeout", "soon"],
      /--timeout: expected a number of at least 0\.001, found "soon"/,
    );
    await refused(["plain.ipynb", "--jobs", "0"], /--jobs: expected a whole number of at least 1, found "0"/);
    await refused(["plain.ipynb", "--chekc"], /unknown option --chekc .*did you mean --check\?/);
    await refused(["plain.ipynb", "--inplace", "--check"], /exclude each other/);
    const file = await cli.run("run", "plain.ipynb", "--out", "file");
    assertEnded(file, 2);
    assert.match(file.stderr, /^firstframe: file: expected a folder, found a file$/m);
  });

  it("ends cleanly on Ctrl-C: no kernel is left, nothing is half written", async () => {
    cli.write(
      "long.ipynb",
      notebook([
        'import { writeFileSync } from "node:fs";\nwriteFileSync("pids", [process.pid, process.ppid].join(" "));\nawait new Promise(() => {});',
      ]),
    );
    const { child, ended } = cli.start(["run", "long.ipynb", "--out", "long"]);
    while (!existsSync(cli.path("pids"))) await sleep(50);
    await sleep(100);
    child.kill("SIGINT");
    const result = await ended;
    assertEnded(result, 130);
    assert.match(result.stderr, /^interrupted: nothing of the running notebook was written$/m);
    assert.ok(!existsSync(cli.path("long")));
    const pids = readFileSync(cli.path("pids"), "utf8").split(" ").map(Number);
    for (let i = 0; i < 100 && pids.some(isAlive); i++) await sleep(50);
    assert.deepEqual(pids.filter(isAlive), []);
  });

  it("writes outputs into the notebooks themselves, and then finds them unchanged", async () => {
    cli.write(
      "kept.ipynb",
      notebook([
        "console.log('shape', [1, 16, 21, 32, 32]);\n'a result'",
        {
          source: "console.log('loss', (0.5).toFixed(6), 'step', 3)",
          metadata: { firstframe: { check: { rtol: 1e-2 } } },
        },
        { source: "console.log(Math.random())", metadata: { firstframe: { check: "ignore" } } },
      ]),
    );
    assertEnded(await cli.run("run", "kept.ipynb", "--inplace"), 0);
    assert.deepEqual(
      readdirSync(cli.folder).filter((name) => name.startsWith("kept")),
      ["kept.ipynb"],
    );
    const first = await cli.run(
      "run",
      "kept.ipynb",
      "--check",
      "--out",
      "check",
      "--junit",
      "check/junit.xml",
    );
    assertEnded(first, 0);
    assert.match(first.stdout, /^1 of 1 notebooks give the outputs/m);
    assert.match(readFileSync(cli.path("check/junit.xml"), "utf8"), /tests="3" failures="0" errors="0"/);

    const committed = readFileSync(cli.path("kept.ipynb"), "utf8");
    cli.write("kept.ipynb", committed.replace("loss 0.500000", "loss 0.501000"));
    assertEnded(await cli.run("run", "kept.ipynb", "--check", "--out", "check"), 0);
    cli.write(
      "kept.ipynb",
      committed.replace("loss 0.500000", "loss 0.600000").replace("'a result'", "'another <result>'"),
    );
    const changed = await cli.run(
      "run",
      "kept.ipynb",
      "--check",
      "--out",
      "check",
      "--junit",
      "check/junit.xml",
    );
    assertEnded(changed, 1);
    assert.match(
      changed.stderr,
      /^kept\.ipynb, cell \[2\], stdout: text differs\n- loss 0\.600000 step 3\n\+ loss 0\.500000 step 3$/m,
    );
    const report = readFileSync(cli.path("check/check.html"), "utf8");
    assert.match(report, /<del>- loss 0\.600000 step 3<\/del>\n<ins>\+ loss 0\.500000 step 3<\/ins>/);
    assert.match(readFileSync(cli.path("check/junit.xml"), "utf8"), /tests="3" failures="2" errors="0"/);
    assert.equal(
      readFileSync(cli.path("kept.ipynb"), "utf8").includes("0.600000"),
      true,
      "a check changes nothing",
    );
  });
});

describe("Python's own clients run the same notebook with the same outputs", () => {
  const cells = [
    "# Title",
    "console.log('one');\nconsole.error('two');",
    "[1, 'a', { b: null }]",
    "display.html('<b>x</b>');",
    { source: "throw new RangeError('expected');", tags: ["raises-exception"] },
  ];
  /** Streams in one piece each, as the messages' cuts depend on the clock. */
  const outputs = (path: string) =>
    codeCells(path).map((cell) => {
      const rest = cell.outputs.filter((output) => output.output_type !== "stream");
      const text = (name: string) =>
        cell.outputs.map((output) => ("name" in output && output.name === name ? output.text : "")).join("");
      return { stdout: text("stdout"), stderr: text("stderr"), rest, count: cell.execution_count };
    });

  it("nbclient", async () => {
    cli.write("peers.ipynb", notebook(cells));
    assertEnded(await cli.run("run", "peers.ipynb", "--out", "ours"), 0);
    const script =
      "import nbformat, nbclient\nnb = nbformat.read('peers.ipynb', 4)\nnbclient.NotebookClient(nb, timeout=120).execute()\nnbformat.write(nb, 'nbclient.ipynb')";
    const ended = await cli.program(projectPython(), ["-c", script]).ended;
    assertEnded(ended, 0);
    assert.deepEqual(outputs("nbclient.ipynb"), outputs("ours/peers.ipynb"));
  });

  it("jupyter nbconvert --execute", async () => {
    cli.write("peers.ipynb", notebook(cells));
    const jupyter = projectPython().replace(/python$/, "jupyter");
    const to = (kind: string) =>
      cli.program(jupyter, ["nbconvert", "--to", kind, "--execute", "peers.ipynb", "--output", "nbconvert"])
        .ended;
    assertEnded(await to("notebook"), 0);
    assertEnded(await cli.run("run", "peers.ipynb", "--out", "ours"), 0);
    assert.deepEqual(outputs("nbconvert.ipynb"), outputs("ours/peers.ipynb"));
    assertEnded(await to("html"), 0);
    assert.match(readFileSync(cli.path("nbconvert.html"), "utf8"), /<b>x<\/b>/);
  });
});
