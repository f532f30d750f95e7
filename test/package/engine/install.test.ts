import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { cacheDirectory, withLock } from "../../../src/engine/cache.js";
import { findTensorflow, installTensorflow } from "../../../src/engine/index.js";
import { platformTags, requirementsOfExtra, satisfies } from "../../../src/engine/packageIndex.js";
import { PackageIndex, type Release, wheel } from "./package-index.js";

// The installer's own program against an index that breaks, and the real engine where it is installed.

const program = fileURLToPath(new URL("../../../src/cli/main.js", import.meta.url));
const filename = "tensorflow_cpu-2.21.0-cp312-cp312-manylinux_2_17_x86_64.whl";
const content = Buffer.alloc(3_000_000, "libtensorflow");

let folder: string;
/** Folders for PATH: with everything that a shell finds but Python, and with nothing but Python. */
let withoutPython: string;
let onlyPython: string;
let index: PackageIndex | undefined;

before(async () => {
  withoutPython = await mkdtemp(join(tmpdir(), "firstframe-path-"));
  onlyPython = await mkdtemp(join(tmpdir(), "firstframe-path-"));
  for (const tool of [
    "g++",
    "make",
    "cc",
    "c++",
    "gcc",
    "sh",
    "uname",
    "ld",
    "as",
    "touch",
    "ln",
    "rm",
    "mkdir",
    "cp",
    "printf",
    "echo",
  ]) {
    const found = which(tool);
    if (found !== undefined) await symlink(found, join(withoutPython, tool));
  }
  await symlink(pythonItself(), join(onlyPython, "python3"));
});
after(() => Promise.all([withoutPython, onlyPython].map((path) => rm(path, { recursive: true }))));

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-install-"));
});
afterEach(async () => {
  await index?.close();
  index = undefined;
  await chmod(folder, 0o755);
  await rm(folder, { recursive: true, force: true });
});

function which(tool: string): string | undefined {
  return process.env
    .PATH!.split(delimiter)
    .map((directory) => join(directory, tool))
    .find((path) => existsSync(path));
}

/** The interpreter, not a launcher that needs a shell. */
function pythonItself(): string {
  return execFileSync("python3", ["-c", "import os, sys; print(os.path.realpath(sys.executable))"], {
    encoding: "utf8",
  }).trim();
}

interface Ended {
  code: number | null;
  output: string;
}

