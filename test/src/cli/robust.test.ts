import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import sharp from "sharp";
import { textReport } from "../../../src/cli/notebook/report.js";
import { Cli, notebook } from "./cli.js";
import { projectPython, projectRoot } from "./project.js";

let cli: Cli;
before(async () => {
  cli = await Cli.make();
});
after(() => cli.dispose());

const display = (data: object) => ({ output_type: "display_data", data, metadata: {} });
const code = (...outputs: object[]) => ({
  cell_type: "code",
  id: "code",
  metadata: {},
  source: "1",
  execution_count: 1,
  outputs,
});
const withCells = (...cells: object[]) => ({
  nbformat: 4,
  nbformat_minor: 5,
  metadata: {},
  cells: cells.map((cell, i) => ({ ...cell, id: `c${i}` })),
});
const markdown = (source: string, attachments?: object) => ({
  cell_type: "markdown",
  metadata: {},
  source,
  ...(attachments ? { attachments } : {}),
});

/** One line on standard error, exit code 2. */
async function refused(argv: string[], message: RegExp): Promise<void> {
  const { code, stderr, stdout } = await cli.run(...argv);
  assert.equal(code, 2, stderr);
  assert.match(stderr, message);
  assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
  assert.equal(stdout, "");
}

describe("pages of ordinary and damaged notebooks", () => {
  it("take a percent sign for one", async () => {
    const png = await sharp({ create: { width: 4, height: 4, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    cli.write(
      "percent.ipynb",
      withCells(
        markdown("# 100% of %"),
        markdown(
          "[100%](https://example.com/?q=100%) [b](%) [c](%ZZ.ipynb) [d](percent.ipynb%#100%) [e](percent.ipynb#100%-of-%)",
        ),
        markdown("![f](%.png) ![g](attachment:50%.png) ![h](%E0%A4%A.png)", {
          "50%.png": { "image/png": png.toString("base64") },
        }),
        code(display({ "text/markdown": "[100%](https://example.com/?q=100%)" })),
      ),
    );
    const site = await cli.run("site", "percent.ipynb", "--out", "percent");
    assert.equal(site.code, 0, site.stderr);
    const page = readFileSync(cli.path("percent/percent.html"), "utf8");
    assert.equal(page.split('<a href="https://example.com/?q=100%">100%</a>').length, 3);
    for (const href of ["%", "%ZZ.ipynb", "percent.ipynb%#100%", "percent.html#user-content-100%-of-%"]) {
      assert.ok(page.includes(`<a href="${href}">`), href);
    }
    assert.ok(
      page.includes(`<img src="data:image/png;base64,${png.toString("base64")}" alt="g">`) ||
        page.includes(`alt="g" src="data:image/png;base64,${png.toString("base64")}"`),
    );
    cli.write("run-percent.ipynb", notebook(["# 100%\n\n[100%](https://example.com/?q=100%)", "1"]));
    const run = await cli.run("run", "run-percent.ipynb", "--out", "percent");
    assert.equal(run.code, 0, run.stderr);
  });

  it("are built where a picture is damaged, and it is named", async () => {
    const good = await sharp({ create: { width: 30, height: 30, channels: 3, background: "teal" } })
      .png()
      .toBuffer();
    const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
    cli.write(
      "damaged.ipynb",
      withCells(
        markdown("# Damaged"),
        code(
          display({ "image/png": base64(good.subarray(0, 40)) }),
          display({ "image/png": base64(Buffer.from("no picture")) }),
        ),
        code(
          display({ "image/png": "not base64!" }),
          display({
            "image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg" width="90000" height="90000"/>',
          }),
          display({ "image/svg+xml": "<svg" }),
          display({ "image/png": base64(good) }),
        ),
      ),
    );
    cli.write("whole.ipynb", withCells(markdown("# Whole"), code(display({ "image/png": base64(good) }))));
    const {
      code: exit,
      stderr,
      stdout,
    } = await cli.run("site", "damaged.ipynb", "whole.ipynb", "--out", "damaged");
    assert.equal(exit, 0, stderr);
    assert.match(stdout, /^2 pages and damaged\/index\.html$/m);
    const lines = stderr.trimEnd().split("\n");
    for (const place of [
      "cell 2, output 1",
      "cell 2, output 2",
      "cell 3, output 1",
      "cell 3, output 2",
      "cell 3, output 3",
    ]) {
      assert.ok(
        lines.some((line) => line.startsWith(`damaged.ipynb, ${place}: image/`)),
        place,
      );
    }
    assert.ok(!/^\s+at /m.test(stderr), stderr);
    const index = readFileSync(cli.path("damaged/index.html"), "utf8");
    assert.equal(index.match(/<img src="data:image\/webp/g)?.length, 2, "both have the good picture");
    assert.match(
      readFileSync(cli.path("damaged/damaged.html"), "utf8"),
      /This output is not shown: its image\/png is damaged\./,
    );
  });

  it("are refused where they would be in each other's way or can't be read", async () => {
    cli.write("index.ipynb", withCells(markdown("x")));
    await refused(
      ["site", "index.ipynb", "--out", "in"],
      /^firstframe: index\.ipynb would be written as index\.html/,
    );
    const deep = JSON.stringify(withCells(markdown("x"))).replace(
      '"metadata":{}',
      `"metadata":{"a":${"[".repeat(200_000)}${"]".repeat(200_000)}}`,
    );
    cli.write("deep.ipynb", deep);
    await refused(
      ["site", "deep.ipynb", "--out", "in"],
      /^firstframe: deep\.ipynb: not a valid notebook: nested more deeply than 500 levels$/m,
    );
    await refused(["run", "deep.ipynb"], /nested more deeply/);
    cli.write("one.ipynb", notebook(["1"]));
    await refused(
      ["run", "one.ipynb", "--inplace", "--sanitize-html"],
      /--sanitize-html and --inplace exclude each other/,
    );
    assert.ok(!existsSync(cli.path("in")));
  });

  it("take what a terminal could take", async () => {
    const text = `${"\r".repeat(400_000)}x\n${"y".repeat(3_000_000)}`;
    cli.write("terminal.ipynb", withCells(code({ output_type: "stream", name: "stdout", text })));
    const { code: exit, stderr } = await cli.run("site", "terminal.ipynb", "--out", "terminal");
    assert.equal(exit, 0, stderr);
    const page = readFileSync(cli.path("terminal/terminal.html"), "utf8");
    assert.match(page, /\.\.\. 1000002 characters are left out on this page \.\.\./);
    assert.ok(page.length < 2_100_000);
  });

  it("compare long texts that have nothing in common", () => {
    const lines = (word: string) => Array.from({ length: 200_000 }, (_, i) => `${word} ${i}`).join("\n");
    const report = textReport(
      {
        where: "\u001b[2Jstdout",
        message: "text differs",
        text: { expected: lines("a"), found: lines("b") },
      },
      false,
    );
    assert.match(report, /^stdout: text differs\n- a 0\n/);
    assert.match(report, /^ {2}\.\.\. 199600 more lines$/m);
    assert.match(report, /^\+ b 399$/m);
  });
});

describe("the kernel that a notebook names", () => {
  it("is one of Jupyter's folders of kernels or none, by jupyter_client's rule", async () => {
    const marker = cli.path("ran-a-strangers-kernel");
    const spec = { argv: ["/bin/touch", marker], display_name: "x", language: "typescript" };
    for (const folder of ["evil", "kernels/sub/evil", "."]) {
      cli.write(`prefix/share/jupyter/${folder}/kernel.json`, spec);
    }
    cli.write("prefix/share/jupyter/kernels/kernel.json", spec);
    const names = [
      "../evil",
      "../../jupyter/evil",
      "sub/evil",
      "sub\\evil",
      "a b",
      "./evil",
      "/etc",
      "evil\u0000",
      "évil",
      "firstframe/",
      "firstframe\n",
    ];
    for (const [i, name] of names.entries()) {
      cli.write(`kernel-${i}.ipynb`, notebook(["1"], name));
      await refused(
        ["run", `kernel-${i}.ipynb`],
        /can't be a kernel's name: expected letters A to Z, digits and - \. _ only$/m,
      );
    }
    for (const name of ["..", ".", "..."]) {
      cli.write("dots.ipynb", notebook(["1"], name));
      await refused(["run", "dots.ipynb"], /no kernel named \.+ is installed \(found firstframe\)/);
    }
    await refused(["run", "dots.ipynb", "--kernel", "../evil"], /can't be a kernel's name/);
    assert.ok(!existsSync(marker));
    const script = `import json, sys, jupyter_client.kernelspec as k
for name in json.loads(sys.argv[1]):
    try: print(k.KernelSpecManager(ensure_native_kernel=False).get_kernel_spec(name).argv[0])
    except k.NoSuchKernel: print("none")`;
    const all = JSON.stringify([...names, "..", ".", "FirstFrame"]);
    const python = await cli.program(projectPython(), ["-c", script, all]).ended;
    const found = python.stdout.trimEnd().split("\n");
    // A last newline passes Python's pattern; there is no such folder.
    assert.deepEqual(
      found.slice(0, -1),
      [...names, "..", "."].map(() => "none"),
      python.stderr,
    );
    assert.notEqual(found.at(-1), "none");
    cli.write("capitals.ipynb", notebook(["'found'"], "FirstFrame"));
    const { code: exit, stderr } = await cli.run("run", "capitals.ipynb", "--out", "capitals");
    assert.equal(exit, 0, stderr);
  });

  it("has to be described right", async () => {
    const wrong: [text: string, message: RegExp][] = [
      ["null", /argv: expected a list of strings/],
      ['{"argv":["node"],"env":{"A":1}}', /env: expected strings by name, found \{"A":1\}/],
    ];
    for (const [i, [text, message]] of wrong.entries()) {
      cli.write(`prefix/share/jupyter/kernels/wrong${i}/kernel.json`, text);
      cli.write("wrong.ipynb", notebook(["1"], `wrong${i}`));
      await refused(["run", "wrong.ipynb"], message);
    }
  });
});

describe("files that are there already", () => {
  it("keep their mode, and links stay links, with --inplace", async () => {
    cli.write("kept/private.ipynb", notebook(["'new'"]));
    chmodSync(cli.path("kept/private.ipynb"), 0o600);
    mkdirSync(cli.path("links"));
    symlinkSync("../kept/private.ipynb", cli.path("links/link.ipynb"));
    const { code: exit, stderr } = await cli.run("run", "links/link.ipynb", "--inplace");
    assert.equal(exit, 0, stderr);
    assert.equal(readlinkSync(cli.path("links/link.ipynb")), "../kept/private.ipynb");
    assert.ok(lstatSync(cli.path("kept/private.ipynb")).isFile());
    assert.match(readFileSync(cli.path("kept/private.ipynb"), "utf8"), /'new'/);
    assert.match(readFileSync(cli.path("kept/private.ipynb"), "utf8"), /"execution_count": 1/);
    assert.equal(statSync(cli.path("kept/private.ipynb")).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(cli.path("links")), ["link.ipynb"]);
    assert.deepEqual(readdirSync(cli.path("kept")), ["private.ipynb"]);
  });

  it("keep their mode wherever a command writes over them, and new ones have the usual one", async () => {
    cli.write("modes/a.ipynb", notebook(["1"]));
    mkdirSync(cli.path("written"));
    for (const [name, mode] of [
      ["a.ipynb", 0o640],
      ["a.html", 0o600],
      ["junit.xml", 0o660],
    ] as const) {
      writeFileSync(cli.path(`written/${name}`), "old");
      chmodSync(cli.path(`written/${name}`), mode);
    }
    symlinkSync("elsewhere.xml", cli.path("written/report.xml"));
    assert.equal(
      (await cli.run("run", "modes/a.ipynb", "--out", "written", "--junit", "written/junit.xml")).code,
      0,
    );
    assert.equal(
      (await cli.run("run", "modes/a.ipynb", "--out", "new", "--junit", "written/report.xml")).code,
      0,
    );
    const mode = (name: string) => statSync(cli.path(name)).mode & 0o777;
    assert.deepEqual(
      ["a.ipynb", "a.html", "junit.xml"].map((name) => mode(`written/${name}`)),
      [0o640, 0o600, 0o660],
    );
    assert.equal(mode("new/a.ipynb"), 0o666 & ~process.umask());
    assert.ok(lstatSync(cli.path("written/report.xml")).isSymbolicLink(), "a link to what was not there yet");
    assert.match(readFileSync(cli.path("written/elsewhere.xml"), "utf8"), /<testsuites>/);
    assert.equal(readdirSync(cli.path("written")).filter((name) => name.endsWith(".tmp")).length, 0);
  });

  it("stay as they are when the disk is full", async () => {
    cli.write("full/file.txt", "old");
    const module = pathToFileURL(join(projectRoot, "dist/src/files/atomic.js")).href;
    const script = `process.on("SIGXFSZ", () => {}); (await import(${JSON.stringify(module)})).writeFileAtomic("full/file.txt", "new ".repeat(1e6)).then(() => console.log("written"), (error) => console.log(error.code))`;
    // A limit on the size of files stands in for the disk: a write ends short, and only the next one fails.
    const limited = `ulimit -f 1000; exec "$0" --input-type=module -e "$1"`;
    const { stdout, stderr } = await cli.program("/bin/bash", ["-c", limited, process.execPath, script])
      .ended;
    assert.equal(stdout, "EFBIG\n", stderr);
    assert.equal(readFileSync(cli.path("full/file.txt"), "utf8"), "old");
    assert.deepEqual(readdirSync(cli.path("full")), ["file.txt"]);
  });
});
