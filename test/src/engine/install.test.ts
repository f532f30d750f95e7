import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { cacheDirectory } from "../../../src/engine/cache.js";
import { findTensorflow, installTensorflow } from "../../../src/engine/index.js";
import { platformTags } from "../../../src/engine/package-index.js";
import { withLock } from "../../../src/files/lock.js";
import {
  cached,
  closeIndex,
  content,
  filename,
  folder,
  havePartly,
  index,
  install,
  lastLine,
  linux,
  onlyPython,
  pause,
  pin,
  serve,
  setUpInstaller,
} from "./installer.js";
import { sha256Of } from "./package-index.js";

// The installer's own program against an index that breaks, and the real engine where it is installed.

setUpInstaller();

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
    await closeIndex();
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
    const have = havePartly();
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

  test("refuses a file that is no wheel", async () => {
    const page = Buffer.from("<html>please log in</html>");
    await serve({ content: page });
    Object.assign(pin, { sha256: sha256Of(page), size: page.length });
    const ended = await install().ended;
    assert.equal(ended.code, 1);
    assert.match(lastLine(ended), /expected a wheel, found a broken archive/);
    assert.ok(!existsSync(cached()));
  });

  test("says so when the disk is too small", async () => {
    await serve();
    pin.size = 10 ** 15;
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
    assert.match(
      lastLine(await install().ended),
      /expected tensorflow_cpu-2\.21\.0-.*, which the index does not have/,
    );
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
    const waited = [first!, second!].filter(({ output }) => output.includes("another process installs into"));
    assert.equal(waited.length, 1);
    for (const { output } of [first!, second!]) assert.match(output, /compiling/);
  });

  test("an installer that was killed leaves nothing that stops the next one", async () => {
    await serve({ speed: 1_000_000 });
    const first = install();
    while (havePartly() === 0) await pause();
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
    await withLock(cacheDirectory(), { busy: "installs", log: () => {} }, () =>
      installTensorflow("tensorflow", { log: (line) => lines.push(line) }),
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