/** Starts `firstframe engine install tensorflow` with a cache of its own. */
function install(
  env: NodeJS.ProcessEnv = {},
  nodeOptions: string[] = [],
): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [...nodeOptions, program, "engine", "install", "tensorflow"], {
    env: {
      PATH: withoutPython,
      HOME: folder,
      XDG_CACHE_HOME: folder,
      PIP_INDEX_URL: index?.url ?? "http://127.0.0.1:9/simple",
      PIP_CONFIG_FILE: "/dev/null",
      PIP_RETRIES: "0",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  return { child, ended: new Promise((resolve) => child.on("close", (code) => resolve({ code, output }))) };
}

const lastLine = ({ output }: Ended): string => output.trim().split("\n").at(-1)!;

async function serve(release: Partial<Release> = {}): Promise<PackageIndex> {
  index = await PackageIndex.start([
    {
      name: "tensorflow-cpu",
      filename,
      content: await wheel({
        "tensorflow/libtensorflow_cc.so.2": content,
        "tensorflow/libtensorflow_framework.so.2": "no library",
        "tensorflow/include/tensorflow/c/c_api.h": "#error no header",
        "tensorflow/python/not_needed.py": "",
        "tensorflow_cpu-2.21.0.dist-info/METADATA":
          "Metadata-Version: 2.1\nName: tensorflow-cpu\nVersion: 2.21.0\n",
        "tensorflow_cpu-2.21.0.dist-info/WHEEL": "Wheel-Version: 1.0\n",
        "tensorflow_cpu-2.21.0.dist-info/RECORD": "",
      }),
      ...release,
    },
  ]);
  return index;
}

const cached = () => join(folder, "firstframe", `tensorflow-2.21.0-${process.platform}-${process.arch}`);
const partial = () => join(folder, "firstframe", "downloads", `${filename}.part`);
const linux = process.platform === "linux" && process.arch === "x64";

describe("installing from an index that breaks", {
  skip: linux ? false : "the wheel served is one for Linux on x86-64",
}, () => {
  test("unpacks what is needed and says in one line why the binding can't be built", async () => {
    await serve();
    const { code, output } = await install().ended;
    assert.equal(code, 1, output);
    assert.match(
      lastLine({ code, output }),
      /^firstframe: tensorflow: the binding can't be compiled: .*Python 3.*; until then wasm computes/,
    );
    assert.deepEqual(await readFile(join(cached(), "tensorflow", "libtensorflow_cc.so.2")), content);
    assert.ok(!existsSync(join(cached(), "tensorflow", "python")), "only what is needed is unpacked");
    assert.deepEqual(readdirSync(join(folder, "firstframe", "downloads")), [], "the wheel is gone");
    assert.ok(!readdirSync(join(folder, "firstframe")).some((name) => name.endsWith(".tmp")));
  });

  test("needs no network for a library that is there already", async () => {
    await serve();
    await install().ended;
    await index!.close();
    index = undefined;
    const second = await install().ended;
    assert.match(second.output, /compiling/);
    assert.doesNotMatch(second.output, /downloading/);
  });

  test("goes on where the connection broke, in one run and in the next", async () => {
    const { releases } = await serve({ closeAfter: [1_000_000, 500_000, 0, 0, 0] });
    const first = await install().ended;
    assert.equal(first.code, 1);
    assert.match(
      lastLine(first),
      /the download failed .*; the \d+ bytes that came are kept, run again to continue/,
    );
    const have = statSync(partial()).size;
    assert.ok(have > 0, "what came is kept");
    assert.deepEqual(
      index!.downloads.map(({ range }) => range !== undefined),
      [false, true, true, true, true],
    );

    releases[0]!.closeAfter = [];
    index!.requests.length = 0;
    const second = await install().ended;
    assert.match(second.output, /compiling/, second.output);
    assert.deepEqual(
      index!.downloads.map(({ range }) => range),
      [`bytes=${have}-`],
    );
    assert.deepEqual(await readFile(join(cached(), "tensorflow", "libtensorflow_cc.so.2")), content);
  });

  test("refuses a download with a wrong checksum and removes it", async () => {
    await serve({ sha256: "0".repeat(64) });
    const ended = await install().ended;
    assert.equal(ended.code, 1);
    assert.match(
      lastLine(ended),
      new RegExp(`${filename}: expected SHA-256 0{64}, found [0-9a-f]{64}; the download was removed`),
    );
    assert.ok(!existsSync(partial()));
    assert.ok(!existsSync(cached()));
  });

  test("refuses a file that is no wheel", async () => {
    await serve({ content: Buffer.from("<html>please log in</html>") });
    const ended = await install().ended;
    assert.equal(ended.code, 1);
    assert.match(lastLine(ended), /expected a wheel, found a broken archive/);
    assert.ok(!existsSync(cached()));
  });

  test("says so when the disk is too small", async () => {
    await serve({ size: 10 ** 15 });
    const ended = await install().ended;
    assert.equal(ended.code, 1);
    assert.match(
      lastLine(ended),
      /downloading .* needs 1000000\.0 GB in .*, where .* are free; free some or set XDG_CACHE_HOME/,
    );
    assert.deepEqual(index!.downloads, []);
  });

  test("says so when the cache can't be written", async () => {
    await serve();
    // A file where the folder should be: not even root can write below it.
    const occupied = join(folder, "occupied");
    await writeFile(occupied, "");
    const ended = await install({ XDG_CACHE_HOME: occupied }).ended;
    assert.equal(ended.code, 1);
    assert.match(lastLine(ended), /^firstframe: tensorflow: .*(ENOTDIR|EEXIST).*occupied/);
  });

  test("says so when the index has no such wheel, or does not answer", async () => {
    await serve({ filename: filename.replace("2.21.0", "2.20.0") });
    assert.match(lastLine(await install().ended), /no wheel of tensorflow-cpu==2\.21\.0 for manylinux/);
    const offline = await install({ PIP_INDEX_URL: "http://127.0.0.1:9/simple" }).ended;
    assert.equal(offline.code, 1);
    assert.match(lastLine(offline), /the package index can't be reached/);
  });

  test("asks pip where pip is there", async () => {
    await serve();
    const ended = await install({ PATH: onlyPython }).ended;
    assert.match(ended.output, /downloading tensorflow_cpu/);
    assert.ok(existsSync(cached()), ended.output);
    assert.match(lastLine(ended), /the binding can't be compiled: there is no make; install g\+\+ and make/);
    // pip asks with its own header; our own code would have asked for the page once
    assert.ok(index!.requests.length >= 2);
  });

  test("two installers at a time fetch once", async () => {
    await serve({ speed: 3_000_000 });
    const both = [install(), install()];
    const [first, second] = await Promise.all(both.map(({ ended }) => ended));
    assert.equal(index!.downloads.length, 1);
    const waited = [first!, second!].filter(({ output }) => output.includes("another installer works on"));
    assert.equal(waited.length, 1);
    for (const { output } of [first!, second!]) assert.match(output, /compiling/);
  });

  test("an installer that was killed leaves nothing that stops the next one", async () => {
    await serve({ speed: 1_000_000 });
    const first = install();
    while (index!.downloads.every(({ sent }) => sent < 200_000))
      await new Promise((wake) => setTimeout(wake, 20));
    first.child.kill("SIGKILL");
    await first.ended;
    index!.releases[0]!.speed = undefined;
    const second = await install().ended;
    assert.match(second.output, /compiling/);
    assert.match(
      index!.downloads.at(-1)!.range ?? "",
      /^bytes=[1-9]\d*-$/,
      "goes on where the first was killed",
    );
  });

  test("says so on a platform without a build", async () => {
    const disguise = join(folder, "disguise.mjs");
    await writeFile(disguise, 'Object.defineProperty(process, "platform", { value: "win32" });');
    const ended = await install({}, ["--import", disguise]).ended;
    assert.equal(ended.code, 1);
    assert.match(
      lastLine(ended),
      /^firstframe: tensorflow: TensorFlow has no build for win32 x64; until then wasm computes/,
    );
  });
});

describe("the real engine", () => {
  test("is reused without a network", async () => {
    process.env.PIP_INDEX_URL = "http://127.0.0.1:9/simple";
    const lines: string[] = [];
    const library = await installTensorflow("tensorflow", { log: (line) => lines.push(line) });
    assert.equal(lines.length, 1, lines.join("\n"));
    assert.deepEqual(await findTensorflow("tensorflow"), library);
  });

  test("is reused while somebody else installs", async () => {
    const lines: string[] = [];
    await withLock(
      cacheDirectory(),
      () => {},
      () => installTensorflow("tensorflow", { log: (line) => lines.push(line) }),
    );
    assert.match(lines.join("\n"), /^tensorflow is installed in [^\n]*$/);
  });

  test("one's own libtensorflow is taken from FIRSTFRAME_LIBTENSORFLOW, and a missing compiler is named", async () => {
    const { libraries } = await findTensorflow("tensorflow");
    const ended = await install({ FIRSTFRAME_LIBTENSORFLOW: libraries, PATH: onlyPython }).ended;
    assert.equal(ended.code, 1);
    assert.match(lastLine(ended), /the binding can't be compiled: there is no make; install g\+\+ and make/);
  });

  test("a folder that is no libtensorflow is named", async () => {
    await mkdir(join(folder, "own"));
    const ended = await install({ FIRSTFRAME_LIBTENSORFLOW: join(folder, "own") }).ended;
    assert.equal(ended.code, 1);
    assert.match(
      lastLine(ended),
      /FIRSTFRAME_LIBTENSORFLOW=.*own: expected libtensorflow and its headers, found no libtensorflow_framework/,
    );
  });
});

test("platform tags follow the C library", () => {
  assert.deepEqual(platformTags("linux", "arm64", "2.18"), [
    "manylinux_2_18_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
  ]);
  assert.ok(platformTags("linux", "x64", "2.36")!.includes("manylinux_2_27_x86_64"));
  assert.deepEqual(platformTags("darwin", "arm64", null), ["macosx_12_0_arm64", "macosx_11_0_arm64"]);
  for (const [platform, arch, glibc] of [
    ["linux", "x64", null],
    ["linux", "x64", "2.12"],
    ["linux", "riscv64", "2.36"],
    ["win32", "x64", null],
    ["darwin", "x64", null],
  ] as const) {
    assert.equal(platformTags(platform, arch, glibc), undefined, `${platform} ${arch} ${glibc}`);
  }
});

test("version specifiers are read as pip reads them", () => {
  const rows: [string, string, boolean][] = [
    ["12.9.1", "<13.0,>=12.5.3.2", true],
    ["13.0", "<13.0,>=12.5.3.2", false],
    ["12.5.3", "<13.0,>=12.5.3.2", false],
    ["2.10", ">=2.9", true],
    ["2.9.0", "==2.9", true],
    ["2.9.1", "!=2.9.1", false],
    ["1.4.7", "~=1.4.2", true],
    ["1.5.0", "~=1.4.2", false],
    ["1.0rc1", ">=0.9", false],
    ["7", "", true],
  ];
  for (const [version, specifier, expected] of rows) {
    assert.equal(satisfies(version, specifier), expected, `${version} ${specifier}`);
  }
});

test("the requirements of an extra are read from a wheel's metadata", () => {
  const metadata = [
    "Requires-Dist: numpy>=1.26.0",
    'Requires-Dist: nvidia-cublas-cu12<13.0,>=12.5.3.2; extra == "and-cuda"',
    "Requires-Dist: nvidia-cudnn-cu12 (<10.0,>=9.3.0.75) ; extra == 'and-cuda'",
    'Requires-Dist: other==1; extra == "gcs"',
  ].join("\n");
  assert.deepEqual(requirementsOfExtra(metadata, "and-cuda"), [
    { name: "nvidia-cublas-cu12", specifier: "<13.0,>=12.5.3.2" },
    { name: "nvidia-cudnn-cu12", specifier: "<10.0,>=9.3.0.75" },
  ]);
});
